/**
 * Finds one half of an array's pool. Nothing is written here.
 *
 * Half 1 is judged by its own superblocks, but that it exists is said by those of half 0, which are read first: in a creation half 1 is
 * complete before half 0, and the creation may not have ended.
 */
import type { Clock } from "../../hal/api/clock.ts";
import type { Digests } from "../../hal/api/digests.ts";
import type { Shelf } from "../../hal/api/shelf.ts";
import { choosePool, type FoundDisk, findDisks } from "./disk_finder.ts";
import { DiskSet } from "./disk_set.ts";
import { geometryOf, type Half, metadataCopies } from "./geometry.ts";

export interface HalfSought {
  readonly shelves: readonly Shelf[];
  readonly digests: Digests;
  readonly arrayName: string;
  readonly half: Half;
}

export type HalfFound =
  | { readonly kind: "found"; readonly poolId: string }
  /** No disk of this array. */
  | { readonly kind: "none" }
  | { readonly kind: "ambiguous" | "one-half"; readonly text: string };

export function findHalf(sought: HalfSought, done: (result: HalfFound, found: FoundDisk[]) => void): void {
  const { shelves, digests, arrayName, half } = sought;
  findDisks(shelves, digests, (found) => {
    const { poolId, ambiguous } = choosePool(found, arrayName);
    if (ambiguous) {
      const text = `two pools claim to be array ${arrayName}; take the wrong disks out`;
      done({ kind: "ambiguous", text }, found);
    } else if (poolId === null) done({ kind: "none" }, found);
    else if (half === 0) done({ kind: "found", poolId }, found);
    else if (found.some(({ superblock }) => superblock?.poolId === poolId && superblock.format.halves === 1)) {
      const text = "the pool was made for one appliance; only a new pool can have a half for each of two";
      done({ kind: "one-half", text }, found);
    } else {
      findDisks(shelves, digests, (own) => done({ kind: "found", poolId }, disksOfHalf(found, own, poolId)), half);
    }
  });
}

/** The members' disks as one half uses them; the superblock that says so. At least one member is there. */
export function disksOfMembers(members: readonly (FoundDisk | null)[], half: Half, clock: Clock) {
  const present = members.filter((member) => member !== null);
  const newest = present.reduce((best, disk) =>
    disk.superblock!.generation > best.superblock!.generation ? disk : best,
  );
  const superblock = newest.superblock!;
  // The first disks of the table hold the metadata; each says so itself.
  const metadataDisks = superblock.diskTable.map((_, index) => index).slice(0, metadataCopies);
  const places = metadataDisks.map((index) => superblock.diskTable[index]!.place).join(" and ");
  const disks = new DiskSet({
    geometry: geometryOf(superblock.format, half),
    disks: members.map((member) => member?.disk ?? null),
    table: superblock.diskTable,
    metadataDisks,
    clock,
  });
  const trouble = metadataDisks.some((index) => members[index] !== null)
    ? null
    : `the pool's metadata was on ${places}, and no such disk that is up to date answers`;
  return { superblock, disks, trouble };
}

/**
 * What half 1 of a pool finds, after half 0's superblocks have said which pool it is: `first` and `own` are the same disks by the
 * superblocks of half 0 and of half 1. A disk without a superblock of the pool's half 1 is what half 0 says of it.
 */
function disksOfHalf(first: readonly FoundDisk[], own: readonly FoundDisk[], poolId: string): FoundDisk[] {
  return own.map((disk, index): FoundDisk => {
    if (disk.superblock?.poolId === poolId) return disk;
    const other = first[index]!;
    if (other.superblock?.poolId !== poolId) return other;
    const isCorrupt = disk.state === "blank" || disk.superblock !== null;
    const text = "the pool's second half has no whole superblock here";
    return isCorrupt ? { ...disk, superblock: null, state: "corrupt", text } : disk;
  });
}
