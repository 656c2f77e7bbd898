/** A pair on one shelf: what hosts have been promised survives whatever happens to either appliance (D1 to D3, L1). */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { PairBench, type PairBenchOptions } from "./support/pair_bench.ts";

const test = suite("pair_failover");

const mebibyte = 1048576;

function benchWithHost(seed: number, options: PairBenchOptions = {}) {
  const bench = new PairBench(seed, options);
  bench.startBoth();
  bench.addVolume("v1", 64 * mebibyte);
  const host = bench.host("v1", 500);
  host.run();
  bench.until("some writes", () => host.acks > 300);
  return { bench, host };
}

test("both start -> the preferred one owns, and the caches are alike to the byte under load", () => {
  const { bench, host } = benchWithHost(1);
  assert.is(bench.owner, bench.a);
  assert.is(bench.b.role, "standby");
  host.rest();
  bench.settleStores();
  assert.ok(bench.cachesAreAlike());
  assert.is(host.verify(), null);
});

test("the owner's process dies -> the partner takes over at once, and has every acknowledged write", () => {
  const { bench, host } = benchWithHost(2);
  bench.a.machine.crash();
  bench.until("the partner owns", () => bench.b.role === "owner");
  const acks = host.acks;
  bench.until("writes go on", () => host.acks > acks + 300);
  host.rest();
  assert.is(host.verify(), null);
  assert.ok(host.longestGapMs < 1000, `the hosts waited ${host.longestGapMs} ms`);
});

test("the former owner comes back -> it follows, gets a copy while hosts write, and can take over in turn", () => {
  const { bench, host } = benchWithHost(3);
  bench.a.machine.crash();
  bench.until("the partner owns", () => bench.b.role === "owner");
  bench.start(bench.a);
  bench.untilMirrored();
  assert.is(bench.a.role, "standby");
  const acks = host.acks;
  bench.until("writes go on", () => host.acks > acks + 500);
  bench.b.machine.crash();
  bench.until("the first one owns again", () => bench.a.role === "owner");
  const more = host.acks;
  bench.until("writes go on", () => host.acks > more + 500);
  host.rest();
  assert.is(host.verify(), null);
});

test("the standby dies -> hosts go on, write-through; it comes back -> mirrored again", () => {
  const { bench, host } = benchWithHost(4);
  bench.b.machine.crash();
  bench.until("unmirrored", () => bench.a.state === "degraded");
  const acks = host.acks;
  bench.until("writes go on", () => host.acks > acks + 500);
  assert.is(bench.owner, bench.a);
  assert.is(bench.owner.partnership!.engine!.control.caches()[0]!.mode, "write-through");
  bench.start(bench.b);
  bench.untilMirrored();
  bench.until("write-back", () => bench.owner.partnership!.engine!.control.caches()[0]!.mode === "write-back");
  host.rest();
  bench.settleStores();
  assert.ok(bench.cachesAreAlike());
  assert.is(host.verify(), null);
});

test("the standby dies, then the owner for good -> the standby starts from the shelf alone", () => {
  const { bench, host } = benchWithHost(5);
  bench.b.machine.crash();
  bench.until("the shelf has all", () => bench.a.saw("cache-data-safe"));
  const acks = host.acks;
  bench.until("writes go on", () => host.acks > acks + 500);
  bench.a.machine.crash();
  bench.start(bench.b);
  bench.until("it owns, without the other's cache", () => bench.b.role === "owner");
  const more = host.acks;
  bench.until("writes go on", () => host.acks > more + 500);
  host.rest();
  assert.is(host.verify(), null);
});

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
  bench.untilMirrored();
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

test("the power of both goes -> either comes up alone, with every acknowledged write", () => {
  for (const first of ["a", "b"] as const) {
    const { bench, host } = benchWithHost(9);
    bench.a.machine.powerLoss();
    bench.b.machine.powerLoss();
    bench.start(bench[first]);
    bench.until("it owns", () => bench[first].role === "owner");
    const acks = host.acks;
    bench.until("writes go on", () => host.acks > acks + 500);
    bench.start(bench.other(bench[first]));
    bench.untilMirrored();
    host.rest();
    assert.is(host.verify(), null);
  }
});

test("a copy that the array has gone on without, unmirrored data only in the other cache -> it refuses to start alone", () => {
  const { bench, host } = benchWithHost(10);
  // The owner restarts alone and dies before the shelf has everything: the partner's copy is from before.
  bench.b.machine.crash();
  bench.a.machine.crash();
  bench.start(bench.a);
  bench.until("it owns", () => bench.a.role === "owner");
  bench.a.machine.crash();
  bench.start(bench.b);
  bench.until("refused", () => bench.b.ended !== null);
  assert.match(bench.b.ended!, /not the newest copy.*start oak-a, or start once with --accept-cache-loss/);
  bench.start(bench.a);
  bench.start(bench.b);
  bench.untilMirrored();
  host.rest();
  assert.is(host.verify(), null);
});

test("started once with --accept-cache-loss -> a later takeover by the same process trusts no damaged cache", () => {
  const bench = new PairBench(12);
  bench.start(bench.b, { acceptCacheLoss: true });
  bench.until("it owns", () => bench.b.role === "owner");
  bench.start(bench.a);
  bench.untilMirrored();
  bench.addVolume("v1", 64 * mebibyte);
  const host = bench.host("v1", 500);
  host.run();
  bench.until("some writes", () => host.acks > 500);
  bench.succeed(bench.owner.partnership!.failover("oak-a"));
  bench.until("some more", () => host.acks > 1000);
  // Both copies of the header.
  for (const at of [0, 4096]) bench.b.machine.nvram.flipBit(at, 0);
  bench.a.machine.crash();
  bench.until("refused", () => bench.b.ended !== null);
  assert.match(bench.b.ended!, /header is damaged/);
  bench.start(bench.a);
  bench.start(bench.b);
  bench.untilMirrored();
  host.rest();
  assert.is(host.verify(), null);
});

test("failover as the operator wishes -> nothing is lost, hosts wait for less than a tenth of a second, and it is mirrored at once", () => {
  const { bench, host } = benchWithHost(11);
  host.longestGapMs = 0;
  const moved = bench.succeed(bench.owner.partnership!.failover(null));
  assert.equal(moved, { changed: true, owner: "oak-b" });
  assert.is(bench.b.state, "mirrored");
  const acks = host.acks;
  bench.until("writes go on", () => host.acks > acks + 500);
  bench.succeed(bench.owner.partnership!.failover("oak-a"));
  assert.is(bench.owner, bench.a);
  const more = host.acks;
  bench.until("writes go on", () => host.acks > more + 500);
  host.rest();
  bench.settleStores();
  assert.ok(bench.cachesAreAlike());
  assert.is(host.verify(), null);
  assert.is(bench.a.machine.bootCount + bench.b.machine.bootCount, 2);
});

test("the owner stops in order while the standby has no copy -> everything is at home, and the standby takes over", () => {
  const { bench, host } = benchWithHost(12);
  bench.b.machine.crash();
  bench.until("unmirrored", () => bench.a.state === "degraded");
  host.rest();
  bench.answer(bench.a.partnership!.stop());
  bench.a.machine.crash();
  bench.start(bench.b);
  bench.until("it owns", () => bench.b.role === "owner");
  assert.is(host.verify(), null);
});

test("the owner stops in order while mirrored -> the standby has the array at once", () => {
  const { bench, host } = benchWithHost(13);
  bench.answer(bench.a.partnership!.stop());
  assert.is(bench.b.role, "owner");
  bench.a.machine.crash();
  const acks = host.acks;
  bench.until("writes go on", () => host.acks > acks + 500);
  host.rest();
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

test("a copy comes to nothing just when it was complete -> that copy is never taken for a good one", () => {
  const { bench, host } = benchWithHost(15);
  bench.b.machine.crash();
  bench.until("unmirrored", () => bench.a.state === "degraded");
  bench.start(bench.b);
  bench.until("the copy is complete", () => bench.a.partnership!.mirror.state === "complete");
  bench.b.machine.crash();
  const acks = host.acks;
  bench.until("writes go on", () => host.acks > acks + 500);
  bench.a.machine.crash();
  bench.start(bench.b);
  bench.until("it owns, or has refused", () => bench.b.role === "owner" || bench.b.ended !== null);
  if (bench.b.ended !== null) {
    assert.match(bench.b.ended, /not the newest copy/);
    bench.start(bench.a);
    bench.start(bench.b);
    bench.untilMirrored();
  }
  host.rest();
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
