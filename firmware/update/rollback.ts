/** Starting what ran before. No bundle is needed: it lies in the other slot as it was. */
import type { ImageSlots, SlotName } from "../../hal/api/appliance_image.ts";
import { refused, type UpdateResult, whyFailed } from "./refusal.ts";
import { isGood, nextSlot, otherSlot, phaseOf, variablesOfCancelled, variablesOfGoingBack } from "./slot_state.ts";

export interface RolledBack {
  /** False: it was so already. */
  readonly changed: boolean;
  /** What the next start starts. */
  readonly slot: SlotName;
}

/** An installed version that has not been started is not started; otherwise the other slot is, if it is known to work. */
export async function rollBack(slots: ImageSlots): Promise<UpdateResult<RolledBack>> {
  const { running } = slots;
  const slot = otherSlot(running);
  try {
    const variables = await slots.variables();
    switch (phaseOf(variables, running)) {
      case "installed":
        await slots.setVariables(variablesOfCancelled(running));
        return { ok: true, value: { changed: true, slot: running } };
      case "going-back":
        return { ok: true, value: { changed: false, slot: nextSlot(variables) } };
      default:
        if (!isGood(variables, slot))
          return refused(
            "no-other-version",
            `slot ${slot} holds no version that is known to work: goldcopy update install puts one there`,
          );
        await slots.setVariables(variablesOfGoingBack(running));
        return { ok: true, value: { changed: true, slot } };
    }
  } catch (error) {
    return refused("failed", whyFailed(error));
  }
}
