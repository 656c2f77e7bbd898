/** The document that `goldcopy update status --json` prints. Fields are added, never renamed. */
import type { ImageSlots, SlotName } from "../../hal/api/appliance_image.ts";
import { readNotes } from "./notes.ts";
import { isGood, nextSlot, otherSlot, type Phase, phaseOf } from "./slot_state.ts";

export interface UpdateStatusJson {
  readonly phase: Phase;
  /** What a version on trial waits for, or why the last one is not used; null: nothing to say. */
  readonly why: string | null;
  readonly running: SlotJson;
  readonly other: SlotJson;
  /** What the next start starts. */
  readonly next: SlotName;
  readonly machine: string;
  /** Bundles with a lower one are refused; null: the notes cannot be read, and `notesTrouble` says why. */
  readonly counter: number | null;
  readonly notesTrouble: string | null;
  /** Whose signatures are accepted. */
  readonly keys: readonly string[];
}

export interface SlotJson {
  readonly slot: SlotName;
  /** null: not known, or nothing. */
  readonly version: string | null;
  readonly counter: number | null;
  /** `good`: known to work; `unfinished`: an installation did not end; `untried`: complete, not known to work. */
  readonly state: "good" | "untried" | "failed" | "unfinished" | "empty";
}

/** `trialWhy`: what the confirming process has last shown; null: nothing. */
export async function updateStatus(slots: ImageSlots, trialWhy: string | null): Promise<UpdateStatusJson> {
  const { running, release } = slots;
  const variables = await slots.variables();
  const notes = await readNotes(slots);
  const phase = phaseOf(variables, running);
  const slot = otherSlot(running);
  const note = notes.ok ? notes.value.slots[slot] : undefined;
  const other: SlotJson = {
    slot,
    version: note?.version ?? null,
    counter: note?.counter ?? null,
    state: otherState(isGood(variables, slot), phase, note?.state ?? null),
  };
  return {
    phase,
    why: whyOf(phase, trialWhy, note?.why ?? null),
    running: {
      slot: running,
      version: release.version,
      counter: release.counter,
      state: isGood(variables, running) ? "good" : "untried",
    },
    other,
    next: nextSlot(variables),
    machine: release.machine,
    counter: notes.ok ? Math.max(notes.value.counter, release.counter) : null,
    notesTrouble: notes.ok ? null : notes.text,
    keys: slots.keys.map(({ name }) => name),
  };
}

function otherState(good: boolean, phase: Phase, noted: string | null): SlotJson["state"] {
  if (good) return "good";
  if (noted === "writing") return "unfinished";
  if (phase === "fallen-back" || noted === "failed") return "failed";
  return noted === null ? "empty" : "untried";
}

function whyOf(phase: Phase, trialWhy: string | null, failedWhy: string | null): string | null {
  switch (phase) {
    case "new":
    case "trial":
      return trialWhy ?? "it is not looked at yet";
    case "fallen-back":
      return failedWhy ?? "the machine was started again before it was good";
    default:
      return null;
  }
}
