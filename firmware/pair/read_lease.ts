/**
 * Until when what this appliance knows of the halves that it owns is the newest: nobody can have taken over before. Needed where a lost
 * partner is not dead (`PartnerFence.kills`): it may have been stopped for minutes, and wake.
 *
 * An owner counts up in its page on the shelf (`shelf_heart.ts`). Each count that a disk has taken, and that says "owner", is good for
 * `leaseShare` of the limit, from before it was sent. Whoever takes over evicts the owner first, so that no further count lands, and then
 * looks at the page anew: it opens the half only when the page has stood still under its eyes for the limit. So
 *
 *     lease = 0.9 limit on the owner's clock   <   limit on the other one's
 *
 * holds while each clock is wrong by less than d, with 0.9 / (1 - d) = 1 / (1 + d): d = 1/19, 5.2 % (NTP slews by 0.05 %).
 *
 * Invariants:
 * - `holds` is asked after what is said has been found out: then it was the newest at a moment between the question and the answer.
 * - After `revoke` it never holds again.
 */
import type { Clock } from "../../hal/api/clock.ts";
import { assert } from "../codec/assert.ts";

const leaseShare = 0.9;
assert(
  leaseShare / (1 - 0.05) < 1 / (1 + 0.05),
  "a lease ends before a takeover, with clocks that are wrong by a twentieth",
);

export class ReadLease {
  readonly #clock: Clock;
  readonly #leaseMs: number;
  /** By half. */
  readonly #untilMs: number[];
  readonly #isNeeded: boolean[];
  /** The earliest end among the halves that need one. */
  #endMs = Number.POSITIVE_INFINITY;
  #isRevoked = false;
  readonly #waiting = new Set<() => void>();

  /** `limitMs`: how long whoever takes over sees the owner's page stand still. */
  constructor(clock: Clock, limitMs: number, halfCount: number) {
    this.#clock = clock;
    this.#leaseMs = leaseShare * limitMs;
    this.#untilMs = new Array<number>(halfCount).fill(Number.NEGATIVE_INFINITY);
    this.#isNeeded = new Array<boolean>(halfCount).fill(false);
  }

  /** One comparison: asked for every answer. */
  get holds(): boolean {
    return this.#clock.nowMs() < this.#endMs;
  }

  /** Whether the half is owned here, or about to be. */
  need(half: number, isNeeded: boolean): void {
    this.#isNeeded[half] = isNeeded;
    this.#settle();
  }

  /** A count as the owner of the half, sent at `sentMs`, is on the shelf. */
  renew(half: number, sentMs: number): void {
    this.#untilMs[half] = Math.max(this.#untilMs[half]!, sentMs + this.#leaseMs);
    this.#settle();
  }

  revoke(): void {
    this.#isRevoked = true;
    this.#settle();
  }

  /** Calls `task` once when it holds again, unless it is forgotten before. */
  await(task: () => void): void {
    this.#waiting.add(task);
  }

  forget(task: () => void): void {
    this.#waiting.delete(task);
  }

  #settle(): void {
    let endMs = this.#isRevoked ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY;
    for (const [half, isNeeded] of this.#isNeeded.entries()) {
      if (isNeeded) endMs = Math.min(endMs, this.#untilMs[half]!);
    }
    this.#endMs = endMs;
    for (const task of [...this.#waiting]) {
      if (!this.holds) return;
      if (this.#waiting.delete(task)) task();
    }
  }
}
