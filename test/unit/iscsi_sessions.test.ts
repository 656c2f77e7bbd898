/** Sessions over time: task management, pings, shutdown, memory, slow hosts. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { IscsiBench, read10, write10 } from "./support/iscsi_bench.ts";
import { pattern } from "./support/nbd_session.ts";

const test = suite("iscsi_sessions");

const KiB = 1024;
const fast = { InitialR2T: "No", FirstBurstLength: "65536", MaxRecvDataSegmentLength: "262144" };

test("ABORT TASK of a command that waits for its data → answered, its data is dropped, its tag is free", () => {
  const bench = new IscsiBench();
  const { initiator } = bench.open({ ImmediateData: "No" });
  const itt = initiator.command({ cdb: write10(0, 8), write: true, expected: 4 * KiB });
  const { ttt } = initiator.answer();
  initiator.manage({ action: 1, tag: itt });
  const done = initiator.answer();
  assert.equal([done.opcode, done.u8(2)], [0x22, 0]);
  initiator.dataOut({ itt, ttt, offset: 0, data: pattern(4 * KiB) });
  assert.equal(initiator.answers(), []);
  assert.equal(bench.volume.submitted, []);
  initiator.dataOut({ itt, ttt, offset: 0, data: pattern(4 * KiB) });
  assert.is(initiator.answer().opcode, 0x3f);
});

test("ABORT TASK in the middle of a Data-Out → the rest of it is dropped", () => {
  const bench = new IscsiBench();
  const { initiator, stream } = bench.open(fast);
  const bytes = initiator.commandPdu({ cdb: write10(0, 8), write: true, data: pattern(4 * KiB), itt: 5 });
  stream.send(bytes.subarray(0, 1000));
  for (const task of [...bench.nexus.tasks]) {
    task.aborted = true;
    bench.nexus.tasks.delete(task);
    task.onDone(task);
  }
  // Another session's write gets the pooled task while the rest is still to come.
  const other = bench.connect("192.0.2.8:1");
  other.initiator.isid = new Uint8Array([0x80, 9, 9, 9, 9, 9]);
  other.initiator.login({ InitiatorName: "iqn.2026-11.test:two", TargetName: "iqn.2026-11.test.goldcopy:oak" });
  const theirs = other.initiator.commandPdu({ cdb: write10(8, 8), write: true, data: pattern(4 * KiB, 2) });
  other.stream.send(theirs.subarray(0, 1000));
  stream.send(bytes.subarray(1000));
  other.stream.send(theirs.subarray(1000));
  assert.is(other.initiator.answer().u8(3), 0);
  assert.equal(bench.volume.bytes.subarray(4 * KiB, 8 * KiB), pattern(4 * KiB, 2));
  assert.equal(initiator.answers(), []);
  initiator.nop("next");
  assert.is(initiator.answer().text, "next");
});

test("ABORT TASK of a first burst under way → the rest of the burst is dropped without complaint", () => {
  const bench = new IscsiBench();
  const { initiator } = bench.open(fast);
  const itt = initiator.command({ cdb: write10(0, 8), write: true, final: false, expected: 4 * KiB });
  initiator.manage({ action: 1, tag: itt });
  assert.is(initiator.answer().u8(2), 0);
  initiator.dataOut({ itt, offset: 0, data: pattern(2 * KiB), final: false });
  initiator.dataOut({ itt, dataSn: 1, offset: 2 * KiB, data: pattern(2 * KiB) });
  assert.equal(initiator.answers(), []);
});

test("task management → answered after the tasks it affects have ended; they get no answer", () => {
  const bench = new IscsiBench();
  bench.volume.gate = true;
  const { initiator } = bench.open(fast);
  initiator.command({ cdb: read10(0, 8), read: true, expected: 4 * KiB });
  initiator.manage({ action: 5 });
  assert.equal(initiator.answers(), []);
  bench.volume.release();
  bench.clock.runDeferred();
  const answer = initiator.answer();
  assert.equal([answer.opcode, answer.u8(2)], [0x22, 0]);
  assert.is(bench.nexus.tasks.size, 0);
});

test("task management that finds nothing or is not supported → its own response", () => {
  const bench = new IscsiBench();
  const { initiator } = bench.open(fast);
  const response = (fields: Parameters<typeof initiator.manage>[0]) => {
    initiator.manage(fields);
    return initiator.answer().u8(2);
  };
  assert.is(response({ action: 1, tag: 4711 }), 1);
  assert.is(response({ action: 5, lun: 3 }), 2);
  assert.is(response({ action: 8 }), 4);
  assert.is(response({ action: 9 }), 5);
  assert.is(response({ action: 0 }), 5);
  for (const action of [2, 4, 5, 6]) assert.is(response({ action }), 0);
});

test("ABORT TASK of a command that has not come yet → complete, and it is never executed", () => {
  const bench = new IscsiBench();
  const { initiator } = bench.open(fast);
  const at = initiator.cmdSn;
  initiator.cmdSn = at + 2;
  initiator.command({ cdb: [0], expected: 0, cmdSn: at + 1, itt: 31 });
  initiator.manage({ action: 1, tag: 31, refCmdSn: at + 1 });
  assert.is(initiator.answer().u8(2), 0);
  initiator.manage({ action: 1, tag: 30, refCmdSn: at });
  const done = initiator.answer();
  assert.equal([done.opcode, done.u8(2)], [0x22, 0]);
  initiator.command({ cdb: [0], expected: 0, itt: 32 });
  const next = initiator.answer();
  assert.equal([next.itt, next.expCmdSn], [32, at + 3]);
  initiator.command({ cdb: [0], expected: 0, cmdSn: at, itt: 30 });
  assert.equal(initiator.answers(), []);
});

test("TARGET COLD RESET → all sessions are told and end", () => {
  const bench = new IscsiBench();
  const other = bench.connect();
  other.initiator.isid = new Uint8Array([0x80, 9, 9, 9, 9, 9]);
  other.initiator.login({ InitiatorName: "iqn.2026-11.test:two", TargetName: "iqn.2026-11.test.goldcopy:oak" });
  const { initiator, stream } = bench.open(fast);
  initiator.manage({ action: 7 });
  const [response, dropped] = initiator.answers();
  assert.equal([response!.opcode, response!.u8(2)], [0x22, 0]);
  assert.equal([dropped!.opcode, dropped!.u8(36)], [0x32, 3]);
  bench.clock.runDeferred();
  assert.equal([stream.state, other.stream.state], ["ended", "ended"]);
  assert.is(other.initiator.answer().u8(36), 3);
});

test("a silent initiator → pinged, and dead when it stays silent; its tasks end", () => {
  const bench = new IscsiBench({ pingMs: 1000 });
  const { initiator, stream } = bench.open(fast);
  bench.nexus.hold = true;
  initiator.command({ cdb: write10(0, 8), write: true, data: pattern(4 * KiB) });
  bench.clock.pass(1000);
  assert.equal(initiator.answers(), []);
  bench.clock.pass(1000);
  const ping = initiator.answer();
  assert.equal([ping.opcode, ping.itt, ping.ttt], [0x20, 0xffffffff, 1]);
  bench.clock.pass(1000);
  assert.is(stream.state, "aborted");
  assert.ok(bench.nexus.closed);
  assert.equal(bench.codes(), ["iscsi-dead"]);
  assert.equal([bench.server.sessionCount, bench.server.sharedBytes], [0, 0]);
});

test("an initiator that answers pings → lives; StatSN does not move", () => {
  const bench = new IscsiBench({ pingMs: 1000 });
  const { initiator, stream } = bench.open(fast);
  for (let index = 0; index < 10; index++) {
    bench.clock.pass(1000);
    for (const ping of initiator.answers()) initiator.nop("", { itt: 0xffffffff, ttt: ping.ttt, immediate: true });
  }
  assert.is(stream.state, "open");
  initiator.nop("first");
  const first = initiator.answer();
  bench.clock.pass(2000);
  const ping = initiator.answer();
  assert.is(ping.statSn, first.statSn + 1);
  initiator.nop("second");
  assert.is(initiator.answer().statSn, first.statSn + 1);
});

test("shutdown → initiators are asked to log out; who does not is told and dropped", () => {
  const bench = new IscsiBench({ logoutMs: 2000, closingMs: 1000 });
  const { initiator, stream } = bench.open(fast);
  bench.server.closeAll();
  bench.clock.runDeferred();
  const asked = initiator.answer();
  assert.equal([asked.opcode, asked.u8(36), asked.u16(42)], [0x32, 1, 2]);
  initiator.command({ cdb: [0], expected: 0 });
  assert.is(initiator.answer().u8(3), 0);
  assert.is(bench.connect().stream.state, "aborted");
  bench.clock.pass(2000);
  assert.is(initiator.answer().u8(36), 3);
  assert.is(stream.state, "ended");
  bench.clock.pass(1000);
  assert.is(bench.server.sessionCount, 0);
});

test("the nexus ends → the initiator is told, the session ends, one event", () => {
  const bench = new IscsiBench();
  const { initiator, stream } = bench.open(fast);
  bench.nexus.host.attention();
  bench.clock.runDeferred();
  const news = initiator.answer();
  assert.equal([news.opcode, news.u8(36), news.data.byteLength], [0x32, 0, 20]);
  bench.nexus.host.nexusEnded("the role has changed");
  bench.clock.runDeferred();
  assert.is(initiator.answer().u8(36), 3);
  assert.is(stream.state, "ended");
  assert.equal(bench.codes(), ["iscsi-session-ended"]);
});

test("the window → follows the tasks in flight; a closed window is opened by NOP-In when nothing else would tell", () => {
  const bench = new IscsiBench({
    tasksMax: 2,
    sessionBytesMax: 32 * KiB,
    outputBacklogBytes: 16 * KiB,
    writeBytesMax: 32 * KiB,
  });
  const { initiator, stream } = bench.open(fast);
  bench.nexus.hold = true;
  const at = initiator.cmdSn;
  initiator.command({ cdb: [0], expected: 0 });
  initiator.command({ cdb: [0], expected: 0 });
  initiator.command({ cdb: [0], expected: 0, cmdSn: at + 2 });
  initiator.nop("", { immediate: true });
  assert.is(initiator.answer().maxCmdSn, at + 1);
  assert.is(bench.nexus.held.length, 2);
  bench.nexus.release();
  bench.clock.runDeferred();
  assert.is(initiator.answers().at(-1)!.maxCmdSn, at + 3);
  bench.nexus.hold = false;
  // Two reads fill the session's memory while the host does not read.
  stream.roomBytes = 0;
  initiator.cmdSn = at + 2;
  initiator.command({ cdb: read10(0, 40), read: true, expected: 20 * KiB });
  initiator.command({ cdb: read10(0, 16), read: true, expected: 8 * KiB });
  stream.drain(Number.POSITIVE_INFINITY);
  stream.drain(Number.POSITIVE_INFINITY);
  const last = initiator.answers().at(-1)!;
  assert.is(last.maxCmdSn, at + 5);
});

test("a host that does not read → its reads wait at the backlog, others go on; when it reads, all comes", () => {
  const bench = new IscsiBench({ outputBacklogBytes: 64 * KiB });
  bench.volume.bytes.set(pattern(1024 * KiB));
  const { initiator, stream } = bench.open({ ...fast, MaxRecvDataSegmentLength: "8192" });
  const other = bench.connect("192.0.2.8:1");
  other.initiator.isid = new Uint8Array([0x80, 9, 9, 9, 9, 9]);
  other.initiator.login({ InitiatorName: "iqn.2026-11.test:two", TargetName: "iqn.2026-11.test.goldcopy:oak" });
  stream.roomBytes = 0;
  for (let index = 0; index < 8; index++)
    initiator.command({ cdb: read10(index * 256, 256), read: true, expected: 128 * KiB });
  const before = bench.volume.tryReads;
  assert.ok(before <= 9, `${before} reads for 64 KiB of backlog`);
  other.initiator.command({ cdb: read10(0, 8), read: true, expected: 4 * KiB });
  assert.is(other.initiator.answer().data.byteLength, 4 * KiB);
  while (stream.received.byteLength < 1024 * KiB) stream.drain(50_000);
  stream.drain(Number.POSITIVE_INFINITY);
  const answers = initiator.answers();
  assert.is(answers.filter(({ flags }) => (flags & 1) !== 0).length, 8);
  assert.is(
    answers.reduce((sum, { data }) => sum + data.byteLength, 0),
    1024 * KiB,
  );
});

test("LUN RESET while reads wait at the backlog → they end without an answer, the reset is answered", () => {
  const bench = new IscsiBench({ outputBacklogBytes: 64 * KiB });
  const { initiator, stream } = bench.open(fast);
  stream.roomBytes = 0;
  for (let index = 0; index < 8; index++) initiator.command({ cdb: read10(0, 128), read: true, expected: 64 * KiB });
  const inFlight = bench.nexus.tasks.size;
  assert.ok(inFlight >= 6);
  const reset = initiator.manage({ action: 5 });
  assert.is(bench.nexus.tasks.size, 0);
  stream.drain(Number.POSITIVE_INFINITY);
  const answers = initiator.answers();
  assert.equal([answers.at(-1)!.opcode, answers.at(-1)!.itt], [0x22, reset]);
  assert.is(answers.filter(({ opcode }) => opcode === 0x25).length, 8 - inFlight);
  initiator.command({ cdb: read10(0, 8), read: true, expected: 4 * KiB });
  assert.is(initiator.answer().data.byteLength, 4 * KiB);
});

test("a flood of pings that nobody reads the answers of → the input is held at twice the backlog", () => {
  const bench = new IscsiBench({ outputBacklogBytes: 16 * KiB });
  const { initiator, stream } = bench.open(fast);
  stream.roomBytes = 0;
  for (let index = 0; index < 100; index++) initiator.nop(pattern(4 * KiB), { immediate: true });
  assert.ok(stream.paused);
  assert.ok(stream.unread > 80 * 4 * KiB);
  while (stream.unread > 0) stream.drain(64 * KiB);
  stream.drain(Number.POSITIVE_INFINITY);
  assert.is(initiator.answers().length, 100);
});

const tight = {
  guaranteedBytes: 4 * KiB,
  sharedBytesMax: 64 * KiB,
  sessionBytesMax: 64 * KiB,
  writeBytesMax: 64 * KiB,
  outputBacklogBytes: 32 * KiB,
};

test("memory that is short → R2Ts wait their turn and no command holds a part; all are written in the end", () => {
  const bench = new IscsiBench(tight);
  const { initiator } = bench.open({ ImmediateData: "No" });
  const data = pattern(40 * KiB);
  const first = initiator.command({ cdb: write10(0, 80), write: true, expected: 40 * KiB });
  const second = initiator.command({ cdb: write10(80, 80), write: true, expected: 40 * KiB });
  const r2t = initiator.answer();
  assert.is(r2t.itt, first);
  initiator.dataOut({ itt: first, ttt: r2t.ttt, offset: 0, data });
  const answers = initiator.answers();
  assert.equal(
    answers.map(({ opcode, itt }) => [opcode, itt]),
    [
      [0x21, first],
      [0x31, second],
    ],
  );
  initiator.dataOut({ itt: second, ttt: answers[1]!.ttt, offset: 0, data });
  assert.is(initiator.answer().itt, second);
  assert.equal(bench.volume.bytes.subarray(40 * KiB, 80 * KiB), data);
  assert.is(bench.server.sharedBytes, 0);
});

test("immediate data without memory → waits with the input, or TASK SET FULL while R2Ts are out", () => {
  const bench = new IscsiBench(tight);
  const { initiator, stream } = bench.open(fast);
  bench.volume.gate = true;
  initiator.command({ cdb: write10(0, 100), write: true, data: pattern(50 * KiB) });
  initiator.command({ cdb: write10(100, 60), write: true, data: pattern(30 * KiB, 2) });
  assert.ok(stream.paused);
  // Waiting is not trying again and again: this would never return.
  bench.clock.pass(0);
  bench.volume.release();
  bench.clock.runDeferred();
  assert.not.ok(stream.paused);
  bench.volume.release();
  bench.clock.runDeferred();
  assert.equal(
    initiator.answers().map((answer) => answer.u8(3)),
    [0, 0],
  );
  assert.equal(bench.volume.bytes.subarray(50 * KiB, 80 * KiB), pattern(30 * KiB, 2));
  bench.volume.gate = false;
  const long = initiator.command({ cdb: write10(0, 100), write: true, expected: 50 * KiB });
  const { ttt } = initiator.answer();
  initiator.command({ cdb: write10(100, 60), write: true, data: pattern(30 * KiB, 3) });
  assert.is(initiator.answer().u8(3), 0x28);
  initiator.dataOut({ itt: long, ttt, offset: 0, data: pattern(50 * KiB, 4) });
  assert.is(initiator.answer().u8(3), 0);
  assert.equal(bench.volume.bytes.subarray(50 * KiB, 80 * KiB), pattern(30 * KiB, 2));
});

test("memory that comes back → goes to the command that holds the input before any R2T: that data would lie behind it", () => {
  const bench = new IscsiBench(tight);
  const { initiator, stream } = bench.open(fast);
  bench.volume.gate = true;
  initiator.command({ cdb: write10(0, 100), write: true, data: pattern(50 * KiB) });
  const asks = initiator.command({ cdb: write10(200, 80), write: true, expected: 40 * KiB });
  const holds = initiator.command({ cdb: write10(100, 60), write: true, data: pattern(30 * KiB, 2) });
  assert.ok(stream.paused);
  bench.volume.release();
  bench.clock.runDeferred();
  bench.volume.release();
  bench.clock.runDeferred();
  const answers = initiator.answers();
  assert.equal(
    answers.map(({ opcode, itt }) => [opcode, itt]),
    [
      [0x21, asks - 1],
      [0x21, holds],
      [0x31, asks],
    ],
  );
  assert.equal(
    answers.map((answer) => answer.u8(3)),
    [0, 0, 0],
  );
});

test("immediate data without memory while a first burst is open → TASK SET FULL: the burst goes on behind it", () => {
  const bench = new IscsiBench(tight);
  const { initiator, stream } = bench.open(fast);
  const first = initiator.command({
    cdb: write10(0, 100),
    write: true,
    final: false,
    expected: 50 * KiB,
    data: pattern(10 * KiB),
  });
  const second = initiator.command({ cdb: write10(100, 60), write: true, data: pattern(30 * KiB, 2) });
  const full = initiator.answer();
  assert.equal([full.itt, full.u8(3), stream.paused], [second, 0x28, false]);
  initiator.dataOut({ itt: first, offset: 10 * KiB, data: pattern(50 * KiB).subarray(10 * KiB) });
  assert.is(initiator.answer().u8(3), 0);
  assert.equal(bench.volume.bytes.subarray(0, 50 * KiB), pattern(50 * KiB));
});

test("a host that neither reads nor lets itself be asked → dead, also with its input held", () => {
  const bench = new IscsiBench({ pingMs: 1000, outputBacklogBytes: 16 * KiB });
  const { initiator, stream } = bench.open(fast);
  stream.roomBytes = 0;
  for (let index = 0; index < 20; index++) initiator.nop(pattern(4 * KiB), { immediate: true });
  assert.ok(stream.paused);
  for (let index = 0; index < 5; index++) {
    bench.clock.pass(1000);
    stream.drain(1000);
  }
  assert.is(stream.state, "open");
  bench.clock.pass(3000);
  assert.is(stream.state, "aborted");
  assert.equal(bench.codes(), ["iscsi-dead"]);
});

test("a host that stalls with memory while others wait → closed, and the others go on", () => {
  const bench = new IscsiBench({ ...tight, stallMs: 1000, pingMs: 60_000 });
  const stalled = bench.open({ ImmediateData: "No" });
  stalled.initiator.command({ cdb: write10(0, 120), write: true, expected: 60 * KiB });
  assert.is(stalled.initiator.answer().opcode, 0x31);
  const other = bench.connect("192.0.2.8:1");
  other.initiator.isid = new Uint8Array([0x80, 9, 9, 9, 9, 9]);
  other.initiator.login({ InitiatorName: "iqn.2026-11.test:two", TargetName: "iqn.2026-11.test.goldcopy:oak" });
  other.initiator.command({ cdb: write10(0, 60), write: true, expected: 30 * KiB });
  assert.equal(other.initiator.answers(), []);
  bench.clock.pass(2000);
  assert.is(stalled.stream.state, "aborted");
  assert.equal(bench.codes(), ["iscsi-stalled"]);
  assert.is(other.initiator.answer().opcode, 0x31);
});

test("a session that closes with a write and a cold read in flight → both end, nothing is kept", () => {
  const bench = new IscsiBench({ ...tight, guaranteedBytes: 512 });
  const { initiator, stream } = bench.open(fast);
  bench.volume.gate = true;
  initiator.command({ cdb: write10(0, 8), write: true, data: pattern(4 * KiB) });
  initiator.command({ cdb: read10(0, 16), read: true, expected: 8 * KiB });
  stream.close();
  bench.clock.runDeferred();
  assert.is(bench.server.sessionCount, 0);
  assert.ok(bench.server.sharedBytes > 0);
  bench.volume.release();
  bench.clock.runDeferred();
  assert.equal([bench.server.sharedBytes, bench.nexus.tasks.size], [0, 0]);
});

test("1,000 sessions → each is served, all memory comes back", () => {
  const bench = new IscsiBench();
  const streams = [];
  for (let index = 0; index < 1000; index++) {
    const { initiator, stream } = bench.connect(`198.51.${index >> 8}.${index & 255}:1`);
    initiator.isid = new Uint8Array([0x80, 0, 0, 0, index >> 8, index & 255]);
    initiator.login({ InitiatorName: "iqn.2026-11.test:many", TargetName: "iqn.2026-11.test.goldcopy:oak", ...fast });
    initiator.command({ cdb: write10(index, 1), write: true, data: pattern(512, index) });
    assert.is(initiator.answer().u8(3), 0);
    streams.push(stream);
  }
  assert.is(bench.server.sessionCount, 1000);
  for (const stream of streams) stream.close();
  assert.equal([bench.server.sessionCount, bench.server.sharedBytes, bench.clock.timerCount], [0, 0, 0]);
});

test.run();
