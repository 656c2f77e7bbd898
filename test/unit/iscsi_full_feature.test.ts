/** The full feature phase: commands, data both ways, R2T, residuals, NOP, text, logout. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Prng } from "../../hal/mock/prng.ts";
import { IscsiBench, initiatorName, read10, targetName, write10 } from "./support/iscsi_bench.ts";
import type { Answer } from "./support/iscsi_initiator.ts";
import { concat } from "./support/iscsi_initiator.ts";
import { pattern } from "./support/nbd_session.ts";

const test = suite("iscsi_full_feature");

const KiB = 1024;
const fast = {
  InitialR2T: "No",
  ImmediateData: "Yes",
  MaxRecvDataSegmentLength: "262144",
  MaxBurstLength: "262144",
  FirstBurstLength: "65536",
};

function dataOf(answers: readonly Answer[]): Uint8Array {
  return concat(answers.filter(({ opcode }) => opcode === 0x25).map(({ data }) => data));
}

test("a read → its data, with status in the last PDU", () => {
  const bench = new IscsiBench();
  bench.volume.bytes.set(pattern(8 * KiB), 4 * KiB);
  const { initiator, stream } = bench.open(fast);
  const writes = stream.writes;
  const itt = initiator.command({ cdb: read10(8, 16), read: true, expected: 8 * KiB });
  const answer = initiator.answer();
  assert.is(answer.opcode, 0x25);
  assert.is(answer.flags, 0x81);
  assert.is(answer.itt, itt);
  assert.is(answer.u8(3), 0);
  assert.is(answer.u32(36), 0);
  assert.equal(answer.data, pattern(8 * KiB));
  assert.is(stream.writes - writes, 1);
});

test("a read longer than a PDU and a burst → PDUs and sequences of the agreed lengths, in order", () => {
  const bench = new IscsiBench();
  bench.volume.bytes.set(pattern(100 * KiB));
  const { initiator } = bench.open({ MaxRecvDataSegmentLength: "9000", MaxBurstLength: "20480" });
  initiator.command({ cdb: read10(0, 200), read: true, expected: 100 * KiB });
  const answers = initiator.answers();
  let offset = 0;
  let sequence = 0;
  for (const [index, answer] of answers.entries()) {
    assert.is(answer.u32(36), index);
    assert.is(answer.u32(40), offset);
    assert.ok(answer.data.byteLength <= 9000);
    offset += answer.data.byteLength;
    sequence += answer.data.byteLength;
    assert.ok(sequence <= 20480);
    const isFinal = (answer.flags & 0x80) !== 0;
    assert.is(isFinal, sequence === 20480 || offset === 100 * KiB);
    if (isFinal) sequence = 0;
  }
  assert.is(offset, 100 * KiB);
  assert.is(answers.at(-1)!.flags, 0x81);
  assert.equal(dataOf(answers), pattern(100 * KiB));
});

for (const segment of ["512", "1000", "8192", "65536", "262144"]) {
  test(`a read from a medium that blocks, ${segment} bytes taken at once → the same data`, () => {
    const bench = new IscsiBench();
    bench.volume.bytes.set(pattern(1_500 * KiB));
    bench.volume.cold = true;
    const { initiator } = bench.open({ ...fast, MaxRecvDataSegmentLength: segment, MaxBurstLength: "131072" });
    initiator.command({ cdb: read10(0, 3000), read: true, expected: 1_500 * KiB });
    const answers = initiator.answers();
    assert.equal(dataOf(answers), pattern(1_500 * KiB));
    assert.is(answers.at(-1)!.flags & 0x81, 0x81);
    assert.is(bench.nexus.tasks.size, 0);
  });
}

test("a cold read held back → another read overtakes it; its chunks leave in order, whatever order they land in", () => {
  const bench = new IscsiBench();
  bench.volume.bytes.set(pattern(1024 * KiB));
  const { initiator } = bench.open(fast);
  bench.volume.gate = true;
  const cold = initiator.command({ cdb: read10(0, 2048), read: true, expected: 1024 * KiB });
  assert.equal(initiator.answers(), []);
  assert.is(bench.volume.waiting.length, 4);
  bench.volume.gate = false;
  const warm = initiator.command({ cdb: read10(0, 8), read: true, expected: 4 * KiB });
  assert.is(initiator.answer().itt, warm);
  bench.volume.waiting.reverse();
  bench.volume.release(3);
  bench.clock.runDeferred();
  assert.equal(initiator.answers(), []);
  bench.volume.release();
  bench.clock.runDeferred();
  const answers = initiator.answers();
  assert.ok(answers.every(({ itt }) => itt === cold));
  assert.equal(dataOf(answers), pattern(1024 * KiB));
});

test("a read that waits for its turn at the device server → read and answered when it comes", () => {
  const bench = new IscsiBench();
  bench.volume.bytes.set(pattern(300 * KiB));
  const { initiator } = bench.open(fast);
  bench.nexus.holdReads = true;
  const itt = initiator.command({ cdb: read10(0, 600), read: true, expected: 300 * KiB });
  assert.equal(initiator.answers(), []);
  bench.nexus.release();
  bench.clock.pass();
  const answers = initiator.answers();
  assert.ok(answers.every((answer) => answer.itt === itt));
  assert.is(dataOf(answers).byteLength, 300 * KiB);
  assert.equal(dataOf(answers), pattern(300 * KiB));
  assert.is(answers.at(-1)!.flags & 0x81, 0x81);
  assert.is(bench.nexus.tasks.size, 0);
});

test("a medium error in the middle of a read → CHECK CONDITION, no status in data", () => {
  const bench = new IscsiBench();
  const { initiator } = bench.open(fast);
  bench.volume.failing.set("read", "medium-error");
  initiator.command({ cdb: read10(0, 2048), read: true, expected: 1024 * KiB });
  const answer = initiator.answer();
  assert.is(answer.opcode, 0x21);
  assert.is(answer.u8(3), 0x02);
  assert.is(answer.sense, 0x031100);
});

test("a write with immediate data → written from the received chunk, answered GOOD", () => {
  const bench = new IscsiBench();
  const { initiator } = bench.open(fast);
  const itt = initiator.command({ cdb: write10(8, 8), write: true, data: pattern(4 * KiB) });
  const answer = initiator.answer();
  assert.is(answer.opcode, 0x21);
  assert.is(answer.flags, 0x80);
  assert.is(answer.u8(2), 0);
  assert.is(answer.u8(3), 0);
  assert.is(answer.itt, itt);
  assert.equal(bench.volume.bytes.subarray(4 * KiB, 8 * KiB), pattern(4 * KiB));
});

test("a write with immediate and unsolicited data → no R2T", () => {
  const bench = new IscsiBench();
  const { initiator } = bench.open(fast);
  const data = pattern(48 * KiB);
  const itt = initiator.command({
    cdb: write10(0, 96),
    write: true,
    final: false,
    expected: 48 * KiB,
    data: data.subarray(0, 8 * KiB),
  });
  initiator.dataOut({ itt, dataSn: 0, offset: 8 * KiB, data: data.subarray(8 * KiB, 20 * KiB), final: false });
  assert.equal(initiator.answers(), []);
  initiator.dataOut({ itt, dataSn: 1, offset: 20 * KiB, data: data.subarray(20 * KiB) });
  assert.is(initiator.answer().u8(3), 0);
  assert.equal(bench.volume.bytes.subarray(0, 48 * KiB), data);
});

test("a long write → R2Ts of MaxBurstLength, as many outstanding as agreed, in order", () => {
  const bench = new IscsiBench();
  const { initiator } = bench.open({
    ...fast,
    MaxBurstLength: "16384",
    FirstBurstLength: "4096",
    MaxOutstandingR2T: "2",
  });
  const data = pattern(60 * KiB);
  const itt = initiator.command({
    cdb: write10(0, 120),
    write: true,
    expected: 60 * KiB,
    data: data.subarray(0, 4 * KiB),
  });
  const asked: [number, number][] = [];
  for (let r2ts = initiator.answers(), served = 0; served < 4; served++) {
    for (const r2t of r2ts) {
      assert.is(r2t.opcode, 0x31);
      assert.is(r2t.u32(36), asked.length);
      asked.push([r2t.u32(40), r2t.u32(44)]);
    }
    assert.is(asked.length, Math.min(served + 2, 4));
    const [offset, length] = asked[served]!;
    const ttt = served + 1;
    const half = length / 2;
    initiator.dataOut({ itt, ttt, dataSn: 0, offset, data: data.subarray(offset, offset + half), final: false });
    initiator.dataOut({
      itt,
      ttt,
      dataSn: 1,
      offset: offset + half,
      data: data.subarray(offset + half, offset + length),
    });
    r2ts = served < 3 ? initiator.answers() : [];
  }
  assert.equal(asked, [
    [4 * KiB, 16 * KiB],
    [20 * KiB, 16 * KiB],
    [36 * KiB, 16 * KiB],
    [52 * KiB, 8 * KiB],
  ]);
  const answer = initiator.answer();
  assert.is(answer.u8(3), 0);
  assert.is(answer.u32(36), 4);
  assert.equal(bench.volume.bytes.subarray(0, 60 * KiB), data);
});

test("a write fed one byte at a time, with digests → written", () => {
  const bench = new IscsiBench();
  const { initiator, stream } = bench.open({ ...fast, HeaderDigest: "CRC32C", DataDigest: "CRC32C,None" });
  assert.equal(initiator.digests, { header: true, data: true });
  stream.sendInPieces(initiator.commandPdu({ cdb: write10(0, 8), write: true, data: pattern(4 * KiB) }), 1);
  assert.is(initiator.answer().u8(3), 0);
  assert.equal(bench.volume.bytes.subarray(0, 4 * KiB), pattern(4 * KiB));
  initiator.command({ cdb: read10(0, 8), read: true, expected: 4 * KiB });
  assert.equal(initiator.answer().data, pattern(4 * KiB));
});

test("writes whose data is cut anywhere, into PDUs and into deliveries → the same bytes", () => {
  const bench = new IscsiBench();
  const { initiator, stream } = bench.open({ ...fast, MaxBurstLength: "131072", FirstBurstLength: "16384" });
  const oracle = new Uint8Array(bench.volume.bytes.byteLength);
  const prng = new Prng(5, "cuts");
  for (let round = 0; round < 150; round++) {
    const blocks = 1 + prng.below(prng.chance(0.3) ? 300 : 20);
    const lba = prng.below(8192 - blocks);
    const data = pattern(blocks * 512, round + 1);
    oracle.set(data, lba * 512);
    const immediate = Math.min(prng.below(8192), data.byteLength);
    const bytes = [
      initiator.commandPdu({
        cdb: write10(lba, blocks),
        write: true,
        expected: data.byteLength,
        data: data.subarray(0, immediate),
      }),
    ];
    const itt = initiator.itt - 1;
    const deliver = () => {
      const whole = concat(bytes.splice(0));
      for (let at = 0; at < whole.byteLength; ) {
        const size = 1 + prng.below(prng.chance(0.5) ? 700 : 20_000);
        stream.send(whole.subarray(at, at + size));
        at += size;
      }
    };
    deliver();
    for (;;) {
      const answer = initiator.answer();
      if (answer.opcode === 0x21) {
        assert.is(answer.u8(3), 0);
        break;
      }
      const end = answer.u32(40) + answer.u32(44);
      let dataSn = 0;
      for (let at = answer.u32(40); at < end; dataSn++) {
        const size = Math.min(1 + prng.below(prng.chance(0.5) ? 600 : 30_000), end - at);
        bytes.push(
          initiator.pdu({
            opcode: 5,
            flags: at + size === end ? 0x80 : 0,
            itt,
            words: { 20: answer.ttt, 36: dataSn, 40: at },
            data: data.subarray(at, at + size),
          }),
        );
        at += size;
      }
      deliver();
    }
  }
  assert.equal(bench.volume.bytes, oracle);
});

test("Expected Data Transfer Length other than the command's → residuals both ways", () => {
  const bench = new IscsiBench();
  bench.volume.bytes.set(pattern(8 * KiB));
  const { initiator } = bench.open(fast);
  const residual = (answer: Answer) => [answer.flags & 6, answer.u32(44)];
  initiator.command({ cdb: read10(0, 8), read: true, expected: 5000 });
  const under = initiator.answer();
  assert.equal(residual(under), [2, 5000 - 4096]);
  assert.is(under.data.byteLength, 4096);
  initiator.command({ cdb: read10(0, 8), read: true, expected: 1000 });
  const over = initiator.answer();
  assert.equal(residual(over), [4, 3096]);
  assert.equal(over.data, pattern(1000));
  initiator.command({ cdb: read10(0, 8), read: false, expected: 0 });
  const none = initiator.answer();
  assert.equal([none.opcode, ...residual(none)], [0x21, 4, 4096]);
  initiator.command({ cdb: write10(0, 8), write: true, expected: 8 * KiB, data: pattern(8 * KiB, 3) });
  assert.equal(residual(initiator.answer()), [2, 4096]);
  assert.equal(bench.volume.bytes.subarray(0, 8 * KiB), concat([pattern(4 * KiB, 3), pattern(8 * KiB).subarray(4096)]));
  initiator.command({ cdb: write10(0, 8), write: true, expected: 512, data: pattern(512, 4) });
  assert.equal(residual(initiator.answer()), [4, 3584]);
  initiator.command({ cdb: [0x12], read: true, expected: 255 });
  assert.equal(residual(initiator.answer()), [2, 255 - 36]);
  initiator.command({ cdb: [0x12], read: true, expected: 5 });
  const cut = initiator.answer();
  assert.equal([...residual(cut), cut.data.byteLength], [4, 31, 5]);
});

test("a command that is refused by its header → its status after its data, nothing written", () => {
  const bench = new IscsiBench();
  const { initiator } = bench.open(fast);
  const itt = initiator.command({
    cdb: [0xff],
    write: true,
    final: false,
    expected: 2048,
    data: pattern(512),
  });
  assert.equal(initiator.answers(), []);
  initiator.dataOut({ itt, dataSn: 0, offset: 512, data: pattern(1536) });
  const answer = initiator.answer();
  assert.equal([answer.u8(3), answer.sense], [2, 0x052000]);
  assert.equal(bench.volume.submitted, []);
});

test("a ping → its data; one without a tag → nothing", () => {
  const bench = new IscsiBench();
  const { initiator } = bench.open(fast);
  initiator.nop("are you there?");
  const answer = initiator.answer();
  assert.equal([answer.opcode, answer.ttt, answer.text], [0x20, 0xffffffff, "are you there?"]);
  initiator.nop("", { itt: 0xffffffff, immediate: true });
  assert.equal(initiator.answers(), []);
});

test("SendTargets in both kinds of session → the target and its portals", () => {
  const bench = new IscsiBench();
  const { initiator } = bench.open(fast);
  const target = `TargetName=${targetName}\0TargetAddress=192.0.2.1:3260,1\0TargetAddress=[2001:db8::1]:3260,1\0`;
  const ask = (value: string) => {
    initiator.text({ SendTargets: value });
    return initiator.answer().text;
  };
  assert.is(ask(""), target);
  assert.is(ask(targetName), target);
  assert.is(ask("iqn.2026-11.test:other"), "");
  assert.is(ask("All"), "SendTargets=Reject\0");
  const discovery = bench.connect();
  const login = discovery.initiator.login({ InitiatorName: initiatorName, SessionType: "Discovery" });
  assert.is(login.loginStatus, 0);
  assert.is(login.keys["TargetPortalGroupTag"], undefined);
  discovery.initiator.text({ SendTargets: "All" });
  const answer = discovery.initiator.answer();
  assert.equal([answer.opcode, answer.flags, answer.ttt, answer.text], [0x24, 0x80, 0xffffffff, target]);
  discovery.initiator.command({ cdb: [0], expected: 0 });
  const rejected = discovery.initiator.answer();
  assert.equal([rejected.opcode, rejected.u8(2)], [0x3f, 0x04]);
  assert.is(bench.nexuses.length, 1);
});

test("an answer longer than the initiator takes → piece by piece", () => {
  const bench = new IscsiBench();
  const { initiator } = bench.open({ ...fast, MaxRecvDataSegmentLength: "512" });
  const keys: Record<string, string> = {};
  for (let index = 0; index < 60; index++) keys[`X-key-${index}`] = "1";
  const itt = initiator.itt;
  initiator.text(keys);
  let text = "";
  for (;;) {
    const answer = initiator.answer();
    text += answer.text;
    if (answer.ttt === 0xffffffff) break;
    assert.is(answer.flags & 0xc0, 0x40);
    initiator.text({}, { itt, ttt: answer.ttt });
  }
  assert.is(
    text,
    Object.keys(keys)
      .map((key) => `${key}=NotUnderstood\0`)
      .join(""),
  );
});

test("logout → answered, then the stream ends; tasks are given up", () => {
  const bench = new IscsiBench();
  const { initiator, stream } = bench.open(fast);
  bench.nexus.hold = true;
  initiator.command({ cdb: write10(0, 8), write: true, data: pattern(4 * KiB) });
  initiator.logout({ reason: 1, cid: 77 });
  assert.is(initiator.answer().u8(2), 1);
  initiator.logout({ reason: 2 });
  assert.is(initiator.answer().u8(2), 2);
  initiator.logout();
  const answer = initiator.answer();
  assert.equal([answer.opcode, answer.u8(2)], [0x26, 0]);
  assert.is(stream.state, "ended");
  assert.ok(bench.nexus.closed);
  stream.close();
  assert.is(bench.server.sessionCount, 0);
  assert.equal(bench.events, []);
});

test("StatSN goes on by one with every status; ExpCmdSN and MaxCmdSN follow the commands", () => {
  const bench = new IscsiBench({ tasksMax: 4 });
  const { initiator } = bench.open(fast);
  const first = initiator.cmdSn;
  initiator.command({ cdb: [0], expected: 0 });
  const one = initiator.answer();
  initiator.nop("x");
  const two = initiator.answer();
  assert.is(two.statSn, one.statSn + 1);
  assert.equal([one.expCmdSn, one.maxCmdSn], [first + 1, first + 4]);
  assert.equal([two.expCmdSn, two.maxCmdSn], [first + 2, first + 5]);
});

test.run();
