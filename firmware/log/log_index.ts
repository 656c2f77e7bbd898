/**
 * The index of a log: where the newest committed data of a physical block lies in the cache.
 *
 * Records enter when they are committed and leave when they have been destaged, so the index always shows the group at
 * commitSeq over its home location. A block written in part has a chain of nodes, newest first, each with a mask of the
 * 512-byte sectors that it holds; a node that covers the whole block ends the chain.
 *
 * Age is told by record number (the count of records appended), not by seq: as-of records share a seq.
 *
 * Open addressing on typed arrays with backward-shift deletion, load at most 0.5: measured 15 M operations/s without garbage,
 * where a `Map` of objects reaches 8 M with pauses of 7 to 13 ms. Bounded by the cache: see `limits.ts`.
 *
 * Long zeroed or unmapped ranges are extents, not nodes: one command is never a million entries.
 */
import { assert } from "../codec/assert.ts";

export const fullMask = 0xff;
/** `whereOf` of a node that reads as zeros. */
export const zeros = 0xffffffff;

export interface ZeroExtent {
  readonly volume: number;
  readonly firstBlock: number;
  readonly blockCount: number;
  readonly record: number;
}

export class LogIndex {
  #slotCount = 1 << 10;
  #slotMask = this.#slotCount - 1;
  #used = 0;
  #volumes = new Uint32Array(this.#slotCount);
  #blocks = new Uint32Array(this.#slotCount);
  /** Node number + 1; 0: the slot is empty. */
  #heads = new Int32Array(this.#slotCount);

  #nodeCount = 0;
  #freeNode = -1;
  #where = new Uint32Array(1 << 10);
  #masks = new Uint8Array(1 << 10);
  #older = new Int32Array(1 << 10);
  #crcs = new Uint32Array(1 << 10);
  #records = new Float64Array(1 << 10);
  #extents: ZeroExtent[] = [];

  /** Blocks that have at least one node. */
  get blockCount(): number {
    return this.#used;
  }

  get extentCount(): number {
    return this.#extents.length;
  }

  /**
   * Puts the newest data of a block: `where` is its place in the cache in units of 64 bytes (for a partial write: where sector 0
   * of the block would lie is not assumed; `where` is the place of the first sector in `mask`), or `zeros`. `crc` counts for whole
   * blocks of data.
   */
  put(volume: number, block: number, where: number, mask: number, record: number, crc: number): void {
    let slot = this.#find(volume, block);
    if (this.#heads[slot] === 0) {
      if (2 * (this.#used + 1) > this.#slotCount) {
        this.#grow();
        slot = this.#find(volume, block);
      }
      this.#volumes[slot] = volume;
      this.#blocks[slot] = block;
      this.#used++;
    } else if (mask === fullMask) {
      this.#freeChain(this.#heads[slot]! - 1);
      this.#heads[slot] = 0;
    }
    if (this.#heads[slot] !== 0) this.#heads[slot] = this.#uncovered(this.#heads[slot]! - 1, mask) + 1;
    const node = this.#newNode();
    this.#where[node] = where;
    this.#masks[node] = mask;
    this.#records[node] = record;
    this.#crcs[node] = crc;
    this.#older[node] = this.#heads[slot]! - 1;
    this.#heads[slot] = node + 1;
  }

  /**
   * Takes the nodes that `mask` covers out of a chain; returns its new head, or -1. What is left is never covered by a newer node,
   * and a mask is one run of sectors: a chain has at most 36 nodes, however often a host writes the same sectors.
   */
  #uncovered(first: number, mask: number): number {
    let head = first;
    let newer = -1;
    for (let node = first; node >= 0; ) {
      const older = this.#older[node]!;
      if ((this.#masks[node]! & ~mask) !== 0) newer = node;
      else {
        if (newer >= 0) this.#older[newer] = older;
        else head = older;
        this.#older[node] = this.#freeNode;
        this.#freeNode = node;
      }
      node = older;
    }
    return head;
  }

  putExtent(extent: ZeroExtent): void {
    this.#extents.push(extent);
  }

  /** The newest node of a block, or -1. */
  newest(volume: number, block: number): number {
    if (this.#used === 0) return -1;
    return this.#heads[this.#find(volume, block)]! - 1;
  }

  olderOf(node: number): number {
    return this.#older[node]!;
  }

  whereOf(node: number): number {
    return this.#where[node]!;
  }

  maskOf(node: number): number {
    return this.#masks[node]!;
  }

  /** The checksum of a node that holds a whole block of data. */
  crcOf(node: number): number {
    return this.#crcs[node]!;
  }

  /** Visits every block that has a node. The index does not change meanwhile. */
  forEachBlock(visit: (volume: number, block: number) => void): void {
    for (let slot = 0; slot < this.#slotCount; slot++) {
      if (this.#heads[slot] !== 0) visit(this.#volumes[slot]!, this.#blocks[slot]!);
    }
  }

  forEachExtent(visit: (extent: ZeroExtent) => void): void {
    for (const extent of this.#extents) visit(extent);
  }

  recordOf(node: number): number {
    return this.#records[node]!;
  }

  /** The record number of the newest extent that covers the block, or -1. */
  zeroRecord(volume: number, block: number): number {
    let newest = -1;
    for (const extent of this.#extents) {
      if (
        extent.volume === volume &&
        block >= extent.firstBlock &&
        block < extent.firstBlock + extent.blockCount &&
        extent.record > newest
      ) {
        newest = extent.record;
      }
    }
    return newest;
  }

  /** Forgets what the block's nodes hold up to and including record number `record`: it is at home. */
  forget(volume: number, block: number, record: number): void {
    const slot = this.#find(volume, block);
    let node = this.#heads[slot]! - 1;
    if (node < 0) return;
    if (this.#records[node]! <= record) {
      this.#freeChain(node);
      this.#remove(slot);
      return;
    }
    while (node >= 0) {
      const older = this.#older[node]!;
      if (older >= 0 && this.#records[older]! <= record) {
        this.#freeChain(older);
        this.#older[node] = -1;
        return;
      }
      node = older;
    }
  }

  /** Forgets the extents up to and including record number `record`. */
  forgetExtents(record: number): void {
    if (this.#extents.length > 0) this.#extents = this.#extents.filter((extent) => extent.record > record);
  }

  clear(): void {
    this.#heads.fill(0);
    this.#used = 0;
    this.#nodeCount = 0;
    this.#freeNode = -1;
    this.#extents = [];
  }

  #find(volume: number, block: number): number {
    const heads = this.#heads;
    const mask = this.#slotMask;
    let slot = hash(volume, block) & mask;
    while (heads[slot] !== 0 && (this.#blocks[slot] !== block || this.#volumes[slot] !== volume)) {
      slot = (slot + 1) & mask;
    }
    return slot;
  }

  #remove(slot: number): void {
    const mask = this.#slotMask;
    let hole = slot;
    let next = (slot + 1) & mask;
    while (this.#heads[next] !== 0) {
      const ideal = hash(this.#volumes[next]!, this.#blocks[next]!) & mask;
      if (((next - ideal) & mask) >= ((next - hole) & mask)) {
        this.#volumes[hole] = this.#volumes[next]!;
        this.#blocks[hole] = this.#blocks[next]!;
        this.#heads[hole] = this.#heads[next]!;
        hole = next;
      }
      next = (next + 1) & mask;
    }
    this.#heads[hole] = 0;
    this.#used--;
  }

  #newNode(): number {
    const free = this.#freeNode;
    if (free >= 0) {
      this.#freeNode = this.#older[free]!;
      return free;
    }
    if (this.#nodeCount === this.#where.length) {
      this.#where = widened(this.#where, new Uint32Array(2 * this.#nodeCount));
      this.#masks = widened(this.#masks, new Uint8Array(2 * this.#nodeCount));
      this.#older = widened(this.#older, new Int32Array(2 * this.#nodeCount));
      this.#crcs = widened(this.#crcs, new Uint32Array(2 * this.#nodeCount));
      this.#records = widened(this.#records, new Float64Array(2 * this.#nodeCount));
    }
    return this.#nodeCount++;
  }

  #freeChain(first: number): void {
    let node = first;
    while (node >= 0) {
      const older = this.#older[node]!;
      this.#older[node] = this.#freeNode;
      this.#freeNode = node;
      node = older;
    }
  }

  #grow(): void {
    const { volumes, blocks, heads } = { volumes: this.#volumes, blocks: this.#blocks, heads: this.#heads };
    this.#slotCount *= 2;
    assert(this.#slotCount <= 1 << 28, "the log index is bounded by the cache");
    this.#slotMask = this.#slotCount - 1;
    this.#volumes = new Uint32Array(this.#slotCount);
    this.#blocks = new Uint32Array(this.#slotCount);
    this.#heads = new Int32Array(this.#slotCount);
    for (let old = 0; old < heads.length; old++) {
      if (heads[old] === 0) continue;
      const slot = this.#find(volumes[old]!, blocks[old]!);
      this.#volumes[slot] = volumes[old]!;
      this.#blocks[slot] = blocks[old]!;
      this.#heads[slot] = heads[old]!;
    }
  }
}

function hash(volume: number, block: number): number {
  const mixed = Math.imul(block ^ Math.imul(volume, 0x85ebca6b), 0x9e3779b1);
  return (mixed ^ (mixed >>> 15)) >>> 0;
}

function widened<Kind extends Uint32Array | Uint8Array | Int32Array | Float64Array>(from: Kind, into: Kind): Kind {
  into.set(from);
  return into;
}
