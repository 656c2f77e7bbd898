/**
 * The memory of one session: data in flight and replies unsent, against its own limits and the budget shared by all.
 *
 * Invariants:
 * - What is held beyond `guaranteedBytes` is granted by the budget, or forced by replies.
 * - A session waits in the budget only while something of it waits (`waits`).
 */
import type { BudgetWaiter, MemoryBudget } from "../memory_budget.ts";
import type { OutputQueue } from "../output_queue.ts";
import type { IscsiLimits } from "./limits.ts";

export class SessionMemory {
  inFlightBytes = 0;
  /** Granted by the budget, beyond what every session has. */
  sharedBytes = 0;
  waits = false;
  private readonly budget: MemoryBudget;
  private readonly limits: IscsiLimits;
  private readonly output: OutputQueue;
  private readonly waiter: BudgetWaiter;

  constructor(budget: MemoryBudget, limits: IscsiLimits, output: OutputQueue, waiter: BudgetWaiter) {
    this.budget = budget;
    this.limits = limits;
    this.output = output;
    this.waiter = waiter;
  }

  get heldBytes(): number {
    return this.inFlightBytes + this.output.queuedBytes;
  }

  /** Whether `bytes` more fit this session and, beyond its own allowance, the memory shared by all; if not, it waits for the budget. */
  admits(bytes: number): boolean {
    const held = this.heldBytes;
    const wanted = held + bytes;
    if (wanted <= this.limits.guaranteedBytes) return true;
    if (held > 0 && wanted > this.limits.sessionBytesMax) return false;
    const more = wanted - this.limits.guaranteedBytes - this.sharedBytes;
    if (more <= 0) return true;
    if (!this.budget.take(more, this.waiter)) {
      this.waits = true;
      return false;
    }
    this.sharedBytes += more;
    return true;
  }

  /** Gives shared memory back as data and replies leave; called after every batch. */
  settle(): void {
    const held = this.heldBytes;
    const due = held > this.limits.guaranteedBytes ? held - this.limits.guaranteedBytes : 0;
    if (due === this.sharedBytes) return;
    if (due > this.sharedBytes) this.budget.force(due - this.sharedBytes);
    else this.budget.give(this.sharedBytes - due);
    this.sharedBytes = due;
  }
}
