/**
 * `apply`: moves a batch of steps to their home. One batch at a time.
 *
 * The steps are taken in order of volume and block, leaf by leaf: leaves that are not in memory are paged in, up to 64 ahead; the way
 * to the leaf is made writable; then every chunk concerned is decided as a whole (all steps that touch it), its entry changed in
 * memory, and its blocks written.
 *
 *   nothing there          -> a new chunk for the blocks written
 *   exclusive              -> in place; but as if it were shared when its disk is missing, or when a step says that the block it
 *                             overwrites must survive a crash (`fresh`)
 *   shared                 -> a new chunk for the blocks written; the other blocks stay in the shared one, now the base
 *   shared, with a base    -> the same, and the smaller part of the old blocks is copied into the new chunk (one base at most)
 *   nothing left of it     -> unmapped; what was exclusive is freed
 *
 * Invariants:
 * - An entry changes before its blocks are on the disk: until the batch has ended a reader may find a checksum that does not match
 *   yet; `home_reader.ts` waits for the end of the batch and looks again.
 * - An error leaves entries whose blocks may not have been written; they fail their checksums until the steps are applied again.
 */

import { assert } from "../codec/assert.ts";
import type { Allocator } from "./allocator.ts";
import type { DiskSet } from "./disk_set.ts";
import type { ForkFamily, Tree } from "./fork_family.ts";
import { blocksPerChunk, pageBytes } from "./geometry.ts";
import {
  blocksPerLeaf,
  clearEntry,
  entriesPerLeaf,
  entryAt,
  entryBase,
  entryBaseBirth,
  entryBirth,
  entryChecksums,
  entryLocation,
  entryMasks,
  leavesPerPage,
} from "./map_page.ts";
import { absent, hole, type MapTrees, noSpace } from "./map_tree.ts";
import { chunkBytes, type HomeStep, type StoreDone, type StoreError } from "./store.ts";
import { WriteStream } from "./write_stream.ts";

const leavesAheadMax = 64;
const fullMask = 0xffff;

/** What the steps of an apply do to one chunk, as masks of its blocks. */
interface ChunkBlocks {
  readonly writes: number;
  readonly zeros: number;
  /** Those of `writes` that must not overwrite what is there. */
  readonly fresh: number;
}

const outOfSpace: StoreError = { code: "no-space", text: "the pool has no space for this" };

export class HomeWriter {
  readonly #disks: DiskSet;
  readonly #trees: MapTrees;
  readonly #family: ForkFamily;
  readonly #allocator: Allocator;
  /** Disks with writes that no flush has covered yet. */
  readonly touched = new Set<number>();
  #running = false;
  #steps: readonly HomeStep[] = [];
  #order: Int32Array = new Int32Array(0);
  #stream: WriteStream;
  #done: StoreDone = () => {};
  /** The step (in order) that is not finished yet, and the first block of it that is not. */
  #next = 0;
  #nextBlock = 0;
  /** How far leaves have been asked for. */
  #ahead = 0;
  #error: StoreError | null = null;

  constructor(options: { disks: DiskSet; trees: MapTrees; family: ForkFamily; allocator: Allocator }) {
    this.#disks = options.disks;
    this.#trees = options.trees;
    this.#family = options.family;
    this.#allocator = options.allocator;
    this.#stream = new WriteStream(this.#disks, this.touched);
  }

  get running(): boolean {
    return this.#running;
  }

  /** `done` with the error and, when a disk refused a write, its code. */
  apply(steps: readonly HomeStep[], done: (error: StoreError | null, diskCode: string | null) => void): void {
    assert(!this.#running, "one apply at a time");
    this.#running = true;
    this.#steps = steps;
    this.#order = orderOf(steps);
    this.#stream = new WriteStream(this.#disks, this.touched);
    this.#next = 0;
    this.#ahead = 0;
    this.#error = null;
    for (const step of steps) this.#checkStep(step);
    this.#nextBlock = steps.length > 0 ? this.#step(0).firstBlock : 0;
    this.#done = (error) => done(error, this.#stream.errorCode);
    this.#go();
  }

  #checkStep(step: HomeStep): void {
    const tree = this.#family.headTrees.get(step.volume);
    assert(tree !== undefined, `apply to volume ${step.volume}, which does not exist`);
    const count = countOf(step);
    const inside =
      step.firstBlock >= 0 && count > 0 && step.firstBlock + count <= Math.ceil(tree.sizeBytes / pageBytes);
    assert(inside, `apply beyond the end of volume ${step.volume}`);
    if (step.kind === "data")
      assert(step.bytes.byteLength === count * pageBytes, "a data step has a checksum per block");
  }

  #step(place: number): HomeStep {
    return this.#steps[this.#order[place]!]!;
  }

  /** Works until everything is under way, or something has to be waited for. */
  #go(): void {
    while (this.#next < this.#order.length && !this.#error && !this.#stream.error) {
      if (this.#stream.full) {
        this.#stream.whenRoom(() => this.#go());
        return;
      }
      const step = this.#step(this.#next);
      const tree = this.#family.headTrees.get(step.volume);
      assert(tree !== undefined, "a volume is not deleted while it is applied to");
      const leaf = Math.floor(this.#nextBlock / blocksPerLeaf);
      const outcome = this.#applyLeaf(tree, leaf);
      if (outcome === absent) {
        this.#loadAhead();
        this.#trees.load(
          () => this.#family.headTrees.get(step.volume) ?? null,
          leaf,
          (error) => {
            this.#error = error;
            this.#go();
          },
        );
        return;
      }
      if (outcome === noSpace) this.#error = outOfSpace;
    }
    const stream = this.#stream;
    stream.drain(() => {
      this.#running = false;
      const done = this.#done;
      this.#done = () => {};
      this.#steps = [];
      done(this.#error ?? stream.error);
    });
  }

  /** Asks for the leaves that come next, so that their pages arrive together. Errors show when the leaf's turn comes. */
  #loadAhead(): void {
    let lastLeaf = -1;
    let lastVolume = -1;
    let asked = 0;
    for (
      let place = Math.max(this.#ahead, this.#next + 1);
      place < this.#order.length && asked < leavesAheadMax;
      place += 1
    ) {
      this.#ahead = place + 1;
      const { volume, firstBlock } = this.#step(place);
      const leaf = Math.floor(firstBlock / blocksPerLeaf);
      if (volume === lastVolume && leaf === lastLeaf) continue;
      lastVolume = volume;
      lastLeaf = leaf;
      const tree = this.#family.headTrees.get(volume)!;
      if (this.#trees.walk(tree, leaf) !== absent) continue;
      asked += 1;
      this.#trees.load(
        () => this.#family.headTrees.get(volume) ?? null,
        leaf,
        () => {},
      );
    }
  }

  /** Applies everything that lies in one leaf and moves on behind it. 0 when done. */
  #applyLeaf(tree: Tree, leaf: number): number {
    const leafEnd = (leaf + 1) * blocksPerLeaf;
    if (!this.#hasData(tree.volume, leafEnd)) {
      const outcome = this.#applyZeros(tree, leaf, leafEnd);
      if (outcome <= 0) return outcome;
    }
    const slot = this.#trees.writable(tree, leaf);
    if (slot < 0) return slot;
    const words = this.#trees.cache.words(slot);
    const at = this.#trees.cache.at(slot);
    const origin = this.#family.originAt(tree.volume, leaf);
    while (this.#inLeaf(tree.volume, leafEnd)) {
      const entry = Math.floor(this.#nextBlock / blocksPerChunk) - leaf * entriesPerLeaf;
      if (!this.#applyChunk(tree.volume, words, entryAt(at, entry), leaf * entriesPerLeaf + entry, origin))
        return noSpace;
    }
    // Writing something and zeroing the rest may leave a leaf with nothing in it only if nothing was written.
    return 0;
  }

  #inLeaf(volume: number, leafEnd: number): boolean {
    if (this.#next >= this.#order.length) return false;
    return this.#step(this.#next).volume === volume && this.#nextBlock < leafEnd;
  }

  #hasData(volume: number, leafEnd: number): boolean {
    for (let place = this.#next; place < this.#order.length; place += 1) {
      const step = this.#step(place);
      if (step.volume !== volume || (place > this.#next && step.firstBlock >= leafEnd)) return false;
      if (step.kind === "data") return true;
    }
    return false;
  }

  /**
   * Zero steps alone in this leaf. 0: done with it; 1: something is left in it, so it has to be changed; `absent`, `noSpace`.
   */
  #applyZeros(tree: Tree, leaf: number, leafEnd: number): number {
    const { cache, at: found } = this.#trees;
    const slot = this.#trees.walk(tree, leaf);
    if (slot === absent) return absent;
    if (slot === hole) {
      const leaves = leavesPerPage[found.level]!;
      this.#skipTo(tree.volume, (Math.floor(leaf / leaves) + 1) * leaves * blocksPerLeaf);
      return 0;
    }
    const words = cache.words(slot);
    const at = cache.at(slot);
    let touchesAny = false;
    let leavesAny = false;
    for (let entry = 0; entry < entriesPerLeaf; entry += 1) {
      const masks = words[entryAt(at, entry) + entryMasks]!;
      const valid = (masks | (masks >>> 16)) & fullMask;
      if (valid === 0) continue;
      const zeros = this.#zeroMask(tree.volume, (leaf * entriesPerLeaf + entry) * blocksPerChunk);
      if ((valid & zeros) !== 0) touchesAny = true;
      if ((valid & ~zeros) !== 0) leavesAny = true;
    }
    if (touchesAny && leavesAny) return 1;
    if (touchesAny) {
      const freed = this.#exclusiveChunks(words, at, this.#family.originAt(tree.volume, leaf));
      const outcome = this.#trees.removeLeaf(tree, leaf);
      if (outcome < 0) return outcome;
      for (const chunk of freed) this.#allocator.freeChunk(chunk);
    }
    this.#skipTo(tree.volume, leafEnd);
    return 0;
  }

  #exclusiveChunks(words: Uint32Array, at: number, origin: number): number[] {
    const chunks: number[] = [];
    for (let entry = 0; entry < entriesPerLeaf; entry += 1) {
      const place = entryAt(at, entry);
      if (words[place + entryLocation] !== 0 && words[place + entryBirth]! > origin)
        chunks.push(words[place + entryLocation]!);
      if (words[place + entryBase] !== 0 && words[place + entryBaseBirth]! > origin)
        chunks.push(words[place + entryBase]!);
    }
    return chunks;
  }

  /** Which blocks of the chunk beginning at `chunkBlock` the pending steps zero. */
  #zeroMask(volume: number, chunkBlock: number): number {
    let mask = 0;
    for (let place = this.#next; place < this.#order.length; place += 1) {
      const step = this.#step(place);
      const first = place === this.#next ? this.#nextBlock : step.firstBlock;
      if (step.volume !== volume || first >= chunkBlock + blocksPerChunk) break;
      mask |= maskWithin(chunkBlock, first, step.firstBlock + countOf(step));
    }
    return mask;
  }

  /** What zero steps say before `block` in this volume is done. Holes reach far: data that comes first is not skipped. */
  #skipTo(volume: number, block: number): void {
    while (this.#next < this.#order.length) {
      const step = this.#step(this.#next);
      if (step.kind === "data" || step.volume !== volume || this.#nextBlock >= block) return;
      if (step.firstBlock + countOf(step) > block) {
        this.#nextBlock = block;
        return;
      }
      this.#advance();
    }
  }

  #advance(): void {
    this.#next += 1;
    if (this.#next < this.#order.length) this.#nextBlock = this.#step(this.#next).firstBlock;
  }

  /** All steps that touch one chunk. False: no space. `entry`: the entry's first word; `chunk`: its number in the volume. */
  #applyChunk(volume: number, words: Uint32Array, entry: number, chunk: number, origin: number): boolean {
    const chunkBlock = chunk * blocksPerChunk;
    const chunkEnd = chunkBlock + blocksPerChunk;
    let writes = 0;
    let zeros = 0;
    let fresh = 0;
    for (let place = this.#next; place < this.#order.length; place += 1) {
      const step = this.#step(place);
      const first = place === this.#next ? this.#nextBlock : step.firstBlock;
      if (step.volume !== volume || first >= chunkEnd) break;
      const mask = maskWithin(chunkBlock, first, step.firstBlock + countOf(step));
      if (step.kind === "zero") zeros |= mask;
      else {
        writes |= mask;
        if (step.fresh) fresh |= mask;
      }
    }
    assert((writes & zeros) === 0, "the steps of one apply do not overlap");
    if (!this.#prepareEntry(words, entry, { writes, zeros, fresh }, origin)) return false;
    if (writes === 0) {
      this.#skipTo(volume, chunkEnd);
      return true;
    }
    this.#writeBlocks(volume, words, entry, chunkBlock);
    return true;
  }

  /** Brings the entry to what it is after the chunk's steps, but for the checksums of the blocks written. False: no space. */
  #prepareEntry(words: Uint32Array, entry: number, blocks: ChunkBlocks, origin: number): boolean {
    const { writes, zeros, fresh } = blocks;
    const masks = words[entry + entryMasks]!;
    const mask = masks & fullMask & ~zeros;
    const baseMask = (masks >>> 16) & ~(zeros | writes);
    const location = words[entry + entryLocation]!;
    const isOwn = location !== 0 && words[entry + entryBirth]! > origin;
    // Zeros alone: no chunk is needed, and a shared one may stay where it is.
    const inPlace = isOwn && this.#disks.hasChunk(location) && (fresh & masks & fullMask) === 0;
    if (writes === 0 || inPlace) {
      this.#setMasks(words, entry, mask | writes, baseMask, origin);
      return true;
    }
    const chunk = this.#allocator.allocateChunk();
    if (chunk < 0) return false;
    this.#moveEntry(words, entry, { chunk, writes, kept: mask & ~writes, baseMask }, origin);
    return true;
  }

  /** Gives the entry a new location. The blocks `kept` in the old one and `baseMask` in the base stay where they are, or are copied. */
  #moveEntry(
    words: Uint32Array,
    entry: number,
    to: { chunk: number; writes: number; kept: number; baseMask: number },
    origin: number,
  ): void {
    const { chunk, writes, kept, baseMask } = to;
    const location = words[entry + entryLocation]!;
    const base = words[entry + entryBase]!;
    const bothNeeded = kept !== 0 && baseMask !== 0;
    const copyKept = bothNeeded && this.#disks.hasChunk(location) && bitCount(kept) <= bitCount(baseMask);
    let newMask = writes;
    let newBaseMask = baseMask;
    if (kept === 0 || copyKept) {
      if (copyKept) this.#copyBlocks(location, chunk, kept);
      if (location !== 0 && words[entry + entryBirth]! > origin) this.#allocator.freeChunk(location);
      newMask |= kept;
    } else {
      if (bothNeeded) this.#copyBlocks(base, chunk, baseMask);
      if (base !== 0 && words[entry + entryBaseBirth]! > origin) this.#allocator.freeChunk(base);
      words[entry + entryBase] = location;
      words[entry + entryBaseBirth] = words[entry + entryBirth]!;
      newMask |= baseMask;
      newBaseMask = kept;
    }
    words[entry + entryLocation] = chunk;
    words[entry + entryBirth] = this.#family.epoch;
    this.#setMasks(words, entry, newMask, newBaseMask, origin);
  }

  /** Stores the masks and lets go of chunks that no block needs any more. */
  #setMasks(words: Uint32Array, entry: number, mask: number, baseMask: number, origin: number): void {
    const base = words[entry + entryBase]!;
    if (baseMask === 0 && base !== 0) {
      if (words[entry + entryBaseBirth]! > origin) this.#allocator.freeChunk(base);
      words[entry + entryBase] = 0;
      words[entry + entryBaseBirth] = 0;
    }
    if (mask === 0) {
      const location = words[entry + entryLocation]!;
      if (location !== 0 && words[entry + entryBirth]! > origin) this.#allocator.freeChunk(location);
      if (baseMask === 0) {
        clearEntry(words, entry);
        return;
      }
      // Only the base is left: it becomes the location.
      words[entry + entryLocation] = words[entry + entryBase]!;
      words[entry + entryBirth] = words[entry + entryBaseBirth]!;
      words[entry + entryBase] = 0;
      words[entry + entryBaseBirth] = 0;
      words[entry + entryMasks] = baseMask;
      return;
    }
    words[entry + entryMasks] = (mask | (baseMask << 16)) >>> 0;
  }

  #writeBlocks(volume: number, words: Uint32Array, entry: number, chunkBlock: number): void {
    const chunkEnd = chunkBlock + blocksPerChunk;
    const location = words[entry + entryLocation]!;
    const disk = this.#diskOf(location);
    const offset = this.#offsetOf(location);
    while (this.#next < this.#order.length) {
      const step = this.#step(this.#next);
      if (step.volume !== volume || this.#nextBlock >= chunkEnd) return;
      const stepEnd = step.firstBlock + countOf(step);
      const end = Math.min(stepEnd, chunkEnd);
      if (step.kind === "data") {
        const first = this.#nextBlock - step.firstBlock;
        const count = end - this.#nextBlock;
        const inChunk = this.#nextBlock - chunkBlock;
        const checksums = entry + entryChecksums + inChunk;
        for (let block = 0; block < count; block += 1) words[checksums + block] = step.crcs[first + block]!;
        const whole = first === 0 && count === step.crcs.length;
        const bytes = whole ? step.bytes : step.bytes.subarray(first * pageBytes, (first + count) * pageBytes);
        this.#stream.add(disk, offset + inChunk * pageBytes, bytes);
      }
      if (stepEnd > chunkEnd) {
        this.#nextBlock = chunkEnd;
        return;
      }
      this.#advance();
    }
  }

  /**
   * Copies blocks as they are: their checksums stay, so a block that can not be read, or is damaged, is still found to be so when it
   * is read from its new place. What they are copied from, if it is freed, is held until the commit.
   */
  #copyBlocks(source: number, chunk: number, mask: number): void {
    const stream = this.#stream;
    const buffer = new Uint8Array(chunkBytes);
    const disk = this.#diskOf(chunk);
    const offset = this.#offsetOf(chunk);
    stream.beginOther();
    this.#disks.read(this.#diskOf(source), this.#offsetOf(source), buffer, (error) => {
      // What can not be read: zeros in its place fail their checksums. One unreadable block must not take its neighbours along.
      if (error) this.#copySingly(source, buffer, mask, () => this.#writeCopied(stream, disk, offset, buffer, mask));
      else this.#writeCopied(stream, disk, offset, buffer, mask);
    });
  }

  #copySingly(source: number, buffer: Uint8Array, mask: number, done: () => void): void {
    let block = 0;
    const next = () => {
      while (block < blocksPerChunk && (mask & (1 << block)) === 0) block += 1;
      if (block >= blocksPerChunk) {
        done();
        return;
      }
      const target = buffer.subarray(block * pageBytes, (block + 1) * pageBytes);
      this.#disks.read(this.#diskOf(source), this.#offsetOf(source) + block * pageBytes, target, (error) => {
        if (error) target.fill(0);
        block += 1;
        next();
      });
    };
    next();
  }

  #writeCopied(stream: WriteStream, disk: number, offset: number, buffer: Uint8Array, mask: number): void {
    for (let block = 0; block < blocksPerChunk; ) {
      if ((mask & (1 << block)) === 0) {
        block += 1;
        continue;
      }
      let end = block + 1;
      while (end < blocksPerChunk && (mask & (1 << end)) !== 0) end += 1;
      stream.beginOther();
      stream.touched.add(disk);
      this.#disks.write(
        disk,
        offset + block * pageBytes,
        [buffer.subarray(block * pageBytes, end * pageBytes)],
        (error) => {
          if (error) stream.errorCode = stream.errorCode ?? error.code;
          stream.endOther(error ? { code: "disk-failed", text: `write: ${error.text}` } : null);
        },
      );
      block = end;
    }
    stream.endOther(null);
  }

  #diskOf(chunk: number): number {
    return this.#disks.slabDisk[chunk >>> this.#disks.geometry.chunkShift]!;
  }

  #offsetOf(chunk: number): number {
    const { chunkShift, chunksPerSlab } = this.#disks.geometry;
    return this.#disks.slabOffset[chunk >>> chunkShift]! + (chunk & (chunksPerSlab - 1)) * chunkBytes;
  }
}

function countOf(step: HomeStep): number {
  return step.kind === "data" ? step.crcs.length : step.blockCount;
}

/** The blocks [first, end) that lie in the chunk beginning at `chunkBlock`, as a mask. */
function maskWithin(chunkBlock: number, first: number, end: number): number {
  const from = first > chunkBlock ? first - chunkBlock : 0;
  const to = end < chunkBlock + blocksPerChunk ? end - chunkBlock : blocksPerChunk;
  return to > from ? ((1 << to) - 1) & ~((1 << from) - 1) : 0;
}

/** The steps' places in order of volume and block. Sorting is left out when they come sorted. */
function orderOf(steps: readonly HomeStep[]): Int32Array {
  const order = new Int32Array(steps.length);
  let sorted = true;
  for (let index = 0; index < steps.length; index += 1) {
    order[index] = index;
    if (index === 0) continue;
    const before = steps[index - 1]!;
    const step = steps[index]!;
    if (before.volume > step.volume || (before.volume === step.volume && before.firstBlock > step.firstBlock))
      sorted = false;
  }
  if (!sorted) {
    order.sort((a, b) => steps[a]!.volume - steps[b]!.volume || steps[a]!.firstBlock - steps[b]!.firstBlock);
  }
  return order;
}

function bitCount(mask: number): number {
  let count = 0;
  for (let left = mask; left !== 0; left &= left - 1) count += 1;
  return count;
}
