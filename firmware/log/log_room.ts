/**
 * Room in the cache: which segments the log may let go, and spilling those that absent peers still need to the shelf.
 *
 * A segment's end of life:
 *
 *     in cache ──(destaged, no peer needs it)──▶ gone
 *     in cache ──(destaged, a peer needs it, the cache is short)──▶ copied to the shelf ──▶ on the shelf ──▶ gone
 *     past the quota, or no slot on the shelf: the peer furthest behind is asked to live by its change map instead
 *
 * Write-through may have to begin at any time, and in it nothing is acknowledged that has no place on the shelf. So the store keeps a slot
 * for every segment that is not at home and has none, and for the segment that comes next; what is spilled takes none of those.
 *
 * In write-through every segment of the cache has a copy on the shelf too. Those copies are for the hosts, not for a peer, and are
 * bounded by the cache: the quota counts what lies on the shelf alone.
 *
 * Invariants:
 * - At most the quota lies on the shelf alone, whichever way a segment's copy came there.
 * - Segments go oldest first, so that the log stays one stretch.
 * - A peer's records are let go only after its listener has made "everything allocated" durable and released it.
 */

import { alignUp } from "../codec/bytes.ts";
import type { GroupStore, LogSlot } from "../store/store.ts";
import type { LogSegment } from "./segment.ts";
import { endsBefore, type LogPlace } from "./segment_list.ts";
import type { WriteLog } from "./write_log.ts";

/** Asks the other half of the array for space; true: some has come. */
export type MoreSpace = (done: (hasCome: boolean) => void) => void;

export class LogRoom {
  readonly #log: WriteLog;
  readonly #store: GroupStore;
  readonly #moreSpace: MoreSpace;
  readonly #quotaBytes: number;
  readonly #retained = new Map<string, number>();
  /** Records before this place are at home; kept by the destager. */
  readonly #destagedPlace: LogPlace;
  #overflow: ((peer: string) => void) | null = null;
  #overflowing: string | null = null;
  #spilling: LogSegment | null = null;
  #closed = false;
  /** After a start nothing is let go before every peer has said what it still needs. */
  #frozen = true;
  readonly #listeners: (() => void)[] = [];

  constructor(log: WriteLog, store: GroupStore, moreSpace: MoreSpace, destagedPlace: LogPlace, quotaBytes: number) {
    this.#log = log;
    this.#store = store;
    this.#moreSpace = moreSpace;
    this.#destagedPlace = destagedPlace;
    this.#quotaBytes = quotaBytes;
    log.list.onShelfSlotFree = (slot: LogSlot) => store.freeLogSlot(slot);
    log.onDestaged(() => {
      log.list.onUnplaced();
      this.reclaim();
    });
  }

  retain(peer: string, seq: number): void {
    const before = this.#retained.get(peer);
    this.#retained.set(peer, seq);
    if (before !== undefined && seq > before) this.reclaim();
  }

  release(peer: string): void {
    if (this.#overflowing === peer) this.#overflowing = null;
    if (this.#retained.delete(peer)) this.reclaim();
  }

  onOverflow(listener: (peer: string) => void): void {
    this.#overflow = listener;
  }

  /** Called when room may have come about for those who heard "busy". */
  onRoom(listener: () => void): void {
    this.#listeners.push(listener);
  }

  /** Every peer's need is known now (`retain`): from here on the log lets go of what nobody needs. */
  thaw(): void {
    this.#frozen = false;
    this.reclaim();
  }

  close(): void {
    this.#closed = true;
    this.#log.list.onUnplaced = () => {};
  }

  /** From now on the store keeps slots for what is not at home. */
  keepSlots(): void {
    this.#log.list.onUnplaced = () => {
      this.#store.expectLogSlots(this.#unplaced() + 1);
    };
    this.#log.list.onUnplaced();
  }

  /** Segments that write-through would have to bring to the shelf, and that have no place there. */
  #unplaced(): number {
    let count = 0;
    for (const { slot, shelfSlot, ordinal } of this.#log.list.segments)
      if (slot >= 0 && shelfSlot === null && ordinal >= this.#destagedPlace.ordinal) count++;
    return count;
  }

  /** A slot for a segment that is not at home. null: there is none; then what has slots for a peer alone gives way. */
  allocateSlot(done: (slot: LogSlot | null) => void): void {
    this.#allocate(
      (allocated) => this.#store.allocateLogSlot(allocated),
      (slot) => {
        if (slot === null && this.#shelfServesPeer()) this.#overflowNow();
        done(slot);
      },
    );
  }

  #shelfServesPeer(): boolean {
    const first = this.#log.list.segments[0];
    if (first === undefined || first.shelfSlot === null) return false;
    return this.#isHome(first) && first.lastSeq > this.#lowestRetained();
  }

  /** Where there is no space, there may be some in the other half of the array. */
  #allocate(allocate: (done: (slot: LogSlot | null) => void) => void, done: (slot: LogSlot | null) => void): void {
    allocate((slot) => {
      if (slot !== null) return done(slot);
      this.#moreSpace((hasCome) => {
        if (hasCome) allocate(done);
        else done(null);
      });
    });
  }

  /** Lets go of what nobody needs; when the cache is short, starts to spill. */
  reclaim(): void {
    if (this.#frozen) return;
    const { segments } = this.#log.list;
    const needed = this.#lowestRetained();
    let freed = false;
    for (let first = segments[0]; first !== undefined; first = segments[0]) {
      if (!this.#isHome(first) || first.lastSeq > needed || first.pinned) break;
      this.#log.list.remove(first);
      freed = true;
    }
    if (this.#isShort()) this.#spillNext();
    if (freed) this.#tell();
  }

  /** A copy to the shelf is under way. */
  get busy(): boolean {
    return this.#spilling !== null;
  }

  /** What takes place on the shelf: at most the quota, and in write-through one slot per segment of the cache. */
  get shelfBytes(): number {
    let total = 0;
    for (const segment of this.#log.list.segments) if (segment.shelfSlot !== null) total += this.#store.logSlotBytes;
    return total;
  }

  /** What lies on the shelf alone. */
  get spilledBytes(): number {
    let total = 0;
    for (const segment of this.#log.list.segments) if (segment.slot < 0) total += this.#store.logSlotBytes;
    return total;
  }

  #tell(): void {
    for (const listener of this.#listeners) listener();
  }

  /** Whether every record of a segment is at home and nothing more will come into it. */
  #isHome(segment: LogSegment): boolean {
    if (segment.ordinal < this.#destagedPlace.ordinal) return true;
    return segment.sealed && endsBefore(segment, this.#destagedPlace);
  }

  #lowestRetained(): number {
    let lowest = Number.POSITIVE_INFINITY;
    for (const seq of this.#retained.values()) lowest = Math.min(lowest, seq);
    return lowest;
  }

  /** Below a quarter of the cache free for this group: early enough that admission does not meet an empty list. */
  #isShort(): boolean {
    const { nvram, groupId } = this.#log;
    return nvram.freeSegmentsFor(groupId) < Math.max(2, nvram.segmentCount / 4);
  }

  #spillNext(): void {
    if (this.#spilling !== null || this.#closed) return;
    const segment = this.#log.list.segments.find((candidate) => candidate.slot >= 0 && this.#isHome(candidate));
    if (segment === undefined || segment.pinned || segment.lastSeq <= this.#lowestRetained()) return;
    if (this.spilledBytes + this.#store.logSlotBytes > this.#quotaBytes) return this.#overflowNow();
    if (segment.shelfSlot !== null && segment.shelfBytes >= segment.usedBytes) {
      this.#log.list.leaveCache(segment);
      this.#tell();
      if (this.#isShort()) this.#spillNext();
      return;
    }
    this.#spilling = segment;
    this.#log.list.pin(segment);
    if (segment.shelfSlot !== null) return this.#copy(segment, segment.shelfSlot);
    this.#allocate(
      (allocated) => this.#store.allocateSpareLogSlot(allocated),
      (slot) => {
        if (slot === null) {
          this.#settled(segment);
          this.#overflowNow();
          return;
        }
        this.#log.list.placed(segment, slot);
        this.#copy(segment, slot);
      },
    );
  }

  #copy(segment: LogSegment, slot: LogSlot): void {
    const bytes = this.#log.list.region.bytes.subarray(segment.base, segment.base + alignUp(segment.usedBytes, 4096));
    this.#store.writeLogSlot(slot, 0, [bytes], (writeError) => {
      if (writeError !== null) return this.#failed(segment);
      this.#store.flushLog((flushError) => {
        if (flushError !== null) return this.#failed(segment);
        segment.shelfBytes = bytes.byteLength;
        this.#settled(segment);
        if (segment.slot >= 0 && !segment.gone) this.#log.list.leaveCache(segment);
        this.#tell();
        this.reclaim();
      });
    });
  }

  /** The shelf does not take it: the peer must live by its map, or the cache would stay full. */
  #failed(segment: LogSegment): void {
    this.#settled(segment);
    this.#overflowNow();
  }

  #settled(segment: LogSegment): void {
    this.#spilling = null;
    this.#log.list.unpin(segment);
  }

  #overflowNow(): void {
    if (this.#overflowing !== null || this.#overflow === null) return;
    let furthest: string | null = null;
    for (const [peer, seq] of this.#retained) {
      if (furthest === null || seq < this.#retained.get(furthest)!) furthest = peer;
    }
    if (furthest === null) return;
    this.#overflowing = furthest;
    this.#overflow(furthest);
  }
}
