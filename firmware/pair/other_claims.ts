/**
 * What the other half of an array claims, for a start: as its owner says, here or at the partner; or as its disks do where no owner
 * answers. A half has on its disks what it serves, so that is enough to know what not to open.
 */
import type { Hal } from "../../hal/api/hal.ts";
import { readGroupClaims } from "../store/group_claims.ts";
import type { GroupClaim } from "../store/store.ts";
import { claimsIn } from "./half_calls.ts";
import type { HalfNumber } from "./limits.ts";
import type { Partnership } from "./partnership.ts";

/** null: nobody can tell. */
export async function claimsOfOther(
  other: Partnership,
  arrayName: string,
  { clock, digests, shelves }: Hal,
): Promise<readonly GroupClaim[] | null> {
  if (other.engine !== null) return other.engine.pool.groupClaims();
  const claims = claimsIn(await other.askOwner("POST", "/half/claims", "{}"));
  if (claims !== null) return claims.groups;
  const half: HalfNumber = other.half;
  return new Promise((resolve) =>
    readGroupClaims({ clock, digests, shelves, arrayName, half }, (error, claims) =>
      resolve(error === null ? claims : null),
    ),
  );
}
