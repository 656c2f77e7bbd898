/**
 * Groups that a half's document names and the other half has by a higher claim: they end here before a start opens anything.
 *
 * That comes about where a group was to come, its name reached some of the disks and was not durable, and the other half took the group
 * back: whoever reads those disks finds the name. The other half's claims are asked for only where a group here has ever moved.
 *
 * Invariant: of two halves that name a group, and whose claims are known, one alone opens it.
 */
import { whenDone } from "../codec/promised.ts";
import type { GroupClaim, Pool, StoreError } from "../store/store.ts";

/** `otherClaims`: null where nobody can tell. A sentence says what keeps one from being ended; null: nothing, and `ended` are gone. */
export async function endMovedOn(
  pool: Pool,
  otherClaims: () => Promise<readonly GroupClaim[] | null>,
): Promise<{ readonly trouble: string | null; readonly ended: readonly string[] }> {
  const ended: string[] = [];
  const moved = pool.groupClaims().filter(({ claim, leaving }) => claim > 0 && !leaving);
  const theirs = moved.length === 0 ? null : await otherClaims();
  for (const { id, claim } of moved) {
    if (theirs?.some((other) => other.id === id && other.claim > claim) !== true) continue;
    const error = await whenDone<StoreError>((done) => pool.endMove(id, done));
    if (error !== null) return { trouble: `group ${id}, which the other half of the array has: ${error.text}`, ended };
    ended.push(id);
  }
  return { trouble: null, ended };
}
