/** Whether a half can be handed to the partner now. */
import { done, type FailoverJson, type Result, refused } from "../manage/control.ts";
import type { DiskReport } from "../store/store.ts";
import { missedDisks } from "./empty_slots.ts";
import type { PairState } from "./frame.ts";
import type { MirroredCache } from "./mirrored_cache.ts";

export interface FailoverFacts {
  readonly array: string;
  readonly appliance: string;
  readonly partner: string;
  /** It is owned here, and not just being handed over. */
  readonly isOwner: boolean;
  /** See `whyNotTakeable`. */
  readonly whyNot: string | null;
}

/** `to`: whom the operator has named. null: it can; otherwise the answer. */
export function judgeFailover(to: string | null, facts: FailoverFacts): Result<FailoverJson> | null {
  const { array, appliance, partner, isOwner, whyNot } = facts;
  if (to !== null && to !== appliance && to !== partner)
    return refused(
      "not-found",
      `array ${array} has no appliance ${to}; its appliances are ${appliance} and ${partner}`,
    );
  if (to === appliance) return done({ changed: false, owner: appliance });
  if (!isOwner)
    return refused(
      "busy",
      `${appliance} does not own array ${array}, or is just handing it over; ask again in a moment`,
    );
  return whyNot === null ? null : refused("not-connected", whyNot);
}

/** What the partner lacks of all that it needs; null: nothing. `disks`: of the pool as it is open here; `theirs`: as it has said. */
export function whyNotTakeable(
  partner: string,
  mirror: MirroredCache,
  disks: readonly DiskReport[],
  theirs: PairState | null,
): string | null {
  if (mirror.state !== "mirrored" || theirs?.role !== "standby")
    return `${partner} has no complete copy of the write cache (goldcopy pair status tells more); wait until the pair is mirrored`;
  const missed = missedDisks(disks, theirs.emptySlots);
  if (missed.length === 0) return null;
  return `${partner} does not reach ${missed.join(", ")}, and cannot open the pool without; give it its disks, restart it, and ask again`;
}
