/**
 * Which units (chunks of data slabs, pages of map slabs) of one group are in use: bitmaps in memory, one space page for several
 * slabs, and the arithmetic of free space. `space_tree.ts` keeps them on disk.
 *
 * Invariants:
 * - `used` is what the next commit will write; `held` marks units that were freed but must not be reused yet (the commit that frees
 *   them is not durable, or a read may still be at them). A unit is allocatable when it is neither.
 * - A unit is allocated and freed once at a time (asserted).
 * - Bits of slabs that the group does not own are never set.
 */
import { assert } from "../codec/assert.ts";
import { pageWords } from "./geometry.ts";
import { headerWords } from "./page_seal.ts";

const bitmapWords = pageWords - headerWords;

export interface SpacePage {
  readonly index: number;
  /** A whole page; the bitmap stands behind the header's place. */
  readonly used: Uint32Array;
  /** Allocated when first needed. */
  held: Uint32Array | null;
  usedCount: number;
  /** Where the page lies (page number), 0: nowhere yet. */
  place: number;
  checksum: number;
  dirty: boolean;
}

export class SpaceMap {
  readonly unitsPerSlab: number;
  readonly wordsPerSlab: number;
  readonly slabsPerPage: number;
  readonly pages = new Map<number, SpacePage>();
  /** Slabs of this kind that the group owns, on disks that are there. */
  readonly slabs: number[] = [];
  readonly #usedInSlab: Uint16Array;
  readonly #heldInSlab: Uint16Array;
  #usedCount = 0;
  #heldCount = 0;
  /** Used units in slabs of missing disks: they count as used, and never as free; freed ones are not held. */
  #lostCount = 0;
  readonly #present: Uint8Array;
  #current = 0;
  #cursor = 0;

  constructor(unitsPerSlab: number, slabEnd: number) {
    this.unitsPerSlab = unitsPerSlab;
    this.wordsPerSlab = Math.ceil(unitsPerSlab / 32);
    this.slabsPerPage = Math.floor(bitmapWords / this.wordsPerSlab);
    this.#usedInSlab = new Uint16Array(slabEnd);
    this.#heldInSlab = new Uint16Array(slabEnd);
    this.#present = new Uint8Array(slabEnd);
  }

  get usedCount(): number {
    return this.#usedCount;
  }

  get heldCount(): number {
    return this.#heldCount;
  }

  /** Allocatable now. Before the bitmaps are loaded it follows the totals that the group's root keeps. */
  get freeCount(): number {
    return this.slabs.length * this.unitsPerSlab - (this.#usedCount - this.#lostCount) - this.#heldCount;
  }

  /** At start, before the bitmaps are there. */
  presumeUsed(count: number): void {
    this.#usedCount = count;
  }

  addSlab(slab: number): void {
    this.slabs.push(slab);
    this.#present[slab] = 1;
  }

  /** The bitmaps are all loaded: counts are taken from them. `owned` says whether a slab is the group's; false: corrupt. */
  adoptPages(owned: (slab: number) => boolean): boolean {
    this.#usedCount = 0;
    this.#lostCount = 0;
    this.#usedInSlab.fill(0);
    for (const page of this.pages.values()) {
      page.usedCount = 0;
      for (let place = 0; place < this.slabsPerPage; place += 1) {
        const slab = page.index * this.slabsPerPage + place;
        let count = 0;
        for (let word = 0; word < this.wordsPerSlab; word += 1) {
          count += bitCount(page.used[headerWords + place * this.wordsPerSlab + word]!);
        }
        if (count === 0) continue;
        if (slab >= this.#usedInSlab.length || count > this.unitsPerSlab || !owned(slab)) return false;
        this.#usedInSlab[slab] = count;
        this.#usedCount += count;
        page.usedCount += count;
        if (this.#present[slab] === 0) this.#lostCount += count;
      }
    }
    return true;
  }

  /** A free unit's number, now used; -1: none in the slabs owned. */
  allocate(): number {
    if (this.#current !== 0) {
      const unit = this.#scan(this.#current, this.#cursor);
      if (unit >= 0) return unit;
    }
    const count = this.slabs.length;
    const from = this.#current === 0 ? 0 : Math.max(0, this.slabs.indexOf(this.#current));
    for (let step = 0; step < count; step += 1) {
      const slab = this.slabs[(from + step) % count]!;
      if (this.#usedInSlab[slab]! + this.#heldInSlab[slab]! >= this.unitsPerSlab) continue;
      this.#current = slab;
      this.#cursor = 0;
      const unit = this.#scan(slab, 0);
      if (unit >= 0) return unit;
    }
    return -1;
  }

  /** Frees a unit for the next commit and holds it until `release`. */
  free(unit: number): void {
    const slab = Math.floor(unit / this.unitsPerSlab);
    const page = this.#pageOf(slab);
    const { word, bit } = this.#placeOf(slab, unit % this.unitsPerSlab);
    assert((page.used[word]! & bit) !== 0, `unit ${unit} is freed twice`);
    page.used[word]! &= ~bit;
    page.usedCount -= 1;
    page.dirty = true;
    this.#usedInSlab[slab]! -= 1;
    this.#usedCount -= 1;
    if (this.#present[slab] === 0) {
      this.#lostCount -= 1;
      return;
    }
    page.held ??= new Uint32Array(pageWords);
    page.held[word]! |= bit;
    this.#heldInSlab[slab]! += 1;
    this.#heldCount += 1;
  }

  /** The unit may be used again. Returns its slab when nothing of the slab is used or held any more, else 0. */
  release(unit: number): number {
    const slab = Math.floor(unit / this.unitsPerSlab);
    if (this.#present[slab] === 0) return 0;
    const page = this.#pageOf(slab);
    const { word, bit } = this.#placeOf(slab, unit % this.unitsPerSlab);
    assert(page.held !== null && (page.held[word]! & bit) !== 0, `unit ${unit} is not held`);
    page.held[word]! &= ~bit;
    this.#heldInSlab[slab]! -= 1;
    this.#heldCount -= 1;
    return this.isEmpty(slab) ? slab : 0;
  }

  isEmpty(slab: number): boolean {
    return this.#usedInSlab[slab] === 0 && this.#heldInSlab[slab] === 0;
  }

  isUsed(unit: number): boolean {
    const slab = Math.floor(unit / this.unitsPerSlab);
    const page = this.pages.get(Math.floor(slab / this.slabsPerPage));
    if (!page) return false;
    const { word, bit } = this.#placeOf(slab, unit % this.unitsPerSlab);
    return (page.used[word]! & bit) !== 0;
  }

  /** Drops an empty slab from the group. */
  removeSlab(slab: number): void {
    assert(this.isEmpty(slab), `slab ${slab} is not empty`);
    const at = this.slabs.indexOf(slab);
    assert(at >= 0, `slab ${slab} is not ours`);
    this.slabs.splice(at, 1);
    this.#present[slab] = 0;
    if (this.#current === slab) this.#current = 0;
  }

  #scan(slab: number, from: number): number {
    if (this.#usedInSlab[slab]! + this.#heldInSlab[slab]! >= this.unitsPerSlab) return -1;
    const page = this.#pageOf(slab);
    const first = headerWords + (slab % this.slabsPerPage) * this.wordsPerSlab;
    const start = from >>> 5;
    // Once around: what was freed behind the cursor is found before another slab is begun.
    for (let step = 0; step < this.wordsPerSlab; step += 1) {
      const word = first + ((start + step) % this.wordsPerSlab);
      let taken = page.used[word]!;
      if (page.held) taken |= page.held[word]!;
      if (this.unitsPerSlab < 32) taken |= -1 << this.unitsPerSlab;
      const free = ~taken;
      if (free === 0) continue;
      const bit = 31 - Math.clz32(free & -free);
      page.used[word]! |= 1 << bit;
      page.usedCount += 1;
      page.dirty = true;
      this.#usedInSlab[slab]! += 1;
      this.#usedCount += 1;
      const index = (word - first) * 32 + bit;
      this.#cursor = index;
      return slab * this.unitsPerSlab + index;
    }
    throw new Error(`store: the counts of slab ${slab} are wrong`);
  }

  #pageOf(slab: number): SpacePage {
    const index = Math.floor(slab / this.slabsPerPage);
    let page = this.pages.get(index);
    if (!page) {
      page = newSpacePage(index);
      this.pages.set(index, page);
    }
    return page;
  }

  #placeOf(slab: number, index: number): { word: number; bit: number } {
    return {
      word: headerWords + (slab % this.slabsPerPage) * this.wordsPerSlab + (index >>> 5),
      bit: (1 << (index & 31)) >>> 0,
    };
  }
}

export function newSpacePage(index: number): SpacePage {
  return { index, used: new Uint32Array(pageWords), held: null, usedCount: 0, place: 0, checksum: 0, dirty: false };
}

function bitCount(word: number): number {
  let value = word - ((word >>> 1) & 0x55555555);
  value = (value & 0x33333333) + ((value >>> 2) & 0x33333333);
  return Math.imul((value + (value >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}
