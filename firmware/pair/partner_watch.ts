/**
 * What an appliance that owns nothing does while it is apart from its partner: wait until that one comes back, or is proven harmless
 * (`partner_fence.ts`).
 *
 *     looking ──the power port says dead──▶ its last word ──▶ gone
 *     looking ──silent or hung on the interconnect, and silent on the shelf──▶ fencing ──proven, and dead──▶ its last word ──▶ gone
 *        ▲                                                                       │ │
 *        ├──after the limit──not proven────────────────────────────────────────────┘ └─proven, not dead─▶ its page looked at anew
 *        └──its lease may not be over───────────────────────────────────────────────────────────────────────┘  └─still for the limit─▶ gone
 *
 * Invariants:
 * - `gone` is called only with the fence's proof, and never on the word of a port that has called a partner dead that was heard.
 * - What the partner's pages say is read once more behind the proof: nothing is added to it then. Disks that do not answer within the
 *   limit are not waited for.
 * - A partner that is not dead has no lease any more: with nothing of it landing, its page has been seen to stand still for the limit, its
 *   own or the partner's, whichever is longer, or to say that it owns nothing.
 * - A partner that is heard through the shelf is left alone: a cut interconnect moves nothing. Except where it owns nothing either:
 *   then the preferred one of the two does not wait for ever.
 * - What counts on the shelf is the partner's main loop. One that falls silent there when it does on the interconnect has the limit; one
 *   that has counted on since then (the interconnect is cut) has as long as a loop may be late, `hungMs`.
 */
import type { Clock, Timer } from "../../hal/api/clock.ts";
import type { EventSink } from "../manage/events.ts";
import { type PairTimes, pairLimits } from "./limits.ts";
import type { PartnerFence } from "./partner_fence.ts";
import type { LastWord, ShelfHeart } from "./shelf_heart.ts";

export interface PartnerWatchOptions {
  readonly clock: Clock;
  readonly fence: PartnerFence;
  readonly heart: ShelfHeart;
  readonly events: EventSink;
  readonly times: PairTimes;
  readonly fencesFirst: boolean;
  /** Whether the partner is looked for now: apart, and owning nothing. */
  isWatching(): boolean;
  /** The partner is dead, or evicted and without a lease; `how` is the end of a sentence about it. `last`: said behind the proof. */
  gone(how: string, last: LastWord): void;
}

export class PartnerWatch {
  readonly #options: PartnerWatchOptions;
  readonly #startedMs: number;
  #apartSinceMs: number;
  #everMet = false;
  #isFencing = false;
  #timer: Timer | null = null;
  /** Since when the power port calls a partner dead that was not lost; null: it does not. */
  #deadSinceMs: number | null = null;
  #contradicted = false;
  #doubt: string | null = null;

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

  /** Why the partner, which is silent, is not proven harmless, and what is to be done; null: nothing stands in the way. */
  get doubt(): string | null {
    return this.#doubt;
  }

  met(): void {
    this.#everMet = true;
    this.#doubt = null;
    this.#options.fence.met();
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
    const { fence, events, times, clock } = this.#options;
    if (!fence.isHarmless()) {
      this.#deadSinceMs = null;
      this.#contradicted = false;
      return;
    }
    this.#deadSinceMs ??= clock.nowMs();
    if (this.#contradicted || lastHeardMs - this.#deadSinceMs < times.limitMs) return;
    this.#contradicted = true;
    events.emit(
      "power-port-wrong",
      `the power port calls ${fence.target} dead, and it answers: nothing will be taken over; correct [power] target_lock in the profile`,
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
    const { clock, fence, isWatching } = this.#options;
    if (!isWatching()) return;
    const nowMs = clock.nowMs();
    // Both of a site that gets its power back are to meet before one of them counts the other dead.
    const mayLook = this.#everMet || nowMs - this.#startedMs >= pairLimits.meetMs;
    const mayJudge = mayLook && !this.#isFencing && !this.portIsWrong && !this.#countsOnShelf();
    if (mayJudge && fence.isHarmless()) {
      this.#doubt = null;
      return this.#hearLastWord("is proven dead");
    }
    if (!this.#isFencing && this.#isSilent()) return this.#fence();
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

  #fence(): void {
    const { clock, fence, events, times, isWatching } = this.#options;
    this.#isFencing = true;
    const { target, words } = fence;
    events.emit("partner-fenced", `${target} is silent or hangs, on the interconnect and on the shelf: ${words.doing}`);
    fence.fence((doubt) => {
      if (doubt === null && !fence.kills) return this.#lookForLease();
      this.#isFencing = false;
      this.#doubt = null;
      if (!isWatching()) return;
      if (doubt === null) return this.#hearLastWord(words.done);
      this.#doubt = `${target} ${words.failed} (${doubt}): nothing is taken over; ${words.help}`;
      events.emit("partner-not-fenced", this.#doubt);
      this.#timer = clock.after(times.limitMs, () => this.look());
    });
  }

  /** It is dead. */
  #hearLastWord(how: string): void {
    const { clock, heart, times, isWatching, gone } = this.#options;
    this.#isFencing = true;
    // One answer: a disk that tells later tells of a proof that may be void by then.
    let isHeard = false;
    const heard = (last: LastWord) => {
      if (isHeard) return;
      isHeard = true;
      this.#isFencing = false;
      limit.cancel();
      if (isWatching()) gone(how, last);
    };
    const limit = clock.after(times.limitMs, () => heard("unknown"));
    heart.lookAnew(heard);
  }

  /** Nothing of the partner lands any more. What it counted last it may have counted a moment ago. */
  #lookForLease(): void {
    const { clock, fence, heart, times, isWatching, gone } = this.#options;
    heart.lookAnew((last) => {
      this.#isFencing = false;
      if (!isWatching()) return;
      const { silentMs } = heart;
      // Profiles that are changed one after the other differ for a while.
      const leaseMs = Math.max(times.limitMs, heart.partnerLimitMs);
      const isOver =
        last === "none" || (last !== "unknown" && (!last.owns || (silentMs !== null && silentMs >= leaseMs)));
      if (isOver) return gone(fence.words.done, last);
      this.#timer = clock.after(last === "unknown" ? times.limitMs : pairLimits.lookMs, () => this.look());
    });
  }
}
