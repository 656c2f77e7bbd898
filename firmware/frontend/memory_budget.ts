/**
 * Memory that sessions share beyond what each of them is guaranteed, and who waits for it.
 *
 * Invariants:
 * - Grants are first come, first served: while somebody waits, nobody overtakes, so a large request cannot starve.
 * - Bytes are granted by `take` and returned by `give`; what a session holds may exceed its grant by reply headers only.
 */
import type { Clock } from "../../hal/api/clock.ts";

export interface BudgetWaiter {
  /** There may be room now: try again. */
  roomMade(): void;
}

export class MemoryBudget {
  readonly limitBytes: number;
  takenBytes = 0;
  private readonly clock: Clock;
  private readonly waiters: BudgetWaiter[] = [];
  private readonly onWaiting: () => void;
  private wakeIsDue = false;

  /** `onWaiting` is told whenever somebody begins to wait. */
  constructor(clock: Clock, limitBytes: number, onWaiting: () => void) {
    this.clock = clock;
    this.limitBytes = limitBytes;
    this.onWaiting = onWaiting;
  }

  get waiting(): number {
    return this.waiters.length;
  }

  /** Grants `bytes`, or queues the waiter (once) and returns false. */
  take(bytes: number, waiter: BudgetWaiter): boolean {
    const first = this.waiters[0];
    if ((first === undefined || first === waiter) && this.takenBytes + bytes <= this.limitBytes) {
      this.takenBytes += bytes;
      if (first === waiter) this.forget(waiter);
      return true;
    }
    if (!this.waiters.includes(waiter)) {
      this.waiters.push(waiter);
      this.onWaiting();
    }
    return false;
  }

  /** Takes what is there anyway (reply headers), room or not. */
  force(bytes: number): void {
    this.takenBytes += bytes;
  }

  give(bytes: number): void {
    this.takenBytes -= bytes;
    this.wakeSoon();
  }

  /** The waiter no longer wants anything. */
  forget(waiter: BudgetWaiter): void {
    const index = this.waiters.indexOf(waiter);
    if (index < 0) return;
    this.waiters.splice(index, 1);
    this.wakeSoon();
  }

  private wakeSoon(): void {
    if (this.wakeIsDue || this.waiters.length === 0) return;
    this.wakeIsDue = true;
    this.clock.defer(() => {
      this.wakeIsDue = false;
      this.waiters[0]?.roomMade();
    });
  }
}
