/**
 * Which blocks hold data as of now: the home's extents with the log's index laid over them.
 *
 * A block counts as allocated if the index held data for it when the look-up began or ended, or if its home does, unless the index
 * says zero at the end: while a block is on its way home it may be told as allocated too often, never too seldom.
 */
import { fullMask, type LogIndex, zeros } from "../log/log_index.ts";
import type { HomeExtent } from "../store/store.ts";

const unknown = 0;
const data = 1;
const zero = 2;

/** What the index says of each block of a range, as bytes: unknown, data or zero. */
export function indexStates(
  index: LogIndex,
  volume: number,
  firstBlock: number,
  blockCount: number,
): Uint8Array | null {
  if (index.blockCount === 0 && index.extentCount === 0) return null;
  const states = new Uint8Array(blockCount);
  for (let at = 0; at < blockCount; at++) {
    const above = index.zeroRecord(volume, firstBlock + at);
    const node = index.newest(volume, firstBlock + at);
    if (node < 0 || index.recordOf(node) <= above) {
      if (above >= 0) states[at] = zero;
      continue;
    }
    const isZero = index.whereOf(node) === zeros && index.maskOf(node) === fullMask;
    states[at] = isZero ? zero : data;
  }
  return states;
}

/** Lays both views of the index over the home's extents; `limit` extents at most. */
export function mergeExtents(
  home: readonly HomeExtent[],
  before: Uint8Array | null,
  after: Uint8Array | null,
  firstBlock: number,
  limit: number,
): HomeExtent[] {
  if (before === null && after === null) return [...home];
  const merged: { firstBlock: number; blockCount: number; allocated: boolean }[] = [];
  for (const extent of home) {
    for (let block = extent.firstBlock; block < extent.firstBlock + extent.blockCount; block++) {
      const at = block - firstBlock;
      const was = before?.[at] ?? unknown;
      const is = after?.[at] ?? unknown;
      const allocated = is === zero ? false : is === data || was === data || extent.allocated;
      const last = merged[merged.length - 1];
      if (last !== undefined && last.allocated === allocated) last.blockCount++;
      else if (merged.length === limit) return merged;
      else merged.push({ firstBlock: block, blockCount: 1, allocated });
    }
  }
  return merged;
}
