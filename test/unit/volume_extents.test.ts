import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { HomeExtent } from "../../firmware/store/store.ts";
import { mergeExtents } from "../../firmware/volume/group_extents.ts";
import { Prng } from "../../hal/mock/prng.ts";

const test = suite("volume_extents");

const unknown = 0;
const data = 1;
const zero = 2;

function asExtents(firstBlock: number, allocated: readonly boolean[]): HomeExtent[] {
  const extents: { firstBlock: number; blockCount: number; allocated: boolean }[] = [];
  allocated.forEach((one, at) => {
    const last = extents.at(-1);
    if (last?.allocated === one) last.blockCount++;
    else extents.push({ firstBlock: firstBlock + at, blockCount: 1, allocated: one });
  });
  return extents;
}

test("random homes and index views -> each block as the rule says, extents as few as can be", () => {
  const prng = new Prng(1, "extents");
  for (let round = 0; round < 500; round++) {
    const firstBlock = prng.below(1000);
    const count = 1 + prng.below(64);
    const home = Array.from({ length: count }, () => prng.chance(0.5));
    const view = () => Uint8Array.from({ length: count }, () => (prng.chance(0.6) ? unknown : 1 + prng.below(2)));
    const before = prng.chance(0.2) ? null : view();
    const after = prng.chance(0.2) ? null : view();
    const expected = home.map((there, at) => {
      if (after?.[at] === zero) return false;
      return there || after?.[at] === data || before?.[at] === data;
    });
    const limit = prng.chance(0.5) ? 1000 : 1 + prng.below(6);
    const merged = mergeExtents(asExtents(firstBlock, home), before, after, firstBlock, limit);
    const all = asExtents(firstBlock, expected);
    assert.ok(merged.length >= 1 && merged.length <= Math.max(limit, before === null && after === null ? 64 : 0));
    assert.equal(merged, all.slice(0, merged.length));
    if (limit === 1000) assert.equal(merged, all);
  }
});

test.run();
