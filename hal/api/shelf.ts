/**
 * Disk shelves: slots with disks. All offsets and lengths are multiples of 4,096 bytes.
 *
 * Invariants:
 * - A write without a completed flush after it may be lost, torn at 512-byte sectors or garbled by a power loss; it survives the
 *   death of the process alone.
 * - An operation that reports an error has an unknown outcome.
 * - The buffers handed over stay unchanged, and are not reused, until `done` is called. `done` is never called before the
 *   operation returns. From then on they are the caller's again: what reported a timeout and happens later touches them no more.
 */
export interface Shelf {
  readonly name: string;
  /** How a partner can be kept from writing here. `none` cannot hold a pair. */
  readonly fencing: "atomic" | "power" | "none";
  /** By slot; null where the slot is empty or its disk does not answer. */
  readonly disks: readonly (Disk | null)[];
}

export interface Disk {
  /** Shelf and slot, for messages: `shelf0/2`. */
  readonly place: string;
  readonly sizeBytes: number;
  read(offsetBytes: number, target: Uint8Array, done: (error: DiskError | null) => void): void;
  /** Reads at once when that cannot block on a device, and returns true; otherwise returns false and has read nothing. */
  tryRead(offsetBytes: number, target: Uint8Array): boolean;
  /** Writes the sources one behind the other, starting at `offsetBytes`; the sum of their lengths is a multiple of 4,096. */
  write(offsetBytes: number, sources: readonly Uint8Array[], done: (error: DiskError | null) => void): void;
  /** Completes when every write completed before the call is durable. A failed flush is never retried as clean. */
  flush(done: (error: DiskError | null) => void): void;
  /** Gives the space back where the medium can; later reads of the range return anything. */
  discard(offsetBytes: number, lengthBytes: number, done: (error: DiskError | null) => void): void;
}

export interface DiskError {
  readonly code: "medium" | "absent" | "no-space" | "timeout" | "failed";
  readonly text: string;
}
