/** A pair on one shelf: what hosts have been promised survives the loss of either appliance, and moves (D1 to D3, L1). */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { pairLimits } from "../../firmware/pair/limits.ts";
import { benchWithHost, PairBench } from "./support/pair_bench.ts";

const test = suite("pair_failover");
const mebibyte = 1048576;

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

test("started with --accept-cache-loss, and owns one half alone -> a later start of that half trusts no damaged cache", () => {
  const bench = new PairBench(19);
  bench.start(bench.a, { acceptCacheLoss: true });
  bench.start(bench.b);
  bench.untilHalves("a", "b");
  bench.untilAllMirrored();
  bench.addVolume("v1", 64 * mebibyte);
  bench.succeed(bench.a.partnership!.failover("oak-b"));
  bench.untilAllMirrored();
  // Both copies of the header.
  for (const at of [0, 4096]) bench.a.machine.nvram.flipBit(at, 0);
  bench.b.machine.crash();
  bench.until("refused", () => bench.a.ended !== null);
  assert.match(bench.a.ended!, /header is damaged/);
});

test("both caches are lost, one appliance is started with --accept-cache-loss -> it opens both halves, with the other one beside it or not", () => {
  for (const isAlone of [true, false]) {
    const bench = new PairBench(20);
    bench.startBoth();
    bench.untilAllMirrored();
    for (const { machine } of bench.machines) {
      machine.powerLoss();
      const halves = [0, 4 * mebibyte];
      for (const at of halves.flatMap((start) => [start, start + 4096])) machine.nvram.flipBit(at, 0);
    }
    if (!isAlone) bench.start(bench.b);
    bench.start(bench.a, { acceptCacheLoss: true });
    bench.untilHalves("a", "a");
    if (bench.b.ended !== null || isAlone) bench.start(bench.b);
    bench.untilAllMirrored();
  }
});

test("failover while the partner rehearses, or does not yet -> it waits for the rehearsal, and hosts do not wait", () => {
  for (const hasBegun of [true, false]) {
    const begun: string[] = [];
    const { promise, resolve } = Promise.withResolvers<void>();
    const rehearse = (name: string) => {
      begun.push(name);
      return promise;
    };
    const { bench, host } = benchWithHost(14, { rehearse });
    if (hasBegun) bench.until("both rehearse", () => begun.length === 2);
    else assert.equal(begun, []);
    let isOver = false;
    void bench.owner.partnership!.failover(null).then(() => {
      isOver = true;
    });
    bench.until("the partner rehearses", () => begun.includes("oak-b"));
    assert.is(bench.answer(bench.owner.partnership!.failover(null)).ok, false, "it is just being prepared");
    const acks = host.acks;
    bench.until("writes go on", () => host.acks > acks + 500);
    assert.is(bench.owner, bench.a);
    assert.not(isOver);
    host.longestGapMs = 0;
    resolve();
    bench.until("it is handed over", () => isOver);
    assert.is(bench.owner, bench.b);
    const more = host.acks;
    bench.until("writes go on", () => host.acks > more + 500);
    assert.ok(host.longestGapMs < 100, `the hosts waited ${host.longestGapMs} ms`);
    assert.is(new Set(begun).size, begun.length, "each rehearses once");
    host.rest();
    assert.is(host.verify(), null);
  }
});

test("hand-overs soon after each other, and a late one -> the partner rehearses again only for the late one", () => {
  const begun: string[] = [];
  const rehearse = async (name: string) => {
    begun.push(name);
  };
  const bench = new PairBench(18, { rehearse });
  bench.startBoth();
  bench.until("both have rehearsed", () => begun.length === 2);
  for (const owner of ["oak-b", "oak-a"]) {
    bench.succeed(bench.owner.partnership!.failover(null));
    assert.is(bench.owner.name, owner);
  }
  assert.is(begun.length, 2);
  bench.runFor(pairLimits.rehearsalKeepsMs + 1);
  bench.succeed(bench.owner.partnership!.failover(null));
  assert.equal(begun.slice(2), ["oak-b"]);
});

test("a rehearsal that does not end, or fails -> the half is handed over all the same", () => {
  for (const rehearse of [() => new Promise(() => {}), () => Promise.reject(new Error("a defect"))]) {
    const { bench, host } = benchWithHost(15, { rehearse });
    const startedMs = bench.world.nowMs;
    bench.succeed(bench.owner.partnership!.failover(null));
    assert.is(bench.owner, bench.b);
    const hasFailed = bench.b.saw("rehearsal-failed");
    assert.is(bench.world.nowMs - startedMs >= pairLimits.prepareMs, !hasFailed);
    const acks = host.acks;
    bench.until("writes go on", () => host.acks > acks + 500);
    host.rest();
    assert.is(host.verify(), null);
  }
});

test("the partner dies while a hand-over is prepared -> nothing is handed over, and hosts go on", () => {
  const { bench, host } = benchWithHost(16, { rehearse: () => new Promise(() => {}) });
  const answer = bench.owner.partnership!.failover(null);
  bench.runFor(100);
  bench.b.machine.crash();
  assert.equal(bench.answer(answer).ok, false);
  assert.is(bench.owner, bench.a);
  const acks = host.acks;
  bench.until("writes go on", () => host.acks > acks + 500);
  host.rest();
  assert.is(host.verify(), null);
});

test("failover of a half with much in the cache -> the partner finds it at home, and reads only what came last", () => {
  const { bench, host } = benchWithHost(17);
  const group = bench.owner.partnership!.engine!.groups.all()[0]!;
  const notAtHome = () => group.log.commitSeq - group.log.destagedSeq;
  bench.until("much is not at home", () => notAtHome() > 200);
  const left = notAtHome();
  let isOver = false;
  let lastLeft = left;
  void bench.owner.partnership!.failover(null).then(() => {
    isOver = true;
  });
  // The log of a half that is handed over stands as it was then.
  bench.until("it is handed over", () => {
    if (bench.a.partnership!.engine !== null) lastLeft = notAtHome();
    return isOver;
  });
  assert.ok(lastLeft * 2 < left, `${left} records were not at home, then ${lastLeft}`);
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
  bench.answer(bench.a.appliance!.stop());
  bench.a.machine.crash();
  bench.start(bench.b);
  bench.until("it owns", () => bench.b.role === "owner");
  assert.is(host.verify(), null);
});

test("the owner stops in order while mirrored -> the standby has the array at once", () => {
  const { bench, host } = benchWithHost(13);
  bench.answer(bench.a.appliance!.stop());
  assert.is(bench.b.role, "owner");
  bench.a.machine.crash();
  const acks = host.acks;
  bench.until("writes go on", () => host.acks > acks + 500);
  host.rest();
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

test("the partner does not reach a disk of the pool -> status says so, and it is handed nothing; it does again -> it is", () => {
  const { bench, host } = benchWithHost(18);
  bench.b.machine.crash();
  bench.shelf.unplug("oak-b", 1);
  bench.until("its loss is noticed", () => bench.a.state === "degraded");
  bench.start(bench.b);
  bench.untilMirrored();
  const warning = () => bench.owner.partnership!.warnings().find(({ code }) => code === "pair-disks-missing");
  assert.match(warning()?.text ?? "", /oak-b does not reach shelf0\/1/);
  const refused = bench.answer(bench.a.partnership!.failover("oak-b"));
  assert.match(refused.ok ? "" : refused.error.text, /shelf0\/1/);
  assert.is(bench.owner, bench.a);
  bench.shelf.plug("oak-b", 1);
  bench.until("nothing is missing", () => warning() === undefined);
  bench.succeed(bench.a.partnership!.failover("oak-b"));
  assert.is(bench.owner, bench.b);
  host.rest();
  assert.is(host.verify(), null);
});

test("a group stops being served a moment before its owner dies -> the partner has heard it, and does not go on with it unasked", () => {
  const { bench, host } = benchWithHost(19);
  const { group, replication } = bench.a.partnership!.engine!.groups.entries()[0]!;
  assert.ok(replication.role.is("serving"));
  host.rest();
  replication.fail("a disk has failed");
  bench.runFor(5);
  bench.a.machine.crash();
  bench.until("the partner owns", () => bench.b.role === "owner");
  assert.ok(bench.b.partnership!.succeeds());
  assert.not(bench.b.partnership!.inherits(group.id));
});

test("a hand-over takes some heartbeats -> the partner goes on with what was served when it began", () => {
  const { bench, host } = benchWithHost(20);
  const { group } = bench.a.partnership!.engine!.groups.entries()[0]!;
  const { mirror } = bench.a.partnership!;
  const persist = mirror.persist.bind(mirror);
  // The last one, when the firmware has ended: a disk, or the partner's cache, takes its time.
  mirror.persist = (done) => {
    if (bench.a.saw("pair-handing-over")) bench.world.hostClock.after(350, () => persist(done));
    else persist(done);
  };
  bench.succeed(bench.a.partnership!.failover("oak-b"));
  assert.ok(bench.b.partnership!.inherits(group.id));
  host.rest();
  assert.is(host.verify(), null);
});

test.run();
