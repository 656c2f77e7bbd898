/**
 * Write-through: a record is durable in a log segment on the shelf before its acknowledgement, because the cache's own copy no
 * longer counts (battery fault, failed persist).
 *
 *     idle ──begin──▶ starting: the shelf learns through which seq the cache's copy is valid ──▶ active
 *     active: each batch is copied to the shelf, flushed, then reported as persisted
 *     active ──end (the battery is good again, everything in the cache persisted)──▶ ending: the shelf learns "open" ──▶ idle
 *
 * Invariants:
 * - From the fault on, nothing is reported as persisted by the cache alone.
 * - Dirty data that was acknowledged before the fault is brought to the shelf first; until then it is `atRiskBytes`.
 */
import type { Clock } from "../../hal/api/clock.ts";
import { alignUp } from "../codec/bytes.ts";
import type { GroupStore, StoreError } from "../store/store.ts";
import type { LogSegment } from "./segment.ts";
import type { LogPlace } from "./segment_list.ts";
import type { WriteLog, WriteThrough } from "./write_log.ts";

/** Makes durable in the group's root how far the cache's copy is valid; "open": as far as it goes. */
export type SaveValidity = (validThrough: number | "open", done: (error: StoreError | null) => void) => void;

const retryMs = 1000;

export class ShelfWriteThrough implements WriteThrough {
  readonly #log: WriteLog;
  readonly #store: GroupStore;
  readonly #clock: Clock;
  readonly #destagedPlace: LogPlace;
  readonly #saveValidity: SaveValidity;
  active = false;
  #validitySaved = false;
  #token = 0;
  #running = false;
  #closed = false;
  onTrouble: (error: StoreError) => void = () => {};
  onSafe: () => void = () => {};
  #safe = true;

  constructor(log: WriteLog, store: GroupStore, clock: Clock, destagedPlace: LogPlace, saveValidity: SaveValidity) {
    this.#log = log;
    this.#store = store;
    this.#clock = clock;
    this.#destagedPlace = destagedPlace;
    this.#saveValidity = saveValidity;
  }

  close(): void {
    this.#closed = true;
  }

  /** Acknowledged bytes that only the failed cache holds. */
  get atRiskBytes(): number {
    if (this.#safe) return 0;
    let total = 0;
    for (const segment of this.#log.list.segments) {
      if (segment.ordinal >= this.#destagedPlace.ordinal) total += Math.max(0, segment.usedBytes - segment.shelfBytes);
    }
    return total;
  }

  begin(): void {
    if (this.active || this.#closed) return;
    this.active = true;
    this.#validitySaved = false;
    this.#safe = false;
    this.#token = this.#log.pendingToken;
    this.#log.list.startBatch();
    this.#run();
  }

  /** The cache holds everything again, durably: its copy becomes good. */
  end(done: () => void): void {
    if (!this.active) return done();
    this.#saveValidity("open", (error) => {
      if (error !== null || this.#closed) return;
      this.active = false;
      done();
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
      this.#saveValidity(this.#log.persistedSeq, (error) => {
        this.#running = false;
        if (error !== null) return this.#retry(error);
        this.#validitySaved = true;
        this.#run();
      });
      return;
    }
    const token = this.#token;
    const behind = this.#log.list.segments.filter((segment) => this.#isBehind(segment));
    this.#copy(behind, 0, token);
  }

  #isBehind(segment: LogSegment): boolean {
    return (
      segment.slot >= 0 && segment.ordinal >= this.#destagedPlace.ordinal && segment.shelfBytes < segment.usedBytes
    );
  }

  #copy(behind: readonly LogSegment[], index: number, token: number): void {
    const segment = behind[index];
    if (segment === undefined) return this.#copyCell(token);
    if (segment.shelfSlot === null) {
      this.#store.allocateLogSlot((slot) => {
        if (slot === null) return this.#failed({ code: "no-space", text: "no room on the shelf for the write log" });
        segment.shelfSlot = slot;
        this.#copy(behind, index, token);
      });
      return;
    }
    const from = segment.shelfBytes;
    const to = alignUp(segment.usedBytes, 4096);
    const bytes = this.#log.list.region.bytes.subarray(segment.base + from, segment.base + to);
    this.#store.writeLogSlot(segment.shelfSlot, from, [bytes], (error) => {
      if (error !== null) return this.#failed(error);
      segment.shelfBytes = to;
      this.#copy(behind, index + 1, token);
    });
  }

  /** The commit cell of a golden side changes without a record: its page goes along. */
  #copyCell(token: number): void {
    const cell = this.#log.cellBytesAt;
    const segment = cell === null ? undefined : this.#log.list.get(cell.ordinal);
    if (cell === null || segment === undefined || segment.shelfSlot === null || segment.slot < 0)
      return this.#flush(token);
    const from = cell.offset - (cell.offset % 4096);
    const bytes = this.#log.list.region.bytes.subarray(segment.base + from, segment.base + from + 4096);
    this.#store.writeLogSlot(segment.shelfSlot, from, [bytes], (error) => {
      if (error !== null) return this.#failed(error);
      this.#flush(token);
    });
  }

  #flush(token: number): void {
    this.#store.flushLog((error) => {
      if (error !== null) return this.#failed(error);
      this.#running = false;
      if (!this.#safe) {
        this.#safe = true;
        this.onSafe();
      }
      this.#log.persisted(token);
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
