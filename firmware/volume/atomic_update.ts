/**
 * Requests that read before they write (compare-write, or-write): what the range will hold, given what it holds.
 */
import type { BlockRequest } from "./block_request.ts";

/** Whether the request reads what is there before it writes. */
export function readsFirst(request: BlockRequest): boolean {
  return request.kind === "compare-write" || request.kind === "or-write";
}

/** Whether all of it must stand in one record: it happens whole or not at all. */
export function mustBeOneRecord(request: BlockRequest): boolean {
  return request.atomic || readsFirst(request);
}

/** The new content, or null when the comparison failed (`miscompareOffset` is set). `present`: what the range holds; may be changed. */
export function updated(request: BlockRequest, present: Uint8Array): Uint8Array | null {
  const given = whole(request);
  if (request.kind === "or-write") {
    for (let at = 0; at < present.byteLength; at++) present[at]! |= given[at]!;
    return present;
  }
  for (let at = 0; at < present.byteLength; at++) {
    if (present[at] === given[at]) continue;
    request.miscompareOffset = at;
    return null;
  }
  return given.subarray(present.byteLength);
}

function whole(request: BlockRequest): Uint8Array {
  const [only] = request.payload;
  if (request.payload.length === 1 && only !== undefined) return only;
  const bytes = new Uint8Array(request.payload.reduce((sum, piece) => sum + piece.byteLength, 0));
  let at = 0;
  for (const piece of request.payload) {
    bytes.set(piece, at);
    at += piece.byteLength;
  }
  return bytes;
}
