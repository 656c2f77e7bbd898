import { suite } from "uvu";
import * as assert from "uvu/assert";
import { GroupBench, type Tracked } from "./support/group_bench.ts";
import { PlainCache } from "./support/plain_cache.ts";

const test = suite("write_through");

function stamped(stamp: number): Uint8Array {
  const payload = new Uint8Array(4096);
  for (let at = 0; at < 8; at++) new DataView(payload.buffer).setUint32(at * 512, stamp, true);
  return payload;
}

function write(bench: GroupBench, block: number, stamp: number): Tracked {
  return bench.request("write", 8 * block, 8, stamped(stamp));
}

function stampAt(bench: GroupBench, block: number): number {
  const tracked = bench.request("read", 8 * block, 8, null);
  bench.until(() => tracked.done);
  assert.is(tracked.error, null);
  return new DataView(tracked.target.buffer).getUint32(0, true);
}

/** The power goes while the battery is dead: nothing in the cache is left. */
function loseCache(bench: GroupBench): void {
  bench.crash();
  bench.cache = new PlainCache(bench.clock, bench.cache.sizeBytes, bench.cache.domain);
  bench.cacheTrusted = false;
}

for (let seed = 1; seed <= 8; seed++) {
  test(`the battery fails, later the power (seed ${seed}) -> every acknowledged write is on the shelf`, () => {
    const bench = new GroupBench(seed, "battery");
    bench.start();
    bench.serve();
    const acknowledged = new Map<number, number>();
    const undecided = new Map<number, Set<number>>();
    const pending: { tracked: Tracked; block: number; stamp: number }[] = [];
    const settle = () => {
      for (const one of [...pending]) {
        if (!one.tracked.done) continue;
        assert.is(one.tracked.error, null);
        pending.splice(pending.indexOf(one), 1);
        acknowledged.set(one.block, Math.max(acknowledged.get(one.block) ?? 0, one.stamp));
      }
    };
    const failsAt = 5 + bench.prng.below(40);
    for (let stamp = 1; stamp <= 120; stamp++) {
      if (stamp === failsAt) {
        bench.group.writeThrough.begin();
        assert.ok(bench.group.writeThrough.atRiskBytes > 0 || bench.group.destager.dirtyBytes === 0);
      }
      const block = bench.prng.below(200);
      const tracked = write(bench, block, stamp);
      undecided.set(block, (undecided.get(block) ?? new Set()).add(stamp));
      pending.push({ tracked, block, stamp });
      for (let steps = bench.prng.below(3); steps > 0; steps--) bench.clock.step();
      settle();
    }
    bench.until(() => bench.group.writeThrough.atRiskBytes === 0);
    settle();
    loseCache(bench);
    bench.start();
    assert.not(bench.group.cacheWasLost);
    bench.serve();
    for (const [block, stamp] of acknowledged) {
      const found = stampAt(bench, block);
      assert.ok(
        found === stamp || (found > stamp && undecided.get(block)!.has(found)),
        `block ${block} holds ${found}, acknowledged was ${stamp}`,
      );
    }
  });
}

test("write-through is on -> nothing is acknowledged before the shelf has flushed it", () => {
  const bench = new GroupBench(1, "battery");
  bench.start();
  bench.serve();
  bench.group.writeThrough.begin();
  bench.until(() => bench.group.writeThrough.atRiskBytes === 0);
  bench.store.failure = { code: "disk-failed", text: "no answer" };
  const tracked = write(bench, 3, 1);
  for (let steps = 0; steps < 50; steps++) bench.clock.step();
  assert.not(tracked.done, "the shelf has not taken it");
  assert.ok(bench.events.some((event) => event.startsWith("write-through-failed")));
  bench.store.failure = null;
  bench.until(() => tracked.done);
  assert.is(tracked.error, null);
});

test("the battery is good again -> write-back, and the cache's copy counts after a crash", () => {
  const bench = new GroupBench(2, "battery");
  bench.start();
  bench.serve();
  bench.group.writeThrough.begin();
  const first = write(bench, 1, 1);
  bench.until(() => first.done);
  let ended = false;
  bench.group.writeThrough.end(() => (ended = true));
  bench.until(() => ended);
  const second = write(bench, 2, 2);
  bench.until(() => second.done);
  bench.crash();
  bench.start();
  bench.serve();
  assert.is(stampAt(bench, 1), 1);
  assert.is(stampAt(bench, 2), 2);
});

test("the cache is lost with writes in it -> the group says so", () => {
  const bench = new GroupBench(3, "battery");
  bench.start();
  bench.serve();
  const tracked = write(bench, 1, 1);
  bench.until(() => tracked.done);
  loseCache(bench);
  bench.start();
  assert.ok(bench.group.cacheWasLost);
});

test("an orderly stop, then another cache -> nothing is lost, and nothing is said to be", () => {
  const bench = new GroupBench(4, "battery");
  bench.start();
  bench.serve();
  const tracked = write(bench, 1, 1);
  bench.until(() => tracked.done);
  let stopped = false;
  bench.group.stop(() => (stopped = true));
  bench.until(() => stopped);
  loseCache(bench);
  bench.start();
  assert.not(bench.group.cacheWasLost);
  bench.serve();
  assert.is(stampAt(bench, 1), 1);
});

test.run();
