/**
 * A connected, ordered, reliable byte stream: what an HBA port gives for a host session and a NIC for a link.
 *
 * Invariants:
 * - `write` takes a prefix of the bytes and says how many; what it took is copied, so the caller may reuse its buffer.
 * - After a short `write`, `onDrain` is called once there is room again.
 * - A chunk given to `onData` belongs to the receiver: the stream never touches it again, unless the receiver gives it back.
 * - `onClose` is called exactly once and is the last call.
 */
export interface ByteStream {
  /** Who is at the other end, for logs: host address for an HBA port, appliance name for a NIC. */
  readonly remote: string;
  /** Returns how many of `bytes` were taken, 0 to `bytes.byteLength`; 0 after a close. */
  write(bytes: Uint8Array): number;
  /** Sends what was taken, then closes orderly. */
  end(): void;
  /** Closes at once; what was taken may be lost. */
  abort(): void;
  /** Stops `onData` (the sender feels it as back-pressure). */
  pause(): void;
  resume(): void;
  /**
   * Gives back a chunk of `onData`, whole as it came. Nobody may read it afterwards, nor any view of it: its memory is used again.
   * Nobody has to: what is not given back is left to the garbage collector.
   */
  giveBack(chunk: Uint8Array): void;
}

export interface StreamHandler {
  onData(chunk: Uint8Array): void;
  onDrain(): void;
  /** The other end will send nothing more; it may still read. */
  onEnd(): void;
  onClose(): void;
}
