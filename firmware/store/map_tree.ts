/**
 * The maps of one group: finding the leaf of a position, paging in what is not in memory, making the way to a leaf writable (copy on
 * write, shadow paging), and sealing what has changed for a commit. Page layouts: `map_page.ts`.
 *
 * Invariants:
 * - A page's place is assigned when it is first changed after a commit and is written there by the next one; nothing that a durable
 *   root refers to is ever overwritten.
 * - A dirty page's checksum word is 0 until it is sealed, and so is the checksum in every pointer to it.
 * - A page is known to be right because its parent (or the group's root) carries its checksum, and because it says itself what it
 *   is. A page that fails this is read once more from the root on: it may have been moved meanwhile.
 */
import type { Digests } from "../../hal/api/digests.ts";
import { assert } from "../codec/assert.ts";
import type { Allocator } from "./allocator.ts";
import { type DiskSet, storeErrorOf } from "./disk_set.ts";
import type { ForkFamily, Tree } from "./fork_family.ts";
import { pageBytes, pageWords } from "./geometry.ts";
import type { MapCache } from "./map_cache.ts";
import {
  firstPointer,
  heightFor,
  innerIsEmpty,
  leavesFor,
  leavesPerPage,
  pointerAt,
  pointerBirth,
  pointerChecksum,
  pointerIndex,
  pointerPage,
  pointersPerInner,
  pointerWords,
} from "./map_page.ts";
import { identityMatches, pageMagic, putNumber, sealHolds, sealPage, writeIdentity } from "./page_seal.ts";
import type { PoolTag } from "./slab_table.ts";
import type { StoreDone, StoreError } from "./store.ts";

/** Nothing is mapped there. */
export const hole = -1;
/** A page on the way is not in memory: `load` first. */
export const absent = -2;
export const noSpace = -3;

/** What a pointer says of a page. */
interface PageRef {
  volume: number;
  level: number;
  firstLeaf: number;
  page: number;
  checksum: number;
  birth: number;
}

export class MapTrees {
  readonly cache: MapCache;
  /** Slots changed since the last commit. */
  readonly dirtySlots = new Set<number>();
  /** After `locate` or `walk`: the page found or wanted, or the hole's first leaf and level. */
  readonly at: PageRef = { volume: 0, level: 0, firstLeaf: 0, page: 0, checksum: 0, birth: 0 };
  readonly #disks: DiskSet;
  readonly #digests: Digests;
  readonly #allocator: Allocator;
  readonly #family: ForkFamily;
  readonly #owner: number;
  readonly #tag: PoolTag;
  readonly #loads = new Map<number, StoreDone[]>();
  #retired: StoreError | null = null;

  constructor(options: {
    cache: MapCache;
    disks: DiskSet;
    digests: Digests;
    allocator: Allocator;
    family: ForkFamily;
    owner: number;
    tag: PoolTag;
  }) {
    this.cache = options.cache;
    this.#disks = options.disks;
    this.#digests = options.digests;
    this.#allocator = options.allocator;
    this.#family = options.family;
    this.#owner = options.owner;
    this.#tag = options.tag;
  }

  /** The slot of the leaf, `hole` or `absent`. */
  walk(tree: Tree, leaf: number): number {
    const found = this.locate(tree, leaf, 0);
    if (found < 0) return found;
    const slot = this.cache.find(this.at.page);
    return slot >= 0 ? slot : absent;
  }

  /** Finds the page at `level` over `leaf`, which need not be in memory itself: 0, and `at` names it; or `hole`; or `absent`. */
  locate(tree: Tree, leaf: number, level: number): number {
    const { at, cache } = this;
    at.volume = tree.volume;
    at.level = tree.height;
    at.firstLeaf = 0;
    at.page = tree.page;
    at.checksum = tree.checksum;
    at.birth = tree.birth;
    if (leaf >= leavesPerPage[tree.height]! || tree.page === 0) {
      // Beyond the tree's reach, or no tree: the hole is endless for every purpose.
      at.level = Math.max(tree.height, heightFor(leaf + 1));
      at.page = 0;
      return hole;
    }
    while (at.level > level) {
      const slot = cache.find(at.page);
      if (slot < 0) return absent;
      const words = cache.words(slot);
      const pointer = pointerAt(cache.at(slot), pointerIndex(at.level, leaf));
      at.level -= 1;
      at.firstLeaf = leaf - (leaf % leavesPerPage[at.level]!);
      at.page = pointerPage(words, pointer);
      if (at.page === 0) return hole;
      at.checksum = words[pointer + pointerChecksum]!;
      at.birth = words[pointer + pointerBirth]!;
    }
    return 0;
  }

  /** Pages in everything down to the leaf. `resolve` is asked again after every wait: the tree may have changed or gone. */
  load(resolve: () => Tree | null, leaf: number, done: StoreDone): void {
    this.loadTo(resolve, leaf, 0, done);
  }

  /** The same down to the page at `level`. */
  loadTo(resolve: () => Tree | null, leaf: number, level: number, done: StoreDone): void {
    let failedPage = 0;
    const next = () => {
      const tree = resolve();
      if (!tree) {
        done(null);
        return;
      }
      const found = this.locate(tree, leaf, level);
      if (found === hole || (found === 0 && this.cache.find(this.at.page) >= 0)) {
        done(null);
        return;
      }
      const wanted = this.at.page;
      this.#pageIn(this.at, (error) => {
        if (error && failedPage === wanted) done(error);
        else {
          failedPage = error ? wanted : 0;
          next();
        }
      });
    };
    next();
  }

  /** The slot of the leaf, to be changed: made if there is none. `absent` and `noSpace` leave the tree as good as it was. */
  writable(tree: Tree, leaf: number): number {
    if (tree.page === 0) tree.height = heightFor(leavesFor(tree.sizeBytes));
    while (leaf >= leavesPerPage[tree.height]!) if (!this.#growRoot(tree)) return noSpace;
    return this.#writableAt(tree, leaf, 0);
  }

  /** Takes an empty leaf out of its tree, and inner pages that become empty. The way to it must be in memory. */
  removeLeaf(tree: Tree, leaf: number): number {
    for (let level = 0; level <= tree.height; level += 1) {
      const found = this.locate(tree, leaf, level);
      assert(found === 0, "a leaf that is removed is there");
      const { page, birth, firstLeaf } = this.at;
      let parent = 0;
      if (level < tree.height) {
        // The parent first: it is the step that can fail.
        parent = this.#writableAt(tree, leaf, level + 1);
        if (parent < 0) return parent;
      }
      const slot = this.cache.find(page);
      if (birth > this.#family.originAt(tree.volume, firstLeaf)) {
        if (slot >= 0) this.#forget(slot);
        this.#allocator.freePage(page);
      }
      if (level === tree.height) {
        tree.page = 0;
        tree.checksum = 0;
        tree.birth = 0;
        return 0;
      }
      const words = this.cache.words(parent);
      const at = this.cache.at(parent);
      const pointer = pointerAt(at, pointerIndex(level + 1, leaf));
      words.fill(0, pointer, pointer + pointerWords);
      if (!innerIsEmpty(words, at)) return 0;
    }
    return 0;
  }

  /** Frees a page that no version needs any more. */
  freePage(page: number): void {
    const slot = this.cache.find(page);
    if (slot >= 0) this.#forget(slot);
    this.#allocator.freePage(page);
  }

  /** Computes the checksums of everything dirty below a tree's root, leaves first. */
  seal(tree: Tree, generation: number): void {
    if (tree.page === 0 || tree.checksum !== 0) return;
    tree.checksum = this.#sealBelow(tree.page, tree.height, generation);
  }

  /** After a commit. */
  markClean(slots: Iterable<number>): void {
    for (const slot of slots) {
      this.cache.markClean(slot);
      this.dirtySlots.delete(slot);
    }
    this.cache.shrink();
  }

  /**
   * Nothing of this instance is in memory from now on, nor comes there: the pages may be changed by another one, here or in the
   * other half of the pool. What is being read is of no use when it comes.
   */
  retire(why: StoreError): void {
    this.#retired = why;
    this.cache.dropOwner(this.#owner);
    this.dirtySlots.clear();
  }

  /** Disk and offset of a page. */
  diskOf(page: number): number {
    return this.#disks.slabDisk[this.#slabOf(page)]!;
  }

  offsetOf(page: number): number {
    const { pagesPerSlab } = this.#disks.geometry;
    return this.#disks.slabOffset[this.#slabOf(page)]! + (page % pagesPerSlab) * pageBytes;
  }

  #slabOf(page: number): number {
    return Math.floor(page / this.#disks.geometry.pagesPerSlab);
  }

  #sealBelow(page: number, level: number, generation: number): number {
    const { cache } = this;
    const slot = cache.find(page);
    assert(slot >= 0, "an unsealed page is in memory");
    const words = cache.words(slot);
    const at = cache.at(slot);
    // Reached a second time, through a fork taken since the last commit.
    if (words[at] !== 0) return words[at]!;
    if (level > 0) {
      for (let index = 0; index < pointersPerInner; index += 1) {
        const pointer = at + firstPointer + index * pointerWords;
        const child = pointerPage(words, pointer);
        if (child === 0 || words[pointer + pointerChecksum] !== 0) continue;
        words[pointer + pointerChecksum] = this.#sealBelow(child, level - 1, generation);
      }
    }
    return sealPage({ words, at, bytes: cache.bytes(slot) }, generation, this.#digests);
  }

  #writableAt(tree: Tree, leaf: number, level: number): number {
    const { at, cache } = this;
    at.volume = tree.volume;
    at.level = tree.height;
    at.firstLeaf = 0;
    at.page = tree.page;
    at.checksum = tree.checksum;
    at.birth = tree.birth;
    let slot = this.#own();
    if (slot < 0) return slot;
    tree.page = at.page;
    tree.checksum = 0;
    tree.birth = at.birth;
    while (at.level > level) {
      const words = cache.words(slot);
      const pointer = pointerAt(cache.at(slot), pointerIndex(at.level, leaf));
      at.level -= 1;
      at.firstLeaf = leaf - (leaf % leavesPerPage[at.level]!);
      at.page = pointerPage(words, pointer);
      at.checksum = words[pointer + pointerChecksum]!;
      at.birth = words[pointer + pointerBirth]!;
      const parent = slot;
      // Taking a slot for the child must not evict its parent: a page just owned is dirty.
      slot = this.#own();
      if (slot < 0) return slot;
      const parentWords = cache.words(parent);
      putNumber(parentWords, pointer, at.page);
      parentWords[pointer + pointerChecksum] = 0;
      parentWords[pointer + pointerBirth] = at.birth;
    }
    return slot;
  }

  /** Makes the page of `at` the head's own and dirty; updates `at`. */
  #own(): number {
    const { at, cache } = this;
    if (at.page === 0) {
      const page = this.#newPlace();
      if (page < 0) return noSpace;
      const slot = cache.take();
      const first = cache.at(slot);
      cache.words(slot).fill(0, first, first + pageWords);
      return this.#enterNew(slot, page);
    }
    const slot = cache.find(at.page);
    if (slot < 0) return absent;
    const exclusive = at.birth > this.#family.originAt(at.volume, at.firstLeaf);
    if (exclusive && cache.isDirty(slot)) {
      cache.words(slot)[cache.at(slot)] = 0;
      return slot;
    }
    const page = this.#newPlace();
    if (page < 0) return noSpace;
    if (exclusive) {
      this.#allocator.freePage(at.page);
      cache.rename(slot, page);
      at.page = page;
      const words = cache.words(slot);
      const first = cache.at(slot);
      words[first] = 0;
      putNumber(words, first + 7, page);
      this.#markDirty(slot);
      return slot;
    }
    cache.pin(slot);
    const copy = cache.take();
    const from = cache.at(slot);
    cache.words(copy).set(cache.words(slot).subarray(from, from + pageWords), cache.at(copy));
    cache.unpin(slot);
    return this.#enterNew(copy, page);
  }

  #newPlace(): number {
    const page = this.#allocator.allocatePage();
    if (page < 0) return page;
    // Someone may have read the page that lay there before while it was being freed.
    const stale = this.cache.find(page);
    if (stale >= 0) this.#forget(stale);
    return page;
  }

  #enterNew(slot: number, page: number): number {
    const { at, cache } = this;
    at.page = page;
    at.checksum = 0;
    at.birth = this.#family.epoch;
    const words = cache.words(slot);
    const first = cache.at(slot);
    writeIdentity(words, first, this.#identity(at));
    words[first] = 0;
    words[first + 11] = at.birth;
    cache.enter(slot, page);
    this.#markDirty(slot);
    cache.unpin(slot);
    return slot;
  }

  #growRoot(tree: Tree): boolean {
    const { at, cache } = this;
    at.volume = tree.volume;
    at.level = tree.height + 1;
    at.firstLeaf = 0;
    at.page = 0;
    const slot = this.#own();
    if (slot < 0) return false;
    const words = cache.words(slot);
    const pointer = pointerAt(cache.at(slot), 0);
    putNumber(words, pointer, tree.page);
    words[pointer + pointerChecksum] = tree.checksum;
    words[pointer + pointerBirth] = tree.birth;
    tree.height += 1;
    tree.page = at.page;
    tree.checksum = 0;
    tree.birth = at.birth;
    return true;
  }

  #markDirty(slot: number): void {
    this.cache.markDirty(slot);
    this.dirtySlots.add(slot);
  }

  #forget(slot: number): void {
    this.dirtySlots.delete(slot);
    this.cache.drop(slot);
  }

  #identity(ref: PageRef) {
    return {
      magic: ref.level === 0 ? pageMagic.mapLeaf : pageMagic.mapInner,
      level: ref.level,
      owner: this.#owner,
      volume: ref.volume,
      index: ref.firstLeaf,
      place: ref.page,
      poolTag0: this.#tag.poolTag0,
      poolTag1: this.#tag.poolTag1,
    };
  }

  #pageIn(ref: Readonly<PageRef>, done: StoreDone): void {
    const { page, checksum } = ref;
    const waiting = this.#loads.get(page);
    if (waiting) {
      waiting.push(done);
      return;
    }
    const slab = this.#slabOf(page);
    if (slab < 1 || slab >= this.#disks.slabEnd) {
      done({ code: "corrupt", text: `a map page is said to lie outside the pool (${page})` });
      return;
    }
    const waiters = [done];
    this.#loads.set(page, waiters);
    const identity = this.#identity(ref);
    const { cache } = this;
    const slot = cache.take();
    this.#disks.read(this.diskOf(page), this.offsetOf(page), cache.bytes(slot), (diskError) => {
      this.#loads.delete(page);
      let error = this.#retired;
      const words = cache.words(slot);
      const at = cache.at(slot);
      if (diskError) error ??= storeErrorOf(diskError, "map page");
      else if (
        !sealHolds(words, at, cache.bytes(slot), this.#digests) ||
        words[at] !== checksum ||
        !identityMatches(words, at, identity)
      ) {
        error = {
          code: "corrupt",
          text: `map page ${page} (volume ${identity.volume}, level ${identity.level}) is not what was written`,
        };
      }
      if (error || cache.find(page) >= 0) cache.drop(slot);
      else {
        cache.enter(slot, page);
        cache.unpin(slot);
      }
      for (const waiter of waiters) waiter(error);
    });
  }
}
