/** A pair whose cables, power ports and processes fail: nobody takes over without proof, and nothing is lost (D1, L1). */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { benchWithHost } from "./support/pair_bench.ts";

const test = suite("pair_faults");

test("the interconnect is cut -> the owner goes on, unmirrored, and nobody takes over; joined -> mirrored again", () => {
  const { bench, host } = benchWithHost(6);
  bench.world.cut("oak-a", "oak-b");
  bench.until("isolated", () => bench.b.state === "isolated");
  bench.until("unmirrored", () => bench.a.state === "degraded");
  const acks = host.acks;
  bench.until("writes go on", () => host.acks > acks + 500);
  bench.runFor(5000);
  assert.is(bench.owner, bench.a);
  assert.is(bench.a.machine.bootCount, 1);
  assert.is(bench.b.machine.bootCount, 1);
  bench.world.join("oak-a", "oak-b");
  bench.untilAllMirrored();
  host.rest();
  bench.settleStores();
  assert.ok(bench.cachesAreAlike());
  assert.is(host.verify(), null);
});

test("the owner is stopped by a signal and goes on after the takeover -> it was switched off before the partner took over", () => {
  const { bench, host } = benchWithHost(7);
  bench.a.machine.pause();
  bench.until("the partner owns", () => bench.b.role === "owner", 5000);
  assert.not(bench.a.machine.isUp, "fenced below the firmware");
  const acks = host.acks;
  bench.until("writes go on", () => host.acks > acks + 500);
  host.rest();
  assert.is(host.verify(), null);
});

test("one of two interconnect NICs is cut -> nothing but a warning", () => {
  const { bench, host } = benchWithHost(8);
  for (const nic of ["ic0", "ic1"]) {
    for (const [from, to] of [
      ["oak-a", "oak-b"],
      ["oak-b", "oak-a"],
    ] as const)
      bench.world.shape(from, to, { cut: true }, nic);
    bench.runFor(3000);
    assert.is(bench.a.state, "mirrored", nic);
    const { warnings } = bench.a.partnership!.engine!.control.status();
    assert.ok(warnings.some(({ code, text }) => code === "interconnect-nic-down" && text.startsWith(nic)));
    bench.world.join("oak-a", "oak-b");
    bench.until("both NICs", () => bench.a.partnership!.status().nics.every(({ up }) => up));
  }
  assert.not(bench.a.saw("partner-lost"));
  host.rest();
  bench.settleStores();
  assert.ok(bench.cachesAreAlike());
  assert.is(host.verify(), null);
});

test("both start while the interconnect is cut -> the preferred one switches the other off, and serves", () => {
  const { bench, host } = benchWithHost(14);
  host.rest();
  for (const { machine } of bench.machines) machine.crash();
  bench.world.cut("oak-a", "oak-b");
  bench.start(bench.b);
  bench.start(bench.a);
  bench.until("the preferred one owns", () => bench.a.role === "owner");
  assert.not(bench.b.machine.isUp);
  bench.start(bench.b);
  bench.runFor(20_000);
  assert.is(bench.a.role, "owner");
  assert.is(bench.a.machine.bootCount, 2);
  assert.is(bench.b.role, "free", "it hears the owner through the shelf, and waits");
  bench.world.join("oak-a", "oak-b");
  bench.untilMirrored();
  assert.is(host.verify(), null);
});

test("the preferred owner comes back -> the array goes home after a stable time, and later each time", () => {
  const { bench, host } = benchWithHost(18, { returnAfterMs: 5000 });
  const awayMs: number[] = [];
  for (let round = 0; round < 2; round++) {
    bench.a.machine.crash();
    bench.until("the partner owns", () => bench.b.role === "owner");
    bench.start(bench.a);
    bench.untilMirrored();
    const wholeMs = bench.world.nowMs;
    bench.until("the array is home", () => bench.a.role === "owner");
    awayMs.push(bench.world.nowMs - wholeMs);
    bench.untilMirrored();
  }
  assert.ok(awayMs[0]! >= 5000 && awayMs[1]! >= 10_000, `${awayMs}`);
  host.rest();
  assert.is(host.verify(), null);
});

test("NICs of the interconnect fail and come back all the time -> at most write-through, nothing is lost, the caches end alike", () => {
  const { bench, host } = benchWithHost(19);
  const prng = bench.world.prng("cables");
  for (let round = 0; round < 80; round++) {
    const [from, to] = prng.pick([
      ["oak-a", "oak-b"],
      ["oak-b", "oak-a"],
    ] as const);
    bench.world.shape(from, to, { cut: prng.chance(0.5) }, prng.pick(["ic0", "ic1"]));
    bench.runFor(prng.between(1, 300));
    if (prng.chance(0.2)) bench.world.network.breakOne(prng, (remote) => remote.startsWith("oak"));
  }
  bench.world.join("oak-a", "oak-b");
  bench.untilMirrored();
  assert.is(bench.owner, bench.a, "nobody was taken for dead");
  host.rest();
  bench.settleStores();
  assert.ok(bench.cachesAreAlike());
  assert.is(host.verify(), null);
});

test("the owner's machine loses power while its messages are under way -> what was acknowledged is at the partner", () => {
  for (let seed = 20; seed < 25; seed++) {
    const { bench, host } = benchWithHost(seed);
    for (const [from, to] of [
      ["oak-a", "oak-b"],
      ["oak-b", "oak-a"],
    ] as const)
      bench.world.shape(from, to, { latencyMs: 5 });
    bench.runFor(200 + seed);
    bench.a.machine.powerLoss();
    bench.until("the partner owns", () => bench.b.role === "owner");
    const acks = host.acks;
    bench.until("writes go on", () => host.acks > acks + 200);
    host.rest();
    assert.is(host.verify(), null);
  }
});

test("a power port that calls a living partner dead -> nothing is taken over on its word", () => {
  const { bench, host } = benchWithHost(30);
  bench.b.machine.powerFaults.broken = "always-dead";
  bench.until("it is seen", () => bench.b.saw("power-port-wrong"));
  bench.world.cut("oak-a", "oak-b");
  bench.until("apart", () => bench.b.role === "free");
  bench.runFor(20_000);
  assert.is(bench.owner, bench.a);
  assert.is(bench.b.role, "free");
  assert.ok(bench.b.partnership!.warnings().some(({ code }) => code === "power-port-wrong"));
  bench.b.machine.powerFaults.broken = "no";
  bench.world.join("oak-a", "oak-b");
  bench.untilMirrored();
  bench.until("it is right again", () => bench.b.partnership!.warnings().length === 0);
  host.rest();
  // Also where it was never met: its count on the shelf speaks against it.
  bench.b.machine.crash();
  bench.world.cut("oak-a", "oak-b");
  bench.b.machine.powerFaults.broken = "always-dead";
  bench.start(bench.b);
  bench.runFor(20_000);
  assert.is(bench.owner, bench.a);
  // Its own half has nobody then: its partner, whose power port is right, has switched it off for that.
  assert.not(bench.b.saw("pair-takeover"));
  assert.is(bench.a.appliance!.halves[1]!.role, "owner");
  assert.is(host.verify(), null);
});

test("a power port that proves nothing -> nobody takes over, and the owner that comes back goes on", () => {
  const { bench, host } = benchWithHost(16);
  bench.b.machine.powerFaults.broken = "alive";
  bench.a.machine.pause();
  bench.runFor(20_000);
  assert.is(bench.b.role, "free");
  assert.ok(bench.b.saw("partner-not-fenced"));
  bench.a.machine.resume();
  bench.untilMirrored();
  assert.is(bench.owner, bench.a);
  host.rest();
  assert.is(host.verify(), null);
});

test("the appliances die again and again, in the midst of whatever they do -> every acknowledged write is there", () => {
  const { bench, host } = benchWithHost(17);
  const prng = bench.world.prng("deaths");
  const startTheDead = () => {
    for (const each of bench.machines) if (!each.machine.isUp) bench.start(each);
  };
  // A death that was ordered may come only now.
  const untilMirrored = () =>
    bench.until("the pair is mirrored", () => {
      startTheDead();
      return bench.machines.some(({ role, state }) => role === "owner" && state === "mirrored");
    });
  for (let round = 0; round < 60; round++) {
    const victim = prng.pick([bench.a, bench.b]);
    if (victim.machine.isUp) victim.machine.crashAtEffect(1 + prng.below(400));
    bench.runFor(prng.between(5, 400));
    startTheDead();
    if (prng.chance(0.5)) untilMirrored();
  }
  untilMirrored();
  host.rest();
  assert.is(host.verify(), null);
});

test.run();
