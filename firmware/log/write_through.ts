/**
 * Write-through: a record is durable in a log segment on the shelf before its acknowledgement, because the cache's own copy no
 * longer counts (battery fault, failed persist).
 *
 *     idle ──begin──▶ starting: the shelf learns through which seq the cache's copy is valid ──▶ active
 *     active: each batch is copied to the shelf, flushed, then reported as persisted
 *     active ──end (the battery is good again)──▶ ending: the cache is persisted, then the shelf learns "open" ──▶ idle
 *     ending ──begin (another fault)──▶ starting
 *     keep: the mode begins, or stays, whatever becomes of the cache, until release (a group that is about to leave for the partner)
 *
 * Invariants:
 * - From the fault on, nothing is reported as persisted by the cache alone.
 * - Before the shelf learns "open" the cache has everything that was reported, and while the mode ends it gets everything that is:
 *   a start that finds "open" believes that it needs no copy on the shelf, and goes on without one that cannot be read.
 * - What a failed flush covered is written again before the next flush counts.
 * - No record is ever appended to a page that a copy has taken along.
 * - Dirty data that was acknowledged before the fault is brought to the shelf first; until then it is `atRiskBytes`.
 */
import type { Clock } from "../../hal/api/clock.ts";
import { alignUp } from "../codec/bytes.ts";
import type { GroupStore, StoreDone, StoreError } from "../store/store.ts";
import { logLimits } from "./limits.ts";
import type { LogRoom } from "./log_room.ts";
import type { LogSegment } from "./segment.ts";
import type { LogPlace } from "./segment_list.ts";
import type { WriteLog, WriteThrough } from "./write_log.ts";

/** Makes durable in the group's root how far the cache's copy is valid; "open": as far as it goes. */
export type SaveValidity = (validThrough: number | "open", done: (error: StoreError | null) => void) => void;

const retryMs = 1000;

interface Written {
  readonly segment: LogSegment;
  readonly fromBytes: number;
}

export class ShelfWriteThrough implements WriteThrough {
  readonly #log: WriteLog;
  readonly #store: GroupStore;
  readonly #room: LogRoom;
  readonly #clock: Clock;
  readonly #destagedPlace: LogPlace;
  readonly #saveValidity: SaveValidity;
  active = false;
  /** The cache is good again; as soon as the shelf knows, the mode ends, unless it begins anew before. */
  #ending = false;
  #kept = false;
  /** Counts begins and ends: what an earlier one learns of the shelf late changes nothing. */
  #turn = 0;
  /** Whom to tell of the end: of the one under way, or of the one that waits for `release`; null: nobody wants it. */
  #ended: (() => void) | null = null;
  #validitySaved = false;
  #token = 0;
  #running = false;
  #closed = false;
  /** What was written to the shelf since its last flush, and from where on. */
  #unflushed: Written[] = [];
  /** What the flush under way covers. */
  #flushing: readonly Written[] = [];
  onTrouble: (error: StoreError) => void = () => {};
  onSafe: () => void = () => {};
  /** A segment is not needed by a copy any more. */
  onCopied: () => void = () => {};
  #safe = true;

  constructor(
    log: WriteLog,
    store: GroupStore,
    room: LogRoom,
    clock: Clock,
    destagedPlace: LogPlace,
    saveValidity: SaveValidity,
  ) {
    this.#log = log;
    this.#store = store;
    this.#room = room;
    this.#clock = clock;
    this.#destagedPlace = destagedPlace;
    this.#saveValidity = saveValidity;
  }

  close(): void {
    this.#closed = true;
  }

  /** The store is at work for it. */
  get busy(): boolean {
    return this.#running;
  }

  /** The mode is on, and the shelf has everything that was acknowledged. */
  get holdsAll(): boolean {
    return this.active && !this.#ending && this.#validitySaved && this.#safe;
  }

  /** Acknowledged bytes that only the failed cache holds. */
  get atRiskBytes(): number {
    if (this.#safe) return 0;
    let total = 0;
    for (const segment of this.#log.list.segments) {
      if (segment.ordinal < this.#destagedPlace.ordinal) continue;
      total += Math.max(0, segment.usedBytes - this.#flushedBytes(segment));
    }
    return total;
  }

  /** How far the segment's copy on the shelf is durable. */
  #flushedBytes(segment: LogSegment): number {
    const copying = [...this.#flushing, ...this.#unflushed].filter((written) => written.segment === segment);
    return copying.reduce((bytes, { fromBytes }) => Math.min(bytes, fromBytes), segment.shelfBytes);
  }

  begin(): void {
    this.#ended = null;
    this.#start();
  }

  /** The cache is to hold everything again: its copy becomes good. `done` when the mode has ended; never when it begins anew. */
  end(done: () => void): void {
    if (!this.active) return done();
    this.#ended = done;
    if (!this.#kept) this.#finish();
  }

  /** From now on to `release` the shelf has everything before it is acknowledged, and its root says so: `holdsAll` comes, and stays. */
  keep(): void {
    this.#kept = true;
    if (!this.active) this.#ended = () => {};
    this.#start();
  }

  release(): void {
    this.#kept = false;
    if (this.#ended !== null) this.#finish();
  }

  #start(): void {
    if (this.#closed || (this.active && !this.#ending)) return;
    this.#turn++;
    this.active = true;
    this.#ending = false;
    this.#validitySaved = false;
    this.#safe = false;
    this.#token = this.#log.pendingToken;
    this.#log.list.startBatch();
    this.#run();
  }

  #finish(): void {
    this.#ending = true;
    const turn = ++this.#turn;
    this.#persistCache(() => {
      if (turn === this.#turn) this.#sayOpen(turn);
    });
  }

  /** Then the cache has everything too. One that fails begins the mode anew, which reports it. */
  #persistCache(done: () => void): void {
    const { nvram } = this.#log;
    nvram.persistAll((outcome) => {
      if (outcome === "failed") nvram.fail();
      if (this.#closed) return;
      if (nvram.failed) this.#log.cacheFailed();
      else done();
    });
  }

  #sayOpen(turn: number): void {
    this.#saveValidity("open", (error) => {
      if (turn !== this.#turn || this.#closed) return;
      if (error !== null) {
        this.onTrouble(error);
        this.#clock.after(retryMs, () => {
          if (turn === this.#turn && !this.#closed) this.#sayOpen(turn);
        });
        return;
      }
      this.#ending = false;
      this.active = false;
      const ended = this.#ended;
      this.#ended = null;
      ended?.();
    });
  }

  want(token: number): void {
    this.#token = Math.max(this.#token, token);
    this.#run();
  }

  #run(): void {
    if (this.#running || this.#closed) return;
    this.#running = true;
    if (!this.#validitySaved) {
      this.#validitySaved = true;
      this.#saveValidity(this.#log.persistedSeq, (error) => {
        this.#running = false;
        if (error === null) return this.#run();
        this.#validitySaved = false;
        this.#retry(error);
      });
      return;
    }
    const token = this.#token;
    const behind = this.#log.list.segments.filter((segment) => this.#isBehind(segment));
    this.#copyAll(behind, 0, token);
  }

  /** One that the room copies is at home to its end. */
  #isBehind(segment: LogSegment): boolean {
    if (segment.slot < 0 || segment.gone || segment.pinned) return false;
    return segment.ordinal >= this.#destagedPlace.ordinal && segment.shelfBytes < segment.usedBytes;
  }

  #copyAll(behind: readonly LogSegment[], index: number, token: number): void {
    const segment = behind[index];
    if (segment === undefined) return this.#copyCell(token);
    // It may have come home since the list was made.
    if (!this.#isBehind(segment)) return this.#copyAll(behind, index + 1, token);
    this.#log.list.pin(segment);
    this.#copy(segment, (error) => {
      this.#log.list.unpin(segment);
      this.onCopied();
      if (error !== null) return this.#failed(error);
      this.#copyAll(behind, index + 1, token);
    });
  }

  #copy(segment: LogSegment, done: StoreDone): void {
    if (segment.shelfSlot === null) {
      this.#room.allocateSlot((slot) => {
        if (slot === null) return done({ code: "no-space", text: "no room on the shelf for the write log" });
        this.#log.list.placed(segment, slot);
        this.#copy(segment, done);
      });
      return;
    }
    const from = segment.shelfBytes;
    const to = alignUp(segment.usedBytes, 4096);
    // The page counts as copied to its end, also when the mode ends meanwhile: what comes next goes behind it.
    this.#log.list.startBatch();
    this.#store.writeLogSlot(segment.shelfSlot, from, this.#sources(segment, from, to), (error) => {
      if (error !== null) return done(error);
      this.#unflushed.push({ segment, fromBytes: from });
      segment.shelfBytes = to;
      done(null);
    });
  }

  /** Commit cells change at any time: the pages before the records are copied, so that a write under way keeps its bytes. */
  #sources(segment: LogSegment, from: number, to: number): Uint8Array[] {
    const { bytes } = this.#log.list.region;
    const split = Math.min(to, Math.max(from, logLimits.segmentHeaderBytes));
    const sources = [
      bytes.slice(segment.base + from, segment.base + split),
      bytes.subarray(segment.base + split, segment.base + to),
    ];
    return sources.filter((source) => source.byteLength > 0);
  }

  /** The commit cell of a golden side changes without a record: its page goes along. */
  #copyCell(token: number): void {
    const cell = this.#log.cellBytesAt;
    const segment = cell === null ? undefined : this.#log.list.get(cell.ordinal);
    if (cell === null || segment === undefined || segment.shelfSlot === null || segment.slot < 0 || segment.pinned)
      return this.#flush(token);
    const from = cell.offset - (cell.offset % 4096);
    this.#log.list.pin(segment);
    this.#store.writeLogSlot(segment.shelfSlot, from, this.#sources(segment, from, from + 4096), (error) => {
      this.#log.list.unpin(segment);
      this.onCopied();
      if (error !== null) return this.#failed(error);
      this.#flush(token);
    });
  }

  #flush(token: number): void {
    const flushed = this.#unflushed;
    this.#flushing = flushed;
    this.#unflushed = [];
    this.#store.flushLog((error) => {
      this.#flushing = [];
      if (error !== null) {
        // A failed flush may have let go of what was written before it: all of it is written again.
        for (const { segment, fromBytes } of flushed) segment.shelfBytes = Math.min(segment.shelfBytes, fromBytes);
        return this.#failed(error);
      }
      this.#running = false;
      if (this.#closed) return;
      // The mode has begun anew meanwhile: the shelf must say so before anything counts.
      if (!this.#validitySaved) return this.#run();
      if (!this.#safe) {
        this.#safe = true;
        this.onSafe();
      }
      if (this.active && !this.#ending) this.#log.durableThrough(token);
      else this.#persistCache(() => this.#log.durableThrough(token));
      if (this.#token > token) this.#run();
    });
  }

  #failed(error: StoreError): void {
    this.#running = false;
    this.#retry(error);
  }

  /** Nothing is acknowledged meanwhile; the hosts wait. */
  #retry(error: StoreError): void {
    this.onTrouble(error);
    if (this.#closed) return;
    this.#clock.after(retryMs, () => this.#run());
  }
}
