/**
 * Reading the group's committed state: the index of the log over the home location.
 *
 * Invariants:
 * - `tryRead` runs in one event: it sees the group at one commitSeq.
 * - `read` captures what the index holds when it begins and reads only the rest from home: a block that is destaged meanwhile
 *   comes from home in the version that was captured or a newer committed one, never an older one.
 */

import { covers, overlay } from "../destage/batch.ts";
import { fullMask, type LogIndex, zeros } from "../log/log_index.ts";
import {
  type GroupStore,
  type HomeExtent,
  physicalBlockBytes,
  type StoreDone,
  type StoreError,
} from "../store/store.ts";
import { indexStates, mergeExtents } from "./group_extents.ts";
import { homeExtents, readHome } from "./home_read.ts";

/** A block that is partly in the index: captured when the read began. */
interface Captured {
  readonly at: number;
  readonly mask: number;
  readonly bytes: Uint8Array;
}

export class ReadPath {
  readonly #index: LogIndex;
  readonly #memory: Uint8Array;
  readonly #store: GroupStore;

  constructor(index: LogIndex, memory: Uint8Array, store: GroupStore) {
    this.#index = index;
    this.#memory = memory;
    this.#store = store;
  }

  /** Whole blocks into `target`, at once; false when a medium would have to be waited for. */
  tryRead(volume: number, firstBlock: number, target: Uint8Array): boolean {
    const index = this.#index;
    const store = this.#store;
    if (index.blockCount === 0 && index.extentCount === 0) return store.tryRead("head", volume, firstBlock, target);
    const blocks = target.byteLength / physicalBlockBytes;
    let homeFrom = 0;
    for (let at = 0; at < blocks; at++) {
      const block = firstBlock + at;
      const above = index.extentCount === 0 ? -1 : index.zeroRecord(volume, block);
      const node = index.newest(volume, block);
      if (node < 0 && above < 0) continue;
      if (homeFrom < at && !this.#tryHome(volume, firstBlock, homeFrom, at, target)) return false;
      homeFrom = at + 1;
      if (!this.#tryBlock(volume, block, node, above, target, at * physicalBlockBytes)) return false;
    }
    return homeFrom >= blocks || this.#tryHome(volume, firstBlock, homeFrom, blocks, target);
  }

  read(volume: number, firstBlock: number, target: Uint8Array, done: StoreDone): void {
    const index = this.#index;
    const blocks = target.byteLength / physicalBlockBytes;
    const captured: Captured[] = [];
    const homeRuns: { from: number; to: number }[] = [];
    let homeFrom = 0;
    for (let at = 0; at < blocks; at++) {
      const block = firstBlock + at;
      const above = index.zeroRecord(volume, block);
      const node = index.newest(volume, block);
      if (node < 0 && above < 0) continue;
      const settled = this.#settleBlock(volume, block, node, above, target, at * physicalBlockBytes);
      if (!settled) {
        captured.push(this.#capture(volume, block, node, at));
        continue;
      }
      if (homeFrom < at) homeRuns.push({ from: homeFrom, to: at });
      homeFrom = at + 1;
    }
    if (homeFrom < blocks) homeRuns.push({ from: homeFrom, to: blocks });
    this.#readRuns(volume, firstBlock, target, homeRuns, (error) => {
      if (error === null) for (const part of captured) layOver(part, target);
      done(error);
    });
  }

  /** At once when it can be, with waiting otherwise. */
  readSoon(volume: number, firstBlock: number, target: Uint8Array, done: StoreDone): void {
    if (this.tryRead(volume, firstBlock, target)) done(null);
    else this.read(volume, firstBlock, target, done);
  }

  /** Adjoining extents from the range's first block on, at most `range.limit`: log and home together. */
  extents(
    volume: number,
    range: { readonly firstBlock: number; readonly blockCount: number; readonly limit: number },
    done: (error: StoreError | null, extents: readonly HomeExtent[]) => void,
  ): void {
    const index = this.#index;
    const before = indexStates(index, volume, range.firstBlock, range.blockCount);
    homeExtents(this.#store, volume, range, (error, home) => {
      if (error !== null) return done(error, []);
      const covered = home.reduce((sum, extent) => sum + extent.blockCount, 0);
      const after = indexStates(index, volume, range.firstBlock, covered);
      done(null, mergeExtents(home, before, after, range.firstBlock, range.limit));
    });
  }

  #tryHome(volume: number, firstBlock: number, from: number, to: number, target: Uint8Array): boolean {
    const part = target.subarray(from * physicalBlockBytes, to * physicalBlockBytes);
    return this.#store.tryRead("head", volume, firstBlock + from, part);
  }

  #tryBlock(volume: number, block: number, node: number, above: number, target: Uint8Array, at: number): boolean {
    if (this.#settleBlock(volume, block, node, above, target, at)) return true;
    const into = target.subarray(at, at + physicalBlockBytes);
    if (!this.#store.tryRead("head", volume, block, into)) return false;
    overlay(this.#index, this.#memory, volume, block, into, above);
    return true;
  }

  /** Serves a block that needs nothing from home; false when it does. */
  #settleBlock(volume: number, block: number, node: number, above: number, target: Uint8Array, at: number): boolean {
    const index = this.#index;
    const hidden = node < 0 || index.recordOf(node) <= above;
    if (!hidden && index.maskOf(node) === fullMask) {
      const where = index.whereOf(node);
      if (where === zeros) target.fill(0, at, at + physicalBlockBytes);
      else target.set(this.#memory.subarray(where * 64, where * 64 + physicalBlockBytes), at);
      return true;
    }
    if (above < 0 && !covers(index, volume, block)) return false;
    const into = target.subarray(at, at + physicalBlockBytes);
    into.fill(0);
    if (!hidden) overlay(index, this.#memory, volume, block, into, above);
    return true;
  }

  #capture(volume: number, block: number, node: number, at: number): Captured {
    const bytes = new Uint8Array(physicalBlockBytes);
    overlay(this.#index, this.#memory, volume, block, bytes);
    let mask = 0;
    for (let each = node; each >= 0; each = this.#index.olderOf(each)) mask |= this.#index.maskOf(each);
    return { at: at * physicalBlockBytes, mask, bytes };
  }

  #readRuns(
    volume: number,
    firstBlock: number,
    target: Uint8Array,
    runs: readonly { from: number; to: number }[],
    done: StoreDone,
  ): void {
    let waiting = runs.length;
    let failure: StoreError | null = null;
    if (waiting === 0) return done(null);
    for (const { from, to } of runs) {
      const part = target.subarray(from * physicalBlockBytes, to * physicalBlockBytes);
      readHome(this.#store, volume, firstBlock + from, part, (error) => {
        failure ??= error;
        if (--waiting === 0) done(failure);
      });
    }
  }
}

function layOver(part: Captured, target: Uint8Array): void {
  for (let sector = 0; sector < 8; sector++) {
    if ((part.mask & (1 << sector)) === 0) continue;
    target.set(part.bytes.subarray(sector * 512, sector * 512 + 512), part.at + sector * 512);
  }
}
