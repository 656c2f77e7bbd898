/**
 * What a successor inside the pair goes on with (L4): the groups that the owner served in the end, by its own last word. That is what it
 * says when it hands over, or its page on the shelf (`shelf_heart.ts`) when it is dead or evicted, for a while after it was alive for
 * certain. An owner whose successor was chosen without either (it has begun anew) leaves nothing; nor does a page that was not written
 * any more while the owner was still heard: it may have had something else to say.
 */
import type { Clock } from "../../hal/api/clock.ts";
import { pairLimits } from "./limits.ts";
import type { LastWord } from "./shelf_heart.ts";

const never = Number.NEGATIVE_INFINITY;
/** A page is written and seen within so many heartbeats. */
const heartbeatsMax = 4;

export class Inheritance {
  readonly #clock: Clock;
  readonly #heartbeatMs: number;
  #groups: ReadonlySet<string> = new Set();
  #untilMs = never;
  /** Until when the owner has been followed. */
  #followedMs = never;
  /** When the owner was heard last. */
  #heardMs = never;

  constructor(clock: Clock, heartbeatMs: number) {
    this.#clock = clock;
    this.#heartbeatMs = heartbeatMs;
  }

  /** The owner, which has been followed until now, is lost; it was heard last at `heardMs`. */
  ownerIsLost(heardMs: number): void {
    this.#followedMs = this.#clock.nowMs();
    this.#heardMs = heardMs;
  }

  /** The owner, which has been followed until now, hands over, and has served these groups. */
  handedOver(served: readonly string[]): void {
    this.ownerIsLost(this.#clock.nowMs());
    this.#groups = new Set(served);
    this.#untilMs = this.#followedMs + pairLimits.inheritMs;
  }

  /** The owner's page, which changes no more. `aliveMs`: the owner was alive then, or later; null: that is not known. */
  takenOver(last: LastWord, aliveMs: number | null): void {
    const isLast = aliveMs !== null && aliveMs >= this.#heardMs - heartbeatsMax * this.#heartbeatMs;
    this.#groups = new Set(isLast && typeof last === "object" && last.owns ? last.serving : []);
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
