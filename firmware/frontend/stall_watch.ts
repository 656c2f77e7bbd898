/**
 * While somebody waits for shared memory: whoever holds some and has not moved between two looks is closed. Nobody else is ever
 * closed for being slow.
 */
import type { Clock } from "../../hal/api/clock.ts";
import type { MemoryBudget } from "./memory_budget.ts";

export interface WatchedSession {
  /** Whether the host has done anything since the last call. */
  moved(): boolean;
  /** Closes a session that keeps shared memory, waits for its host, and has not moved since the last look. */
  closeUnlessMoved(): void;
}

export class StallWatch {
  readonly #clock: Clock;
  readonly #stallMs: number;
  readonly #sessions: Iterable<WatchedSession>;
  #watching = false;

  constructor(clock: Clock, stallMs: number, sessions: Iterable<WatchedSession>) {
    this.#clock = clock;
    this.#stallMs = stallMs;
    this.#sessions = sessions;
  }

  /** Somebody has begun to wait for memory of `budget`. */
  begin(budget: MemoryBudget): void {
    if (this.#watching) return;
    this.#watching = true;
    for (const session of this.#sessions) session.moved();
    this.#lookAgain(budget);
  }

  #lookAgain(budget: MemoryBudget): void {
    this.#clock.after(this.#stallMs, () => {
      for (const session of [...this.#sessions]) session.closeUnlessMoved();
      this.#watching = budget.waiting > 0;
      if (this.#watching) this.#lookAgain(budget);
    });
  }
}
