/** Whether a half can be handed to the partner now. */
import { done, type FailoverJson, type Result, refused } from "../manage/control.ts";

export interface FailoverFacts {
  readonly array: string;
  readonly appliance: string;
  readonly partner: string;
  /** It is owned here, and not just being handed over. */
  readonly isOwner: boolean;
  /** The partner has all that it needs. */
  readonly isMirrored: boolean;
}

/** `to`: whom the operator has named. null: it can; otherwise the answer. */
export function judgeFailover(to: string | null, facts: FailoverFacts): Result<FailoverJson> | null {
  const { array, appliance, partner, isOwner, isMirrored } = facts;
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
  if (isMirrored) return null;
  return refused(
    "not-connected",
    `${partner} has no complete copy of the write cache (goldcopy pair status tells more); wait until the pair is mirrored`,
  );
}
