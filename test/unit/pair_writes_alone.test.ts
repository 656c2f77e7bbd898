/** `unmirrored = "write-back"`: an owner without a partner acknowledges from its own write cache, at the operator's risk. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { StatusJson } from "../../firmware/manage/status_json.ts";
import { PairBench, type PairMachine, type PathHost } from "./support/pair_bench.ts";

const test = suite("pair_writes_alone");
const mebibyte = 1048576;

function benchWith(seed: number): { bench: PairBench; host: PathHost } {
  const bench = new PairBench(seed, { writesBackAlone: true });
  bench.startBoth();
  bench.untilHalves("a", "b");
  bench.addVolume("v1", 64 * mebibyte);
  const host = bench.host("v1", 500);
  host.run();
  untilWrites(bench, host, 300);
  return { bench, host };
}

function untilWrites(bench: PairBench, host: PathHost, count = 200): void {
  const before = host.acks;
  bench.until("writes", () => host.acks > before + count);
}

/** As the owner of both halves shows it. */
function cacheOf(bench: PairBench, at: PairMachine): { mode: string; risk: number; warned: boolean } {
  const { appliances, warnings } = bench.call<StatusJson>(at, "GET", "/v1/status");
  const modes = bench.call<{ mode: string; cacheAtRiskBytes: number }[]>(at, "GET", "/v1/caches");
  assert.ok(appliances.length === 2);
  return {
    mode: modes.every(({ mode }) => mode === "write-back") ? "write-back" : "write-through",
    risk: modes.reduce((sum, { cacheAtRiskBytes }) => sum + cacheAtRiskBytes, 0),
    warned: warnings.some(({ code }) => code === "pair-writes-back-alone"),
  };
}

function untilAlone(bench: PairBench, at: PairMachine): void {
  bench.until(`${at.name} writes back alone`, () =>
    at.appliance!.halves.every(({ mirror }) => mirror.isTrusted && mirror.battery() === "good"),
  );
  bench.until("write-back", () => cacheOf(bench, at).mode === "write-back");
}

test("the partner dies -> the shelf gets everything once, then write-back alone, and the status says what is at risk", () => {
  const { bench, host } = benchWith(401);
  assert.not(cacheOf(bench, bench.a).warned);
  bench.b.machine.crash();
  untilAlone(bench, bench.a);
  // The shelf takes nothing any more: what is acknowledged now is in the cache.
  for (const disk of bench.shelf.slots) disk!.faults.writeMs = 5000;
  untilWrites(bench, host);
  const { risk, warned } = cacheOf(bench, bench.a);
  assert.ok(warned);
  assert.ok(risk > 0, `${risk} bytes`);
  for (const disk of bench.shelf.slots) disk!.faults.writeMs = 0.1;
  bench.start(bench.b);
  bench.untilAllMirrored();
  assert.not(cacheOf(bench, bench.a).warned);
  untilWrites(bench, host);
  bench.a.machine.crash();
  bench.untilHalves("b", "b");
  untilWrites(bench, host);
  host.rest();
  assert.is(host.verify(), null);
});

test("its battery fails while it writes alone -> the partner still gets a copy when it is back", () => {
  const { bench, host } = benchWith(405);
  bench.b.machine.crash();
  untilAlone(bench, bench.a);
  bench.a.machine.nvram.failBattery();
  bench.until("write-through", () => cacheOf(bench, bench.a).mode === "write-through");
  untilWrites(bench, host);
  bench.start(bench.b);
  bench.untilAllMirrored();
  untilWrites(bench, host);
  host.rest();
  assert.is(host.verify(), null);
});

test("its battery fails while it writes alone, and its power goes -> what it has acknowledged is on the shelf, and nobody has to give up a cache", () => {
  const { bench, host } = benchWith(404);
  bench.b.machine.crash();
  untilAlone(bench, bench.a);
  bench.a.machine.nvram.failBattery();
  bench.until("the shelf has everything", () => bench.a.appliance!.halves.every(({ mirror }) => !mirror.isTrusted));
  untilWrites(bench, host);
  bench.runFor(1000);
  bench.a.machine.powerLoss();
  bench.a.machine.nvram.repairBattery();
  bench.start(bench.a);
  bench.untilHalves("a", "a");
  untilWrites(bench, host);
  host.rest();
  assert.is(host.verify(), null);
});

test("the partner comes back, and the owner dies at any moment of its copying -> the partner serves all, or refuses to serve without", () => {
  const outcomes = new Set<string>();
  for (let step = 0; step < 12; step++) {
    const { bench, host } = benchWith(410 + step);
    bench.b.machine.crash();
    untilAlone(bench, bench.a);
    untilWrites(bench, host);
    bench.start(bench.b);
    bench.until("they meet", () => bench.b.saw("partner-met"));
    bench.runFor(step * 1.5);
    bench.a.machine.crash();
    bench.until(
      "it owns, or has refused",
      () => bench.b.ended !== null || bench.b.appliance!.halves.every(({ engine }) => engine !== null),
    );
    outcomes.add(bench.b.ended === null ? "owns" : "refused");
    if (bench.b.ended !== null) {
      assert.match(bench.b.ended, /oak-a has gone on without it|newest writes are in that of oak-a/);
      // It may have gone on with the half without groups: both are needed again.
      bench.start(bench.a);
      bench.start(bench.b);
      bench.untilAllMirrored();
    }
    untilWrites(bench, host);
    host.rest();
    assert.is(host.verify(), null, `step ${step}, ${bench.b.ended}`);
  }
  assert.equal([...outcomes].sort(), ["owns", "refused"]);
});

test("the owner that wrote alone loses its power -> it comes back with everything, and its partner does not start without it", () => {
  const { bench, host } = benchWith(430);
  bench.b.machine.crash();
  untilAlone(bench, bench.a);
  untilWrites(bench, host);
  bench.a.machine.powerLoss();
  bench.start(bench.b);
  bench.until("refused", () => bench.b.ended !== null);
  bench.start(bench.a);
  bench.untilHalves("a", "a");
  bench.start(bench.b);
  bench.untilAllMirrored();
  untilWrites(bench, host);
  host.rest();
  assert.is(host.verify(), null);
});

test("started with --accept-cache-loss, and the partner writes its half alone, and dies -> that half is refused, not served without", () => {
  const bench = new PairBench(440, { writesBackAlone: true });
  bench.start(bench.a, { acceptCacheLoss: true });
  bench.start(bench.b);
  bench.untilHalves("a", "b");
  bench.untilAllMirrored();
  bench.call(bench.a, "POST", "/v1/hosts", { name: "any", any: true });
  for (const [name, owner] of [
    ["v0", "oak-a"],
    ["v1", "oak-b"],
  ] as const) {
    bench.call(bench.a, "POST", "/v1/volumes", { name, sizeBytes: 64 * mebibyte, owner });
    bench.call(bench.a, "POST", "/v1/hosts/any/map", { volume: name });
  }
  const host = bench.host("v1", 500, [bench.b.address]);
  host.run();
  untilWrites(bench, host);
  bench.cut(true);
  const { mirror } = bench.b.appliance!.halves[1]!;
  bench.until("it writes back alone", () => mirror.isTrusted && mirror.battery() === "good");
  for (const disk of bench.shelf.slots) disk!.faults.writeMs = 200;
  untilWrites(bench, host);
  bench.b.machine.crash();
  for (const disk of bench.shelf.slots) disk!.faults.writeMs = 0.1;
  bench.until("the half is refused", () => bench.a.appliance!.halves[1]!.role === "refused");
  assert.match(
    bench.a.appliance!.halves[1]!.refusal,
    /oak-b has gone on without it|newest writes are in that of oak-b/,
  );
  assert.is(bench.a.ended, null, "it serves its own half");
  bench.cut(false);
  bench.start(bench.b);
  bench.untilHalves("a", "b");
  bench.untilAllMirrored();
  untilWrites(bench, host);
  host.rest();
  assert.is(host.verify(), null);
});

test.run();
