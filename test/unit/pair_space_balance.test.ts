/** Space from one half for the other (`space_balance.ts`), between two real halves of a pool. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Tenure } from "../../firmware/manage/tenure.ts";
import { HalfCalls } from "../../firmware/pair/half_calls.ts";
import type { HostFront } from "../../firmware/pair/host_front.ts";
import type { Engine } from "../../firmware/pair/partnership_options.ts";
import { SpaceBalance } from "../../firmware/pair/space_balance.ts";
import type { Half } from "../../firmware/store/geometry.ts";
import type { LogSlot } from "../../firmware/store/store.ts";
import { HalvesBench } from "./support/halves_bench.ts";
import { mebibyte } from "./support/store_bench.ts";

const test = suite("pair_space_balance");

/** Half 0, with a group that has reserved everything there; half 1 is empty. */
function fullHalf(seed: number) {
  const bench = new HalvesBench({ seed }).create();
  const group = bench.createGroup(0, "a".repeat(32));
  group.createVolume({ number: 1, sizeBytes: 64 * mebibyte });
  bench.done((done) => group.commit(0, done));
  while (group.reserveChunks(1));
  const engineOf = (half: Half) => ({ pool: bench.pool(half) }) as unknown as Engine;
  const [ours, theirs] = [engineOf(0), engineOf(1)];
  const calls = new HalfCalls({
    tenure: new Tenure(),
    engine: () => theirs,
    front: {} as HostFront,
    move: () => Promise.reject(),
    ready: async () => {},
  });
  const balance = new SpaceBalance({
    tenure: new Tenure(),
    half: 0,
    events: { emit: (code, text) => assert.unreachable(`${code}: ${text}`) },
    engine: () => ours,
    askOther: (path, body) => calls.answer(path, JSON.stringify(body)),
    maskCeded: (claims) => claims,
  });
  return { bench, group, balance };
}

/** What is under way between the halves goes on only while the world does. */
async function ended<T>(bench: HalvesBench, work: Promise<T>): Promise<T> {
  let isOver = false;
  const result = work.finally(() => {
    isOver = true;
  });
  while (!isOver) {
    bench.world.runUntil(() => false, 1);
    await Promise.resolve();
  }
  return await result;
}

test("all that is free in a half is promised to data, as much as the other half has free -> its log gets a slab from there", async () => {
  const { bench, group, balance } = fullHalf(1);
  const allocate = () => bench.wait<LogSlot | null>((done) => group.allocateLogSlot(done));
  const theirs = bench.pool(1).usage().freeBytes;
  assert.ok(theirs - bench.pool(0).usage().freeBytes < 4 * mebibyte);
  assert.not.ok(allocate());
  assert.ok(await ended(bench, balance.more()));
  assert.ok(allocate());
  bench.checkSlabs();
});

test("a half has much that is free and promised -> it asks for more by itself, and gets half of what the other one has", async () => {
  const { bench, balance } = fullHalf(2);
  const theirs = bench.pool(1).usage().freeBytes;
  await ended(bench, balance.look());
  const left = bench.pool(1).usage().freeBytes;
  assert.ok(left >= theirs / 2 - mebibyte && left <= theirs / 2, `${left} of ${theirs}`);
  assert.is(bench.pool(0).usage().spareBytes, theirs - left);
  bench.checkSlabs();
});

test.run();
