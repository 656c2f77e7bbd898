/** What a successor inside the pair goes on with (`inheritance.ts`). */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Inheritance } from "../../firmware/pair/inheritance.ts";
import { pairLimits } from "../../firmware/pair/limits.ts";
import { ManualClock } from "./support/manual_clock.ts";
import { benchWithHost } from "./support/pair_bench.ts";

const test = suite("pair_inheritance");
const heartbeatMs = 100;
const lastWord = { owns: true, serving: ["demo"] };

/** The owner has been followed, and is lost. */
function lost(): { clock: ManualClock; heir: Inheritance; lostMs: number } {
  const clock = new ManualClock();
  clock.pass(60_000);
  const heir = new Inheritance(clock, heartbeatMs);
  const lostMs = clock.nowMs();
  heir.ownerIsLost(lostMs);
  return { clock, heir, lostMs };
}

test("taken over from an owner that was alive a moment ago -> what its page lists, for a while", () => {
  const { clock, heir, lostMs } = lost();
  heir.takenOver(lastWord, lostMs - heartbeatMs);
  assert.equal([heir.has("demo"), heir.has("other")], [true, false]);
  assert.ok(heir.isUnbroken(null));
  clock.pass(pairLimits.inheritMs + 1);
  assert.not(heir.has("demo"));
  assert.not(heir.isUnbroken(null));
  assert.ok(heir.isUnbroken(clock.nowMs()));
});

test("a page that nobody has seen change, that is old, or that was not written any more while its owner was heard -> nothing", () => {
  for (const aliveMs of [null, -pairLimits.inheritMs - 1, -5 * heartbeatMs]) {
    const { heir, lostMs } = lost();
    heir.takenOver(lastWord, aliveMs === null ? null : lostMs + aliveMs);
    assert.not(heir.has("demo"), `${aliveMs}`);
  }
});

test("a page that cannot be read, or of one that owned nothing -> nothing", () => {
  for (const last of ["none", "unknown", { ...lastWord, owns: false }] as const) {
    const { heir, lostMs } = lost();
    heir.takenOver(last, lostMs);
    assert.not(heir.has("demo"));
  }
});

test("handed over -> what was told; opened in another way afterwards -> nothing", () => {
  const heir = new Inheritance(new ManualClock(), heartbeatMs);
  assert.not(heir.isUnbroken(0));
  heir.handedOver(["demo"]);
  assert.ok(heir.has("demo") && heir.isUnbroken(null));
  heir.opened();
  assert.not(heir.has("demo"));
});

test("the owner dies -> its successor goes on with the group", () => {
  const { bench, host } = benchWithHost(71);
  const { group } = bench.a.partnership!.engine!.groups.entries()[0]!;
  bench.a.machine.crash();
  bench.until("the partner owns", () => bench.b.role === "owner");
  assert.ok(bench.b.partnership!.inherits(group.id));
  host.rest();
});

test("the owner dies long after the interconnect was cut -> its successor goes on with the group: the page says so", () => {
  const { bench, host } = benchWithHost(72);
  const { group } = bench.a.partnership!.engine!.groups.entries()[0]!;
  bench.world.cut("oak-a", "oak-b");
  bench.runFor(2 * pairLimits.inheritMs);
  bench.a.machine.crash();
  bench.until("the partner owns", () => bench.b.role === "owner", 20_000);
  assert.ok(bench.b.partnership!.inherits(group.id) && bench.b.partnership!.succeeds());
  host.rest();
});

for (const fencing of ["power", "atomic"] as const) {
  test(`the owner stops serving while its partner stands still (${fencing}) -> that one wakes to old words, and does not believe them`, () => {
    const { bench, host } = benchWithHost(73, { fencing });
    host.rest();
    bench.b.machine.crash();
    bench.until("one has both halves", () => bench.a.appliance!.halves.every(({ role }) => role === "owner"), 20_000);
    bench.start(bench.b);
    bench.untilAllMirrored();
    const { group, replication } = bench.a.partnership!.engine!.groups.entries()[0]!;
    bench.b.machine.pause();
    // Its owner speaks to it no more.
    bench.runFor(3000);
    replication.fail("a disk has failed");
    bench.runFor(20);
    bench.a.machine.crash();
    bench.b.machine.resume();
    bench.until("the partner owns", () => bench.b.role === "owner", 20_000);
    assert.not(bench.b.partnership!.inherits(group.id));
  });
}

test("an orderly end -> the disks have its last word: nothing is served", () => {
  const { bench, host } = benchWithHost(74);
  host.rest();
  const { group } = bench.a.partnership!.engine!.groups.entries()[0]!;
  bench.world.cut("oak-a", "oak-b");
  bench.runFor(3000);
  let isStopped = false;
  void bench.a.partnership!.stop().then(() => {
    isStopped = true;
    bench.a.machine.crash();
  });
  bench.until("it has stopped", () => isStopped);
  bench.until("the partner owns", () => bench.b.role === "owner", 20_000);
  assert.not(bench.b.partnership!.inherits(group.id));
});

test.run();
