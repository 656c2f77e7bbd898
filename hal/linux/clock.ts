/**
 * The clock of a real appliance.
 *
 * Invariants:
 * - A timer never fires early as `nowMs` measures it: the runtime's own timers may, by a fraction of a millisecond.
 * - Deferred tasks run in one microtask: after the callback that the runtime is in, before its next one, in order.
 */
import type { Clock, Timer } from "../api/clock.ts";

/** setTimeout's range is a signed 32-bit number of milliseconds; longer waits are made of several. */
const delayMsMax = 2 ** 31 - 1;

class RunningTimer implements Timer {
  readonly #dueMs: number;
  #fire: (() => void) | null;
  #handle: ReturnType<typeof setTimeout> | undefined;

  constructor(delayMs: number, fire: () => void) {
    this.#dueMs = performance.now() + delayMs;
    this.#fire = fire;
    this.#arm();
  }

  #arm(): void {
    const leftMs = Math.ceil(this.#dueMs - performance.now());
    this.#handle = setTimeout(() => this.#expired(), Math.min(Math.max(leftMs, 0), delayMsMax));
  }

  #expired(): void {
    const fire = this.#fire;
    if (fire === null) return;
    if (performance.now() < this.#dueMs) {
      this.#arm();
    } else {
      this.#fire = null;
      fire();
    }
  }

  cancel(): void {
    if (this.#fire === null) return;
    this.#fire = null;
    clearTimeout(this.#handle);
  }
}

export class LinuxClock implements Clock {
  #tasks: (() => void)[] = [];
  readonly #drain = (): void => {
    // A task may defer further tasks; they belong to the same event and run in the same pass.
    for (let index = 0; index < this.#tasks.length; index++) this.#tasks[index]?.();
    this.#tasks.length = 0;
  };

  nowMs(): number {
    return performance.now();
  }

  wallMs(): number {
    return Date.now();
  }

  after(delayMs: number, fire: () => void): Timer {
    if (!(delayMs >= 0)) throw new Error(`a timer of ${delayMs} ms`);
    return new RunningTimer(delayMs, fire);
  }

  defer(task: () => void): void {
    if (this.#tasks.push(task) === 1) queueMicrotask(this.#drain);
  }
}
