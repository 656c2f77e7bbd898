/** A pair whose profiles say different times: they are changed one after the other. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { PairBench } from "./support/pair_bench.ts";

const test = suite("pair_unlike_times");

test("the one that takes over has the shorter limit, and the disks fence -> the other one's read lease is over first", () => {
  for (const seed of [1300, 1301, 1302]) {
    const bench = new PairBench(seed, { fencing: "atomic" });
    bench.start(bench.a);
    bench.start(bench.b, {}, { heartbeatMs: 50, limitMs: 250, hungMs: 1000 });
    bench.untilHalves("a", "b");
    bench.untilAllMirrored();
    bench.runFor(500);
    bench.a.machine.pause();
    const pausedMs = bench.world.nowMs;
    const isTaken = () => bench.b.appliance!.halves[0]!.role === "owner";
    bench.until("a takeover", isTaken);
    // What it counted last it may have counted a heartbeat before.
    assert.ok(bench.world.nowMs - pausedMs >= 1000 - 100, `${bench.world.nowMs - pausedMs} ms`);
  }
});

test("the one that takes over has the longer limit -> its own counts", () => {
  const bench = new PairBench(1303, { fencing: "atomic" });
  bench.start(bench.a, {}, { heartbeatMs: 50, limitMs: 250, hungMs: 1000 });
  bench.start(bench.b);
  bench.untilHalves("a", "b");
  bench.untilAllMirrored();
  bench.a.machine.pause();
  const pausedMs = bench.world.nowMs;
  bench.until("a takeover", () => bench.b.appliance!.halves[0]!.role === "owner");
  assert.ok(bench.world.nowMs - pausedMs >= 1000 - 50);
});

test.run();
