/**
 * The parcel that carries a group from one half of a pool to the other: made here, and checked here when it has come over a wire.
 *
 * Invariant: `readParcel` believes nothing. What it returns has numbers in their ranges, a root that decodes, slabs of this pool named
 * once, and a root whose pages lie in slabs of the parcel.
 */
import { assert } from "../codec/assert.ts";
import { decodeBody } from "./cbor_body.ts";
import type { Geometry } from "./geometry.ts";
import { decodeGroupRoot, type GroupRoot } from "./group_root.ts";
import { type GroupSlabKind, groupNumberMax, slabKind } from "./slab_table.ts";
import { slotBodyBytesMax } from "./slot_pair.ts";
import type { GroupParcel } from "./store.ts";

export interface ParcelSlab {
  readonly slab: number;
  readonly kind: GroupSlabKind;
}

export interface ReadParcel {
  readonly parcel: GroupParcel;
  readonly slabs: readonly ParcelSlab[];
}

/** Claims and generations go up by one at a time: none comes near this in the life of a pool. */
const counterMax = 2 ** 52;
/** In a list of slabs. */
export const slabNumberBytes = 4;

export function slabList(slabs: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(slabs.length * slabNumberBytes);
  const view = new DataView(bytes.buffer);
  slabs.forEach((slab, index) => {
    view.setUint32(index * slabNumberBytes, slab, true);
  });
  return bytes;
}

/** A text says what is wrong with it. `slabEnd`: one above the pool's highest slab. */
export function readParcel(value: unknown, geometry: Geometry, slabEnd: number): ReadParcel | string {
  if (typeof value !== "object" || value === null) return "it is not a parcel";
  const { id, number, claim, generation, root, dataSlabs, mapSlabs, logSlabs } = value as Record<string, unknown>;
  if (typeof id !== "string" || !/^[0-9a-f]{32}$/.test(id)) return "the group's id is not one";
  if (!isCounter(number) || number > groupNumberMax) return "the group's number is not one";
  // The first move makes claim 1, and its parcel claim 2.
  if (!isCounter(claim) || claim < 2) return "the claim is not one";
  if (!isCounter(generation)) return "the root's generation is not one";
  if (!(root instanceof Uint8Array) || root.byteLength > slotBodyBytesMax) return "the root does not fit its slot";
  const decoded = decodeRoot(root);
  if (!decoded) return "the root does not hold together";
  if (!isSlabList(dataSlabs) || !isSlabList(mapSlabs) || !isSlabList(logSlabs)) return "a list of slabs is not one";
  const slabs = [
    ...slabsIn(dataSlabs, slabKind.data),
    ...slabsIn(mapSlabs, slabKind.map),
    ...slabsIn(logSlabs, slabKind.log),
  ];
  if (slabs.some(({ slab }) => slab < 1 || slab >= slabEnd)) return "a slab is not of this pool";
  const kinds = new Uint8Array(slabEnd);
  for (const { slab, kind } of slabs) {
    if (kinds[slab] !== slabKind.free) return "a slab is in it twice";
    kinds[slab] = kind;
  }
  const isInside = (page: number) => kinds[Math.floor(page / geometry.pagesPerSlab)] === slabKind.map;
  if (!pagesOf(decoded).every(isInside)) return "the root names a page outside of the group's slabs";
  return { parcel: { id, number, claim, generation, root, dataSlabs, mapSlabs, logSlabs }, slabs };
}

function decodeRoot(bytes: Uint8Array): GroupRoot | null {
  const body = decodeBody(bytes);
  return body ? decodeGroupRoot(body.value) : null;
}

function pagesOf(root: GroupRoot): number[] {
  const pages = [...root.dataSpace, ...root.mapSpace].map(([, place]) => place);
  for (const tree of root.family.allTrees()) if (tree.page !== 0) pages.push(tree.page);
  return pages;
}

function isSlabList(value: unknown): value is Uint8Array {
  return value instanceof Uint8Array && value.byteLength % slabNumberBytes === 0;
}

function* slabsIn(list: Uint8Array, kind: GroupSlabKind): Generator<ParcelSlab> {
  assert(list.byteLength % slabNumberBytes === 0, "a list holds whole numbers");
  const view = new DataView(list.buffer, list.byteOffset, list.byteLength);
  for (let at = 0; at < list.byteLength; at += slabNumberBytes) yield { slab: view.getUint32(at, true), kind };
}

function isCounter(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 1 && value < counterMax;
}
