/**
 * A group's bitmaps on disk: space pages under index pages under a short list in the group's root. Shadow-paged like the maps: a
 * commit writes changed pages to new places and frees the old ones, so that a crash leaves the bitmaps of the last commit, and
 * every page is checked against the checksum in its parent.
 *
 * A space page: header (level 0, owner the group, volume 0 data / 1 map, index), then the bitmaps of `slabsPerPage` slabs.
 * An index page: header (level 1, ...), then 252 entries of 16 bytes: place (two u32), checksum, units used.
 *
 * Invariant: a commit moves every page at most once. Moving a page allocates and frees map pages, which changes bitmaps of map slabs,
 * which may make more space pages move; `sealSpace` goes on until nothing new has changed, and only then looks at the contents.
 */
import type { Digests } from "../../hal/api/digests.ts";
import { assert } from "../codec/assert.ts";
import type { DiskSet } from "./disk_set.ts";
import { storeErrorOf } from "./disk_set.ts";
import { pageBytes, pageWords } from "./geometry.ts";
import {
  getNumber,
  headerWords,
  identityMatches,
  newPage,
  type PageIdentity,
  pageMagic,
  putNumber,
  sealHolds,
  sealPage,
  writeIdentity,
} from "./page_seal.ts";
import type { PoolTag } from "./slab_table.ts";
import { newSpacePage, type SpaceMap, type SpacePage } from "./space_map.ts";
import type { StoreError } from "./store.ts";

const entriesPerIndex = 252;
const entryWords = 4;
/** Reads of space pages under way at start: enough to keep a disk busy. */
const readsInFlightMax = 32;

/** index page number, place, checksum. */
export type SpaceRoot = readonly [number, number, number];

export interface SealedPage {
  /** The page's number. */
  readonly place: number;
  readonly bytes: Uint8Array;
}

interface IndexPage {
  readonly index: number;
  readonly words: Uint32Array;
  place: number;
  checksum: number;
}

export class SpaceTree {
  readonly map: SpaceMap;
  readonly index = new Map<number, IndexPage>();
  readonly #owner: number;
  readonly #which: number;
  readonly #tag: PoolTag;

  /** `which`: 0 data, 1 map. */
  constructor(map: SpaceMap, owner: number, which: number, tag: PoolTag) {
    this.map = map;
    this.#owner = owner;
    this.#which = which;
    this.#tag = tag;
  }

  roots(): SpaceRoot[] {
    return [...this.index.values()].map((page) => [page.index, page.place, page.checksum] as const);
  }

  pageCount(): number {
    return this.map.pages.size + this.index.size;
  }

  /** Places of all pages on disk, for checkers. */
  places(): number[] {
    return [
      ...[...this.map.pages.values()].map((page) => page.place),
      ...[...this.index.values()].map((page) => page.place),
    ].filter((place) => place !== 0);
  }

  indexPage(spaceIndex: number): IndexPage {
    const index = Math.floor(spaceIndex / entriesPerIndex);
    let page = this.index.get(index);
    if (!page) {
      page = { index, words: new Uint32Array(pageWords), place: 0, checksum: 0 };
      this.index.set(index, page);
    }
    return page;
  }

  sealSpacePage(page: SpacePage, generation: number, digests: Digests): SealedPage {
    const copy = newPage();
    copy.words.set(page.used);
    writeIdentity(copy.words, 0, this.#identity(0, page.index, page.place));
    page.checksum = sealPage(copy, generation, digests);
    return { place: page.place, bytes: copy.bytes };
  }

  enterInIndex(page: SpacePage): void {
    const { words } = this.indexPage(page.index);
    const at = headerWords + (page.index % entriesPerIndex) * entryWords;
    putNumber(words, at, page.place);
    words[at + 2] = page.place === 0 ? 0 : page.checksum;
    words[at + 3] = page.usedCount;
  }

  sealIndexPage(page: IndexPage, generation: number, digests: Digests): SealedPage {
    const copy = newPage();
    copy.words.set(page.words);
    writeIdentity(copy.words, 0, this.#identity(1, page.index, page.place));
    page.checksum = sealPage(copy, generation, digests);
    return { place: page.place, bytes: copy.bytes };
  }

  /** Reads everything below `roots`. */
  load(roots: readonly SpaceRoot[], disks: DiskSet, digests: Digests, done: (error: StoreError | null) => void): void {
    const wanted: { level: number; index: number; place: number; checksum: number }[] = roots.map(
      ([index, place, checksum]) => {
        return { level: 1, index, place, checksum };
      },
    );
    let inFlight = 0;
    let failed: StoreError | null = null;
    const next = () => {
      while (!failed && inFlight < readsInFlightMax && wanted.length > 0) {
        const page = wanted.pop()!;
        inFlight += 1;
        this.#loadPage(page, disks, digests, (error, children) => {
          inFlight -= 1;
          failed = failed ?? error;
          wanted.push(...children);
          next();
        });
      }
      if (inFlight === 0 && (failed || wanted.length === 0)) {
        inFlight = -1;
        done(failed);
      }
    };
    next();
  }

  #loadPage(
    page: { level: number; index: number; place: number; checksum: number },
    disks: DiskSet,
    digests: Digests,
    done: (
      error: StoreError | null,
      children: { level: number; index: number; place: number; checksum: number }[],
    ) => void,
  ): void {
    const slab = Math.floor(page.place / disks.geometry.pagesPerSlab);
    if (slab < 1 || slab >= disks.slabEnd) {
      done({ code: "corrupt", text: `space page ${page.index} is said to lie outside the pool` }, []);
      return;
    }
    const image = newPage();
    const offset = disks.slabOffset[slab]! + (page.place % disks.geometry.pagesPerSlab) * pageBytes;
    disks.read(disks.slabDisk[slab]!, offset, image.bytes, (error) => {
      if (error) {
        done(storeErrorOf(error, "space page"), []);
        return;
      }
      const whole = sealHolds(image.words, 0, image.bytes, digests) && image.words[0] === page.checksum;
      if (!whole || !identityMatches(image.words, 0, this.#identity(page.level, page.index, page.place))) {
        done({ code: "corrupt", text: `space page ${page.index} (level ${page.level}) is not what was written` }, []);
        return;
      }
      if (page.level === 0) {
        const loaded = newSpacePage(page.index);
        loaded.used.set(image.words.subarray(headerWords), headerWords);
        loaded.place = page.place;
        loaded.checksum = page.checksum;
        this.map.pages.set(page.index, loaded);
        done(null, []);
        return;
      }
      this.index.set(page.index, { index: page.index, words: image.words, place: page.place, checksum: page.checksum });
      const children = [];
      for (let entry = 0; entry < entriesPerIndex; entry += 1) {
        const at = headerWords + entry * entryWords;
        const place = getNumber(image.words, at);
        if (place === 0) continue;
        children.push({ level: 0, index: page.index * entriesPerIndex + entry, place, checksum: image.words[at + 2]! });
      }
      done(null, children);
    });
  }

  #identity(level: number, index: number, place: number): PageIdentity {
    return {
      magic: level === 0 ? pageMagic.space : pageMagic.spaceIndex,
      level,
      owner: this.#owner,
      volume: this.#which,
      index,
      place,
      ...this.#tag,
    };
  }
}

/**
 * Gives every changed space page a new place and returns all pages to be written. null: no page was left (the caller keeps enough
 * of them back that this can not happen: see `allocator.ts`).
 */
export function sealSpace(
  trees: readonly SpaceTree[],
  pages: { allocate(): number; free(page: number): void },
  generation: number,
  digests: Digests,
): SealedPage[] | null {
  const moved = new Map<SpacePage, SpaceTree>();
  const movedIndex = new Map<IndexPage, SpaceTree>();
  const move = (page: { place: number }, keep: boolean): boolean => {
    if (page.place !== 0) pages.free(page.place);
    page.place = 0;
    const place = keep ? pages.allocate() : 0;
    if (place > 0) page.place = place;
    return place >= 0;
  };
  for (let changed = true; changed; ) {
    changed = false;
    for (const tree of trees) {
      for (const page of tree.map.pages.values()) {
        // A page that was empty when it was moved may have got its first unit since.
        if (!page.dirty || (moved.has(page) && (page.place !== 0 || page.usedCount === 0))) continue;
        moved.set(page, tree);
        changed = true;
        if (!move(page, page.usedCount > 0)) return null;
        const index = tree.indexPage(page.index);
        if (movedIndex.has(index)) continue;
        movedIndex.set(index, tree);
        if (!move(index, true)) return null;
      }
    }
  }
  const sealed: SealedPage[] = [];
  for (const [page, tree] of moved) {
    // Emptied again while other pages were moved: it is written all the same, the next commit drops it.
    if (page.place !== 0) sealed.push(tree.sealSpacePage(page, generation, digests));
    tree.enterInIndex(page);
    page.dirty = page.place !== 0 && page.usedCount === 0;
  }
  for (const [page, tree] of movedIndex) {
    assert(page.place > 0, "an index page has a place");
    sealed.push(tree.sealIndexPage(page, generation, digests));
  }
  return sealed;
}
