/**
 * The segments of one group's log, oldest first, and walking over the records in them.
 *
 * Invariants:
 * - Ordinals grow; only the last segment is open for appending.
 * - Behind the newest record stand four zero bytes, written with it, so that no place where no record starts holds a record's
 *   magic. In a flushed medium every 4,096-byte page is written by one batch only: an acknowledged record never shares a page
 *   with a later write.
 */
import type { Digests } from "../../hal/api/digests.ts";
import type { Nvram } from "../cache/nvram.ts";
import { assert } from "../codec/assert.ts";
import { alignUp } from "../codec/bytes.ts";
import type { LogSlot } from "../store/store.ts";
import { logLimits } from "./limits.ts";
import { emptyHeader, type RecordHeader, type Region, readHeader } from "./record.ts";
import { encodeSegmentHeader, type LogSegment } from "./segment.ts";

const recordMagic = 0x31524347;
const batchAlignBytes = 4096;

/** A place in the log: in segment `ordinal`, `offset` bytes from the segment's begin. */
export interface LogPlace {
  ordinal: number;
  offset: number;
}

/** Whether every record that `segment` has now lies before `place`, which may be the segment's end as well as a later segment. */
export function endsBefore(segment: LogSegment, place: LogPlace): boolean {
  return segment.ordinal < place.ordinal || (segment.ordinal === place.ordinal && segment.usedBytes <= place.offset);
}

export class SegmentList {
  readonly region: Region;
  readonly segments: LogSegment[] = [];
  readonly #nvram: Nvram;
  readonly #digests: Digests;
  readonly #groupId: string;
  readonly #groupTag: number;
  /** The next append starts at a multiple of 4,096: what lies before it may be under way to a medium. */
  #startBatch = false;
  nextOrdinal = 1;
  /** Called for a segment that leaves the log while it has a place on the shelf. */
  onShelfSlotFree: (slot: LogSlot) => void = () => {};
  /** There are more, or fewer, segments in the cache without a place on the shelf. */
  onUnplaced: () => void = () => {};

  constructor(nvram: Nvram, digests: Digests, groupId: string, groupTag: number) {
    this.#nvram = nvram;
    this.region = nvram.region;
    this.#digests = digests;
    this.#groupId = groupId;
    this.#groupTag = groupTag;
  }

  get last(): LogSegment | undefined {
    return this.segments[this.segments.length - 1];
  }

  /** Of the oldest segment that there is, or will be: whatever a medium still holds of those below is gone from the log. */
  get firstOrdinal(): number {
    return this.segments[0]?.ordinal ?? this.nextOrdinal;
  }

  /** What the log keeps, in the cache and on the shelf. */
  get bytes(): number {
    return this.segments.reduce((sum, segment) => sum + alignUp(segment.usedBytes, 4096), 0);
  }

  /** The place behind the newest record. */
  end(): LogPlace {
    const last = this.last;
    return last === undefined ? { ordinal: 0, offset: 0 } : { ordinal: last.ordinal, offset: last.usedBytes };
  }

  startBatch(): void {
    this.#startBatch = true;
  }

  seal(): void {
    const last = this.last;
    if (last !== undefined) last.sealed = true;
  }

  /**
   * Makes room for a record of `totalBytes` whose first seq is `seq`, in a log that has everything to `durableSeq` durably; returns
   * where it goes in the cache's memory, or -1 when there is no free segment.
   */
  place(totalBytes: number, seq: number, durableSeq: number): number {
    let last = this.last;
    if (last !== undefined && !last.sealed) {
      const at = this.#startBatch ? alignUp(last.usedBytes, batchAlignBytes) : last.usedBytes;
      if (at + totalBytes <= this.#nvram.segmentBytes) {
        last.usedBytes = at;
        this.#startBatch = false;
        return last.base + at;
      }
      last.sealed = true;
    }
    const slot = this.#nvram.allocate(this.#groupId);
    if (slot < 0) return -1;
    last = this.#newSegment(slot, seq, durableSeq);
    this.#startBatch = false;
    return last.base + last.usedBytes;
  }

  /** Accounts for a record written at `at` (from `place`). */
  appended(at: number, totalBytes: number, lastSeq: number, wallMs: number): void {
    const last = this.last!;
    last.usedBytes = at - last.base + totalBytes;
    last.lastSeq = Math.max(last.lastSeq, lastSeq);
    if (last.firstWallMs === 0) last.firstWallMs = wallMs;
    const end = at + totalBytes;
    let declared = totalBytes;
    if (last.usedBytes < this.#nvram.segmentBytes) {
      this.region.view.setUint32(end, 0, true);
      declared += 4;
    }
    this.#nvram.wrote(at, declared);
  }

  /** The segment with `ordinal`, or undefined. */
  get(ordinal: number): LogSegment | undefined {
    const index = this.indexOf(ordinal);
    return index < 0 ? undefined : this.segments[index];
  }

  indexOf(ordinal: number): number {
    const first = this.segments[0];
    if (first === undefined) return -1;
    const guess = ordinal - first.ordinal;
    if (this.segments[guess]?.ordinal === ordinal) return guess;
    return this.segments.findIndex((segment) => segment.ordinal === ordinal);
  }

  /** The first segment with an ordinal above `ordinal`, or undefined. */
  after(ordinal: number): LogSegment | undefined {
    const index = this.indexOf(ordinal);
    if (index >= 0) return this.segments[index + 1];
    return this.segments.find((segment) => segment.ordinal > ordinal);
  }

  /**
   * Reads the header of the record at `place`, moving `place` over padding and into the next segment as needed. Returns the
   * record's place in memory, or -1 at the log's end. All segments from `place` on are in the cache.
   */
  recordAt(place: LogPlace, header: RecordHeader): number {
    let segment = this.get(place.ordinal);
    if (segment === undefined) {
      segment = this.after(place.ordinal);
      if (segment === undefined) return -1;
      place.ordinal = segment.ordinal;
      place.offset = logLimits.segmentHeaderBytes;
    }
    for (;;) {
      if (place.offset < segment.usedBytes) {
        const at = segment.base + place.offset;
        if (this.region.view.getUint32(at, true) === recordMagic) {
          readHeader(this.region, at, header);
          return at;
        }
        place.offset = alignUp(place.offset + 1, batchAlignBytes);
        continue;
      }
      const next = this.after(segment.ordinal);
      if (next === undefined) return -1;
      segment = next;
      place.ordinal = segment.ordinal;
      place.offset = logLimits.segmentHeaderBytes;
    }
  }

  /** A copy to the shelf begins. */
  pin(segment: LogSegment): void {
    assert(!segment.pinned && segment.slot >= 0, "a segment of the cache is copied by one at a time");
    segment.pinned = true;
  }

  unpin(segment: LogSegment): void {
    segment.pinned = false;
    if (segment.gone) this.#giveBack(segment);
  }

  /** Visits every record from `place` on; the header is the same object each time. */
  forEachFrom(place: LogPlace, visit: (header: RecordHeader) => void): void {
    const header = emptyHeader();
    const walk = { ...place };
    for (let at = this.recordAt(walk, header); at >= 0; at = this.recordAt(walk, header)) {
      visit(header);
      walk.offset += header.totalBytes;
    }
  }

  /** Takes a segment out of the list and gives back its slot and its place on the shelf, when no copy needs them any more. */
  remove(segment: LogSegment): void {
    const index = this.segments.indexOf(segment);
    if (index >= 0) this.segments.splice(index, 1);
    segment.gone = true;
    if (!segment.pinned) this.#giveBack(segment);
  }

  #giveBack(segment: LogSegment): void {
    if (segment.slot >= 0) this.#nvram.release(segment.slot);
    segment.slot = -1;
    if (segment.shelfSlot !== null) this.onShelfSlotFree(segment.shelfSlot);
    segment.shelfSlot = null;
    this.onUnplaced();
  }

  /** The segment has a place on the shelf, for a copy that begins. */
  placed(segment: LogSegment, slot: LogSlot): void {
    segment.shelfSlot = slot;
    this.onUnplaced();
  }

  /** Gives the segment's cache slot back; the segment lives on on the shelf. */
  leaveCache(segment: LogSegment): void {
    if (segment.slot >= 0) this.#nvram.release(segment.slot);
    segment.slot = -1;
  }

  #newSegment(slot: number, firstSeq: number, durableSeq: number): LogSegment {
    const base = this.#nvram.baseOf(slot);
    const segment: LogSegment = {
      ordinal: this.nextOrdinal++,
      firstSeq,
      lastSeq: firstSeq - 1,
      firstWallMs: 0,
      slot,
      base,
      usedBytes: logLimits.segmentHeaderBytes,
      sealed: false,
      shelfSlot: null,
      shelfBytes: 0,
      pinned: false,
      gone: false,
    };
    const header = { groupId: this.#groupId, ordinal: segment.ordinal, firstSeq, durableSeq };
    encodeSegmentHeader(this.region, base, header, this.#groupTag, this.#digests);
    this.#wipeMagic(base + logLimits.segmentHeaderBytes);
    this.#nvram.wrote(base, logLimits.segmentHeaderBytes + 4);
    this.segments.push(segment);
    this.onUnplaced();
    return segment;
  }

  #wipeMagic(at: number): void {
    this.region.view.setUint32(at, 0, true);
    this.#nvram.wrote(at, 4);
  }
}
