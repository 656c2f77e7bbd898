/**
 * A link's stream: the TCP stream itself while the link is plain, with a shaper before it while it is not.
 *
 *   plain   --reshape(shaping)--> shaped
 *   shaped  --reshape(null)-----> emptying --nothing waits--> plain
 *
 * Invariants:
 * - While the link is cut the handler learns nothing about the other end: its FIN and its death are held back until the link is
 *   joined again. (A cut of the other direction alone cannot hide the death of a whole process: its kernel tells.)
 * - An abort while cut closes this side at once, and the other side when the link is joined.
 */
import type { ByteStream, StreamHandler } from "../api/byte_stream.ts";
import type { Clock } from "../api/clock.ts";
import type { Shaping } from "../api/nic.ts";
import { plainShaping, Shaper } from "./shaper.ts";
import type { TcpStream } from "./tcp_stream.ts";

export class NicStream implements ByteStream, StreamHandler {
  readonly remote: string;
  handler: StreamHandler | null = null;
  readonly #raw: TcpStream;
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #onGone: (stream: NicStream) => void;
  #shaping: Shaping | null = null;
  #shaper: Shaper | null = null;
  #isEnded = false;
  /** `onClose` has been called or is about to be. */
  #isClosed = false;
  #rawClosed = false;
  #endHeld = false;

  constructor(options: {
    raw: TcpStream;
    remote: string;
    shaping: Shaping | null;
    clock: Clock;
    random: () => number;
    /** The socket is closed and the handler has been told. */
    onGone: (stream: NicStream) => void;
  }) {
    this.#raw = options.raw;
    this.remote = options.remote;
    this.#clock = options.clock;
    this.#random = options.random;
    this.#onGone = options.onGone;
    this.#raw.handler = this;
    this.reshape(options.shaping);
  }

  write(bytes: Uint8Array): number {
    const shaper = this.#shaper;
    if (shaper === null) return this.#raw.write(bytes);
    if (this.#isClosed || this.#isEnded) return 0;
    if (this.#shaping !== null || !shaper.isIdle()) return shaper.write(bytes);
    this.#shaper = null;
    return this.#raw.write(bytes);
  }

  end(): void {
    if (this.#isEnded || this.#isClosed) return;
    this.#isEnded = true;
    if (this.#shaper === null) this.#raw.end();
    else this.#shaper.end();
  }

  abort(): void {
    if (this.#isClosed) return;
    this.#shaper?.stop();
    if (this.#isCut()) {
      this.#raw.pause();
      this.#close();
    } else {
      this.#raw.abort();
    }
  }

  pause(): void {
    this.#raw.pause();
  }

  resume(): void {
    this.#raw.resume();
  }

  giveBack(chunk: Uint8Array): void {
    this.#raw.giveBack(chunk);
  }

  /** null: a plain link. */
  reshape(shaping: Shaping | null): void {
    const wasCut = this.#isCut();
    this.#shaping = shaping;
    if (this.#shaper !== null) this.#shaper.reshape(shaping ?? plainShaping);
    else if (shaping !== null) this.#shaper = this.#newShaper(shaping);
    if (wasCut && !this.#isCut()) this.#clock.defer(() => this.#joined());
  }

  #newShaper(shaping: Shaping): Shaper {
    return new Shaper({
      raw: this.#raw,
      clock: this.#clock,
      shaping,
      onRoom: () => {
        if (!this.#isClosed) this.handler?.onDrain();
      },
      random: this.#random,
    });
  }

  #isCut(): boolean {
    return this.#shaping?.cut === true;
  }

  /** What the other end did while the link was cut becomes known. */
  #joined(): void {
    if (this.#isCut()) return;
    if (this.#isClosed) {
      // Aborted while cut.
      this.#raw.abort();
      return;
    }
    if (this.#endHeld) {
      this.#endHeld = false;
      this.handler?.onEnd();
    }
    if (this.#rawClosed) this.#close();
  }

  /** The TCP stream's events. */
  onData(chunk: Uint8Array): void {
    if (!this.#isClosed) this.handler?.onData(chunk);
  }

  onDrain(): void {
    if (this.#isClosed) return;
    if (this.#shaper === null) this.handler?.onDrain();
    else this.#shaper.drained();
  }

  onEnd(): void {
    if (this.#isClosed) return;
    if (this.#isCut()) this.#endHeld = true;
    else this.handler?.onEnd();
  }

  onClose(): void {
    this.#rawClosed = true;
    if (this.#isClosed) this.#onGone(this);
    else if (!this.#isCut()) this.#close();
  }

  #close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#shaper?.stop();
    this.#clock.defer(() => {
      const handler = this.handler;
      this.handler = null;
      handler?.onClose();
      if (this.#rawClosed) this.#onGone(this);
    });
  }
}
