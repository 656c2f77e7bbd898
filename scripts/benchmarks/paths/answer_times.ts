/** When answers came, as far as it tells how long a host waited: the longest wait of all, and the one around a given moment. */

export interface Gap {
  /** The last answer before the longest wait since the moment, and the first one after it (`performance.now()`). */
  readonly lastBeforeMs: number;
  readonly firstAfterMs: number;
  readonly ms: number;
}

export class AnswerTimes {
  count = 0;
  longestGapMs = 0;
  #lastMs: number;
  #gap: Gap;

  constructor(nowMs: number) {
    this.#lastMs = nowMs;
    this.#gap = { lastBeforeMs: nowMs, firstAfterMs: nowMs, ms: 0 };
  }

  answer(nowMs: number): void {
    const ms = nowMs - this.#lastMs;
    this.count++;
    if (ms > this.longestGapMs) this.longestGapMs = ms;
    if (ms > this.#gap.ms) this.#gap = { lastBeforeMs: this.#lastMs, firstAfterMs: nowMs, ms };
    this.#lastMs = nowMs;
  }

  /** Now something happens: answers that are on their way may still come before the wait for which `gap` is asked. */
  mark(): void {
    this.#gap = { lastBeforeMs: this.#lastMs, firstAfterMs: this.#lastMs, ms: 0 };
  }

  /** The longest wait since `mark`. */
  get gap(): Gap {
    return this.#gap;
  }
}
