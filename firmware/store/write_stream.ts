/**
 * Bounded, merging writes to the pool's disks: what adjoins on a disk goes down in one `write` with several sources.
 *
 * Invariants:
 * - At most `inFlightMax` writes are under way; `add` may be called when `full` is false, and a little beyond.
 * - Sources stay unchanged until `drain` has called back (the disks' own rule).
 * - The first error is kept; what follows is still written, so that `drain` always ends.
 */
import type { DiskError } from "../../hal/api/shelf.ts";
import { assert } from "../codec/assert.ts";
import type { DiskSet } from "./disk_set.ts";
import type { StoreError } from "./store.ts";

const inFlightMax = 64;
const runBytesMax = 1024 * 1024;
const runSourcesMax = 256;

export class WriteStream {
  /** Disks written to since the owner last cleared it. */
  readonly touched: Set<number>;
  error: StoreError | null = null;
  /** The disk's own code of `error`. */
  errorCode: DiskError["code"] | null = null;
  readonly #disks: DiskSet;
  #inFlight = 0;
  #runDisk = -1;
  #runOffset = 0;
  #runEnd = 0;
  #runSources: Uint8Array[] = [];
  #onRoom: (() => void) | null = null;
  #onDrained: (() => void) | null = null;

  constructor(disks: DiskSet, touched: Set<number>) {
    this.#disks = disks;
    this.touched = touched;
  }

  get full(): boolean {
    return this.#inFlight >= inFlightMax;
  }

  add(disk: number, offsetBytes: number, source: Uint8Array): void {
    const adjoins = disk === this.#runDisk && offsetBytes === this.#runEnd;
    const small = this.#runEnd - this.#runOffset < runBytesMax && this.#runSources.length < runSourcesMax;
    if (!adjoins || !small) {
      this.#send();
      this.#runDisk = disk;
      this.#runOffset = offsetBytes;
    }
    this.#runSources.push(source);
    this.#runEnd = offsetBytes + source.byteLength;
  }

  /** Counts something else that must end before `drain` does, for example a copy; `endOther` ends it. */
  beginOther(): void {
    this.#inFlight += 1;
  }

  endOther(error: StoreError | null): void {
    this.error = this.error ?? error;
    this.#ended();
  }

  /** Called once, when `full` is false again. */
  whenRoom(callback: () => void): void {
    assert(this.#onRoom === null, "one waits for room");
    this.#onRoom = callback;
  }

  /** Sends what is left and calls back when nothing is under way; never at once. */
  drain(callback: () => void): void {
    assert(this.#onDrained === null, "one waits for the end");
    this.#send();
    this.#onDrained = callback;
    if (this.#inFlight > 0) return;
    // Nothing is under way: an empty flush ends like a disk's operation, later.
    this.#inFlight += 1;
    this.#disks.flushAll([], () => this.#ended());
  }

  #send(): void {
    if (this.#runDisk < 0) return;
    const disk = this.#runDisk;
    this.touched.add(disk);
    this.#inFlight += 1;
    this.#disks.write(disk, this.#runOffset, this.#runSources, (error) => {
      if (error && !this.error) {
        this.error = { code: "disk-failed", text: `write: ${error.text}` };
        this.errorCode = error.code;
      }
      this.#ended();
    });
    this.#runDisk = -1;
    this.#runEnd = -1;
    this.#runOffset = 0;
    this.#runSources = [];
  }

  #ended(): void {
    this.#inFlight -= 1;
    if (this.#onRoom && !this.full) {
      const onRoom = this.#onRoom;
      this.#onRoom = null;
      onRoom();
    }
    if (this.#inFlight === 0 && this.#onDrained) {
      const onDrained = this.#onDrained;
      this.#onDrained = null;
      onDrained();
    }
  }
}
