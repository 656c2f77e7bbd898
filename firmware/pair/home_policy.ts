/**
 * When an array that was taken over goes back to its preferred owner by itself: after the pair has been whole for a while, and each time
 * after twice as long as the time before, so that an appliance that fails again and again does not carry the array with it.
 */

/** 2^6 times a minute is an hour. */
const doublingsMax = 6;

export class HomePolicy {
  /** null: only the operator moves it. */
  readonly #returnAfterMs: number | null;
  #returns = 0;
  #wholeSinceMs: number | null = null;

  constructor(returnAfterMs: number | null) {
    this.#returnAfterMs = returnAfterMs;
  }

  /**
   * Looked at again and again by the owner. `isAway`: the pair is mirrored, and the partner is the preferred owner. True: now it goes home.
   */
  isDue(isAway: boolean, nowMs: number): boolean {
    if (!isAway || this.#returnAfterMs === null) {
      this.#wholeSinceMs = null;
      return false;
    }
    this.#wholeSinceMs ??= nowMs;
    const waitMs = this.#returnAfterMs * 2 ** Math.min(this.#returns, doublingsMax);
    if (nowMs - this.#wholeSinceMs < waitMs) return false;
    this.#returns++;
    this.#wholeSinceMs = null;
    return true;
  }
}
