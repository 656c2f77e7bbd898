/**
 * Space for one group: chunks and map pages out of its slabs, slabs out of the pool, the promise that acknowledged data will find
 * room, and the quarantine of what was freed.
 *
 * Invariants:
 * - Freed units are reused only when the commit that freed them is durable; chunks moreover only when every read that began before
 *   that has ended. (A page needs no such wait: whoever reads a page checks it against its parent, and walks again.)
 * - A reservation of n chunks promises n chunks and all map pages that writing them can take: kept are, as free units of the group
 *   or as slabs that the pool promises to it, n chunks; n leaves and n inner pages per level, but no more than its volumes can have;
 *   the pages that rewriting `applyLeavesMax` leaves takes between two commits (old places are free only after the commit); and the
 *   pages of the bitmaps themselves.
 * - What the log expects to need (`LogSlots.expect`) is promised together with that: nothing is reserved out of the log's share, for
 *   what was admitted has to be in the log durably before it can go home.
 * - An emptied slab goes back to the pool.
 */
import { assert } from "../codec/assert.ts";
import { type SlabTable, slabKind } from "./slab_table.ts";
import { SpaceMap } from "./space_map.ts";
import type { SpaceTree } from "./space_tree.ts";

/** So many leaves may be rewritten between two commits with nothing but reserved space left. */
export const applyLeavesMax = 1024;
/** Bitmap pages that may come into being (new slabs) before the next commit. */
const newSpacePages = 8;

export interface MapShape {
  /** Leaves and inner pages that the volumes of the head can have at most, and the highest tree's inner levels. */
  readonly leaves: number;
  readonly inner: number;
  readonly height: number;
}

export interface Freed {
  readonly chunks: number[];
  readonly pages: number[];
}

export class Allocator {
  readonly data: SpaceMap;
  readonly map: SpaceMap;
  readonly #table: SlabTable;
  readonly #owner: number;
  readonly #shape: () => MapShape;
  /** Set once the trees exist: how many pages the bitmaps may move in one commit. */
  #spaceTrees: readonly SpaceTree[] = [];
  /** Slabs that the log still needs for what it expects. */
  #logSlabsNeeded: () => number = () => 0;
  #freed: Freed = { chunks: [], pages: [] };
  /** Chunks whose freeing is durable, waiting for reads: oldest first. */
  readonly #waiting: { readonly readGeneration: number; readonly chunks: number[] }[] = [];
  #readGeneration = 0;
  readonly #activeReads = new Map<number, number>();
  #reserved = 0;
  #retired = false;
  /** Chunks allocated since; they are covered by reservations that were not released yet. */
  #consumed = 0;

  constructor(options: {
    table: SlabTable;
    owner: number;
    chunksPerSlab: number;
    pagesPerSlab: number;
    slabEnd: number;
    shape: () => MapShape;
  }) {
    this.#table = options.table;
    this.#owner = options.owner;
    this.#shape = options.shape;
    this.data = new SpaceMap(options.chunksPerSlab, options.slabEnd);
    this.map = new SpaceMap(options.pagesPerSlab, options.slabEnd);
    for (const slab of options.table.slabsOf(options.owner, slabKind.data)) {
      if (options.table.isPresent(slab)) this.data.addSlab(slab);
    }
    for (const slab of options.table.slabsOf(options.owner, slabKind.map)) {
      if (options.table.isPresent(slab)) this.map.addSlab(slab);
    }
  }

  /** Nothing is given back by this instance any more: another one, or the pool, has taken over. */
  retire(): void {
    this.#retired = true;
    this.#table.promise(this.#owner, 0);
  }

  setSpaceTrees(trees: readonly SpaceTree[]): void {
    this.#spaceTrees = trees;
  }

  setLog(slabsNeeded: () => number): void {
    this.#logSlabsNeeded = slabsNeeded;
  }

  get reservedChunks(): number {
    return Math.max(0, this.#reserved - this.#consumed);
  }

  /** Chunks freed, which only a commit brings back. */
  get awaitingCommit(): number {
    return this.#freed.chunks.length;
  }

  /** A chunk's number, or -1: no space. */
  allocateChunk(): number {
    let chunk = this.data.allocate();
    if (chunk < 0) {
      // Slabs that the maps were promised are not for data.
      if (this.#table.availableFor(this.#owner) <= this.#mapSlabsNeeded(this.reservedChunks)) return -1;
      const slab = this.#table.take(this.#owner, slabKind.data);
      if (slab === 0) return -1;
      this.data.addSlab(slab);
      this.updatePromise();
      chunk = this.data.allocate();
    }
    this.#consumed = Math.min(this.#reserved, this.#consumed + 1);
    return chunk;
  }

  /** A page for a map, or -1. Leaves enough pages for the bitmaps of the next commit. */
  allocatePage(): number {
    const beyond = this.#table.availableFor(this.#owner) * this.map.unitsPerSlab;
    if (this.map.freeCount + beyond <= this.#spacePagesMax()) return -1;
    return this.allocateSpacePage();
  }

  /** A page for the bitmaps: takes from what the maps left. */
  allocateSpacePage(): number {
    const page = this.map.allocate();
    if (page >= 0) return page;
    const slab = this.#table.take(this.#owner, slabKind.map);
    if (slab === 0) return -1;
    this.map.addSlab(slab);
    this.updatePromise();
    return this.map.allocate();
  }

  freeChunk(chunk: number): void {
    this.data.free(chunk);
    this.#freed.chunks.push(chunk);
  }

  freePage(page: number): void {
    this.map.free(page);
    this.#freed.pages.push(page);
  }

  /** Everything freed so far belongs to the commit that begins now. */
  takeFreed(): Freed {
    const freed = this.#freed;
    this.#freed = { chunks: [], pages: [] };
    return freed;
  }

  committed(freed: Freed): void {
    for (const page of freed.pages) {
      const slab = this.map.release(page);
      if (slab !== 0) this.#giveBack(this.map, slab);
    }
    if (freed.chunks.length > 0) this.#waiting.push({ readGeneration: this.#readGeneration, chunks: freed.chunks });
    this.#readGeneration += 1;
    this.#releaseChunks();
    this.updatePromise();
  }

  /** A read of chunks begins; give the result to `endRead`. */
  beginRead(): number {
    const generation = this.#readGeneration;
    this.#activeReads.set(generation, (this.#activeReads.get(generation) ?? 0) + 1);
    return generation;
  }

  endRead(generation: number): void {
    const left = this.#activeReads.get(generation)! - 1;
    if (left > 0) {
      this.#activeReads.set(generation, left);
      return;
    }
    this.#activeReads.delete(generation);
    this.#releaseChunks();
  }

  reserve(count: number): boolean {
    assert(Number.isSafeInteger(count) && count >= 0, "a reservation is a count");
    this.#reserved += count;
    if (this.updatePromise()) return true;
    this.#reserved -= count;
    this.updatePromise();
    return false;
  }

  release(count: number): void {
    assert(count <= this.#reserved, "more chunks released than reserved");
    this.#reserved -= count;
    this.#consumed = Math.max(0, this.#consumed - count);
    this.updatePromise();
  }

  /** Brings the pool's promise to what reservations, maps, bitmaps and the log need now. False: the pool has not got it. */
  updatePromise(): boolean {
    if (this.#retired) return false;
    return this.#table.promise(this.#owner, this.slabsNeeded() + this.#logSlabsNeeded());
  }

  /** Free slabs that reservations, maps and bitmaps need: not for the log. */
  slabsNeeded(): number {
    const reserved = this.reservedChunks;
    const data = Math.ceil(Math.max(0, reserved - this.data.freeCount) / this.data.unitsPerSlab);
    return data + this.#mapSlabsNeeded(reserved);
  }

  /** Slabs found empty at start (a crash came between emptying and giving back). */
  giveBackEmpty(): void {
    if (this.#retired) return;
    for (const space of [this.data, this.map]) {
      for (const slab of [...space.slabs]) if (space.isEmpty(slab)) this.#giveBack(space, slab);
    }
  }

  #mapSlabsNeeded(reservedChunks: number): number {
    const { leaves, inner, height } = this.#shape();
    const lasting = Math.min(reservedChunks, leaves) + Math.min(reservedChunks * height, inner);
    const rewritten = Math.min(applyLeavesMax, leaves) + Math.min(applyLeavesMax * height, inner);
    const passing = Math.max(0, rewritten - this.map.heldCount);
    const pages = lasting + passing + this.#spacePagesMax();
    return Math.ceil(Math.max(0, pages - this.map.freeCount) / this.map.unitsPerSlab);
  }

  #spacePagesMax(): number {
    let pages = newSpacePages;
    for (const tree of this.#spaceTrees) pages += tree.pageCount();
    return pages;
  }

  #releaseChunks(): void {
    if (this.#retired) return;
    let oldest = this.#readGeneration;
    // Keys are entered in ascending order: the first is the oldest.
    for (const generation of this.#activeReads.keys()) {
      oldest = generation;
      break;
    }
    while (this.#waiting.length > 0 && this.#waiting[0]!.readGeneration < oldest) {
      for (const chunk of this.#waiting.shift()!.chunks) {
        const slab = this.data.release(chunk);
        if (slab !== 0) this.#giveBack(this.data, slab);
      }
    }
  }

  #giveBack(space: SpaceMap, slab: number): void {
    space.removeSlab(slab);
    this.#table.giveBack(slab);
  }
}
