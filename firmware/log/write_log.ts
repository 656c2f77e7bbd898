/**
 * The write log of one consistency group: admission, persistence, commit.
 *
 * A write's story: `admit` copies the payload into the open segment and numbers the record; one persist per turn of the event
 * loop makes all records of the turn durable; `commitSeq` passes them once every copy that the policy demands has them; commit
 * enters them into the index, in order, and completes their requests.
 *
 * Invariants:
 * - `destagedSeq <= commitSeq <= persistedSeq <= headSeq`; on a golden side also `commitSeq <=` what the primary said.
 * - The index shows exactly the group at `commitSeq` above `destagedSeq`; nothing beyond it is ever read by a host.
 * - Every opening for writing starts a new timeline by an opening record; a log only ever grows, and a newer timeline of the
 *   primary that forks off below `headSeq` drops the rest of the older one, never at or below `commitSeq`.
 */
import type { Clock } from "../../hal/api/clock.ts";
import type { Digests } from "../../hal/api/digests.ts";
import type { Nvram, NvramClient } from "../cache/nvram.ts";
import { assert } from "../codec/assert.ts";
import type { LineageEntry } from "../peer/lineage.ts";
import type { BlockError, BlockRequest } from "../volume/block_request.ts";
import { logLimits, recordPayloadBytesFor } from "./limits.ts";
import { LogIndex } from "./log_index.ts";
import {
  emptyHeader,
  encodeAround,
  headerBytesFor,
  isAsOf,
  type RecordFields,
  type RecordHeader,
  RecordKind,
  recordBytesFor,
  type TimelineWords,
  timelineWords,
} from "./record.ts";
import { indexRecord } from "./record_blocks.ts";
import { encodeCell } from "./segment.ts";
import { type LogPlace, SegmentList } from "./segment_list.ts";

/** Sets pool space aside for records until they are destaged. */
export interface SpaceLedger {
  /** False: the pool cannot promise the space now. */
  take(kind: number, startLba: number, blockCount: number, seq: number): boolean;
  /** The record is at home, or has been dropped. */
  release(header: RecordHeader): void;
}

/** Makes records durable on the shelf when the cache cannot (see `shelf_copies.ts`). */
export interface WriteThrough {
  readonly active: boolean;
  /** Copies everything appended so far; then calls `durableThrough(token)` of the log. */
  want(token: number): void;
  /** The cache has failed: bring what is not at home to the shelf before anything else is acknowledged. */
  begin(): void;
}

export type Admission = "admitted" | "busy" | "no-space";

export interface WriteLogOptions {
  readonly clock: Clock;
  readonly digests: Digests;
  readonly nvram: Nvram;
  readonly groupId: string;
  readonly groupTag: number;
  readonly ledger: SpaceLedger;
}

interface PersistMark {
  readonly token: number;
  readonly records: number;
  readonly seq: number;
  readonly heardSeq: number;
}

export class WriteLog implements NvramClient {
  readonly clock: Clock;
  readonly digests: Digests;
  readonly nvram: Nvram;
  readonly groupId: string;
  readonly groupTag: number;
  readonly list: SegmentList;
  readonly index = new LogIndex();
  readonly recordPayloadBytes: number;
  readonly ledger: SpaceLedger;
  writeThrough: WriteThrough | null = null;

  headSeq = 0;
  persistedSeq = 0;
  commitSeq = 0;
  destagedSeq = 0;
  /** The commitSeq heard from the primary (golden side); Infinity on a primary. */
  heardSeq = Number.POSITIVE_INFINITY;
  #durableHeardSeq = Number.POSITIVE_INFINITY;
  appendedRecords = 0;
  persistedRecords = 0;
  commitWallMs: number | null = null;
  /** What recovery knows to have been committed before the stop; the records beyond it are undecided until then. */
  knownCommitSeq = 0;
  /** Committed up to this place. */
  readonly commitPlace: LogPlace = { ordinal: 0, offset: 0 };
  #committedRecords = 0;
  #lineage: LineageEntry[] = [];
  #timeline: TimelineWords = { w0: 0, w1: 0, w2: 0, w3: 0 };
  #required = new Map<string, number>();
  #waiters: BlockRequest[] = [];
  #waiterSeqs: number[] = [];
  #waiterAt = 0;
  #marks: PersistMark[] = [];
  #token = 0;
  #persistWanted = false;
  #admittedQueued = false;
  #cellWhich = 0;
  #cellOrdinal = -1;
  #cellWanted = false;
  /** The cell that the persist under way may be reading, or -1: a medium that reads memory while it writes must not find it changing. */
  #cellInFlight = -1;
  /** Where the newest commit cell was written; a write-through copy takes it along. */
  cellBytesAt: LogPlace | null = null;
  #header: RecordHeader = emptyHeader();
  /** Records that are not block data: told to the group when they are committed. */
  onSpecial: (header: RecordHeader, at: number) => void = () => {};
  /** The request's record is committed. */
  onRequestCommitted: (request: BlockRequest) => void = (request) => request.onDone(request);
  onFailed: () => void = () => {};
  /** Records above `headSeq` have been dropped: nothing that waited for them will come about. */
  onDropped: () => void = () => {};
  readonly #persistedListeners: (() => void)[] = [];
  readonly #committedListeners: (() => void)[] = [];
  readonly #destagedListeners: (() => void)[] = [];
  readonly #admittedListeners: (() => void)[] = [];

  constructor(options: WriteLogOptions) {
    this.clock = options.clock;
    this.digests = options.digests;
    this.nvram = options.nvram;
    this.groupId = options.groupId;
    this.groupTag = options.groupTag;
    this.ledger = options.ledger;
    this.list = new SegmentList(options.nvram, options.digests, options.groupId, options.groupTag);
    this.recordPayloadBytes = recordPayloadBytesFor(options.nvram.segmentBytes);
  }

  lineage(): readonly LineageEntry[] {
    return this.#lineage;
  }

  get timeline(): string {
    return this.#lineage[this.#lineage.length - 1]?.timeline ?? "0".repeat(32);
  }

  get timelineWords(): TimelineWords {
    return this.#timeline;
  }

  /** The timeline that `seq` was written on, or null when the lineage begins later. */
  timelineOf(seq: number): string | null {
    for (let index = this.#lineage.length - 1; index >= 0; index--) {
      const entry = this.#lineage[index]!;
      if (entry.firstSeq <= seq) return entry.timeline;
    }
    return null;
  }

  setLineage(lineage: readonly LineageEntry[]): void {
    this.#lineage = [...lineage];
    this.#timeline = timelineWords(this.timeline);
  }

  /** Adds the timeline that an opening record starts, dropping what lay beyond its parent. */
  enterTimeline(timeline: string, firstSeq: number): void {
    this.setLineage([...this.#lineage.filter((entry) => entry.firstSeq < firstSeq), { timeline, firstSeq }]);
  }

  /**
   * Admits a part of a host write (or a zero or unmap) as one record. The payload's bytes from `skipBytes` on are copied into the
   * cache; this is the one copy between socket and cache line.
   */
  admitBlocks(
    kind: RecordKind,
    volume: number,
    startLba: number,
    blockCount: number,
    payload: readonly Uint8Array[],
    skipBytes: number,
  ): Admission {
    const carried = kind === RecordKind.write;
    if (!carried && this.index.extentCount >= logLimits.extentsMax) return "busy";
    const payloadBytes = carried ? blockCount * 512 : 0;
    const seq = this.headSeq + 1;
    const at = this.list.place(recordBytesFor(kind, startLba, payloadBytes), seq, this.persistedSeq);
    if (at < 0) return "busy";
    if (!this.ledger.take(kind, startLba, blockCount, seq)) return "no-space";
    if (carried)
      copyPayload(
        payload,
        skipBytes,
        payloadBytes,
        this.list.region.bytes,
        at + headerBytesFor(kind, startLba, payloadBytes),
      );
    this.#write(at, kind, volume, startLba, blockCount, payloadBytes, null, 0);
    return "admitted";
  }

  /** Admits a record that concerns the group; false: busy. */
  admitSpecial(kind: RecordKind, payload: Uint8Array, parent: { words: TimelineWords; seq: number } | null): boolean {
    assert(payload.byteLength <= logLimits.controlPayloadBytes, "a control record is bounded");
    const at = this.list.place(recordBytesFor(kind, 0, payload.byteLength), this.headSeq + 1, this.persistedSeq);
    if (at < 0) return false;
    this.list.region.bytes.set(payload, at + headerBytesFor(kind, 0, payload.byteLength));
    this.#write(at, kind, 0, 0, 0, payload.byteLength, parent?.words ?? null, parent?.seq ?? 0);
    return true;
  }

  /** Starts timeline `timeline` by an opening record behind the newest one; false: busy. */
  open(timeline: string): boolean {
    const parent = { words: this.#timeline, seq: this.headSeq };
    const before = this.#lineage;
    this.enterTimeline(timeline, this.headSeq + 1);
    if (this.admitSpecial(RecordKind.opening, new Uint8Array(0), parent)) return true;
    this.setLineage(before);
    return false;
  }

  /** Completes `request` when everything admitted so far is committed. */
  await(request: BlockRequest): void {
    if (this.commitSeq >= this.headSeq) {
      this.onRequestCommitted(request);
      return;
    }
    this.#waiters.push(request);
    this.#waiterSeqs.push(this.headSeq);
  }

  get waitingRequests(): number {
    return this.#waiters.length - this.#waiterAt;
  }

  #write(
    at: number,
    kind: RecordKind,
    volume: number,
    startLba: number,
    blockCount: number,
    payloadBytes: number,
    parent: TimelineWords | null,
    asOfSeq: number,
  ): void {
    const seq = ++this.headSeq;
    const fields: RecordFields = {
      kind,
      volume,
      timeline: this.#timeline,
      firstSeq: seq,
      lastSeq: seq,
      startLba,
      blockCount,
      wallMs: Math.max(0, Math.floor(this.clock.wallMs())),
      asOfSeq,
      commitSeq: this.commitSeq,
      parent,
      groupTag: this.groupTag,
    };
    const totalBytes = encodeAround(this.list.region, at, fields, payloadBytes, this.digests);
    this.recordAppended(at, totalBytes, seq, fields.wallMs);
  }

  /** Accounts for a record that stands at `at` (from `list.place`), complete and checked. */
  recordAppended(at: number, totalBytes: number, lastSeq: number, wallMs: number): void {
    this.list.appended(at, totalBytes, lastSeq, wallMs);
    this.headSeq = Math.max(this.headSeq, lastSeq);
    this.appendedRecords++;
    if (this.list.last!.ordinal !== this.#cellOrdinal) this.#cellWanted = true;
    this.wantPersist();
    if (!this.#admittedQueued) {
      this.#admittedQueued = true;
      this.clock.defer(this.#tellAdmitted);
    }
  }

  #tellAdmitted = (): void => {
    this.#admittedQueued = false;
    for (const listener of this.#admittedListeners) listener();
  };

  /** Asks for one persist at the end of this turn. */
  wantPersist(): void {
    if (this.#persistWanted) return;
    this.#persistWanted = true;
    this.clock.defer(this.#startPersist);
  }

  #startPersist = (): void => {
    this.#persistWanted = false;
    if (this.#cellWanted && this.heardSeq !== Number.POSITIVE_INFINITY) this.#writeCell();
    const token = ++this.#token;
    if (this.#marks.length === 0) this.#cellInFlight = this.#cellWhich;
    this.#marks.push({ token, records: this.appendedRecords, seq: this.headSeq, heardSeq: this.heardSeq });
    if (this.nvram.flushed || this.writeThrough?.active === true) this.list.startBatch();
    if (this.writeThrough?.active === true) this.writeThrough.want(token);
    else this.nvram.wantPersist(this, token);
  };

  /** The cache has persisted the mark `token`. That counts only while the cache itself does. */
  persisted(token: number): void {
    if (this.writeThrough?.active !== true) this.durableThrough(token);
  }

  /** Everything appended before the mark `token` is durable. */
  durableThrough(token: number): void {
    while (this.#marks.length > 0 && this.#marks[0]!.token <= token) {
      const mark = this.#marks.shift()!;
      this.persistedRecords = Math.max(this.persistedRecords, mark.records);
      this.persistedSeq = Math.max(this.persistedSeq, Math.min(mark.seq, this.headSeq));
      this.#durableHeardSeq = mark.heardSeq;
    }
    // What waits for the next persist is under way now: all that was stored so far.
    this.#cellInFlight = this.#marks.length > 0 ? this.#cellWhich : -1;
    for (const listener of this.#persistedListeners) listener();
    this.advanceCommit();
  }

  cacheFailed(): void {
    this.onFailed();
    this.writeThrough?.begin();
  }

  /** The newest mark that waits: what a write-through copy must satisfy. */
  get pendingToken(): number {
    return this.#marks[this.#marks.length - 1]?.token ?? 0;
  }

  /** Moves commitSeq as far as every required copy allows, and does what commit means for each record passed. */
  advanceCommit(): void {
    const limit = this.#commitLimit();
    const before = this.commitSeq;
    const recordsBefore = this.#committedRecords;
    const place = this.commitPlace;
    const header = this.#header;
    while (this.#committedRecords < this.persistedRecords) {
      const at = this.list.recordAt(place, header);
      assert(at >= 0, "a persisted record is in the log");
      if (header.lastSeq > limit) break;
      place.offset += header.totalBytes;
      this.#committedRecords++;
      if (!isAsOf(header.kind)) {
        this.commitSeq = header.lastSeq;
        this.commitWallMs = header.wallMs;
      }
      if (!indexRecord(this.index, this.list.region.view, at, header, this.#committedRecords - 1))
        this.onSpecial(header, at);
    }
    if (this.commitSeq > before) this.#completeRequests();
    if (this.#committedRecords > recordsBefore) for (const listener of this.#committedListeners) listener();
  }

  #commitLimit(): number {
    let limit = Math.min(this.persistedSeq, this.#durableHeardSeq);
    for (const seq of this.#required.values()) if (seq < limit) limit = seq;
    return limit;
  }

  #completeRequests(): void {
    while (this.#waiterAt < this.#waiters.length && this.#waiterSeqs[this.#waiterAt]! <= this.commitSeq) {
      const request = this.#waiters[this.#waiterAt++]!;
      this.onRequestCommitted(request);
    }
    if (this.#waiterAt === this.#waiters.length) {
      this.#waiters.length = 0;
      this.#waiterSeqs.length = 0;
      this.#waiterAt = 0;
    } else if (this.#waiterAt > 4096) {
      this.#waiters.splice(0, this.#waiterAt);
      this.#waiterSeqs.splice(0, this.#waiterAt);
      this.#waiterAt = 0;
    }
  }

  /** Ends the requests that wait for a record above `seq`: it has been dropped, or nobody is left to see its fate. */
  abandonRequests(seq: number, error: BlockError): void {
    let keep = this.#waiters.length;
    while (keep > this.#waiterAt && this.#waiterSeqs[keep - 1]! > seq) keep--;
    const ended = this.#waiters.splice(keep);
    this.#waiterSeqs.splice(keep);
    for (const request of ended) {
      request.error = error;
      request.onDone(request);
    }
  }

  require(peer: string, receivedSeq: number | null): void {
    if (receivedSeq === null) this.#required.delete(peer);
    else this.#required.set(peer, receivedSeq);
    this.advanceCommit();
  }

  /**
   * Lifts every requirement: what is durable here is committed (recovery, takeover, the end of a role). A request that waits for
   * more than that now gets no acknowledgement any more: a required peer may lack its record, and may go on without it.
   */
  commitAllDurable(): void {
    this.advanceCommit();
    this.abandonRequests(this.commitSeq, "not-ready");
    this.#required.clear();
    this.#setHeard(Number.POSITIVE_INFINITY);
    this.advanceCommit();
  }

  /** Golden side: from now on only what the primary has committed is committed here; `seq`: what is known of it. */
  followPrimary(seq: number): void {
    this.#required.clear();
    this.#setHeard(Math.max(seq, this.commitSeq));
    this.advanceCommit();
  }

  /** What persists under way have noted as heard belongs to the former role, or to a timeline that was left. */
  #setHeard(seq: number): void {
    this.heardSeq = seq;
    this.#durableHeardSeq = seq;
    this.#marks = this.#marks.map((mark) => ({ ...mark, heardSeq: seq }));
  }

  /** How many records, counted as `appendedRecords` counts them, are committed. */
  get committedRecords(): number {
    return this.#committedRecords;
  }

  /** The primary's commitSeq, kept in a cell beside the records so that a restart does not show less. */
  hearCommit(seq: number): void {
    if (this.heardSeq === Number.POSITIVE_INFINITY || seq <= this.heardSeq) return;
    this.heardSeq = seq;
    this.#cellWanted = true;
    this.wantPersist();
  }

  /**
   * Every segment carries the newest commitSeq heard while it was the last one: older segments may go at any time. Of its two cells
   * one is always whole on the medium: the one that is being written is left alone, however often the other is written meanwhile.
   */
  #writeCell(): void {
    this.#cellWanted = false;
    const last = this.list.last;
    // A segment that has left the cache was at home to its end, and so is what was heard of it.
    if (last === undefined || last.slot < 0) return;
    const inFlight = last.ordinal === this.#cellOrdinal ? this.#cellInFlight : -1;
    this.#cellWhich = 1 - (inFlight < 0 ? this.#cellWhich : inFlight);
    this.#cellOrdinal = last.ordinal;
    const cell = { commitSeq: this.heardSeq, timeline: this.timeline, groupId: this.groupId };
    const at = encodeCell(this.list.region, last.base, this.#cellWhich, cell, this.digests);
    this.nvram.wrote(last.base + at, 64);
    this.cellBytesAt = { ordinal: last.ordinal, offset: at };
  }

  /** The destager has brought everything up to `seq` home, durably. */
  destaged(seq: number): void {
    assert(seq >= this.destagedSeq && seq <= this.commitSeq, "destage follows commit");
    this.destagedSeq = seq;
    for (const listener of this.#destagedListeners) listener();
  }

  /**
   * Drops the records above `seq` (golden side: a newer timeline of the primary does not have them). None of them is committed.
   */
  dropAbove(seq: number): void {
    assert(seq >= this.commitSeq, "a committed record is never dropped");
    this.headSeq = Math.min(this.headSeq, seq);
    this.persistedSeq = Math.min(this.persistedSeq, seq);
    const header = this.#header;
    const place = { ...this.commitPlace };
    let records = this.#committedRecords;
    let at = this.list.recordAt(place, header);
    for (; at >= 0 && header.lastSeq <= seq; at = this.list.recordAt(place, header)) {
      place.offset += header.totalBytes;
      records++;
    }
    for (const walk = { ...place }; at >= 0; at = this.list.recordAt(walk, header)) {
      this.ledger.release(header);
      walk.offset += header.totalBytes;
    }
    this.#cutAt(place);
    this.appendedRecords = records;
    this.persistedRecords = Math.min(this.persistedRecords, records);
    this.#marks = this.#marks.map((mark) => ({
      ...mark,
      records: Math.min(mark.records, records),
      seq: Math.min(mark.seq, seq),
    }));
    // The timeline that was left had committed more than it brought here; its successor has not.
    if (this.heardSeq !== Number.POSITIVE_INFINITY)
      this.#setHeard(Math.max(this.commitSeq, Math.min(this.heardSeq, seq)));
    this.abandonRequests(seq, "not-ready");
    this.onDropped();
  }

  /** Ends the log at `place`: later appends go to a new segment; the cut ones keep their bytes until they are reused. */
  #cutAt(place: LogPlace): void {
    const segment = this.list.get(place.ordinal);
    if (segment === undefined) return;
    for (const later of this.list.segments.filter((candidate) => candidate.ordinal > place.ordinal))
      this.list.remove(later);
    if (place.offset < segment.usedBytes) {
      segment.usedBytes = place.offset;
      segment.lastSeq = Math.min(segment.lastSeq, this.headSeq);
    }
    segment.sealed = true;
  }

  /** Empties the log: the group stands at `seq` of `lineage`, everything of it is at home (or is going to be replaced). */
  reset(lineage: readonly LineageEntry[], seq: number): void {
    for (const segment of [...this.list.segments]) this.list.remove(segment);
    this.index.clear();
    this.setLineage(lineage);
    this.headSeq = seq;
    this.persistedSeq = seq;
    this.commitSeq = seq;
    this.destagedSeq = seq;
    this.appendedRecords = 0;
    this.persistedRecords = 0;
    this.#committedRecords = 0;
    this.commitPlace.ordinal = 0;
    this.commitPlace.offset = 0;
    this.#marks = this.#marks.map((mark) => ({ ...mark, records: 0, seq }));
    this.#required.clear();
    if (this.heardSeq !== Number.POSITIVE_INFINITY) this.#setHeard(seq);
    this.abandonRequests(-1, "not-ready");
    this.onDropped();
  }

  /** The group goes elsewhere, with its segments on the shelf: as `reset`, but those stay the group's. Nothing of it is under way. */
  leave(): void {
    for (const segment of this.list.segments) segment.shelfSlot = null;
    this.reset([], 0);
  }

  /** What recovery found: the segments are in `list`; the records behind `committed` were not yet committed. */
  adopt(state: {
    readonly headSeq: number;
    readonly commitSeq: number;
    readonly records: number;
    readonly committedRecords: number;
    readonly commitPlace: LogPlace;
  }): void {
    this.headSeq = state.headSeq;
    this.persistedSeq = state.headSeq;
    this.commitSeq = state.commitSeq;
    this.appendedRecords = state.records;
    this.persistedRecords = state.records;
    this.#committedRecords = state.committedRecords;
    this.commitPlace.ordinal = state.commitPlace.ordinal;
    this.commitPlace.offset = state.commitPlace.offset;
  }

  onPersisted(listener: () => void): void {
    this.#persistedListeners.push(listener);
  }

  onCommitted(listener: () => void): void {
    this.#committedListeners.push(listener);
  }

  onDestaged(listener: () => void): void {
    this.#destagedListeners.push(listener);
  }

  onAdmitted(listener: () => void): void {
    this.#admittedListeners.push(listener);
  }
}

/** Copies `byteCount` bytes of the payload, from `skipBytes` on, to `into[at...]`. */
export function copyPayload(
  payload: readonly Uint8Array[],
  skipBytes: number,
  byteCount: number,
  into: Uint8Array,
  at: number,
): void {
  let skip = skipBytes;
  let left = byteCount;
  let to = at;
  for (const slice of payload) {
    if (skip >= slice.byteLength) {
      skip -= slice.byteLength;
      continue;
    }
    const take = Math.min(left, slice.byteLength - skip);
    into.set(skip === 0 && take === slice.byteLength ? slice : slice.subarray(skip, skip + take), to);
    skip = 0;
    to += take;
    left -= take;
    if (left === 0) return;
  }
  assert(left === 0, "the payload has as many bytes as its blocks");
}
