/**
 * The disks of an open pool by their index, and where each slab lies.
 *
 * Invariants:
 * - A disk that is missing answers every operation with `absent`, later, like a disk would.
 * - Callbacks never come before the operation has returned.
 */
import type { Clock } from "../../hal/api/clock.ts";
import type { Disk, DiskError } from "../../hal/api/shelf.ts";
import type { Geometry } from "./geometry.ts";
import type { StoreError } from "./store.ts";
import type { DiskTableEntry } from "./superblock.ts";

export type DiskDone = (error: DiskError | null) => void;

export class DiskSet {
  readonly geometry: Geometry;
  readonly disks: readonly (Disk | null)[];
  /** Indices of the disks that hold the pool's metadata; missing ones too. */
  readonly metadataDisks: readonly number[];
  /** By slab number: disk index, and the slab's offset on it. */
  readonly slabDisk: Uint8Array;
  readonly slabOffset: Float64Array;
  /** One above the highest slab number. */
  readonly slabEnd: number;
  readonly #clock: Clock;
  readonly #table: readonly DiskTableEntry[];

  constructor(options: {
    geometry: Geometry;
    disks: readonly (Disk | null)[];
    table: readonly DiskTableEntry[];
    metadataDisks: readonly number[];
    clock: Clock;
  }) {
    this.geometry = options.geometry;
    this.disks = options.disks;
    this.metadataDisks = options.metadataDisks;
    this.#clock = options.clock;
    this.#table = options.table;
    this.slabEnd = options.table.reduce((end, entry) => Math.max(end, entry.slabBase + entry.slabCount), 1);
    this.slabDisk = new Uint8Array(this.slabEnd);
    this.slabOffset = new Float64Array(this.slabEnd);
    options.table.forEach((entry, disk) => {
      for (let index = 0; index < entry.slabCount; index += 1) {
        this.slabDisk[entry.slabBase + index] = disk;
        this.slabOffset[entry.slabBase + index] = options.geometry.dataOffset + index * options.geometry.slabBytes;
      }
    });
  }

  /** The chunk's disk is there. */
  hasChunk(chunk: number): boolean {
    return this.disks[this.slabDisk[chunk >>> this.geometry.chunkShift]!] !== null;
  }

  slabRange(disk: number): { base: number; count: number } {
    const entry = this.#table[disk]!;
    return { base: entry.slabBase, count: entry.slabCount };
  }

  read(disk: number, offsetBytes: number, target: Uint8Array, done: DiskDone): void {
    const device = this.disks[disk];
    if (device) device.read(offsetBytes, target, done);
    else this.#absent(disk, done);
  }

  write(disk: number, offsetBytes: number, sources: readonly Uint8Array[], done: DiskDone): void {
    const device = this.disks[disk];
    if (device) device.write(offsetBytes, sources, done);
    else this.#absent(disk, done);
  }

  flush(disk: number, done: DiskDone): void {
    const device = this.disks[disk];
    if (device) device.flush(done);
    else this.#absent(disk, done);
  }

  /** Flushes every disk whose index is in `which`; the first error counts. */
  flushAll(which: Iterable<number>, done: DiskDone): void {
    const disks = [...which];
    let open = disks.length;
    let failed: DiskError | null = null;
    if (open === 0) {
      this.#clock.defer(() => done(null));
      return;
    }
    for (const disk of disks) {
      this.flush(disk, (error) => {
        failed = failed ?? error;
        open -= 1;
        if (open === 0) done(failed);
      });
    }
  }

  #absent(disk: number, done: DiskDone): void {
    const place = this.#table[disk]?.place ?? `disk ${disk}`;
    this.#clock.defer(() => done({ code: "absent", text: `${place}: the disk is missing` }));
  }
}

/** A disk's error as the store reports it: only a medium error of one place leaves the rest of the store usable. */
export function storeErrorOf(error: DiskError, what: string, block?: number): StoreError {
  const text = `${what}: ${error.text}`;
  const code = error.code === "medium" ? "medium-error" : "disk-failed";
  return block === undefined ? { code, text } : { code, text, block };
}
