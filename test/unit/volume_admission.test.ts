import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { BlockError, BlockKind } from "../../firmware/volume/block_request.ts";
import { GroupBench, sectors } from "./support/group_bench.ts";

const test = suite("volume_admission");

interface Answered {
  times: number;
  error: BlockError | null;
}

/** Submits and counts the answers. */
function submit(bench: GroupBench, kind: BlockKind, startLba: number, blockCount: number): Answered {
  const answered: Answered = { times: 0, error: null };
  bench.target.submit({
    kind,
    startLba,
    blockCount,
    payload: kind === "write" ? [new Uint8Array(blockCount * 512).fill(7)] : [],
    target: new Uint8Array(0),
    keepAllocated: false,
    atomic: false,
    miscompareOffset: 0,
    extents: [],
    error: null,
    onDone: (request) => {
      answered.times++;
      answered.error = request.error;
    },
  });
  return answered;
}

function serving(domain: "battery" | "flush" = "battery"): GroupBench {
  const bench = new GroupBench(1, domain);
  bench.start();
  bench.serve();
  return bench;
}

/** Nothing goes home any more and the cache is full: the newest of the writes waits, admitted in part. */
function filled(): { bench: GroupBench; answers: Answered[] } {
  const bench = serving("flush");
  bench.store.failure = { code: "disk-failed", text: "no answer" };
  const answers: Answered[] = [];
  while (bench.group.admission.queuedRequests < 3) answers.push(submit(bench, "write", 0, sectors));
  return { bench, answers };
}

test("the role ends while writes wait for room -> each is answered once, what was admitted whole without an error", () => {
  const { bench, answers } = filled();
  bench.group.setServing({ writable: false, why: "another is primary", readable: "head" });
  bench.until(() => answers.every((one) => one.times > 0));
  for (let steps = 0; steps < 20; steps++) bench.clock.step();
  assert.ok(answers.every((one) => one.times === 1));
  const errors = answers.map((one) => one.error);
  assert.equal(errors.slice(-3), ["not-ready", "not-ready", "not-ready"]);
  assert.ok(errors.slice(0, -3).every((error) => error === null));
});

test("the group closes with writes undecided and waiting -> each is answered once", () => {
  const { bench, answers } = filled();
  bench.group.close();
  for (let steps = 0; steps < 20; steps++) bench.clock.step();
  assert.ok(
    answers.every((one) => one.times === 1 && one.error === "closed"),
    JSON.stringify(answers),
  );
});

test("the shelf fails -> an orderly stop ends all the same, and the next start finds everything", () => {
  const bench = serving();
  const answered = submit(bench, "write", 0, 8);
  bench.until(() => answered.times === 1);
  bench.store.failure = { code: "disk-failed", text: "no answer" };
  let stopped = false;
  bench.group.stop(() => (stopped = true));
  bench.until(() => stopped);
  bench.store.failure = null;
  bench.crash();
  bench.start();
  bench.serve();
  const read = bench.request("read", 0, 8, null);
  bench.until(() => read.done);
  assert.is(read.target[0], 7);
});

test("the pool is short, and an undecided unmap will give up the chunk -> the write waits for it, and is refused", () => {
  const bench = serving();
  const { log } = bench.group;
  let answered = submit(bench, "write", 0, 128);
  bench.until(() => answered.times === 1);
  let drained = false;
  bench.group.destager.drain(() => (drained = true));
  bench.until(() => drained);
  bench.store.chunksLeft = 0;
  log.require("elm", log.commitSeq);
  const unmap = submit(bench, "unmap", 0, 128);
  const head = log.headSeq;
  answered = submit(bench, "write", 0, 8);
  for (let steps = 0; steps < 20; steps++) bench.clock.step();
  assert.is(log.headSeq, head, "not admitted on the strength of a chunk that is going");
  log.require("elm", null);
  bench.until(() => answered.times === 1 && unmap.times === 1);
  assert.is(unmap.error, null);
  assert.is(answered.error, "no-space");
});

test("the pool is short, and the chunk is there -> an overwrite is admitted", () => {
  const bench = serving();
  let answered = submit(bench, "write", 0, 128);
  bench.until(() => answered.times === 1);
  let drained = false;
  bench.group.destager.drain(() => (drained = true));
  bench.until(() => drained);
  bench.store.chunksLeft = 0;
  answered = submit(bench, "write", 8, 8);
  bench.until(() => answered.times === 1);
  assert.is(answered.error, null);
  const beside = submit(bench, "write", 256, 8);
  bench.until(() => beside.times === 1);
  assert.is(beside.error, "no-space");
});

test("the volume is deleted while a write to it is weighed -> the write is ended, nothing breaks", () => {
  const bench = serving();
  const { log } = bench.group;
  log.require("elm", log.commitSeq);
  let deleted = false;
  bench.group.changeVolumes({ op: "delete", number: 1 }, () => (deleted = true));
  bench.store.chunksLeft = 0;
  const answered = submit(bench, "write", 0, 8);
  log.require("elm", null);
  bench.until(() => deleted && answered.times === 1);
  assert.is(answered.error, "closed");
});

test("the volume of an undestaged creation is written while the pool is short -> no-space, nothing breaks", () => {
  const bench = new GroupBench(3, "battery");
  bench.store.chunksLeft = 0;
  bench.start();
  bench.serve();
  const answered = submit(bench, "write", 0, 8);
  bench.until(() => answered.times === 1);
  assert.is(answered.error, "no-space");
});

test("a flush on a golden copy with undecided records -> is answered at once", () => {
  const bench = serving();
  const { log } = bench.group;
  log.require("elm", log.commitSeq);
  submit(bench, "write", 0, 8);
  bench.clock.runDeferred();
  bench.group.setServing({ writable: false, why: "golden", readable: "head" });
  bench.openTarget();
  assert.is(submit(bench, "flush", 0, 0).times, 1);
});

test.run();
