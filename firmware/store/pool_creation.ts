/**
 * Makes a pool on blank disks, both halves of it when it is to have two.
 *
 *     forming superblocks of half 0 on every disk
 *       ──▶ half 1, if there is one: slab table, document, both copies of its superblocks
 *       ──▶ half 0: slab table, document ──▶ its ready superblocks, one copy after the other
 *
 * Invariants:
 * - The creation counts when the first ready superblock of half 0 is whole; by then everything else is durable, half 1 included.
 * - Before, every disk counts as blank: whatever it has of half 1 is not looked at, and the next creation writes over all of it.
 */
import type { DiskError } from "../../hal/api/shelf.ts";
import type { FoundDisk } from "./disk_finder.ts";
import { DiskSet } from "./disk_set.ts";
import {
  disksMax,
  type FormatNumbers,
  formatProblem,
  geometryOf,
  type Half,
  metadataCopies,
  slabsOnDisk,
} from "./geometry.ts";
import { MapCache } from "./map_cache.ts";
import type { Fail, OpenDone, PoolOptions } from "./open_pool.ts";
import { emptyPoolDocument, encodePoolDocument } from "./pool_document.ts";
import { documentSlots } from "./pool_record.ts";
import { poolTagOf, SlabTable } from "./slab_table.ts";
import type { DiskReport } from "./store.ts";
import { StoredPool } from "./stored_pool.ts";
import { type DiskTableEntry, hexOf, nameBytesMax, type Superblock, type SuperblockPlace } from "./superblock.ts";
import { writeSuperblock } from "./superblock_writer.ts";

const smallDiskBytes = 1024 ** 3;

export function createPool(options: PoolOptions, found: readonly FoundDisk[], done: OpenDone, fail: Fail): void {
  const { clock, digests, entropy, arrayName } = options;
  const format = formatFor(options.format, found);
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
      `${tooSmall.disk.place}: ${tooSmall.disk.sizeBytes} bytes leave no room for a slab of ${format.slabBytes}`,
    );
    return;
  }
  if (slabBase - 1 < format.halves) {
    fail("too-small", `the disks have room for one slab of ${format.slabBytes} bytes, and each half needs one`);
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
  const tag = poolTagOf(poolId);

  /** All disks at one step before any is at the next. */
  const writeAll = (change: Partial<Superblock>, place: SuperblockPlace, next: () => void) => {
    let open = found.length;
    let failed: DiskError | null = null;
    found.forEach(({ disk }, index) => {
      writeSuperblock(disk, { ...superblocks[index]!, ...change }, place, digests, (error) => {
        failed = failed ?? error;
        open -= 1;
        if (open > 0) return;
        if (failed) fail("disk-failed", failed.text);
        else next();
      });
    });
  };
  const writeReady = (half: Half, next: () => void) => {
    const ready = { ready: true, diskTable };
    writeAll({ ...ready, generation: 2 }, { copy: 1, half }, () =>
      writeAll({ ...ready, generation: 3 }, { copy: 0, half }, next),
    );
  };
  const halfOf = (half: Half) => {
    const disks = new DiskSet({
      geometry: geometryOf(format, half),
      disks: found.map(({ disk }) => disk),
      table: diskTable,
      metadataDisks: found.map((_, index) => index).slice(0, metadataCopies),
      clock,
    });
    const slots = documentSlots(disks, digests, tag);
    return { disks, slots, table: new SlabTable(disks, digests, tag), document: emptyPoolDocument(disks.geometry) };
  };
  /** The half's table and document, then its ready superblocks. */
  const writeHalf = (half: Half, next: (made: ReturnType<typeof halfOf>) => void) => {
    const made = halfOf(half);
    made.table.format((tableError) => {
      if (tableError) {
        fail("disk-failed", tableError.text);
        return;
      }
      made.slots.save(encodePoolDocument(made.document), (slotError) => {
        if (slotError) fail("disk-failed", slotError.text);
        else writeReady(half, () => next(made));
      });
    });
  };
  const finish = ({ disks, slots, table, document }: ReturnType<typeof halfOf>) => {
    const reports = found.map(({ disk }): DiskReport => ({ place: disk.place, state: "in-use", text: "" }));
    const cache = new MapCache(options.format.mapCacheBytes);
    const { saved } = options;
    const adoptStale = (adopted: (error: null) => void) => adopted(null);
    const parts = { arrayId, arrayName, clock, digests, disks, table, cache, slots, tag, reports, saved, adoptStale };
    done({ ok: true, pool: new StoredPool(parts, document), created: true });
  };
  writeAll({}, { copy: 0, half: 0 }, () => {
    if (format.halves === 1) writeHalf(0, finish);
    else writeHalf(1, () => writeHalf(0, finish));
  });
}

function formatFor(wanted: PoolOptions["format"], found: readonly FoundDisk[]): FormatNumbers {
  const { slabBytes, logSlotBytes, halves = 1 } = wanted;
  const smallest = found.reduce((least, disk) => Math.min(least, disk.disk.sizeBytes), Number.MAX_SAFE_INTEGER);
  const groupsMax = wanted.groupsMax ?? (smallest < smallDiskBytes ? 8 : 64);
  const allBytes = found.reduce((sum, disk) => sum + disk.disk.sizeBytes, 0);
  // Room for four times the slabs there are, for disks that are added later.
  const slabsMax = Math.max(1024, 2 ** Math.ceil(Math.log2((4 * allBytes) / slabBytes + 1)));
  return { slabBytes, logSlotBytes, groupsMax, slabsMax, halves };
}

function shelfNameTooLong(disk: FoundDisk): boolean {
  return new TextEncoder().encode(disk.shelf.name).byteLength > nameBytesMax;
}
