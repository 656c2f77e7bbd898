/**
 * The stores into the cache since the last persist, as ranges in the order in which they were made. A store that begins where the last
 * one has ended, or within it, makes that one longer: a log that appends makes one range of a turn.
 */
export class StoreRanges {
  #offsets: number[] = [];
  #lengths: number[] = [];

  get count(): number {
    return this.#offsets.length;
  }

  add(offsetBytes: number, lengthBytes: number): void {
    const last = this.#offsets.length - 1;
    if (last >= 0) {
      const start = this.#offsets[last]!;
      const end = start + this.#lengths[last]!;
      if (offsetBytes >= start && offsetBytes <= end) {
        this.#lengths[last] = Math.max(end, offsetBytes + lengthBytes) - start;
        return;
      }
    }
    this.#offsets.push(offsetBytes);
    this.#lengths.push(lengthBytes);
  }

  /** Hands the ranges to `give` in portions of at most `rangesMax` ranges and `bytesMax` bytes, and forgets them. */
  take(rangesMax: number, bytesMax: number, give: (offsets: number[], lengths: number[]) => void): void {
    const offsets = this.#offsets;
    const lengths = this.#lengths;
    this.#offsets = [];
    this.#lengths = [];
    let some: number[] = [];
    let sizes: number[] = [];
    let bytes = 0;
    for (let index = 0; index < offsets.length; index++) {
      let at = offsets[index]!;
      let left = lengths[index]!;
      while (left > 0) {
        const part = Math.min(left, bytesMax - bytes);
        some.push(at);
        sizes.push(part);
        bytes += part;
        at += part;
        left -= part;
        if (bytes < bytesMax && some.length < rangesMax) continue;
        give(some, sizes);
        some = [];
        sizes = [];
        bytes = 0;
      }
    }
    if (some.length > 0) give(some, sizes);
  }

  clear(): void {
    this.#offsets = [];
    this.#lengths = [];
  }
}
