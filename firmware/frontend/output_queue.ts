/**
 * What a session has to send: replies are written straight into the tail buffer and go out in as few `write` calls as possible.
 *
 * Invariants:
 * - Bytes leave in the order in which they were reserved or appended.
 * - After a short write nothing is written until `drained`.
 * - Empty, the queue holds no buffer: an idle session costs nothing.
 */
import type { ByteStream } from "../../hal/api/byte_stream.ts";
import { type BufferPool, headroomBytes, type PooledBuffer } from "./buffer_pool.ts";

/** The size of a gathering buffer: 63 replies of 4 KiB. */
const segmentBytes = 262144;

export class OutputQueue {
  queuedBytes = 0;
  /** A short write happened; the stream will tell when there is room. */
  blocked = false;
  private readonly pool: BufferPool;
  private readonly segments: PooledBuffer[] = [];
  /** The last segment, when more may be written into it. */
  private tail: PooledBuffer | null = null;

  constructor(pool: BufferPool) {
    this.pool = pool;
  }

  /**
   * The buffer to write the next `bytes` into, at its `end`; `commit` makes them part of the queue. Without a commit nothing
   * has happened.
   */
  reserve(bytes: number): PooledBuffer {
    const tail = this.tail;
    if (tail !== null && tail.end + bytes <= tail.bytes.byteLength) return tail;
    // The reply's header lies in the buffer's headroom, so that a read of a whole size class fits its class.
    const next = this.pool.acquire(Math.max(segmentBytes, bytes - headroomBytes));
    this.segments.push(next);
    this.tail = next;
    return next;
  }

  /** `bytes` have been written at the end of the buffer that `reserve` gave. */
  commit(bytes: number): void {
    this.tail!.end += bytes;
    this.queuedBytes += bytes;
  }

  /** Copies bytes in (cold path: handshakes). */
  put(bytes: Uint8Array): void {
    const buffer = this.reserve(bytes.byteLength);
    buffer.bytes.set(bytes, buffer.end);
    this.commit(bytes.byteLength);
  }

  /** Takes over a whole buffer of which `[start, end)` is to be sent. */
  append(buffer: PooledBuffer): void {
    this.segments.push(buffer);
    this.tail = null;
    this.queuedBytes += buffer.end - buffer.start;
  }

  /** Sends what the stream takes; returns how many bytes that were. */
  drainTo(stream: ByteStream): number {
    let sentBytes = 0;
    let done = 0;
    const segments = this.segments;
    while (done < segments.length && !this.blocked) {
      const segment = segments[done]!;
      const length = segment.end - segment.start;
      if (length > 0) {
        const taken = stream.write(segment.bytes.subarray(segment.start, segment.end));
        segment.start += taken;
        sentBytes += taken;
        if (taken < length) {
          this.blocked = true;
          break;
        }
      }
      this.pool.release(segment);
      done++;
    }
    if (done > 0) {
      if (done === segments.length) this.tail = null;
      segments.splice(0, done);
    }
    this.queuedBytes -= sentBytes;
    return sentBytes;
  }

  /** The stream has room again. */
  drained(): void {
    this.blocked = false;
  }

  /** Everything unsent is dropped: the stream is gone. */
  clear(): void {
    for (const segment of this.segments) this.pool.release(segment);
    this.segments.length = 0;
    this.tail = null;
    this.queuedBytes = 0;
  }
}
