/**
 * A group's head and its forks as a family: who descends from whom, and therefore whose chunks and pages are whose, without
 * counting references.
 *
 * The family has an epoch, which only grows. A fork closes it: the fork gets the present epoch, the head goes on in the next. Every
 * chunk and page carries the epoch of its birth. What the head reaches belongs to it alone ("exclusive") when it was born after the
 * head's origin, the newest fork that it descends from; all else is shared and is never changed in place. The caller's seqs play no
 * part in this: after a rewind they may be lower than those of forks that were kept.
 *
 *     fork F1 (epoch 1) ──▶ fork F2 (epoch 2) ──▶ head (epoch 4)            promoteFork(F1, keep as K):
 *     fork F1 (epoch 1) ─┬▶ fork F2 (epoch 2) ──▶ fork K (epoch 4)
 *                        └▶ head (epoch 5)
 *
 * Dropping a node: what it reaches and was born after its parent's epoch is its own, except what its child has at the same position
 * of the same volume; that the child inherits. The reaper (`reaper.ts`) goes through the node's trees in order of volume and leaf and
 * keeps a cursor; for positions before the cursor the inheritance has happened already: `originAt` looks at the parent there.
 * A node with two children of the same volume is only hidden until one of them is gone.
 *
 * Invariants:
 * - For every node N with parent P: what N reaches and was born in an epoch <= P.epoch, P reaches at the same position.
 * - A node is reaped only when a durable root says that it is doomed: until then a crash may bring it back.
 * - At most one node is partly reaped; its cursor is durable together with what has been freed.
 */
import { assert } from "../codec/assert.ts";
import type { Version } from "./store.ts";

export interface Tree {
  readonly volume: number;
  sizeBytes: number;
  /** Inner levels above the leaves. */
  height: number;
  /** The root page's number, 0: nothing is mapped; its checksum (0: not sealed yet) and birth. */
  page: number;
  checksum: number;
  birth: number;
}

export interface FamilyNode {
  readonly key: number;
  /** null: doomed, known to nobody outside. */
  id: string | null;
  readonly seq: number;
  readonly epoch: number;
  /** 0: none. */
  parent: number;
  /** In order of volume number. */
  readonly trees: Map<number, Tree>;
  /** A durable root says that the node is doomed. */
  doomDurable: boolean;
  /** The first position not reaped yet; null: not begun. */
  cursor: { readonly volume: number; readonly leaf: number } | null;
}

export class ForkFamily {
  epoch = 1;
  nextKey = 1;
  headParent = 0;
  headTrees = new Map<number, Tree>();
  readonly nodes = new Map<number, FamilyNode>();
  readonly #byId = new Map<string, FamilyNode>();

  /** The trees of a version, or null when there is none. */
  treesOf(version: Version): ReadonlyMap<number, Tree> | null {
    if (version === "head") return this.headTrees;
    return this.#byId.get(version)?.trees ?? null;
  }

  forks(): FamilyNode[] {
    return [...this.#byId.values()];
  }

  enter(node: FamilyNode): void {
    this.nodes.set(node.key, node);
    if (node.id === null) return;
    assert(node.id !== "head" && !this.#byId.has(node.id), `fork ${node.id} exists already`);
    this.#byId.set(node.id, node);
  }

  fork(id: string | null, seq: number, trees: ReadonlyMap<number, Tree>): FamilyNode {
    const node: FamilyNode = {
      key: this.nextKey,
      id,
      seq,
      epoch: this.epoch,
      parent: this.headParent,
      trees: copyTrees(trees),
      doomDurable: false,
      cursor: null,
    };
    this.enter(node);
    this.nextKey += 1;
    this.epoch += 1;
    assert(this.epoch < 2 ** 32 - 1, "epochs have 32 bits");
    return node;
  }

  /** The fork is not to be had from now on. */
  doom(id: string): void {
    const node = this.#byId.get(id);
    assert(node !== undefined, `fork ${id} does not exist`);
    this.#byId.delete(id);
    node.id = null;
  }

  promote(id: string, keepHeadAs: { readonly id: string; readonly seq: number } | null): void {
    const node = this.#byId.get(id);
    assert(node !== undefined, `fork ${id} does not exist`);
    // The former head becomes a node of its own, a sibling of the new head or a descendant of the fork; doomed when not wanted.
    this.fork(keepHeadAs?.id ?? null, keepHeadAs?.seq ?? 0, this.headTrees);
    this.headParent = node.key;
    this.headTrees = copyTrees(node.trees);
  }

  /** The volume leaves the head; its tree lives on in a doomed node until it is reaped. */
  deleteVolume(volume: number): void {
    const tree = this.headTrees.get(volume);
    assert(tree !== undefined, `volume ${volume} does not exist`);
    this.headTrees.delete(volume);
    if (tree.page !== 0) this.fork(null, 0, new Map([[volume, tree]]));
  }

  /** The epoch up to which what the head reaches at this position is shared. */
  originAt(volume: number, leaf: number): number {
    let node = this.nodes.get(this.headParent);
    while (node?.cursor && isBefore(volume, leaf, node.cursor)) node = this.nodes.get(node.parent);
    return node ? node.epoch : 0;
  }

  parentEpoch(node: FamilyNode): number {
    return this.nodes.get(node.parent)?.epoch ?? 0;
  }

  /** The trees of one volume in the node's children, the head's among them. */
  childTrees(node: FamilyNode, volume: number): Tree[] {
    const found: Tree[] = [];
    if (this.headParent === node.key) {
      const tree = this.headTrees.get(volume);
      if (tree) found.push(tree);
    }
    for (const child of this.nodes.values()) {
      if (child.parent !== node.key) continue;
      const tree = child.trees.get(volume);
      if (tree) found.push(tree);
    }
    return found;
  }

  /** The node that the reaper may work on now: the one begun, else one whose doom is durable and whose volumes have one child each at most. */
  nextToReap(): FamilyNode | null {
    let next: FamilyNode | null = null;
    for (const node of this.nodes.values()) {
      if (node.id !== null || !node.doomDurable) continue;
      if (node.cursor) return node;
      if (next) continue;
      if ([...node.trees.keys()].every((volume) => this.childTrees(node, volume).length <= 1)) next = node;
    }
    return next;
  }

  /** Everything of the node has been freed or inherited. */
  finish(node: FamilyNode): void {
    if (this.headParent === node.key) this.headParent = node.parent;
    for (const child of this.nodes.values()) if (child.parent === node.key) child.parent = node.parent;
    this.nodes.delete(node.key);
  }

  /** Every tree that a durable root must name. */
  *allTrees(): Generator<Tree> {
    yield* this.headTrees.values();
    for (const node of this.nodes.values()) yield* node.trees.values();
  }
}

export function isBefore(
  volume: number,
  leaf: number,
  cursor: { readonly volume: number; readonly leaf: number },
): boolean {
  return volume < cursor.volume || (volume === cursor.volume && leaf < cursor.leaf);
}

function copyTrees(trees: ReadonlyMap<number, Tree>): Map<number, Tree> {
  const sorted = [...trees.values()].sort((a, b) => a.volume - b.volume);
  return new Map(sorted.map((tree) => [tree.volume, { ...tree }]));
}
