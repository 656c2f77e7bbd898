/**
 * The owner's side of forwarding: each channel is a host's stream like any other to the front ends.
 *
 * Invariant: a stream behaves as `hal/api/byte_stream.ts` says: what `write` takes is copied, `onDrain` follows a short write, `onClose`
 * is the last call.
 */
import type { StreamHandler } from "../../hal/api/byte_stream.ts";
import type { Clock } from "../../hal/api/clock.ts";
import type { HostStream, TlsOutcome } from "../../hal/api/hba.ts";
import type { SendMessage } from "./brought_sessions.ts";
import type { PairMessage, PairMessageOf } from "./frame.ts";
import { pairLimits } from "./limits.ts";

/** Gives a session to the front end of its protocol; null: it is not served. */
export type ServeSession = (protocol: string, port: number, stream: HostStream) => StreamHandler | null;

export class PartnerSessions {
  readonly #clock: Clock;
  readonly #send: SendMessage;
  readonly #serve: ServeSession;
  readonly #streams = new Map<number, PartnerStream>();

  constructor(clock: Clock, send: SendMessage, serve: ServeSession) {
    this.#clock = clock;
    this.#send = send;
    this.#serve = serve;
  }

  onMessage(message: PairMessage, payload: Uint8Array): void {
    if (message.kind === "open") this.#open(message);
    else if ("channel" in message) this.#streams.get(message.channel)?.onMessage(message, payload);
  }

  #open({ channel, protocol, port, remote }: PairMessageOf<"open">): void {
    const stream = new PartnerStream(channel, remote, this.#clock, this.#send, () => this.#streams.delete(channel));
    const handler = this.#streams.has(channel) ? null : this.#serve(protocol, port, stream);
    if (handler === null) return this.#send({ kind: "close", channel });
    this.#streams.set(channel, stream);
    stream.handler = handler;
  }

  /** The partner is gone, and the hosts' connections with it. */
  closeAll(): void {
    for (const stream of [...this.#streams.values()]) stream.cut();
    this.#streams.clear();
  }
}

/** As in `codec/frame_link.ts`: 4 KiB reads at depth 32 go as a message of 64 KiB instead of 32 of two parts each. */
const gatherBytes = 128 * 1024;
const gatheredPartBytesMax = 16 * 1024;
const noBytes = new Uint8Array(0);

class PartnerStream implements HostStream {
  readonly remote: string;
  handler: StreamHandler | null = null;
  readonly #channel: number;
  readonly #clock: Clock;
  readonly #send: SendMessage;
  readonly #gone: () => void;
  #underWay = 0;
  #isShort = false;
  #buffer = noBytes;
  #gathered = 0;
  #flushQueued = false;
  #paused = false;
  #held: Uint8Array[] = [];
  #endHeld = false;
  #givenBytes = 0;
  #closed = false;
  #onTls: ((outcome: TlsOutcome) => void) | null = null;

  constructor(channel: number, remote: string, clock: Clock, send: SendMessage, gone: () => void) {
    this.#channel = channel;
    this.remote = remote;
    this.#clock = clock;
    this.#send = send;
    this.#gone = gone;
  }

  write(bytes: Uint8Array): number {
    if (this.#closed) return 0;
    const taken = Math.min(bytes.byteLength, pairLimits.windowBytes - this.#underWay);
    this.#underWay += taken;
    if (taken < bytes.byteLength) this.#isShort = true;
    if (taken <= gatheredPartBytesMax) this.#gather(bytes.subarray(0, taken));
    else {
      this.#flush();
      for (let at = 0; at < taken; at += pairLimits.payloadBytesMax) {
        const part = bytes.slice(at, Math.min(taken, at + pairLimits.payloadBytesMax));
        this.#send({ kind: "data", channel: this.#channel }, [part]);
      }
    }
    return taken;
  }

  /** One message for all the small things that a turn writes. */
  #gather(bytes: Uint8Array): void {
    if (this.#gathered + bytes.byteLength > this.#buffer.byteLength) this.#flush();
    if (this.#buffer.byteLength === 0) this.#buffer = new Uint8Array(gatherBytes);
    this.#buffer.set(bytes, this.#gathered);
    this.#gathered += bytes.byteLength;
    if (this.#flushQueued) return;
    this.#flushQueued = true;
    this.#clock.defer(() => {
      this.#flushQueued = false;
      this.#flush();
    });
  }

  /** The buffer goes with the message, until the partner has confirmed it; what is left of it is used on. */
  #flush(): void {
    if (this.#gathered === 0 || this.#closed) return;
    this.#send({ kind: "data", channel: this.#channel }, [this.#buffer.subarray(0, this.#gathered)]);
    this.#buffer = this.#buffer.subarray(this.#gathered);
    this.#gathered = 0;
    if (this.#buffer.byteLength < gatheredPartBytesMax) this.#buffer = noBytes;
  }

  end(): void {
    if (this.#closed) return;
    this.#flush();
    this.#send({ kind: "end", channel: this.#channel });
  }

  abort(): void {
    if (this.#closed) return;
    this.#send({ kind: "close", channel: this.#channel });
    this.cut();
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#clock.defer(() => this.#giveHeld());
  }

  startTls(done: (outcome: TlsOutcome) => void): void {
    this.#onTls = done;
    this.#flush();
    this.#send({ kind: "startTls", channel: this.#channel });
  }

  /** The connection is over; nothing is told to the partner. */
  cut(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#held = [];
    this.#gone();
    this.#clock.defer(() => this.handler?.onClose());
  }

  onMessage(message: PairMessage, payload: Uint8Array): void {
    if (this.#closed) return;
    if (message.kind === "data") {
      if (this.#paused || this.#held.length > 0) this.#held.push(payload);
      else this.#give(payload);
    } else if (message.kind === "took") {
      this.#underWay -= message.bytes;
      if (!this.#isShort) return;
      this.#isShort = false;
      this.handler?.onDrain();
    } else if (message.kind === "tlsStarted") {
      const onTls = this.#onTls;
      this.#onTls = null;
      const { ok, named, text } = message;
      onTls?.(ok ? { ok: true, clientName: named ? text : null } : { ok: false, reason: text });
    } else if (message.kind === "end") {
      if (this.#held.length > 0) this.#endHeld = true;
      else this.handler?.onEnd();
    } else if (message.kind === "close") this.cut();
  }

  #give(bytes: Uint8Array): void {
    this.#givenBytes += bytes.byteLength;
    if (this.#givenBytes >= pairLimits.creditBytes) {
      this.#send({ kind: "took", channel: this.#channel, bytes: this.#givenBytes });
      this.#givenBytes = 0;
    }
    this.handler?.onData(bytes);
  }

  #giveHeld(): void {
    while (this.#held.length > 0 && !this.#paused && !this.#closed) this.#give(this.#held.shift()!);
    if (!this.#endHeld || this.#held.length > 0 || this.#closed) return;
    this.#endHeld = false;
    this.handler?.onEnd();
  }
}
