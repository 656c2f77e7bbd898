/** EXTENDED COPY between units that the initiator has mapped, and lists that lie (SPC-4 6.17 to 6.21). */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { ScsiStatus } from "../../firmware/frontend/scsi/task.ts";
import { type BenchNexus, be, cdb, reserveList, ScsiBench } from "./support/scsi_bench.ts";

const test = suite("scsi_copy");
const { good } = ScsiStatus;

function naa(lun: number): number[] {
  const part = [0x5e, 0xed, 0, lun];
  const [first, ...rest] = [...part, ...part];
  return [0x30 | (first! & 0x0f), ...rest];
}

function targetOf(lun: number): number[] {
  return [0xe4, 0, 0, 0, 1, 3, 0, 8, ...naa(lun), ...Array<number>(12).fill(0), 0, 0, 2, 0];
}

function segment(source: number, destination: number, blocks: number, from: number, to: number): number[] {
  return [2, 0, 0, 24, ...be(source, 2), ...be(destination, 2), 0, 0, ...be(blocks, 2), ...be(from, 8), ...be(to, 8)];
}

function list(targets: number[][], segments: number[][], listId = 1): number[] {
  const [t, s] = [targets.flat(), segments.flat()];
  return [listId, 0, ...be(t.length, 2), 0, 0, 0, 0, ...be(s.length, 4), 0, 0, 0, 0, ...t, ...s];
}

function copy(nexus: BenchNexus, data: number[], claimed = data.length) {
  return nexus.run([0x83, 0, ...Array<number>(8).fill(0), ...be(claimed, 4), 0, 0], { data });
}

function setUp() {
  const bench = new ScsiBench(2);
  const host = bench.nexus("a").ready();
  const data = Uint8Array.from({ length: 4000 * 512 }, (_, index) => (index * 13) & 255);
  bench.luns.volumes[0]!.bytes.set(data);
  const copied = (lba: number, blocks: number) =>
    bench.luns.volumes[1]!.bytes.subarray(lba * 512, (lba + blocks) * 512);
  return { bench, host, data, copied };
}

test("two segments, one longer than a part → copied, and RECEIVE COPY STATUS says so", () => {
  const { host, data, copied } = setUp();
  const segments = [segment(0, 1, 3000, 0, 100), segment(0, 1, 8, 3000, 5000)];
  assert.is(copy(host, list([targetOf(0), targetOf(1)], segments, 7)).status, good);
  assert.equal(copied(100, 3000), data.subarray(0, 3000 * 512));
  assert.equal(copied(5000, 8), data.subarray(3000 * 512, 3008 * 512));
  const status = host.run([0x84, 0, 7, ...Array<number>(7).fill(0), ...be(64, 4), 0, 0]).dataIn;
  assert.equal([...status], [...be(8, 4), 1, 0, 2, 1, ...be(1504, 4)]);
  assert.is(host.run([0x84, 0, 8, ...Array<number>(7).fill(0), ...be(64, 4), 0, 0]).senseCode, 0x052400);
});

test("source and destination overlap → what the source held before, in both directions, over more parts than one", () => {
  for (const [from, to] of [
    [0, 1],
    [0, 2500],
    [2500, 0],
    [1, 0],
    [7, 7],
  ] as const) {
    const { host, data, bench } = setUp();
    assert.is(copy(host, list([targetOf(0)], [segment(0, 0, 5000, from, to)])).status, good);
    const source = new Uint8Array(8000 * 512);
    source.set(data);
    const { bytes } = bench.luns.volumes[0]!;
    assert.equal(bytes.subarray(to * 512, (to + 5000) * 512), source.subarray(from * 512, (from + 5000) * 512));
  }
});

test("a unit that the initiator has not mapped → COPY ABORTED, nothing written", () => {
  const { host, copied } = setUp();
  const task = copy(host, list([targetOf(0), targetOf(9)], [segment(0, 1, 8, 0, 0)]));
  assert.is(task.senseCode, 0x0a0d02);
  assert.ok(copied(0, 8).every((byte) => byte === 0));
});

test("a destination that is read-only, reserved or being sanitized → refused", () => {
  const { bench, host, copied } = setUp();
  const [, destination] = bench.luns.volumes;
  const other = bench.nexus("b").ready();
  const run = () => copy(host, list([targetOf(0), targetOf(1)], [segment(0, 1, 8, 0, 0)]));
  destination!.readOnly = true;
  assert.is(run().senseCode, 0x072700);
  destination!.readOnly = false;
  other.run(cdb.reserveOut(0, 0), { data: reserveList(0, 1), lun: 1 });
  other.run(cdb.reserveOut(1, 1), { data: reserveList(1, 0), lun: 1 });
  assert.is(run().status, ScsiStatus.reservationConflict);
  other.run(cdb.reserveOut(3, 0), { data: reserveList(1, 0), lun: 1 });
  destination!.gate = true;
  other.run([0x48, 0x82, 0, 0, 0, 0, 0, 0, 0, 0], { lun: 1 });
  assert.is(run().senseCode >> 16, 0x0a);
  destination!.gate = false;
  destination!.release();
  bench.settle();
  assert.ok(copied(0, 8).every((byte) => byte === 0));
  assert.is(run().status, good);
});

test("lists that lie → their own error, and nothing is written", () => {
  const { bench, host } = setUp();
  const [two, one] = [[targetOf(0), targetOf(1)], [segment(0, 1, 8, 0, 0)]];
  const whole = list(two, one);
  const changed = (at: number, ...bytes: number[]) => {
    const bad = whole.slice();
    bad.splice(at, bytes.length, ...bytes);
    return bad;
  };
  const cases: [string, number[], number][] = [
    ["shorter than its header", whole.slice(0, 15), 0x051a00],
    ["shorter than it claims", whole.slice(0, -1), 0x051a00],
    ["target descriptors cut", changed(2, ...be(63, 2)), 0x051a00],
    ["segments beyond the list", changed(8, ...be(0xffffffff, 4)), 0x051a00],
    ["inline data", changed(12, ...be(1, 4)), 0x05260b],
    ["a target descriptor that is none", changed(16, 0xe0), 0x052607],
    ["a segment descriptor that is none", changed(80, 0x7f), 0x052609],
    ["a segment's length", changed(82, 0, 23), 0x052600],
    ["a target's number", changed(84, 0, 2), 0x0a0d02],
    ["beyond the source", list(two, [segment(0, 1, 8, 2 ** 40, 0)]), 0x0a0000],
    ["beyond the destination", list(two, [segment(0, 1, 65535, 0, 0)]), 0x0a0000],
    ["too many targets", list(Array<number[]>(9).fill(targetOf(0)), one), 0x052606],
    ["too many segments", list(two, Array<number[]>(17).fill(one[0]!)), 0x052608],
  ];
  for (const [why, data, code] of cases) assert.is(copy(host, data).senseCode, code, why);
  assert.ok(bench.luns.volumes[1]!.bytes.every((byte) => byte === 0));
  assert.is(copy(host, [], 0).status, good, "no list");
});

test.run();
