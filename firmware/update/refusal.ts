/** Why an update, or a part of it, is refused: a stable code, and one sentence that says what, why and what to do. */

export const updateErrorCodes = [
  // The bundle
  "unreadable", // it cannot be opened, or its source ends with an error
  "not-a-bundle",
  "unknown-format",
  "unsigned",
  "bad-signature", // of none of the keys of this image
  "bad-manifest", // signed, and wrong
  "truncated",
  "trailing-bytes",
  "wrong-digest", // a part is not what the manifest says
  // The bundle, here
  "wrong-machine",
  "older", // than what was known to work here
  "minimum-version", // another version has to come between
  "no-space",
  // The appliance
  "not-an-image",
  "state-unreadable", // the notes outside the slots
  "slot-damaged", // what was read back is not what was written
  "on-trial", // what runs has not been found to work yet
  "no-other-version",
  "busy", // another update is under way
  "pair-not-mirrored",
  "partner-on-trial",
  "unreachable",
  "failed",
] as const;
export type UpdateErrorCode = (typeof updateErrorCodes)[number];

export interface UpdateRefusal {
  readonly ok: false;
  readonly code: UpdateErrorCode;
  readonly text: string;
}

export type UpdateResult<T> = { readonly ok: true; readonly value: T } | UpdateRefusal;

export function refused(code: UpdateErrorCode, text: string): UpdateRefusal {
  return { ok: false, code, text };
}

export function whyFailed(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
