/**
 * Which pages of a region have been stored to since the last batch. Fixed memory: 5 bytes per page, twice.
 *
 * Invariant: `#pages[0..#count)` are exactly the pages whose flag is set.
 */

/** The unit in which a cache is written to its file. */
export const pageBytes = 4096;

export class DirtyPages {
  readonly #flags: Uint8Array;
  readonly #pages: Int32Array;
  #count = 0;

  constructor(sizeBytes: number) {
    const pageCount = Math.ceil(sizeBytes / pageBytes);
    this.#flags = new Uint8Array(pageCount);
    this.#pages = new Int32Array(pageCount);
  }

  isEmpty(): boolean {
    return this.#count === 0;
  }

  /** The range lies in the region. */
  mark(offsetBytes: number, lengthBytes: number): void {
    const last = Math.floor((offsetBytes + lengthBytes - 1) / pageBytes);
    for (let page = Math.floor(offsetBytes / pageBytes); page <= last; page++) {
      if (this.#flags[page] !== 0) continue;
      this.#flags[page] = 1;
      this.#pages[this.#count++] = page;
    }
  }

  /** Hands every run of adjoining dirty pages to `visit`, in ascending order, and forgets them. */
  takeRuns(visit: (firstPage: number, pageCount: number) => void): void {
    const pages = this.#pages.subarray(0, this.#count).sort();
    this.#count = 0;
    let runStart = -1;
    let runEnd = -1;
    for (const page of pages) {
      this.#flags[page] = 0;
      if (page !== runEnd) {
        if (runStart >= 0) visit(runStart, runEnd - runStart);
        runStart = page;
      }
      runEnd = page + 1;
    }
    if (runStart >= 0) visit(runStart, runEnd - runStart);
  }
}
