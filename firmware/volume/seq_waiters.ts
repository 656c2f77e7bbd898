/**
 * Callbacks that wait for a seq to be reached (committed, persisted), called in the order in which they were added. Each is called
 * once: `done`, or `dropped` when the records that it waits for are not in the log any more.
 */
interface Waiter {
  readonly seq: number;
  readonly done: () => void;
  readonly dropped: () => void;
}

export class SeqWaiters {
  #waiters: Waiter[] = [];

  add(seq: number, done: () => void, dropped: () => void): void {
    this.#waiters.push({ seq, done, dropped });
  }

  reached(seq: number): void {
    for (const waiter of this.#take((one) => one.seq <= seq)) waiter.done();
  }

  dropAbove(seq: number): void {
    for (const waiter of this.#take((one) => one.seq > seq)) waiter.dropped();
  }

  #take(which: (waiter: Waiter) => boolean): Waiter[] {
    if (this.#waiters.length === 0) return [];
    const taken = this.#waiters.filter(which);
    if (taken.length > 0) this.#waiters = this.#waiters.filter((waiter) => !which(waiter));
    return taken;
  }
}
