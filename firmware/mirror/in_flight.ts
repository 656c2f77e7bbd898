/**
 * What has been sent on a link and is not acknowledged: a queue of frames, bounded by bytes and by number.
 *
 * Invariants: frames are numbered from 1 without gaps; acknowledgements are cumulative and never exceed what was sent.
 */
import { assert } from "../codec/assert.ts";

interface SentFrame {
  readonly bytes: number;
  readonly sentMs: number;
  /** Of a resync: how many bytes of volumes it brings; 0 for live records. */
  readonly asOfBytes: number;
}

export class InFlight {
  readonly #bytesMax: number;
  readonly #framesMax: number;
  #frames: SentFrame[] = [];
  #at = 0;
  #bytes = 0;
  #sent = 0;
  #acked = 0;
  #asOfBytes = 0;
  #asOfArrivedBytes = 0;

  constructor(bytesMax: number, framesMax: number) {
    this.#bytesMax = bytesMax;
    this.#framesMax = framesMax;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get hasRoom(): boolean {
    return this.#bytes < this.#bytesMax && this.#sent - this.#acked < this.#framesMax;
  }

  get isEmpty(): boolean {
    return this.#sent === this.#acked;
  }

  /** Bytes of volumes in as-of frames that are under way, and that have arrived durably. */
  get asOfBytes(): number {
    return this.#asOfBytes;
  }

  get asOfArrivedBytes(): number {
    return this.#asOfArrivedBytes;
  }

  /** When the oldest unacknowledged frame was sent; null: none is. */
  get oldestMs(): number | null {
    return this.#frames[this.#at]?.sentMs ?? null;
  }

  /** Returns the frame's number. */
  sent(bytes: number, nowMs: number, asOfBytes = 0): number {
    this.#frames.push({ bytes, sentMs: nowMs, asOfBytes });
    this.#bytes += bytes;
    this.#asOfBytes += asOfBytes;
    this.#sent++;
    return this.#sent;
  }

  /** False: the number cannot be (a fault of the peer). */
  acknowledge(frames: number): boolean {
    if (frames < this.#acked || frames > this.#sent) return false;
    while (this.#acked < frames) {
      const frame = this.#frames[this.#at++];
      assert(frame !== undefined, "an unacknowledged frame is remembered");
      this.#bytes -= frame.bytes;
      this.#asOfBytes -= frame.asOfBytes;
      this.#asOfArrivedBytes += frame.asOfBytes;
      this.#acked++;
    }
    if (this.#at === this.#frames.length) {
      this.#frames.length = 0;
      this.#at = 0;
    } else if (this.#at > 4096) {
      this.#frames.splice(0, this.#at);
      this.#at = 0;
    }
    return true;
  }
}
