/**
 * The slab table: which group owns each slab, and for what. In memory as typed arrays; on disk in pages of 252 entries, every page
 * in two copies (A, B, written alternately) on each metadata disk.
 *
 * An entry is 16 bytes behind the page header: owner (group number, 0 free; u32), kind (u32), change count (u32), 0 (u32).
 *
 * Each half of a pool has a table of its own over all slabs. What the other half has is `elsewhere` here (owner 2^32 - 1, kind 4):
 * never free, and no group's. A new pool's slabs alternate between the halves.
 *
 * Invariants:
 * - A slab is not free, or a group's, in the tables of both halves, but for those of a group that is being moved (`group_moves.ts`).
 * - A slab is taken in memory at once; the caller makes the table durable (`save`) before anything durable refers to the slab.
 * - A slab is given back in memory when nothing durable refers to it any more. If the table is not saved afterwards, the owner finds
 *   the slab again at its next start, empty, and gives it back once more.
 * - `promised` slabs are kept for those to whom they were promised: `take` refuses all others.
 */
import type { Digests } from "../../hal/api/digests.ts";
import type { DiskError } from "../../hal/api/shelf.ts";
import { assert } from "../codec/assert.ts";
import type { DiskSet } from "./disk_set.ts";
import { pageBytes, slabEntriesPerPage, tablePageOffset } from "./geometry.ts";
import {
  headerWords,
  identityMatches,
  newPage,
  pageGeneration,
  pageMagic,
  sealHolds,
  sealPage,
  writeIdentity,
} from "./page_seal.ts";
import type { StoreError } from "./store.ts";

export const slabKind = { free: 0, data: 1, map: 2, log: 3, elsewhere: 4 } as const;
export type SlabKind = (typeof slabKind)[keyof typeof slabKind];
/** What a group takes a slab for. */
export type GroupSlabKind = Exclude<SlabKind, 0 | 4>;

/** The owner of slabs that are elsewhere: no group has this number. */
const elsewhereOwner = 0xffffffff;
export const groupNumberMax = elsewhereOwner - 1;
const entryWords = 4;

export interface PoolTag {
  readonly poolTag0: number;
  readonly poolTag1: number;
}

/** The tag of all pages of a pool. */
export function poolTagOf(poolId: string): PoolTag {
  return { poolTag0: Number.parseInt(poolId.slice(0, 8), 16), poolTag1: Number.parseInt(poolId.slice(8, 16), 16) };
}

export class SlabTable {
  readonly owner: Uint32Array;
  readonly kind: Uint8Array;
  readonly #changes: Uint32Array;
  readonly #disks: DiskSet;
  readonly #digests: Digests;
  readonly #tag: PoolTag;
  readonly #pageGeneration: Float64Array;
  readonly #pageCopy: Uint8Array;
  readonly #dirty = new Set<number>();
  readonly #freeOnDisk: Int32Array;
  readonly #scanFrom: Int32Array;
  readonly #promises = new Map<number, number>();
  #freeCount = 0;
  #promisedCount = 0;
  #saving = false;
  #waiting: ((error: DiskError | null) => void)[] = [];

  constructor(disks: DiskSet, digests: Digests, tag: PoolTag) {
    this.#disks = disks;
    this.#digests = digests;
    this.#tag = tag;
    this.owner = new Uint32Array(disks.slabEnd);
    this.kind = new Uint8Array(disks.slabEnd);
    this.#changes = new Uint32Array(disks.slabEnd);
    const pages = disks.geometry.tablePages;
    this.#pageGeneration = new Float64Array(pages);
    this.#pageCopy = new Uint8Array(pages).fill(1);
    this.#freeOnDisk = new Int32Array(disks.disks.length);
    this.#scanFrom = new Int32Array(disks.disks.length);
    this.#countFree();
  }

  /** Slabs of disks that are there and that belong to nobody. */
  get freeCount(): number {
    return this.#freeCount;
  }

  /** Free slabs that are promised to nobody. */
  get spareCount(): number {
    return Math.max(0, this.#freeCount - this.#promisedCount);
  }

  /** Slabs that are not elsewhere, missing disks' too. */
  get ownCount(): number {
    let count = 0;
    for (let slab = 1; slab < this.owner.length; slab += 1) if (!this.isElsewhere(slab)) count += 1;
    return count;
  }

  /** All pages, for a new pool: empty, with every other slab elsewhere when there are two halves. */
  format(done: (error: DiskError | null) => void): void {
    const { half, halves } = this.#disks.geometry;
    for (let slab = 1; halves === 2 && slab < this.owner.length; slab += 1) {
      if (slab % 2 === half) this.#set(slab, elsewhereOwner, slabKind.elsewhere);
    }
    this.#countFree();
    for (let page = 0; page < this.#pageGeneration.length; page += 1) this.#dirty.add(page);
    this.save(done);
  }

  /** Reads the newest whole copy of every page; a page without one is `corrupt`. Rewrites pages that a metadata disk lacks. */
  load(done: (error: DiskError | { readonly code: "corrupt"; readonly text: string } | null) => void): void {
    const disks = this.#disks.metadataDisks.filter((disk) => this.#disks.disks[disk] !== null);
    const { tablePages } = this.#disks.geometry;
    // One read per disk and copy: the copies of all pages lie side by side.
    const images: { disk: number; copy: number; image: Uint8Array }[] = [];
    let open = disks.length * 2;
    let failed: DiskError | null = null;
    for (const disk of disks) {
      for (const copy of [0, 1]) {
        const image = new Uint8Array(tablePages * pageBytes);
        this.#disks.read(disk, tablePageOffset(this.#disks.geometry, 0, copy), image, (error) => {
          if (error) failed = error;
          else images.push({ disk, copy, image });
          open -= 1;
          if (open > 0) return;
          for (let page = 0; page < tablePages; page += 1) {
            if (!this.#adopt(page, images, disks)) {
              done(failed ?? { code: "corrupt", text: `slab table: page ${page} is not whole anywhere` });
              return;
            }
          }
          this.#countFree();
          this.save(done);
        });
      }
    }
  }

  /** Free slabs that `owner` may take: all but those promised to others. */
  availableFor(owner: number): number {
    return this.#freeCount - this.#promisedCount + (this.#promises.get(owner) ?? 0);
  }

  /** Takes a free slab, on the disk with the most of them; 0: none that is not promised to others. */
  take(owner: number, kind: GroupSlabKind): number {
    assert(owner > 0 && owner <= groupNumberMax, "a slab is taken by a group");
    return this.availableFor(owner) > 0 ? this.#takeFree(owner, kind) : 0;
  }

  /** Up to that many free slabs that are promised to nobody, spread over the disks, are elsewhere from now on. */
  cede(slabCount: number): number[] {
    const slabs: number[] = [];
    while (slabs.length < slabCount && this.#freeCount > this.#promisedCount) {
      slabs.push(this.#takeFree(elsewhereOwner, slabKind.elsewhere));
    }
    return slabs;
  }

  isElsewhere(slab: number): boolean {
    return this.owner[slab] === elsewhereOwner;
  }

  /** A slab that was elsewhere is a group's now. */
  adopt(slab: number, owner: number, kind: GroupSlabKind): void {
    assert(this.isElsewhere(slab), `slab ${slab} is not elsewhere`);
    this.#set(slab, owner, kind);
  }

  /** A group's slab is elsewhere from now on. */
  sendElsewhere(slab: number): void {
    assert(this.owner[slab] !== 0 && !this.isElsewhere(slab), `slab ${slab} is no group's`);
    this.#set(slab, elsewhereOwner, slabKind.elsewhere);
  }

  /** On the disk with the most free slabs; 0: there is none. */
  #takeFree(owner: number, kind: SlabKind): number {
    let disk = -1;
    for (let index = 0; index < this.#freeOnDisk.length; index += 1) {
      if (this.#freeOnDisk[index]! > (disk < 0 ? 0 : this.#freeOnDisk[disk]!)) disk = index;
    }
    if (disk < 0) return 0;
    const { base, count } = this.#disks.slabRange(disk);
    for (let step = 0; step < count; step += 1) {
      const slab = base + ((this.#scanFrom[disk]! + step) % count);
      if (this.owner[slab] !== 0) continue;
      this.#scanFrom[disk] = slab - base;
      this.#set(slab, owner, kind);
      this.#freeOnDisk[disk]! -= 1;
      this.#freeCount -= 1;
      return slab;
    }
    throw new Error("store: the count of free slabs is wrong");
  }

  /** A group's slab, or one that was elsewhere, is free from now on. */
  giveBack(slab: number): void {
    assert(this.owner[slab] !== 0, `slab ${slab} is free already`);
    this.#set(slab, 0, slabKind.free);
    const disk = this.#disks.slabDisk[slab]!;
    if (this.#disks.disks[disk] === null) return;
    this.#freeOnDisk[disk]! += 1;
    this.#freeCount += 1;
  }

  /** Slabs of a group and kind, missing disks' too, in order. */
  slabsOf(owner: number, kind: GroupSlabKind): number[] {
    const slabs: number[] = [];
    for (let slab = 1; slab < this.owner.length; slab += 1) {
      if (this.owner[slab] === owner && this.kind[slab] === kind) slabs.push(slab);
    }
    return slabs;
  }

  /** Of every kind. */
  allSlabsOf(owner: number): number[] {
    const slabs: number[] = [];
    for (let slab = 1; slab < this.owner.length; slab += 1) if (this.owner[slab] === owner) slabs.push(slab);
    return slabs;
  }

  isPresent(slab: number): boolean {
    return this.#disks.disks[this.#disks.slabDisk[slab]!] !== null;
  }

  /** Sets how many free slabs are kept for `owner`. False: there are not as many; the promise stays as it was. Less is always granted. */
  promise(owner: number, slabs: number): boolean {
    const before = this.#promises.get(owner) ?? 0;
    if (slabs > before && this.#freeCount - this.#promisedCount < slabs - before) return false;
    this.#promisedCount += slabs - before;
    if (slabs > 0) this.#promises.set(owner, slabs);
    else this.#promises.delete(owner);
    return true;
  }

  get dirty(): boolean {
    return this.#dirty.size > 0 || this.#saving;
  }

  /** Makes every change made before the call durable. Calls share writes. */
  save(done: (error: DiskError | null) => void): void {
    this.#waiting.push(done);
    if (!this.#saving) this.#saveNext();
  }

  #saveNext(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    if (this.#dirty.size === 0) {
      for (const done of waiting) done(null);
      return;
    }
    this.#saving = true;
    const pages = [...this.#dirty].sort((a, b) => a - b);
    this.#dirty.clear();
    const disks = this.#disks.metadataDisks.filter((disk) => this.#disks.disks[disk] !== null);
    let open = pages.length * disks.length;
    let failed: DiskError | null = null;
    const finish = (error: DiskError | null) => {
      // What a failed write left behind is unknown: both copies may be needed, so the next save writes the same copy again.
      if (error) for (const page of pages) this.#dirty.add(page);
      else for (const page of pages) this.#pageCopy[page]! ^= 1;
      this.#saving = false;
      for (const done of waiting) done(error);
      if (this.#waiting.length > 0 && !this.#saving) this.#saveNext();
    };
    for (const page of pages) {
      const copy = this.#pageCopy[page]! ^ 1;
      this.#pageGeneration[page]! += 1;
      const bytes = this.#encode(page, copy);
      for (const disk of disks) {
        this.#disks.write(disk, tablePageOffset(this.#disks.geometry, page, copy), [bytes], (error) => {
          failed = failed ?? error;
          open -= 1;
          if (open > 0) return;
          if (failed) finish(failed);
          else this.#disks.flushAll(disks, finish);
        });
      }
    }
  }

  #encode(page: number, copy: number): Uint8Array {
    const image = newPage();
    writeIdentity(image.words, 0, this.#identity(page, copy));
    const first = page * slabEntriesPerPage;
    const end = Math.min(first + slabEntriesPerPage, this.owner.length);
    for (let slab = first; slab < end; slab += 1) {
      const at = headerWords + (slab - first) * entryWords;
      image.words[at] = this.owner[slab]!;
      image.words[at + 1] = this.kind[slab]!;
      image.words[at + 2] = this.#changes[slab]!;
    }
    sealPage(image, this.#pageGeneration[page]!, this.#digests);
    return image.bytes;
  }

  #adopt(
    page: number,
    images: readonly { disk: number; copy: number; image: Uint8Array }[],
    disks: readonly number[],
  ): boolean {
    let newest: { words: Uint32Array; copy: number; generation: number } | null = null;
    const generations = new Map<number, number>();
    for (const { disk, copy, image } of images) {
      const bytes = image.subarray(page * pageBytes, (page + 1) * pageBytes);
      const words = new Uint32Array(bytes.buffer, bytes.byteOffset, pageBytes / 4);
      if (!sealHolds(words, 0, bytes, this.#digests) || !identityMatches(words, 0, this.#identity(page, copy)))
        continue;
      const generation = pageGeneration(words, 0);
      generations.set(disk, Math.max(generation, generations.get(disk) ?? 0));
      if (!newest || generation > newest.generation) newest = { words, copy, generation };
    }
    if (!newest) return false;
    const first = page * slabEntriesPerPage;
    const end = Math.min(first + slabEntriesPerPage, this.owner.length);
    for (let slab = first; slab < end; slab += 1) {
      const at = headerWords + (slab - first) * entryWords;
      const kind = newest.words[at + 1]!;
      if (!this.#isSound(newest.words[at]!, kind)) return false;
      this.owner[slab] = newest.words[at]!;
      this.kind[slab] = kind;
      this.#changes[slab] = newest.words[at + 2]!;
    }
    this.#pageGeneration[page] = newest.generation;
    this.#pageCopy[page] = newest.copy;
    if (disks.some((disk) => generations.get(disk) !== newest.generation)) this.#dirty.add(page);
    return true;
  }

  #isSound(owner: number, kind: number): boolean {
    if (kind === slabKind.elsewhere || owner === elsewhereOwner) {
      return kind === slabKind.elsewhere && owner === elsewhereOwner && this.#disks.geometry.halves === 2;
    }
    return kind < slabKind.elsewhere;
  }

  #identity(page: number, copy: number) {
    return {
      magic: pageMagic.slabTable,
      level: 0,
      owner: 0,
      volume: 0,
      index: page,
      place: tablePageOffset(this.#disks.geometry, page, copy),
      ...this.#tag,
    };
  }

  #set(slab: number, owner: number, kind: SlabKind): void {
    this.owner[slab] = owner;
    this.kind[slab] = kind;
    this.#changes[slab]! += 1;
    this.#dirty.add(Math.floor(slab / slabEntriesPerPage));
  }

  #countFree(): void {
    this.#freeOnDisk.fill(0);
    this.#freeCount = 0;
    for (let slab = 1; slab < this.owner.length; slab += 1) {
      if (this.owner[slab] !== 0 || !this.isPresent(slab)) continue;
      this.#freeOnDisk[this.#disks.slabDisk[slab]!]! += 1;
      this.#freeCount += 1;
    }
  }
}

/** A disk's refusal of the pool's own metadata. */
export function metadataFailed(error: DiskError): StoreError {
  return { code: "disk-failed", text: `pool metadata: ${error.text}` };
}
