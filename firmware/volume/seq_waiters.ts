/** Callbacks that wait for a seq to be reached (committed, persisted), called in the order in which they were added. */
export class SeqWaiters {
  #waiters: { readonly seq: number; readonly done: () => void }[] = [];

  add(seq: number, done: () => void): void {
    this.#waiters.push({ seq, done });
  }

  reached(seq: number): void {
    if (this.#waiters.length === 0) return;
    const ready = this.#waiters.filter((waiter) => waiter.seq <= seq);
    if (ready.length === 0) return;
    this.#waiters = this.#waiters.filter((waiter) => waiter.seq > seq);
    for (const waiter of ready) waiter.done();
  }
}
