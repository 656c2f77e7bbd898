/**
 * The loop that looks for what nobody has thought of: a session of the pool is mutated and played; one that reaches something new
 * joins the pool. What counts as reached is the target's word: replies, errors, states, and their order.
 *
 * Invariant: the same seed gives the same cases as long as the target reports the same.
 */
import { Prng } from "../../hal/mock/prng.ts";
import { mutate } from "./mutate.ts";
import type { CaseReport, FuzzCase, FuzzTarget, Script } from "./target.ts";

/** 4,096 sessions of some KiB each. */
const poolMax = 4096;
const twoTo31 = 2 ** 31;

export class Fuzzer {
  caseCount = 0;
  readonly reached = new Set<string>();
  readonly #target: FuzzTarget;
  readonly #prng: Prng;
  readonly #pool: Script[];
  readonly #recorded: number;

  constructor(target: FuzzTarget, seed: number) {
    this.#target = target;
    this.#prng = new Prng(seed, `fuzz ${target.name}`);
    this.#pool = [...target.corpus()];
    this.#recorded = this.#pool.length;
  }

  get poolSize(): number {
    return this.#pool.length;
  }

  /** First the recorded sessions as they are, then mutants. */
  next(): FuzzCase {
    const prng = this.#prng;
    const scenarioSeed = prng.below(twoTo31);
    const index = this.caseCount++;
    const recorded = index < this.#recorded ? this.#pool[index] : undefined;
    if (recorded !== undefined) return { script: recorded, scenarioSeed };
    // Half of the time one of the newest: what has just been discovered has been tried least.
    const size = this.#pool.length;
    const newest = Math.min(size, 32);
    const base = this.#pool[prng.chance(0.5) ? size - 1 - prng.below(newest) : prng.below(size)] ?? [];
    return { script: mutate(base, prng, { pool: this.#pool, numbers: this.#target.numbers }), scenarioSeed };
  }

  /** Keeps a case that reached something new. */
  learn({ script }: FuzzCase, { reached }: CaseReport): void {
    const before = this.reached.size;
    for (const word of reached) this.reached.add(word);
    if (this.reached.size === before) return;
    if (this.#pool.length < poolMax) this.#pool.push(script);
    else this.#pool[this.#recorded + this.#prng.below(poolMax - this.#recorded)] = script;
  }
}
