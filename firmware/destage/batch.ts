/**
 * One destage batch: a stretch of committed records, coalesced to the newest content of each block, as steps for the store.
 *
 * Invariants:
 * - A batch never crosses a boundary record, and an extent (long zeroed range) is a batch of its own: within a batch every block is
 *   written once.
 * - A block written in part is completed from the block's home before it is written: the store sees whole blocks only. One whose
 *   home cannot be read gets a checksum that does not hold: a medium error until it is written whole, and never a made-up sector.
 */
import type { Digests } from "../../hal/api/digests.ts";
import { assert } from "../codec/assert.ts";
import { fullMask, LogIndex, zeros } from "../log/log_index.ts";
import { emptyHeader, type RecordHeader, RecordKind } from "../log/record.ts";
import { bitCount, indexRecord } from "../log/record_blocks.ts";
import type { LogPlace } from "../log/segment_list.ts";
import type { WriteLog } from "../log/write_log.ts";
import { type GroupStore, type HomeStep, physicalBlockBytes, type StoreDone } from "../store/store.ts";
import { readHome } from "../volume/home_read.ts";

const sectorBytes = 512;
const keyBase = 4294967296;
/** Unreadable blocks that are told of, once each; a scrub names all. */
const unreadableToldMax = 1000;
/** A run of blocks handed over as one step; bounds the checksum array. */
const stepBlocksMax = 256;

export interface Batch {
  /** The seq and the number of the last record taken. */
  seq: number;
  records: number;
  /** Behind the last record taken. */
  readonly place: LogPlace;
  boundary: { id: string; purpose: string } | null;
  steps: HomeStep[];
}

export class BatchBuilder {
  readonly #log: WriteLog;
  readonly #store: GroupStore;
  readonly #digests: Digests;
  readonly #unreadable: (volume: number, block: number) => void;
  readonly #unreadableTold = new Set<number>();
  readonly #index = new LogIndex();
  readonly #header: RecordHeader = emptyHeader();

  /** `unreadable`: a block was written in part whose home cannot be read. */
  constructor(log: WriteLog, store: GroupStore, digests: Digests, unreadable: (volume: number, block: number) => void) {
    this.#log = log;
    this.#store = store;
    this.#digests = digests;
    this.#unreadable = unreadable;
  }

  /**
   * Collects a batch from `place` on. `boundaryOf` decodes a boundary record. Completing partial blocks reads their homes, hence
   * `done`.
   */
  build(
    from: { readonly place: LogPlace; readonly records: number; readonly seq: number },
    maxBytes: number,
    boundaryOf: (at: number, header: RecordHeader) => { id: string; purpose: string },
    done: (error: Parameters<StoreDone>[0], batch: Batch) => void,
  ): void {
    const log = this.#log;
    const header = this.#header;
    const batch: Batch = { seq: from.seq, records: from.records, place: { ...from.place }, boundary: null, steps: [] };
    this.#index.clear();
    let taken = 0;
    while (batch.records < log.committedRecords && taken < maxBytes) {
      const at = log.list.recordAt(batch.place, header);
      assert(at >= 0, "a committed record is in the log");
      const extentsBefore = this.#index.extentCount;
      if (header.kind === RecordKind.boundary) batch.boundary = boundaryOf(at, header);
      else indexRecord(this.#index, log.list.region.view, at, header, batch.records);
      const isExtent = this.#index.extentCount > extentsBefore;
      if (isExtent && taken > 0) {
        // An extent waits for a batch of its own.
        this.#rebuild(from, batch);
        break;
      }
      taken += header.totalBytes;
      batch.records++;
      batch.seq = header.lastSeq;
      batch.place.offset += header.totalBytes;
      if (isExtent || batch.boundary !== null) break;
    }
    this.#makeSteps(batch, done);
  }

  /** Indexes the records of the batch again, without the extent that was met behind them. */
  #rebuild(from: { readonly place: LogPlace; readonly records: number }, batch: Batch): void {
    this.#index.clear();
    const place = { ...from.place };
    for (let record = from.records; record < batch.records; record++) {
      const at = this.#log.list.recordAt(place, this.#header);
      indexRecord(this.#index, this.#log.list.region.view, at, this.#header, record);
      place.offset += this.#header.totalBytes;
    }
  }

  #makeSteps(batch: Batch, done: (error: Parameters<StoreDone>[0], batch: Batch) => void): void {
    const index = this.#index;
    index.forEachExtent((extent) => {
      batch.steps.push({
        kind: "zero",
        volume: extent.volume,
        firstBlock: extent.firstBlock,
        blockCount: extent.blockCount,
      });
    });
    const keys = new Float64Array(index.blockCount);
    let count = 0;
    index.forEachBlock((volume, block) => {
      keys[count++] = volume * keyBase + block;
    });
    keys.sort();
    const crcs = new Uint32Array(count);
    const memory = this.#log.list.region.bytes;
    const partial: { volume: number; block: number; at: number }[] = [];
    let run: { volume: number; firstBlock: number; where: number; crcFrom: number; blocks: number } | null = null;
    const endRun = (): void => {
      if (run === null) return;
      const bytes = memory.subarray(run.where * 64, run.where * 64 + run.blocks * physicalBlockBytes);
      const table = crcs.subarray(run.crcFrom, run.crcFrom + run.blocks);
      batch.steps.push({ kind: "data", volume: run.volume, firstBlock: run.firstBlock, bytes, crcs: table });
      run = null;
    };
    let zeroRun: { volume: number; firstBlock: number; blockCount: number } | null = null;
    const endZeroRun = (): void => {
      if (zeroRun !== null) batch.steps.push({ kind: "zero", ...zeroRun });
      zeroRun = null;
    };
    for (let at = 0; at < count; at++) {
      const key = keys[at]!;
      const volume = Math.floor(key / keyBase);
      const block = key - volume * keyBase;
      const node = index.newest(volume, block);
      const whole = index.maskOf(node) === fullMask;
      const where = index.whereOf(node);
      if (whole && where === zeros) {
        endRun();
        if (zeroRun !== null && zeroRun.volume === volume && zeroRun.firstBlock + zeroRun.blockCount === block) {
          zeroRun.blockCount++;
        } else {
          endZeroRun();
          zeroRun = { volume, firstBlock: block, blockCount: 1 };
        }
        continue;
      }
      endZeroRun();
      if (!whole) {
        endRun();
        partial.push({ volume, block, at });
        continue;
      }
      crcs[at] = index.crcOf(node);
      const continues: boolean =
        run !== null &&
        run.volume === volume &&
        run.firstBlock + run.blocks === block &&
        run.where + (run.blocks * physicalBlockBytes) / 64 === where &&
        run.blocks < stepBlocksMax;
      if (continues) run!.blocks++;
      else {
        endRun();
        run = { volume, firstBlock: block, where, crcFrom: at, blocks: 1 };
      }
    }
    endRun();
    endZeroRun();
    this.#completePartials(batch, partial, done);
  }

  #completePartials(
    batch: Batch,
    partial: readonly { volume: number; block: number }[],
    done: (error: Parameters<StoreDone>[0], batch: Batch) => void,
  ): void {
    let waiting = 1;
    let failure: Parameters<StoreDone>[0] = null;
    const finished = (error: Parameters<StoreDone>[0]): void => {
      failure ??= error;
      if (--waiting === 0) done(failure, batch);
    };
    for (const { volume, block } of partial) {
      const bytes = new Uint8Array(physicalBlockBytes);
      const whole = covers(this.#index, volume, block);
      waiting++;
      const complete: StoreDone = (error) => {
        const isUnreadable = error?.code === "medium-error";
        if (error === null || isUnreadable) {
          overlay(this.#index, this.#log.list.region.bytes, volume, block, bytes);
          // Completed from its home: if the appliance dies before the commit, that content is needed once more.
          const fresh = !whole;
          const crc = this.#digests.crc32(bytes);
          if (isUnreadable) this.#tellUnreadable(volume, block);
          batch.steps.push({
            kind: "data",
            volume,
            firstBlock: block,
            bytes,
            crcs: [isUnreadable ? ~crc >>> 0 : crc],
            fresh,
          });
        }
        finished(isUnreadable ? null : error);
      };
      if (whole) complete(null);
      else readHome(this.#store, volume, block, bytes, complete);
    }
    finished(null);
  }

  #tellUnreadable(volume: number, block: number): void {
    const key = volume * keyBase + block;
    if (this.#unreadableTold.has(key) || this.#unreadableTold.size >= unreadableToldMax) return;
    this.#unreadableTold.add(key);
    this.#unreadable(volume, block);
  }
}

/** Whether the nodes of a block together hold all its sectors. */
export function covers(index: LogIndex, volume: number, block: number): boolean {
  let mask = 0;
  for (let node = index.newest(volume, block); node >= 0; node = index.olderOf(node)) mask |= index.maskOf(node);
  return mask === fullMask;
}

/**
 * Lays what the index holds of a block over `into` (4,096 bytes, the block's home), newest data on top. Nodes with a record number
 * of `above` or less are hidden (an extent zeroed them).
 */
export function overlay(
  index: LogIndex,
  memory: Uint8Array,
  volume: number,
  block: number,
  into: Uint8Array,
  above = -1,
): void {
  let have = 0;
  for (let node = index.newest(volume, block); node >= 0 && have !== fullMask; node = index.olderOf(node)) {
    if (index.recordOf(node) <= above) return;
    const mask = index.maskOf(node);
    const where = index.whereOf(node);
    const lowest = bitCount((mask & -mask) - 1);
    for (let sector = lowest; sector < 8 && mask >> sector !== 0; sector++) {
      if ((mask & (1 << sector)) === 0 || (have & (1 << sector)) !== 0) continue;
      const to = sector * sectorBytes;
      if (where === zeros) into.fill(0, to, to + sectorBytes);
      else {
        const from = where * 64 + (sector - lowest) * sectorBytes;
        into.set(memory.subarray(from, from + sectorBytes), to);
      }
    }
    have |= mask;
  }
}
