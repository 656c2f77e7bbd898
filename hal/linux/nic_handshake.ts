/**
 * The exchange of preambles that opens a link, one object per TCP stream and side. See nic_preamble.ts for the messages.
 *
 *   dialer:    awaitAnswer --answer--> confirming --not cut--> open
 *   acceptor:  awaitHello --hello--> answering --not cut, latency over--> awaitConfirm --confirm--> open
 *   any state --malformed, closed, out of time--> over
 *
 * Invariant: exactly one of `opened` and `failed` is called.
 */
import type { StreamHandler } from "../api/byte_stream.ts";
import type { Clock, Timer } from "../api/clock.ts";
import type { Shaping } from "../api/nic.ts";
import { decodePreamble, encodePreamble, preambleBytes, preambleStep } from "./nic_preamble.ts";
import type { TcpStream } from "./tcp_stream.ts";

/** How long a dialer waits for a link: three round trips of a bad one (two lost packets of 200 ms and more among them). */
export const dialMsMax = 5_000;
/** The acceptor waits longer, so that it is the dialer who gives up. */
const acceptMsMax = 3 * dialMsMax;

/** What a handshake needs to know of its NIC. */
export interface HandshakeHost {
  readonly appliance: string;
  readonly nic: string;
  readonly clock: Clock;
  shapingOf(remote: string): Shaping | null;
}

type Opened = (raw: TcpStream, remote: string, rest: Uint8Array | null) => void;

abstract class Handshake implements StreamHandler {
  protected readonly raw: TcpStream;
  protected readonly host: HandshakeHost;
  readonly #received = new Uint8Array(preambleBytes);
  #receivedBytes = 0;
  readonly #limit: Timer;
  readonly #failed: (reason: string) => void;
  #isOver = false;
  #isRefused = false;
  #reason = "the other end closed the connection before it named itself";

  constructor(raw: TcpStream, host: HandshakeHost, limitMs: number, failed: (reason: string) => void) {
    this.raw = raw;
    this.host = host;
    this.#failed = failed;
    this.#limit = host.clock.after(limitMs, () => this.refuse(`nothing useful came within ${limitMs / 1000} s`));
    raw.handler = this;
  }

  /** A whole preamble and what came behind it. */
  protected abstract received(step: number, remote: string, rest: Uint8Array | null): void;
  /** A cut may have ended. */
  abstract reconsider(): void;

  protected isCut(remote: string): boolean {
    return this.host.shapingOf(remote)?.cut === true;
  }

  protected send(step: (typeof preambleStep)[keyof typeof preambleStep]): void {
    const bytes = encodePreamble(step, this.host.appliance, this.host.nic);
    // A fresh socket takes 64 bytes.
    if (this.raw.write(bytes) !== bytes.byteLength) this.refuse("the connection took no data");
  }

  refuse(reason: string): void {
    if (this.#isOver || this.#isRefused) return;
    this.#isRefused = true;
    this.#reason = reason;
    this.raw.abort();
  }

  /** The handshake has done its work; the stream goes to another handler. False: it was over already. */
  protected finish(): boolean {
    if (this.#isOver) return false;
    this.#isOver = true;
    this.#limit.cancel();
    return true;
  }

  onData(chunk: Uint8Array): void {
    if (this.#isRefused) return;
    const part = chunk.subarray(0, preambleBytes - this.#receivedBytes);
    this.#received.set(part, this.#receivedBytes);
    this.#receivedBytes += part.byteLength;
    if (this.#receivedBytes < preambleBytes) return;
    this.#receivedBytes = 0;
    const preamble = decodePreamble(this.#received);
    if (preamble === null) {
      this.refuse("the other end is not an appliance's NIC of this version");
      return;
    }
    const rest = part.byteLength === chunk.byteLength ? null : chunk.subarray(part.byteLength);
    this.received(preamble.step, preamble.appliance, rest);
  }

  onDrain(): void {}

  onEnd(): void {
    this.refuse("the other end closed the connection before it named itself");
  }

  onClose(): void {
    if (this.finish()) this.#failed(this.#reason);
  }
}

export class DialHandshake extends Handshake {
  readonly #opened: Opened;
  #remote: string | null = null;

  constructor(raw: TcpStream, host: HandshakeHost, opened: Opened, failed: (reason: string) => void) {
    super(raw, host, dialMsMax, failed);
    this.#opened = opened;
    this.send(preambleStep.hello);
  }

  protected received(step: number, remote: string, rest: Uint8Array | null): void {
    if (step !== preambleStep.answer || rest !== null || this.#remote !== null) {
      this.refuse("the other end did not answer as an acceptor");
      return;
    }
    this.#remote = remote;
    this.reconsider();
  }

  reconsider(): void {
    if (this.#remote === null || this.isCut(this.#remote) || !this.finish()) return;
    this.#opened(this.raw, this.#remote, null);
  }
}

export class AcceptHandshake extends Handshake {
  readonly #opened: Opened;
  #remote: string | null = null;
  #isOutOfOrder = false;
  #isAnswered = false;
  #answerTimer: Timer | null = null;

  constructor(raw: TcpStream, host: HandshakeHost, opened: Opened, failed: (reason: string) => void) {
    super(raw, host, acceptMsMax, failed);
    this.#opened = opened;
  }

  protected received(step: number, remote: string, rest: Uint8Array | null): void {
    if (step === preambleStep.hello && rest === null && this.#remote === null) {
      this.#remote = remote;
      this.reconsider();
    } else if (step === preambleStep.confirm && this.#isAnswered && remote === this.#remote) {
      if (this.finish()) this.#opened(this.raw, remote, rest);
    } else {
      this.#isOutOfOrder = true;
      this.refuse("its messages were out of order");
    }
  }

  /** Whoever has named itself and goes, or waits behind a cut, is an appliance like any other. */
  get isStranger(): boolean {
    return this.#remote === null || this.#isOutOfOrder;
  }

  reconsider(): void {
    const remote = this.#remote;
    if (remote === null || this.#isAnswered || this.#answerTimer !== null || this.isCut(remote)) return;
    const latencyMs = this.host.shapingOf(remote)?.latencyMs ?? 0;
    if (latencyMs === 0) {
      this.#answer();
      return;
    }
    this.#answerTimer = this.host.clock.after(latencyMs, () => {
      this.#answerTimer = null;
      if (!this.isCut(remote)) this.#answer();
    });
  }

  #answer(): void {
    this.#isAnswered = true;
    this.send(preambleStep.answer);
  }

  override onClose(): void {
    this.#answerTimer?.cancel();
    super.onClose();
  }
}
