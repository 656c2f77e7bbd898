/**
 * How many of the cache's segments each group's log may borrow, so that one group cannot starve the others.
 *
 * Half of the cache is guaranteed, in equal shares; the other half goes to whoever comes first. Of n groups on 64 segments each is
 * sure of floor(64 / 2n): two groups of 16 each, with 32 for both.
 *
 * Invariants:
 * - What is lent is never called back: after a group has joined, its guarantee is met as the others give back.
 * - Borrowing beyond the own share never touches what another group is still sure of.
 */
import { assert } from "../codec/assert.ts";

export class CacheCredits {
  readonly #segmentCount: number;
  readonly #held = new Map<string, number>();

  constructor(segmentCount: number) {
    this.#segmentCount = segmentCount;
  }

  /** How many groups can be sure of at least two segments: one to write into while the other goes home. */
  get groupsMax(): number {
    return Math.floor(this.#segmentCount / 4);
  }

  join(group: string): void {
    if (!this.#held.has(group)) this.#held.set(group, 0);
  }

  leave(group: string): void {
    assert((this.#held.get(group) ?? 0) === 0, "a group gives all segments back before it leaves");
    this.#held.delete(group);
  }

  took(group: string): void {
    this.#held.set(group, (this.#held.get(group) ?? 0) + 1);
  }

  gave(group: string): void {
    const held = this.#held.get(group) ?? 0;
    assert(held > 0, "a group gives back what it has borrowed");
    this.#held.set(group, held - 1);
  }

  /** How many of `free` segments the group may borrow now. */
  allowance(group: string, free: number): number {
    const guaranteed = Math.floor(this.#segmentCount / (2 * Math.max(1, this.#held.size)));
    let owed = 0;
    for (const [other, held] of this.#held) if (other !== group) owed += Math.max(0, guaranteed - held);
    const own = Math.max(0, guaranteed - (this.#held.get(group) ?? 0));
    return Math.min(free, Math.max(own, free - owed));
  }
}
