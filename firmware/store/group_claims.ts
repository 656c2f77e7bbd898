/** Reads from the disks which groups a half of a pool claims, without opening it: for a caller whose partner is dead. */
import type { Clock } from "../../hal/api/clock.ts";
import { type FoundDisk, sortMembers } from "./disk_finder.ts";
import { disksOfMembers, findHalf, type HalfSought } from "./half_finder.ts";
import { decodePoolDocument, type PoolDocument } from "./pool_document.ts";
import { documentSlots } from "./pool_record.ts";
import { poolTagOf } from "./slab_table.ts";
import type { GroupClaim, StoreError } from "./store.ts";

export interface ClaimsOptions extends HalfSought {
  readonly clock: Clock;
}

type ClaimsDone = (error: StoreError | null, claims: readonly GroupClaim[]) => void;

/** Nothing is written. True only while nobody has that half open. */
export function readGroupClaims(options: ClaimsOptions, done: ClaimsDone): void {
  findHalf(options, (result, found) => {
    if (result.kind === "found") readDocument(options, found, result.poolId, done);
    else {
      const text = result.kind === "none" ? `no disk of array ${options.arrayName} answers` : result.text;
      done({ code: "refused", text: `the groups of half ${options.half} cannot be read: ${text}` }, []);
    }
  });
}

function readDocument(options: ClaimsOptions, found: readonly FoundDisk[], poolId: string, done: ClaimsDone): void {
  const { clock, digests, half } = options;
  const fail = (code: "disk-failed" | "corrupt", text: string) =>
    done({ code, text: `the groups of half ${half} cannot be read: ${text}` }, []);
  if (!found.some((disk) => disk.superblock?.poolId === poolId)) {
    fail("corrupt", "no disk has a whole superblock of it");
    return;
  }
  const { superblock, disks, trouble } = disksOfMembers(sortMembers(found, poolId, [], false), half, clock);
  if (trouble !== null) {
    fail("disk-failed", trouble);
    return;
  }
  documentSlots(disks, digests, poolTagOf(superblock.poolId)).peek((result) => {
    if (result.kind === "failed") fail("disk-failed", result.error.text);
    else {
      const document = result.kind === "loaded" ? decodePoolDocument(result.body, disks.geometry) : null;
      if (document) done(null, claimsOf(document));
      else fail("corrupt", result.kind === "corrupt" ? result.text : "its document does not hold together");
    }
  });
}

export function claimsOf(document: PoolDocument): GroupClaim[] {
  return document.groups.map(({ id, claim, leaving }) => ({ id, claim, leaving }));
}
