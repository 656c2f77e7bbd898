/**
 * Cuts the byte stream of a link into frames.
 *
 *   prefix (8 bytes) ──▶ header ──▶ payload ──▶ prefix …        any fault ──▶ broken (for good)
 *
 * Invariants:
 * - The two lengths are judged before anything behind them is kept: at most `headerBytesMax + payloadBytesMax` are buffered.
 * - A part that lies wholly in one chunk is given out as a view of it; one that does not is assembled once. Either way the bytes
 *   belong to whoever gets the frame.
 */

import { type Frame, mayCarryPayload } from "./frame.ts";
import { decodeFrame } from "./frame_decode.ts";
import { linkLimits } from "./limits.ts";

export interface FrameReceiver {
  onFrame(frame: Frame, payload: Uint8Array): void;
  /** At most once; nothing follows. */
  onMalformed(text: string): void;
}

const noBytes = new Uint8Array(0);

export class FrameParser {
  readonly #receiver: FrameReceiver;
  #part: "prefix" | "header" | "payload" | "broken" = "prefix";
  #wantedBytes: number = linkLimits.prefixBytes;
  /** The part being assembled over several chunks; empty while nothing of it has come. */
  #assembled: Uint8Array = noBytes;
  #haveBytes = 0;
  #payloadBytes = 0;
  #frame: Frame | null = null;

  constructor(receiver: FrameReceiver) {
    this.#receiver = receiver;
  }

  get broken(): boolean {
    return this.#part === "broken";
  }

  /** The receiver may stop the parser from inside `onFrame`. */
  stop(): void {
    this.#part = "broken";
    this.#assembled = noBytes;
    this.#frame = null;
  }

  feed(chunk: Uint8Array): void {
    let at = 0;
    while (this.#part !== "broken") {
      const missing = this.#wantedBytes - this.#haveBytes;
      const available = chunk.byteLength - at;
      if (available < missing) {
        if (available > 0) this.#keep(chunk.subarray(at));
        return;
      }
      const part =
        this.#haveBytes === 0 ? chunk.subarray(at, at + missing) : this.#complete(chunk.subarray(at, at + missing));
      at += missing;
      this.#haveBytes = 0;
      this.#assembled = noBytes;
      this.#take(part);
    }
  }

  #keep(bytes: Uint8Array): void {
    if (this.#haveBytes === 0) this.#assembled = new Uint8Array(this.#wantedBytes);
    this.#assembled.set(bytes, this.#haveBytes);
    this.#haveBytes += bytes.byteLength;
  }

  #complete(rest: Uint8Array): Uint8Array {
    this.#assembled.set(rest, this.#haveBytes);
    return this.#assembled;
  }

  #take(part: Uint8Array): void {
    if (this.#part === "prefix") this.#takePrefix(part);
    else if (this.#part === "header") this.#takeHeader(part);
    else this.#give(part);
  }

  #takePrefix(prefix: Uint8Array): void {
    const view = new DataView(prefix.buffer, prefix.byteOffset, prefix.byteLength);
    const headerBytes = view.getUint32(0, true);
    this.#payloadBytes = view.getUint32(4, true);
    if (headerBytes === 0 || headerBytes > linkLimits.headerBytesMax) {
      this.#break(`a header of ${headerBytes} bytes, at most ${linkLimits.headerBytesMax}`);
      return;
    }
    if (this.#payloadBytes > linkLimits.payloadBytesMax) {
      this.#break(`a payload of ${this.#payloadBytes} bytes, at most ${linkLimits.payloadBytesMax}`);
      return;
    }
    this.#part = "header";
    this.#wantedBytes = headerBytes;
  }

  #takeHeader(header: Uint8Array): void {
    const decoded = decodeFrame(header);
    if (decoded.kind === "malformed") {
      this.#break(decoded.text);
      return;
    }
    if (this.#payloadBytes > 0 && !mayCarryPayload(decoded.frame.kind)) {
      this.#break(`${decoded.frame.kind}: a payload of ${this.#payloadBytes} bytes, none belongs here`);
      return;
    }
    this.#frame = decoded.frame;
    if (this.#payloadBytes === 0) {
      this.#give(noBytes);
      return;
    }
    this.#part = "payload";
    this.#wantedBytes = this.#payloadBytes;
  }

  #give(payload: Uint8Array): void {
    const frame = this.#frame!;
    this.#frame = null;
    this.#part = "prefix";
    this.#wantedBytes = linkLimits.prefixBytes;
    this.#receiver.onFrame(frame, payload);
  }

  #break(text: string): void {
    this.stop();
    this.#receiver.onMalformed(text);
  }
}
