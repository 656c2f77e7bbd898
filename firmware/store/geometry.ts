/**
 * Where things lie on the disks of a pool, as arithmetic.
 *
 * Every disk has the same layout:
 *
 *     0            superblock copy A (one page)
 *     8 KiB        heartbeats of a pair's two appliances (one page each, `pair/shelf_heart.ts`)
 *     16 KiB       half 1: superblock copy A
 *     24 KiB       half 1: heartbeats
 *     64 KiB       superblock copy B (one page)
 *     80 KiB       half 1: superblock copy B
 *     128 KiB      pool document, slots A and B (`rootSlotBytes` each)
 *     ...          slab table, copy A of every page, then copy B of every page
 *     ...          group roots: `groupsMax` pairs of slots (`rootSlotBytes` each)
 *     ...          half 1: pool document, slab table and group roots of its own, in the same order
 *     dataOffset   slabs, `slabBytes` each, up to the end of the disk; both halves number and place them alike
 *
 * A pool with one half has nothing at the places of half 1, and its slabs begin where half 1's pool document would.
 *
 * The pool document, the slab table and the roots are kept on the pool's metadata disks only (the first two); on the others their
 * places stay empty.
 *
 * Invariant: no byte below `dataOffset` belongs to both halves. A half writes its own bytes there, and in slabs those that its slab
 * table gives to its groups.
 *
 * Slabs are numbered through the pool from 1 on, so that no valid chunk, page or log slot has the number 0. A chunk's number is
 * slab * chunksPerSlab + index, a page's slab * pagesPerSlab + index, a log slot's slab * slotsPerSlab + index.
 */
import { chunkBytes, physicalBlockBytes } from "./store.ts";

export const pageBytes = physicalBlockBytes;
export const pageWords = pageBytes / 4;
export const blocksPerChunk = chunkBytes / physicalBlockBytes;

export const formatVersion = 1;

/** Slabs larger than this would need more than half a space page for the bitmap of their pages (64 MiB / 4 KiB / 8 = 2 KiB). */
export const slabBytesMax = 64 * 1024 * 1024;
export const slabBytesMin = 1024 * 1024;
/** A leaf's entry keeps a chunk's number in 30 bits: 2^30 * 64 KiB = 64 TiB for a pool. */
export const chunkNumberMax = 2 ** 30 - 1;
/** The disk table in the superblock: 64 * 48 bytes behind the first sector of the page. */
export const disksMax = 64;
/** The first disks of the table hold the pool document, the slab table and the roots. */
export const metadataCopies = 2;
export const rootSlotBytes = 128 * 1024;
export const slabEntriesPerPage = 252;

/** Which half of a pool; a pool with one half has half 0. */
export type Half = 0 | 1;

/** By half. */
const heartbeatsOffsets = [8192, 24576] as const;
const superblockOffsets = [
  [0, 65536],
  [16384, 81920],
] as const;
const metadataOffset = 131072;

export interface FormatNumbers {
  readonly slabBytes: number;
  readonly logSlotBytes: number;
  /** Of each half. */
  readonly groupsMax: number;
  /** Room in the slab table; slab numbers are below it. */
  readonly slabsMax: number;
  readonly halves: 1 | 2;
}

/** As one half sees it. */
export interface Geometry extends FormatNumbers {
  readonly half: Half;
  readonly chunksPerSlab: number;
  readonly pagesPerSlab: number;
  readonly slotsPerSlab: number;
  readonly chunkShift: number;
  readonly pageShift: number;
  readonly tablePages: number;
  readonly poolDocumentOffset: number;
  readonly tableOffset: number;
  readonly rootsOffset: number;
  readonly dataOffset: number;
}

/** Says what is wrong with format numbers, from a caller or from a superblock; null: nothing. */
export function formatProblem(numbers: FormatNumbers): string | null {
  const { slabBytes, logSlotBytes, groupsMax, slabsMax } = numbers;
  if (!isPowerOfTwo(slabBytes) || slabBytes < slabBytesMin || slabBytes > slabBytesMax) {
    return `slabBytes ${slabBytes} is not a power of two from ${slabBytesMin} to ${slabBytesMax}`;
  }
  if (!isPowerOfTwo(logSlotBytes) || logSlotBytes < pageBytes || logSlotBytes > slabBytes) {
    return `logSlotBytes ${logSlotBytes} is not a power of two from ${pageBytes} to slabBytes`;
  }
  if (!Number.isInteger(groupsMax) || groupsMax < 1 || groupsMax > 4096)
    return `groupsMax ${groupsMax} is not in 1..4096`;
  if (!Number.isInteger(slabsMax) || slabsMax < 2 || slabsMax * (slabBytes / chunkBytes) > chunkNumberMax + 1) {
    return `slabsMax ${slabsMax} is not in 2..${(chunkNumberMax + 1) / (slabBytes / chunkBytes)}`;
  }
  return null;
}

export function geometryOf(numbers: FormatNumbers, half: Half = 0): Geometry {
  const chunksPerSlab = numbers.slabBytes / chunkBytes;
  const pagesPerSlab = numbers.slabBytes / pageBytes;
  const tablePages = Math.ceil(numbers.slabsMax / slabEntriesPerPage);
  const tableBytes = 2 * tablePages * pageBytes;
  const halfBytes = 2 * rootSlotBytes + tableBytes + numbers.groupsMax * 2 * rootSlotBytes;
  const poolDocumentOffset = metadataOffset + half * halfBytes;
  const tableOffset = poolDocumentOffset + 2 * rootSlotBytes;
  return {
    ...numbers,
    half,
    chunksPerSlab,
    pagesPerSlab,
    slotsPerSlab: numbers.slabBytes / numbers.logSlotBytes,
    chunkShift: Math.log2(chunksPerSlab),
    pageShift: Math.log2(pagesPerSlab),
    tablePages,
    poolDocumentOffset,
    tableOffset,
    rootsOffset: tableOffset + tableBytes,
    dataOffset: Math.ceil((metadataOffset + numbers.halves * halfBytes) / chunkBytes) * chunkBytes,
  };
}

/** copy 0 or 1. */
export function superblockOffset(copy: number, half: Half = 0): number {
  return superblockOffsets[half][copy]!;
}

/** appliance 0 or 1. */
export function heartbeatOffset(appliance: number, half: Half = 0): number {
  return heartbeatsOffsets[half] + appliance * pageBytes;
}

export function poolDocumentSlotOffset(geometry: Geometry, copy: number): number {
  return geometry.poolDocumentOffset + copy * rootSlotBytes;
}

export function tablePageOffset(geometry: Geometry, page: number, copy: number): number {
  return geometry.tableOffset + (copy * geometry.tablePages + page) * pageBytes;
}

export function rootSlotOffset(geometry: Geometry, rootIndex: number, copy: number): number {
  return geometry.rootsOffset + (rootIndex * 2 + copy) * rootSlotBytes;
}

/** How many slabs fit on a disk. */
export function slabsOnDisk(geometry: Geometry, sizeBytes: number): number {
  return Math.max(0, Math.floor((sizeBytes - geometry.dataOffset) / geometry.slabBytes));
}

function isPowerOfTwo(value: number): boolean {
  return Number.isSafeInteger(value) && value > 0 && 2 ** Math.round(Math.log2(value)) === value;
}
