/**
 * The standby's side of forwarding: sessions of hosts at its ports go to the owner, byte for byte, as channels of the interconnect.
 *
 * Invariants:
 * - A session lasts as long as the owner that it was brought to: when the partner is lost, or hands over, the host's connection is
 *   closed, and the host begins anew on whichever path answers.
 * - At most a window of bytes is under way in each direction; beyond it the host, or the owner, waits.
 */
import type { StreamHandler } from "../../hal/api/byte_stream.ts";
import type { HostStream } from "../../hal/api/hba.ts";
import type { PairMessage } from "./frame.ts";
import { pairLimits } from "./limits.ts";

export type SendMessage = (message: PairMessage, payload?: readonly Uint8Array[]) => void;

export class BroughtSessions {
  readonly #send: SendMessage;
  readonly #sessions = new Map<number, BroughtSession>();
  #lastChannel = 0;

  constructor(send: SendMessage) {
    this.#send = send;
  }

  get count(): number {
    return this.#sessions.size;
  }

  /** null: there are as many sessions as the owner takes. */
  bring(protocol: string, port: number, stream: HostStream): StreamHandler | null {
    if (this.#sessions.size >= pairLimits.channelsMax) return null;
    const channel = ++this.#lastChannel;
    const session = new BroughtSession(channel, stream, this.#send, () => this.#sessions.delete(channel));
    this.#sessions.set(channel, session);
    this.#send({ kind: "open", channel, protocol, port, remote: stream.remote });
    return session;
  }

  onMessage(message: PairMessage, payload: Uint8Array): void {
    if (!("channel" in message)) return;
    this.#sessions.get(message.channel)?.onMessage(message, payload);
  }

  /** The owner is gone. */
  closeAll(): void {
    for (const session of [...this.#sessions.values()]) session.cut();
    this.#sessions.clear();
  }
}

class BroughtSession implements StreamHandler {
  readonly #channel: number;
  readonly #stream: HostStream;
  readonly #send: SendMessage;
  readonly #gone: () => void;
  /** Sent to the owner and not taken by it yet. */
  #underWay = 0;
  #paused = false;
  /** What the host's connection has not taken yet. */
  #queue: Uint8Array[] = [];
  #takenBytes = 0;
  #ending = false;
  #tlsWanted = false;
  #closed = false;

  constructor(channel: number, stream: HostStream, send: SendMessage, gone: () => void) {
    this.#channel = channel;
    this.#stream = stream;
    this.#send = send;
    this.#gone = gone;
  }

  onData(chunk: Uint8Array): void {
    for (let at = 0; at < chunk.byteLength; at += pairLimits.payloadBytesMax) {
      const part = chunk.subarray(at, at + pairLimits.payloadBytesMax);
      this.#send({ kind: "data", channel: this.#channel }, [part]);
    }
    this.#underWay += chunk.byteLength;
    if (this.#underWay < pairLimits.windowBytes || this.#paused) return;
    this.#paused = true;
    this.#stream.pause();
  }

  onDrain(): void {
    this.#write();
  }

  onEnd(): void {
    this.#send({ kind: "end", channel: this.#channel });
  }

  onClose(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#gone();
    this.#send({ kind: "close", channel: this.#channel });
  }

  /** The owner does not hear of it: it is not there. */
  cut(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#gone();
    this.#stream.abort();
  }

  onMessage(message: PairMessage, payload: Uint8Array): void {
    if (message.kind === "data") {
      this.#queue.push(payload);
      if (this.#queue.length === 1) this.#write();
    } else if (message.kind === "took") this.#took(message.bytes);
    else if (message.kind === "startTls") {
      this.#tlsWanted = true;
      this.#write();
    } else if (message.kind === "end") {
      this.#ending = true;
      this.#write();
    } else if (message.kind === "close") this.cut();
  }

  #took(bytes: number): void {
    this.#underWay -= bytes;
    if (!this.#paused || this.#underWay >= pairLimits.windowBytes) return;
    this.#paused = false;
    this.#stream.resume();
  }

  #write(): void {
    while (this.#queue.length > 0 && !this.#closed) {
      const bytes = this.#queue[0]!;
      const taken = this.#stream.write(bytes);
      this.#credit(taken);
      if (taken < bytes.byteLength) {
        this.#queue[0] = bytes.subarray(taken);
        return;
      }
      this.#queue.shift();
    }
    if (this.#closed) return;
    if (this.#tlsWanted) this.#startTls();
    if (this.#ending) this.#stream.end();
  }

  #credit(bytes: number): void {
    this.#takenBytes += bytes;
    if (this.#takenBytes < pairLimits.creditBytes) return;
    this.#send({ kind: "took", channel: this.#channel, bytes: this.#takenBytes });
    this.#takenBytes = 0;
  }

  #startTls(): void {
    this.#tlsWanted = false;
    this.#stream.startTls((outcome) => {
      const named = outcome.ok && outcome.clientName !== null;
      const text = outcome.ok ? (outcome.clientName ?? "") : outcome.reason;
      this.#send({ kind: "tlsStarted", channel: this.#channel, ok: outcome.ok, named, text });
    });
  }
}
