/**
 * A log segment: a fixed piece of the cache (and, spilled or written through, a slot on the shelf) that holds records of one
 * group, in order.
 *
 * Layout: page 0 the header, pages 1 and 2 two commit cells written alternately, records from byte 12,288 on. A record starts
 * right behind the one before it or at the next multiple of 4,096 bytes (the start of a batch in a flushed medium, so that an
 * acknowledged record never shares a sector with a later write).
 *
 * Header: u32 magic "GCSG", u32 crc32 of bytes 8 .. 64, u32 version, u32 group tag, 16B group id, u64 ordinal, u64 firstSeq, u64 durableSeq.
 * Cell: u32 magic "GCCC", u32 crc32 of bytes 8 .. 64, u64 commitSeq, 16B timeline, 16B group id.
 */
import type { Digests } from "../../hal/api/digests.ts";
import { fromHex, getU64, setU64, toHex } from "../codec/bytes.ts";
import type { LogSlot } from "../store/store.ts";
import { logLimits } from "./limits.ts";
import type { Region } from "./record.ts";

const headerMagic = 0x47534347;
const cellMagic = 0x43434347;
const version = 1;
const coveredBytes = 64;
const pageBytes = 4096;

export interface LogSegment {
  /** Grows by one with each segment of the group, over all openings. */
  readonly ordinal: number;
  /** The seq that the first record has (or would have). */
  readonly firstSeq: number;
  /** The highest seq in it; firstSeq - 1 while it is empty. */
  lastSeq: number;
  /** Wall time of its first record, ms; 0 while it is empty. */
  firstWallMs: number;
  /** Its slot in the cache, or -1 when it lies on the shelf only. */
  slot: number;
  /** Where the slot begins in the cache's memory. */
  base: number;
  /** Bytes in use, header included; records end here. */
  usedBytes: number;
  sealed: boolean;
  /** Its place on the shelf, when it was spilled or written through, and how much of it is durable there. */
  shelfSlot: LogSlot | null;
  shelfBytes: number;
  /** A copy to the shelf is under way: its slot in the cache and its place on the shelf are not given to others. */
  pinned: boolean;
  /** It has left the log; what it occupies is given back when it is not pinned any more. */
  gone: boolean;
}

export interface SegmentHeader {
  readonly groupId: string;
  readonly ordinal: number;
  readonly firstSeq: number;
  /** What the log had durably when the segment was begun: a log that is found to end before it has lost something. 0: not known. */
  readonly durableSeq: number;
}

export interface CommitCell {
  readonly commitSeq: number;
  readonly timeline: string;
}

export function encodeSegmentHeader(
  region: Region,
  base: number,
  header: SegmentHeader,
  tag: number,
  digests: Digests,
): void {
  const { bytes, view } = region;
  bytes.fill(0, base, base + logLimits.segmentHeaderBytes);
  view.setUint32(base, headerMagic, true);
  view.setUint32(base + 8, version, true);
  view.setUint32(base + 12, tag, true);
  bytes.set(fromHex(header.groupId), base + 16);
  setU64(view, base + 32, header.ordinal);
  setU64(view, base + 40, header.firstSeq);
  setU64(view, base + 48, header.durableSeq);
  view.setUint32(base + 4, digests.crc32(bytes.subarray(base + 8, base + coveredBytes)), true);
}

/** The segment header at `base`, or null when there is none (blank, torn, or something else). */
export function decodeSegmentHeader(region: Region, base: number, digests: Digests): SegmentHeader | null {
  const { bytes, view } = region;
  if (view.getUint32(base, true) !== headerMagic || view.getUint32(base + 8, true) !== version) return null;
  if (digests.crc32(bytes.subarray(base + 8, base + coveredBytes)) !== view.getUint32(base + 4, true)) return null;
  const ordinal = getU64(view, base + 32);
  const firstSeq = getU64(view, base + 40);
  const durableSeq = getU64(view, base + 48);
  if (Number.isNaN(ordinal) || Number.isNaN(firstSeq) || Number.isNaN(durableSeq)) return null;
  return { groupId: toHex(bytes.subarray(base + 16, base + 32)), ordinal, firstSeq, durableSeq };
}

/** Writes one of the two cells (`which` 0 or 1); returns where it lies, relative to the segment. */
export function encodeCell(
  region: Region,
  base: number,
  which: number,
  cell: CommitCell & { readonly groupId: string },
  digests: Digests,
): number {
  const { bytes, view } = region;
  const at = base + pageBytes * (1 + which);
  view.setUint32(at, cellMagic, true);
  setU64(view, at + 8, cell.commitSeq);
  bytes.set(fromHex(cell.timeline), at + 16);
  bytes.set(fromHex(cell.groupId), at + 32);
  view.setUint32(at + 4, digests.crc32(bytes.subarray(at + 8, at + coveredBytes)), true);
  return at - base;
}

/** The better of the two cells, or null. */
export function decodeCells(region: Region, base: number, groupId: string, digests: Digests): CommitCell | null {
  let best: CommitCell | null = null;
  for (const which of [0, 1]) {
    const at = base + pageBytes * (1 + which);
    const { bytes, view } = region;
    if (view.getUint32(at, true) !== cellMagic) continue;
    if (digests.crc32(bytes.subarray(at + 8, at + coveredBytes)) !== view.getUint32(at + 4, true)) continue;
    if (toHex(bytes.subarray(at + 32, at + 48)) !== groupId) continue;
    const commitSeq = getU64(view, at + 8);
    if (Number.isNaN(commitSeq) || (best !== null && best.commitSeq >= commitSeq)) continue;
    best = { commitSeq, timeline: toHex(bytes.subarray(at + 16, at + 32)) };
  }
  return best;
}
