/**
 * What is kept of updates outside the slots, on the state partition: the counter against going back to old versions, and what lies in
 * each slot. The boot loader's variables, not these notes, decide what is started.
 */
import * as v from "valibot";
import type { ImageSlots, SlotName } from "../../hal/api/appliance_image.ts";
import { updateLimits } from "./limits.ts";
import { refused, type UpdateResult, whyFailed } from "./refusal.ts";

export interface SlotNote {
  readonly version: string;
  readonly counter: number;
  /** `writing`: an installation has begun and not ended. */
  readonly state: "writing" | "written" | "good" | "failed";
  /** Why it has failed; null: it has not, or it was not there to say so. */
  readonly why: string | null;
}

export interface UpdateNotes {
  /** The highest of a version that was found to work here. */
  readonly counter: number;
  readonly slots: Readonly<Partial<Record<SlotName, SlotNote>>>;
}

const counter = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const slotNote = v.object({
  version: v.pipe(v.string(), v.maxLength(40)),
  counter,
  state: v.picklist(["writing", "written", "good", "failed"]),
  why: v.nullable(v.string()),
});
const schema = v.object({ counter, slots: v.object({ a: v.optional(slotNote), b: v.optional(slotNote) }) });

/** A reason that quotes a firmware's last words is cut, so that two of them fit. */
const whyCharsMax = 1000;

export async function readNotes(slots: ImageSlots): Promise<UpdateResult<UpdateNotes>> {
  let bytes: Uint8Array | null;
  try {
    bytes = await slots.readNotes();
  } catch (error) {
    return unreadable(whyFailed(error));
  }
  if (bytes === null) return { ok: true, value: { counter: 0, slots: {} } };
  if (bytes.byteLength > updateLimits.notesBytesMax) return unreadable(`they have ${bytes.byteLength} bytes`);
  let document: unknown;
  try {
    document = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    return unreadable("they are no JSON document");
  }
  const parsed = v.safeParse(schema, document);
  if (!parsed.success) return unreadable("they are not what this version writes");
  const { a, b } = parsed.output.slots;
  const known = { ...(a === undefined ? {} : { a }), ...(b === undefined ? {} : { b }) };
  return { ok: true, value: { counter: parsed.output.counter, slots: known } };
}

function unreadable(why: string): UpdateResult<never> {
  return refused(
    "state-unreadable",
    `the notes about updates on the state partition cannot be read (${why}), so it is not known which versions are too old: give ` +
      "--accept-lost-notes once, and the version that runs counts as the oldest one allowed",
  );
}

/** Where the notes are lost, on the operator's word. */
export function notesOfRunning({ release, running }: ImageSlots): UpdateNotes {
  const { version, counter } = release;
  return { counter, slots: { [running]: { version, counter, state: "good", why: null } } };
}

export function withSlot(notes: UpdateNotes, slot: SlotName, note: SlotNote): UpdateNotes {
  const why = note.why === null ? null : note.why.slice(0, whyCharsMax);
  return { ...notes, slots: { ...notes.slots, [slot]: { ...note, why } } };
}

export function encodeNotes(notes: UpdateNotes): Uint8Array {
  return new TextEncoder().encode(`${JSON.stringify(notes, null, 2)}\n`);
}
