import { suite } from "uvu";
import * as assert from "uvu/assert";
import { CacheCredits } from "../../firmware/cache/cache_credits.ts";
import { Prng } from "../../hal/mock/prng.ts";

const test = suite("cache_credits");

function borrowAll(credits: CacheCredits, group: string, free: number): number {
  let taken = 0;
  while (credits.allowance(group, free - taken) > 0) {
    credits.took(group);
    taken++;
  }
  return taken;
}

test("a group alone -> the whole cache", () => {
  const credits = new CacheCredits(64);
  credits.join("demo");
  assert.is(borrowAll(credits, "demo", 64), 64);
});

test("one of two groups takes all it can -> the other still has its guarantee", () => {
  const credits = new CacheCredits(64);
  credits.join("busy");
  credits.join("quiet");
  assert.is(borrowAll(credits, "busy", 64), 48);
  assert.is(credits.allowance("quiet", 16), 16);
});

test("a group joins when all is lent -> what comes back is its, up to its guarantee", () => {
  const credits = new CacheCredits(64);
  credits.join("busy");
  assert.is(borrowAll(credits, "busy", 64), 64);
  credits.join("late");
  assert.is(credits.allowance("late", 0), 0);
  credits.gave("busy");
  assert.is(credits.allowance("busy", 1), 0);
  assert.is(credits.allowance("late", 1), 1);
});

test("as many groups as the cache allows -> each is sure of two segments", () => {
  const credits = new CacheCredits(64);
  const groups = Array.from({ length: credits.groupsMax }, (_, index) => `group-${index}`);
  for (const group of groups) credits.join(group);
  let free = 64;
  for (const group of groups) {
    const taken = borrowAll(credits, group, free);
    assert.ok(taken >= 2, `${group} has ${taken}`);
    free -= taken;
  }
});

test("a group leaves -> its share is the others'", () => {
  const credits = new CacheCredits(16);
  credits.join("demo");
  credits.join("gone");
  assert.is(credits.allowance("demo", 16), 12);
  credits.leave("gone");
  assert.is(credits.allowance("demo", 16), 16);
});

test("random borrowing by many -> nobody below its guarantee is ever refused", () => {
  const prng = new Prng(7, "credits");
  const segments = 61;
  const groups = ["a", "b", "c", "d", "e"];
  const credits = new CacheCredits(segments);
  const held = new Map(groups.map((group) => [group, 0]));
  for (const group of groups) credits.join(group);
  let free = segments;
  for (let round = 0; round < 20_000; round++) {
    const group = prng.pick(groups);
    const has = held.get(group)!;
    if (prng.chance(0.55)) {
      if (credits.allowance(group, free) === 0) {
        assert.ok(has >= 6, `${group} with ${has} of the 6 that it is sure of`);
        continue;
      }
      credits.took(group);
      held.set(group, has + 1);
      free--;
      assert.ok(free >= 0);
    } else if (has > 0) {
      credits.gave(group);
      held.set(group, has - 1);
      free++;
    }
  }
});

test.run();
