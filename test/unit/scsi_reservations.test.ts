/** Persistent reservations through the device server: SPC-5 5.14, every type against every command class, and how they end. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { outlastsPower } from "../../firmware/frontend/scsi/persistent_reservations.ts";
import { ScsiStatus } from "../../firmware/frontend/scsi/task.ts";
import { uuidOf } from "./support/memory_target.ts";
import { type BenchNexus, be, cdb, reserveList, ScsiBench, transportId } from "./support/scsi_bench.ts";

const test = suite("scsi_reservations");

const action = { register: 0, reserve: 1, release: 2, clear: 3, preempt: 4, preemptAndAbort: 5, ignore: 6, move: 7 };
const types = { WE: 1, EA: 3, WERO: 5, EARO: 6, WEAR: 7, EAAR: 8 };
const { good, reservationConflict: conflict } = ScsiStatus;

function register(nexus: BenchNexus, key: number, flags = 0, oldKey = 0): number {
  return nexus.run(cdb.reserveOut(action.register, 0), { data: reserveList(oldKey, key, flags) }).status;
}

function reserve(nexus: BenchNexus, key: number, type: number): number {
  return nexus.run(cdb.reserveOut(action.reserve, type), { data: reserveList(key, 0) }).status;
}

function keys(nexus: BenchNexus): { generation: number; keys: number[] } {
  const { dataIn } = nexus.run(cdb.reserveIn(0));
  const view = new DataView(dataIn.buffer, dataIn.byteOffset, dataIn.byteLength);
  const count = view.getUint32(4) / 8;
  return { generation: view.getUint32(0), keys: Array.from({ length: count }, (_, index) => dataIn[15 + 8 * index]!) };
}

/** Key and type of the reservation; null: none. */
function reservation(nexus: BenchNexus): [number, number] | null {
  const { dataIn } = nexus.run(cdb.reserveIn(1));
  return dataIn.byteLength === 8 ? null : [dataIn[15]!, dataIn[21]!];
}

function trio(): { bench: ScsiBench; a: BenchNexus; b: BenchNexus; c: BenchNexus } {
  const bench = new ScsiBench();
  return { bench, a: bench.nexus("a").ready(), b: bench.nexus("b").ready(), c: bench.nexus("c").ready() };
}

const block = new Uint8Array(512).fill(7);

function access(nexus: BenchNexus): string {
  const read = nexus.run(cdb.read10(0, 1)).status;
  const write = nexus.run(cdb.write10(0, 1), { data: block }).status;
  const look = nexus.run(cdb.modeSense6(0x0a)).status;
  const flush = nexus.run([0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0]).status;
  const ready = nexus.run([0]).status;
  return [read, write, look, flush, ready].map((status) => (status === good ? "y" : "n")).join("");
}

test("each type against holder, registrant and stranger → SPC-5 table 69: read, write, mode sense, flush, test unit ready", () => {
  const table: [keyof typeof types, string, string][] = [
    ["WE", "ynyny", "ynyny"],
    ["EA", "nnnny", "nnnny"],
    ["WERO", "yyyyy", "ynyny"],
    ["EARO", "yyyyy", "nnnny"],
    ["WEAR", "yyyyy", "ynyny"],
    ["EAAR", "yyyyy", "nnnny"],
  ];
  for (const [name, registrant, stranger] of table) {
    const { a, b, c } = trio();
    assert.is(register(a, 1), good);
    assert.is(register(b, 2), good);
    assert.is(reserve(a, 1, types[name]), good);
    assert.is(access(a), "yyyyy", `${name} holder`);
    assert.is(access(b), registrant, `${name} registrant`);
    assert.is(access(c), stranger, `${name} stranger`);
    for (const nexus of [a, b, c]) assert.is(nexus.run(cdb.inquiry(null)).status, good, `${name} inquiry`);
    assert.is(reserve(b, 2, types[name]), name === "WEAR" || name === "EAAR" ? good : conflict, `${name} again`);
  }
});

test("hosts without SCSI → as strangers of each type", () => {
  for (const [name, type] of Object.entries(types)) {
    const { bench, a } = trio();
    register(a, 1);
    assert.not(bench.device.forbidsStranger(uuidOf(0), true), `${name} registered only`);
    reserve(a, 1, type);
    assert.ok(bench.device.forbidsStranger(uuidOf(0), true), `${name} writes`);
    assert.is(bench.device.forbidsStranger(uuidOf(0), false), name.startsWith("EA"), `${name} reads`);
  }
});

test("registrations → keys in order, generation counts registrations and nothing else", () => {
  const { a, b } = trio();
  assert.is(register(a, 1), good);
  assert.is(register(b, 2), good);
  assert.equal(keys(a), { generation: 2, keys: [1, 2] });
  assert.is(register(a, 9, 0, 5), conflict, "a wrong key");
  assert.is(register(a, 9), conflict, "no key of one who is registered");
  assert.is(register(a, 9, 0, 1), good);
  assert.equal(keys(a), { generation: 3, keys: [9, 2] });
  reserve(a, 9, types.WE);
  assert.is(reserve(a, 1, types.WE), conflict, "an old key");
  assert.is(keys(a).generation, 3);
  assert.is(register(b, 0, 0, 2), good);
  assert.equal(keys(a), { generation: 4, keys: [9] });
  assert.is(register(b, 0), good, "who is not registered may say so again");
  assert.is(keys(a).generation, 4);
});

test("REGISTER AND IGNORE EXISTING KEY → takes the place of any key", () => {
  const { a } = trio();
  register(a, 1);
  const ignoring = a.run(cdb.reserveOut(action.ignore, 0), { data: reserveList(77, 5) });
  assert.is(ignoring.status, good);
  assert.equal(keys(a).keys, [5]);
});

test("READ RESERVATION, REPORT CAPABILITIES, READ FULL STATUS → byte by byte", () => {
  const { a, b } = trio();
  register(a, 1);
  register(b, 2, 0x04);
  reserve(a, 1, types.WERO);
  const held = a.run(cdb.reserveIn(1)).dataIn;
  assert.equal([...held], [...be(2, 4), ...be(16, 4), ...be(1, 8), 0, 0, 0, 0, 0, 5, 0, 0]);
  const capabilities = a.run(cdb.reserveIn(2)).dataIn;
  assert.equal([...capabilities], [0, 8, 0x0d, 0x80, 0xea, 0x01, 0, 0]);
  const full = a.run(cdb.reserveIn(3)).dataIn;
  const [first, second] = [transportId("a"), transportId("b")];
  const descriptor = (key: number, flags: number, type: number, id: number[]) => [
    ...be(key, 8),
    ...[0, 0, 0, 0, flags, type, 0, 0, 0, 0, 0, 1],
    ...be(id.length, 4),
    ...id,
  ];
  const body = [...descriptor(1, 1, 5, first), ...descriptor(2, 2, 0, second)];
  assert.equal([...full], [...be(2, 4), ...be(body.length, 4), ...body]);
  assert.is(a.run(cdb.reserveIn(0, 10)).dataIn.byteLength, 10, "cut to the allocation length");
});

test("all registrants' reservation → key 0, held until the last unregisters", () => {
  const { a, b } = trio();
  register(a, 1);
  register(b, 2);
  reserve(a, 1, types.EAAR);
  assert.equal(reservation(a), [0, 8]);
  register(a, 0, 0, 1);
  assert.equal(reservation(b), [0, 8]);
  register(b, 0, 0, 2);
  assert.is(reservation(b), null);
});

test("the holder unregisters → the reservation goes, registrants are told where it was theirs too", () => {
  for (const [type, told] of [
    [types.WE, 0],
    [types.EARO, 0x062a04],
  ] as const) {
    const { a, b, c } = trio();
    register(a, 1);
    register(b, 2);
    reserve(a, 1, type);
    register(a, 0, 0, 1);
    assert.is(b.run([0]).senseCode, told);
    assert.is(c.run([0]).senseCode, 0, "a stranger is not told");
    assert.is(reservation(b), null);
  }
});

test("RELEASE → by the holder with its type alone, others are told of registrants' types", () => {
  const { a, b } = trio();
  register(a, 1);
  register(b, 2);
  reserve(a, 1, types.WERO);
  const release = (nexus: BenchNexus, key: number, type: number) =>
    nexus.run(cdb.reserveOut(action.release, type), { data: reserveList(key, 0) });
  assert.is(release(a, 1, types.EA).senseCode, 0x052604);
  assert.is(release(b, 2, types.WERO).status, good, "not the holder: nothing happens");
  assert.equal(reservation(a), [1, 5]);
  assert.is(release(a, 1, types.WERO).status, good);
  assert.is(reservation(a), null);
  assert.is(b.run([0]).senseCode, 0x062a04);
});

test("CLEAR → nobody is registered, the others are told", () => {
  const { a, b } = trio();
  register(a, 1);
  register(b, 2);
  reserve(a, 1, types.EA);
  assert.is(b.run(cdb.reserveOut(action.clear, 0), { data: reserveList(2, 0) }).status, good);
  assert.is(a.run([0]).senseCode, 0x062a03);
  assert.equal(keys(b), { generation: 3, keys: [] });
  assert.is(reservation(b), null);
});

test("PREEMPT of the holder → the reservation changes hands and type, the victim is told", () => {
  const { a, b, c } = trio();
  register(a, 1);
  register(b, 2);
  register(c, 3);
  reserve(a, 1, types.WE);
  assert.is(b.run(cdb.reserveOut(action.preempt, types.EARO), { data: reserveList(2, 1) }).status, good);
  assert.equal(reservation(b), [2, 6]);
  assert.is(a.run([0]).senseCode, 0x062a05);
  assert.is(c.run([0]).senseCode, 0x062a04, "the type is another");
  assert.equal(keys(b).keys, [2, 3]);
  assert.is(a.run(cdb.write10(0, 1), { data: block }).status, conflict);
});

test("PREEMPT of a registrant → its registration goes, the reservation stays; of nobody → conflict", () => {
  const { a, b, c } = trio();
  register(a, 1);
  register(b, 2);
  register(c, 3);
  reserve(a, 1, types.WE);
  const preempt = (victim: number) =>
    b.run(cdb.reserveOut(action.preempt, types.WE), { data: reserveList(2, victim) }).status;
  assert.is(preempt(44), conflict);
  assert.is(preempt(3), good);
  assert.equal(reservation(a), [1, 1]);
  assert.equal(keys(a), { generation: 4, keys: [1, 2] });
  assert.is(c.run([0]).senseCode, 0x062a05);
});

test("PREEMPT with key 0 of an all registrants' reservation → all others go; of another one → bad parameter", () => {
  const { a, b, c } = trio();
  register(a, 1);
  register(b, 2);
  register(c, 3);
  const preempt = () => b.run(cdb.reserveOut(action.preempt, types.WE), { data: reserveList(2, 0) });
  reserve(a, 1, types.WEAR);
  assert.is(preempt().status, good);
  assert.equal(keys(b).keys, [2]);
  assert.equal(reservation(b), [2, 1]);
  assert.is(preempt().senseCode, 0x052600);
});

test("PREEMPT AND ABORT → the victim's tasks end without an answer before the status is sent", () => {
  const { bench, a, b } = trio();
  register(a, 1);
  register(b, 2);
  reserve(a, 1, types.WE);
  const unsent = a.judge(cdb.write10(0, 1), { data: block });
  bench.volume.gate = true;
  const running = a.execute(a.judge(cdb.write10(8, 1), { data: block }));
  const preempting = b.judge(cdb.reserveOut(action.preemptAndAbort, types.WE), { data: reserveList(2, 1) });
  b.execute(preempting);
  bench.settle();
  assert.ok(unsent.ended && unsent.aborted);
  assert.not(preempting.ended, "a write is under way");
  bench.volume.release();
  bench.settle();
  assert.ok(running.ended && running.aborted);
  assert.ok(preempting.ended);
  assert.is(preempting.status, good);
});

test("REGISTER AND MOVE → the reservation goes to the port that is named", () => {
  const { a, b } = trio();
  register(a, 1);
  reserve(a, 1, types.WE);
  const id = transportId("b");
  const list = [...be(1, 8), ...be(5, 8), 0, 0x02, 0, 1, ...be(id.length, 4), ...id];
  assert.is(a.run(cdb.reserveOut(action.move, 0, list.length), { data: list }).status, good);
  assert.equal(reservation(b), [5, 1]);
  assert.equal(keys(b).keys, [5], "UNREG");
  assert.is(access(b), "yyyyy");
});

test("SPEC_I_PT → the named ports are registered too, each once, or nobody is", () => {
  const { a, b, c } = trio();
  const list = (names: readonly string[], claimed?: number) => {
    const ids = names.flatMap(transportId);
    return [...reserveList(0, 6, 0x08), ...be(claimed ?? ids.length, 4), ...ids];
  };
  const run = (data: number[]) => a.run(cdb.reserveOut(action.register, 0, data.length), { data });
  for (const [why, data] of [
    ["a length beyond the list", list(["b"], 4000)],
    ["a length short of the list", list(["b", "c"], transportId("b").length)],
    ["the same port twice", list(["b", "b"])],
    ["the nexus itself", list(["a"])],
    ["no length", list([]).slice(0, 26)],
  ] as const) {
    assert.is(run(data).status, ScsiStatus.checkCondition, why);
    assert.equal(keys(a), { generation: 0, keys: [] }, why);
  }
  assert.is(run(list(["b", "c"])).status, good);
  assert.equal(keys(a).keys, [6, 6, 6]);
  assert.is(reserve(c, 6, types.WE), good);
  assert.is(reserve(b, 6, types.WE), conflict);
});

test("a TransportID in capitals → the same initiator port", () => {
  const { a, b } = trio();
  register(a, 1);
  reserve(a, 1, types.EA);
  const id = transportId("b").map((byte) =>
    byte >= 0x61 && byte <= 0x7a && byte !== 0x69 && byte !== 0x78 ? byte - 32 : byte,
  );
  const data = [...be(1, 8), ...be(5, 8), 0, 0, 0, 1, ...be(id.length, 4), ...id];
  assert.is(a.run(cdb.reserveOut(action.move, 0, data.length), { data }).status, good);
  assert.is(access(b), "yyyyy");
});

test("PREEMPT of one's own other registration, for all ports → one is not told of it oneself", () => {
  const bench = new ScsiBench();
  const [one, other] = [bench.nexus("a", 1).ready(), bench.nexus("a", 2).ready()];
  register(one, 1);
  register(other, 2, 0x04);
  assert.is(one.run(cdb.reserveOut(action.preempt, types.WE), { data: reserveList(1, 2) }).status, good);
  assert.is(one.run([0]).status, good);
  assert.is(other.run([0]).senseCode, 0x062a05);
});

test("lists whose length lies → PARAMETER LIST LENGTH ERROR, and nothing has changed", () => {
  const { a } = trio();
  for (const [claimed, sent] of [
    [0, 0],
    [23, 23],
    [25, 25],
    [24, 20],
    [9000, 24],
    [0xffffffff, 24],
  ] as const) {
    const task = a.run(cdb.reserveOut(action.register, 0, claimed), {
      data: new Uint8Array(sent).fill(1),
      announcedBytes: sent,
    });
    assert.is(task.senseCode, 0x051a00, `${claimed} claimed, ${sent} sent`);
    assert.equal(keys(a).keys, []);
  }
});

test("a type or a scope that is none → INVALID FIELD IN CDB", () => {
  const { a } = trio();
  register(a, 1);
  for (const type of [0, 2, 4, 9, 15, 0x11]) {
    const task = a.run(cdb.reserveOut(action.reserve, type), { data: reserveList(1, 0) });
    assert.is(task.senseCode, 0x052400, String(type));
  }
});

test("APTPL → kept over a restart; without it → gone; turned off → taken from the shelf", () => {
  const { bench, a } = trio();
  register(a, 1, 0x01);
  reserve(a, 1, types.EA);
  assert.is(bench.kept.size, 1);
  bench.start();
  assert.ok(bench.device.forbidsStranger(uuidOf(0), false), "before any host is back");
  const again = bench.nexus("a").ready();
  const other = bench.nexus("b").ready();
  assert.equal(reservation(again), [1, 3]);
  assert.is(other.run(cdb.read10(0, 1)).status, conflict);
  assert.is(again.run(cdb.read10(0, 1)).status, good);
  assert.is(register(again, 1, 0, 1), good);
  assert.is(bench.kept.size, 0);
  bench.start();
  assert.not.ok(bench.device.forbidsStranger(uuidOf(0), true));
  assert.is(reservation(bench.nexus("a").ready()), null);
});

test("a shelf that does not keep it → no GOOD, and nothing has changed", () => {
  const { bench, a, b } = trio();
  register(a, 1, 0x01);
  bench.saveError = "the shelf is full";
  assert.is(register(b, 2, 0x01), ScsiStatus.checkCondition);
  assert.is(reserve(a, 1, types.EA), ScsiStatus.checkCondition);
  bench.saveError = null;
  assert.equal(keys(a), { generation: 1, keys: [1] });
  assert.is(reservation(a), null);
  assert.is(b.run(cdb.write10(0, 1), { data: block }).status, good);
});

test("more registrants than the table holds → INSUFFICIENT REGISTRATION RESOURCES", () => {
  const bench = new ScsiBench();
  for (let index = 0; index < 256; index++) {
    const nexus = bench.nexus(`h${index}`).ready();
    assert.is(register(nexus, 1), good);
    nexus.nexus.close();
  }
  const last = bench.nexus("last").ready();
  const task = last.run(cdb.reserveOut(action.register, 0), { data: reserveList(0, 1) });
  assert.is(task.senseCode, 0x055504);
  assert.is(keys(last).keys.length, 256);
});

test("a nexus ends → its registration stays, and is its own again after the next login", () => {
  const { bench, a, b } = trio();
  register(a, 1);
  reserve(a, 1, types.EA);
  a.nexus.close();
  assert.is(b.run(cdb.read10(0, 1)).status, conflict);
  assert.is(bench.nexus("a").ready().run(cdb.read10(0, 1)).status, good);
  assert.is(
    bench.nexus("a", 2).ready().run(cdb.read10(0, 1)).status,
    conflict,
    "through another port it is a stranger",
  );
});

test("ALL_TG_PT → registered through every port", () => {
  const { bench, a } = trio();
  register(a, 1, 0x04);
  reserve(a, 1, types.EA);
  assert.is(bench.nexus("a", 2).ready().run(cdb.read10(0, 1)).status, good);
});

test("RESERVE(6) → others conflict until RELEASE(6), a reset or the end of its nexus", () => {
  const { bench, a, b } = trio();
  const write = () => b.run(cdb.write10(0, 1), { data: block }).status;
  assert.is(a.run([0x16, 0, 0, 0, 0, 0]).status, good);
  assert.is(write(), conflict);
  assert.is(b.run([0x16, 0, 0, 0, 0, 0]).status, conflict);
  assert.is(b.run([0x17, 0, 0, 0, 0, 0]).status, good, "releases nothing");
  assert.is(write(), conflict);
  assert.is(register(b, 2), conflict);
  assert.is(a.run([0x17, 0, 0, 0, 0, 0]).status, good);
  assert.is(write(), good);
  a.run([0x16, 0, 0, 0, 0, 0]);
  a.nexus.close();
  assert.is(write(), good);
  const again = bench.nexus("a").ready();
  again.run([0x16, 0, 0, 0, 0, 0]);
  b.nexus.manage(5, new Uint8Array(8), 0, () => {});
  b.run([0]);
  assert.is(write(), good);
});

test("one who is registered → RESERVE(6) of others conflicts", () => {
  const { a, b } = trio();
  register(a, 1);
  assert.is(b.run([0x16, 0, 0, 0, 0, 0]).status, conflict);
});

test("in a pair → kept without APTPL too, marked as such, over a move of the device server, and gone with the last registration", () => {
  const bench = new ScsiBench();
  bench.keepsAll = true;
  bench.start();
  const [a, b] = [bench.nexus("a").ready(), bench.nexus("b").ready()];
  register(a, 1);
  reserve(a, 1, types.WE);
  assert.not(outlastsPower(bench.kept.get(uuidOf(0))));
  bench.start();
  const [again, other] = [bench.nexus("a").ready(), bench.nexus("b").ready()];
  assert.equal(reservation(again), [1, types.WE]);
  assert.is(other.run(cdb.write10(0, 1), { data: block }).status, conflict);
  register(again, 1, 0x01, 1);
  assert.ok(outlastsPower(bench.kept.get(uuidOf(0))), "APTPL asked for later");
  register(again, 1, 0, 1);
  assert.not(outlastsPower(bench.kept.get(uuidOf(0))));
  assert.is(register(again, 0, 0, 1), good);
  assert.is(bench.kept.size, 0);
  assert.ok(b.run([0]).status === good);
});

test("a volume comes back that was served elsewhere meanwhile → sessions that stayed find what the shelf has of it now", () => {
  for (const isRegistered of [true, false]) {
    const bench = new ScsiBench();
    bench.keepsAll = true;
    bench.start();
    const [a, b] = [bench.nexus("a").ready(), bench.nexus("b").ready()];
    if (isRegistered) register(a, 1);
    bench.volume.gate = true;
    const written = a.execute(a.judge(cdb.write10(0, 1), { data: block }));
    bench.kept.delete(uuidOf(0));
    bench.device.forgetUnits([uuidOf(0)]);
    bench.luns.changed();
    for (const nexus of [a, b]) while (nexus.run([0]).status !== good);
    assert.equal(keys(b).keys, []);
    register(b, 2);
    // What went on at the former unit ends: the present one stays.
    bench.volume.gate = false;
    bench.volume.release();
    assert.ok(written.ended);
    register(bench.nexus("c").ready(), 3);
    assert.equal(keys(a).keys, [2, 3]);
  }
});

test.run();
