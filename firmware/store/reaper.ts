/**
 * The reaper: gives back, in the background, what a dropped fork, a deleted volume or a dropped head alone still holds (the rules
 * stand in `fork_family.ts`). It works in slices of a few leaves; what it frees, and how far it has come, becomes durable with the
 * next commit of the group.
 *
 * Invariants:
 * - A position is handled in one event: its entries are compared with the child's as they are then, and the cursor moves behind it.
 * - An inner page is freed when the cursor passes its end, so the way down to the cursor always exists.
 * - What can not be read is left allocated (lost space, never a wrong free).
 */
import type { Clock, Timer } from "../../hal/api/clock.ts";
import type { Allocator } from "./allocator.ts";
import type { FamilyNode, ForkFamily, Tree } from "./fork_family.ts";
import {
  entriesPerLeaf,
  entryAt,
  entryBase,
  entryBaseBirth,
  entryBirth,
  entryLocation,
  leavesPerPage,
} from "./map_page.ts";
import type { MapTrees } from "./map_tree.ts";
import { type DiffStep, diffStep } from "./tree_diff.ts";

/** Positions per slice: some 20 µs of work, then everything else has its turn. At one slice per ms: 24 GiB of volume per second. */
const stepsPerSlice = 8;
const pauseMs = 1;

export class Reaper {
  readonly #clock: Clock;
  readonly #family: ForkFamily;
  readonly #trees: MapTrees;
  readonly #allocator: Allocator;
  readonly #progressed: () => void;
  #timer: Timer | null = null;
  #loading = false;
  #stopped = false;

  /** `progressed`: something may have been freed; called after every slice. */
  constructor(options: {
    clock: Clock;
    family: ForkFamily;
    trees: MapTrees;
    allocator: Allocator;
    progressed: () => void;
  }) {
    this.#progressed = options.progressed;
    this.#clock = options.clock;
    this.#family = options.family;
    this.#trees = options.trees;
    this.#allocator = options.allocator;
  }

  /** True while a slice is to come: nothing is durable of it before the next commit. */
  get busy(): boolean {
    return this.#timer !== null || this.#loading;
  }

  /** There may be something to do. */
  wake(): void {
    if (this.#stopped || this.busy || !this.#family.nextToReap()) return;
    this.#timer = this.#clock.after(pauseMs, () => {
      this.#timer = null;
      this.#slice();
      this.#progressed();
    });
  }

  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
    this.#timer = null;
  }

  #slice(): void {
    for (let count = 0; count < stepsPerSlice; count += 1) {
      const node = this.#family.nextToReap();
      if (!node) return;
      const tree = this.#treeAtCursor(node);
      if (!tree) {
        this.#family.finish(node);
        continue;
      }
      const child = this.#family.childTrees(node, tree.volume)[0] ?? null;
      const { leaf } = node.cursor!;
      const step = diffStep(this.#trees, tree, child, leaf, this.#family.parentEpoch(node));
      if (step.kind === "load") {
        this.#load(node, tree, step);
        return;
      }
      this.#free(node, step);
      this.#moveTo(node, tree, step.end);
    }
    this.wake();
  }

  /** The tree that the cursor stands in; null: the node is done. Sets the cursor of a node that is begun now. */
  #treeAtCursor(node: FamilyNode): Tree | null {
    for (const tree of node.trees.values()) {
      if (node.cursor && tree.volume < node.cursor.volume) continue;
      if (!node.cursor || tree.volume > node.cursor.volume) node.cursor = { volume: tree.volume, leaf: 0 };
      return tree;
    }
    return null;
  }

  #moveTo(node: FamilyNode, tree: Tree, leaf: number): void {
    const ended = leaf >= leavesPerPage[tree.height]!;
    node.cursor = ended ? { volume: tree.volume + 1, leaf: 0 } : { volume: tree.volume, leaf };
  }

  #free(node: FamilyNode, step: Exclude<DiffStep, { kind: "load" }>): void {
    if (step.kind === "leaf") {
      const parentEpoch = this.#family.parentEpoch(node);
      const { cache } = this.#trees;
      const words = cache.words(step.slot);
      const at = cache.at(step.slot);
      const otherWords = step.other >= 0 ? cache.words(step.other) : null;
      const otherAt = step.other >= 0 ? cache.at(step.other) : 0;
      for (let entry = 0; entry < entriesPerLeaf; entry += 1) {
        const place = entryAt(at, entry);
        const otherPlace = entryAt(otherAt, entry);
        const inherited = (chunk: number) =>
          otherWords !== null &&
          (otherWords[otherPlace + entryLocation] === chunk || otherWords[otherPlace + entryBase] === chunk);
        const location = words[place + entryLocation]!;
        const base = words[place + entryBase]!;
        if (location !== 0 && words[place + entryBirth]! > parentEpoch && !inherited(location))
          this.#allocator.freeChunk(location);
        if (base !== 0 && words[place + entryBaseBirth]! > parentEpoch && !inherited(base))
          this.#allocator.freeChunk(base);
      }
    }
    for (const page of step.passed) this.#trees.freePage(page);
  }

  #load(node: FamilyNode, tree: Tree, step: Extract<DiffStep, { kind: "load" }>): void {
    const leaf = node.cursor!.leaf;
    this.#loading = true;
    const resolve = () => {
      if (!this.#family.nodes.has(node.key)) return null;
      return step.which === "tree" ? tree : (this.#family.childTrees(node, tree.volume)[0] ?? null);
    };
    this.#trees.loadTo(resolve, leaf, step.level, (error) => {
      this.#loading = false;
      if (this.#stopped) return;
      // A page that can not be read hides what is below it: that stays allocated.
      if (error) {
        const leaves = leavesPerPage[step.level]!;
        this.#moveTo(node, tree, (Math.floor(leaf / leaves) + 1) * leaves);
      }
      this.wake();
    });
  }
}
