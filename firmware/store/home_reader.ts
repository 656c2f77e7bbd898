/**
 * Reads from the home location: at once (`tryRead`), or with waiting (`read`); and what is allocated (`extents`).
 *
 * Invariants:
 * - No block is handed out that did not match the checksum in its map at that moment.
 * - A block that does not match is looked up and read again, after the apply that may be overwriting it has ended; when it does not
 *   match twice without an apply in between, it counts as a medium error.
 * - A read under way keeps the chunks that were freed after it began from being reused.
 */
import type { Digests } from "../../hal/api/digests.ts";
import type { DiskError } from "../../hal/api/shelf.ts";
import { appendBlock } from "../codec/crc32_run.ts";
import type { Allocator } from "./allocator.ts";
import type { DiskSet } from "./disk_set.ts";
import type { ForkFamily, Tree } from "./fork_family.ts";
import { blocksPerChunk, pageBytes } from "./geometry.ts";
import {
  blocksPerLeaf,
  entriesPerLeaf,
  entryAt,
  entryBase,
  entryChecksums,
  entryLocation,
  entryMasks,
  leavesPerPage,
} from "./map_page.ts";
import { absent, hole, type MapTrees } from "./map_tree.ts";
import { chunkBytes, type HomeExtent, type StoreDone, type StoreError, type Version } from "./store.ts";

/** A run that is read in one go: bounded so that its buffers and checks stay small. */
const runBlocksMax = 256;

/** A block that does not match while no apply runs is read once more; while applies run it is read again after each of them. */
const quietTriesMax = 2;
const triesMax = 100;

export interface ApplyWatch {
  /** Changes whenever an apply begins or ends; even while none runs. */
  sequence(): number;
  /** Calls back when no apply is running, at once if none is. */
  whenNone(callback: () => void): void;
}

/** How often a block has been read in vain: with no apply running, and altogether. */
interface Tries {
  readonly quiet: number;
  readonly all: number;
}

const firstTry: Tries = { quiet: 0, all: 0 };

interface Run {
  /** In the volume; and how many. */
  readonly firstBlock: number;
  readonly blockCount: number;
  readonly disk: number;
  readonly offset: number;
  readonly checksums: Uint32Array;
  readonly applySequence: number;
}

interface ReadJob {
  readonly version: Version;
  readonly volume: number;
  readonly firstBlock: number;
  readonly target: Uint8Array;
  readonly token: number;
  readonly done: StoreDone;
  open: number;
  error: StoreError | null;
}

export class HomeReader {
  readonly #disks: DiskSet;
  readonly #trees: MapTrees;
  readonly #family: ForkFamily;
  readonly #allocator: Allocator;
  readonly #digests: Digests;
  readonly #applies: ApplyWatch;

  constructor(options: {
    disks: DiskSet;
    trees: MapTrees;
    family: ForkFamily;
    allocator: Allocator;
    digests: Digests;
    applies: ApplyWatch;
  }) {
    this.#disks = options.disks;
    this.#trees = options.trees;
    this.#family = options.family;
    this.#allocator = options.allocator;
    this.#digests = options.digests;
    this.#applies = options.applies;
  }

  tryRead(version: Version, volume: number, firstBlock: number, target: Uint8Array): boolean {
    const tree = version === "head" ? this.#family.headTrees.get(volume) : this.#family.treesOf(version)?.get(volume);
    if (tree === undefined) return false;
    const { cache } = this.#trees;
    const end = firstBlock + target.byteLength / pageBytes;
    let block = firstBlock;
    while (block < end) {
      const leaf = Math.floor(block / blocksPerLeaf);
      const slot = this.#trees.walk(tree, leaf);
      const leafEnd = (leaf + 1) * blocksPerLeaf;
      const partEnd = Math.min(end, leafEnd);
      if (slot === absent) return false;
      if (slot === hole) {
        target.fill(0, (block - firstBlock) * pageBytes, (partEnd - firstBlock) * pageBytes);
        block = partEnd;
        continue;
      }
      const words = cache.words(slot);
      const at = cache.at(slot);
      while (block < partEnd) {
        const count = this.#tryRun(words, at, leaf, block, partEnd, target, firstBlock);
        if (count === 0) return false;
        block += count;
      }
    }
    return true;
  }

  /** Reads the run that begins at `block` (at most up to `end`, inside the leaf). Returns its length; 0: not possible now. */
  #tryRun(
    words: Uint32Array,
    at: number,
    leaf: number,
    block: number,
    end: number,
    target: Uint8Array,
    origin: number,
  ): number {
    const count = this.#runLength(words, at, leaf, block, end);
    const from = (block - origin) * pageBytes;
    const whole = from === 0 && count * pageBytes === target.byteLength;
    const part = whole ? target : target.subarray(from, from + count * pageBytes);
    const chunk = this.#chunkOf(words, at, leaf, block);
    if (chunk === 0) {
      part.fill(0);
      return count;
    }
    const disk = this.#disks.disks[this.#diskOf(chunk)];
    if (!disk?.tryRead(this.#offsetOf(chunk) + (block % blocksPerChunk) * pageBytes, part)) return 0;
    let expected = checksumOf(words, at, leaf, block);
    for (let index = 1; index < count; index += 1) {
      expected = appendBlock(expected, checksumOf(words, at, leaf, block + index));
    }
    return this.#digests.crc32(part) === expected ? count : 0;
  }

  /** How many blocks from `block` on lie one behind the other on one disk, or are all without data. */
  #runLength(words: Uint32Array, at: number, leaf: number, block: number, end: number): number {
    const first = this.#chunkOf(words, at, leaf, block);
    let last = block + 1;
    let chunk = first;
    for (; last < end && last - block < runBlocksMax; last += 1) {
      const next = this.#chunkOf(words, at, leaf, last);
      if (first === 0) {
        if (next !== 0) break;
      } else if (last % blocksPerChunk !== 0) {
        if (next !== chunk) break;
      } else if (chunk === 0 || next !== chunk + 1 || this.#crossesSlab(next)) break;
      chunk = next;
    }
    return last - block;
  }

  #crossesSlab(chunk: number): boolean {
    return (chunk & (this.#disks.geometry.chunksPerSlab - 1)) === 0;
  }

  /** The chunk that holds this block, 0: none. */
  #chunkOf(words: Uint32Array, at: number, leaf: number, block: number): number {
    const entry = entryAt(at, Math.floor(block / blocksPerChunk) - leaf * entriesPerLeaf);
    const bit = 1 << (block % blocksPerChunk);
    const masks = words[entry + entryMasks]!;
    if ((masks & bit) !== 0) return words[entry + entryLocation]!;
    return ((masks >>> 16) & bit) !== 0 ? words[entry + entryBase]! : 0;
  }

  read(version: Version, volume: number, firstBlock: number, target: Uint8Array, done: StoreDone): void {
    const job: ReadJob = {
      version,
      volume,
      firstBlock,
      target,
      token: this.#allocator.beginRead(),
      done,
      open: 1,
      error: null,
    };
    this.#plan(job, firstBlock, firstBlock + target.byteLength / pageBytes, firstTry);
  }

  /** Issues the reads for [block, end), leaf after leaf; ends one share of the job when all leaves have been looked up. */
  #plan(job: ReadJob, block: number, end: number, tries: Tries): void {
    let from = block;
    while (from < end) {
      const tree = this.#treeOf(job);
      if (!tree) {
        this.#fail(job, { code: "unknown-version", text: `no volume ${job.volume} in ${job.version}` });
        break;
      }
      const leaf = Math.floor(from / blocksPerLeaf);
      const slot = this.#trees.walk(tree, leaf);
      if (slot === absent) {
        const missing = from;
        this.#trees.load(
          () => this.#treeOf(job),
          leaf,
          (error) => {
            if (error) {
              this.#fail(job, {
                ...error,
                code: error.code === "disk-failed" ? "disk-failed" : "medium-error",
                block: missing,
              });
              this.#end(job);
            } else this.#plan(job, missing, end, tries);
          },
        );
        return;
      }
      const partEnd = Math.min(end, (leaf + 1) * blocksPerLeaf);
      if (slot === hole) {
        this.#part(job, from, partEnd).fill(0);
        from = partEnd;
        continue;
      }
      from = this.#issue(job, slot, leaf, from, partEnd, tries);
    }
    this.#end(job);
  }

  /** Issues the reads of one leaf. */
  #issue(job: ReadJob, slot: number, leaf: number, block: number, end: number, tries: Tries): number {
    const words = this.#trees.cache.words(slot);
    const at = this.#trees.cache.at(slot);
    let from = block;
    while (from < end) {
      const blockCount = this.#runLength(words, at, leaf, from, end);
      const chunk = this.#chunkOf(words, at, leaf, from);
      const part = this.#part(job, from, from + blockCount);
      if (chunk === 0) part.fill(0);
      else {
        const checksums = new Uint32Array(blockCount);
        for (let index = 0; index < blockCount; index += 1)
          checksums[index] = checksumOf(words, at, leaf, from + index);
        const offset = this.#offsetOf(chunk) + (from % blocksPerChunk) * pageBytes;
        const applySequence = this.#applies.sequence();
        const run = { firstBlock: from, blockCount, disk: this.#diskOf(chunk), offset, checksums, applySequence };
        job.open += 1;
        this.#disks.read(run.disk, run.offset, part, (error) => this.#arrived(job, run, error, tries));
      }
      from += blockCount;
    }
    return from;
  }

  #arrived(job: ReadJob, run: Run, error: DiskError | null, tries: Tries): void {
    const part = this.#part(job, run.firstBlock, run.firstBlock + run.blockCount);
    if (error && error.code !== "medium") {
      this.#fail(job, { code: "disk-failed", text: error.text, block: run.firstBlock });
      this.#end(job);
      return;
    }
    const sequence = this.#applies.sequence();
    const wasQuiet = sequence === run.applySequence && sequence % 2 === 0;
    const next: Tries = { quiet: tries.quiet + (wasQuiet || error ? 1 : 0), all: tries.all + 1 };
    if (!error && this.#digests.crc32(part) === run.checksums.reduce(appendBlock)) return this.#end(job);
    for (let index = 0; index < run.blockCount; index += 1) {
      const bytes = part.subarray(index * pageBytes, (index + 1) * pageBytes);
      // A medium error may be one block's: each is tried by itself.
      if (!error && this.#digests.crc32(bytes) === run.checksums[index]) continue;
      const block = run.firstBlock + index;
      if (next.quiet >= quietTriesMax || next.all >= triesMax) {
        const text = error ? error.text : `block ${block} of volume ${job.volume} does not match its checksum`;
        this.#fail(job, { code: "medium-error", text, block });
        continue;
      }
      job.open += 1;
      this.#applies.whenNone(() => this.#plan(job, block, block + 1, next));
    }
    this.#end(job);
  }

  /** The lowest block with an error is reported. */
  #fail(job: ReadJob, error: StoreError): void {
    if (!job.error || (error.block ?? -1) < (job.error.block ?? -1)) job.error = error;
  }

  #end(job: ReadJob): void {
    job.open -= 1;
    if (job.open > 0) return;
    this.#allocator.endRead(job.token);
    job.done(job.error);
  }

  #part(job: ReadJob, block: number, end: number): Uint8Array {
    return job.target.subarray((block - job.firstBlock) * pageBytes, (end - job.firstBlock) * pageBytes);
  }

  #treeOf(job: { readonly version: Version; readonly volume: number }): Tree | null {
    return this.#family.treesOf(job.version)?.get(job.volume) ?? null;
  }

  extents(
    version: Version,
    volume: number,
    range: { readonly firstBlock: number; readonly blockCount: number; readonly limit: number },
    done: (error: StoreError | null, extents: readonly HomeExtent[]) => void,
  ): void {
    const found: { firstBlock: number; blockCount: number; allocated: boolean }[] = [];
    const end = range.firstBlock + range.blockCount;
    // False: the limit is reached.
    const add = (firstBlock: number, blockCount: number, allocated: boolean): boolean => {
      const last = found[found.length - 1];
      if (last && last.allocated === allocated) last.blockCount += blockCount;
      else if (found.length >= range.limit) return false;
      else found.push({ firstBlock, blockCount, allocated });
      return true;
    };
    const go = (block: number) => {
      let from = block;
      while (from < end) {
        const tree = this.#treeOf({ version, volume });
        if (!tree) {
          done({ code: "unknown-version", text: `no volume ${volume} in ${version}` }, []);
          return;
        }
        const leaf = Math.floor(from / blocksPerLeaf);
        const slot = this.#trees.walk(tree, leaf);
        if (slot === absent) {
          const missing = from;
          this.#trees.load(
            () => this.#treeOf({ version, volume }),
            leaf,
            (error) => (error ? done(error, []) : go(missing)),
          );
          return;
        }
        if (slot === hole) {
          const leaves = leavesPerPage[this.#trees.at.level]!;
          const holeEnd = Math.min(end, (Math.floor(leaf / leaves) + 1) * leaves * blocksPerLeaf);
          if (!add(from, holeEnd - from, false)) break;
          from = holeEnd;
          continue;
        }
        const partEnd = Math.min(end, (leaf + 1) * blocksPerLeaf);
        const next = this.#addLeaf(slot, leaf, from, partEnd, add);
        if (next < partEnd) break;
        from = partEnd;
      }
      done(null, found);
    };
    go(range.firstBlock);
  }

  #addLeaf(
    slot: number,
    leaf: number,
    block: number,
    end: number,
    add: (first: number, count: number, data: boolean) => boolean,
  ): number {
    const words = this.#trees.cache.words(slot);
    const at = this.#trees.cache.at(slot);
    let from = block;
    while (from < end) {
      const data = this.#chunkOf(words, at, leaf, from) !== 0;
      let last = from + 1;
      while (last < end && (this.#chunkOf(words, at, leaf, last) !== 0) === data) last += 1;
      if (!add(from, last - from, data)) return from;
      from = last;
    }
    return from;
  }

  #diskOf(chunk: number): number {
    return this.#disks.slabDisk[chunk >>> this.#disks.geometry.chunkShift]!;
  }

  #offsetOf(chunk: number): number {
    const { chunkShift, chunksPerSlab } = this.#disks.geometry;
    return this.#disks.slabOffset[chunk >>> chunkShift]! + (chunk & (chunksPerSlab - 1)) * chunkBytes;
  }
}

function checksumOf(words: Uint32Array, at: number, leaf: number, block: number): number {
  const entry = entryAt(at, Math.floor(block / blocksPerChunk) - leaf * entriesPerLeaf);
  return words[entry + entryChecksums + (block % blocksPerChunk)]!;
}
