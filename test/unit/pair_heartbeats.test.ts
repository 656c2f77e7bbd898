/** A pair whose main loops are late, or hang: who is taken for dead, and who is not. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { benchWithHost, type PairBench, type PairMachine } from "./support/pair_bench.ts";

const test = suite("pair_heartbeats");
const times = { heartbeatMs: 50, limitMs: 250, hungMs: 1000 };
/** What the power port takes, and the start. */
const killMs = 100;
/** Longer than three limits, and within the loop's own. */
const lateMs = 800;

/** The main loop stands for so long, and goes on. */
function late({ machine }: PairMachine, bench: PairBench, forMs: number): void {
  machine.block();
  bench.runFor(forMs);
  machine.unblock();
}

const isUndisturbed = (bench: PairBench): boolean =>
  bench.machines.every(
    (each) => each.machine.bootCount === 1 && !each.saw("partner-lost") && !each.saw("pair-unmirrored"),
  );

test("a loop is late for longer than the limit, the owner's, the standby's, or both -> nobody is lost, and nothing is unmirrored", () => {
  const { bench, host } = benchWithHost(1, times);
  for (let round = 0; round < 5; round++) {
    for (const each of bench.machines) {
      late(each, bench, lateMs);
      bench.runFor(100);
    }
    for (const { machine } of bench.machines) machine.block();
    bench.runFor(lateMs);
    for (const { machine } of bench.machines) machine.unblock();
    bench.runFor(100);
  }
  assert.ok(isUndisturbed(bench), bench.describe());
  for (const each of bench.machines) assert.ok(each.saw("partner-late"), `told at ${each.name}`);
  const acks = host.acks;
  bench.until("writes go on", () => host.acks > acks + 200);
  host.rest();
  assert.is(bench.owner, bench.a);
  bench.settleStores();
  assert.ok(bench.cachesAreAlike());
  assert.is(host.verify(), null);
});

test("the same where no heartbeat gets through, as if the loop sent them -> it is taken for dead, and that they fail is shown before", () => {
  const { bench } = benchWithHost(1, times);
  bench.world.network.faults.heartbeatsPass = false;
  bench.runFor(1000);
  assert.ok(isUndisturbed(bench), "the connections tell that both are there");
  const warned = bench.b.partnership!.warnings().filter(({ code }) => code === "heartbeats-not-heard");
  assert.is(warned.length, 2, "of each NIC");
  late(bench.a, bench, lateMs);
  bench.until("the partner owns", () => bench.b.role === "owner");
  assert.ok(bench.b.saw("partner-fenced"));
});

test("heartbeats that did not get through do so again -> the warning goes", () => {
  const { bench } = benchWithHost(2, times);
  bench.world.network.faults.heartbeatsPass = false;
  bench.until("warned", () => bench.b.partnership!.warnings().length > 0);
  bench.world.network.faults.heartbeatsPass = true;
  bench.until("not any more", () => bench.b.partnership!.warnings().length === 0);
});

test("the owner's loop hangs -> its partner fences it after the loop's own limit, takes over, and nothing is lost", () => {
  const { bench, host } = benchWithHost(3, times);
  const fromMs = bench.world.nowMs;
  bench.a.machine.block();
  bench.until("the partner owns", () => bench.b.role === "owner");
  assert.not(bench.a.machine.isUp, "fenced below the firmware");
  const lost = bench.b.events.find(({ code }) => code === "partner-lost")!;
  assert.match(lost.text, /oak-a hangs: its main loop has not turned for \d+ ms/);
  const afterMs = lost.atMs - fromMs;
  assert.ok(afterMs >= times.hungMs && afterMs <= times.hungMs + 4 * times.heartbeatMs, `${afterMs} ms`);
  const acks = host.acks;
  bench.until("writes go on", () => host.acks > acks + 200);
  host.rest();
  assert.is(host.verify(), null);
});

test("the standby's loop hangs -> the owner goes on without it, after the loop's own limit", () => {
  const { bench, host } = benchWithHost(4, times);
  const acks = host.acks;
  bench.b.machine.block();
  bench.until("unmirrored", () => bench.a.saw("pair-unmirrored"));
  bench.until("writes go on", () => host.acks > acks + 200);
  assert.is(bench.a.role, "owner");
  assert.ok(host.longestGapMs < 2 * times.hungMs, `${host.longestGapMs} ms`);
  host.rest();
  assert.is(host.verify(), null);
});

test("the owner's process is stopped (SIGSTOP), or its machine has no power -> silence, taken over after the limit", () => {
  for (const how of ["pause", "powerLoss"] as const) {
    const { bench, host } = benchWithHost(5, times);
    const fromMs = bench.world.nowMs;
    bench.a.machine[how]();
    bench.until("the partner owns", () => bench.b.role === "owner");
    const tookMs = bench.world.nowMs - fromMs;
    assert.ok(tookMs <= times.limitMs + killMs + 4 * times.heartbeatMs, `${how}: ${tookMs} ms`);
    host.rest();
    assert.is(host.verify(), null);
  }
});

test("both are stopped at once (the machine under them stalls), and go on one after the other -> nobody is taken for dead", () => {
  const { bench, host } = benchWithHost(6, times);
  for (let round = 0; round < 10; round++) {
    for (const { machine } of bench.machines) machine.pause();
    bench.runFor(5000);
    const [first, second] = round % 2 === 0 ? [bench.a, bench.b] : [bench.b, bench.a];
    first.machine.resume();
    bench.runFor(20);
    second.machine.resume();
    bench.runFor(500);
  }
  assert.ok(isUndisturbed(bench), bench.describe());
  host.rest();
  bench.settleStores();
  assert.ok(bench.cachesAreAlike());
  assert.is(host.verify(), null);
});

test("the interconnect stays cut -> a late loop is heard through the shelf as well; one that hangs is fenced", () => {
  const { bench, host } = benchWithHost(7, times);
  bench.cut(true);
  bench.until("isolated", () => bench.b.state === "isolated");
  bench.runFor(1000);
  for (let round = 0; round < 5; round++) {
    late(bench.a, bench, lateMs);
    bench.runFor(500);
  }
  assert.is(bench.owner, bench.a);
  assert.not(bench.b.saw("partner-fenced"));
  bench.a.machine.block();
  bench.until("the partner owns", () => bench.b.role === "owner");
  assert.not(bench.a.machine.isUp);
  host.rest();
  assert.is(host.verify(), null);
});

test("one NIC's cable is out while a loop is late -> nobody is lost", () => {
  const { bench, host } = benchWithHost(8, times);
  for (const [from, to] of [
    ["oak-a", "oak-b"],
    ["oak-b", "oak-a"],
  ] as const)
    bench.world.shape(from, to, { cut: true }, "ic0");
  bench.runFor(2000);
  late(bench.a, bench, lateMs);
  bench.runFor(500);
  assert.ok(isUndisturbed(bench), bench.describe());
  assert.is(bench.owner, bench.a);
  host.rest();
  assert.is(host.verify(), null);
});

test("every connection of the interconnect breaks while the partner's loop is late -> it is waited for", () => {
  const { bench, host } = benchWithHost(9, times);
  const prng = bench.world.prng("breaks");
  bench.a.machine.block();
  bench.runFor(100);
  for (let count = 0; count < 20; count++) bench.world.network.breakOne(prng, (remote) => remote.startsWith("oak"));
  bench.runFor(lateMs - 200);
  bench.a.machine.unblock();
  bench.runFor(2000);
  assert.ok(isUndisturbed(bench), bench.describe());
  host.rest();
  assert.is(host.verify(), null);
});

test.run();
