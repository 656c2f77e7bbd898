/**
 * Seeded randomness of the simulated world: xoshiro128** (Blackman and Vigna, 2018).
 *
 * Invariants:
 * - A stream is a function of (seed, purpose) alone, so that a new consumer with its own purpose disturbs nobody else's draws.
 * - `chance(0)` draws nothing: a fault that is switched off leaves a run as it was.
 */
export class Prng {
  #a: number;
  #b: number;
  #c: number;
  #d: number;

  constructor(seed: number | string, purpose: string) {
    let state = hashText(`${seed}/${purpose}`);
    const next = (): number => {
      // splitmix32: spreads one word over the four of the state.
      state = (state + 0x9e3779b9) | 0;
      let mixed = Math.imul(state ^ (state >>> 16), 0x21f0aaad);
      mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97);
      return mixed ^ (mixed >>> 15);
    };
    this.#a = next();
    this.#b = next();
    this.#c = next();
    // The all-zero state is the one that the generator never leaves.
    this.#d = next() | 1;
  }

  /** 0 to 2^32 - 1. */
  next32(): number {
    const scrambled = Math.imul(this.#b, 5);
    const result = Math.imul((scrambled << 7) | (scrambled >>> 25), 9) >>> 0;
    const shifted = this.#b << 9;
    this.#c ^= this.#a;
    this.#d ^= this.#b;
    this.#b ^= this.#c;
    this.#a ^= this.#d;
    this.#c ^= shifted;
    this.#d = (this.#d << 11) | (this.#d >>> 21);
    return result;
  }

  /** 0 ≤ result < 1. */
  unit(): number {
    return this.next32() / 4294967296;
  }

  /** An integer, 0 ≤ result < `limit`; `limit` is 1 to 2^53 - 1. */
  below(limit: number): number {
    if (limit <= 4294967296) return Math.floor(this.unit() * limit);
    const wide = (this.next32() * 2097152 + (this.next32() >>> 11)) / 9007199254740992;
    return Math.floor(wide * limit);
  }

  /** Any number, `low` ≤ result < `high`. */
  between(low: number, high: number): number {
    return low + this.unit() * (high - low);
  }

  chance(probability: number): boolean {
    return probability > 0 && this.unit() < probability;
  }

  /** The waiting time of a Poisson process with this mean. */
  exponential(mean: number): number {
    return -Math.log(1 - this.unit()) * mean;
  }

  pick<Item>(items: readonly Item[]): Item {
    const item = items[this.below(items.length)];
    if (item === undefined) throw new RangeError("a pick from an empty list");
    return item;
  }

  fill(target: Uint8Array): Uint8Array {
    let at = 0;
    for (; at + 4 <= target.byteLength; at += 4) {
      const word = this.next32();
      target[at] = word;
      target[at + 1] = word >>> 8;
      target[at + 2] = word >>> 16;
      target[at + 3] = word >>> 24;
    }
    for (; at < target.byteLength; at++) target[at] = this.next32();
    return target;
  }
}

/** FNV-1a with a final mix. */
function hashText(text: string): number {
  let hash = 0x811c9dc5;
  for (let index = 0; index < text.length; index++) hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  return hash ^ (hash >>> 13);
}
