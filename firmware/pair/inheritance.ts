/**
 * What a successor inside the pair goes on with (L4): the groups that the owner served in the end, by its own last word. That is what it
 * says when it hands over, or its page on the shelf (`shelf_heart.ts`) when it is dead or evicted, for a while after it was alive for
 * certain. An owner whose successor was chosen without either (it has begun anew) leaves nothing.
 */
import type { Clock } from "../../hal/api/clock.ts";
import { pairLimits } from "./limits.ts";
import type { LastWord } from "./shelf_heart.ts";

const never = Number.NEGATIVE_INFINITY;

export class Inheritance {
  readonly #clock: Clock;
  #groups: ReadonlySet<string> = new Set();
  #untilMs = never;
  /** Until when the owner has been followed. */
  #followedMs = never;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The owner, which has been followed until now, is lost. */
  ownerIsLost(): void {
    this.#followedMs = this.#clock.nowMs();
  }

  /** The owner, which has been followed until now, hands over, and has served these groups. */
  handedOver(served: readonly string[]): void {
    this.ownerIsLost();
    this.#groups = new Set(served);
    this.#untilMs = this.#followedMs + pairLimits.inheritMs;
  }

  /** The owner's page, which changes no more. `aliveMs`: the owner was alive then, or later; null: that is not known. */
  takenOver(last: LastWord, aliveMs: number | null): void {
    this.#groups = new Set(typeof last === "object" && last.owns ? last.serving : []);
    this.#untilMs = (aliveMs ?? never) + pairLimits.inheritMs;
  }

  /** Another way to become owner. */
  opened(): void {
    this.#untilMs = never;
  }

  has(groupId: string): boolean {
    return this.#untilMs >= this.#clock.nowMs() && this.#groups.has(groupId);
  }

  /** Whether the array has been kept going by one of the two until now. `aliveMs`: as with `takenOver`. */
  isUnbroken(aliveMs: number | null): boolean {
    const untilMs = Math.max(this.#followedMs, aliveMs ?? never);
    return this.#followedMs > never && untilMs + pairLimits.inheritMs >= this.#clock.nowMs();
  }
}
