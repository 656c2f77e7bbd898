/**
 * Opens one half of an array's pool, or creates the pool on blank disks (`pool_creation.ts`).
 *
 *     look at the disks ──▶ choose the pool ──▶ pool document ──▶ admitted? ──▶ mark the opening on every disk ──▶ slab table ──▶ open
 *                       └─▶ all blank: create
 *
 * Each half is opened by itself: its superblocks, document, table and roots are its own, and nothing of the other half is written. Half 1
 * reads the superblocks of half 0 first: they say which pool is there, and that its creation has ended.
 *
 * Every opening raises the pool's generation by two, in two steps with a flush between them, from disks that are all at the same one:
 * a crash or an error leaves them at most one apart, however often, while a disk that was away during an opening is two behind and is
 * known to be stale.
 *
 * Invariants:
 * - Nothing is written to a disk that is not blank or not the pool's.
 * - Only half 0 creates a pool.
 */
import type { Clock } from "../../hal/api/clock.ts";
import type { Digests } from "../../hal/api/digests.ts";
import type { Entropy } from "../../hal/api/entropy.ts";
import type { DiskError, Shelf } from "../../hal/api/shelf.ts";
import { decodeBody } from "./cbor_body.ts";
import { type FoundDisk, generationOf, sortMembers } from "./disk_finder.ts";
import type { Half } from "./geometry.ts";
import { disksOfMembers, findHalf } from "./half_finder.ts";
import { MapCache } from "./map_cache.ts";
import { createPool } from "./pool_creation.ts";
import { decodePoolDocument, type PoolDocument } from "./pool_document.ts";
import { documentSlots } from "./pool_record.ts";
import { poolTagOf, SlabTable } from "./slab_table.ts";
import type { DiskReport, Pool } from "./store.ts";
import { StoredPool } from "./stored_pool.ts";
import { adoptStale, markOpening } from "./superblock_writer.ts";

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
    /** 2: each of the pair's appliances can have a half of its own. Only a new pool takes it. Default 1. */
    readonly halves?: 1 | 2;
  };
  /** Which half to open; default 0. Half 1 creates nothing: there it is `blank` until half 0 has created the pool. */
  readonly half?: Half;
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
       * pool does not fit the disks or the numbers asked for. `refused`: by `admit`; or half 1 of a pool that has one half.
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

export type OpenDone = (result: OpenResult) => void;

export function openPool(options: PoolOptions, done: OpenDone): void {
  const { half = 0 } = options;
  findHalf({ ...options, half }, (result, found) => {
    const fail = failing(found, [], done);
    if (result.kind === "none") openNothing(options, found, done, fail);
    else if (result.kind === "found") openHalf(options, found, result.poolId, done);
    else fail(result.kind === "ambiguous" ? "foreign" : "refused", result.text);
  });
}

/** No disk of this array. Whatever is here and is not blank stays as it is, and no new pool is made beside it. */
function openNothing(options: PoolOptions, found: readonly FoundDisk[], done: OpenDone, fail: Fail): void {
  for (const disk of found) {
    if (!disk.superblock?.ready) continue;
    disk.state = "foreign";
    disk.text = `belongs to array ${disk.superblock.arrayName}`;
  }
  if (tellsTrouble(found, fail)) return;
  if (found.length === 0) fail("missing-disk", "no shelf has a disk that answers");
  else if (options.half === 1) fail("blank", "all disks are blank; the appliance with half 0 makes the pool");
  else if (!options.createIfBlank) fail("blank", "all disks are blank");
  else createPool(options, found, done, fail);
}

function openHalf(options: PoolOptions, found: readonly FoundDisk[], poolId: string, done: OpenDone): void {
  const missing: DiskReport[] = [];
  const fail = failing(found, missing, done);
  // Only half 1 can be found without a member: half 0 has been chosen by one.
  if (!found.some((disk) => disk.superblock?.poolId === poolId) && tellsTrouble(found, fail)) return;
  const members = sortMembers(found, poolId, missing, options.takesStale === true);
  openExisting(options, members, () => reportsOf(found, missing), done, fail);
}

/** Fails with the worst that was found; false: nothing is wrong with any disk. */
function tellsTrouble(found: readonly FoundDisk[], fail: Fail): boolean {
  for (const state of ["newer-version", "foreign", "corrupt", "missing"] as const) {
    const disk = found.find((candidate) => candidate.state === state);
    if (!disk) continue;
    fail(state === "missing" ? "missing-disk" : state, `${disk.disk.place}: ${disk.text}`);
    return true;
  }
  return false;
}

function failing(found: readonly FoundDisk[], missing: readonly DiskReport[], done: OpenDone): Fail {
  return (code, text) => done({ ok: false, code, text, disks: reportsOf(found, missing) });
}

export type Fail = (code: Extract<OpenResult, { ok: false }>["code"], text: string) => void;

function openExisting(
  options: PoolOptions,
  members: readonly (FoundDisk | null)[],
  reports: () => DiskReport[],
  done: OpenDone,
  fail: Fail,
): void {
  const { clock, digests, half = 0 } = options;
  const present = members.filter((member) => member !== null);
  const fresh = present.filter((member) => member.state !== "stale");
  const generation = generationOf(present);
  const { superblock, disks, trouble } = disksOfMembers(members, half, clock);
  const { diskTable, arrayId, poolId } = superblock;
  const { metadataDisks } = disks;
  if (trouble !== null) {
    fail("missing-disk", trouble);
    return;
  }
  const tag = poolTagOf(poolId);
  const slots = documentSlots(disks, digests, tag);
  const table = new SlabTable(disks, digests, tag);
  const mark = { half, generation, diskTable, digests };
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
    const document = decodePoolDocument(result.body, disks.geometry);
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

function reportsOf(found: readonly FoundDisk[], missing: readonly DiskReport[]): DiskReport[] {
  return [...found.map(({ disk, state, text }) => ({ place: disk.place, state, text })), ...missing];
}
