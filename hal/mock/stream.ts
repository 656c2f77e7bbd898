/**
 * The two ends of a simulated connection, and the queues between them.
 *
 * Fault model: bytes arrive in pieces of any size (one byte, or several writes at once), late, and not at all while the link is cut;
 * writes are short because the window is full or for no reason; a reset loses any suffix of what was under way; the other end's
 * process or machine dies.
 *
 * TLS is a pass-through that keeps its rules: one end calls `startTls`, the other `offerTls` with the name in its certificate; until
 * the offer has arrived nothing is delivered, and plain bytes in its place, an offer that has no (good) certificate, or a seeded
 * failure (`NetworkFaults.tlsFailureRate`) end the handshake. An offer to an end that has not begun is bytes like any others.
 *
 * Invariants:
 * - Order is kept; nothing is duplicated; nothing is lost but at a reset.
 * - Every `write` that took less than it was given is followed by one `onDrain`, unless the stream closes or ends.
 * - `onClose` comes last and once, never from inside a call of the stream; nothing is delivered while paused.
 *
 *   open --end()--> ended --the other end's end, or the linger limit--> closed
 *   open --abort(), the other end's reset, death--> closed
 */
import type { StreamHandler } from "../api/byte_stream.ts";
import type { HostStream, TlsOutcome } from "../api/hba.ts";
import { eventKind, type WorldEvent } from "./event_heap.ts";
import type { Kernel } from "./kernel.ts";
import type { DeathKind, Lifetime } from "./lifetime.ts";
import type { CutWaiter, Link, NetworkFaults } from "./link.ts";
import type { Prng } from "./prng.ts";
import { crc32Of } from "./runtime.ts";

/** What one delivery carries at most, as a real socket's. */
const deliveryBytesMax = 524288;
/** What a chunk that was given back is full of. */
const givenBackByte = 0xdb;
/** Between two pieces that have both arrived. */
const pieceGapMsMax = 0.01;

interface Item {
  readonly kind: "data" | "offer" | "end" | "reset";
  bytes: Uint8Array;
  arrivalMs: number;
}

/** What a host brings to a TLS handshake: the name in a good certificate, none, or one that nobody trusts. */
export type TlsOffer = { readonly name: string } | "no-certificate" | "rogue";

export interface StreamContext {
  readonly kernel: Kernel;
  readonly prng: Prng;
  readonly faults: NetworkFaults;
  /** Called when an end has closed. */
  readonly closed: (end: StreamEnd) => void;
}

export class StreamEnd implements HostStream, CutWaiter {
  readonly remote: string;
  readonly lifetime: Lifetime | null;
  handler: StreamHandler | null = null;
  readonly #context: StreamContext;
  /** What this end sends goes through this link. */
  readonly #link: Link;
  readonly #windowBytes: number;
  #other!: StreamEnd;
  /** Of a host's end at an address that moves: who had the address when it connected. */
  place: { readonly machine: string; readonly address: string } | null = null;
  /** Sent by the other end, in order, from when it was written until it is delivered here. */
  #incoming: Item[] = [];
  #incomingBytes = 0;
  /** When the last item sent from here arrives. */
  #lastArrivalMs: number;
  #pump: WorldEvent | null = null;
  #waitsForJoin = false;
  #paused = false;
  #ended = false;
  #otherEnded = false;
  #closed = false;
  #drainOwed = false;
  #drainEvent: WorldEvent | null = null;
  #drainWaits = false;
  readonly #drainWaiter: CutWaiter = {
    joined: () => {
      this.#drainWaits = false;
      this.#drainIfRoom();
    },
  };
  #linger: WorldEvent | null = null;
  /** Set from `startTls` to the end of the handshake. */
  #handshake: ((outcome: TlsOutcome) => void) | null = null;
  /** What this end has offered. */
  #offer: TlsOffer | null = null;

  constructor(
    context: StreamContext,
    options: { remote: string; lifetime: Lifetime | null; link: Link; windowBytes: number; readyMs: number },
  ) {
    this.#context = context;
    this.remote = options.remote;
    this.lifetime = options.lifetime;
    this.#link = options.link;
    this.#windowBytes = options.windowBytes;
    this.#lastArrivalMs = options.readyMs;
  }

  static couple(a: StreamEnd, b: StreamEnd): void {
    a.#other = b;
    b.#other = a;
  }

  get isClosed(): boolean {
    return this.#closed;
  }

  write(bytes: Uint8Array): number {
    if (this.#closed || this.#ended || bytes.byteLength === 0 || !this.#mayAct()) return 0;
    const { prng, faults } = this.#context;
    let taken = Math.min(bytes.byteLength, this.#room());
    const short = prng.chance(faults.shortWriteRate);
    if (short) taken = prng.below(taken + 1);
    if (taken > 0) this.#other.#incomingBytes += taken;
    if (taken > 0) this.#send({ kind: "data", bytes: bytes.slice(0, taken), arrivalMs: 0 });
    if (taken < bytes.byteLength) {
      this.#drainOwed = true;
      if (short) this.#scheduleDrain(prng.unit() * 0.1);
    }
    return taken;
  }

  startTls(done: (outcome: TlsOutcome) => void): void {
    if (this.#closed || this.#ended || !this.#mayAct()) return;
    this.#handshake = done;
  }

  /** A simulated host's side of the handshake; what it writes afterwards is inside TLS. */
  offerTls(offer: TlsOffer): void {
    if (this.#closed || this.#ended || !this.#mayAct()) return;
    this.#offer = offer;
    this.#send({ kind: "offer", bytes: clientHello.slice(), arrivalMs: 0 });
    this.#other.#incomingBytes += clientHello.byteLength;
  }

  end(): void {
    if (this.#closed || this.#ended || !this.#mayAct()) return;
    this.#ended = true;
    this.#drainOwed = false;
    this.#send({ kind: "end", bytes: noBytes, arrivalMs: 0 });
    if (this.#otherEnded) this.#close();
    else {
      this.#linger = this.#context.kernel.schedule(this.#context.faults.lingerMs, eventKind.close, null, () => {
        this.#reset();
      });
    }
  }

  abort(): void {
    if (this.#closed || !this.#mayAct()) return;
    this.#reset();
  }

  pause(): void {
    if (this.#mayAct()) this.#paused = true;
  }

  resume(): void {
    if (!this.#paused || !this.#mayAct()) return;
    this.#paused = false;
    this.#schedulePump();
  }

  /** Whoever still reads it reads nonsense, or finds nothing: as with a real socket, its memory may be gone. */
  giveBack(chunk: Uint8Array): void {
    chunk.fill(givenBackByte);
    if (chunk.byteLength === chunk.buffer.byteLength) (chunk.buffer as ArrayBuffer).transfer(0);
  }

  /** A fault: the connection breaks; both ends learn it at once. */
  break(): void {
    this.#reset();
    this.#other.#close();
  }

  /** The owner of this end has died; what the other end learns of it, and when, depends on how. */
  died(kind: DeathKind): void {
    if (this.#closed) return;
    const { kernel, prng, faults } = this.#context;
    const other = this.#other;
    if (kind === "power") {
      this.#drop();
      kernel.schedule(faults.deadPeerMs * prng.between(0.5, 1.5), eventKind.close, null, () => other.#close());
    } else if (prng.chance(0.5)) {
      // The kernel still sends what it had taken, and the end; the answer to anything further is a reset.
      if (!this.#ended) this.#send({ kind: "end", bytes: noBytes, arrivalMs: 0 });
      this.#reset(false);
    } else {
      this.#reset();
    }
  }

  /** The machine at the other end is back without this connection: its answer to the next packet is a reset. */
  otherRestarted(): void {
    const { kernel, prng } = this.#context;
    // A live end finds out by its own traffic or keepalive, within a second.
    kernel.schedule(prng.unit() * 1000, eventKind.close, null, () => {
      if (this.#link.isCut || this.#other.#link.isCut) this.#link.wait({ joined: () => this.#close() });
      else this.#close();
    });
  }

  /** The handler is known: callbacks may begin. */
  start(handler: StreamHandler): void {
    this.handler = handler;
    this.#schedulePump();
  }

  /** The link that brings this end its bytes carries again. */
  joined(cutAtMs: number, atMs: number): void {
    this.#waitsForJoin = false;
    let notBeforeMs = atMs;
    for (const item of this.#incoming) {
      if (item.arrivalMs <= cutAtMs) continue;
      item.arrivalMs = notBeforeMs = Math.max(item.arrivalMs, notBeforeMs);
    }
    this.#other.#lastArrivalMs = Math.max(this.#other.#lastArrivalMs, notBeforeMs);
    this.#schedulePump();
  }

  #mayAct(): boolean {
    return this.lifetime === null || this.lifetime.effect();
  }

  #room(): number {
    return this.#windowBytes - this.#other.#incomingBytes;
  }

  #send(item: Item): void {
    const arrivalMs = Math.max(this.#link.arrivalMs(item.bytes.byteLength), this.#lastArrivalMs);
    item.arrivalMs = this.#lastArrivalMs = arrivalMs;
    const other = this.#other;
    if (other.#closed) return;
    other.#incoming.push(item);
    if (other.#incoming.length === 1) other.#schedulePump();
  }

  /** Sees to it that the head of the queue is delivered when it is due. */
  #schedulePump(afterMs = 0): void {
    const head = this.#due();
    if (head === undefined || this.#pump !== null || this.#closed || this.handler === null) return;
    const { kernel } = this.#context;
    const atMs = Math.max(head.arrivalMs, kernel.nowMs + afterMs);
    this.#pump = kernel.scheduleAt(atMs, eventKind.deliver, this.lifetime, this.#deliver);
  }

  /** What comes next. A reset is noticed also by who does not read; what lies before it is then lost. */
  #due(): Item | undefined {
    if (!this.#paused) return this.#incoming[0];
    const last = this.#incoming.at(-1);
    return last?.kind === "reset" ? last : undefined;
  }

  readonly #deliver = (): void => {
    this.#pump = null;
    const head = this.#due();
    const handler = this.handler;
    if (head === undefined || handler === null || this.#closed) return;
    if (head.arrivalMs > this.#context.kernel.nowMs) {
      this.#schedulePump();
      return;
    }
    if (!this.#other.#link.passed(head.arrivalMs)) {
      if (!this.#waitsForJoin) this.#other.#link.wait(this);
      this.#waitsForJoin = true;
      return;
    }
    if (head.kind === "reset") {
      this.#close();
      return;
    }
    if (head.kind === "end") {
      this.#incoming.shift();
      this.#otherEnded = true;
      handler.onEnd();
      if (this.#ended) this.#close();
      else this.#schedulePump();
      return;
    }
    if (this.#handshake !== null) {
      this.#shakeHands(head);
      return;
    }
    const chunk = this.#takeChunk(head);
    this.#incomingBytes -= chunk.byteLength;
    const { kernel, prng } = this.#context;
    kernel.note(crc32Of(chunk) ^ chunk.byteLength);
    this.#other.#drainIfRoom();
    handler.onData(chunk);
    this.#schedulePump(prng.unit() * pieceGapMsMax);
  };

  #shakeHands(head: Item): void {
    const done = this.#handshake;
    const { prng, faults } = this.#context;
    const offer = this.#other.#offer;
    this.#handshake = null;
    if (head.kind !== "offer" || offer === null) {
      done?.({ ok: false, reason: "what came is no TLS" });
      return;
    }
    this.#incoming.shift();
    this.#incomingBytes -= head.bytes.byteLength;
    if (prng.chance(faults.tlsFailureRate)) done?.({ ok: false, reason: "the TLS handshake failed" });
    else if (offer === "rogue") done?.({ ok: false, reason: "client certificate refused: not of this CA" });
    else if (offer === "no-certificate") done?.({ ok: false, reason: "client certificate refused: there is none" });
    else done?.({ ok: true, clientName: offer.name });
    this.#schedulePump();
  }

  /** A seeded piece of what has arrived. */
  #takeChunk(head: Item): Uint8Array {
    const { prng, faults } = this.#context;
    const roll = prng.unit();
    let byteCount = Math.min(head.bytes.byteLength, deliveryBytesMax);
    if (roll < faults.tinyRate) byteCount = Math.min(byteCount, 1 + prng.below(16));
    else if (roll < faults.tinyRate + faults.splitRate) byteCount = 1 + prng.below(byteCount);
    else if (roll < faults.tinyRate + faults.splitRate + faults.joinRate) return this.#takeJoined();
    if (byteCount === head.bytes.byteLength) this.#incoming.shift();
    else {
      // Both parts get memory of their own: a chunk belongs to its receiver.
      const chunk = head.bytes.slice(0, byteCount);
      head.bytes = head.bytes.subarray(byteCount);
      return chunk;
    }
    return head.bytes.byteOffset === 0 ? head.bytes : head.bytes.slice();
  }

  #takeJoined(): Uint8Array {
    const nowMs = this.#context.kernel.nowMs;
    const link = this.#other.#link;
    const parts: Uint8Array[] = [];
    let byteCount = 0;
    for (const item of this.#incoming) {
      if (item.kind === "end" || item.kind === "reset" || item.arrivalMs > nowMs || !link.passed(item.arrivalMs)) break;
      if (parts.length > 0 && byteCount + item.bytes.byteLength > deliveryBytesMax) break;
      parts.push(item.bytes);
      byteCount += item.bytes.byteLength;
    }
    this.#incoming.splice(0, parts.length);
    const chunk = new Uint8Array(byteCount);
    let at = 0;
    for (const part of parts) {
      chunk.set(part, at);
      at += part.byteLength;
    }
    return chunk;
  }

  /** Called when the other end has consumed something. */
  #drainIfRoom(): void {
    if (!this.#drainOwed || this.#drainEvent !== null || this.#closed || this.#ended) return;
    // The news of free room travels on the way back, and is held by a cut as everything is.
    if (this.#other.#link.isCut) {
      if (!this.#drainWaits) this.#other.#link.wait(this.#drainWaiter);
      this.#drainWaits = true;
      return;
    }
    if (this.#room() * 2 < this.#windowBytes) return;
    this.#scheduleDrain(Math.max(0, this.#other.#link.arrivalMs(0) - this.#context.kernel.nowMs));
  }

  #scheduleDrain(afterMs: number): void {
    if (this.#drainEvent !== null) return;
    this.#drainEvent = this.#context.kernel.schedule(afterMs, eventKind.drain, this.lifetime, () => {
      this.#drainEvent = null;
      if (!this.#drainOwed || this.#closed || this.#ended) return;
      if (this.#room() <= 0) return;
      this.#drainOwed = false;
      this.handler?.onDrain();
    });
  }

  /** Closes this end hard. `lossy`: what it had sent may be lost on the way, from any point on. */
  #reset(lossy = true): void {
    if (this.#closed) return;
    const other = this.#other;
    if (lossy) {
      const incoming = other.#incoming;
      const kept = this.#context.prng.below(incoming.length + 1);
      for (const item of incoming.splice(kept)) other.#incomingBytes -= item.bytes.byteLength;
    }
    this.#send({ kind: "reset", bytes: noBytes, arrivalMs: 0 });
    other.#schedulePump();
    this.#close();
  }

  #drop(): void {
    this.#closed = true;
    this.#incoming = [];
    this.#pump?.cancel();
    this.#drainEvent?.cancel();
    this.#linger?.cancel();
    this.#other.#link.forget(this);
    this.#other.#link.forget(this.#drainWaiter);
    this.#context.closed(this);
  }

  #close(): void {
    if (this.#closed) return;
    this.#drop();
    this.#context.kernel.schedule(0, eventKind.close, this.lifetime, () => {
      const handler = this.handler;
      this.handler = null;
      handler?.onClose();
    });
  }
}

const noBytes = new Uint8Array(0);
/** How the record begins that a TLS client sends first (RFC 8446 5.1). */
const clientHello = new Uint8Array([0x16, 0x03, 0x01, 0x00, 0x01, 0x01]);
