/**
 * Writes superblocks of one half of a pool: those of an opening, and of stale disks that are taken back.
 *
 * Invariant: the copy that holds a disk's newest superblock is not the one that is written.
 */
import type { Digests } from "../../hal/api/digests.ts";
import type { DiskError } from "../../hal/api/shelf.ts";
import type { FoundDisk } from "./disk_finder.ts";
import { type Half, superblockOffset } from "./geometry.ts";
import { type DiskTableEntry, encodeSuperblock, type Superblock, type SuperblockPlace } from "./superblock.ts";

export interface OpeningMark {
  readonly half: Half;
  readonly generation: number;
  readonly diskTable: readonly DiskTableEntry[];
  readonly digests: Digests;
}

/**
 * Writes the next two generations to all disks, one after the other. A disk that an opening without an end has left one behind is
 * brought up first: after another such opening it would be two behind, and be taken for one that was away.
 */
export function markOpening(
  present: readonly FoundDisk[],
  mark: OpeningMark,
  done: (error: DiskError | null) => void,
): void {
  const { generation } = mark;
  const newest = new Map(present.map((disk) => [disk, disk.copy]));
  const steps = [
    { disks: present.filter(({ superblock }) => superblock!.generation < generation), generation },
    { disks: present, generation: generation + 1 },
    { disks: present, generation: generation + 2 },
  ];
  const next = (error: DiskError | null): void => {
    const step = steps.shift();
    if (error || !step) {
      done(error);
      return;
    }
    writeSuperblocks(step.disks, newest, { ...mark, generation: step.generation }, next);
  };
  next(null);
}

/** Stale disks get the generation that the opening has given to all others. */
export function adoptStale(
  present: readonly FoundDisk[],
  mark: OpeningMark,
  done: (error: DiskError | null) => void,
): void {
  const stale = present.filter((member) => member.state === "stale");
  const newest = new Map(stale.map((disk) => [disk, disk.copy]));
  writeSuperblocks(stale, newest, { ...mark, generation: mark.generation + 2 }, done);
}

/** Each into the copy that does not hold the disk's newest superblock; `newest` follows. */
function writeSuperblocks(
  disks: readonly FoundDisk[],
  newest: Map<FoundDisk, number>,
  mark: OpeningMark,
  done: (error: DiskError | null) => void,
): void {
  let open = disks.length;
  let failed: DiskError | null = null;
  if (open === 0) done(null);
  for (const found of disks) {
    const { disk, shelf, slot, superblock } = found;
    const target = 1 - newest.get(found)!;
    const { half, diskTable, generation } = mark;
    const marked: Superblock = { ...superblock!, ready: true, diskTable, generation, shelfName: shelf.name, slot };
    writeSuperblock(disk, marked, { copy: target, half }, mark.digests, (error) => {
      newest.set(found, target);
      failed = failed ?? error;
      open -= 1;
      if (open === 0) done(failed);
    });
  }
}

export function writeSuperblock(
  disk: FoundDisk["disk"],
  superblock: Superblock,
  place: SuperblockPlace,
  digests: Digests,
  done: (error: DiskError | null) => void,
): void {
  disk.write(superblockOffset(place.copy, place.half), [encodeSuperblock(superblock, place, digests)], (error) => {
    if (error) done(error);
    else disk.flush(done);
  });
}
