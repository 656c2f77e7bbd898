/**
 * After the start of a version that is not known to work: looks at it until it is good, and then tells the boot loader; or has what ran
 * before started again. Runs beside the firmware, in a process of its own.
 */
import type { ApplianceImage } from "../../hal/api/appliance_image.ts";
import type { StatusJson } from "../manage/status_json.ts";
import { updateLimits } from "./limits.ts";
import { encodeNotes, readNotes, type SlotNote, withSlot } from "./notes.ts";
import { whyFailed } from "./refusal.ts";
import { isGood, otherSlot, phaseOf, variablesOfGood } from "./slot_state.ts";
import { Trial } from "./trial.ts";

export interface Confirmation {
  readonly image: ApplianceImage;
  /** null: the firmware does not answer. */
  status(): Promise<StatusJson | null>;
  sleep(delayMs: number): Promise<void>;
}

/** `failed`: the machine is about to start again. `rolled-back`: it was ordered meanwhile; the next restart starts what ran before. */
export type Confirmed = "good" | "failed" | "rolled-back";

export async function confirmVersion({ image, status, sleep }: Confirmation): Promise<Confirmed> {
  const { slots } = image;
  const variables = await slots.variables();
  const phase = phaseOf(variables, slots.running);
  if (phase !== "trial" && phase !== "new") return "good";
  const trial = new Trial(phase === "trial" && isGood(variables, otherSlot(slots.running)));
  for (;;) {
    // Answered or not first, then how the machine is: an answer may take long.
    const answer = await status();
    const verdict = trial.look({ machine: image.facts(), status: answer });
    switch (verdict.kind) {
      case "waiting":
        image.showTrial(verdict.why);
        await sleep(updateLimits.lookEveryMs);
        continue;
      case "good":
        if (!image.lock()) {
          image.showTrial("healthy; an update command that is under way here ends first");
          await sleep(updateLimits.lookEveryMs);
          continue;
        }
        if (phaseOf(await slots.variables(), slots.running) !== phase) {
          image.showTrial("it was rolled back: the next restart starts what ran before");
          return "rolled-back";
        }
        // The counter first: a version that the boot loader knows to be good always counts.
        await record(image, { state: "good", why: null });
        await slots.setVariables(variablesOfGood(slots.running));
        image.showTrial(null);
        image.say(`${slots.release.version} in slot ${slots.running} works`);
        return "good";
      case "failed":
        // Notes that cannot be kept are no reason to stay.
        await record(image, { state: "failed", why: verdict.why }).catch((error: unknown) =>
          image.say(whyFailed(error)),
        );
        image.say(
          `${slots.release.version} in slot ${slots.running} does not work (${verdict.why}): what ran before is started`,
        );
        image.restart();
        return "failed";
    }
  }
}

/** Notes that cannot be read stay as they are: giving them up is the operator's word. */
async function record({ slots }: ApplianceImage, { state, why }: Pick<SlotNote, "state" | "why">): Promise<void> {
  const notes = await readNotes(slots);
  if (!notes.ok) return;
  const { version, counter } = slots.release;
  const highest = state === "good" ? Math.max(notes.value.counter, counter) : notes.value.counter;
  await slots.writeNotes(
    encodeNotes(withSlot({ ...notes.value, counter: highest }, slots.running, { version, counter, state, why })),
  );
}
