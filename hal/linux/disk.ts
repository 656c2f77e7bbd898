/**
 * A disk on a file or a block device.
 *
 * Data I/O goes through the runtime's thread pool, except where a call cannot wait for a device: reads that the page cache can
 * answer (RWF_NOWAIT), and everything small on a file in memory (tmpfs).
 *
 * Measured (Bun 1.4.5, 4 KiB): tryRead on tmpfs 0.9 us, from ext4's page cache 0.8 us; the same through the pool 20-30 us.
 *
 * A disk that another machine writes too is used past the page cache (`direct`): what the cache holds of it may be old, and what it has
 * not written yet the other one cannot see. The kernel wants such buffers on page boundaries, so others are copied.
 *
 * Invariants:
 * - Reads hold a share of the pool's threads and no more: see `read_share.ts`.
 * - `done` is never called before the operation has returned.
 * - One fdatasync is under way at a time and covers every call made before it started. After a failed one the disk never
 *   reports a flush as done again: the kernel would, though it has dropped the pages.
 */
import { closeSync, writevSync } from "node:fs";
import type { Clock } from "../api/clock.ts";
import type { Disk, DiskError, DiskFence } from "../api/shelf.ts";
import type { Discarder } from "./discard.ts";
import { type IoFailure, readAll, syncData, toDiskError, writeAll } from "./file_io.ts";
import { isPageAligned, pageAligned, punchHole, readFully, readFullyNoWait } from "./libc.ts";
import type { ReadLine } from "./read_share.ts";

type DiskDone = (error: DiskError | null) => void;

const blockBytes = 4096;
/** Up to this much is copied to or from memory in the event loop itself (about 30 us); more goes to the pool. */
const inlineBytesMax = 131072;

export class FileDisk implements Disk {
  readonly place: string;
  readonly sizeBytes: number;
  readonly fence?: DiskFence;
  readonly #fd: number;
  readonly #inMemory: boolean;
  readonly #direct: boolean;
  readonly #clock: Clock;
  readonly #discarder: Discarder;
  readonly #reads: ReadLine;
  #fault = false;
  #isOpen = true;
  #inFlight = 0;
  #flushWaiters: DiskDone[] = [];
  #flushing = false;
  #flushError: DiskError | null = null;
  #onIdle: (() => void) | null = null;

  constructor(options: {
    place: string;
    fd: number;
    sizeBytes: number;
    inMemory: boolean;
    /** `fd` is open with O_DIRECT. */
    direct: boolean;
    clock: Clock;
    discarder: Discarder;
    reads: ReadLine;
    /** Of a disk that can evict. */
    fence?: DiskFence;
  }) {
    this.place = options.place;
    this.sizeBytes = options.sizeBytes;
    this.#fd = options.fd;
    this.#inMemory = options.inMemory;
    this.#direct = options.direct;
    this.#clock = options.clock;
    this.#discarder = options.discarder;
    this.#reads = options.reads;
    const { fence } = options;
    if (fence !== undefined) this.fence = this.#counted(fence);
  }

  /** As every operation: a disk that is away answers nothing, and one that is closed waits for what is under way. */
  #counted(fence: DiskFence): DiskFence {
    const begin = (operation: string, done: DiskDone, start: (done: DiskDone) => void): void => {
      const settle = this.#begin(operation, done);
      if (settle !== null) start(settle);
    };
    return {
      register: (key, done) => begin("register", done, (settle) => fence.register(key, settle)),
      look: (done) => begin("look", done, (settle) => fence.look(settle)),
      evictOthers: (done) => begin("evict", done, (settle) => fence.evictOthers(settle)),
    };
  }

  read(offsetBytes: number, target: Uint8Array, done: DiskDone): void {
    this.#checkRange(offsetBytes, target.byteLength);
    const settle = this.#begin("read", done);
    if (settle === null) return;
    if (this.#inMemory && target.byteLength <= inlineBytesMax && readFully(this.#fd, offsetBytes, target)) {
      this.#clock.defer(() => settle(null));
    } else {
      const place = this.#direct && !isPageAligned(target) ? pageAligned(target.byteLength) : target;
      this.#reads.enter(() =>
        readAll(this.#fd, offsetBytes, place, (failure) => {
          this.#reads.left();
          if (place !== target) target.set(place);
          settle(failure);
        }),
      );
    }
  }

  tryRead(offsetBytes: number, target: Uint8Array): boolean {
    this.#checkRange(offsetBytes, target.byteLength);
    if (this.#fault || !this.#isOpen || this.#direct) return false;
    return this.#inMemory ? readFully(this.#fd, offsetBytes, target) : readFullyNoWait(this.#fd, offsetBytes, target);
  }

  write(offsetBytes: number, sources: readonly Uint8Array[], done: DiskDone): void {
    let lengthBytes = 0;
    for (const source of sources) lengthBytes += source.byteLength;
    this.#checkRange(offsetBytes, lengthBytes);
    const settle = this.#begin("write", done);
    if (settle === null) return;
    if (this.#inMemory && lengthBytes <= inlineBytesMax && this.#writeInline(offsetBytes, sources, lengthBytes)) {
      this.#clock.defer(() => settle(null));
    } else {
      writeAll(this.#fd, offsetBytes, this.#direct ? [joinedForDirect(sources, lengthBytes)] : sources, settle);
    }
  }

  /** False: not done, or in part; the pool does it again and finds out why. */
  #writeInline(offsetBytes: number, sources: readonly Uint8Array[], lengthBytes: number): boolean {
    try {
      return writevSync(this.#fd, sources, offsetBytes) === lengthBytes;
    } catch {
      return false;
    }
  }

  flush(done: DiskDone): void {
    this.#flushWaiters.push(done);
    if (!this.#flushing) this.#startFlush();
  }

  #startFlush(): void {
    const waiters = this.#flushWaiters;
    this.#flushWaiters = [];
    this.#flushing = true;
    const settle = this.#begin("flush", (error) => {
      this.#flushing = false;
      if (error !== null) this.#flushError ??= error;
      const outcome = this.#flushError;
      for (const waiter of waiters) waiter(outcome);
      if (this.#flushWaiters.length > 0 && !this.#flushing) this.#startFlush();
    });
    if (settle === null) return;
    if (this.#inMemory) this.#clock.defer(() => settle(null));
    else syncData(this.#fd, settle);
  }

  discard(offsetBytes: number, lengthBytes: number, done: DiskDone): void {
    this.#checkRange(offsetBytes, lengthBytes);
    const settle = this.#begin("discard", done);
    if (settle === null) return;
    // Best effort: a medium that cannot give space back keeps it.
    if (this.#inMemory) {
      punchHole(this.#fd, offsetBytes, lengthBytes);
      this.#clock.defer(() => settle(null));
      return;
    }
    this.#discarder.discard(this.#fd, offsetBytes, lengthBytes, (isDone) => {
      // The call does not say why; the disk does.
      if (isDone || this.fence === undefined) settle(null);
      else this.fence.look((error) => settle(error?.code === "evicted" ? error : null));
    });
  }

  /** For the lab: while on, the disk answers nothing but `absent`. */
  setFault(on: boolean): void {
    this.#fault = on;
  }

  /** Lets what is under way end, then closes the file. */
  close(done: () => void): void {
    this.#isOpen = false;
    const finish = () => {
      closeSync(this.#fd);
      done();
    };
    if (this.#inFlight === 0) this.#clock.defer(finish);
    else this.#onIdle = finish;
  }

  /** Counts an operation in; null: it has failed already and `done` will be told. */
  #begin(operation: string, done: DiskDone): ((failure: IoFailure | DiskError | null) => void) | null {
    if (this.#fault || !this.#isOpen) {
      this.#clock.defer(() => done(toDiskError(this.place, operation, { code: "ENODEV" })));
      return null;
    }
    this.#inFlight++;
    return (failure) => {
      this.#inFlight--;
      if (this.#fault) done(toDiskError(this.place, operation, { code: "ENODEV" }));
      else if (failure === null || "text" in failure) done(failure);
      else done(toDiskError(this.place, operation, failure));
      if (this.#inFlight === 0 && this.#onIdle !== null) {
        const finish = this.#onIdle;
        this.#onIdle = null;
        finish();
      }
    };
  }

  #checkRange(offsetBytes: number, lengthBytes: number): void {
    const isAligned = offsetBytes % blockBytes === 0 && lengthBytes % blockBytes === 0;
    if (!isAligned || offsetBytes < 0 || lengthBytes <= 0 || offsetBytes + lengthBytes > this.sizeBytes) {
      throw new Error(`${this.place}: ${lengthBytes} bytes at ${offsetBytes} are not in its ${this.sizeBytes}`);
    }
  }
}

function joinedForDirect(sources: readonly Uint8Array[], lengthBytes: number): Uint8Array {
  const [first] = sources;
  if (sources.length === 1 && first !== undefined && isPageAligned(first)) return first;
  const joined = pageAligned(lengthBytes);
  let at = 0;
  for (const source of sources) {
    joined.set(source, at);
    at += source.byteLength;
  }
  return joined;
}
