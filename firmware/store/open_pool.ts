/**
 * Opens an array's pool, or creates it on blank disks.
 *
 *     look at the disks ──▶ choose the pool ──▶ pool document ──▶ admitted? ──▶ mark the opening on every disk ──▶ slab table ──▶ open
 *                       └─▶ all blank: forming superblocks ──▶ empty table and document ──▶ ready superblocks ──▶ open
 *
 * Every opening raises the pool's generation by two, in two steps with a flush between them, from disks that are all at the same one:
 * a crash or an error leaves them at most one apart, however often, while a disk that was away during an opening is two behind and is
 * known to be stale.
 *
 * Invariants:
 * - Nothing is written to a disk that is not blank or not the pool's.
 * - A creation counts when the first ready superblock is whole, and by then everything else is durable.
 */
import type { Clock } from "../../hal/api/clock.ts";
import type { Digests } from "../../hal/api/digests.ts";
import type { Entropy } from "../../hal/api/entropy.ts";
import type { DiskError, Shelf } from "../../hal/api/shelf.ts";
import { decodeBody, encodeBody } from "./cbor_body.ts";
import { choosePool, type FoundDisk, findDisks, generationOf, sortMembers } from "./disk_finder.ts";
import { DiskSet } from "./disk_set.ts";
import {
  disksMax,
  formatProblem,
  geometryOf,
  poolDocumentSlotOffset,
  slabsOnDisk,
  superblockOffset,
} from "./geometry.ts";
import { MapCache } from "./map_cache.ts";
import { decodePoolDocument, encodePoolDocument, type PoolDocument } from "./pool_document.ts";
import { type PoolTag, SlabTable } from "./slab_table.ts";
import { SlotPair } from "./slot_pair.ts";
import type { DiskReport, Pool } from "./store.ts";
import { StoredPool } from "./stored_pool.ts";
import { type DiskTableEntry, encodeSuperblock, hexOf, nameBytesMax, type Superblock } from "./superblock.ts";

export interface PoolOptions {
  readonly clock: Clock;
  readonly entropy: Entropy;
  readonly digests: Digests;
  readonly shelves: readonly Shelf[];
  readonly arrayName: string;
  readonly format: {
    /** A power of two, 1 to 64 MiB. Only a new pool takes it; so `logSlotBytes` and `groupsMax`. */
    readonly slabBytes: number;
    /** A power of two up to `slabBytes`. */
    readonly logSlotBytes: number;
    readonly mapCacheBytes: number;
    /** Each takes 256 KiB on every disk. Default 64; 8 when the smallest disk has less than 1 GiB. */
    readonly groupsMax?: number;
  };
  readonly createIfBlank: boolean;
  /**
   * The operator's word: a stale disk is used as it is. What it has missed does not match its checksums. It goes on being stale to
   * whoever opens the pool until `Pool.adoptStale`.
   */
  readonly takesStale?: boolean;
  /** Asked once, before an existing pool's opening is marked on its disks: a text refuses it, and everything is as it was. */
  readonly admit?: (found: FoundPool) => string | null;
  /** The pool's document is durable; its generation grows with each save. */
  readonly saved?: (generation: number) => void;
}

export interface FoundPool {
  readonly arrayId: string;
  readonly arrayDocument: unknown;
  /** Of the pool's document. */
  readonly generation: number;
  readonly disks: readonly DiskReport[];
  /** The slab table and the roots are known to be the newest: not all disks that hold them are stale. */
  readonly metadataIsFresh: boolean;
}

export type OpenResult =
  | { readonly ok: true; readonly pool: Pool; readonly created: boolean }
  | {
      readonly ok: false;
      /**
       * `blank`: nothing to open, and not asked to create. `missing-disk`: no disk of the pool's metadata answers. `too-small`: a
       * pool does not fit the disks or the numbers asked for. `refused`: by `admit`.
       */
      readonly code:
        | "blank"
        | "corrupt"
        | "newer-version"
        | "foreign"
        | "missing-disk"
        | "disk-failed"
        | "too-small"
        | "refused";
      readonly text: string;
      readonly disks: readonly DiskReport[];
    };

type OpenDone = (result: OpenResult) => void;

const smallDiskBytes = 1024 ** 3;
const metadataCopies = 2;

export function openPool(options: PoolOptions, done: OpenDone): void {
  findDisks(options.shelves, options.digests, (found) => {
    const missing: DiskReport[] = [];
    const fail = (code: Extract<OpenResult, { ok: false }>["code"], text: string) =>
      done({ ok: false, code, text, disks: reportsOf(found, missing) });
    const { poolId, ambiguous } = choosePool(found, options.arrayName);
    if (ambiguous) {
      fail("foreign", `two pools claim to be array ${options.arrayName}; take the wrong disks out`);
      return;
    }
    if (poolId !== null) {
      const members = sortMembers(found, poolId, missing, options.takesStale === true);
      openExisting(options, members, () => reportsOf(found, missing), done, fail);
      return;
    }
    // No disk of this array. Whatever is here and is not blank stays as it is, and no new pool is made beside it.
    for (const disk of found) {
      if (!disk.superblock?.ready) continue;
      disk.state = "foreign";
      disk.text = `belongs to array ${disk.superblock.arrayName}`;
    }
    for (const state of ["newer-version", "foreign", "corrupt", "missing"] as const) {
      const disk = found.find((candidate) => candidate.state === state);
      if (!disk) continue;
      fail(state === "missing" ? "missing-disk" : state, `${disk.disk.place}: ${disk.text}`);
      return;
    }
    if (found.length === 0) fail("missing-disk", "no shelf has a disk that answers");
    else if (!options.createIfBlank) fail("blank", "all disks are blank");
    else createPool(options, found, done, fail);
  });
}

type Fail = (code: Extract<OpenResult, { ok: false }>["code"], text: string) => void;

function openExisting(
  options: PoolOptions,
  members: readonly (FoundDisk | null)[],
  reports: () => DiskReport[],
  done: OpenDone,
  fail: Fail,
): void {
  const { clock, digests } = options;
  const present = members.filter((member) => member !== null);
  const fresh = present.filter((member) => member.state !== "stale");
  const newest = present.reduce((best, disk) =>
    disk.superblock!.generation > best.superblock!.generation ? disk : best,
  );
  const { diskTable, format, arrayId, poolId } = newest.superblock!;
  const generation = generationOf(present);
  // The first disks of the table hold the metadata; each says so itself.
  const metadataDisks = diskTable.map((_, index) => index).slice(0, metadataCopies);
  if (metadataDisks.every((index) => members[index] === null)) {
    const places = metadataDisks.map((index) => diskTable[index]!.place).join(" and ");
    fail("missing-disk", `the pool's metadata was on ${places}, and no such disk that is up to date answers`);
    return;
  }
  const disks = new DiskSet({
    geometry: geometryOf(format),
    disks: members.map((member) => member?.disk ?? null),
    table: diskTable,
    metadataDisks,
    clock,
  });
  const tag = tagOf(poolId);
  const slots = poolSlots(disks, digests, tag);
  const table = new SlabTable(disks, digests, tag);
  const mark = { generation, diskTable, digests };
  const markAndOpen = (document: PoolDocument) => {
    markOpening(fresh, mark, (markError) => {
      if (markError) {
        fail("disk-failed", markError.text);
        return;
      }
      table.load((tableError) => {
        if (tableError) {
          fail(tableError.code === "corrupt" ? "corrupt" : "disk-failed", tableError.text);
          return;
        }
        const cache = new MapCache(options.format.mapCacheBytes);
        const { arrayName, saved } = options;
        const parts = {
          arrayId,
          arrayName,
          clock,
          digests,
          disks,
          table,
          cache,
          slots,
          tag,
          reports: reports(),
          saved,
          adoptStale: (adopted: (error: DiskError | null) => void) => adoptStale(present, mark, adopted),
        };
        done({ ok: true, pool: new StoredPool(parts, document), created: false });
      });
    });
  };
  slots.load((result) => {
    if (result.kind !== "loaded") {
      if (result.kind === "failed") fail("disk-failed", result.error.text);
      else fail("corrupt", `pool document: ${result.text}`);
      return;
    }
    const document = decodePoolDocument(result.body, format.groupsMax);
    if (!document) {
      fail("corrupt", "pool document: its content does not hold together");
      return;
    }
    const arrayDocument = decodeBody(document.arrayBytes)?.value;
    const metadataIsFresh = metadataDisks.some((index) => fresh.some((member) => member === members[index]));
    const found = { arrayId, arrayDocument, generation: slots.generation, disks: reports(), metadataIsFresh };
    const refusal = options.admit?.(found) ?? null;
    if (refusal === null) markAndOpen(document);
    else fail("refused", refusal);
  });
}

interface OpeningMark {
  readonly generation: number;
  readonly diskTable: readonly DiskTableEntry[];
  readonly digests: Digests;
}

/**
 * Writes the next two generations to all disks, one after the other. A disk that an opening without an end has left one behind is
 * brought up first: after another such opening it would be two behind, and be taken for one that was away.
 */
function markOpening(present: readonly FoundDisk[], mark: OpeningMark, done: (error: DiskError | null) => void): void {
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
function adoptStale(present: readonly FoundDisk[], mark: OpeningMark, done: (error: DiskError | null) => void): void {
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
    const { diskTable, generation } = mark;
    const marked: Superblock = { ...superblock!, ready: true, diskTable, generation, shelfName: shelf.name, slot };
    writeSuperblock(disk, marked, target, mark.digests, (error) => {
      newest.set(found, target);
      failed = failed ?? error;
      open -= 1;
      if (open === 0) done(failed);
    });
  }
}

function writeSuperblock(
  disk: FoundDisk["disk"],
  superblock: Superblock,
  copy: number,
  digests: Digests,
  done: (error: DiskError | null) => void,
): void {
  disk.write(superblockOffset(copy), [encodeSuperblock(superblock, copy, digests)], (error) => {
    if (error) done(error);
    else disk.flush(done);
  });
}

function createPool(options: PoolOptions, found: readonly FoundDisk[], done: OpenDone, fail: Fail): void {
  const { clock, digests, entropy, arrayName } = options;
  const smallest = found.reduce((least, disk) => Math.min(least, disk.disk.sizeBytes), Number.MAX_SAFE_INTEGER);
  const { slabBytes, logSlotBytes } = options.format;
  const groupsMax = options.format.groupsMax ?? (smallest < smallDiskBytes ? 8 : 64);
  const allBytes = found.reduce((sum, disk) => sum + disk.disk.sizeBytes, 0);
  // Room for four times the slabs there are, for disks that are added later.
  const slabsMax = Math.max(1024, 2 ** Math.ceil(Math.log2((4 * allBytes) / slabBytes + 1)));
  const format = { slabBytes, logSlotBytes, groupsMax, slabsMax };
  const problem = formatProblem(format);
  const nameBytes = new TextEncoder().encode(arrayName).byteLength;
  if (problem || found.length > disksMax || nameBytes > nameBytesMax || found.some((disk) => shelfNameTooLong(disk))) {
    fail("too-small", problem ?? `at most ${disksMax} disks, and names of at most ${nameBytesMax} bytes`);
    return;
  }
  const geometry = geometryOf(format);
  const id = () => hexOf(entropy.fill(new Uint8Array(16)));
  const arrayId = id();
  const poolId = id();
  let slabBase = 1;
  const diskTable: DiskTableEntry[] = found.map(({ disk }) => {
    const slabCount = slabsOnDisk(geometry, disk.sizeBytes);
    const entry = { diskId: id(), slabBase, slabCount, place: disk.place };
    slabBase += slabCount;
    return entry;
  });
  const tooSmall = found.find((_, index) => diskTable[index]!.slabCount < 1);
  if (tooSmall) {
    fail(
      "too-small",
      `${tooSmall.disk.place}: ${tooSmall.disk.sizeBytes} bytes leave no room for a slab of ${slabBytes}`,
    );
    return;
  }
  const superblocks = found.map(({ shelf, slot }, index): Superblock => {
    return {
      generation: 1,
      compatFlags: 0,
      ready: false,
      format,
      diskIndex: index,
      diskCount: found.length,
      metadataCopy: index < metadataCopies ? index + 1 : 0,
      slot,
      arrayId,
      poolId,
      diskId: diskTable[index]!.diskId,
      arrayName,
      shelfName: shelf.name,
      diskTable: [],
    };
  });
  const disks = new DiskSet({
    geometry,
    disks: found.map(({ disk }) => disk),
    table: diskTable,
    metadataDisks: found.map((_, index) => index).slice(0, metadataCopies),
    clock,
  });
  const tag = tagOf(poolId);
  const slots = poolSlots(disks, digests, tag);
  const table = new SlabTable(disks, digests, tag);
  const document = { arrayBytes: encodeBody(null), nextGroupNumber: 1, groups: [] };

  /** All disks at one step before any is at the next. */
  const writeAll = (change: Partial<Superblock>, copy: number, next: () => void) => {
    let open = found.length;
    let failed: DiskError | null = null;
    found.forEach(({ disk }, index) => {
      writeSuperblock(disk, { ...superblocks[index]!, ...change }, copy, digests, (error) => {
        failed = failed ?? error;
        open -= 1;
        if (open > 0) return;
        if (failed) fail("disk-failed", failed.text);
        else next();
      });
    });
  };
  const ready = { ready: true, diskTable };
  const finish = () => {
    const reports = found.map(({ disk }): DiskReport => ({ place: disk.place, state: "in-use", text: "" }));
    const cache = new MapCache(options.format.mapCacheBytes);
    const { saved } = options;
    const adoptStale = (adopted: (error: null) => void) => adopted(null);
    const parts = { arrayId, arrayName, clock, digests, disks, table, cache, slots, tag, reports, saved, adoptStale };
    done({ ok: true, pool: new StoredPool(parts, document), created: true });
  };
  writeAll({}, 0, () => {
    table.format((tableError) => {
      if (tableError) {
        fail("disk-failed", tableError.text);
        return;
      }
      slots.save(encodePoolDocument(document), (slotError) => {
        if (slotError) fail("disk-failed", slotError.text);
        else writeAll({ ...ready, generation: 2 }, 1, () => writeAll({ ...ready, generation: 3 }, 0, finish));
      });
    });
  });
}

function shelfNameTooLong(disk: FoundDisk): boolean {
  return new TextEncoder().encode(disk.shelf.name).byteLength > nameBytesMax;
}

function poolSlots(disks: DiskSet, digests: Digests, tag: PoolTag): SlotPair {
  return new SlotPair(disks, digests, {
    owner: 0,
    ...tag,
    offsets: [poolDocumentSlotOffset(0), poolDocumentSlotOffset(1)],
  });
}

function tagOf(poolId: string): PoolTag {
  return { poolTag0: Number.parseInt(poolId.slice(0, 8), 16), poolTag1: Number.parseInt(poolId.slice(8, 16), 16) };
}

function reportsOf(found: readonly FoundDisk[], missing: readonly DiskReport[]): DiskReport[] {
  return [...found.map(({ disk, state, text }) => ({ place: disk.place, state, text })), ...missing];
}
