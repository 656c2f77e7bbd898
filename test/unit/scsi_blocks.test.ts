/** Commands on the medium: ranges, lists that lie, comparisons, atomic updates, and what a volume's refusal means (SBC-4 5). */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { ScsiStatus } from "../../firmware/frontend/scsi/task.ts";
import type { BlockError } from "../../firmware/volume/block_request.ts";
import { be, cdb, ScsiBench, unmapList } from "./support/scsi_bench.ts";

const test = suite("scsi_blocks");
const { good } = ScsiStatus;
const blocks = (8 << 20) / 512;

function disk() {
  const bench = new ScsiBench();
  return { bench, host: bench.nexus("a").ready(), volume: bench.volume };
}

function pattern(count: number, seed = 1): Uint8Array {
  return Uint8Array.from({ length: count * 512 }, (_, index) => (index * 7 + seed) & 255);
}

test("WRITE then READ in all sizes → the same bytes", () => {
  const { host } = disk();
  const data = pattern(3);
  const writes = [
    [0x0a, 0, 0, 9, 3, 0],
    cdb.write10(9, 3),
    [0xaa, 0, ...be(9, 4), ...be(3, 4), 0, 0],
    cdb.write16(be(9, 8), 3),
    [0x2e, 0, ...be(9, 4), 0, ...be(3, 2), 0],
    [0xae, 2, ...be(9, 4), ...be(3, 4), 0, 0],
    [0x8e, 2, ...be(9, 8), ...be(3, 4), 0, 0],
  ];
  const reads = [
    [0x08, 0, 0, 9, 3, 0],
    cdb.read10(9, 3),
    [0xa8, 0, ...be(9, 4), ...be(3, 4), 0, 0],
    cdb.read16(be(9, 8), 3),
  ];
  for (const [index, write] of writes.entries()) {
    const data = pattern(3, index);
    assert.is(host.run(write, { data }).status, good, `write ${write[0]}`);
    for (const read of reads) assert.equal(host.run(read).dataIn, data, `write ${write[0]}, read ${read[0]}`);
  }
  assert.is(host.run([0x08, 0, 0, 0, 0, 0]).dataInBytes, 256 * 512, "READ(6) of 0 is 256 blocks");
  assert.is(host.run(cdb.write10(9, 0), { data }).dataOutBytes, 0);
});

test("the end of the volume, and sums beyond 2^64 → LBA OUT OF RANGE before data is asked for", () => {
  const { host, volume } = disk();
  volume.submitted.length = 0;
  const far = Array<number>(8).fill(0xff);
  const ranges: [readonly number[], number][] = [
    [be(blocks, 8), 1],
    [be(blocks - 1, 8), 2],
    [be(blocks + 1, 8), 0],
    [far, 1],
    [far, 0xffffffff],
    [[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0], 0],
    [[0, 0x20, 0, 0, 0, 0, 0, 0], 1],
    [[0x80, 0, 0, 0, 0, 0, 0, 1], 8],
    [be(0, 8), blocks + 1],
  ];
  for (const [lba, count] of ranges) {
    const tail = [...lba, ...be(count, 4), 0, 0];
    for (const opcode of [0x88, 0x8a, 0x8e, 0x8f, 0x90, 0x91, 0x93, 0x8b, 0x9c]) {
      const code =
        opcode === 0x9c ? [opcode, 0, ...lba, 0, 0, ...be(Math.min(count, 8), 2), 0, 0] : [opcode, 0, ...tail];
      if (opcode === 0x9c && count > 8) continue;
      const task = host.run(code, { data: new Uint8Array(512) });
      assert.is(task.senseCode, 0x052100, `${opcode.toString(16)} ${lba} ${count}`);
      assert.is(task.dataOutBytes, 0);
    }
  }
  assert.equal(volume.submitted, []);
  assert.is(host.run(cdb.read16(be(blocks, 8), 0)).status, good, "nothing, right at the end");
  assert.is(host.run(cdb.read16(be(blocks - 1, 8), 1)).status, good);
});

test("longer than MAXIMUM TRANSFER LENGTH → INVALID FIELD IN CDB", () => {
  const bench = new ScsiBench(1, 0);
  bench.volume.blockCountTold = 2 ** 31;
  const host = bench.nexus("a").ready();
  assert.is(host.run(cdb.read16(be(0, 8), 65537)).senseCode, 0x052400);
  assert.is(host.run(cdb.write16(be(0, 8), 65537), { announcedBytes: 65537 * 512 }).senseCode, 0x052400);
});

test("protection information is asked for → INVALID FIELD IN CDB", () => {
  const { host } = disk();
  for (const opcode of [0x28, 0x2a, 0x2e, 0x2f, 0x41, 0xa8, 0xaa, 0x88, 0x8a, 0x89, 0x8b, 0x8f, 0x93]) {
    const code = Array<number>(16).fill(0);
    code[0] = opcode;
    code[1] = 0x20;
    assert.is(host.run(code, { data: new Uint8Array(512) }).senseCode, 0x052400, opcode.toString(16));
  }
});

test("a host that announces less than its command takes → the whole blocks are written", () => {
  const { host, volume } = disk();
  const task = host.run(cdb.write10(0, 2), { data: pattern(2), announcedBytes: 700 });
  assert.is(task.status, good);
  assert.equal(
    volume.submitted.map(({ kind, blockCount }) => [kind, blockCount]),
    [["write", 1]],
  );
  assert.is(task.dataOutBytes, 1024);
  assert.equal(volume.bytes.subarray(0, 512), pattern(2).subarray(0, 512));
  assert.is(volume.bytes[512], 0);
});

test("COMPARE AND WRITE → written when equal, else MISCOMPARE with the offset and nothing written", () => {
  const { host, volume } = disk();
  const old = pattern(2, 3);
  host.run(cdb.write10(8, 2), { data: old });
  for (const offset of [0, 1, 511, 512, 1023]) {
    const expected = old.slice();
    expected[offset] = expected[offset]! ^ 1;
    const task = host.run(cdb.compareAndWrite(8, 2), { data: [...expected, ...pattern(2, 99)] });
    assert.is(task.senseCode, 0x0e1d00);
    assert.is(task.information, offset);
    assert.equal(volume.bytes.subarray(4096, 5120), old);
  }
  assert.is(host.run(cdb.compareAndWrite(8, 2), { data: [...old, ...pattern(2, 99)] }).status, good);
  assert.equal(volume.bytes.subarray(4096, 5120), pattern(2, 99));
  assert.is(host.run(cdb.compareAndWrite(8, 0)).status, good);
});

test("COMPARE AND WRITE with another length of data → refused", () => {
  const { host, volume } = disk();
  volume.submitted.length = 0;
  for (const length of [512, 1023, 1536, 2048]) {
    const task = host.run(cdb.compareAndWrite(0, 1), { data: new Uint8Array(length) });
    if (length !== 1024) assert.is(task.senseCode, 0x052400, String(length));
  }
  assert.equal(volume.submitted, []);
});

test("two hosts race for a lock block → one wins, the other is told", () => {
  const { bench, host, volume } = disk();
  const other = bench.nexus("b").ready();
  const free = new Uint8Array(512);
  volume.gate = true;
  const [mine, yours] = [1, 2].map((owner) => new Uint8Array(512).fill(owner));
  const first = host.execute(host.judge(cdb.compareAndWrite(0, 1), { data: [...free, ...mine!] }));
  const second = other.execute(other.judge(cdb.compareAndWrite(0, 1), { data: [...free, ...yours!] }));
  volume.release();
  bench.settle();
  assert.equal([first.status, second.senseCode], [good, 0x0e1d00]);
  assert.equal(volume.bytes.subarray(0, 512), mine);
});

test("ORWRITE → the OR of old and new, as one", () => {
  const { host, volume } = disk();
  host.run(cdb.write10(0, 1), { data: new Uint8Array(512).fill(0x50) });
  const task = host.run([0x8b, 0, ...be(0, 8), ...be(1, 4), 0, 0], { data: new Uint8Array(512).fill(0x05) });
  assert.is(task.status, good);
  assert.equal(volume.bytes.subarray(0, 512), new Uint8Array(512).fill(0x55));
});

test("WRITE ATOMIC → whole physical blocks, no boundary, no longer than the limit", () => {
  const { host } = disk();
  const run = (lba: number, boundary: number, count: number) =>
    host.run([0x9c, 0, ...be(lba, 8), ...be(boundary, 2), ...be(count, 2), 0, 0], {
      data: new Uint8Array(count * 512),
    });
  assert.is(run(8, 0, 16).status, good);
  assert.is(run(8, 8, 16).senseCode, 0x052400);
  assert.is(run(4, 0, 8).senseCode, 0x052400);
  assert.is(run(0, 0, 4).senseCode, 0x052400);
  assert.is(run(0, 0, 520).senseCode, 0x052400);
});

test("VERIFY → BYTCHK 00b reads, 01b compares all, 11b every block with one, 10b is none", () => {
  const { host, volume } = disk();
  const one = pattern(1);
  host.run(cdb.write10(0, 3), { data: [...one, ...one, ...one] });
  const verify = (check: number, data: Uint8Array) =>
    host.run([0x2f, check << 1, 0, 0, 0, 0, 0, 0, 3, 0], { data: [...data] });
  assert.is(verify(0, new Uint8Array(0)).status, good);
  assert.is(verify(3, one).status, good);
  assert.is(verify(1, Uint8Array.from([...one, ...one, ...one])).status, good);
  const wrong = Uint8Array.from([...one, ...one, ...one]);
  wrong[1100]!++;
  const task = verify(1, wrong);
  assert.is(task.senseCode, 0x0e1d00);
  assert.is(task.information, 1100);
  assert.is(verify(2, one).senseCode, 0x052400);
  volume.failing.set("read", "medium-error");
  assert.is(verify(0, new Uint8Array(0)).senseCode, 0x031100);
});

test("WRITE SAME → a pattern written, zeros and UNMAP as one extent, 0 blocks to the end", () => {
  const { host, volume } = disk();
  const same = (flags: number, lba: number, count: number, data: Uint8Array) =>
    host.run([0x93, flags, ...be(lba, 8), ...be(count, 4), 0, 0], { data: [...data] });
  const one = pattern(1, 5);
  assert.is(same(0, 8, 24, one).status, good);
  for (const block of [8, 20, 31]) assert.equal(volume.bytes.subarray(block * 512, block * 512 + 512), one);
  assert.is(volume.bytes[32 * 512], 0);
  volume.submitted.length = 0;
  assert.is(same(0, 8, 8, new Uint8Array(512)).status, good);
  assert.is(same(0x08, 16, 8, new Uint8Array(512)).status, good);
  assert.is(same(0x01, 24, 8, new Uint8Array(0)).status, good);
  assert.is(same(0, blocks - 16, 0, new Uint8Array(512)).status, good);
  assert.equal(
    volume.submitted.map(({ kind, startLba, blockCount }) => [kind, startLba, blockCount]),
    [
      ["zero", 8, 8],
      ["unmap", 16, 8],
      ["zero", 24, 8],
      ["zero", blocks - 16, 16],
    ],
  );
  for (const data of [new Uint8Array(0), new Uint8Array(511), new Uint8Array(1024)])
    assert.is(same(0, 0, 1, data).senseCode, 0x052400, `${data.byteLength} bytes`);
  assert.is(same(0x10, 0, 1, one).senseCode, 0x052400, "ANCHOR");
});

test("UNMAP → its extents alone", () => {
  const { host, volume } = disk();
  host.run(cdb.write10(0, 64), { data: pattern(64) });
  const list = unmapList([
    [8, 8],
    [24, 16],
    [0, 0],
  ]);
  assert.is(host.run(cdb.unmap(list.length), { data: list }).status, good);
  const zeros = [...Array(64).keys()].filter((block) =>
    volume.bytes.subarray(block * 512, block * 512 + 512).every((byte) => byte === 0),
  );
  assert.equal(zeros, [...Array(8).keys()].map((i) => i + 8).concat([...Array(16).keys()].map((i) => i + 24)));
});

test("UNMAP lists that lie → refused, or only what is there; nothing beyond the end is unmapped", () => {
  const { host, volume } = disk();
  const submitted = () => volume.submitted.map(({ startLba, blockCount }) => [startLba, blockCount]);
  const run = (list: readonly number[], claimed = list.length) => {
    volume.submitted.length = 0;
    return host.run(cdb.unmap(claimed), { data: list, announcedBytes: list.length });
  };
  for (const claimed of [1, 7]) assert.is(run(unmapList([[0, 8]]), claimed).senseCode, 0x051a00);
  assert.is(run([0, 0, 0], 24).senseCode, 0x051a00, "less came than a header");
  assert.is(run([], 0).status, good);
  const one = unmapList([[8, 8]]);
  const more = one.slice();
  more.splice(0, 4, 0xff, 0xff, 0xff, 0xf0);
  assert.is(run(more).status, good);
  assert.equal(submitted(), [[8, 8]]);
  assert.is(run(one.slice(0, 20), 20).status, good);
  assert.equal(submitted(), [], "a descriptor that is not whole");
  const beyond = unmapList([
    [0, 8],
    [blocks - 4, 8],
  ]);
  assert.is(run(beyond).senseCode, 0x052100);
  assert.equal(submitted(), [], "the first extent neither");
  const wrapping = unmapList([[0, 8]]);
  wrapping.splice(8, 8, ...Array<number>(8).fill(0xff));
  assert.is(run(wrapping).senseCode, 0x052100);
  const many = unmapList(Array.from({ length: 257 }, () => [0, 1] as const));
  assert.is(run(many).senseCode, 0x052600);
});

test("GET LBA STATUS → mapped and deallocated extents from the LBA on, cut to the allocation length", () => {
  const { host } = disk();
  host.run(cdb.write10(16, 8), { data: pattern(8) });
  const status = (lba: number, bytes = 1024) => host.run([0x9e, 0x12, ...be(lba, 8), ...be(bytes, 4), 0, 0]);
  const { dataIn } = status(4);
  const view = new DataView(dataIn.buffer);
  const extents = Array.from({ length: (dataIn.byteLength - 8) / 16 }, (_, index) => {
    const at = 8 + 16 * index;
    return [view.getUint32(at + 4), view.getUint32(at + 8), dataIn[at + 12]];
  });
  assert.equal(extents, [
    [4, 12, 1],
    [16, 8, 0],
    [24, blocks - 24, 1],
  ]);
  assert.is(view.getUint32(0), dataIn.byteLength - 4);
  assert.is(status(4, 24).dataIn.byteLength, 24);
  assert.is(status(blocks).senseCode, 0x052100);
});

test("what a volume refuses → its meaning to a host, with the LBA where there is one", () => {
  const meanings: [BlockError, number][] = [
    ["read-only", 0x072700],
    ["no-space", 0x072707],
    ["medium-error", 0x031100],
    ["not-ready", 0x020401],
    ["closed", 0x020400],
  ];
  for (const [error, code] of meanings) {
    const { host, volume } = disk();
    volume.failing.set("write", error);
    assert.is(host.run(cdb.write10(0, 1), { data: pattern(1) }).senseCode, code, error);
  }
  const { host, volume } = disk();
  volume.failing.set("read", "medium-error");
  const task = host.run(cdb.read10(1234, 2));
  assert.is(task.senseCode, 0x031100);
  assert.is(task.information, 1234);
});

test("a golden copy → writes end with DATA PROTECT, WP in the mode header, reads go on", () => {
  const { host, volume } = disk();
  volume.readOnly = true;
  const writes = [
    cdb.write10(0, 1),
    cdb.compareAndWrite(0, 0),
    cdb.unmap(8),
    [0x41, 0, 0, 0, 0, 0, 0, 0, 1, 0],
    [0x8b, 0, ...be(0, 8), ...be(1, 4), 0, 0],
    [0x48, 0x02, 0, 0, 0, 0, 0, 0, 0, 0],
  ];
  for (const write of writes)
    assert.is(host.run(write, { data: new Uint8Array(512) }).senseCode, 0x072700, write[0]!.toString(16));
  assert.is(host.run(cdb.read10(0, 1)).status, good);
  assert.is(host.run(cdb.modeSense6(0x08)).dataIn[2], 0x90);
  assert.is(host.run([0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0]).status, good);
});

test("a volume that is not ready → NOT READY, but INQUIRY and REPORT LUNS answer", () => {
  const bench = new ScsiBench();
  bench.volume.ready = false;
  const host = bench.nexus("a");
  host.run([0]);
  for (const code of [[0], cdb.read10(0, 1), [0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0]])
    assert.is(host.run(code).senseCode >> 8, 0x0204, String(code[0]));
  assert.is(host.run(cdb.inquiry(0x83)).status, good);
  bench.volume.ready = true;
  assert.is(host.run([0]).status, good);
});

test("READ CAPACITY → size, 4 KiB physical blocks, thin, zeros when unmapped; growth is told to everybody", () => {
  const { bench, host, volume } = disk();
  const other = bench.nexus("b").ready();
  const ten = () => host.run([0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0]).dataIn;
  assert.equal([...ten()], [...be(blocks - 1, 4), 0, 0, 2, 0]);
  const sixteen = host.run([0x9e, 0x10, ...be(0, 8), ...be(32, 4), 0, 0]).dataIn;
  assert.equal([...sixteen], [...be(blocks - 1, 8), 0, 0, 2, 0, 0, 3, 0xc0, 0, ...Array<number>(16).fill(0)]);
  volume.grow(16 << 20);
  bench.luns.changed();
  assert.is(host.run([0]).senseCode, 0x062a09);
  assert.is(other.run([0]).senseCode, 0x062a09);
  assert.is(host.run([0]).status, good);
  volume.blockCountTold = 2 ** 33;
  assert.equal([...ten().subarray(0, 4)], [255, 255, 255, 255]);
});

test("growth before it is told of, and a host that asks or comes meanwhile → the others are told all the same", () => {
  const { bench, host, volume } = disk();
  const other = bench.nexus("b").ready();
  volume.grow(16 << 20);
  host.run([0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
  const late = bench.nexus("c").ready();
  bench.luns.changed();
  assert.is(other.run([0]).senseCode, 0x062a09);
  assert.is(late.run([0]).status, good);
});

test("SANITIZE → other commands wait for its end, everything is gone, the session may end meanwhile", () => {
  const { bench, host, volume } = disk();
  const other = bench.nexus("b").ready();
  host.run(cdb.write10(0, 64), { data: pattern(64) });
  volume.gate = true;
  assert.is(host.run([0x48, 0x82, 0, 0, 0, 0, 0, 0, 0, 0]).status, good, "IMMED");
  assert.is(other.run(cdb.read10(0, 1)).senseCode, 0x02041b);
  assert.is(other.run(cdb.inquiry(null)).status, good);
  const sensed = other.run([0x03, 0, 0, 0, 252, 0]).dataIn;
  assert.equal([sensed[2], sensed[12], sensed[13], sensed[15]], [2, 4, 0x1b, 0x80]);
  host.nexus.close();
  volume.gate = false;
  volume.release();
  bench.settle();
  assert.is(other.run(cdb.read10(0, 1)).status, good);
  assert.ok(volume.bytes.every((byte) => byte === 0));
});

test("a write whose data lands while SANITIZE runs → it is not written behind the erasure", () => {
  const { bench, host, volume } = disk();
  const other = bench.nexus("b").ready();
  const late = other.judge(cdb.write10(0, 1), { data: pattern(1) });
  volume.gate = true;
  host.run([0x48, 0x82, 0, 0, 0, 0, 0, 0, 0, 0]);
  other.execute(late);
  assert.is(late.senseCode, 0x02041b);
  volume.gate = false;
  volume.release();
  bench.settle();
  assert.ok(volume.bytes.every((byte) => byte === 0));
});

test("SANITIZE OVERWRITE → the pattern everywhere; a failure stays until it is acknowledged", () => {
  const { bench, host, volume } = disk();
  const overwrite = [0x48, 0x21, 0, 0, 0, 0, 0, 0, 8, 0];
  const list = [0x01, 0, 0, 4, 1, 2, 3, 4];
  assert.is(host.run(overwrite, { data: list }).status, good);
  assert.equal(volume.bytes.subarray(0, 8), Uint8Array.from([1, 2, 3, 4, 1, 2, 3, 4]));
  assert.equal(volume.bytes.subarray(-4), Uint8Array.from([1, 2, 3, 4]));
  volume.failing.set("write", "medium-error");
  assert.is(host.run(overwrite, { data: list }).senseCode, 0x033103);
  assert.is(host.run(cdb.read10(0, 1)).senseCode, 0x033103);
  assert.is(host.run([0x48, 0x1f, 0, 0, 0, 0, 0, 0, 0, 0]).status, good, "EXIT FAILURE MODE, as AUSE allowed");
  assert.is(host.run(cdb.read10(0, 1)).status, good);
  bench.settle();
  for (const bad of [
    [0x00, 0, 0, 4, 1, 2, 3, 4],
    [0x01, 0, 0, 0, 1, 2, 3, 4],
    [0x01, 0, 0, 5, 1, 2, 3, 4],
  ])
    assert.is(host.run(overwrite, { data: bad }).senseCode, 0x052600);
  assert.is(host.run([0x48, 0x03, 0, 0, 0, 0, 0, 0, 0, 0]).senseCode, 0x052400, "CRYPTOGRAPHIC ERASE");
});

test.run();
