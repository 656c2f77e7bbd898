/**
 * One change of a group's store at a time, in the order of the requests: applies, commits, forks and document saves all pass
 * here. A task calls `next` exactly once when it is done.
 */
export class StoreQueue {
  readonly #tasks: ((next: () => void) => void)[] = [];
  #running = false;
  #closed = false;

  run(task: (next: () => void) => void): void {
    if (this.#closed) return;
    this.#tasks.push(task);
    this.#start();
  }

  get idle(): boolean {
    return !this.#running && this.#tasks.length === 0;
  }

  /** Nothing queued runs any more. */
  close(): void {
    this.#closed = true;
    this.#tasks.length = 0;
  }

  #start(): void {
    if (this.#running || this.#closed) return;
    const task = this.#tasks.shift();
    if (task === undefined) return;
    this.#running = true;
    task(() => {
      this.#running = false;
      this.#start();
    });
  }
}
