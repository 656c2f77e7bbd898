/**
 * One host connection from accept to close.
 *
 *   handshake ──GO / EXPORT_NAME──▶ transmission ──DISC, end of stream, violation, target ended──▶ finishing ──▶ closed
 *     │   ▲
 *     │   └──handshake done── securing ◀──STARTTLS── handshake       (at most once)
 *       └──────────ABORT, violation, time limit───────────────────────────────────────────────────────┘            ▲
 *   any ──stream closed────────────────────────────────────────────────────────────────────────────────────────────┘
 *
 * Invariants:
 * - Replies of one event go out together, at the end of the event.
 * - Input that cannot be handled now is held and the stream paused: a host that does not read its replies is not read either.
 * - `finishing` ends: when nothing is in flight and all is sent, or at the time limit.
 * - Between STARTTLS and the end of the TLS handshake not a byte is taken from the host: what was sent in plain beforehand must
 *   not be believed as if it had come through TLS.
 * - A session reports at most one event of its own.
 */
import type { StreamHandler } from "../../../hal/api/byte_stream.ts";
import type { Clock, Timer } from "../../../hal/api/clock.ts";
import type { HostStream, TlsOutcome } from "../../../hal/api/hba.ts";
import type { EventSink } from "../../manage/events.ts";
import type { ExportTable } from "../../volume/block_request.ts";
import type { BufferPool } from "../buffer_pool.ts";
import type { MemoryBudget } from "../memory_budget.ts";
import { OutputQueue } from "../output_queue.ts";
import { ReceivedChunk } from "../received_chunk.ts";
import { HandshakeFlag } from "./constants.ts";
import type { NbdLimits } from "./limits.ts";
import type { RequestPool } from "./nbd_request.ts";
import { type Haggling, Negotiation, type Selection, type TlsUse } from "./negotiation.ts";
import { encodeGreeting } from "./option_codec.ts";
import { OptionParser } from "./option_parser.ts";
import { type Pumped, Transmission, type TransmissionHost } from "./transmission.ts";

export interface SessionParts {
  readonly clock: Clock;
  readonly exports: ExportTable;
  readonly events: EventSink;
  readonly limits: NbdLimits;
  readonly tls: TlsUse;
  readonly buffers: BufferPool;
  readonly requests: RequestPool;
  readonly budget: MemoryBudget;
  readonly handshakeFailed: (remote: string) => void;
  /** The stream is closed and the session holds nothing any more. */
  readonly closed: (session: NbdSession) => void;
}

/** Each handles at most what fits the output backlog, about 1 ms of copying. */
const pumpsInEventMax = 4;

export class NbdSession implements StreamHandler, TransmissionHost {
  private readonly stream: HostStream;
  private readonly parts: SessionParts;
  private readonly output: OutputQueue;
  private readonly options: OptionParser;
  private negotiation: Negotiation;
  private phase: "handshake" | "securing" | "transmission" | "finishing" | "closed" = "handshake";
  private transmission: Transmission | null = null;
  /** Chunks that arrived while the input was held. */
  private readonly inputs: Uint8Array[] = [];
  private held = false;
  private flushDue = false;
  private againDue = false;
  private pumpsInEvent = 0;
  private tlsStarted = false;
  private endSent = false;
  private reported = false;
  private timer: Timer | null;
  /** Raised by whatever the host does; the server looks at it when memory is short. */
  private progress = 0;
  private progressSeen = -1;
  /** One function for all flushes of this session. */
  private readonly flushTask = () => this.flush();

  constructor(stream: HostStream, parts: SessionParts) {
    this.stream = stream;
    this.parts = parts;
    const { limits } = parts;
    this.output = new OutputQueue(parts.buffers);
    this.options = new OptionParser({
      dataBytesMax: limits.optionDataBytesMax,
      skipBytesMax: limits.optionSkipBytesMax,
    });
    this.negotiation = new Negotiation(
      parts.exports,
      { remote: stream.remote, iqn: null, tlsName: null },
      limits,
      parts.tls,
    );
    this.timer = parts.clock.after(limits.handshakeMs, () => {
      this.report("nbd-handshake-timeout", `no export was chosen within ${limits.handshakeMs} ms`);
      this.abort();
    });
    this.output.put(encodeGreeting(HandshakeFlag.fixedNewstyle | HandshakeFlag.noZeroes));
    this.workDone();
  }

  onData(chunk: Uint8Array): void {
    if (this.phase === "finishing" || this.phase === "closed") return;
    if (this.phase === "securing") {
      this.violated("nbd-plain-after-starttls", "bytes in plain behind STARTTLS");
      return;
    }
    this.progress++;
    this.pumpsInEvent = 0;
    this.inputs.push(chunk);
    if (!this.held) this.pump();
  }

  onDrain(): void {
    if (this.phase === "closed") return;
    this.progress++;
    this.pumpsInEvent = 0;
    this.output.drained();
    this.flush();
  }

  /** A host that goes without goodbye still gets the replies to what it asked. */
  onEnd(): void {
    if (this.phase === "finishing" || this.phase === "closed") return;
    if (this.transmission?.midway === true && this.inputs.length === 0 && !this.held) {
      this.report("nbd-truncated", "the stream ended in the middle of a request");
    }
    this.finish();
  }

  onClose(): void {
    if (this.phase === "closed") return;
    this.phase = "closed";
    this.timer?.cancel();
    this.timer = null;
    this.inputs.length = 0;
    this.output.clear();
    if (this.transmission !== null) {
      this.transmission.close();
      this.transmission.target.close();
    }
    this.parts.closed(this);
  }

  /** Orderly: what is in flight completes, its replies are sent, then the stream ends. */
  finish(): void {
    if (this.phase === "finishing" || this.phase === "closed") return;
    this.phase = "finishing";
    this.transmission?.stop();
    this.inputs.length = 0;
    // A paused stream would not notice its end.
    if (this.held) this.stream.resume();
    this.held = false;
    this.timer?.cancel();
    this.timer = this.parts.clock.after(this.parts.limits.closingMs, () => this.abort());
    this.workDone();
  }

  abort(): void {
    if (this.phase !== "closed") this.stream.abort();
  }

  /** Whether the host has done anything since the last call. */
  moved(): boolean {
    const moved = this.progress !== this.progressSeen;
    this.progressSeen = this.progress;
    return moved;
  }

  /** Closes a session that keeps shared memory, waits for its host, and has not moved since the last look. */
  closeUnlessMoved(): void {
    const transmission = this.transmission;
    if (this.moved() || transmission === null || transmission.sharedBytes === 0) return;
    if (!this.output.blocked && !transmission.receivesPayload) return;
    this.report("nbd-stalled", "the host neither sends nor reads while others wait for memory");
    this.abort();
  }

  // What the transmission tells.

  workDone(): void {
    if (this.flushDue) return;
    this.flushDue = true;
    this.parts.clock.defer(this.flushTask);
  }

  violated(code: string, text: string): void {
    this.report(code, text);
    this.finish();
  }

  disconnected(): void {
    this.finish();
  }

  private pump(): void {
    for (;;) {
      const pumped = this.pumpPhase();
      if (pumped === "stopped") return;
      if (pumped === "held") {
        if (!this.held) this.stream.pause();
        this.held = true;
        return;
      }
      const chunk = this.inputs.shift();
      if (chunk === undefined) break;
      if (this.transmission === null) this.options.push(chunk);
      else this.transmission.push(new ReceivedChunk(chunk, this.stream));
    }
    if (!this.held) return;
    this.held = false;
    this.stream.resume();
  }

  private pumpPhase(): Pumped {
    if (this.phase === "handshake") return this.haggle();
    if (this.phase === "transmission" && this.transmission !== null) return this.transmission.pump();
    return "stopped";
  }

  private haggle(): Pumped {
    for (;;) {
      // A handshake gets no more than what every session is guaranteed.
      if (this.output.queuedBytes >= this.parts.limits.guaranteedBytes) return "held";
      const step = this.options.next();
      if (step.kind === "more") return "hungry";
      if (step.kind === "bad-magic") {
        this.violated("nbd-bad-option-magic", "what follows is not an NBD option");
        return "stopped";
      }
      if (step.kind === "too-long") {
        this.violated("nbd-option-too-long", `option ${step.option} claims ${step.length} bytes of data`);
        return "stopped";
      }
      const result =
        step.kind === "flags" ? this.negotiation.flags(step.flags) : this.negotiation.option(step.option, step.data);
      if (!this.answer(result)) return this.transmission === null ? "stopped" : this.transmission.pump();
    }
  }

  /** False when the haggling is over. */
  private answer(result: Haggling): boolean {
    if (result.kind === "violation") {
      this.violated(result.code, result.text);
      return false;
    }
    if (result.kind === "start-tls" && (!this.options.usedUp || this.inputs.length > 0)) {
      this.violated("nbd-plain-after-starttls", "bytes in plain behind STARTTLS");
      return false;
    }
    if (result.reply.byteLength > 0) {
      this.output.put(result.reply);
      this.workDone();
    }
    if (result.kind === "continue") return true;
    if (result.kind === "close") this.finish();
    else if (result.kind === "start-tls") this.phase = "securing";
    else this.beginTransmission(result.selection);
    return false;
  }

  private beginTransmission(selection: Selection): void {
    this.timer?.cancel();
    this.timer = null;
    this.phase = "transmission";
    const { buffers, requests, budget, limits } = this.parts;
    this.transmission = new Transmission(selection, {
      output: this.output,
      buffers,
      requests,
      budget,
      limits,
      host: this,
    });
    this.transmission.push(new ReceivedChunk(this.options.rest(), null));
    selection.target.onEnded((_reason, isLost) => (isLost ? this.abort() : this.finish()));
  }

  /** At the end of an event: everything gathered goes out, then held input has another try. */
  private flush(): void {
    this.flushDue = false;
    if (this.phase === "closed") return;
    if (!this.output.blocked && this.output.queuedBytes > 0 && this.output.drainTo(this.stream) > 0) this.progress++;
    // The stream may have closed inside the write.
    if ((this.phase as string) === "closed") return;
    this.transmission?.settle();
    if (this.phase === "finishing") this.endWhenDone();
    else if (this.phase === "securing") this.startTlsWhenSent();
    else if (this.held) this.pumpAgain();
  }

  /** A long reply goes out while its data is still in the processor's cache, not at the end of the event. */
  longReplyReady(): void {
    if (this.phase === "closed" || this.output.blocked) return;
    if (this.output.drainTo(this.stream) > 0) this.progress++;
  }

  /** Held input goes on at once a few times, then in an event of its own: one busy host does not keep the others waiting. */
  private pumpAgain(): void {
    if (this.pumpsInEvent < pumpsInEventMax) {
      this.pumpsInEvent++;
      this.pump();
      return;
    }
    if (this.againDue) return;
    this.againDue = true;
    this.parts.clock.after(0, () => {
      this.againDue = false;
      this.pumpsInEvent = 0;
      if (this.held) this.pump();
    });
  }

  private startTlsWhenSent(): void {
    if (this.tlsStarted || this.output.queuedBytes > 0) return;
    this.tlsStarted = true;
    this.stream.startTls((outcome) => this.secured(outcome));
  }

  private secured(outcome: TlsOutcome): void {
    if (this.phase !== "securing") return;
    if (!outcome.ok) {
      this.report("nbd-tls-failed", outcome.reason);
      this.abort();
      return;
    }
    this.progress++;
    this.phase = "handshake";
    this.negotiation = this.negotiation.secured(outcome.clientName);
  }

  private endWhenDone(): void {
    const inFlight = this.transmission?.inFlight ?? 0;
    if (this.endSent || inFlight > 0 || this.output.queuedBytes > 0) return;
    this.endSent = true;
    this.stream.end();
  }

  private report(code: string, text: string): void {
    if (this.reported) return;
    this.reported = true;
    // An export that is away for the moment is no fault of its host.
    const inHandshake = this.phase === "handshake" || this.phase === "securing";
    if (inHandshake && code !== "nbd-export-refused") this.parts.handshakeFailed(this.stream.remote);
    const fields: Record<string, string> = { host: this.stream.remote };
    if (this.transmission !== null) fields["volume"] = this.transmission.target.name;
    this.parts.events.emit(code, `NBD session of ${this.stream.remote}: ${text}`, fields);
  }
}
