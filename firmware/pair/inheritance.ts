/** What a successor inside the pair goes on with: the groups that the owner served when it was heard last, for a while. */
import type { Clock } from "../../hal/api/clock.ts";
import { pairLimits } from "./limits.ts";

export class Inheritance {
  readonly #clock: Clock;
  #groups: ReadonlySet<string> = new Set();
  #untilMs = Number.NEGATIVE_INFINITY;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The owner is lost, or hands over, and was heard to the end. */
  begins(served: readonly string[]): void {
    this.#groups = new Set(served);
    this.#untilMs = this.#clock.nowMs() + pairLimits.inheritMs;
  }

  get counts(): boolean {
    return this.#untilMs >= this.#clock.nowMs();
  }

  has(groupId: string): boolean {
    return this.counts && this.#groups.has(groupId);
  }
}
