/** What travels besides blocks, byte by byte: sense data, vital product data, parameter lists that are cut anywhere, unit attentions. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Asc, encodeSense, SenseKey } from "../../firmware/frontend/scsi/sense.ts";
import { ScsiStatus } from "../../firmware/frontend/scsi/task.ts";
import { MemoryVolume } from "./support/memory_target.ts";
import { type BenchNexus, be, cdb, reserveList, ScsiBench, transportId, unmapList } from "./support/scsi_bench.ts";

const test = suite("scsi_parameters");
const { good, checkCondition, reservationConflict } = ScsiStatus;
const block = new Uint8Array(512).fill(7);
const zeros = (count: number): number[] => new Array<number>(count).fill(0);

function pair(volumes = 1) {
  const bench = new ScsiBench(volumes);
  return { bench, a: bench.nexus("a").ready(), b: bench.nexus("b").ready(), volume: bench.volume };
}

function vital(nexus: BenchNexus, page: number): number[] {
  return [...nexus.run(cdb.inquiry(page)).dataIn];
}

// -------------------------------------------------------------------- sense data

test("sense data in fixed format → SPC-5 4.4.3, with INFORMATION as far as four bytes hold it", () => {
  const of = (details: Parameters<typeof encodeSense>[3]) => [
    ...encodeSense(false, SenseKey.mediumError, Asc.unrecoveredReadError, details),
  ];
  const tail = [10, 0, 0, 0, 0, 0x11, 0, 0, 0, 0, 0];
  assert.equal(of({}), [0x70, 0, 3, 0, 0, 0, 0, ...tail]);
  assert.equal(of({ information: 0x01020304 }), [0xf0, 0, 3, 1, 2, 3, 4, ...tail]);
  assert.equal(of({ information: 0xffffffff }), [0xf0, 0, 3, 255, 255, 255, 255, ...tail]);
  assert.equal(of({ information: 0x100000000 }), [0x70, 0, 3, 0, 0, 0, 0, ...tail], "not valid");
  const withField = (field: { inCdb: boolean; byte: number; bit?: number }) => of({ field }).slice(15);
  assert.equal(withField({ inCdb: true, byte: 2, bit: 5 }), [0xcd, 0, 2]);
  assert.equal(withField({ inCdb: false, byte: 0x123 }), [0x80, 1, 0x23]);
  assert.equal(of({ progress: 0x8001 }).slice(15), [0x80, 0x80, 1]);
});

test("sense data in descriptor format → SPC-5 4.4.2, INFORMATION of eight bytes", () => {
  const of = (details: Parameters<typeof encodeSense>[3]) => [
    ...encodeSense(true, SenseKey.illegalRequest, Asc.invalidFieldInCdb, details),
  ];
  assert.equal(of({}), [0x72, 5, 0x24, 0, 0, 0, 0, 0]);
  assert.equal(
    of({ information: 2 ** 40 + 3 }),
    [0x72, 5, 0x24, 0, 0, 0, 0, 12, 0, 10, 0x80, 0, 0, 0, 1, 0, 0, 0, 0, 3],
  );
  assert.equal(
    of({ field: { inCdb: true, byte: 1, bit: 7 } }),
    [0x72, 5, 0x24, 0, 0, 0, 0, 8, 2, 6, 0, 0, 0xcf, 0, 1, 0],
  );
  const both = of({ information: 1, progress: 2 });
  assert.equal([both[7], both[8], both[20]], [20, 0, 2]);
});

test("D_SENSE → refusals come in descriptor format, a medium error far out with its LBA", () => {
  const { a, volume } = pair();
  const control = [0, 0, 0, 0, 0x0a, 10, 0x04, 0x10, 0, 0, 0, 0, 0xff, 0xff, 0, 0];
  assert.is(a.run(cdb.modeSelect6(control.length), { data: control }).status, good);
  assert.equal([...a.run([0xee]).sense], [0x72, 5, 0x20, 0, 0, 0, 0, 8, 2, 6, 0, 0, 0xc0, 0, 0, 0]);
  volume.blockCountTold = 2 ** 41;
  volume.failing.set("read", "medium-error");
  const far = a.run(cdb.read16(be(2 ** 40 + 9, 8), 1)).sense;
  assert.equal([...far], [0x72, 3, 0x11, 0, 0, 0, 0, 12, 0, 10, 0x80, 0, 0, 0, 1, 0, 0, 0, 0, 9]);
});

test("refusals → point at the field", () => {
  const { a } = pair();
  const pointer = (bytes: readonly number[], data: readonly number[] = []) => [
    ...a.run(bytes, { data }).sense.subarray(15),
  ];
  assert.equal(pointer([0x28, 0xe0, 0, 0, 0, 0, 0, 0, 1, 0]), [0xcf, 0, 1], "RDPROTECT");
  assert.equal(pointer([0x12, 0, 0x80, 0, 255, 0]), [0xcf, 0, 2], "page without EVPD");
  assert.equal(pointer([0x1b, 0, 0, 0, 0x10, 0]), [0xcf, 0, 4], "POWER CONDITION");
  const caching = [0, 0, 0, 0, 0x08, 18, 0x04, ...zeros(17)];
  assert.equal(pointer(cdb.modeSelect6(caching.length), caching), [0x80, 0, 6], "WCE in the list");
});

// -------------------------------------------------------------------- vital product data

test("vital product data → byte by byte", () => {
  const { a } = pair();
  assert.equal(vital(a, 0x86), [0, 0x86, 0, 60, 0, 0x07, ...zeros(58)]);
  assert.equal(vital(a, 0xb1), [0, 0xb1, 0, 60, 0, 1, 0, 0x40, ...zeros(56)]);
  const commands = [0, 1, 0, 12, 8, 0x83, 1, 0, 0x84, 3, 0, 3, 4, 0, 0, 0];
  assert.equal(vital(a, 0x8f), [0, 0x8f, 0, 24, ...commands, 0, 8, 0, 4, 2, 2, 0xe4, 0]);
  const limits = [
    ...[0, 255, ...be(8, 2)],
    ...be(65536, 4),
    ...be(512, 4),
    ...be(0, 4),
    ...be(0xffffffff, 4),
    ...be(256, 4),
    ...be(8, 4),
    ...[0x80, 0, 0, 0],
    ...be(262144, 8),
    ...be(512, 4),
    ...be(8, 4),
    ...be(8, 4),
    ...zeros(8),
  ];
  assert.equal(vital(a, 0xb0), [0, 0xb0, 0, 60, ...limits]);
});

test("an allocation length of every size → that much of the answer, and no more", () => {
  const { a } = pair();
  for (const bytes of [
    (length: number) => cdb.inquiry(0x83, length),
    (length: number) => [0xa3, 0x0c, 0, 0, 0, 0, ...be(length, 4), 0, 0],
    (length: number) => [0x5a, 0, 0x3f, 0xff, 0, 0, 0, ...be(length, 2), 0],
    (length: number) => [0x9e, 0x10, ...zeros(8), ...be(length, 4), 0, 0],
  ]) {
    const whole = a.run(bytes(4096)).dataIn;
    for (let length = 0; length <= whole.byteLength + 1; length++) {
      const { status, dataIn, dataInBytes } = a.run(bytes(length));
      assert.is(status, good);
      assert.equal(dataIn, whole.subarray(0, length));
      assert.is(dataInBytes, dataIn.byteLength);
    }
  }
});

// -------------------------------------------------------------------- parameter lists that are cut

interface ListCase {
  readonly name: string;
  readonly list: readonly number[];
  readonly cdb: (bytes: number) => readonly number[];
  /** Lengths at which a shorter list is a list too. */
  readonly whole: readonly number[];
}

const naa = (lun: number): number[] => [0x3e, 0xed, 0, lun, 0x5e, 0xed, 0, lun];
const copyTarget = (lun: number) => [0xe4, 0, 0, 0, 1, 3, 0, 8, ...naa(lun), ...zeros(12), 0, 0, 2, 0];
const copySegment = [2, 0, 0, 24, 0, 0, 0, 1, 0, 0, ...be(8, 2), ...be(0, 8), ...be(0, 8)];
const named = [...transportId("b"), ...transportId("c")];
const moved = transportId("b");

const lists: readonly ListCase[] = [
  {
    name: "MODE SELECT(10)",
    list: [...zeros(7), 8, ...zeros(6), 2, 0, 0x0a, 10, 4, 0x10, 8, 0, 0, 0, 0xff, 0xff, 0, 0],
    cdb: (bytes) => [0x55, 0x10, 0, 0, 0, 0, 0, ...be(bytes, 2), 0],
    whole: [0, 16],
  },
  {
    name: "UNMAP",
    list: unmapList([
      [0, 8],
      [16, 8],
    ]),
    cdb: cdb.unmap,
    whole: Array.from({ length: 41 }, (_, length) => length).filter((length) => length === 0 || length >= 8),
  },
  {
    name: "REGISTER with SPEC_I_PT",
    list: [...reserveList(0, 6, 0x08), ...be(named.length, 4), ...named],
    cdb: (bytes) => cdb.reserveOut(0, 0, bytes),
    whole: [],
  },
  {
    name: "REGISTER AND MOVE",
    list: [...be(1, 8), ...be(2, 8), 0, 0, 0, 1, ...be(moved.length, 4), ...moved],
    cdb: (bytes) => cdb.reserveOut(7, 0, bytes),
    whole: [],
  },
  {
    name: "EXTENDED COPY",
    list: [1, 0, 0, 64, 0, 0, 0, 0, ...be(28, 4), 0, 0, 0, 0, ...copyTarget(0), ...copyTarget(1), ...copySegment],
    cdb: (bytes) => [0x83, 0, ...zeros(8), ...be(bytes, 4), 0, 0],
    whole: [0],
  },
  {
    name: "SANITIZE OVERWRITE",
    list: [0x01, 0, 0, 4, 1, 2, 3, 4],
    cdb: (bytes) => [0x48, 0x01, 0, 0, 0, 0, 0, ...be(bytes, 2), 0],
    whole: [],
  },
];

/** All that a command might have changed. */
function stateOf(bench: ScsiBench, nexus: BenchNexus): unknown {
  return [
    bench.luns.volumes.map(({ bytes, allocated }) => [Bun.hash(bytes), Bun.hash(allocated)]),
    [...nexus.run(cdb.reserveIn(3)).dataIn],
    [...nexus.run([0x5a, 8, 0x3f, 0xff, 0, 0, 0, ...be(4096, 2), 0]).dataIn],
  ];
}

function prepared(name: string) {
  const { bench, a } = pair(2);
  bench.volume.bytes.fill(9, 0, 65536);
  bench.volume.allocated.fill(1, 0, 16);
  if (name === "REGISTER AND MOVE") {
    a.run(cdb.reserveOut(0, 0), { data: reserveList(0, 1) });
    a.run(cdb.reserveOut(1, 1), { data: reserveList(1, 0) });
  }
  return { bench, a };
}

for (const { name, list, cdb: cdbOf, whole } of lists) {
  test(`${name}: a list cut at every byte, told or not → refused, and nothing has changed`, () => {
    const { bench, a } = prepared(name);
    const before = stateOf(bench, a);
    for (let length = 0; length < list.length; length++)
      for (const announced of [true, false]) {
        // A list of length 0 is none.
        if (whole.includes(length) && (announced || length > 0)) continue;
        const data = list.slice(0, length);
        const task = a.run(cdbOf(announced ? length : list.length), { data });
        assert.is(task.status, checkCondition, `${length} ${announced}`);
        assert.equal(stateOf(bench, a), before, `${length} ${announced}`);
      }
    assert.is(a.run(cdbOf(list.length), { data: list }).status, good, "the whole one");
    assert.not.equal(stateOf(bench, a), before);
  });

  test(`${name}: a list with each byte in turn 0, 255, or another → an answer, and the unit goes on`, () => {
    for (let at = 0; at < list.length; at++)
      for (const byte of [0, 255, list[at]! ^ 0x10]) {
        const { bench, a } = prepared(name);
        const task = a.run(cdbOf(list.length), { data: list.with(at, byte) });
        assert.ok(task.ended);
        bench.settle();
        assert.is(a.run([0]).status, good);
        assert.is(a.run(cdb.read10(0, 1)).status, good);
      }
  });
}

test("UNMAP cut at every byte → the descriptors that are whole, and no more", () => {
  const list = unmapList([
    [0, 8],
    [16, 8],
  ]);
  for (let length = 8; length <= list.length; length++) {
    const { a, volume } = pair();
    volume.submitted.length = 0;
    assert.is(a.run(cdb.unmap(length), { data: list.slice(0, length) }).status, good);
    const done = volume.submitted.map(({ kind, startLba }) => `${kind} ${startLba}`);
    assert.equal(done, length < 24 ? [] : length < 40 ? ["unmap 0"] : ["unmap 0", "unmap 16"]);
  }
});

// -------------------------------------------------------------------- unit attentions

test("attentions of several causes → told in their order, each once; a reset makes the older ones superfluous", () => {
  const { bench, a, b, volume } = pair();
  const control = [0, 0, 0, 0, 0x0a, 10, 0, 0x10, 0, 0, 0, 0, 0xff, 0xff, 0, 0];
  const modeSelect = () => a.run(cdb.modeSelect6(control.length), { data: control });
  modeSelect();
  volume.grow(16 << 20);
  bench.luns.changed();
  bench.luns.add(new MemoryVolume("more", 1 << 20, null));
  modeSelect();
  while (a.run([0]).status !== good);
  modeSelect();
  const told: number[] = [];
  for (let task = b.run([0]); task.status !== good; task = b.run([0])) told.push(task.senseCode);
  assert.equal(told, [0x062a01, 0x062a09, 0x063f0e]);
  modeSelect();
  a.nexus.manage(5, new Uint8Array(8), 0, () => {});
  assert.is(b.run([0]).senseCode, 0x062903);
  assert.is(b.run([0]).status, good);
});

test("REQUEST SENSE → tells an attention as data, then none; in the format that is asked for", () => {
  const { a, b } = pair();
  const control = [0, 0, 0, 0, 0x0a, 10, 0, 0x10, 0, 0, 0, 0, 0xff, 0xff, 0, 0];
  a.run(cdb.modeSelect6(control.length), { data: control });
  assert.equal([...b.run([0x03, 1, 0, 0, 252, 0]).dataIn], [0x72, 6, 0x2a, 1, 0, 0, 0, 0]);
  assert.equal([...b.run([0x03, 0, 0, 0, 252, 0]).dataIn], [0x70, 0, 0, 0, 0, 0, 0, 10, ...zeros(10)]);
  assert.is(b.run([0]).status, good);
});

// -------------------------------------------------------------------- reservations and time

test("APTPL → the status comes when the shelf has it, not before; meanwhile others are BUSY", () => {
  const { bench, a, b } = pair();
  const task = a.execute(a.judge(cdb.reserveOut(0, 0), { data: reserveList(0, 1, 1) }));
  assert.is(task.outcome, "pending");
  assert.not(task.ended);
  assert.is(bench.kept.size, 0);
  const second = b.execute(b.judge(cdb.reserveOut(0, 0), { data: reserveList(0, 2, 1) }));
  assert.is(second.status, ScsiStatus.busy);
  bench.settle();
  assert.ok(task.ended);
  assert.is(task.status, good);
  assert.is(bench.kept.size, 1);
});

test("a host is fenced while the data of its write is on the way → RESERVATION CONFLICT, nothing is written", () => {
  for (const action of [4, 5]) {
    const { bench, a, b, volume } = pair();
    for (const [nexus, key] of [
      [a, 1],
      [b, 2],
    ] as const)
      nexus.run(cdb.reserveOut(0, 0), { data: reserveList(0, key) });
    b.run(cdb.reserveOut(1, 5), { data: reserveList(2, 0) });
    const late = b.judge(cdb.write10(0, 1), { data: block });
    assert.is(late.outcome, "accepted");
    assert.is(a.run(cdb.reserveOut(action, 5), { data: reserveList(1, 2) }).status, good);
    if (!late.ended) {
      b.execute(late);
      assert.is(late.status, reservationConflict);
      assert.is(late.sense.byteLength, 0);
    }
    bench.settle();
    assert.ok(late.ended);
    assert.ok(volume.bytes.every((byte) => byte === 0));
  }
});

test("START STOP UNIT under another's reservation → to start is allowed, to stop is not", () => {
  const { a, b } = pair();
  a.run(cdb.reserveOut(0, 0), { data: reserveList(0, 1) });
  a.run(cdb.reserveOut(1, 3), { data: reserveList(1, 0) });
  assert.is(b.run([0x1b, 0, 0, 0, 1, 0]).status, good);
  assert.is(b.run([0x1b, 0, 0, 0, 0, 0]).status, reservationConflict);
});

// -------------------------------------------------------------------- mappings

test("a read-only mapping of a volume that others write → as a golden copy to this host alone", () => {
  const { bench, a, b } = pair();
  bench.luns.mapping = (all, host) => all.map((info) => ({ ...info, readOnly: host.iqn?.endsWith(":a") === true }));
  bench.luns.changed();
  assert.is(a.run(cdb.write10(0, 1), { data: block }).senseCode, 0x072700);
  assert.is(a.run(cdb.modeSense6(0x08)).dataIn[2]! & 0x80, 0x80);
  assert.is(b.run(cdb.write10(0, 1), { data: block }).status, good);
  assert.is(b.run(cdb.modeSense6(0x08)).dataIn[2]! & 0x80, 0);
  assert.equal(a.run(cdb.read10(0, 1)).dataIn, block);
});

test.run();
