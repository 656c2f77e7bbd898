/**
 * The limits of log, cache and destage, with their arithmetic. Sizes in bytes, times in milliseconds.
 */
import { assert } from "../codec/assert.ts";
import { RecordKind, recordBytesFor } from "./record.ts";

export const logLimits = {
  /** A host write is cut into records of at most this payload: 4 chunks, so that a 1 MiB write is 4 records. */
  recordPayloadBytes: 256 * 1024,
  /** The largest segment; a cache has at least 16, so that small caches get smaller ones. */
  segmentBytesMax: 4 * 1024 * 1024,
  segmentsMin: 16,
  /** Header page and two commit cells. */
  segmentHeaderBytes: 3 * 4096,
  /** Zeroed or unmapped ranges above this become extents in the index, below it nodes: 64 blocks of 4 KiB. */
  extentBlocksMin: 64,
  /** Each read compares against the extents: 1,024 x 2 ns = 2 us at worst. Above it admission says BUSY and destage runs. */
  extentsMax: 1024,
  /** One destage batch; its blocks are sorted and coalesced in memory: 8,192 blocks of 4 KiB. */
  destageBatchBytes: 32 * 1024 * 1024,
  /** Destage starts at the latest so long after a record was committed ... */
  destageDelayMs: 500,
  /**
   * ... or when this share of the cache is dirty. Half: a burst of half the cache meets no destage (measured, 128 MiB of 4 KiB writes
   * into 256 MiB, four runs each: p99 0.7-3.0 ms; at a quarter 2.3-4.3), and the other half takes what comes while a batch goes home.
   */
  destageLowWatermark: 0.5,
  /** Host writes waiting for room; a front end bounds its own requests well below. */
  waitingRequestsMax: 65536,
  /** A control record's payload: the table of 256 volumes at 128 bytes each, twice. */
  controlPayloadBytes: 64 * 1024,
  /** How much of a group's log may lie on the shelf for absent peers, by default. */
  shelfLogBytes: 1024 * 1024 * 1024,
} as const;

/** How the cache of `cacheBytes` is cut: a power of two, at least 128 KiB, at most `segmentBytesMax`. */
export function segmentBytesFor(cacheBytes: number): number {
  let segmentBytes = logLimits.segmentBytesMax;
  while (segmentBytes > 131072 && segmentBytes * logLimits.segmentsMin > cacheBytes) segmentBytes /= 2;
  return segmentBytes;
}

/** The largest payload of one record, given the segment: a quarter of it at most, whole chunks. */
export function recordPayloadBytesFor(segmentBytes: number): number {
  return Math.min(logLimits.recordPayloadBytes, Math.max(16384, Math.floor(segmentBytes / 4 / 65536) * 65536));
}

assert(
  recordBytesFor(RecordKind.write, 1, logLimits.recordPayloadBytes) + logLimits.segmentHeaderBytes <
    logLimits.segmentBytesMax / 2,
  "two of the largest records fit into a segment",
);
assert(
  recordBytesFor(RecordKind.control, 0, logLimits.controlPayloadBytes) + logLimits.segmentHeaderBytes <= 131072,
  "a control record fits into the smallest segment",
);
