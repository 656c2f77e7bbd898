/**
 * Looks at every disk of the shelves and says what it is: the first half of opening a pool. Nothing is written here.
 *
 *   both superblock places zeros, or a creation that never ended   blank
 *   a whole superblock of this array's pool                       in-use; misplaced when it was in another slot; stale when others have
 *                                                                 been opened without it since; the same disk twice: the newer counts
 *   a whole superblock of another array, or of another pool        foreign
 *   a version or feature that this release does not know           newer-version
 *   neither whole nor blank                                        corrupt
 *   does not answer                                                missing
 *
 * Each half of a pool is judged by its own superblocks. That half 1 exists at all is said by those of half 0 (`half_finder.ts`).
 */
import type { Digests } from "../../hal/api/digests.ts";
import type { Disk, Shelf } from "../../hal/api/shelf.ts";
import { geometryOf, type Half, slabsOnDisk, superblockOffset } from "./geometry.ts";
import { newPage } from "./page_seal.ts";
import type { DiskReport } from "./store.ts";
import { decodeSuperblock, type Superblock, type SuperblockRead } from "./superblock.ts";

/** All disks of a pool are at most this far apart in generation after a crash during opening (`open_pool.ts`). */
const generationSpread = 1;

export interface FoundDisk {
  readonly disk: Disk;
  readonly shelf: Shelf;
  readonly slot: number;
  state: DiskReport["state"];
  text: string;
  readonly superblock: Superblock | null;
  /** Which copy holds `superblock`: the next one goes into the other. */
  readonly copy: number;
  /** The other copy is whole too: it is the older one. */
  readonly bothCopies: boolean;
}

export function findDisks(
  shelves: readonly Shelf[],
  digests: Digests,
  done: (found: FoundDisk[]) => void,
  half: Half = 0,
): void {
  const places: { disk: Disk; shelf: Shelf; slot: number }[] = [];
  for (const shelf of shelves) {
    shelf.disks.forEach((disk, slot) => {
      if (disk) places.push({ disk, shelf, slot });
    });
  }
  const found: FoundDisk[] = [];
  const next = () => {
    const place = places.shift();
    if (!place) {
      done(found);
      return;
    }
    readSuperblocks(place.disk, half, digests, (reads, text) => {
      const silent = { ...place, state: "missing" as const, text, superblock: null, copy: 0, bothCopies: false };
      found.push(reads ? judge(place, reads) : silent);
      next();
    });
  };
  next();
}

function readSuperblocks(
  disk: Disk,
  half: Half,
  digests: Digests,
  done: (reads: readonly SuperblockRead[] | null, text: string) => void,
): void {
  const reads: SuperblockRead[] = [];
  let errors = 0;
  const readCopy = (copy: number) => {
    if (copy === 2) {
      done(errors === 2 ? null : reads, "does not answer");
      return;
    }
    const offset = superblockOffset(copy, half);
    if (disk.sizeBytes < offset + 4096) {
      reads.push({ kind: "zeros" });
      readCopy(copy + 1);
      return;
    }
    const { bytes } = newPage();
    disk.read(offset, bytes, (error) => {
      if (error) errors += 1;
      reads.push(error ? { kind: "invalid" } : decodeSuperblock(bytes, { copy, half }, digests));
      readCopy(copy + 1);
    });
  };
  readCopy(0);
}

function judge(place: { disk: Disk; shelf: Shelf; slot: number }, reads: readonly SuperblockRead[]): FoundDisk {
  let best: Superblock | null = null;
  let copy = 0;
  reads.forEach((read, index) => {
    if (read.kind !== "valid" || (best && read.superblock.generation <= best.generation)) return;
    best = read.superblock;
    copy = index;
  });
  const bothCopies = reads.every((read) => read.kind === "valid");
  const found = { ...place, superblock: best as Superblock | null, copy, bothCopies };
  const newer = reads.find((read) => read.kind === "newer");
  if (newer?.kind === "newer") return { ...found, superblock: null, state: "newer-version", text: newer.text };
  const superblock = found.superblock;
  // Forming: blank, unless another disk shows that the creation did end.
  if (superblock && !superblock.ready)
    return { ...found, state: "blank", text: "the creation of a pool did not end here" };
  if (superblock) {
    const own = superblock.diskTable[superblock.diskIndex]!;
    const fits = slabsOnDisk(geometryOf(superblock.format), place.disk.sizeBytes) >= own.slabCount;
    if (fits) return { ...found, state: "in-use", text: "" };
    return { ...found, superblock: null, state: "corrupt", text: "smaller than it was when the pool was made" };
  }
  if (reads.every((read) => read.kind === "zeros")) return { ...found, state: "blank", text: "" };
  return { ...found, state: "corrupt", text: "neither superblock is whole, and the disk is not blank" };
}

/** The pool to open among the disks found: that of this array; `ambiguous` when two claim its name with as many disks each. */
export function choosePool(
  found: readonly FoundDisk[],
  arrayName: string,
): { poolId: string | null; ambiguous: boolean } {
  const counts = new Map<string, number>();
  for (const { superblock } of found) {
    if (superblock?.ready && superblock.arrayName === arrayName)
      counts.set(superblock.poolId, (counts.get(superblock.poolId) ?? 0) + 1);
  }
  const ranked = [...counts.entries()].sort((a, b) => b[1] - a[1]);
  const first = ranked[0];
  if (!first) return { poolId: null, ambiguous: false };
  return { poolId: first[0], ambiguous: ranked.length > 1 && ranked[1]![1] === first[1] };
}

/**
 * Marks foreign, stale, doubled and misplaced disks, and returns the pool's members by disk index, null where one is missing.
 * `reports` gets an entry for each missing one. `takesStale`: a stale disk is a member where there is no better one.
 */
export function sortMembers(
  found: readonly FoundDisk[],
  poolId: string,
  reports: DiskReport[],
  takesStale: boolean,
): (FoundDisk | null)[] {
  const ours = found.filter((disk) => disk.superblock?.poolId === poolId);
  for (const disk of found) {
    if (!disk.superblock?.ready || disk.superblock.poolId === poolId) continue;
    disk.state = "foreign";
    disk.text = `belongs to array ${disk.superblock.arrayName}, pool ${disk.superblock.poolId.slice(0, 8)}`;
  }
  const newest = ours.reduce((best, disk) => (disk.superblock!.generation > best.superblock!.generation ? disk : best));
  const { diskTable } = newest.superblock!;
  const generation = generationOf(ours);
  const members: (FoundDisk | null)[] = diskTable.map(() => null);
  // In order of preference, so that of a disk and its copy the better one is taken.
  const ranked = [...ours].sort(
    (a, b) => b.superblock!.generation - a.superblock!.generation || slotDistance(a) - slotDistance(b),
  );
  for (const disk of ranked) {
    const superblock = disk.superblock!;
    const index = superblock.diskIndex;
    if (diskTable[index]?.diskId !== superblock.diskId || superblock.generation < generation - generationSpread) {
      disk.state = "stale";
      disk.text = `last used at opening ${superblock.generation}, the pool is at ${generation}`;
      if (takesStale && diskTable[index]?.diskId === superblock.diskId) members[index] ??= disk;
    } else if (members[index]) {
      disk.state = "foreign";
      disk.text = `a copy of the disk in ${members[index]!.disk.place}`;
    } else {
      members[index] = disk;
      disk.state = "in-use";
      disk.text = "";
      if (slotDistance(disk) === 0) continue;
      disk.state = "misplaced";
      disk.text = `was in ${superblock.shelfName}/${superblock.slot}`;
    }
  }
  diskTable.forEach(({ diskId, place }, index) => {
    // A stale disk is there, and has a line of its own.
    const seen = members[index] !== null || ours.some((disk) => disk.superblock!.diskId === diskId);
    if (!seen) reports.push({ place, state: "missing", text: `disk ${diskId.slice(0, 8)} is missing` });
  });
  return members;
}

/** What the pool's generation may be at most: a superblock that cannot be read may be one newer than the other copy. */
export function generationOf(disks: readonly FoundDisk[]): number {
  const newest = disks.reduce((best, { superblock }) => Math.max(best, superblock!.generation), 0);
  const isCertain = disks.some(({ superblock, bothCopies }) => bothCopies && superblock!.generation === newest);
  return isCertain ? newest : newest + 1;
}

function slotDistance(disk: FoundDisk): number {
  return disk.superblock!.shelfName === disk.shelf.name && disk.superblock!.slot === disk.slot ? 0 : 1;
}
