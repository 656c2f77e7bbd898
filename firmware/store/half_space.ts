/**
 * Free slabs between the halves of a pool.
 *
 *     cede: elsewhere here, durably ──slab numbers──▶ receive: free there, durably
 *
 * Invariants:
 * - A slab is elsewhere durably in the table of the half that cedes it before the other half hears of it: in no crash do both have it.
 *   Until then this half claims it, and takes it for no orphan.
 * - What a crash leaves elsewhere in both tables is an orphan, and comes back by the comparison of the two.
 */
import type { Clock } from "../../hal/api/clock.ts";
import { metadataFailed, type SlabTable } from "./slab_table.ts";
import type { StoreDone, StoreError } from "./store.ts";

export class HalfSpace {
  readonly #table: SlabTable;
  readonly #clock: Clock;
  /** Elsewhere in memory, and not durably yet. */
  readonly #ceding = new Set<number>();

  constructor(table: SlabTable, clock: Clock) {
    this.#table = table;
    this.#clock = clock;
  }

  cede(slabCount: number, done: (error: StoreError | null, slabs: readonly number[]) => void): void {
    const slabs = this.#table.cede(slabCount);
    for (const slab of slabs) this.#ceding.add(slab);
    this.#save((error) => {
      for (const slab of slabs) {
        this.#ceding.delete(slab);
        // Nobody has heard of it.
        if (error) this.#table.giveBack(slab);
      }
      done(error, error ? [] : slabs);
    });
  }

  receive(slabs: readonly number[], done: StoreDone): void {
    const end = this.#table.owner.length;
    const isSlab = (slab: number) => Number.isInteger(slab) && slab >= 1 && slab < end;
    if (!slabs.every(isSlab)) {
      const text = "a slab that is said to be ceded is not of this pool; nothing of the message was used";
      this.#clock.defer(() => done({ code: "corrupt", text }));
      return;
    }
    for (const slab of slabs) if (this.#isTheirs(slab)) this.#table.giveBack(slab);
    this.#save(done);
  }

  claims(): Uint8Array {
    const end = this.#table.owner.length;
    const bits = new Uint8Array(Math.ceil(end / 8));
    for (let slab = 1; slab < end; slab += 1) {
      if (!this.#isTheirs(slab)) bits[slab >> 3]! |= 1 << (slab & 7);
    }
    return bits;
  }

  receiveOrphans(theirClaims: Uint8Array, done: (error: StoreError | null, slabCount: number) => void): void {
    const end = this.#table.owner.length;
    if (theirClaims.byteLength !== Math.ceil(end / 8)) {
      const text = `the other half's claims have ${theirClaims.byteLength} bytes, not ${Math.ceil(end / 8)}: it is not of this pool`;
      this.#clock.defer(() => done({ code: "corrupt", text }, 0));
      return;
    }
    let slabCount = 0;
    for (let slab = 1; slab < end; slab += 1) {
      if (!this.#isTheirs(slab) || (theirClaims[slab >> 3]! & (1 << (slab & 7))) !== 0) continue;
      this.#table.giveBack(slab);
      slabCount += 1;
    }
    this.#save((error) => done(error, error ? 0 : slabCount));
  }

  /** Or nobody's. */
  #isTheirs(slab: number): boolean {
    return this.#table.isElsewhere(slab) && !this.#ceding.has(slab);
  }

  #save(done: StoreDone): void {
    this.#table.save((error) => done(error && metadataFailed(error)));
  }
}
