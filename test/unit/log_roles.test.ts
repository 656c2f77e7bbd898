import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { StoreError } from "../../firmware/store/store.ts";
import { GroupBench, type Tracked } from "./support/group_bench.ts";

const test = suite("log_roles");

function write(bench: GroupBench, block: number): Tracked {
  return bench.request("write", 8 * block, 8, new Uint8Array(4096).fill(block + 1));
}

/** A primary that serves and whose next writes stay undecided: a sync peer lacks them. */
function withUndecided(domain: "battery" | "flush"): { bench: GroupBench; writes: Tracked[]; commitSeq: number } {
  const bench = new GroupBench(1, domain);
  bench.store.chunksLeft = 1000;
  bench.start();
  bench.serve();
  const { log } = bench.group;
  const { commitSeq } = log;
  log.require("elm", commitSeq);
  const writes = [1, 2, 3].map((block) => write(bench, block));
  return { bench, writes, commitSeq };
}

function settle(bench: GroupBench): void {
  bench.until(() => bench.group.log.persistedSeq === bench.group.log.headSeq);
}

test("a persist is under way when the copy becomes golden -> nothing beyond what the primary has said is committed", () => {
  const { bench, commitSeq } = withUndecided("flush");
  const { log } = bench.group;
  bench.clock.runDeferred();
  assert.ok(log.persistedSeq < log.headSeq);
  bench.group.admission.close("not-ready");
  log.followPrimary(commitSeq);
  settle(bench);
  assert.is(log.commitSeq, commitSeq);
  log.hearCommit(commitSeq + 1);
  bench.until(() => log.commitSeq > commitSeq);
  assert.is(log.commitSeq, commitSeq + 1);
});

test("a drain is waiting for a persist when the copy becomes golden -> it stays one", () => {
  const { bench, commitSeq } = withUndecided("flush");
  const { group } = bench;
  let drained = false;
  group.drainToHome(() => (drained = true));
  group.admission.close("not-ready");
  group.log.followPrimary(commitSeq);
  bench.until(() => drained);
  assert.ok(Number.isFinite(group.log.heardSeq));
});

test("the role ends with writes that a sync peer lacks, and what is durable here is committed -> they are not acknowledged", () => {
  const { bench, writes, commitSeq } = withUndecided("battery");
  const { group } = bench;
  settle(bench);
  group.admission.close("not-ready");
  let drained = false;
  group.drainToHome(() => (drained = true));
  bench.until(() => drained);
  assert.is(group.log.commitSeq, commitSeq + 3, "they are kept");
  assert.equal(
    writes.map((one) => one.error),
    ["not-ready", "not-ready", "not-ready"],
  );
});

test("a newer timeline drops undecided records -> their space comes back and their requests end, once, without success", () => {
  const { bench, writes, commitSeq } = withUndecided("battery");
  const { log } = bench.group;
  bench.group.admission.close("not-ready");
  log.followPrimary(commitSeq);
  settle(bench);
  assert.ok(bench.store.chunksLeft < 1000 && writes.every((one) => !one.done));
  log.dropAbove(commitSeq);
  assert.equal(
    writes.map((one) => one.error),
    ["not-ready", "not-ready", "not-ready"],
  );
  let drained = false;
  bench.group.destager.drain(() => (drained = true));
  bench.until(() => drained);
  assert.is(bench.store.chunksLeft, 1000);
});

test("a timeline that is left had committed more than came here -> its successor's records wait for their own commit", () => {
  const { bench, commitSeq } = withUndecided("battery");
  const { log } = bench.group;
  bench.group.admission.close("not-ready");
  log.followPrimary(commitSeq);
  log.hearCommit(commitSeq + 3);
  log.dropAbove(commitSeq);
  assert.is(log.heardSeq, commitSeq);
});

test("the group is not writable any more -> a control record is refused, and the log is as it was", () => {
  const bench = new GroupBench(1, "battery");
  bench.start();
  bench.serve();
  const head = bench.group.log.headSeq;
  bench.group.admission.close("not-ready");
  let answered: StoreError | null | undefined;
  bench.group.changeVolumes({ op: "delete", number: 1 }, (error) => (answered = error));
  assert.ok(answered);
  assert.is(bench.group.log.headSeq, head);
});

test("writes are held -> a control record waits with them", () => {
  const bench = new GroupBench(1, "battery");
  bench.start();
  bench.serve();
  const head = bench.group.log.headSeq;
  bench.group.admission.hold();
  let answered: StoreError | null | undefined;
  bench.group.changeVolumes({ op: "delete", number: 1 }, (error) => (answered = error));
  for (let steps = 0; steps < 20; steps++) bench.clock.step();
  assert.is(answered, undefined);
  assert.is(bench.group.log.headSeq, head);
  bench.group.admission.release();
  bench.until(() => answered !== undefined);
  assert.is(answered, null);
  assert.is(bench.group.log.headSeq, head + 1);
});

test("a boundary is dropped by a newer timeline -> whoever wrote it hears that it is not there", () => {
  const { bench, commitSeq } = withUndecided("battery");
  let answered: StoreError | null | undefined;
  bench.group.writeBoundary("b".repeat(32), "test", (error) => (answered = error));
  bench.group.admission.close("not-ready");
  bench.group.log.followPrimary(commitSeq);
  bench.group.log.dropAbove(commitSeq);
  assert.ok(answered);
});

test("a volume is created and deleted, then the appliance dies -> its number is not given out again", () => {
  const bench = new GroupBench(1, "battery");
  bench.start();
  bench.serve();
  const volume = { number: 2, uuid: "e".repeat(32), name: "second", sizeBytes: 1 << 20 };
  let changes = 0;
  bench.group.changeVolumes({ op: "create", volume }, () => changes++);
  bench.group.changeVolumes({ op: "delete", number: 2 }, () => changes++);
  bench.clock.runDeferred();
  assert.is(changes, 2);
  bench.crash();
  bench.start();
  bench.serve();
  assert.is(bench.group.nextVolumeNumber(), 3);
});

test.run();
