/** Persistent reservations of a pair's hosts: they are the array's, and outlast the appliance that served them (SPC-5 5.14). */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { ScsiStatus } from "../../firmware/frontend/scsi/task.ts";
import { pairLimits } from "../../firmware/pair/limits.ts";
import { benchWithHost, type PairBench, type PairMachine } from "./support/pair_bench.ts";
import { PairInitiator } from "./support/pair_initiator.ts";
import { cdb, reserveList } from "./support/scsi_bench.ts";
import { luns, mebibyte, owners, twoHalves } from "./support/two_halves.ts";

const test = suite("pair_reservations");
const { good, reservationConflict } = ScsiStatus;
const exclusive = 1;
const block = new Uint8Array(512).fill(7);

/** `holder` has reserved LUN 0 for its writes, without APTPL, through the first appliance. */
function reserved(seed: number) {
  const { bench, host } = benchWithHost(seed);
  host.rest();
  const [holder, other] = [new PairInitiator(bench, "holder"), new PairInitiator(bench, "other")];
  holder.login(bench.a);
  assert.is(holder.run(cdb.reserveOut(0, 0), Uint8Array.from(reserveList(0, 1, 0))).status, good);
  assert.is(holder.run(cdb.reserveOut(1, exclusive), Uint8Array.from(reserveList(1, 0))).status, good);
  return { bench, holder, other };
}

function stillHolds({ bench, holder, other }: ReturnType<typeof reserved>, owner: "a" | "b"): void {
  for (const at of [bench.a, bench.b]) {
    if (!at.machine.isUp) continue;
    other.login(at);
    assert.is(other.run(cdb.write10(0, 1), block).status, reservationConflict, `at ${at.name}`);
  }
  holder.login(bench[owner]);
}

test("a planned failover and back -> the reservation holds at both appliances; its holder writes where it registered", () => {
  const site = reserved(60);
  const { bench, holder } = site;
  bench.succeed(bench.a.partnership!.failover(null));
  bench.until("the partner owns", () => bench.b.role === "owner");
  stillHolds(site, "a");
  assert.is(holder.run(cdb.write10(0, 1), block).status, good);
  bench.untilMirrored();
  bench.succeed(bench.b.partnership!.failover(null));
  bench.until("the first one owns again", () => bench.a.role === "owner");
  stillHolds(site, "a");
  assert.is(holder.run(cdb.write10(0, 1), block).status, good);
});

test("the owner is killed -> the reservation holds at its successor, and its holder finds it through the port that it registered at", () => {
  const site = reserved(61);
  const { bench, holder } = site;
  bench.a.machine.crash();
  bench.until("the partner owns", () => bench.b.role === "owner");
  stillHolds(site, "b");
  assert.is(holder.run(cdb.write10(0, 1), block).status, reservationConflict, "its other port is not registered");
  bench.start(bench.a);
  bench.untilMirrored();
  holder.login(bench.a);
  assert.is(holder.run(cdb.write10(0, 1), block).status, good);
});

test("the owner is killed while the interconnect is cut, or its successor takes long -> the reservation holds: sessions go on there", () => {
  for (const isCut of [true, false]) {
    const site = reserved(67);
    const { bench, other } = site;
    other.login(bench.b);
    bench.cut(isCut);
    bench.runFor(5000);
    if (!isCut) for (const slot of [0, 1]) bench.shelf.disk(slot).hang();
    bench.a.machine.crash();
    bench.runFor(isCut ? 0 : pairLimits.inheritMs + 1000);
    for (const slot of [0, 1]) bench.shelf.disk(slot).unhang();
    bench.until("the partner owns", () => bench.b.role === "owner");
    ready(other);
    assert.is(other.run(cdb.write10(0, 1), block).status, reservationConflict);
    stillHolds(site, "b");
  }
});

test("both lose power -> a reservation without APTPL is gone, also after a takeover later", () => {
  const site = reserved(62);
  const { bench, other } = site;
  bench.a.machine.crash();
  bench.b.machine.crash();
  bench.startBoth();
  other.login(bench.a);
  assert.is(other.run(cdb.write10(0, 1), block).status, good);
  bench.succeed(bench.a.partnership!.failover(null));
  bench.until("the partner owns", () => bench.b.role === "owner");
  other.login(bench.b);
  assert.is(other.run(cdb.write10(0, 1), block).status, good);
});

// ---------------------------------------------------------------- groups that move from half to half

const out = { register: 0, reserve: 1, clear: 3, preempt: 4 };

/** The session has been told what has moved, and finds the LUN ready. */
function ready(session: PairInitiator, lun = 0): void {
  for (let tries = 0; session.run([0], undefined, lun).status !== good; tries++) {
    assert.ok(tries < 20, "it is not ready");
    session.rest();
  }
}

function reserveOut(by: PairInitiator, action: number, key: number, actionKey: number, lun = 0): number {
  ready(by, lun);
  return by.run(cdb.reserveOut(action, exclusive), Uint8Array.from(reserveList(key, actionKey)), lun).status;
}

function writes(by: PairInitiator): number {
  ready(by);
  return by.run(cdb.write10(0, 1), block).status;
}

function keys(by: PairInitiator, lun = 0): number[] {
  ready(by, lun);
  const list = by.read(cdb.reserveIn(0), 4096, lun)!;
  const count = new DataView(list.buffer).getUint32(4) / 8;
  return Array.from({ length: count }, (_, index) => list[15 + 8 * index]!);
}

/** What a half keeps on the shelf: UUIDs of volumes with reservations. `at`: its owner, as at the start unless said. */
function kept(bench: PairBench, half: 0 | 1, at: 0 | 1 = half): string[] {
  const engine = bench.machines[at]!.appliance!.halves[half]!.engine!;
  return Object.keys((engine.pool.arrayDocument() as { reservations: object }).reservations);
}

function move(bench: PairBench, to: PairMachine): void {
  bench.call(bench.a, "POST", "/v1/pair/move", { group: "one", to: to.name });
}

/** Two hosts of LUN 0, whose group is in the first half; key 1 has reserved it. Their sessions stay logged in, one at each appliance. */
function reservedInHalf(seed: number) {
  const bench = twoHalves(seed);
  const [first, second] = [new PairInitiator(bench, "first"), new PairInitiator(bench, "second")];
  first.login(bench.a);
  second.login(bench.b);
  assert.is(reserveOut(first, out.register, 0, 1), good);
  assert.is(reserveOut(second, out.register, 0, 2), good);
  assert.is(reserveOut(first, out.reserve, 1, 0), good);
  return { bench, first, second };
}

test("a reserved group moves, is preempted there, and moves back -> who was fenced stays fenced, in every session", () => {
  const { bench, first, second } = reservedInHalf(63);
  assert.is(writes(second), reservationConflict);
  move(bench, bench.b);
  assert.is(writes(second), reservationConflict, "it has come along");
  assert.is(writes(first), good);
  assert.is(reserveOut(second, out.preempt, 2, 1), good);
  move(bench, bench.a);
  assert.is(writes(first), reservationConflict);
  assert.is(writes(second), good);
  assert.equal(keys(second), [2]);
  assert.equal([kept(bench, 0).length, kept(bench, 1).length], [1, 0], "one half has it");
});

test("a reserved group moves, is cleared there, and moves back -> nobody is fenced, also after a takeover", () => {
  for (const isOlder of [false, true]) {
    const { bench, first, second } = reservedInHalf(64);
    move(bench, bench.b);
    assert.equal([kept(bench, 0).length, kept(bench, 1).length], [0, 1], "one half has it");
    assert.is(reserveOut(first, out.clear, 1, 0), good);
    const { transfers } = bench.a.appliance!.halves[0]!.engine!;
    const adopt = transfers.adopt.bind(transfers);
    // A partner of an older version names the volumes that are reserved alone.
    if (isOlder) transfers.adopt = (transfer) => adopt({ ...transfer, uuids: [] });
    move(bench, bench.a);
    for (const host of [first, second]) assert.is(writes(host), good);
    assert.equal(keys(first), []);
    bench.untilAllMirrored();
    bench.a.machine.crash();
    bench.untilHalves("b", "b");
    assert.is(writes(second), good);
    assert.equal(keys(second), []);
  }
});

test("the other half does not take a reserved group -> it keeps nothing of it, and the reservation holds where it was", () => {
  const { bench, first, second } = reservedInHalf(65);
  const { pool } = bench.b.appliance!.halves[1]!.engine!;
  const adoptGroup = pool.adoptGroup.bind(pool);
  pool.adoptGroup = (_, done) => done({ code: "disk-failed", text: "as a test wants it" });
  assert.is(bench.refusal(bench.a, "POST", "/v1/pair/move", { group: "one", to: "oak-b" }), "failed");
  assert.equal(owners(bench)["one"], "oak-a");
  assert.equal([kept(bench, 0).length, kept(bench, 1).length], [1, 0]);
  assert.is(writes(second), reservationConflict);
  assert.is(reserveOut(first, out.clear, 1, 0), good);
  pool.adoptGroup = adoptGroup;
  move(bench, bench.b);
  for (const host of [first, second]) assert.is(writes(host), good);
});

test("an appliance dies anywhere in a move of a reserved group -> the reservation is as it was, and in one half", () => {
  for (let step = 0; step < 8; step++) {
    const { bench, first, second } = reservedInHalf(70 + step);
    const [victim, survivor] = step % 2 === 0 ? [bench.b, first] : [bench.a, second];
    void bench.a.api!("POST", "/v1/pair/move", JSON.stringify({ group: "one", to: "oak-b" }));
    bench.runFor(pairLimits.breathMs + step * 4);
    victim.machine.crash();
    const both = victim === bench.a ? "b" : "a";
    bench.untilHalves(both, both);
    bench.until("the group is served", () => owners(bench)["one"] === bench[both].name);
    assert.is(writes(survivor), survivor === first ? good : reservationConflict);
    assert.equal(keys(survivor), [1, 2]);
    const halves = bench[both].appliance!.halves.map(({ engine }) => engine!);
    const all = halves.map(({ pool }) => (pool.arrayDocument() as { reservations: object }).reservations);
    assert.is(all.flatMap((reservations) => Object.keys(reservations)).length, 1);
  }
});

test("an appliance dies when a group has just left it -> other volumes of its half keep mappings and reservations", () => {
  const { bench, second } = reservedInHalf(66);
  bench.call(bench.a, "POST", "/v1/volumes", { name: "three", sizeBytes: 64 * mebibyte, owner: "oak-a" });
  bench.call(bench.a, "POST", "/v1/hosts/any/map", { volume: "three" });
  assert.is(reserveOut(second, out.register, 0, 3, 2), good);
  const { transfers } = bench.b.appliance!.halves[1]!.engine!;
  const adopt = transfers.adopt.bind(transfers);
  transfers.adopt = async (transfer) => {
    const adopted = await adopt(transfer);
    bench.a.machine.crash();
    return adopted;
  };
  void bench.a.api!("POST", "/v1/pair/move", JSON.stringify({ group: "one", to: "oak-b" }));
  bench.untilHalves("b", "b");
  bench.until("the move has ended", () => Object.keys(owners(bench)).length === 3);
  assert.equal(keys(second, 2), [3]);
  assert.equal(luns(second), [0, 1, 2]);
  assert.equal(keys(second), [1, 2]);
  bench.runFor(2 * pairLimits.retryMs);
  const [left, come] = bench.b.appliance!.halves.map(({ engine }) => engine!.control.hosts.list()[0]!.mappings);
  assert.equal(
    [left, come].map((all) => all!.map(({ volume }) => volume).sort()),
    [["three"], ["one", "two"]],
  );
  assert.equal([kept(bench, 0, 1).length, kept(bench, 1).length], [1, 1]);
});

test.run();
