/**
 * One connection between appliances: frames in, frames out, and the knowledge that somebody is there.
 *
 *   open ──close()──▶ closing (what is queued goes out, bounded in time) ──▶ closed
 *   open ──fault, timeout, abort(), other end gone──▶ closed
 *
 * Invariants:
 * - Frames go out in the order of `send`, at the end of the turn. Small parts are gathered and written together (a system call
 *   costs more than copying 32 KiB); a large payload is handed to the stream as the view that it is, and what the stream does not
 *   take at once is copied: the memory of a payload belongs to its owner again when `send` returns. A frame's head goes in front of its
 *   payload where the sender has left room for it: only that room is written to.
 * - A chunk goes back to the stream as soon as nothing refers to it.
 * - `onLost` is called exactly once, after which nothing is called.
 * - A link on which no byte has arrived for `peerTimeoutMs` is lost. A timer that fires late (a stopped process, a long pause)
 *   gives what waits in the socket one more interval to be heard.
 */
import type { ByteStream, StreamHandler } from "../../hal/api/byte_stream.ts";
import type { Clock, Timer } from "../../hal/api/clock.ts";
import { type FrameCodec, FrameParser } from "./frame_parser.ts";

export type LostReason = "closed" | "ended" | "timeout" | "malformed" | "backlog" | "aborted";

export interface LinkTimes {
  /** `onBeat` is called at least so often. */
  readonly heartbeatMs: number;
  /** A link without a byte for so long is lost. */
  readonly peerTimeoutMs: number;
}

/** Handed to the stream at once; more waits in our queue, where an abort of the link can still drop it. */
const outputEntriesMax = 16384;

export interface LinkOwner<Frame> {
  onFrame(frame: Frame, payload: Uint8Array): void;
  onLost(reason: LostReason, text: string): void;
  /** A heartbeat is due. */
  onBeat(): void;
}

const noOwner: LinkOwner<unknown> = { onFrame: () => {}, onLost: () => {}, onBeat: () => {} };
const noBytes = new Uint8Array(0);

/** One write for all that a turn sends: two frames of eight 4 KiB records each. */
const gatherBytes = 64 * 1024;
/** Parts up to this are copied. */
const gatheredPartBytesMax = 32 * 1024;

/** Both in one piece: a system call less, and the other end does not wake for the head alone. */
function putInFront(head: Uint8Array, part: Uint8Array): Uint8Array {
  const bytes = head.byteLength + part.byteLength;
  const whole = new Uint8Array(part.buffer, part.byteOffset - head.byteLength, bytes);
  whole.set(head);
  return whole;
}

export class FrameLink<Frame extends { readonly kind: string }> {
  readonly stream: ByteStream;
  readonly handler: StreamHandler;
  /** This side dialled. */
  readonly dialled: boolean;
  readonly #clock: Clock;
  readonly #times: LinkTimes;
  readonly #codec: FrameCodec<Frame>;
  readonly #parser: FrameParser<Frame>;
  #owner: LinkOwner<Frame> = noOwner;
  #state: "open" | "closing" | "closed" = "open";
  #queue: Uint8Array[] = [];
  #queueAt = 0;
  #waitingForDrain = false;
  #gather = noBytes;
  #gathered = 0;
  #flushQueued = false;
  #ended = false;
  #timer: Timer | null = null;
  #expectedMs = 0;
  #graceUntilMs = 0;
  #lastHeardMs: number;
  #closeReason: LostReason = "closed";
  #closeText = "";

  constructor(stream: ByteStream, dialled: boolean, clock: Clock, times: LinkTimes, codec: FrameCodec<Frame>) {
    this.stream = stream;
    this.dialled = dialled;
    this.#clock = clock;
    this.#times = times;
    this.#codec = codec;
    this.#lastHeardMs = clock.nowMs();
    this.#parser = new FrameParser(codec, {
      onFrame: (frame, payload) => {
        if (this.#state === "open") this.#owner.onFrame(frame, payload);
      },
      onMalformed: (text) => this.abort("malformed", text),
    });
    this.handler = {
      onData: (chunk) => {
        if (this.#state !== "open") return;
        this.#lastHeardMs = clock.nowMs();
        if (this.#parser.feed(chunk)) stream.giveBack(chunk);
      },
      onDrain: () => {
        this.#waitingForDrain = false;
        this.#flush();
      },
      onEnd: () => this.abort("ended", "the other end has closed the connection"),
      onClose: () => this.#closed(),
    };
    this.#arm();
  }

  set owner(owner: LinkOwner<Frame>) {
    this.#owner = owner;
  }

  get open(): boolean {
    return this.#state === "open";
  }

  get remote(): string {
    return this.stream.remote;
  }

  /** When the last byte arrived, on the monotonic clock. */
  get lastHeardMs(): number {
    return this.#lastHeardMs;
  }

  /** Entries that wait for the stream; a sender that sees a backlog waits. */
  get queuedEntries(): number {
    return this.#queue.length - this.#queueAt;
  }

  /** `headroomBytes`: so many bytes in front of the first part, in its buffer, may be overwritten. */
  send(frame: Frame, payload: readonly Uint8Array[] = [], headroomBytes = 0): void {
    if (this.#state !== "open") return;
    let payloadBytes = 0;
    for (const part of payload) payloadBytes += part.byteLength;
    const head = this.#codec.encode(frame, payloadBytes);
    const isInFront = payload.length > 0 && head.byteLength <= headroomBytes;
    this.#push(isInFront ? putInFront(head, payload[0]!) : head);
    for (let index = isInFront ? 1 : 0; index < payload.length; index++)
      if (payload[index]!.byteLength > 0) this.#push(payload[index]!);
    if (this.queuedEntries > outputEntriesMax) this.abort("backlog", "the other end does not read");
  }

  /** Sends what is queued, then ends; a peer that does not read is cut off after the peer timeout. */
  close(reason: LostReason = "closed", text = "closed here"): void {
    if (this.#state !== "open") return;
    this.#closeReason = reason;
    this.#closeText = text;
    this.#state = "closing";
    this.#timer?.cancel();
    this.#timer = this.#clock.after(this.#times.peerTimeoutMs, () => this.stream.abort());
    this.#flush();
  }

  /** Closes at once; what is queued is dropped. */
  abort(reason: LostReason = "aborted", text = "aborted here"): void {
    if (this.#state === "closed") return;
    if (this.#state === "open") {
      this.#closeReason = reason;
      this.#closeText = text;
    }
    this.stream.abort();
    this.#closed();
  }

  /** Takes over what is gathered, so that something may be queued behind it. */
  #ungather(): void {
    if (this.#gathered === 0) return;
    const bytes = this.#gather.subarray(0, this.#gathered);
    this.#gathered = 0;
    if (this.queuedEntries > 0 || this.#waitingForDrain) {
      // The stream has not taken what came before: the buffer goes into the queue, and the next one is fresh.
      this.#queue.push(bytes);
      this.#gather = noBytes;
      return;
    }
    const taken = this.stream.write(bytes);
    if (taken === bytes.byteLength) return;
    this.#waitingForDrain = true;
    this.#queue.push(bytes.subarray(taken));
    this.#gather = noBytes;
  }

  #push(bytes: Uint8Array): void {
    if (bytes.byteLength <= gatheredPartBytesMax) {
      if (this.#gathered + bytes.byteLength > gatherBytes) this.#ungather();
      if (this.#gather.byteLength === 0) this.#gather = new Uint8Array(gatherBytes);
      this.#gather.set(bytes, this.#gathered);
      this.#gathered += bytes.byteLength;
      if (this.#flushQueued) return;
      this.#flushQueued = true;
      this.#clock.defer(this.#endTurn);
      return;
    }
    this.#ungather();
    if (this.queuedEntries > 0 || this.#waitingForDrain) {
      this.#queue.push(bytes.slice());
      return;
    }
    const taken = this.stream.write(bytes);
    if (taken === bytes.byteLength) return;
    this.#waitingForDrain = true;
    this.#queue.push(bytes.slice(taken));
  }

  #endTurn = (): void => {
    this.#flushQueued = false;
    if (this.#state !== "closed") this.#ungather();
  };

  #flush(): void {
    if (this.#state === "closed") return;
    if (this.#state === "closing") this.#ungather();
    while (this.#queueAt < this.#queue.length && !this.#waitingForDrain) {
      const bytes = this.#queue[this.#queueAt]!;
      const taken = this.stream.write(bytes);
      if (taken === bytes.byteLength) {
        this.#queue[this.#queueAt++] = noBytes;
      } else {
        this.#queue[this.#queueAt] = bytes.subarray(taken);
        this.#waitingForDrain = true;
      }
    }
    if (this.#queueAt === this.#queue.length) {
      this.#queue.length = 0;
      this.#queueAt = 0;
      if (this.#state === "closing" && !this.#ended) {
        this.#ended = true;
        this.stream.end();
      }
    } else if (this.#queueAt > 1024) {
      this.#queue.splice(0, this.#queueAt);
      this.#queueAt = 0;
    }
  }

  #arm(): void {
    this.#expectedMs = this.#clock.nowMs() + this.#times.heartbeatMs;
    this.#timer = this.#clock.after(this.#times.heartbeatMs, () => this.#beat());
  }

  #beat(): void {
    if (this.#state !== "open") return;
    const nowMs = this.#clock.nowMs();
    const lateMs = nowMs - this.#expectedMs;
    const silentMs = nowMs - this.#lastHeardMs;
    if (lateMs >= 2 * this.#times.heartbeatMs) this.#graceUntilMs = nowMs + 2 * this.#times.heartbeatMs;
    if (silentMs >= this.#times.peerTimeoutMs && nowMs >= this.#graceUntilMs) {
      this.abort("timeout", `nothing heard for ${Math.round(silentMs)} ms`);
      return;
    }
    this.#owner.onBeat();
    if (this.#state === "open") this.#arm();
  }

  #closed(): void {
    if (this.#state === "closed") return;
    this.#state = "closed";
    this.#timer?.cancel();
    this.#timer = null;
    this.#queue = [];
    this.#queueAt = 0;
    this.#gathered = 0;
    this.#gather = noBytes;
    this.#parser.stop();
    const owner = this.#owner;
    this.#owner = noOwner;
    owner.onLost(this.#closeReason, this.#closeText === "" ? "the connection broke" : this.#closeText);
  }
}
