/**
 * The sending half of a shaped link: bytes wait here as they would on a long, thin or lossy wire.
 *
 *   piece: bytes that leave together. due = end of its serialisation at the rate + latency ± jitter (+ a retransmission delay
 *   where a packet of it was lost). A piece that is due waits for the one ahead of it: a stream stays a stream.
 *
 * Invariants:
 * - Order is kept; every byte taken is sent, unless the stream is aborted.
 * - No more than the window (see `windowBytes`) waits here; beyond it `write` comes short and `onRoom` follows.
 * - While cut nothing is sent, the FIN included.
 * - `onRoom` is never called from inside a call of this object.
 */
import type { ByteStream } from "../api/byte_stream.ts";
import type { Clock, Timer } from "../api/clock.ts";
import type { Shaping } from "../api/nic.ts";

/** What Ethernet leaves of 1,500 bytes for TCP's payload. */
const packetBytes = 1460;
/** The least time that a TCP sender waits before it sends a lost packet again (Linux). */
const retransmitMsMin = 200;
const pieceBytesMax = 65536;
/** A piece holds at most this much of the rate, so that a slow link trickles. */
const pieceMsMax = 5;

const windowBytesMin = 262_144;
const windowBytesMax = 16_777_216;
/** What an unlimited link is taken to carry when its window is computed. */
const unlimitedBytesPerSecond = 1e9;

export const plainShaping: Shaping = { cut: false, latencyMs: 0, jitterMs: 0, rateBytesPerSecond: null, loss: 0 };

/** Twice the bandwidth-delay product of one direction: the link stays busy while its acknowledgement travels back. */
export function windowBytes(shaping: Shaping): number {
  const bytesPerMs = (shaping.rateBytesPerSecond ?? unlimitedBytesPerSecond) / 1000;
  return Math.min(Math.max(windowBytesMin, Math.ceil(bytesPerMs * shaping.latencyMs * 2)), windowBytesMax);
}

interface Piece {
  readonly bytes: Uint8Array;
  sentBytes: number;
  readonly dueMs: number;
}

export class Shaper {
  readonly #raw: ByteStream;
  readonly #clock: Clock;
  readonly #onRoom: () => void;
  readonly #random: () => number;
  #shaping: Shaping;
  #pieces: Piece[] = [];
  #queuedBytes = 0;
  #wantsRoom = false;
  /** The stream under it took less than it was offered; it will say when there is room. */
  #blocked = false;
  #ending = false;
  #stopped = false;
  #lineFreeMs = 0;
  #nextIsLost = false;
  #timer: Timer | null = null;

  constructor(options: {
    raw: ByteStream;
    clock: Clock;
    shaping: Shaping;
    onRoom: () => void;
    random: () => number;
  }) {
    this.#raw = options.raw;
    this.#clock = options.clock;
    this.#shaping = options.shaping;
    this.#onRoom = options.onRoom;
    this.#random = options.random;
  }

  /** Nothing waits here. */
  isIdle(): boolean {
    return this.#pieces.length === 0 && !this.#ending;
  }

  write(bytes: Uint8Array): number {
    if (this.#ending || this.#stopped) return 0;
    const taken = Math.min(bytes.byteLength, Math.max(0, windowBytes(this.#shaping) - this.#queuedBytes));
    for (let offset = 0; offset < taken; ) offset += this.#takePiece(bytes.subarray(offset, taken));
    if (taken < bytes.byteLength) this.#wantsRoom = true;
    if (taken > 0) this.#schedule();
    return taken;
  }

  /** Copies a first part of `bytes` into the queue and returns its length. */
  #takePiece(bytes: Uint8Array): number {
    const { latencyMs, jitterMs, rateBytesPerSecond } = this.#shaping;
    const bytesPerMs = rateBytesPerSecond === null ? Number.POSITIVE_INFINITY : rateBytesPerSecond / 1000;
    const lengthMax = Math.min(Math.max(packetBytes, Math.floor(bytesPerMs * pieceMsMax)), pieceBytesMax);
    const { length, isLost } = this.#untilLoss(Math.min(bytes.byteLength, lengthMax));
    const startMs = Math.max(this.#clock.nowMs(), this.#lineFreeMs);
    this.#lineFreeMs = startMs + length / bytesPerMs;
    const jitter = jitterMs === 0 ? 0 : jitterMs * (2 * this.#random() - 1);
    const retransmit = isLost ? Math.max(retransmitMsMin, 2 * latencyMs) : 0;
    const dueMs = this.#lineFreeMs + latencyMs + jitter + retransmit;
    const copy = new Uint8Array(length);
    copy.set(bytes.subarray(0, length));
    this.#pieces.push({ bytes: copy, sentBytes: 0, dueMs });
    this.#queuedBytes += length;
    return length;
  }

  /** How many of the next `lengthMax` bytes travel together: a lost packet begins a piece of its own. */
  #untilLoss(lengthMax: number): { length: number; isLost: boolean } {
    const { loss } = this.#shaping;
    if (loss === 0) return { length: lengthMax, isLost: false };
    const isLost = this.#nextIsLost || this.#random() < loss;
    this.#nextIsLost = false;
    for (let length = packetBytes; length < lengthMax; length += packetBytes) {
      if (this.#random() >= loss) continue;
      this.#nextIsLost = true;
      return { length, isLost };
    }
    return { length: lengthMax, isLost };
  }

  /** New shaping: what waits keeps its time, unless the link is plain again. */
  reshape(shaping: Shaping): void {
    this.#shaping = shaping;
    this.#timer?.cancel();
    this.#timer = null;
    if (shaping.cut) return;
    // The line starts afresh; the order is that of the queue.
    this.#lineFreeMs = 0;
    this.#clock.defer(() => this.#send());
  }

  end(): void {
    this.#ending = true;
    this.#clock.defer(() => this.#send());
  }

  stop(): void {
    this.#stopped = true;
    this.#pieces = [];
    this.#queuedBytes = 0;
    this.#timer?.cancel();
  }

  /** The stream under it has room again. */
  drained(): void {
    this.#blocked = false;
    this.#send();
  }

  #schedule(): void {
    const head = this.#pieces[0];
    if (head === undefined || this.#timer !== null || this.#blocked || this.#shaping.cut) return;
    this.#timer = this.#clock.after(Math.max(0, head.dueMs - this.#clock.nowMs()), () => {
      this.#timer = null;
      this.#send();
    });
  }

  #send(): void {
    if (this.#stopped || this.#blocked || this.#shaping.cut) return;
    const nowMs = this.#shaping === plainShaping ? Number.POSITIVE_INFINITY : this.#clock.nowMs();
    let sentCount = 0;
    for (const piece of this.#pieces) {
      if (piece.dueMs > nowMs) break;
      const rest = piece.bytes.subarray(piece.sentBytes);
      const taken = this.#raw.write(rest);
      piece.sentBytes += taken;
      this.#queuedBytes -= taken;
      if (taken < rest.byteLength) {
        this.#blocked = true;
        break;
      }
      sentCount++;
    }
    if (sentCount > 0) this.#pieces.splice(0, sentCount);
    if (this.#pieces.length > 0) this.#schedule();
    else if (this.#ending) {
      this.#ending = false;
      this.#stopped = true;
      this.#raw.end();
    }
    if (this.#wantsRoom && this.#queuedBytes * 2 <= windowBytes(this.#shaping)) {
      this.#wantsRoom = false;
      this.#onRoom();
    }
  }
}
