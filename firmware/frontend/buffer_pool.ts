/**
 * Buffers for payloads and replies, reused over all sessions of a front end.
 *
 * Invariants:
 * - A buffer is with exactly one holder, or in the pool.
 * - The pool keeps at most `keptBytesMax`; what comes back beyond that is left to the garbage collector.
 *
 * A returned buffer is the next one handed out (last in, first out), so that a busy session works in warm cache lines.
 */

/** Room in front of a payload for any protocol's reply header (NBD 28 bytes, iSCSI 48 + 4). */
export const headroomBytes = 64;

/**
 * Payload sizes from 4 KiB to 32 MiB; every buffer has `headroomBytes` more. From 256 KiB (an output segment) on each is twice the
 * one before, so that a buffer never holds more than twice what its session was charged for.
 */
const classPayloadBytes: readonly number[] = [4, 64, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768].map(
  (sizeKib) => sizeKib * 1024,
);

export class PooledBuffer {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly classIndex: number;
  /** The part that waits to be sent, kept here so that an output queue needs no object of its own. */
  start = 0;
  end = 0;

  constructor(bytes: Uint8Array, classIndex: number) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.classIndex = classIndex;
  }
}

export class BufferPool {
  private readonly keptBytesMax: number;
  private keptBytes = 0;
  private readonly free: PooledBuffer[][] = classPayloadBytes.map(() => []);

  constructor(keptBytesMax: number) {
    this.keptBytesMax = keptBytesMax;
  }

  /** A buffer of at least `payloadBytes` plus headroom. Sizes above the largest class are made to measure and not kept. */
  acquire(payloadBytes: number): PooledBuffer {
    for (let index = 0; index < classPayloadBytes.length; index++) {
      const sizeBytes = classPayloadBytes[index]!;
      if (payloadBytes > sizeBytes) continue;
      const kept = this.free[index]!.pop();
      if (kept === undefined) return new PooledBuffer(new Uint8Array(sizeBytes + headroomBytes), index);
      this.keptBytes -= kept.bytes.byteLength;
      kept.start = 0;
      kept.end = 0;
      return kept;
    }
    return new PooledBuffer(new Uint8Array(payloadBytes + headroomBytes), -1);
  }

  release(buffer: PooledBuffer): void {
    const list = this.free[buffer.classIndex];
    if (list === undefined || this.keptBytes + buffer.bytes.byteLength > this.keptBytesMax) return;
    this.keptBytes += buffer.bytes.byteLength;
    list.push(buffer);
  }
}
