/**
 * How many reads may hold threads of the runtime's pool. The pool is shared by all disks and by the cache's own writes: a disk that
 * does not answer would otherwise take every thread for reads, and with them every acknowledgement that needs an fdatasync.
 *
 * Invariant: reads hold at most half of the pool (one for each disk at least), shared out evenly among the disks; what is more waits
 * in line at its disk.
 */
export class ReadShare {
  readonly #readsMax: number;
  #disks = 0;

  constructor(poolThreads: number) {
    this.#readsMax = Math.max(1, Math.floor(poolThreads / 2));
  }

  line(): ReadLine {
    this.#disks++;
    return new ReadLine(() => Math.max(1, Math.floor(this.#readsMax / this.#disks)));
  }
}

/** The reads of one disk, in their order. */
export class ReadLine {
  readonly #atOnce: () => number;
  readonly #waiting: (() => void)[] = [];
  #holding = 0;

  constructor(atOnce: () => number) {
    this.#atOnce = atOnce;
  }

  /** `start` is called now or when it is its turn; `left` must follow each. */
  enter(start: () => void): void {
    if (this.#holding >= this.#atOnce()) {
      this.#waiting.push(start);
      return;
    }
    this.#holding++;
    start();
  }

  left(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#holding--;
    else next();
  }
}
