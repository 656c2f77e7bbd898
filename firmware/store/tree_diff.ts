/**
 * Goes through a tree by position and leaves out what another tree has at the same position, or what is too old to be of interest.
 * One step at a time, so that background work can stop between any two; pages that are not in memory are asked for, not waited for.
 */
import type { Tree } from "./fork_family.ts";
import { leavesPerPage } from "./map_page.ts";
import { absent, hole, type MapTrees } from "./map_tree.ts";

export type DiffStep =
  /** Nothing of its own up to leaf `end`. `passed`: own inner pages on the way that end by then. */
  | { readonly kind: "skip"; readonly end: number; readonly passed: readonly number[] }
  /** A leaf of its own; `other`: the slot of the other tree's leaf there, -1 none. Both slots are valid in this event only. */
  | {
      readonly kind: "leaf";
      readonly slot: number;
      readonly other: number;
      readonly end: number;
      readonly passed: readonly number[];
    }
  /** Page in `tree` down to `level`, then try again. */
  | { readonly kind: "load"; readonly which: "tree" | "other"; readonly level: number };

/** Pages born in an epoch up to `oldEpoch` are left out. */
export function diffStep(trees: MapTrees, tree: Tree, other: Tree | null, leaf: number, oldEpoch: number): DiffStep {
  const own: { page: number; end: number }[] = [];
  const skip = (end: number): DiffStep => ({ kind: "skip", end, passed: passedBy(own, end) });
  for (let level = tree.height; level >= 0; level -= 1) {
    const found = trees.locate(tree, leaf, level);
    if (found === absent) return { kind: "load", which: "tree", level: level + 1 };
    const leaves = leavesPerPage[trees.at.level]!;
    const end = (Math.floor(leaf / leaves) + 1) * leaves;
    if (found === hole) return skip(end);
    const { page, birth } = trees.at;
    if (birth <= oldEpoch) return skip(end);
    let otherPage = 0;
    if (other && other.page !== 0 && other.height >= level) {
      const otherFound = trees.locate(other, leaf, level);
      if (otherFound === absent) return { kind: "load", which: "other", level: level + 1 };
      if (otherFound === 0) otherPage = trees.at.page;
    }
    if (otherPage === page) return skip(end);
    own.push({ page, end });
    if (level > 0) continue;
    const slot = trees.cache.find(page);
    if (slot < 0) return { kind: "load", which: "tree", level: 0 };
    const otherSlot = otherPage === 0 ? -1 : trees.cache.find(otherPage);
    if (otherPage !== 0 && otherSlot < 0) return { kind: "load", which: "other", level: 0 };
    return { kind: "leaf", slot, other: otherSlot, end, passed: passedBy(own, end) };
  }
  throw new Error("store: a walk ends at a leaf");
}

function passedBy(own: readonly { page: number; end: number }[], end: number): number[] {
  return own.filter((page) => page.end <= end).map((page) => page.page);
}
