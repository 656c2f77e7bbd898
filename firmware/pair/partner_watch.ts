/**
 * What an appliance that owns nothing does while it is apart from its partner: wait until that one comes back, or is proven dead.
 *
 *     looking ──the power port says dead──▶ dead
 *     looking ──silent or hung on the interconnect, and silent on the shelf──▶ killing ──proven──▶ dead
 *                                                                              └─not proven─▶ looking, after the limit
 *
 * Invariants:
 * - `dead` is called only with the power port's proof, and never on the word of a port that has called a partner dead that was heard.
 * - A partner that is heard through the shelf is left alone: a cut interconnect moves nothing. Except where it owns nothing either:
 *   then the preferred one of the two does not wait for ever.
 * - What counts on the shelf is the partner's main loop. One that falls silent there when it does on the interconnect has the limit; one
 *   that has counted on since then (the interconnect is cut) has as long as a loop may be late, `hungMs`.
 */
import type { Clock, Timer } from "../../hal/api/clock.ts";
import type { PowerPort } from "../../hal/api/power.ts";
import type { EventSink } from "../manage/events.ts";
import { type PairTimes, pairLimits } from "./limits.ts";
import type { ShelfHeart } from "./shelf_heart.ts";

export interface PartnerWatchOptions {
  readonly clock: Clock;
  readonly power: PowerPort;
  readonly heart: ShelfHeart;
  readonly events: EventSink;
  readonly times: PairTimes;
  readonly fencesFirst: boolean;
  /** Whether the partner is looked for now: apart, and owning nothing. */
  isWatching(): boolean;
  /** The partner is dead; `how` is the end of a sentence about it. */
  dead(how: string): void;
}

export class PartnerWatch {
  readonly #options: PartnerWatchOptions;
  readonly #startedMs: number;
  #apartSinceMs: number;
  #everMet = false;
  #killing = false;
  #timer: Timer | null = null;
  /** Since when the power port calls a partner dead that was not lost; null: it does not. */
  #deadSinceMs: number | null = null;
  #contradicted = false;

  constructor(options: PartnerWatchOptions) {
    this.#options = options;
    this.#startedMs = options.clock.nowMs();
    this.#apartSinceMs = this.#startedMs;
  }

  /** So short a time apart that an owner is to be expected. Later it may take hours: hosts had better try another path. */
  get isFresh(): boolean {
    return this.#apartMs < pairLimits.waitMs;
  }

  get #apartMs(): number {
    return this.#options.clock.nowMs() - this.#apartSinceMs;
  }

  met(): void {
    this.#everMet = true;
  }

  /** The power port is not this partner's: what it proves counts for nothing. */
  get portIsWrong(): boolean {
    return this.#contradicted;
  }

  /**
   * Called now and then while the partner has not been lost. What it sent before its death may be heard after it, but not for as long as
   * the limit.
   */
  heard(lastHeardMs: number): void {
    const { power, events, times, clock } = this.#options;
    if (!power.isDead()) {
      this.#deadSinceMs = null;
      this.#contradicted = false;
      return;
    }
    this.#deadSinceMs ??= clock.nowMs();
    if (this.#contradicted || lastHeardMs - this.#deadSinceMs < times.limitMs) return;
    this.#contradicted = true;
    events.emit(
      "power-port-wrong",
      `the power port calls ${power.target} dead, and it answers: nothing will be taken over; correct [power] target_lock in the profile`,
    );
  }

  lost(): void {
    this.#apartSinceMs = this.#options.clock.nowMs();
    this.look();
  }

  stop(): void {
    this.#timer?.cancel();
  }

  /** Also called when the appliance has come to own nothing. */
  look(): void {
    this.#timer?.cancel();
    this.#timer = null;
    const { clock, power, isWatching, dead } = this.#options;
    if (!isWatching()) return;
    const nowMs = clock.nowMs();
    // Both of a site that gets its power back are to meet before one of them counts the other dead.
    const mayLook = this.#everMet || nowMs - this.#startedMs >= pairLimits.meetMs;
    if (mayLook && !this.portIsWrong && !this.#countsOnShelf() && power.isDead()) return dead("is proven dead");
    if (!this.#killing && this.#isSilent()) return this.#kill();
    this.#timer = clock.after(pairLimits.lookMs, () => this.look());
  }

  /** One that was never met and counts on through the shelf is not dead, whatever the power port says. */
  #countsOnShelf(): boolean {
    const { silentMs } = this.#options.heart;
    return !this.#everMet && silentMs !== null && silentMs < pairLimits.stillMs;
  }

  #isSilent(): boolean {
    const { times, heart, fencesFirst } = this.#options;
    const { limitMs, hungMs } = times;
    if (this.portIsWrong) return false;
    const apartMs = this.#apartMs;
    const { silentMs, movedMs } = heart;
    // One that has not been met yet may be starting as well.
    const patienceMs = pairLimits.strangerLimits * limitMs;
    if (!this.#everMet && apartMs < patienceMs) return false;
    if (silentMs === null) return apartMs >= limitMs;
    const isCutOff = movedMs !== null && movedMs > this.#apartSinceMs;
    if (silentMs >= (isCutOff ? hungMs : limitMs)) return true;
    return apartMs >= patienceMs && !heart.partnerOwns && fencesFirst;
  }

  #kill(): void {
    const { clock, power, events, times, isWatching, dead } = this.#options;
    this.#killing = true;
    events.emit(
      "partner-fenced",
      `${power.target} is silent or hangs, on the interconnect and on the shelf: it is switched off`,
    );
    power.kill((isDead) => {
      this.#killing = false;
      if (!isWatching()) return;
      if (isDead) return dead("was switched off");
      events.emit(
        "partner-not-fenced",
        `${power.target} could not be proven dead: nothing is taken over; switch it off by hand`,
      );
      this.#timer = clock.after(times.limitMs, () => this.look());
    });
  }
}
