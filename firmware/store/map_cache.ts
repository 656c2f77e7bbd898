/**
 * The pages of all maps of a pool that are in memory: slots of 4 KiB in segments of 1 MiB, found by page number.
 *
 * Memory: up to `bytesMax`, plus what is dirty beyond it: dirty pages can not be evicted, so a caller that rewrites many leaves
 * commits when `crowded` says so; segments beyond the bound are given up again after the commit. 32 MiB hold the leaves of 24 GiB;
 * a volume of 1 TiB has 350,000 leaves (1.4 GiB), of which the used ones are here.
 *
 * Invariants:
 * - A page is in at most one slot. A slot under `pin` or dirty is not evicted; any other may be gone after the next `take`.
 * - Only verified pages are found.
 */
import { assert } from "../codec/assert.ts";
import { pageBytes, pageWords } from "./geometry.ts";

const slotsPerSegment = 256;
const segmentShift = 8;
/** Below this a walk with its neighbours would not fit. */
const segmentsMin = 1;

const flagReferenced = 1;
const flagDirty = 2;

export class MapCache {
  readonly segments: Uint32Array[] = [];
  readonly #segmentBytes: Uint8Array[][] = [];
  readonly #segmentsBound: number;
  #slotPage = new Float64Array(0);
  #flags = new Uint8Array(0);
  #pins = new Uint16Array(0);
  #free: number[] = [];
  #table = new Int32Array(1024).fill(-1);
  #mask = 1023;
  #found = 0;
  #hand = 0;
  #dirtyCount = 0;

  constructor(bytesMax: number) {
    this.#segmentsBound = Math.max(segmentsMin, Math.floor(bytesMax / (slotsPerSegment * pageBytes)));
  }

  get dirtyCount(): number {
    return this.#dirtyCount;
  }

  /** More than half of the slots allowed are dirty. */
  get crowded(): boolean {
    return this.#dirtyCount * 2 > this.#segmentsBound * slotsPerSegment;
  }

  get sizeBytes(): number {
    return this.segments.length * slotsPerSegment * pageBytes;
  }

  /** The slot of a page, or -1. */
  find(page: number): number {
    let place = hashOf(page) & this.#mask;
    for (;;) {
      const slot = this.#table[place]!;
      if (slot < 0) return -1;
      if (this.#slotPage[slot] === page) {
        this.#flags[slot]! |= flagReferenced;
        return slot;
      }
      place = (place + 1) & this.#mask;
    }
  }

  words(slot: number): Uint32Array {
    return this.segments[slot >> segmentShift]!;
  }

  /** The slot's first word in `words(slot)`. */
  at(slot: number): number {
    return (slot & (slotsPerSegment - 1)) * pageWords;
  }

  bytes(slot: number): Uint8Array {
    return this.#segmentBytes[slot >> segmentShift]![slot & (slotsPerSegment - 1)]!;
  }

  pageOf(slot: number): number {
    return this.#slotPage[slot]!;
  }

  isDirty(slot: number): boolean {
    return (this.#flags[slot]! & flagDirty) !== 0;
  }

  markDirty(slot: number): void {
    if (this.isDirty(slot)) return;
    this.#flags[slot]! |= flagDirty;
    this.#dirtyCount += 1;
  }

  markClean(slot: number): void {
    if (!this.isDirty(slot)) return;
    this.#flags[slot]! &= ~flagDirty;
    this.#dirtyCount -= 1;
  }

  pin(slot: number): void {
    this.#pins[slot]! += 1;
  }

  unpin(slot: number): void {
    assert(this.#pins[slot]! > 0, "a slot is unpinned once per pin");
    this.#pins[slot]! -= 1;
  }

  /** An empty slot, pinned once and not to be found until `enter`; its old bytes are still in it. */
  take(): number {
    if (this.#free.length === 0 && this.segments.length < this.#segmentsBound) this.#grow();
    let slot = this.#free.pop() ?? this.#evict();
    if (slot < 0) {
      this.#grow();
      slot = this.#free.pop()!;
    }
    this.#pins[slot] = 1;
    this.#flags[slot] = flagReferenced;
    return slot;
  }

  /** From now on the slot is found as `page`. It stays pinned. */
  enter(slot: number, page: number): void {
    assert(this.#slotPage[slot] === 0, "a slot holds one page");
    this.#slotPage[slot] = page;
    this.#found += 1;
    if (this.#found * 2 > this.#table.length) this.#rehash();
    else this.#insert(slot);
  }

  /** The same content under another number. */
  rename(slot: number, page: number): void {
    this.#remove(this.#slotPage[slot]!);
    this.#slotPage[slot] = page;
    this.#insert(slot);
  }

  /** The page is of no use any more (or was never entered). Its pins are forgotten. */
  drop(slot: number): void {
    this.markClean(slot);
    if (this.#slotPage[slot] !== 0) {
      this.#remove(this.#slotPage[slot]!);
      this.#slotPage[slot] = 0;
      this.#found -= 1;
    }
    this.#pins[slot] = 0;
    this.#flags[slot] = 0;
    this.#free.push(slot);
  }

  /** Drops every page of a group: word 3 of a page is its owner. */
  dropOwner(owner: number): void {
    const slots = this.segments.length * slotsPerSegment;
    for (let slot = 0; slot < slots; slot += 1) {
      if (this.#slotPage[slot] !== 0 && this.words(slot)[this.at(slot) + 3] === owner) this.drop(slot);
    }
  }

  /** Gives up segments beyond the bound, as far as nothing dirty or pinned lies in them. */
  shrink(): void {
    while (this.segments.length > this.#segmentsBound) {
      const first = (this.segments.length - 1) * slotsPerSegment;
      for (let slot = first; slot < first + slotsPerSegment; slot += 1) {
        if (this.#pins[slot]! > 0 || this.isDirty(slot)) return;
      }
      for (let slot = first; slot < first + slotsPerSegment; slot += 1) {
        if (this.#slotPage[slot] !== 0) this.drop(slot);
      }
      this.#free = this.#free.filter((slot) => slot < first);
      this.segments.pop();
      this.#segmentBytes.pop();
      this.#hand = 0;
    }
  }

  #evict(): number {
    const slots = this.segments.length * slotsPerSegment;
    // Twice around: the first takes the marks of recent use away.
    for (let step = 0; step < slots * 2; step += 1) {
      const slot = this.#hand;
      this.#hand = (this.#hand + 1) % slots;
      if (this.#pins[slot]! > 0 || this.#slotPage[slot] === 0) continue;
      const flags = this.#flags[slot]!;
      if ((flags & flagDirty) !== 0) continue;
      if ((flags & flagReferenced) !== 0) {
        this.#flags[slot] = flags & ~flagReferenced;
        continue;
      }
      this.drop(slot);
      return this.#free.pop()!;
    }
    return -1;
  }

  #grow(): void {
    const first = this.segments.length * slotsPerSegment;
    const words = new Uint32Array(slotsPerSegment * pageWords);
    this.segments.push(words);
    const bytes: Uint8Array[] = [];
    for (let slot = 0; slot < slotsPerSegment; slot += 1)
      bytes.push(new Uint8Array(words.buffer, slot * pageBytes, pageBytes));
    this.#segmentBytes.push(bytes);
    if (this.#slotPage.length < first + slotsPerSegment) {
      const capacity = Math.max(first + slotsPerSegment, this.#slotPage.length * 2);
      this.#slotPage = grown(new Float64Array(capacity), this.#slotPage);
      this.#flags = grown(new Uint8Array(capacity), this.#flags);
      this.#pins = grown(new Uint16Array(capacity), this.#pins);
    }
    for (let slot = first + slotsPerSegment - 1; slot >= first; slot -= 1) this.#free.push(slot);
  }

  #insert(slot: number): void {
    let place = hashOf(this.#slotPage[slot]!) & this.#mask;
    while (this.#table[place]! >= 0) place = (place + 1) & this.#mask;
    this.#table[place] = slot;
  }

  #remove(page: number): void {
    let hole = hashOf(page) & this.#mask;
    while (this.#slotPage[this.#table[hole]!] !== page) hole = (hole + 1) & this.#mask;
    // Backward shift: entries behind the hole move up unless they would leave their own chain.
    for (let place = (hole + 1) & this.#mask; this.#table[place]! >= 0; place = (place + 1) & this.#mask) {
      const home = hashOf(this.#slotPage[this.#table[place]!]!) & this.#mask;
      if (((place - home) & this.#mask) < ((place - hole) & this.#mask)) continue;
      this.#table[hole] = this.#table[place]!;
      hole = place;
    }
    this.#table[hole] = -1;
  }

  #rehash(): void {
    this.#table = new Int32Array(this.#table.length * 2).fill(-1);
    this.#mask = this.#table.length - 1;
    const slots = this.segments.length * slotsPerSegment;
    for (let slot = 0; slot < slots; slot += 1) if (this.#slotPage[slot] !== 0) this.#insert(slot);
  }
}

function hashOf(page: number): number {
  // Page numbers go beyond 32 bits; the high part is small.
  const low = (page % 4294967296) | 0;
  const high = (page / 4294967296) | 0;
  const mixed = Math.imul(low ^ Math.imul(high, 0x85ebca6b), 0x9e3779b1);
  return (mixed ^ (mixed >>> 15)) >>> 0;
}

function grown<T extends { set(source: T): void }>(target: T, source: T): T {
  target.set(source);
  return target;
}
