/** The task set, task management, unit attentions and what the target says of itself (SAM-5 5 to 8, SPC-5 6). */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { toHex } from "../../firmware/codec/bytes.ts";
import { TaskFunction, type TaskFunctionOutcome } from "../../firmware/frontend/scsi/device_server.ts";
import { ScsiStatus, TaskAttribute } from "../../firmware/frontend/scsi/task.ts";
import { MemoryVolume } from "./support/memory_target.ts";
import { type BenchNexus, be, cdb, reserveList, ScsiBench, targetName } from "./support/scsi_bench.ts";

const test = suite("scsi_tasks");
const { good } = ScsiStatus;
const block = new Uint8Array(512).fill(1);

function pair() {
  const bench = new ScsiBench();
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

function write(nexus: BenchNexus, lba: number, attribute: TaskAttribute = TaskAttribute.simple) {
  return nexus.execute(nexus.judge(cdb.write10(lba, 1), { data: block, attribute }));
}

test("a new nexus → POWER ON once, but not for INQUIRY, REPORT LUNS and REQUEST SENSE", () => {
  const nexus = new ScsiBench().nexus("a");
  assert.is(nexus.run(cdb.inquiry(null)).status, good);
  assert.is(nexus.run([0xa0, 0, 0, 0, 0, 0, ...be(64, 4), 0, 0]).status, good);
  assert.is(nexus.run([0]).senseCode, 0x062900);
  assert.is(nexus.run([0]).status, good);
  const sensing = new ScsiBench().nexus("a");
  const { status, dataIn } = sensing.run([3, 0, 0, 0, 252, 0]);
  assert.equal([status, dataIn[2], dataIn[12], dataIn[13]], [good, 6, 0x29, 0]);
  assert.is(sensing.run([0]).status, good, "told with REQUEST SENSE");
});

test("an ORDERED task → waits for what is older, and what is younger waits for it", () => {
  const { bench, a, volume } = pair();
  volume.gate = true;
  const older = write(a, 1);
  const ordered = write(a, 2, TaskAttribute.ordered);
  const younger = write(a, 3);
  const reading = a.execute(a.judge(cdb.read10(1, 1)));
  const first = write(a, 4, TaskAttribute.headOfQueue);
  assert.equal(
    volume.waiting.map(({ startLba }) => startLba),
    [1, 4],
  );
  volume.release();
  assert.ok(older.ended && first.ended);
  assert.equal(
    volume.waiting.map(({ startLba }) => startLba),
    [2],
  );
  volume.release();
  assert.ok(ordered.ended);
  assert.equal(
    volume.waiting.map(({ startLba, kind }) => [kind, startLba]),
    [
      ["write", 3],
      ["read", 1],
    ],
  );
  volume.release();
  bench.settle();
  assert.ok(younger.ended && reading.ended);
  assert.equal(reading.dataIn, block);
});

test("an ORDERED task that is dropped or aborted → those behind it go on", () => {
  for (const how of ["drop", "abort"]) {
    const { a } = pair();
    const ordered = a.judge(cdb.write10(2, 1), { data: block, attribute: TaskAttribute.ordered });
    const younger = write(a, 3);
    assert.not(younger.ended);
    if (how === "drop") a.nexus.drop(ordered);
    else assert.is(manage(a, TaskFunction.abortTask, ordered.tag).outcome, "complete");
    assert.ok(younger.ended, how);
  }
});

test("ABORT TASK → before its data, at once; under way, when it is decided; unknown → not there", () => {
  const { bench, a, b, volume } = pair();
  const collecting = a.judge(cdb.write10(0, 1), { data: block });
  assert.is(manage(b, TaskFunction.abortTask, collecting.tag + 99).outcome, "task-not-there");
  assert.is(manage(a, TaskFunction.abortTask, collecting.tag).outcome, "complete");
  assert.ok(collecting.ended && collecting.aborted);
  volume.gate = true;
  const running = write(a, 0);
  const answer = manage(a, TaskFunction.abortTask, running.tag);
  assert.is(answer.outcome, null);
  volume.release();
  bench.settle();
  assert.ok(running.ended && running.aborted);
  assert.is(answer.outcome, "complete");
  assert.is(manage(a, TaskFunction.abortTask, running.tag).outcome, "task-not-there");
  assert.is(manage(a, TaskFunction.lunReset, 0, 9).outcome, "lun-not-there");
  assert.is(manage(a, TaskFunction.clearAca).outcome, "not-supported");
});

test("ABORT TASK SET → one's own; CLEAR TASK SET → everybody's, and they are told", () => {
  const { a, b } = pair();
  const mine = a.judge(cdb.write10(0, 1), { data: block });
  const yours = b.judge(cdb.write10(1, 1), { data: block });
  assert.is(manage(a, TaskFunction.abortTaskSet).outcome, "complete");
  assert.ok(mine.ended);
  assert.not(yours.ended);
  assert.is(manage(a, TaskFunction.clearTaskSet).outcome, "complete");
  assert.ok(yours.ended && yours.aborted);
  assert.is.not(yours.status, ScsiStatus.taskAborted);
  assert.is(b.run([0]).senseCode, 0x062f00);
  assert.is(a.run([0]).status, good);
});

test("TAS 1 → tasks that another nexus clears, or preempts, end with TASK ABORTED", () => {
  const { bench, a, b } = pair();
  const control = [0, 0, 0, 0, 0x0a, 10, 0, 0x10, 0, 0x40, 0, 0, 0xff, 0xff, 0, 0];
  assert.is(a.run(cdb.modeSelect6(control.length), { data: control }).status, good);
  assert.is(b.run([0]).senseCode, 0x062a01);
  const cleared = b.judge(cdb.write10(1, 1), { data: block });
  manage(a, TaskFunction.clearTaskSet);
  assert.is(cleared.status, ScsiStatus.taskAborted);
  assert.is(b.run([0]).status, good, "and no unit attention");
  for (const [nexus, key] of [
    [a, 1],
    [b, 2],
  ] as const)
    assert.is(nexus.run(cdb.reserveOut(0, 0), { data: reserveList(0, key) }).status, good);
  const victim = b.judge(cdb.write10(1, 1), { data: block });
  a.run(cdb.reserveOut(5, 1), { data: reserveList(1, 2) });
  bench.settle();
  assert.ok(victim.ended);
  assert.is(victim.status, ScsiStatus.taskAborted);
  assert.is(b.run([0]).senseCode, 0x062a05);
  assert.is(b.run([0]).status, good);
});

test("LUN RESET and TARGET RESET → all tasks end, mode parameters are as at power on, everybody is told", () => {
  for (const action of [TaskFunction.lunReset, TaskFunction.targetReset]) {
    const { a, b } = pair();
    const control = [0, 0, 0, 0, 0x0a, 10, 0x04, 0x10, 0x08, 0, 0, 0, 0xff, 0xff, 0, 0];
    assert.is(a.run(cdb.modeSelect6(control.length), { data: control }).status, good);
    b.run([0]);
    assert.is(b.run([0xff]).sense[0], 0x72, "D_SENSE");
    assert.is(b.run(cdb.write10(0, 1), { data: block }).senseCode, 0x072702, "SWP");
    const task = b.judge(cdb.read10(0, 1));
    assert.is(manage(a, action).outcome, "complete");
    assert.ok(task.ended);
    for (const nexus of [a, b]) assert.is(nexus.run([0]).senseCode, 0x062903);
    assert.is(b.run(cdb.write10(0, 1), { data: block }).status, good);
    assert.is(b.run([0xff]).sense[0], 0x70);
  }
});

test("more tasks than a task set holds → TASK SET FULL", () => {
  const { a, b } = pair();
  for (let index = 0; index < 2048; index++) a.judge(cdb.write10(0, 1), { data: block });
  assert.is(b.run([0]).status, ScsiStatus.taskSetFull);
  manage(a, TaskFunction.abortTaskSet);
  assert.is(b.run([0]).status, good);
});

test("a nexus closes → tasks before execute are gone, what is under way ends aborted, its volume is closed", () => {
  const { bench, a, volume } = pair();
  const collecting = a.judge(cdb.write10(0, 1), { data: block });
  volume.gate = true;
  const running = write(a, 1);
  const ordered = write(a, 2, TaskAttribute.ordered);
  a.nexus.close();
  assert.ok(ordered.ended && ordered.aborted);
  assert.is(collecting.ends, 0, "ended with the call");
  assert.not(running.ended);
  volume.release();
  bench.settle();
  assert.ok(running.ended && running.aborted);
  assert.is(volume.targets.size, 1, "that of the other nexus");
});

test("mappings change → what is new is there, REPORTED LUNS DATA HAS CHANGED until REPORT LUNS", () => {
  const { bench, a, b } = pair();
  bench.luns.add(new MemoryVolume("more", 1 << 20, null));
  assert.is(a.run([0]).senseCode, 0x063f0e);
  const luns = b.run([0xa0, 0, 2, 0, 0, 0, ...be(64, 4), 0, 0]).dataIn;
  assert.equal([...luns], [...be(16, 4), 0, 0, 0, 0, ...be(0, 8), 0, 1, 0, 0, 0, 0, 0, 0]);
  assert.is(b.run([0]).status, good);
  assert.is(b.run([0], { lun: 1 }).senseCode >> 16, 6);
  assert.is(b.run([0], { lun: 1 }).status, good);
});

test("a LUN that is none → only INQUIRY, REPORT LUNS and REQUEST SENSE answer, and say so", () => {
  const { a } = pair();
  assert.is(a.run([0], { lun: 7 }).senseCode, 0x052500);
  assert.is(a.run(cdb.read10(0, 1), { lun: 7 }).senseCode, 0x052500);
  assert.is(a.run(cdb.inquiry(null), { lun: 7 }).dataIn[0], 0x7f);
  assert.is(a.run(cdb.inquiry(0x83), { lun: 7 }).senseCode, 0x052400);
  const sensed = a.run([3, 0, 0, 0, 252, 0], { lun: 7 }).dataIn;
  assert.equal([sensed[2], sensed[12]], [5, 0x25]);
});

test("INQUIRY → standard data and vital product data, byte by byte", () => {
  const { a } = pair();
  const standard = a.run(cdb.inquiry(null)).dataIn;
  assert.is(standard.byteLength, 96);
  assert.equal([...standard.subarray(0, 8)], [0, 0, 6, 0x12, 91, 0x18, 0x10, 2]);
  assert.is(new TextDecoder().decode(standard.subarray(8, 36)), "GOLDCOPYVIRTUAL DISK    0001");
  assert.is(a.run(cdb.inquiry(null, 5)).dataIn.byteLength, 5);
  const supported = a.run(cdb.inquiry(0x00)).dataIn;
  const pages = [...supported.subarray(4)];
  assert.equal(pages, [0x00, 0x80, 0x83, 0x86, 0x8f, 0xb0, 0xb1, 0xb2]);
  for (const page of pages) {
    const { status, dataIn } = a.run(cdb.inquiry(page));
    assert.equal([status, dataIn[0], dataIn[1]], [good, 0, page]);
    assert.is(dataIn[2]! * 256 + dataIn[3]!, dataIn.byteLength - 4, `length of ${page.toString(16)}`);
  }
  assert.is(a.run(cdb.inquiry(0xb7)).senseCode, 0x052400);
  assert.is(a.run([0x12, 0, 0x80, 0, 255, 0]).senseCode, 0x052400, "a page without EVPD");
  assert.is(new TextDecoder().decode(a.run(cdb.inquiry(0x80)).dataIn.subarray(4)), "5eed0000".repeat(4));
  const limits = a.run(cdb.inquiry(0xb0)).dataIn;
  assert.equal([...limits.subarray(4, 12)], [0, 255, 0, 8, 0, 1, 0, 0]);
  assert.equal([...limits.subarray(20, 36)], [255, 255, 255, 255, 0, 0, 1, 0, 0, 0, 0, 8, 0x80, 0, 0, 0]);
  assert.equal([...a.run(cdb.inquiry(0xb2)).dataIn], [0, 0xb2, 0, 4, 0, 0xe4, 2, 0]);
});

test("device identification → the unit, then the port that it is seen through; the same unit through another port", () => {
  const { bench, a } = pair();
  const read = (nexus: BenchNexus) => {
    const { dataIn } = nexus.run(cdb.inquiry(0x83));
    const found: [number, number, string][] = [];
    for (let at = 4; at < dataIn.byteLength; at += 4 + dataIn[at + 3]!) {
      const value = dataIn.subarray(at + 4, at + 4 + dataIn[at + 3]!);
      const isText = (dataIn[at]! & 0x0f) > 1;
      const text = isText ? new TextDecoder().decode(value).replace(/\0+$/, "") : toHex(value);
      found.push([dataIn[at]!, dataIn[at + 1]!, text]);
    }
    return found;
  };
  assert.equal(read(a), [
    [0x01, 0x03, "3eed00005eed0000"],
    [0x02, 0x01, `GOLDCOPY${"5eed0000".repeat(4)}`],
    [0x51, 0x94, "00000001"],
    [0x51, 0x95, "00000001"],
    [0x53, 0x98, `${targetName},t,0x0001`],
    [0x53, 0xa8, targetName],
  ]);
  const other = read(bench.nexus("a", 2));
  assert.equal(other.slice(0, 2), read(a).slice(0, 2));
  assert.equal(other[2], [0x51, 0x94, "00000002"]);
});

test("MODE SENSE → pages, changeable masks, no saved ones; MODE SELECT changes what the masks allow alone", () => {
  const { a, b } = pair();
  assert.equal(
    [...a.run(cdb.modeSense6(0x0a)).dataIn],
    [15, 0, 0x10, 0, 0x0a, 10, 0, 0x10, 0, 0, 0, 0, 255, 255, 0, 0],
  );
  assert.equal(
    [...a.run(cdb.modeSense6(0x0a, 1)).dataIn.subarray(4)],
    [0x0a, 10, 0x04, 0, 0x08, 0x40, 0, 0, 0, 0, 0, 0],
  );
  const caching = a.run(cdb.modeSense6(0x08)).dataIn;
  assert.is(caching[6]! & 0x04, 0, "WCE");
  assert.is(a.run(cdb.modeSense6(0x08, 1)).dataIn[6]! & 0x04, 0, "WCE cannot be changed");
  assert.is(a.run(cdb.modeSense6(0x3f, 3)).senseCode, 0x053900);
  assert.is(a.run(cdb.modeSense6(0x07)).senseCode, 0x052400);
  const wce = [0, 0, 0, 0, 0x08, 18, 0x04, ...Array<number>(17).fill(0)];
  assert.is(a.run(cdb.modeSelect6(wce.length), { data: wce }).senseCode, 0x052600);
  const cut = [0, 0, 0, 0, 0x0a, 10, 0x04];
  assert.is(a.run(cdb.modeSelect6(cut.length), { data: cut }).senseCode, 0x051a00);
  assert.is(a.run([0x15, 0x11, 0, 0, 4, 0], { data: [0, 0, 0, 0] }).senseCode, 0x052400, "SP");
  assert.is(b.run([0]).status, good, "nothing has changed");
  const whole = [...a.run([0x5a, 0, 0x3f, 0xff, 0, 0, 0, ...be(4096, 2), 0]).dataIn];
  assert.is(whole[0]! * 256 + whole[1]!, whole.length - 2);
  assert.equal(whole.slice(8, 16), [0, 0, 0x40, 0, 0, 0, 2, 0]);
});

test("REPORT SUPPORTED OPERATION CODES → all, and each by its usage data; REPORT TARGET PORT GROUPS", () => {
  const { a } = pair();
  const all = a.run([0xa3, 0x0c, 0x80, 0, 0, 0, ...be(65535, 4), 0, 0]).dataIn;
  assert.is((all.byteLength - 4) % 20, 0);
  const view = new DataView(all.buffer, all.byteOffset);
  for (let at = 4; at < all.byteLength; at += 20) {
    const hasAction = (all[at + 5]! & 1) !== 0;
    const action = view.getUint16(at + 2);
    const one = a.run([0xa3, 0x0c, hasAction ? 2 : 1, all[at]!, ...be(action, 2), ...be(255, 4), 0, 0]).dataIn;
    const name = `${all[at]!.toString(16)}/${action}`;
    assert.is(one[1]! & 7, 3, name);
    assert.is(one[3], view.getUint16(at + 6), name);
    assert.is(one.byteLength, 4 + one[3]!, name);
    assert.is(one[4], all[at], name);
  }
  assert.equal([...a.run([0xa3, 0x0c, 1, 0xee, 0, 0, ...be(255, 4), 0, 0]).dataIn], [0, 1, 0, 0]);
  const groups = a.run([0xa3, 0x0a, 0, 0, 0, 0, ...be(255, 4), 0, 0]).dataIn;
  assert.equal([...groups], [...be(16, 4), 0, 0x0f, 0, 1, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2]);
});

test("an operation code or a service action that is none → told apart", () => {
  const { a } = pair();
  assert.is(a.run([0xee]).senseCode, 0x052000);
  assert.is(a.run([0x9e, 0x1f]).senseCode, 0x052400);
});

test.run();
