/**
 * A task ends exactly once, whatever ends under it: its session, its mapping, its volume, the task before it (the contract in
 * `device_server.ts`), and nothing of it is done afterwards.
 */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { TaskFunction, type TaskFunctionOutcome } from "../../firmware/frontend/scsi/device_server.ts";
import { ScsiStatus, TaskAttribute } from "../../firmware/frontend/scsi/task.ts";
import { type BenchNexus, type BenchTask, be, cdb, reserveList, ScsiBench } from "./support/scsi_bench.ts";

const test = suite("scsi_lifecycle");
const { good, reservationConflict } = ScsiStatus;
const block = new Uint8Array(512).fill(1);
const testUnitReady = [0];

function pair(volumes = 1, sizeBytes = 8 << 20) {
  const bench = new ScsiBench(volumes, sizeBytes);
  return { bench, a: bench.nexus("a").ready(), b: bench.nexus("b").ready(), volume: bench.volume };
}

function manage(nexus: BenchNexus, action: TaskFunction, tag = 0, lun = 0): { outcome: TaskFunctionOutcome | null } {
  const answer: { outcome: TaskFunctionOutcome | null } = { outcome: null };
  const bytes = new Uint8Array(8);
  bytes[1] = lun;
  nexus.nexus.manage(action, bytes, tag, (outcome) => {
    answer.outcome = outcome;
  });
  return answer;
}

function write(nexus: BenchNexus, lba: number, attribute: TaskAttribute = TaskAttribute.simple, lun = 0): BenchTask {
  return nexus.execute(nexus.judge(cdb.write10(lba, 1), { data: block, attribute, lun }));
}

function collecting(nexus: BenchNexus, attribute: TaskAttribute = TaskAttribute.simple, lun = 0): BenchTask {
  return nexus.judge(cdb.write10(0, 1), { data: block, attribute, lun });
}

test("a session ends while its tasks wait for an ORDERED one → they end aborted, and are not done", () => {
  const { bench, a, volume } = pair();
  volume.submitted.length = 0;
  const ordered = collecting(a, TaskAttribute.ordered);
  const waiting = [write(a, 1), a.execute(a.judge(testUnitReady)), write(a, 2)];
  a.nexus.close();
  bench.settle();
  assert.is(ordered.ends, 0, "ended with the call");
  for (const task of waiting) assert.ok(task.ended && task.aborted);
  assert.is(volume.submitted.length, 0);
});

test("a session ends → the others' tasks that waited behind its own go on", () => {
  const { bench, a, b, volume } = pair();
  collecting(a, TaskAttribute.ordered);
  const waiting = [write(b, 1), b.execute(b.judge(testUnitReady)), write(b, 2)];
  a.nexus.close();
  bench.settle();
  for (const task of waiting) {
    assert.ok(task.ended);
    assert.not(task.aborted);
    assert.is(task.status, good);
  }
  assert.equal(volume.bytes.subarray(512, 1536), new Uint8Array(1024).fill(1));
});

for (const [name, action] of [
  ["CLEAR TASK SET", TaskFunction.clearTaskSet],
  ["LUN RESET", TaskFunction.lunReset],
  ["ABORT TASK SET", TaskFunction.abortTaskSet],
] as const)
  test(`${name} with tasks in every phase → each ends once, what has not begun is not done`, () => {
    const { bench, a, b, volume } = pair();
    const far = action === TaskFunction.abortTaskSet ? a : b;
    volume.submitted.length = 0;
    volume.gate = true;
    const running = write(a, 7);
    const ordered = collecting(a, TaskAttribute.ordered);
    const waiting = [write(far, 1), far.execute(far.judge(testUnitReady)), write(far, 2, TaskAttribute.ordered)];
    const answer = manage(a, action);
    assert.ok(ordered.ended && waiting.every((task) => task.ended && task.aborted));
    assert.is(answer.outcome, null, "one is under way");
    volume.release();
    bench.settle();
    assert.ok(running.ended && running.aborted);
    assert.is(answer.outcome, "complete");
    assert.equal(
      volume.submitted.map(({ startLba }) => startLba),
      [7],
    );
  });

test("task management is answered when its tasks have ended for their transport too", () => {
  const { bench, a, volume } = pair();
  volume.gate = true;
  const running = write(a, 1);
  let endedBefore = false;
  const lun = new Uint8Array(8);
  a.nexus.manage(TaskFunction.abortTask, lun, running.tag, () => {
    endedBefore = running.ended;
  });
  volume.release();
  bench.settle();
  assert.ok(endedBefore);
});

test("thousands of ORDERED tasks that end at once → one after the other, not one within the other", () => {
  const { bench, a } = pair();
  const first = collecting(a, TaskAttribute.ordered);
  const order: number[] = [];
  const tasks = Array.from({ length: 2000 }, (_, index) => {
    const task = a.judge(testUnitReady, { attribute: TaskAttribute.ordered });
    task.onDone = () => {
      task.end();
      order.push(index);
      depthMax = Math.max(depthMax, new Error().stack?.split("\n").length ?? 0);
    };
    return task;
  });
  let depthMax = 0;
  for (const task of tasks) a.execute(task);
  const limit = Error.stackTraceLimit;
  Error.stackTraceLimit = 1000;
  a.execute(first);
  Error.stackTraceLimit = limit;
  bench.settle();
  assert.equal(
    order,
    tasks.map((_, index) => index),
  );
  assert.ok(depthMax < 50, `${depthMax} calls deep`);
});

test("reads that waited for their turn → read by their transport, no memory of the device server's own", () => {
  const { bench, a, b, volume } = pair();
  const ordered = collecting(a, TaskAttribute.ordered);
  const reading: BenchTask[] = [];
  for (let index = 0; index < 64; index++) {
    const task = b.judge(cdb.read10(0, 16384));
    task.readLater = () => {
      reading.push(task);
    };
    assert.is(b.execute(task).outcome, "pending");
  }
  volume.submitted.length = 0;
  a.execute(ordered);
  bench.settle();
  assert.is(reading.length, 64);
  assert.equal(
    volume.submitted.map(({ kind }) => kind),
    ["write"],
    "nothing is read before its transport asks",
  );
  for (const task of reading) {
    assert.is(task.medium.blockCount, 16384);
    b.read(task);
  }
  assert.ok(reading.every((task) => task.ended && task.status === good));
});

test("a task object with leftovers of an earlier command → its answer is its own", () => {
  const { bench, a, b } = pair();
  a.run(cdb.reserveOut(0, 0), { data: reserveList(0, 1) });
  a.run(cdb.reserveOut(1, 3), { data: reserveList(1, 0) });
  const task = b.judge(cdb.inquiry(null));
  const stale = Uint8Array.from([0x70, 0, 5]);
  for (const [bytes, status] of [
    [cdb.read10(0, 1), reservationConflict],
    [testUnitReady, good],
    [cdb.reserveOut(1, 3), reservationConflict],
  ] as const) {
    task.cdb.fill(0);
    task.cdb.set(bytes);
    task.sense = stale;
    task.dataIn = stale;
    task.dataInBytes = 3;
    task.status = ScsiStatus.busy;
    task.aborted = true;
    task.dataOutBytesMax = 24;
    if (b.nexus.judge(task) === "accepted") {
      task.dataOut = [Uint8Array.from(reserveList(9, 9))];
      b.nexus.execute(task);
      bench.settle();
    }
    assert.is(task.status, status);
    assert.is(task.sense.byteLength, 0);
    assert.is(task.dataIn.byteLength, 0);
    assert.is(task.dataInBytes, 0);
    assert.not(task.aborted);
  }
});

// -------------------------------------------------------------------- mappings

test("a mapping goes → its tasks end, what has not begun is not done, its volume is closed", () => {
  const { bench, a, volume } = pair(2);
  const other = bench.luns.volumes[1]!;
  other.submitted.length = 0;
  volume.gate = true;
  other.gate = true;
  const kept = write(a, 5);
  const running = write(a, 6, TaskAttribute.simple, 1);
  const ordered = collecting(a, TaskAttribute.ordered, 1);
  const waiting = [write(a, 1, TaskAttribute.simple, 1), a.execute(a.judge(testUnitReady, { lun: 1 }))];
  bench.luns.mapping = (all) => all.filter(({ lun }) => lun === 0);
  bench.luns.changed();
  for (const task of [ordered, ...waiting]) {
    assert.ok(task.ended);
    assert.not(task.aborted, "its initiator is told");
    assert.is(task.senseCode, 0x052500);
  }
  assert.not(running.ended);
  other.release();
  assert.ok(running.ended);
  assert.is(running.status, good, "what is written is written");
  assert.equal(
    other.submitted.map(({ startLba }) => startLba),
    [6],
  );
  assert.is(other.targets.size, 0);
  volume.release();
  assert.ok(kept.ended);
  assert.is(kept.status, good);
  assert.is(a.run(testUnitReady, { lun: 1 }).senseCode, 0x052500);
});

for (const [name, bytes, data] of [
  ["WRITE SAME", [0x93, 0, ...be(0, 8), ...be(65536, 4), 0, 0], block],
  ["VERIFY", [0x8f, 0, ...be(0, 8), ...be(65536, 4), 0, 0], []],
  [
    "UNMAP",
    cdb.unmap(40),
    [0, 38, 0, 32, 0, 0, 0, 0, ...be(0, 8), 0, 0, 0, 8, 0, 0, 0, 0, ...be(64, 8), 0, 0, 0, 8, 0, 0, 0, 0],
  ],
] as const)
  for (const how of ["end of its session", "end of its mapping", "LUN RESET", "LUN RESET between two parts"] as const)
    test(`${name} in parts, ${how} → no further part, one end`, () => {
      const { bench, a, b, volume } = pair(1, 64 << 20);
      volume.submitted.length = 0;
      volume.gate = true;
      const task = a.execute(a.judge(bytes, { data: Uint8Array.from(data) }));
      assert.is(volume.submitted.length, 1);
      if (how === "LUN RESET between two parts") volume.release();
      if (how === "end of its mapping") {
        bench.luns.mapping = () => [];
        bench.luns.changed();
        volume.release();
        bench.settle();
        assert.ok(task.ended);
        // UNMAP's second extent, and the other parts, are not there any more.
        assert.is(task.senseCode, 0x052500);
        assert.is(volume.submitted.length, 1);
        return;
      } else if (how === "end of its session") a.nexus.close();
      else manage(b, TaskFunction.lunReset);
      volume.release();
      bench.settle();
      assert.ok(task.ended && task.aborted);
      assert.is(volume.submitted.length, 1);
    });

test("EXTENDED COPY, and the mapping of its source or destination goes → COPY ABORTED, nothing more is read or written", () => {
  const naa = (lun: number): number[] => [0x3e, 0xed, 0, lun, 0x5e, 0xed, 0, lun];
  const target = (lun: number) => [0xe4, 0, 0, 0, 1, 3, 0, 8, ...naa(lun), ...Array<number>(12).fill(0), 0, 0, 2, 0];
  const segment = [2, 0, 0, 24, 0, 0, 0, 1, 0, 0, ...be(8000, 2), ...be(0, 8), ...be(0, 8)];
  const list = [1, 0, 0, 64, 0, 0, 0, 0, ...be(28, 4), 0, 0, 0, 0, ...target(1), ...target(2), ...segment];
  for (const gone of [1, 2])
    for (const during of ["read", "write"]) {
      const { bench, a } = pair(3);
      const [, source, destination] = bench.luns.volumes;
      const held = during === "read" ? source! : destination!;
      held.gate = true;
      const data = Uint8Array.from(list);
      const task = a.execute(a.judge([0x83, 0, ...be(0, 8), ...be(list.length, 4), 0, 0], { data }));
      bench.settle(() => held.waiting.length > 0);
      bench.luns.mapping = (all) => all.filter(({ lun }) => lun !== gone);
      bench.luns.changed();
      for (const volume of [source!, destination!]) volume.submitted.length = 0;
      held.release();
      bench.settle();
      assert.ok(task.ended);
      assert.is(task.senseCode, 0x0a0d02, `${gone} ${during}`);
      assert.is(bench.luns.volumes[gone]!.submitted.length, 0);
    }
});

test("two LUNs for one volume → each has its attentions, and one stays when the other goes", () => {
  const bench = new ScsiBench();
  bench.luns.mapping = (all) => [all[0]!, { ...all[0]!, lun: 5 }];
  const a = bench.nexus("a").ready();
  a.run(testUnitReady, { lun: 5 });
  assert.is(a.run(testUnitReady, { lun: 5 }).status, good);
  manage(bench.nexus("b"), TaskFunction.lunReset);
  for (const lun of [0, 5]) {
    assert.is(a.run(testUnitReady, { lun }).senseCode, 0x062903);
    assert.is(a.run(testUnitReady, { lun }).status, good);
  }
  bench.luns.mapping = (all) => all;
  bench.luns.changed();
  assert.is(a.run(testUnitReady).senseCode, 0x063f0e);
  manage(a, TaskFunction.lunReset);
  assert.is(a.run(testUnitReady).senseCode, 0x062903, "it is still told of what happens to the unit");
});

test("RESERVE(6) by a host whose mapping goes → the unit is free for the others", () => {
  const { bench, a, b } = pair();
  assert.is(a.run([0x16, 0, 0, 0, 0, 0]).status, good);
  assert.is(b.run(cdb.read10(0, 1)).status, reservationConflict);
  bench.luns.mapping = (all, host) => (host.iqn?.endsWith(":a") === true ? [] : all);
  bench.luns.changed();
  assert.is(b.run(cdb.read10(0, 1)).status, good);
});

test("the last session ends while a registration is on its way to the shelf → the next one finds what is kept", () => {
  const bench = new ScsiBench();
  const a = bench.nexus("a").ready();
  assert.is(a.run(cdb.reserveOut(0, 0), { data: reserveList(0, 1, 1) }).status, good);
  const leaving = a.judge(cdb.reserveOut(0, 0), { data: reserveList(1, 0, 0) });
  a.execute(leaving);
  a.nexus.close();
  const next = bench.nexus("b").ready();
  bench.settle();
  assert.ok(leaving.ended);
  assert.is(bench.kept.size, 0);
  assert.is(next.run(cdb.reserveIn(0)).dataIn.byteLength, 8, "nobody is registered");
});

test("PREEMPT AND ABORT by one whose other registration, for all ports, is the victim → ends, and its own tasks stay", () => {
  const bench = new ScsiBench();
  const a = bench.nexus("a", 1).ready();
  const other = bench.nexus("a", 2).ready();
  assert.is(a.run(cdb.reserveOut(0, 0), { data: reserveList(0, 1) }).status, good);
  assert.is(other.run(cdb.reserveOut(0, 0), { data: reserveList(0, 2, 0x04) }).status, good);
  const mine = collecting(a);
  const victim = collecting(other);
  assert.is(a.run(cdb.reserveOut(5, 1), { data: reserveList(1, 2) }).status, good);
  assert.not(mine.ended);
  assert.ok(victim.ended && victim.aborted);
});

// -------------------------------------------------------------------- SANITIZE

const overwrite = [0x48, 0x81, 0, 0, 0, 0, 0, 0, 5, 0];
const zeroes = [0x01, 0, 0, 1, 0x77];

test("SANITIZE goes on when every session has ended, and the volume is closed after it", () => {
  const { bench, a, b, volume } = pair(1, 64 << 20);
  assert.is(a.judge(overwrite, { data: zeroes }).outcome, "accepted");
  assert.is(a.run(overwrite, { data: zeroes }).status, good);
  a.nexus.close();
  b.nexus.close();
  const late = bench.nexus("c");
  late.run(testUnitReady);
  assert.is(late.run(testUnitReady).senseCode, 0x02041b);
  bench.settle();
  assert.is(late.run(testUnitReady).status, good);
  late.nexus.close();
  assert.ok(volume.bytes.every((byte) => byte === 0x77));
  assert.is(volume.targets.size, 0);
});

test("SANITIZE, and its volume ends → failed, until another one succeeds", () => {
  const { bench, a, volume } = pair(1, 64 << 20);
  a.run(overwrite, { data: zeroes });
  volume.end("role");
  bench.settle();
  assert.is(a.run(testUnitReady).senseCode, 0x033103);
  assert.is(a.run([0x48, 0x1f, 0, 0, 0, 0, 0, 0, 0, 0]).senseCode, 0x033103, "without AUSE");
  assert.is(a.run([0x48, 0x02, 0, 0, 0, 0, 0, 0, 0, 0]).status, good);
  assert.is(a.run(testUnitReady).status, good);
});

test("SANITIZE, and the mapping of who waits for it goes → it is told, and the work goes on", () => {
  const { bench, a, b, volume } = pair();
  volume.gate = true;
  const task = a.execute(a.judge([0x48, 0x02, 0, 0, 0, 0, 0, 0, 0, 0]));
  bench.luns.mapping = (all, host) => (host.iqn?.endsWith(":a") === true ? [] : all);
  bench.luns.changed();
  assert.ok(task.ended);
  assert.is(task.senseCode, 0x052500);
  assert.is(b.run(testUnitReady).senseCode, 0x02041b);
  volume.gate = false;
  volume.release();
  bench.settle();
  assert.is(b.run(testUnitReady).status, good);
});

test("the appliance ends in the midst of a SANITIZE → its unit has failed at the next start, until another one succeeds", () => {
  const { bench, a } = pair(1, 64 << 20);
  a.run(overwrite, { data: zeroes });
  for (const command of [testUnitReady, [0x48, 0x1f, 0, 0, 0, 0, 0, 0, 0, 0]]) {
    bench.start();
    assert.is(bench.nexus("a").ready().run(command).senseCode, 0x033103);
  }
  const b = bench.nexus("b").ready();
  assert.is(b.run([0x48, 0x02, 0, 0, 0, 0, 0, 0, 0, 0]).status, good);
  assert.is(b.run(testUnitReady).status, good);
  assert.is(bench.kept.size, 0);
  bench.saveError = "as a test wants it";
  assert.is(b.run(overwrite, { data: zeroes }).senseCode, 0x0b0000);
  assert.is(b.run(testUnitReady).status, good, "it has not begun");
});

test("two SANITIZE whose data lands at the same time → one runs, the other is told", () => {
  const { bench, a, b, volume } = pair(1, 64 << 20);
  const first = a.judge(overwrite, { data: zeroes });
  const second = b.judge(overwrite, { data: [0x01, 0, 0, 1, 0x11] });
  assert.is(a.execute(first).status, good);
  assert.is(b.execute(second).senseCode, 0x02041b);
  assert.is(b.run([0x48, 0x1f, 0, 0, 0, 0, 0, 0, 0, 0]).senseCode, 0x02041b, "EXIT FAILURE MODE too");
  bench.settle();
  assert.ok(volume.bytes.every((byte) => byte === 0x77));
});

// -------------------------------------------------------------------- pools

test("hundreds of commands that read in parts → 16 buffers at a time, each has its turn, aborted ones too", () => {
  const { bench, a, b, volume } = pair(2, 4 << 20);
  const { parts } = bench.device;
  volume.gate = true;
  const tasks = Array.from({ length: 200 }, (_, index) => {
    const host = index % 2 === 0 ? a : b;
    return host.execute(host.judge([0x8f, 0, ...be(0, 8), ...be(8192, 4), 0, 0]));
  });
  assert.is(volume.waiting.length, 16);
  assert.is(parts.lent, 16);
  const answer = manage(a, TaskFunction.abortTaskSet);
  volume.gate = false;
  volume.release();
  bench.settle();
  assert.ok(tasks.every((task, index) => task.ended && task.aborted === (index % 2 === 0)));
  assert.is(answer.outcome, "complete");
  assert.is(parts.lent, 0);
});

test("tasks of every end → every pooled object comes back, once", () => {
  const { bench, a, b, volume } = pair();
  const { pool } = bench.device;
  const taken = new Set<unknown>();
  const drain = (): number => {
    const all = new Set(Array.from({ length: 64 }, () => pool.acquire()));
    assert.is(all.size, 64, "none is there twice");
    const known = [...all].filter((one) => taken.has(one)).length;
    for (const one of all) {
      taken.add(one);
      pool.release(one);
    }
    return known;
  };
  drain();
  for (let round = 0; round < 5; round++) {
    volume.gate = true;
    for (let index = 0; index < 8; index++) write(a, index, index % 3 === 0 ? TaskAttribute.ordered : undefined);
    const dropped = collecting(b);
    collecting(a);
    manage(b, TaskFunction.lunReset);
    if (!dropped.ended) b.nexus.drop(dropped);
    volume.gate = false;
    volume.release();
    bench.settle();
    for (const nexus of [a, b]) nexus.ready();
    a.run(cdb.read10(0, 8));
    a.run([0xff]);
    assert.is(drain(), 64);
  }
});

test.run();
