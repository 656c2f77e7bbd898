/**
 * What a successor inside the pair goes on with: the groups that the owner served when it was heard last, for a while, unless it has lived
 * on by itself: then it may have stopped in order, or have given a role away (L4).
 */
import type { Clock } from "../../hal/api/clock.ts";
import { pairLimits } from "./limits.ts";

/** What a dying owner wrote to the shelf last is seen within so many heartbeats. */
const heartbeatsMax = 4;

export class Inheritance {
  readonly #clock: Clock;
  readonly #heartbeatMs: number;
  #groups: ReadonlySet<string> = new Set();
  #heardMs = Number.NEGATIVE_INFINITY;
  #untilMs = Number.NEGATIVE_INFINITY;

  constructor(clock: Clock, heartbeatMs: number) {
    this.#clock = clock;
    this.#heartbeatMs = heartbeatMs;
  }

  /** The owner is lost, or hands over; it was heard last at `heardMs`. */
  begins(served: readonly string[], heardMs: number): void {
    this.#groups = new Set(served);
    this.#heardMs = heardMs;
    this.#untilMs = this.#clock.nowMs() + pairLimits.inheritMs;
  }

  /** The owner was seen alive on the shelf, at `seenMs` last; null: it was not. */
  seenAlive(seenMs: number | null): void {
    if (seenMs !== null && seenMs > this.#heardMs + heartbeatsMax * this.#heartbeatMs)
      this.#untilMs = Number.NEGATIVE_INFINITY;
  }

  has(groupId: string): boolean {
    return this.#untilMs >= this.#clock.nowMs() && this.#groups.has(groupId);
  }
}
