/**
 * Cuts the byte stream of a link into frames.
 *
 *   prefix (8 bytes) ──▶ header ──▶ payload ──▶ prefix …        any fault ──▶ broken (for good)
 *
 * Invariants:
 * - The two lengths are judged before anything behind them is kept: at most `headerBytesMax + payloadBytesMax` are buffered.
 * - A part that lies wholly in one chunk is given out as a view of it; one that does not is assembled once. Either way the bytes
 *   belong to whoever gets the frame, except of a payload that is lent: it is the receiver's until `onFrame` returns. What is lent is
 *   assembled in memory that is used again, and a chunk of which nothing else was given out is free when it has been fed.
 */

/** Two length words: of the header and of the payload. */
export const framePrefixBytes = 8;

/** One language of frames: between arrays, or between partners. */
export interface FrameCodec<Frame> {
  /** Most that a header, and a payload, may have. */
  readonly headerBytesMax: number;
  readonly payloadBytesMax: number;
  /** Length words and header of `frame`; `payloadBytes` of payload are sent behind them. */
  encode(frame: Frame, payloadBytes: number): Uint8Array;
  /** The header's frame, judged, or what is wrong with it. Neither refers to the header's memory. */
  decode(
    header: Uint8Array,
  ): { readonly kind: "frame"; readonly frame: Frame } | { readonly kind: "malformed"; readonly text: string };
  mayCarryPayload(frame: Frame): boolean;
  /** Whoever gets the frame is through with its payload, or has copied it, when `onFrame` returns. */
  lendsPayload(frame: Frame): boolean;
}

/** The two length words and the header; the payload follows as it is. */
export function framed(header: Uint8Array, payloadBytes: number): Uint8Array {
  const bytes = new Uint8Array(framePrefixBytes + header.byteLength);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, header.byteLength, true);
  view.setUint32(4, payloadBytes, true);
  bytes.set(header, framePrefixBytes);
  return bytes;
}

export interface FrameReceiver<Frame> {
  /** `payload`: the receiver's to keep, unless the codec says that it is lent. */
  onFrame(frame: Frame, payload: Uint8Array): void;
  /** At most once; nothing follows. */
  onMalformed(text: string): void;
}

const noBytes = new Uint8Array(0);

/**
 * The memory in which lent payloads are assembled begins with this, all that a turn of forwarded 4 KiB commands makes, and grows to the
 * longest one: 1 MiB stores for a copy of the cache were a seventh of the partner's main thread in fresh memory.
 */
const loanBytesMin = 256 * 1024;

export class FrameParser<Frame extends { readonly kind: string }> {
  readonly #codec: FrameCodec<Frame>;
  readonly #receiver: FrameReceiver<Frame>;
  #part: "prefix" | "header" | "payload" | "broken" = "prefix";
  #wantedBytes: number = framePrefixBytes;
  /** The part being assembled over several chunks; empty while nothing of it has come. */
  #assembled: Uint8Array = noBytes;
  #haveBytes = 0;
  #payloadBytes = 0;
  #frame: Frame | null = null;
  /** What lent payloads are assembled in. */
  #loan: Uint8Array = noBytes;
  #chunkIsFree = true;

  constructor(codec: FrameCodec<Frame>, receiver: FrameReceiver<Frame>) {
    this.#codec = codec;
    this.#receiver = receiver;
  }

  get broken(): boolean {
    return this.#part === "broken";
  }

  /** The receiver may stop the parser from inside `onFrame`. */
  stop(): void {
    this.#part = "broken";
    this.#assembled = noBytes;
    this.#loan = noBytes;
    this.#frame = null;
  }

  /** True: nothing refers to the chunk any more. */
  feed(chunk: Uint8Array): boolean {
    this.#chunkIsFree = true;
    let at = 0;
    while (this.#part !== "broken") {
      const missing = this.#wantedBytes - this.#haveBytes;
      const available = chunk.byteLength - at;
      if (available < missing) {
        if (available > 0) this.#keep(chunk.subarray(at));
        return this.#chunkIsFree;
      }
      const isView = this.#haveBytes === 0;
      const rest = chunk.subarray(at, at + missing);
      const part = isView ? rest : this.#complete(rest);
      at += missing;
      this.#haveBytes = 0;
      this.#assembled = noBytes;
      if (isView && this.#part === "payload" && !this.#isLent()) this.#chunkIsFree = false;
      this.#take(part);
    }
    return this.#chunkIsFree;
  }

  #isLent(): boolean {
    return this.#codec.lendsPayload(this.#frame!);
  }

  #keep(bytes: Uint8Array): void {
    if (this.#haveBytes === 0) this.#assembled = this.#memory();
    this.#assembled.set(bytes, this.#haveBytes);
    this.#haveBytes += bytes.byteLength;
  }

  /** For the part that begins. */
  #memory(): Uint8Array {
    const bytes = this.#wantedBytes;
    if (this.#part !== "payload" || !this.#isLent()) return new Uint8Array(bytes);
    if (this.#loan.byteLength < bytes) this.#loan = new Uint8Array(Math.max(loanBytesMin, bytes));
    return this.#loan.subarray(0, bytes);
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
    if (headerBytes === 0 || headerBytes > this.#codec.headerBytesMax) {
      this.#break(`a header of ${headerBytes} bytes, at most ${this.#codec.headerBytesMax}`);
      return;
    }
    if (this.#payloadBytes > this.#codec.payloadBytesMax) {
      this.#break(`a payload of ${this.#payloadBytes} bytes, at most ${this.#codec.payloadBytesMax}`);
      return;
    }
    this.#part = "header";
    this.#wantedBytes = headerBytes;
  }

  #takeHeader(header: Uint8Array): void {
    const decoded = this.#codec.decode(header);
    if (decoded.kind === "malformed") {
      this.#break(decoded.text);
      return;
    }
    if (this.#payloadBytes > 0 && !this.#codec.mayCarryPayload(decoded.frame)) {
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
    this.#wantedBytes = framePrefixBytes;
    this.#receiver.onFrame(frame, payload);
  }

  #break(text: string): void {
    this.stop();
    this.#receiver.onMalformed(text);
  }
}
