/**
 * The pages of a volume's map, handled in place as 32-bit words (little-endian). Both kinds begin with the common header
 * (`page_seal.ts`): level (0 leaf), owner the group, volume, index = first leaf that the page covers, place = the page's number, birth.
 *
 * A leaf has 48 entries of 84 bytes, one per 64 KiB chunk:
 *
 *     word 0       location: chunk number (bits 0-29), kind (bits 30, 31; 0 plain, others for later); 0: nothing here
 *     word 1       base: an older chunk, shared with a fork, that still holds some blocks; 0: none
 *     word 2, 3    birth of the location, birth of the base (epochs, see `fork_family.ts`)
 *     word 4       mask of the blocks that are valid in the location (bits 0-15), in the base (bits 16-31); never both
 *     word 5..20   CRC-32 of each block
 *
 * An inner page has 252 pointers of 16 bytes: page number (low, high), checksum of that page (0: the page is not sealed yet), birth
 * of that page. Page number 0: nothing below.
 */
import { blocksPerChunk } from "./geometry.ts";
import { headerWords } from "./page_seal.ts";

export const entriesPerLeaf = 48;
export const entryWords = 21;
export const pointersPerInner = 252;
export const pointerWords = 4;
export const blocksPerLeaf = entriesPerLeaf * blocksPerChunk;
export const firstEntry = headerWords;
export const firstPointer = headerWords;

export const entryLocation = 0;
export const entryBase = 1;
export const entryBirth = 2;
export const entryBaseBirth = 3;
export const entryMasks = 4;
export const entryChecksums = 5;

export const pointerChecksum = 2;
export const pointerBirth = 3;

/** 252^4 leaves of 3 MiB are far above what a pool can hold. */
export const heightMax = 4;
/** Leaves that a page of each level covers. */
export const leavesPerPage: readonly number[] = [1, 252, 252 ** 2, 252 ** 3, 252 ** 4];

/** A volume may be as large as its leaves' numbers fit 32 bits: 2^32 * 3 MiB. */
export function leavesFor(sizeBytes: number): number {
  return Math.ceil(sizeBytes / (blocksPerLeaf * 4096));
}

/** Inner levels of a tree over so many leaves: 0 when one leaf is all. */
export function heightFor(leaves: number): number {
  let height = 0;
  while (leavesPerPage[height]! < leaves) height += 1;
  return height;
}

/** Inner pages of a full tree over so many leaves. */
export function innerPagesFor(leaves: number): number {
  let pages = 0;
  for (let level = 1; level <= heightFor(leaves); level += 1) pages += Math.ceil(leaves / leavesPerPage[level]!);
  return pages;
}

/** `at`: the page's first word. */
export function entryAt(at: number, entry: number): number {
  return at + firstEntry + entry * entryWords;
}

export function pointerAt(at: number, pointer: number): number {
  return at + firstPointer + pointer * pointerWords;
}

/** The pointer of an inner page at `level` (1 and up) that leads to `leaf`. */
export function pointerIndex(level: number, leaf: number): number {
  return Math.floor(leaf / leavesPerPage[level - 1]!) % pointersPerInner;
}

export function pointerPage(words: Uint32Array, pointer: number): number {
  return words[pointer]! + words[pointer + 1]! * 4294967296;
}

export function leafIsEmpty(words: Uint32Array, at: number): boolean {
  for (let entry = 0; entry < entriesPerLeaf; entry += 1) {
    if (words[entryAt(at, entry) + entryLocation] !== 0) return false;
  }
  return true;
}

export function innerIsEmpty(words: Uint32Array, at: number): boolean {
  for (let pointer = 0; pointer < pointersPerInner; pointer += 1) {
    if (pointerPage(words, pointerAt(at, pointer)) !== 0) return false;
  }
  return true;
}

export function clearEntry(words: Uint32Array, entry: number): void {
  words.fill(0, entry, entry + entryWords);
}
