/**
 * The superblock: who a disk is and what pool it belongs to. Two copies per disk, written alternately.
 *
 * Behind the common page header (`page_seal.ts`; index = disk index, place = offset of the copy, generation = openings of the
 * pool times two), little-endian:
 *
 *     word 16..18   feature flags: compatible, read-only compatible, incompatible (1: the pool has two halves)
 *     word 19       state: 0 forming, 1 ready
 *     word 20..23   slabBytes, logSlotBytes, groupsMax, slabsMax
 *     word 24..27   disk index, disk count, metadata copy (0 none, 1 or 2), slot in the shelf
 *     byte 128      array id (16), pool id (16), disk id (16)
 *     byte 176      array name: length, up to 63 bytes of UTF-8
 *     byte 240      shelf name: the same
 *     byte 512      disk table, 48 bytes each: disk id (16), first slab (u32), slabs (u32), place: length, up to 23 bytes
 *
 * Downgrade rule: a release that finds an unknown incompatible flag, a newer version, or (having no read-only mode) an unknown
 * read-only compatible flag does not use the disk and does not write to it. Unknown compatible flags are kept as they are.
 *
 * Each half of a pool has superblocks of its own; their places tell them apart. Only their generations and slots differ.
 *
 * A forming superblock has nothing behind its first sector: torn at a sector it is either complete or not there at all, so that a
 * power loss during the creation of a pool leaves disks that still count as blank.
 */
import type { Digests } from "../../hal/api/digests.ts";
import { assert } from "../codec/assert.ts";
import {
  disksMax,
  type FormatNumbers,
  formatProblem,
  formatVersion,
  type Half,
  pageBytes,
  superblockOffset,
} from "./geometry.ts";
import { newPage, pageGeneration, pageMagic, sealHolds, sealPage, writeIdentity } from "./page_seal.ts";

export interface DiskTableEntry {
  readonly diskId: string;
  readonly slabBase: number;
  readonly slabCount: number;
  readonly place: string;
}

export interface Superblock {
  readonly generation: number;
  readonly compatFlags: number;
  readonly ready: boolean;
  readonly format: FormatNumbers;
  readonly diskIndex: number;
  readonly diskCount: number;
  /** 0: no metadata here; 1 or 2: which copy. */
  readonly metadataCopy: number;
  readonly slot: number;
  readonly arrayId: string;
  readonly poolId: string;
  readonly diskId: string;
  readonly arrayName: string;
  readonly shelfName: string;
  /** Empty while forming. */
  readonly diskTable: readonly DiskTableEntry[];
}

export type SuperblockRead =
  | { readonly kind: "valid"; readonly superblock: Superblock }
  | { readonly kind: "zeros" }
  | { readonly kind: "newer"; readonly text: string }
  | { readonly kind: "invalid" };

/** Incompatible: the pool has two halves, and half of its slabs belong to the one that an older release knows nothing of. */
const halvesFlag = 1;
const diskTableOffset = 512;
const diskTableEntryBytes = 48;
const arrayNameOffset = 176;
const shelfNameOffset = 240;
export const nameBytesMax = 63;
const placeBytesMax = 23;

export interface SuperblockPlace {
  readonly copy: number;
  readonly half: Half;
}

export function encodeSuperblock(superblock: Superblock, place: SuperblockPlace, digests: Digests): Uint8Array {
  const page = newPage();
  const { words, bytes } = page;
  writeIdentity(words, 0, {
    magic: pageMagic.superblock,
    level: 0,
    owner: 0,
    volume: 0,
    index: superblock.diskIndex,
    place: superblockOffset(place.copy, place.half),
    poolTag0: 0,
    poolTag1: 0,
  });
  words[16] = superblock.compatFlags;
  words[18] = superblock.format.halves === 2 ? halvesFlag : 0;
  words[19] = superblock.ready ? 1 : 0;
  words[20] = superblock.format.slabBytes;
  words[21] = superblock.format.logSlotBytes;
  words[22] = superblock.format.groupsMax;
  words[23] = superblock.format.slabsMax;
  words[24] = superblock.diskIndex;
  words[25] = superblock.diskCount;
  words[26] = superblock.metadataCopy;
  words[27] = superblock.slot;
  putId(bytes, 128, superblock.arrayId);
  putId(bytes, 144, superblock.poolId);
  putId(bytes, 160, superblock.diskId);
  putText(bytes, arrayNameOffset, superblock.arrayName, nameBytesMax);
  putText(bytes, shelfNameOffset, superblock.shelfName, nameBytesMax);
  assert(superblock.diskTable.length <= disksMax, "too many disks for the disk table");
  assert(superblock.ready || superblock.diskTable.length === 0, "a forming superblock fits its first sector");
  let at = diskTableOffset;
  for (const entry of superblock.diskTable) {
    putId(bytes, at, entry.diskId);
    words[(at + 16) / 4] = entry.slabBase;
    words[(at + 20) / 4] = entry.slabCount;
    putText(bytes, at + 24, entry.place, placeBytesMax);
    at += diskTableEntryBytes;
  }
  sealPage(page, superblock.generation, digests);
  return bytes;
}

/** `bytes`: the page at that place. */
export function decodeSuperblock(bytes: Uint8Array, place: SuperblockPlace, digests: Digests): SuperblockRead {
  assert(bytes.byteLength === pageBytes && bytes.byteOffset % 4 === 0, "a superblock is one aligned page");
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, pageBytes / 4);
  if (words.every((word) => word === 0)) return { kind: "zeros" };
  if (words[1] !== pageMagic.superblock || !sealHolds(words, 0, bytes, digests)) return { kind: "invalid" };
  const version = words[2]! & 0xffff;
  if (version > formatVersion)
    return { kind: "newer", text: `on-disk version ${version}, this release knows ${formatVersion}` };
  const unknownFlags = (words[17]! | (words[18]! & ~halvesFlag)) >>> 0;
  if (unknownFlags !== 0) return { kind: "newer", text: `unknown feature flags 0x${unknownFlags.toString(16)}` };
  const format: FormatNumbers = {
    slabBytes: words[20]!,
    logSlotBytes: words[21]!,
    groupsMax: words[22]!,
    slabsMax: words[23]!,
    halves: words[18] === 0 ? 1 : 2,
  };
  const diskIndex = words[24]!;
  const diskCount = words[25]!;
  const ready = words[19] === 1;
  const arrayName = getText(bytes, arrayNameOffset, nameBytesMax);
  const shelfName = getText(bytes, shelfNameOffset, nameBytesMax);
  const placed = words[7] === superblockOffset(place.copy, place.half) && words[8] === 0 && words[5] === diskIndex;
  const plausible = placed && diskCount >= 1 && diskCount <= disksMax && diskIndex < diskCount && words[26]! <= 2;
  if (!plausible || formatProblem(format) !== null || arrayName === null || shelfName === null)
    return { kind: "invalid" };
  const diskTable: DiskTableEntry[] = [];
  for (let index = 0; ready && index < diskCount; index += 1) {
    const at = diskTableOffset + index * diskTableEntryBytes;
    const slabBase = words[(at + 16) / 4]!;
    const slabCount = words[(at + 20) / 4]!;
    const diskPlace = getText(bytes, at + 24, placeBytesMax);
    if (slabBase < 1 || slabBase + slabCount > format.slabsMax || diskPlace === null) return { kind: "invalid" };
    diskTable.push({ diskId: getId(bytes, at), slabBase, slabCount, place: diskPlace });
  }
  return {
    kind: "valid",
    superblock: {
      generation: pageGeneration(words, 0),
      compatFlags: words[16]!,
      ready,
      format,
      diskIndex,
      diskCount,
      metadataCopy: words[26]!,
      slot: words[27]!,
      arrayId: getId(bytes, 128),
      poolId: getId(bytes, 144),
      diskId: getId(bytes, 160),
      arrayName,
      shelfName,
      diskTable,
    },
  };
}

export function hexOf(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += byte.toString(16).padStart(2, "0");
  return text;
}

function putId(bytes: Uint8Array, at: number, id: string): void {
  assert(/^[0-9a-f]{32}$/.test(id), `not an id: ${id}`);
  for (let index = 0; index < 16; index += 1)
    bytes[at + index] = Number.parseInt(id.slice(index * 2, index * 2 + 2), 16);
}

function getId(bytes: Uint8Array, at: number): string {
  return hexOf(bytes.subarray(at, at + 16));
}

function putText(bytes: Uint8Array, at: number, text: string, bytesMax: number): void {
  let encoded = new TextEncoder().encode(text);
  // Places are for messages only: a long one is cut. Names are checked before they come here.
  if (encoded.byteLength > bytesMax) encoded = encoded.subarray(0, bytesMax);
  bytes[at] = encoded.byteLength;
  bytes.set(encoded, at + 1);
}

function getText(bytes: Uint8Array, at: number, bytesMax: number): string | null {
  const length = bytes[at]!;
  if (length > bytesMax) return null;
  return new TextDecoder().decode(bytes.subarray(at + 1, at + 1 + length));
}
