/** A pair that has lost writes with its write caches, and starts again and again. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { benchWithHost } from "./support/pair_bench.ts";

const test = suite("pair_lost_caches");

test("a group has lost writes with both caches, and a start from the shelf alone ends at any step -> the next one needs no word of the operator", () => {
  for (let step = 0; step < 12; step++) {
    const { bench } = benchWithHost(21);
    for (const { machine } of bench.machines) {
      machine.crash();
      machine.nvram.replace();
    }
    bench.start(bench.a, { acceptCacheLoss: true });
    bench.until("it owns", () => bench.a.role === "owner");
    const group = bench.a.partnership!.engine!.groups.all()[0]!;
    assert.ok(group.cacheWasLost);
    bench.until("the shelf has everything", () => group.writeThrough.holdsAll);
    bench.runFor(50);
    bench.a.machine.crash();
    bench.start(bench.b);
    bench.until("it starts", () => bench.b.role === "starting");
    bench.runFor(2 + step * 0.25);
    bench.b.machine.crash();
    bench.start(bench.b);
    bench.until("it owns, or has refused", () => bench.b.role === "owner" || bench.b.ended !== null);
    assert.is(bench.b.ended, null, `step ${step}`);
  }
});

test.run();
