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
  /** How a partner can be kept from writing here: by the disks themselves, by switching it off, or not at all: `none` cannot hold a pair. */
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
  /** Left out unless the shelf's fencing is `atomic`. */
  readonly fence?: DiskFence;
}

/**
 * Who may write to a disk of an `atomic` shelf: whoever is registered with it (SCSI-3 persistent reservations, SPC-5 5.14: Write
 * Exclusive - All Registrants).
 *
 * Invariants:
 * - The disk checks and writes in one step: when `evictOthers` has completed, whatever others had under way has landed or never will.
 *   What they ask for from then on changes nothing and reports `evicted`; reads are answered as before, and a flush may report what it finds:
 *   that earlier writes are durable.
 * - Registrations outlast the death of whoever made them, and the loss of power, the disk's too.
 * - A disk with which nobody is registered takes the writes of all.
 */
export interface DiskFence {
  /**
   * Registers this appliance under `key` (8 bytes, not all of them zero), in place of what an earlier boot had registered, and reserves
   * the disk for those registered. Never called again by a boot after it has succeeded: whoever was evicted must not come back.
   */
  register(key: Uint8Array, done: (error: DiskError | null) => void): void;
  /** Error `evicted`: this appliance is not registered any more under the key that this boot has registered. */
  look(done: (error: DiskError | null) => void): void;
  /** Takes all registrations away but this boot's own; error `evicted` when that one is gone. */
  evictOthers(done: (error: DiskError | null) => void): void;
}

export interface DiskError {
  readonly code: "medium" | "absent" | "no-space" | "timeout" | "failed" | "evicted";
  readonly text: string;
}
