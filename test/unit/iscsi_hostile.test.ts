/** PDUs that lie, in the full feature phase: the iSCSI PDU lines of the hostile list, each with the protocol's own answer. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { IscsiBench, read10, write10 } from "./support/iscsi_bench.ts";
import { type Answer, concat } from "./support/iscsi_initiator.ts";
import { pattern } from "./support/nbd_session.ts";

const test = suite("iscsi_hostile");

const KiB = 1024;
const fast = { InitialR2T: "No", FirstBurstLength: "8192", MaxBurstLength: "8192", MaxOutstandingR2T: "1" };

/** Reject, and its reason. */
function rejected(answer: Answer, reason: number): void {
  assert.equal([answer.opcode, answer.u8(2), answer.itt, answer.data.byteLength], [0x3f, reason, 0xffffffff, 48]);
}

function failed(answer: Answer, sense: number): void {
  assert.equal([answer.opcode, answer.u8(3)], [0x21, 2]);
  assert.is(answer.sense.toString(16), sense.toString(16));
}

/** The session still works. */
function alive({ initiator }: ReturnType<IscsiBench["open"]>): void {
  initiator.nop("alive");
  assert.is(initiator.answer().text, "alive");
}

test("additional headers that lie about their length, are unknown, or stand where none may → Reject", () => {
  const open = new IscsiBench().open(fast);
  const { initiator } = open;
  const lies = [
    [0, 0, 1, 0],
    [0, 9, 1, 0, 0, 0, 0, 0],
    [0xff, 0xff, 1, 0],
    [0, 1, 9, 0],
    [0, 1, 1, 0],
    [0, 5, 1, 0, 1, 2, 3, 4, 0, 5, 1, 0, 1, 2, 3, 4],
  ];
  for (const lie of lies) {
    initiator.command({ cdb: [0], expected: 0, ahs: new Uint8Array(lie) });
    rejected(initiator.answer(), 4);
  }
  initiator.send({ opcode: 0, itt: 99, words: { 24: initiator.cmdSn++ }, ahs: new Uint8Array(4) });
  rejected(initiator.answer(), 4);
  alive(open);
});

test("an extended CDB → handed down whole", () => {
  const bench = new IscsiBench();
  const { initiator } = bench.open(fast);
  const cdbs: Uint8Array[] = [];
  const judge = bench.nexus.judge.bind(bench.nexus);
  bench.nexus.judge = (task) => {
    cdbs.push(task.cdb.slice());
    return judge(task);
  };
  initiator.command({ cdb: [0x7f, 1, 2], expected: 0, ahs: new Uint8Array([0, 17, 1, 0, ...pattern(16)]) });
  failed(initiator.answer(), 0x052000);
  assert.is(cdbs[0]!.byteLength, 32);
  assert.equal(cdbs[0]!.subarray(16), pattern(16));
});

test("a data segment above MaxRecvDataSegmentLength → the connection ends, one event", () => {
  for (const dataBytes of [262145, 0xffffff]) {
    const bench = new IscsiBench();
    const { initiator, stream } = bench.open(fast);
    initiator.send({ opcode: 0, itt: 5, words: { 24: initiator.cmdSn }, dataBytes });
    assert.equal([stream.state, bench.codes()], ["ended", ["iscsi-format-error"]]);
    assert.ok(bench.nexus.closed);
  }
});

test("a bad header digest → the connection ends; a bad data digest → Reject and CHECK CONDITION", () => {
  const bench = new IscsiBench();
  const open = bench.open({ ...fast, HeaderDigest: "CRC32C", DataDigest: "CRC32C" });
  const { initiator, stream } = open;
  initiator.command({ cdb: write10(0, 8), write: true, data: pattern(4 * KiB), dataDigest: "bad" });
  const [first, second] = initiator.answers();
  rejected(first!, 2);
  failed(second!, 0x0b4705);
  const itt = initiator.command({ cdb: write10(0, 8), write: true, final: false, expected: 4 * KiB });
  initiator.dataOut({ itt, offset: 0, data: pattern(2 * KiB), final: false, dataDigest: "bad" });
  rejected(initiator.answer(), 2);
  initiator.dataOut({ itt, dataSn: 1, offset: 2 * KiB, data: pattern(2 * KiB) });
  failed(initiator.answer(), 0x0b4705);
  initiator.send({ opcode: 0, itt: 7, words: { 24: initiator.cmdSn++ }, data: "ping", dataDigest: "bad" });
  rejected(initiator.answer(), 2);
  assert.equal(bench.volume.submitted, []);
  alive(open);
  initiator.send({ opcode: 0, itt: 8, words: { 24: initiator.cmdSn }, headerDigest: "bad" });
  assert.equal([stream.state, bench.codes()], ["ended", ["iscsi-header-digest"]]);
});

test("CmdSN below and above the window → ignored, with its data; the wrap at 2^32 → nothing special", () => {
  const bench = new IscsiBench({ tasksMax: 4 });
  const { initiator } = bench.connect();
  initiator.cmdSn = 0xfffffff8;
  const keys = { InitiatorName: "iqn.2026-11.test:wrap", TargetName: "iqn.2026-11.test.goldcopy:oak", ...fast };
  assert.is(initiator.login(keys).loginStatus, 0);
  for (let index = 0; index < 16; index++) {
    const expected = (0xfffffff8 + index + 1) >>> 0;
    initiator.command({ cdb: write10(0, 1), write: true, data: pattern(512), cmdSn: (0xfffffff8 + index) >>> 0 });
    const answer = initiator.answer();
    assert.equal([answer.u8(3), answer.expCmdSn, answer.maxCmdSn], [0, expected, (expected + 3) >>> 0]);
  }
  const judged = bench.nexus.log.length;
  for (const cmdSn of [7, 12, 0x80000000, 0xfffffff8]) {
    initiator.command({ cdb: write10(0, 1), write: true, data: pattern(512), cmdSn });
  }
  assert.equal(initiator.answers(), []);
  assert.is(bench.nexus.log.length, judged);
});

test("commands ahead of their turn → kept and executed in order; immediate ones at once", () => {
  const bench = new IscsiBench();
  const { initiator } = bench.open(fast);
  const at = initiator.cmdSn;
  initiator.command({ cdb: write10(2, 1), write: true, data: pattern(512, 2), cmdSn: at + 2, itt: 12 });
  initiator.command({ cdb: write10(1, 1), write: true, data: pattern(512, 1), cmdSn: at + 1, itt: 11 });
  initiator.command({ cdb: write10(1, 1), write: true, data: pattern(512, 9), cmdSn: at + 1, itt: 13 });
  assert.equal(initiator.answers(), []);
  initiator.command({ cdb: [0], expected: 0, immediate: true, itt: 20, cmdSn: at });
  assert.is(initiator.answer().itt, 20);
  initiator.command({ cdb: write10(0, 1), write: true, data: pattern(512, 3), cmdSn: at, itt: 10 });
  assert.equal(
    initiator.answers().map(({ itt }) => itt),
    [10, 11, 12],
  );
  assert.equal(
    bench.volume.submitted.map(({ startLba }) => startLba),
    [0, 1, 2],
  );
  assert.equal(bench.volume.bytes.subarray(512, 1024), pattern(512, 1));
});

test("more data kept ahead than is allowed → the rest is as good as lost", () => {
  const bench = new IscsiBench({ aheadBytesMax: 8 * KiB });
  const { initiator } = bench.open({ ...fast, FirstBurstLength: "4096" });
  const at = initiator.cmdSn;
  for (let index = 1; index <= 5; index++) {
    initiator.command({
      cdb: write10(index * 8, 8),
      write: true,
      data: pattern(4 * KiB),
      cmdSn: at + index,
      itt: index,
    });
  }
  initiator.command({ cdb: [0], expected: 0, cmdSn: at, itt: 77 });
  assert.equal(
    initiator.answers().map(({ itt }) => itt),
    [77, 1, 2],
  );
});

test("DataSN, offset or length of a Data-Out that are wrong → CHECK CONDITION at its end, nothing written", () => {
  const wrong = [
    { dataSn: 1, offset: 4096, bytes: 4096 },
    { dataSn: 0, offset: 0, bytes: 4096 },
    { dataSn: 0, offset: 8192, bytes: 4096 },
    { dataSn: 0, offset: 4096, bytes: 4100 },
    { dataSn: 0, offset: 4096, bytes: 512 },
    { dataSn: 0, offset: 0xfffff000, bytes: 4096 },
  ];
  for (const { dataSn, offset, bytes } of wrong) {
    const bench = new IscsiBench();
    const open = bench.open({ InitialR2T: "Yes", FirstBurstLength: "4096", MaxBurstLength: "4096" });
    const { initiator } = open;
    const itt = initiator.command({ cdb: write10(0, 16), write: true, expected: 8 * KiB, data: pattern(4 * KiB) });
    const { ttt } = initiator.answer();
    initiator.dataOut({ itt, ttt, dataSn, offset, data: pattern(bytes) });
    failed(initiator.answer(), 0x0b0c0d);
    assert.equal(bench.volume.submitted, []);
    assert.is(bench.nexus.tasks.size, 0);
    alive(open);
  }
});

test("Data-Out with another ITT than its TTT's, an unknown TTT, or for no command → refused", () => {
  const open = new IscsiBench().open({ InitialR2T: "Yes", ImmediateData: "No" });
  const { initiator } = open;
  const itt = initiator.command({ cdb: write10(0, 8), write: true, expected: 4 * KiB });
  const { ttt } = initiator.answer();
  initiator.dataOut({ itt, ttt: ttt + 1, offset: 0, data: pattern(4 * KiB) });
  rejected(initiator.answer(), 9);
  initiator.dataOut({ itt, offset: 0, data: pattern(4 * KiB) });
  rejected(initiator.answer(), 9);
  initiator.dataOut({ itt: itt + 100, offset: 0, data: pattern(4 * KiB) });
  rejected(initiator.answer(), 9);
  initiator.dataOut({ itt: itt + 1, ttt, offset: 0, data: pattern(4 * KiB) });
  failed(initiator.answer(), 0x0b0c0d);
  alive(open);
});

test("data for R2Ts in the wrong sequence → CHECK CONDITION when all has come", () => {
  const bench = new IscsiBench();
  const { initiator } = bench.open({ ImmediateData: "No", MaxBurstLength: "4096", MaxOutstandingR2T: "2" });
  const itt = initiator.command({ cdb: write10(0, 16), write: true, expected: 8 * KiB });
  const [first, second] = initiator.answers();
  initiator.dataOut({ itt, ttt: second!.ttt, offset: 4 * KiB, data: pattern(4 * KiB) });
  assert.equal(initiator.answers(), []);
  initiator.dataOut({ itt, ttt: first!.ttt, offset: 0, data: pattern(4 * KiB) });
  failed(initiator.answer(), 0x0b0c0d);
  assert.equal(bench.volume.submitted, []);
});

test("unsolicited data where none may be → CHECK CONDITION or Reject", () => {
  const noImmediate = new IscsiBench().open({ ImmediateData: "No" });
  noImmediate.initiator.command({ cdb: write10(0, 1), write: true, data: pattern(512) });
  failed(noImmediate.initiator.answer(), 0x0b0c0c);
  const initialR2t = new IscsiBench().open({ InitialR2T: "Yes" });
  const itt = initialR2t.initiator.command({ cdb: write10(0, 8), write: true, final: false, expected: 4 * KiB });
  failed(initialR2t.initiator.answer(), 0x0b0c0c);
  initialR2t.initiator.dataOut({ itt, offset: 0, data: pattern(4 * KiB) });
  rejected(initialR2t.initiator.answer(), 9);
  const burst = new IscsiBench().open({ ...fast, FirstBurstLength: "1024" });
  burst.initiator.command({ cdb: write10(0, 8), write: true, expected: 4 * KiB, data: pattern(2 * KiB) });
  failed(burst.initiator.answer(), 0x0b0c0c);
  const later = burst.initiator.command({ cdb: write10(0, 8), write: true, final: false, expected: 4 * KiB });
  burst.initiator.dataOut({ itt: later, offset: 0, data: pattern(2 * KiB) });
  failed(burst.initiator.answer(), 0x0b0c0c);
  burst.initiator.command({ cdb: write10(0, 8), write: true, expected: 100, data: pattern(512) });
  failed(burst.initiator.answer(), 0x0b0c0c);
  burst.initiator.command({ cdb: read10(0, 1), read: true, expected: 512, data: pattern(512) });
  rejected(burst.initiator.answer(), 4);
  burst.initiator.command({ cdb: read10(0, 1), read: true, final: false, expected: 512 });
  rejected(burst.initiator.answer(), 4);
  alive(burst);
});

test("both directions at once → CHECK CONDITION, not judged", () => {
  const bench = new IscsiBench();
  const { initiator } = bench.open(fast);
  initiator.command({ cdb: write10(0, 1), read: true, write: true, data: pattern(512) });
  failed(initiator.answer(), 0x052400);
  assert.equal(bench.nexus.log, []);
});

test("more data than any command may have → CHECK CONDITION, no memory is taken", () => {
  const bench = new IscsiBench({ writeBytesMax: 16 * KiB });
  const { initiator } = bench.open(fast);
  initiator.command({ cdb: write10(0, 64), write: true, expected: 32 * KiB });
  failed(initiator.answer(), 0x052400);
  initiator.command({ cdb: [0], write: true, expected: 0xffffffff });
  assert.is(initiator.answer().u8(3), 0);
  initiator.command({ cdb: read10(0, 1), read: true, expected: 0xffffffff });
  const answer = initiator.answer();
  assert.equal([answer.flags & 6, answer.u32(44)], [2, 0xffffffff - 512]);
});

test("an ITT in flight, the reserved ITT, a reserved attribute → Reject, the first command goes on", () => {
  const bench = new IscsiBench();
  const { initiator } = bench.open(fast);
  bench.nexus.hold = true;
  const itt = initiator.command({ cdb: [0], expected: 0 });
  initiator.command({ cdb: [0], expected: 0, itt });
  rejected(initiator.answer(), 7);
  initiator.command({ cdb: [0], expected: 0, itt: 0xffffffff });
  rejected(initiator.answer(), 9);
  initiator.command({ cdb: [0], expected: 0, attribute: 7 });
  rejected(initiator.answer(), 9);
  bench.nexus.release();
  bench.clock.runDeferred();
  assert.is(initiator.answer().itt, itt);
  bench.nexus.hold = false;
  initiator.command({ cdb: [0], expected: 0, itt });
  assert.is(initiator.answer().itt, itt);
});

test("opcodes that are reserved, of targets, SNACK, a login again → Reject", () => {
  const open = new IscsiBench().open(fast);
  const { initiator } = open;
  const reasons: [number, number][] = [
    [0x10, 3],
    [0x03, 4],
    [0x07, 5],
    [0x1c, 5],
    [0x21, 5],
    [0x3f, 5],
  ];
  for (const [opcode, reason] of reasons) {
    initiator.send({ opcode, immediate: true, itt: 3, data: "whatever" });
    rejected(initiator.answer(), reason);
  }
  initiator.send({ opcode: 2, immediate: true, itt: 3, data: "task management has no data" });
  rejected(initiator.answer(), 4);
  initiator.send({ opcode: 6, immediate: true, flags: 0x80 | 5, itt: 3 });
  rejected(initiator.answer(), 9);
  alive(open);
});

test("a ping longer than is kept → Reject", () => {
  const open = new IscsiBench().open(fast);
  open.initiator.nop(new Uint8Array(64 * KiB + 1));
  rejected(open.initiator.answer(), 9);
  open.initiator.nop(pattern(64 * KiB));
  assert.is(open.initiator.answer().data.byteLength, 8192);
  alive(open);
});

test("more immediate commands than allowed → Reject", () => {
  const bench = new IscsiBench({ immediateTasksMax: 2 });
  const { initiator } = bench.open(fast);
  bench.nexus.hold = true;
  for (let index = 0; index < 2; index++) initiator.command({ cdb: [0], expected: 0, immediate: true });
  initiator.command({ cdb: [0], expected: 0, immediate: true });
  rejected(initiator.answer(), 6);
});

test("text requests that lie → Reject", () => {
  const open = new IscsiBench().open(fast);
  const { initiator } = open;
  initiator.text(new TextEncoder().encode("NoNul=1"));
  rejected(initiator.answer(), 4);
  initiator.text({}, { ttt: 1234 });
  rejected(initiator.answer(), 9);
  initiator.text({}, { flags: 0xc0 });
  rejected(initiator.answer(), 4);
  initiator.text({}, { itt: 0xffffffff });
  rejected(initiator.answer(), 9);
  initiator.text({ HeaderDigest: "CRC32C", "X-mine": "1" });
  assert.is(initiator.answer().text, "HeaderDigest=Reject\0X-mine=NotUnderstood\0");
  const itt = initiator.itt;
  initiator.text(new Uint8Array(0), { flags: 0x40 });
  let answer = initiator.answer();
  let pieces = 0;
  while (answer.opcode === 0x24) {
    initiator.text(new Uint8Array(8192), { itt, ttt: answer.ttt, flags: 0x40 });
    answer = initiator.answer();
    pieces++;
  }
  rejected(answer, 4);
  assert.is(pieces, 3);
  alive(open);
});

test("a write cut into tiny PDUs, each in tiny pieces → written; its pieces stay few", () => {
  const bench = new IscsiBench();
  let pieces = 0;
  const { initiator, stream } = bench.open({ ...fast, FirstBurstLength: "65536", MaxBurstLength: "65536" });
  const execute = bench.nexus.execute.bind(bench.nexus);
  bench.nexus.execute = (task) => {
    pieces = task.dataOut.length;
    return execute(task);
  };
  const data = pattern(16 * KiB);
  const itt = initiator.command({ cdb: write10(0, 32), write: true, final: false, expected: 16 * KiB });
  const bytes: Uint8Array[] = [];
  for (let at = 0; at < data.byteLength; at += 16) {
    bytes.push(
      initiator.pdu({
        opcode: 5,
        flags: at + 16 === data.byteLength ? 0x80 : 0,
        itt,
        words: { 20: 0xffffffff, 36: at / 16, 40: at },
        data: data.subarray(at, at + 16),
      }),
    );
  }
  stream.sendInPieces(concat(bytes), 7);
  assert.is(initiator.answer().u8(3), 0);
  assert.equal(bench.volume.bytes.subarray(0, 16 * KiB), data);
  assert.ok(pieces <= 70, `${pieces} pieces`);
});

test("a stream that ends or closes in the middle of a write → nothing written, all is given back", () => {
  for (const cut of [10, 48, 60, 48 + 4 * KiB - 1]) {
    const bench = new IscsiBench({ guaranteedBytes: 512 });
    const { initiator, stream } = bench.open(fast);
    stream.send(initiator.commandPdu({ cdb: write10(0, 8), write: true, data: pattern(4 * KiB) }).subarray(0, cut));
    stream.handler.onEnd();
    bench.clock.runDeferred();
    assert.equal(bench.codes(), ["iscsi-truncated"]);
    stream.close();
    assert.equal([bench.server.sessionCount, bench.server.sharedBytes], [0, 0]);
    assert.is(bench.nexus.tasks.size, 0);
    assert.equal(bench.volume.submitted, []);
  }
});

test.run();
