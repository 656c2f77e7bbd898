/**
 * Scrub: reads everything that the head and the forks hold and compares it with its checksums, a piece at a time, as fast as the
 * disks answer one read after the other. What a fork shares with the head page by page is read once.
 *
 * Bound: the report names at most `damagedMax` blocks.
 */
import type { ForkFamily, Tree } from "./fork_family.ts";
import type { HomeReader } from "./home_reader.ts";
import { blocksPerLeaf, leavesPerPage } from "./map_page.ts";
import type { MapTrees } from "./map_tree.ts";
import { type HomeExtent, physicalBlockBytes, type ScrubReport, type Version } from "./store.ts";
import { diffStep } from "./tree_diff.ts";

const pieceBlocks = 64;
const damagedMax = 10_000;

export interface ScrubOptions {
  readonly family: ForkFamily;
  readonly trees: MapTrees;
  readonly reader: HomeReader;
  readonly totalBytes: number;
  readonly progress: (checkedBytes: number, totalBytes: number) => boolean;
  readonly done: (report: ScrubReport) => void;
}

export function startScrub(options: ScrubOptions): void {
  new Scrub(options).start();
}

class Scrub {
  readonly #options: ScrubOptions;
  readonly #damaged: { version: Version; volume: number; block: number }[] = [];
  readonly #work: { version: Version; volume: number }[] = [];
  readonly #buffer = new Uint8Array(pieceBlocks * physicalBlockBytes);
  #checkedBytes = 0;

  constructor(options: ScrubOptions) {
    this.#options = options;
    const { family } = options;
    for (const version of ["head", ...family.forks().map((node) => node.id as string)]) {
      for (const volume of family.treesOf(version)!.keys()) this.#work.push({ version, volume });
    }
  }

  start(): void {
    this.#nextTree();
  }

  #nextTree(): void {
    const work = this.#work.shift();
    if (!work) this.#finish(true);
    else this.#nextLeaf(work.version, work.volume, 0);
  }

  #nextLeaf(version: Version, volume: number, from: number): void {
    const { family, trees } = this.#options;
    const resolve = () => family.treesOf(version)?.get(volume) ?? null;
    const head = () => (version === "head" ? null : (family.headTrees.get(volume) ?? null));
    let leaf = from;
    for (;;) {
      const tree = resolve();
      if (!tree || leaf >= leavesPerPage[tree.height]!) {
        this.#nextTree();
        return;
      }
      const at = leaf;
      const step = diffStep(trees, tree, head(), leaf, 0);
      if (step.kind === "skip") {
        leaf = step.end;
        continue;
      }
      if (step.kind === "load") {
        const own = step.which === "tree";
        trees.loadTo(own ? resolve : head, leaf, step.level, (error) => {
          if (!error) this.#nextLeaf(version, volume, at);
          // The head's own damage has been noted: here the leaf is checked by itself.
          else if (!own) this.#checkRange(version, volume, at, tree);
          else {
            this.#note(version, volume, at * blocksPerLeaf);
            const leaves = leavesPerPage[step.level]!;
            this.#nextLeaf(version, volume, (Math.floor(at / leaves) + 1) * leaves);
          }
        });
        return;
      }
      this.#checkRange(version, volume, leaf, tree);
      return;
    }
  }

  /** Reads what one leaf maps, then goes on. */
  #checkRange(version: Version, volume: number, leaf: number, tree: Tree): void {
    const firstBlock = leaf * blocksPerLeaf;
    const range = {
      firstBlock,
      blockCount: Math.min(blocksPerLeaf, Math.ceil(tree.sizeBytes / physicalBlockBytes) - firstBlock),
      limit: blocksPerLeaf,
    };
    this.#options.reader.extents(version, volume, range, (error, extents) => {
      if (error) this.#note(version, volume, firstBlock);
      this.#readPieces(version, volume, leaf, piecesOf(extents));
    });
  }

  #readPieces(version: Version, volume: number, leaf: number, pieces: { block: number; count: number }[]): void {
    const piece = pieces.shift();
    if (!piece) {
      this.#nextLeaf(version, volume, leaf + 1);
      return;
    }
    if (!this.#options.progress(this.#checkedBytes, this.#options.totalBytes)) {
      this.#finish(false);
      return;
    }
    const target = this.#buffer.subarray(0, piece.count * physicalBlockBytes);
    this.#options.reader.read(version, volume, piece.block, target, (error) => {
      // Gone while it was read: nothing left to check.
      if (error && error.code !== "unknown-version") {
        const block = error.block ?? piece.block;
        this.#note(version, volume, block);
        const left = piece.block + piece.count - (block + 1);
        if (left > 0) pieces.unshift({ block: block + 1, count: left });
        this.#checkedBytes += (piece.count - left) * physicalBlockBytes;
      } else this.#checkedBytes += piece.count * physicalBlockBytes;
      this.#readPieces(version, volume, leaf, pieces);
    });
  }

  #note(version: Version, volume: number, block: number): void {
    if (this.#damaged.length < damagedMax) this.#damaged.push({ version, volume, block });
  }

  #finish(finished: boolean): void {
    this.#options.done({ checkedBytes: this.#checkedBytes, damaged: this.#damaged, finished });
  }
}

function piecesOf(extents: readonly HomeExtent[]): { block: number; count: number }[] {
  const pieces: { block: number; count: number }[] = [];
  for (const extent of extents) {
    if (!extent.allocated) continue;
    for (let offset = 0; offset < extent.blockCount; offset += pieceBlocks) {
      pieces.push({ block: extent.firstBlock + offset, count: Math.min(pieceBlocks, extent.blockCount - offset) });
    }
  }
  return pieces;
}
