/** What a start makes of the other half's claims (`other_claims.ts`, `moved_on.ts`). */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { endMovedOn } from "../../firmware/manage/moved_on.ts";
import { claimsOfOther } from "../../firmware/pair/other_claims.ts";
import type { Partnership } from "../../firmware/pair/partnership.ts";
import type { GroupClaim } from "../../firmware/store/store.ts";
import { HalvesBench } from "./support/halves_bench.ts";

const test = suite("pair_other_claims");
const id = "aa".repeat(16);
const mine: GroupClaim = { id, claim: 2, leaving: false };

/** Half 1 has a group that has come from half 0. */
function movedGroup(seed: number): HalvesBench {
  const bench = new HalvesBench({ seed }).create();
  bench.createGroup(0, id);
  bench.move(0, id);
  return bench;
}

/** The partnership of half 1, as half 0 has it. */
function partnershipOf(parts: Partial<Pick<Partnership, "engine" | "askOwner">>): Partnership {
  return { half: 1, engine: null, askOwner: () => null, ...parts } as unknown as Partnership;
}

/** Disks go on only while the world does. */
async function ended<T>(bench: HalvesBench, work: Promise<T>): Promise<T> {
  let isOver = false;
  void work.finally(() => {
    isOver = true;
  });
  while (!isOver) {
    bench.world.runUntil(() => false, 1000);
    await Promise.resolve();
  }
  return await work;
}

test("the other half's claims -> its engine's here, its owner's at the partner, or the disks'", async () => {
  const bench = movedGroup(1);
  const engine = { pool: bench.pool(1) } as unknown as Partnership["engine"];
  const ask = (other: Partnership) => ended(bench, claimsOfOther(other, "oak", bench.hal(0)));
  assert.equal(await ask(partnershipOf({ engine })), [mine]);
  const groups = [{ ...mine, claim: 7 }];
  const answer = async () => ({ status: 200, body: { groups, slabs: "", freeBytes: 0, slabBytes: 1 } });
  assert.equal(await ask(partnershipOf({ askOwner: () => answer() })), groups);
  const lost = async () => ({ status: 503, body: null });
  assert.equal(await ask(partnershipOf({ askOwner: () => lost() })), [mine]);
  assert.equal(await ask(partnershipOf({})), [mine]);
  for (const disk of bench.shelf.slots) disk!.faults.readErrorRate = 1;
  assert.is(await ask(partnershipOf({})), null);
});

test("a start whose group the other half claims higher -> it ends here; lower, not at all, or nobody can tell -> it stays", async () => {
  for (const [theirs, stays] of [
    [[{ id, claim: 3, leaving: false }], false],
    [[{ id, claim: 4, leaving: true }], false],
    [[{ id, claim: 1, leaving: true }], true],
    [[{ id: "bb".repeat(16), claim: 3, leaving: false }], true],
    [null, true],
  ] as const) {
    const bench = movedGroup(2);
    const { trouble, ended: gone } = await ended(
      bench,
      endMovedOn(bench.pool(1), async () => theirs),
    );
    assert.is(trouble, null);
    assert.equal(gone, stays ? [] : [id]);
    assert.equal(bench.claimsOnDisk(1).claims, stays ? [mine] : []);
  }
});

test("a group that has never moved -> nobody is asked; one that cannot be ended -> the start is refused", async () => {
  const bench = new HalvesBench({ seed: 3 }).create();
  bench.createGroup(0, id);
  const never = endMovedOn(bench.pool(0), () => Promise.reject(new Error("asked")));
  assert.equal(await ended(bench, never), { trouble: null, ended: [] });
  bench.move(0, id);
  bench.shelf.disk(0).failNext("write");
  const failed = endMovedOn(bench.pool(1), async () => [{ id, claim: 3, leaving: false }]);
  assert.match((await ended(bench, failed)).trouble ?? "", /which the other half of the array has/);
  assert.equal(bench.pool(1).groupClaims(), [mine]);
});

test.run();
