/**
 * Reading the log in order, for peers: cursors over records in the cache and, spilled, on the shelf.
 *
 * Invariants:
 * - A run is a stretch of whole records without padding and without as-of records: those belong to the stream they came in.
 * - A cursor is true by its seq: when the segment under it has gone, it finds its place again by seq or reports the loss.
 */

import { alignUp } from "../codec/bytes.ts";
import type { GroupStore } from "../store/store.ts";
import { logLimits } from "./limits.ts";
import {
  decodeHeader,
  emptyHeader,
  isAsOf,
  payloadIsIntact,
  type RecordHeader,
  type Region,
  readHeader,
  regionOf,
} from "./record.ts";
import type { LogCursor, LogRun } from "./replication_log.ts";
import type { LogSegment } from "./segment.ts";
import type { WriteLog } from "./write_log.ts";

const recordMagic = 0x31524347;

export class LogCursors {
  readonly #log: WriteLog;
  readonly #store: GroupStore;
  readonly #header: RecordHeader = emptyHeader();
  /** The spilled segment read last: a peer far behind reads a whole segment before it needs the next. */
  #loaded: { readonly ordinal: number; readonly region: Region } | null = null;

  constructor(log: WriteLog, store: GroupStore) {
    this.#log = log;
    this.#store = store;
  }

  cursorAfter(seq: number): LogCursor | null {
    if (seq > this.#log.headSeq) return null;
    const segment = this.#segmentOf(seq + 1);
    if (segment !== undefined) return { seq, ordinal: segment.ordinal, offsetBytes: logLimits.segmentHeaderBytes };
    if (seq < this.#log.headSeq) return null;
    const end = this.#log.list.end();
    return { seq, ordinal: end.ordinal, offsetBytes: end.offset };
  }

  next(cursor: LogCursor, throughSeq: number, maxBytes: number): LogRun | "end" | "on-shelf" {
    const segment = this.#settle(cursor);
    if (segment === undefined) return "end";
    if (segment.slot < 0) return "on-shelf";
    return this.#runIn(segment, this.#log.list.region, segment.base, cursor, throughSeq, maxBytes);
  }

  load(cursor: LogCursor, throughSeq: number, maxBytes: number, done: (run: LogRun | "end" | null) => void): void {
    const segment = this.#settle(cursor);
    if (segment === undefined) return done("end");
    const loaded = this.#loaded;
    if (segment.slot >= 0 || (loaded !== null && loaded.ordinal === segment.ordinal)) {
      const region = segment.slot >= 0 ? this.#log.list.region : loaded!.region;
      const base = segment.slot >= 0 ? segment.base : 0;
      return done(this.#runIn(segment, region, base, cursor, throughSeq, maxBytes));
    }
    if (segment.shelfSlot === null) return done(null);
    const region = regionOf(new Uint8Array(alignUp(segment.usedBytes, 4096)));
    this.#store.readLogSlot(segment.shelfSlot, 0, region.bytes, (error) => {
      if (error !== null || !this.#isIntact(region, segment)) return done(null);
      this.#loaded = { ordinal: segment.ordinal, region };
      done(this.#runIn(segment, region, 0, cursor, throughSeq, maxBytes));
    });
  }

  /** Whether the shelf gave the segment's records back as they were: bit rot must not lead the walk astray. */
  #isIntact(region: Region, segment: LogSegment): boolean {
    const { digests, groupTag } = this.#log;
    const header = this.#header;
    let offset: number = logLimits.segmentHeaderBytes;
    let seq = segment.firstSeq - 1;
    while (offset < segment.usedBytes) {
      if (!decodeHeader(region, offset, segment.usedBytes, groupTag, digests, header)) {
        offset = alignUp(offset + 1, 4096);
        continue;
      }
      if (!payloadIsIntact(region, offset, header, digests)) return false;
      if (!isAsOf(header.kind) && header.firstSeq !== seq + 1) return false;
      seq = Math.max(seq, header.lastSeq);
      offset += header.totalBytes;
    }
    return seq >= segment.lastSeq;
  }

  bytesAfter(seq: number): number {
    let total = 0;
    for (const segment of this.#log.list.segments) {
      if (segment.lastSeq <= seq) continue;
      const used = segment.usedBytes - logLimits.segmentHeaderBytes;
      if (segment.firstSeq > seq) total += used;
      else if (segment.slot >= 0) total += segment.usedBytes - this.#offsetAfter(segment, seq);
      else total += Math.ceil((used * (segment.lastSeq - seq)) / (segment.lastSeq - segment.firstSeq + 1));
    }
    return total;
  }

  wallMsAfter(seq: number): number | null {
    const segment = this.#segmentOf(seq + 1);
    if (segment === undefined) return null;
    if (segment.slot < 0 || segment.firstSeq === seq + 1) return segment.firstWallMs;
    const offset = this.#offsetAfter(segment, seq);
    if (offset >= segment.usedBytes) return segment.firstWallMs;
    readHeader(this.#log.list.region, segment.base + offset, this.#header);
    return this.#header.wallMs;
  }

  /** Whether the log still has the record `seq`, and where (in the cache); null when not, or when it lies on the shelf. */
  placeOf(seq: number): number | null {
    const segment = this.#segmentOf(seq);
    if (segment === undefined || segment.slot < 0) return null;
    const offset = this.#offsetAfter(segment, seq - 1);
    return offset < segment.usedBytes ? segment.base + offset : null;
  }

  #segmentOf(seq: number): LogSegment | undefined {
    const segments = this.#log.list.segments;
    let low = 0;
    let high = segments.length - 1;
    while (low <= high) {
      const middle = (low + high) >> 1;
      const segment = segments[middle]!;
      if (segment.lastSeq < seq) low = middle + 1;
      else if (segment.firstSeq > seq) high = middle - 1;
      else return segment;
    }
    return undefined;
  }

  /** Brings the cursor to a segment that has records behind it; undefined at the end. */
  #settle(cursor: LogCursor): LogSegment | undefined {
    const list = this.#log.list;
    const present = list.get(cursor.ordinal);
    if (present !== undefined && cursor.offsetBytes < present.usedBytes && present.lastSeq > cursor.seq) return present;
    const segment = this.#segmentOf(cursor.seq + 1);
    if (segment === undefined) return undefined;
    if (segment.ordinal !== cursor.ordinal) {
      cursor.ordinal = segment.ordinal;
      cursor.offsetBytes = logLimits.segmentHeaderBytes;
    }
    return segment;
  }

  #runIn(
    segment: LogSegment,
    region: Region,
    base: number,
    cursor: LogCursor,
    throughSeq: number,
    maxBytes: number,
  ): LogRun | "end" {
    const header = this.#header;
    let from = -1;
    let to = -1;
    let firstSeq = 0;
    let lastSeq = cursor.seq;
    let offset = cursor.offsetBytes;
    while (offset < segment.usedBytes) {
      if (region.view.getUint32(base + offset, true) !== recordMagic) {
        if (from >= 0) break;
        offset = alignUp(offset + 1, 4096);
        continue;
      }
      readHeader(region, base + offset, header);
      const skipped = isAsOf(header.kind) || header.lastSeq <= cursor.seq;
      if (skipped || header.lastSeq > throughSeq) {
        if (from >= 0 || !skipped) break;
        offset += header.totalBytes;
        continue;
      }
      if (from >= 0 && offset + header.totalBytes - from > maxBytes) break;
      if (from < 0) {
        from = offset;
        firstSeq = header.firstSeq;
      }
      lastSeq = header.lastSeq;
      offset += header.totalBytes;
      to = offset;
    }
    if (from < 0) {
      cursor.offsetBytes = offset;
      return "end";
    }
    cursor.offsetBytes = to;
    cursor.seq = lastSeq;
    return { bytes: region.bytes.subarray(base + from, base + to), firstSeq, lastSeq };
  }

  /** The offset of the first record above `seq` in a cached segment, or its end. */
  #offsetAfter(segment: LogSegment, seq: number): number {
    const { region } = this.#log.list;
    let offset: number = logLimits.segmentHeaderBytes;
    while (offset < segment.usedBytes) {
      if (region.view.getUint32(segment.base + offset, true) !== recordMagic) {
        offset = alignUp(offset + 1, 4096);
        continue;
      }
      readHeader(region, segment.base + offset, this.#header);
      if (this.#header.lastSeq > seq && !isAsOf(this.#header.kind)) return offset;
      offset += this.#header.totalBytes;
    }
    return segment.usedBytes;
  }
}
