/**
 * A group's parcel as JSON, for its way to the other half: bytes as hex digits. The slabs of a large group go as a map, a bit for each slab
 * up to the highest: at 64 TiB of data 256 KiB of hex digits, where the list has 8 MiB.
 */
import { fromHex, toHex } from "../codec/bytes.ts";
import { slabList, slabNumberBytes } from "../store/move_parcel.ts";
import type { GroupParcel } from "../store/store.ts";

export type WireParcel = Readonly<Record<string, unknown>>;

/** With fewer all go as lists, which a partner that is older than the maps understands as well. */
const listedSlabsMax = 80_000;
/** Of one message (`pairLimits.payloadBytesMax`), without what goes beside the parcel. */
export const parcelDigitsMax = 900 * 1024;

/** null: it does not fit one message. */
export function toWire(parcel: GroupParcel): WireParcel | null {
  const lists = [parcel.dataSlabs, parcel.mapSlabs, parcel.logSlabs];
  const mayBeMaps = lists.reduce((sum, list) => sum + list.byteLength, 0) > listedSlabsMax * slabNumberBytes;
  let digits = 0;
  const entries = Object.entries(parcel).map(([key, value]) => {
    if (!(value instanceof Uint8Array)) return [key, value];
    const map = mayBeMaps && lists.includes(value) ? mapOf(value) : value;
    const isMap = map.byteLength < value.byteLength;
    const hex = toHex(isMap ? map : value);
    digits += hex.length;
    return [key, isMap ? { slabs: hex } : { hex }];
  });
  return digits <= parcelDigitsMax ? Object.fromEntries(entries) : null;
}

/** Whatever it is: the pool judges it. */
export function fromWire(parcel: WireParcel): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(parcel).map(([key, value]) => {
      const { hex, slabs } = (typeof value === "object" && value !== null ? value : {}) as Record<string, unknown>;
      if (isHex(hex)) return [key, fromHex(hex)];
      if (isHex(slabs)) return [key, listOf(fromHex(slabs))];
      return [key, value];
    }),
  );
}

function isHex(text: unknown): text is string {
  return typeof text === "string" && /^(?:[0-9a-f]{2})*$/.test(text);
}

function mapOf(list: Uint8Array): Uint8Array {
  const view = new DataView(list.buffer, list.byteOffset, list.byteLength);
  const last = list.byteLength === 0 ? 0 : view.getUint32(list.byteLength - slabNumberBytes, true);
  const map = new Uint8Array((last >> 3) + 1);
  for (let at = 0; at < list.byteLength; at += slabNumberBytes) {
    const slab = view.getUint32(at, true);
    map[slab >> 3]! |= 1 << (slab & 7);
  }
  return map;
}

function listOf(map: Uint8Array): Uint8Array {
  const slabs: number[] = [];
  for (const [index, bits] of map.entries()) {
    for (let bit = 0; bits >> bit > 0; bit += 1) if ((bits >> bit) & 1) slabs.push(8 * index + bit);
  }
  return slabList(slabs);
}
