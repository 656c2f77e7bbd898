/**
 * Whether this appliance can take a half over without hosts waiting for more than the start of its firmware. The partner asks before it
 * hands over (`Partnership.failover`), while hosts still go on.
 *
 *     cold ──followed for a while, or asked──▶ rehearsing ──over, or failed──▶ ready ──`rehearsalKeepsMs`──▶ cold
 *
 * Why a hand-over waits for the rehearsal: both would have one event loop and one processor. Measured on two busy cores: 790 ms. Why it is
 * repeated: the runtime throws away code that has not run for a while, in a full garbage collection. A start took 70 ms of the processor
 * at first, 8 after a rehearsal, 58 a minute and some collections later, and 7 after another rehearsal.
 */
import type { Clock } from "../../hal/api/clock.ts";
import { pairLimits } from "./limits.ts";

export class Readiness {
  readonly #clock: Clock;
  readonly #rehearse: () => Promise<unknown>;
  #rehearsing: Promise<void> | null = null;
  #endedMs = Number.NEGATIVE_INFINITY;
  #follows = false;

  /** `rehearse`: see `rehearsal.ts`; may not fail. */
  constructor(clock: Clock, rehearse: () => Promise<unknown>) {
    this.#clock = clock;
    this.#rehearse = rehearse;
  }

  /** A half is followed here, for the first time or again. Not while the appliance starts: the rehearsal takes its time. */
  follows(): void {
    if (this.#follows) return;
    this.#follows = true;
    this.#clock.after(pairLimits.rehearseAfterMs, () => void this.whenReady());
  }

  async whenReady(): Promise<void> {
    const isCold = this.#clock.nowMs() - this.#endedMs > pairLimits.rehearsalKeepsMs;
    if (isCold) this.#rehearsing ??= this.#rehearseNow();
    await this.#rehearsing;
  }

  async #rehearseNow(): Promise<void> {
    await this.#rehearse();
    this.#endedMs = this.#clock.nowMs();
    this.#rehearsing = null;
  }
}
