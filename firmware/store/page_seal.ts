/**
 * The 64-byte header that every metadata page (4 KiB) begins with, and the seal over it. All fields are little-endian.
 *
 *     word 0       checksum of bytes 4..4095 (CRC-32, with 0 replaced by 1: 0 means "not sealed yet" in pointers)
 *     word 1       magic: what kind of page
 *     word 2       format version (bits 0-15), level (bits 16-23)
 *     word 3       owner: the group's number in the pool, 0 for the pool itself
 *     word 4       volume number, or 0
 *     word 5, 6    index: which one of its kind (low 32 bits, high bits)
 *     word 7, 8    place: the page's own number, or its offset on the disk (low, high): finds misdirected writes
 *     word 9, 10   generation: the commit that wrote it (low, high)
 *     word 11      birth epoch (map pages)
 *     word 12, 13  the pool's id, first 8 bytes
 *     word 14, 15  0
 *
 * Pages are handled as Uint32Array, so the machine must be little-endian; checked once when the module loads.
 */
import type { Digests } from "../../hal/api/digests.ts";
import { assert } from "../codec/assert.ts";
import { formatVersion, pageWords } from "./geometry.ts";

export const pageMagic = {
  superblock: 0x42534347, // "GCSB"
  slabTable: 0x54534347, // "GCST"
  mapLeaf: 0x4c4d4347, // "GCML"
  mapInner: 0x494d4347, // "GCMI"
  space: 0x50534347, // "GCSP"
  spaceIndex: 0x49534347, // "GCSI"
} as const;

export const headerWords = 16;

export interface PageIdentity {
  readonly magic: number;
  readonly level: number;
  readonly owner: number;
  readonly volume: number;
  readonly index: number;
  readonly place: number;
  readonly poolTag0: number;
  readonly poolTag1: number;
}

assert(new Uint8Array(new Uint32Array([1]).buffer)[0] === 1, "this machine is not little-endian");

export function writeIdentity(words: Uint32Array, at: number, identity: PageIdentity): void {
  words[at + 1] = identity.magic;
  words[at + 2] = formatVersion | (identity.level << 16);
  words[at + 3] = identity.owner;
  words[at + 4] = identity.volume;
  putNumber(words, at + 5, identity.index);
  putNumber(words, at + 7, identity.place);
  words[at + 12] = identity.poolTag0;
  words[at + 13] = identity.poolTag1;
  words[at + 14] = 0;
  words[at + 15] = 0;
}

export function identityMatches(words: Uint32Array, at: number, identity: PageIdentity): boolean {
  return (
    words[at + 1] === identity.magic &&
    words[at + 2] === (formatVersion | (identity.level << 16)) >>> 0 &&
    words[at + 3] === identity.owner &&
    words[at + 4] === identity.volume &&
    getNumber(words, at + 5) === identity.index &&
    getNumber(words, at + 7) === identity.place &&
    words[at + 12] === identity.poolTag0 &&
    words[at + 13] === identity.poolTag1
  );
}

/** Sets generation and checksum; returns the checksum. `bytes` and `words` at `at` are the same page. */
export function sealPage(
  page: { readonly words: Uint32Array; readonly at: number; readonly bytes: Uint8Array },
  generation: number,
  digests: Digests,
): number {
  putNumber(page.words, page.at + 9, generation);
  const checksum = pageChecksum(page.bytes, digests);
  page.words[page.at] = checksum;
  return checksum;
}

/** The checksum that a page's bytes should carry in word 0: never 0. */
export function pageChecksum(bytes: Uint8Array, digests: Digests): number {
  return digests.crc32(bytes.subarray(4)) || 1;
}

export function sealHolds(words: Uint32Array, at: number, bytes: Uint8Array, digests: Digests): boolean {
  return words[at] === pageChecksum(bytes, digests);
}

export function pageGeneration(words: Uint32Array, at: number): number {
  return getNumber(words, at + 9);
}

/** Safe integers as two words, low first. */
export function putNumber(words: Uint32Array, at: number, value: number): void {
  words[at] = value % 4294967296;
  words[at + 1] = Math.floor(value / 4294967296);
}

export function getNumber(words: Uint32Array, at: number): number {
  return words[at]! + words[at + 1]! * 4294967296;
}

/** A page of its own, aligned, zeroed. */
export function newPage(): { words: Uint32Array; bytes: Uint8Array; at: number } {
  const words = new Uint32Array(pageWords);
  return { words, bytes: new Uint8Array(words.buffer), at: 0 };
}
