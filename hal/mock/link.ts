/**
 * One direction of the network between two machines through one port: when do bytes arrive.
 *
 * Fault model: base latency and jitter of the world, plus the shaping in force (latency, jitter, rate, loss, cut), plus seeded
 * delays far beyond the usual (`NetworkFaults.delayRate`). A cut holds back everything that has not arrived yet, tells nobody, and
 * lets it go on after the join, in order.
 */
import type { Shaping } from "../api/nic.ts";
import { eventKind } from "./event_heap.ts";
import type { Kernel } from "./kernel.ts";
import type { Prng } from "./prng.ts";

/** Rates and habits of the whole network; a test or a fault plan changes them at any time. */
export interface NetworkFaults {
  /** One way, without any shaping. */
  latencyMs: number;
  /** Added evenly, 0 to this. */
  jitterMs: number;
  /** The share of writes that take only a part of what there is room for. */
  shortWriteRate: number;
  /** The share of deliveries that are split at a random byte. */
  splitRate: number;
  /** The share of deliveries of 1 to 16 bytes. */
  tinyRate: number;
  /** The share of deliveries that join everything that has arrived. */
  joinRate: number;
  /** The share of writes that are delayed by up to `delayMsMax` (with all that follows them in their stream). */
  delayRate: number;
  delayMsMax: number;
  /** What one direction of a connection holds: drawn from these for each new one. */
  windowBytes: readonly number[];
  /** How long an attempt to connect goes unanswered before it fails. */
  connectTimeoutMs: number;
  /** How long a connection to a machine that has lost its power lasts before the other end gives it up. */
  deadPeerMs: number;
  /** The share of TLS handshakes that fail for no reason. */
  tlsFailureRate: number;
  /** False: a filter on the way lets no heartbeats through, and everything else. */
  heartbeatsPass: boolean;
  /** How long an ended stream waits for the other end's end before it closes hard. */
  lingerMs: number;
}

export function calmNetwork(): NetworkFaults {
  return {
    latencyMs: 0.03,
    jitterMs: 0.02,
    shortWriteRate: 0.01,
    splitRate: 0.1,
    tinyRate: 0.02,
    joinRate: 0.3,
    delayRate: 0,
    delayMsMax: 500,
    windowBytes: [16384, 65536, 262144, 524288],
    connectTimeoutMs: 5000,
    deadPeerMs: 15000,
    tlsFailureRate: 0,
    heartbeatsPass: true,
    lingerMs: 10000,
  };
}

const packetBytes = 1460;
/** A lost packet costs a retransmission: at least this long. */
const retransmitMsMin = 5;
const retransmitMsMax = 200;

/** A queue that waits at a cut link. */
export interface CutWaiter {
  /** The link carries again; what had not arrived when it was cut arrives at `atMs` or later. */
  joined(cutAtMs: number, atMs: number): void;
}

export class Link {
  readonly #kernel: Kernel;
  readonly #prng: Prng;
  readonly #faults: NetworkFaults;
  #shaping: Shaping | null = null;
  #busyUntilMs = 0;
  #cutAtMs: number | null = null;
  readonly #waiters = new Set<CutWaiter>();

  constructor(kernel: Kernel, prng: Prng, faults: NetworkFaults) {
    this.#kernel = kernel;
    this.#prng = prng;
    this.#faults = faults;
  }

  get isCut(): boolean {
    return this.#cutAtMs !== null;
  }

  get shaping(): Shaping | null {
    return this.#shaping;
  }

  /** Whether something that was due at `arrivalMs` has got through. */
  passed(arrivalMs: number): boolean {
    return this.#cutAtMs === null || arrivalMs <= this.#cutAtMs;
  }

  /** Calls `waiter.joined` once, after the next join. */
  wait(waiter: CutWaiter): void {
    this.#waiters.add(waiter);
  }

  forget(waiter: CutWaiter): void {
    this.#waiters.delete(waiter);
  }

  shape(shaping: Shaping | null): void {
    this.#shaping = shaping;
    const cut = shaping?.cut ?? false;
    if (cut && this.#cutAtMs === null) {
      this.#cutAtMs = this.#kernel.nowMs;
    } else if (!cut && this.#cutAtMs !== null) {
      const cutAtMs = this.#cutAtMs;
      this.#cutAtMs = null;
      // The senders' retransmission timers decide when a stream goes on.
      const waiters = [...this.#waiters];
      this.#waiters.clear();
      for (const waiter of waiters) {
        const atMs = this.arrivalMs(0) + this.#prng.between(0, retransmitMsMax);
        this.#kernel.scheduleAt(this.#kernel.nowMs, eventKind.link, null, () => waiter.joined(cutAtMs, atMs));
      }
    }
  }

  /** When something of this size that is sent now arrives, if the link is not cut. */
  arrivalMs(byteCount: number): number {
    const faults = this.#faults;
    const prng = this.#prng;
    let atMs = this.#kernel.nowMs + faults.latencyMs + prng.unit() * faults.jitterMs;
    if (prng.chance(faults.delayRate)) atMs += prng.unit() * faults.delayMsMax;
    const shaping = this.#shaping;
    if (shaping === null) return atMs;
    if (shaping.rateBytesPerSecond !== null && byteCount > 0) {
      const busyMs = (byteCount / Math.max(1, shaping.rateBytesPerSecond)) * 1000;
      this.#busyUntilMs = Math.max(this.#busyUntilMs, this.#kernel.nowMs) + busyMs;
      atMs += this.#busyUntilMs - this.#kernel.nowMs;
    }
    atMs += Math.max(0, shaping.latencyMs + prng.between(-1, 1) * shaping.jitterMs);
    const packets = Math.max(1, Math.ceil(byteCount / packetBytes));
    // All packets lost again and again would never arrive; a stream then feels one long delay instead.
    for (let tries = 0; tries < 20 && prng.chance(1 - (1 - shaping.loss) ** packets); tries++) {
      atMs += prng.between(retransmitMsMin, retransmitMsMax) + shaping.latencyMs * 2;
    }
    return atMs;
  }
}
