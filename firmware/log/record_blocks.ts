/**
 * What a record means block by block: entering it into the index, and taking it out again.
 */

import { logLimits } from "./limits.ts";
import { fullMask, type LogIndex, zeros } from "./log_index.ts";
import { carriesBlocks, clearsBlocks, fixedHeaderBytes, type RecordHeader } from "./record.ts";

const lbaPerBlock = 8;

/** Sectors `from` to `to` (exclusive) of a block as a mask. */
export function sectorMask(from: number, to: number): number {
  return ((1 << to) - 1) & ~((1 << from) - 1);
}

/** The parts of a run of logical blocks: a partial first block, whole blocks, a partial last block. */
export interface BlockSpan {
  firstBlock: number;
  lastBlock: number;
  /** Mask of the first and of the last block; the same when there is only one. */
  firstMask: number;
  lastMask: number;
}

export function spanOf(startLba: number, blockCount: number): BlockSpan {
  const endLba = startLba + blockCount;
  const firstBlock = Math.floor(startLba / lbaPerBlock);
  const lastBlock = Math.floor((endLba - 1) / lbaPerBlock);
  const headFrom = startLba - firstBlock * lbaPerBlock;
  const tailTo = endLba - lastBlock * lbaPerBlock;
  if (firstBlock === lastBlock) {
    const mask = sectorMask(headFrom, tailTo);
    return { firstBlock, lastBlock, firstMask: mask, lastMask: mask };
  }
  return { firstBlock, lastBlock, firstMask: sectorMask(headFrom, 8), lastMask: sectorMask(0, tailTo) };
}

/** Enters committed record number `record`, which stands at `at`; false when it carries no blocks. */
export function indexRecord(
  index: LogIndex,
  view: DataView,
  at: number,
  header: RecordHeader,
  record: number,
): boolean {
  if (carriesBlocks(header.kind)) {
    const payloadAt = at + header.headerBytes;
    let table = at + fixedHeaderBytes;
    if (header.blockCount === lbaPerBlock && header.startLba % lbaPerBlock === 0) {
      index.put(
        header.volume,
        header.startLba / lbaPerBlock,
        payloadAt / 64,
        fullMask,
        record,
        view.getUint32(table, true),
      );
      return true;
    }
    const span = spanOf(header.startLba, header.blockCount);
    let from = payloadAt;
    for (let block = span.firstBlock; block <= span.lastBlock; block++) {
      const mask = block === span.firstBlock ? span.firstMask : block === span.lastBlock ? span.lastMask : fullMask;
      index.put(header.volume, block, from / 64, mask, record, view.getUint32(table, true));
      table += 4;
      from += 512 * bitCount(mask);
    }
    return true;
  }
  if (clearsBlocks(header.kind)) {
    if (header.blockCount === 0) return true;
    const span = spanOf(header.startLba, header.blockCount);
    const wholeFirst = span.firstMask === fullMask ? span.firstBlock : span.firstBlock + 1;
    const wholeLast = span.lastMask === fullMask ? span.lastBlock : span.lastBlock - 1;
    if (span.firstMask !== fullMask) index.put(header.volume, span.firstBlock, zeros, span.firstMask, record, 0);
    if (span.lastMask !== fullMask && span.lastBlock !== span.firstBlock) {
      index.put(header.volume, span.lastBlock, zeros, span.lastMask, record, 0);
    }
    const whole = wholeLast - wholeFirst + 1;
    if (whole > logLimits.extentBlocksMin) {
      index.putExtent({ volume: header.volume, firstBlock: wholeFirst, blockCount: whole, record });
    } else {
      for (let block = wholeFirst; block <= wholeLast; block++)
        index.put(header.volume, block, zeros, fullMask, record, 0);
    }
    return true;
  }
  return false;
}

/** Takes a destaged record's blocks out of the index, as far as nothing newer than record number `upTo` replaced them. */
export function unindexRecord(index: LogIndex, header: RecordHeader, upTo: number): void {
  if (!carriesBlocks(header.kind) && !clearsBlocks(header.kind)) return;
  if (header.blockCount === 0) return;
  const firstBlock = Math.floor(header.startLba / lbaPerBlock);
  const lastBlock = Math.floor((header.startLba + header.blockCount - 1) / lbaPerBlock);
  if (clearsBlocks(header.kind) && lastBlock - firstBlock + 1 > logLimits.extentBlocksMin) {
    index.forget(header.volume, firstBlock, upTo);
    index.forget(header.volume, lastBlock, upTo);
    if (lastBlock - firstBlock + 1 > logLimits.extentBlocksMin + 2) return;
  }
  for (let block = firstBlock; block <= lastBlock; block++) index.forget(header.volume, block, upTo);
}

export function bitCount(mask: number): number {
  let count = 0;
  for (let rest = mask; rest !== 0; rest &= rest - 1) count++;
  return count;
}
