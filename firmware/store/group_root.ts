/**
 * The root of a group as CBOR: the caller's document, the head's volumes, the family of forks, what is being reaped, where the
 * bitmaps lie and how much is in use. Its size is bounded by the slot (128 KiB); a volume takes about 30 bytes per version.
 *
 * Invariant: decoding checks everything before it is used; what does not hold together is `corrupt`.
 */
import { decodeBody, encodeBody } from "./cbor_body.ts";
import { type FamilyNode, ForkFamily, type Tree } from "./fork_family.ts";
import { heightMax, leavesFor, leavesPerPage } from "./map_page.ts";
import type { SpaceRoot } from "./space_tree.ts";

export interface GroupRoot {
  readonly documentBytes: Uint8Array;
  readonly family: ForkFamily;
  readonly dataSpace: readonly SpaceRoot[];
  readonly mapSpace: readonly SpaceRoot[];
  readonly dataUsed: number;
  readonly mapUsed: number;
}

export function encodeGroupRoot(root: GroupRoot): Uint8Array {
  const { family } = root;
  return encodeBody({
    document: root.documentBytes,
    epoch: family.epoch,
    nextKey: family.nextKey,
    headParent: family.headParent,
    head: encodeTrees(family.headTrees),
    nodes: [...family.nodes.values()].map((node) => [
      node.key,
      node.id,
      node.seq,
      node.epoch,
      node.parent,
      encodeTrees(node.trees),
      node.cursor ? [node.cursor.volume, node.cursor.leaf] : null,
    ]),
    dataSpace: root.dataSpace,
    mapSpace: root.mapSpace,
    dataUsed: root.dataUsed,
    mapUsed: root.mapUsed,
  });
}

export function decodeGroupRoot(body: unknown): GroupRoot | null {
  if (!isRecord(body)) return null;
  const { document, dataUsed, mapUsed } = body;
  const dataSpace = decodeSpace(body["dataSpace"]);
  const mapSpace = decodeSpace(body["mapSpace"]);
  const family = decodeFamily(body);
  if (
    !(document instanceof Uint8Array) ||
    !dataSpace ||
    !mapSpace ||
    !family ||
    !isCount(dataUsed) ||
    !isCount(mapUsed)
  )
    return null;
  if (decodeBody(document) === undefined) return null;
  return { documentBytes: document, family, dataSpace, mapSpace, dataUsed, mapUsed };
}

function decodeFamily(body: Record<string, unknown>): ForkFamily | null {
  const { epoch, nextKey, headParent, head, nodes } = body;
  if (!isCount(epoch) || !isCount(nextKey) || !isCount(headParent) || !Array.isArray(nodes)) return null;
  const headTrees = decodeTrees(head);
  if (!headTrees) return null;
  const family = new ForkFamily();
  family.epoch = epoch;
  family.nextKey = nextKey;
  family.headParent = headParent;
  family.headTrees = headTrees;
  const ids = new Set<string>();
  for (const encoded of nodes) {
    const node = decodeNode(encoded);
    if (!node || family.nodes.has(node.key) || node.key >= nextKey || node.epoch >= epoch) return null;
    if (node.id !== null) {
      if (node.id === "head" || ids.has(node.id)) return null;
      ids.add(node.id);
    }
    family.enter(node);
  }
  const parentExists = (key: number) => key === 0 || family.nodes.has(key);
  const sound =
    parentExists(headParent) &&
    [...family.nodes.values()].every((node) => parentExists(node.parent) && node.parent < node.key);
  return sound ? family : null;
}

function decodeNode(encoded: unknown): FamilyNode | null {
  if (!Array.isArray(encoded) || encoded.length !== 7) return null;
  const [key, id, seq, epoch, parent, encodedTrees, encodedCursor] = encoded as unknown[];
  if (!isCount(key) || key === 0 || !isCount(seq) || !isCount(epoch) || !isCount(parent)) return null;
  if (id !== null && typeof id !== "string") return null;
  const trees = decodeTrees(encodedTrees);
  if (!trees) return null;
  let cursor: FamilyNode["cursor"] = null;
  if (encodedCursor !== null) {
    if (id !== null || !Array.isArray(encodedCursor)) return null;
    const [volume, leaf] = encodedCursor as unknown[];
    if (!isCount(volume) || !isCount(leaf)) return null;
    cursor = { volume, leaf };
  }
  // Whatever a durable root says is doomed, is durably so.
  return { key, id, seq, epoch, parent, trees, doomDurable: id === null, cursor };
}

function encodeTrees(trees: ReadonlyMap<number, Tree>): number[][] {
  return [...trees.values()].map((tree) => [
    tree.volume,
    tree.sizeBytes,
    tree.height,
    tree.page,
    tree.checksum,
    tree.birth,
  ]);
}

function decodeTrees(encoded: unknown): Map<number, Tree> | null {
  if (!Array.isArray(encoded)) return null;
  const trees = new Map<number, Tree>();
  for (const item of encoded) {
    if (!Array.isArray(item) || item.length !== 6 || !item.every(isCount)) return null;
    const [volume, sizeBytes, height, page, checksum, birth] = item as [number, number, number, number, number, number];
    if (trees.has(volume) || height > heightMax || !isVolumeSize(sizeBytes)) return null;
    trees.set(volume, { volume, sizeBytes, height, page, checksum, birth });
  }
  return trees;
}

function decodeSpace(encoded: unknown): SpaceRoot[] | null {
  if (!Array.isArray(encoded)) return null;
  const roots: SpaceRoot[] = [];
  for (const item of encoded) {
    if (!Array.isArray(item) || item.length !== 3 || !item.every(isCount)) return null;
    const [index, place, checksum] = item as [number, number, number];
    roots.push([index, place, checksum]);
  }
  return roots;
}

/** Whole logical blocks, and no larger than a map can be. */
export function isVolumeSize(sizeBytes: number): boolean {
  return (
    Number.isSafeInteger(sizeBytes) &&
    sizeBytes > 0 &&
    sizeBytes % 512 === 0 &&
    leavesFor(sizeBytes) <= leavesPerPage[heightMax]!
  );
}

function isCount(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
