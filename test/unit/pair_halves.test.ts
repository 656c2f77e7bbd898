/** The two halves of a pair's array: each appliance owns one, both are reached through either, and one appliance can have both. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { FailoverJson } from "../../firmware/manage/control.ts";
import type { HostJson, PairStatusJson, StatusJson, VolumeJson } from "../../firmware/manage/status_json.ts";
import { PairBench, type PairBenchOptions, type PairMachine } from "./support/pair_bench.ts";
import { PairInitiator } from "./support/pair_initiator.ts";
import { cdb } from "./support/scsi_bench.ts";

const test = suite("pair_halves");
const mebibyte = 1048576;
const blocks = 8;

function filled(seed: number): Uint8Array {
  return Uint8Array.from({ length: 4096 }, (_, index) => (index * 13 + seed) & 0xff);
}

/** One group with a volume in each half; `one` is LUN 0, and `two` LUN 1. */
function twoHalves(seed: number, options: PairBenchOptions = {}): PairBench {
  const bench = new PairBench(seed, options);
  bench.startBoth();
  bench.untilHalves("a", "b");
  bench.call(bench.a, "POST", "/v1/hosts", { name: "any", any: true });
  for (const name of ["one", "two"]) {
    bench.call(bench.a, "POST", "/v1/volumes", { name, sizeBytes: 64 * mebibyte });
    bench.call(bench.b, "POST", "/v1/hosts/any/map", { volume: name });
  }
  return bench;
}

function owners(bench: PairBench): Record<string, string> {
  const { groups } = bench.call<StatusJson>(bench.a.machine.isUp ? bench.a : bench.b, "GET", "/v1/status");
  return Object.fromEntries(groups.map(({ name, owner }) => [name, owner]));
}

function luns(initiator: PairInitiator): number[] {
  const list = initiator.read([0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0], 256)!;
  const count = new DataView(list.buffer).getUint32(0) / 8;
  return Array.from({ length: count }, (_, index) => list[9 + 8 * index]!);
}

function write(initiator: PairInitiator, lun: number, data: Uint8Array): void {
  for (let tries = 0; tries < 6; tries++) {
    const { status, sense } = initiator.run(cdb.write10(0, blocks), data, lun);
    if (status === 0) return;
    assert.ok([0x062a06, 0x062a01, 0x0b0000, 0x062900, 0x063f0e].includes(sense), sense.toString(16));
  }
  throw new Error("not written");
}

function read(initiator: PairInitiator, lun: number): Uint8Array {
  const told: string[] = [];
  for (let tries = 0; tries < 6; tries++) {
    const command = initiator.begin(cdb.read10(0, blocks), { readBytes: 4096, lun });
    const { status, sense } = initiator.end(command);
    if (status === 0) return command.received;
    // The group has just come, and finds out its role.
    if (sense === 0x020401) initiator.rest();
    told.push(`${status} ${sense.toString(16)}`);
  }
  throw new Error(`not read: ${told.join(", ")}`);
}

function assertReads(initiator: PairInitiator, lun: number, data: Uint8Array): void {
  assert.is(Buffer.compare(read(initiator, lun), data), 0, `LUN ${lun}`);
}

test("both start -> each appliance owns a half; new groups go to the half that has fewer; either appliance shows all of it", () => {
  const bench = twoHalves(80);
  assert.equal(owners(bench), { one: "oak-a", two: "oak-b" });
  for (const machine of bench.machines) {
    const volumes = bench.call<VolumeJson[]>(machine, "GET", "/v1/volumes");
    assert.equal(
      volumes.map(({ name }) => name),
      ["one", "two"],
    );
    const hosts = bench.call<HostJson[]>(machine, "GET", "/v1/hosts");
    assert.equal(
      hosts.map(({ name, mappings }) => [name, mappings.map(({ volume, lun }) => [volume, lun])]),
      [
        [
          "any",
          [
            ["one", 0],
            ["two", 1],
          ],
        ],
      ],
    );
    const pair = bench.call<PairStatusJson>(machine, "GET", "/v1/pair");
    assert.is(pair.state, "mirrored");
    assert.equal(
      pair.halves.map(({ owner, preferredOwner }) => [owner, preferredOwner]),
      [
        ["oak-a", "oak-a"],
        ["oak-b", "oak-b"],
      ],
    );
  }
  bench.call(bench.b, "POST", "/v1/groups", { name: "three", owner: "oak-b" });
  assert.is(owners(bench)["three"], "oak-b");
});

test("names are the array's -> a second volume, group or host of one name is refused, whichever half it would go to", () => {
  const bench = twoHalves(81);
  assert.is(bench.refusal(bench.b, "POST", "/v1/volumes", { name: "one", sizeBytes: mebibyte }), "exists");
  assert.is(bench.refusal(bench.a, "POST", "/v1/groups", { name: "two" }), "exists");
  assert.is(bench.refusal(bench.a, "POST", "/v1/hosts", { name: "any", any: true }), "exists");
  assert.is(bench.refusal(bench.a, "POST", "/v1/hosts/any/map", { volume: "two", lun: 0 }), "exists");
  assert.is(bench.refusal(bench.b, "GET", "/v1/volumes/three", {}), "not-found");
  bench.call(bench.a, "DELETE", "/v1/volumes/two");
  assert.is(bench.refusal(bench.b, "GET", "/v1/volumes/two", {}), "not-found");
  bench.call(bench.b, "DELETE", "/v1/hosts/any");
  assert.equal(bench.call<HostJson[]>(bench.a, "GET", "/v1/hosts"), []);
});

test("a session at either appliance -> has the LUNs of both halves, and each is served by its owner", () => {
  const bench = twoHalves(82);
  const sessions = bench.machines.map((machine, index) => {
    const session = new PairInitiator(bench, `host${index}`);
    session.login(machine);
    return session;
  });
  for (const session of sessions) assert.equal(luns(session), [0, 1]);
  for (const [index, session] of sessions.entries()) {
    for (const lun of [0, 1]) {
      const data = filled(index * 2 + lun);
      write(session, lun, data);
      for (const other of sessions) assertReads(other, lun, data);
    }
  }
});

test("an appliance is killed -> its partner has both halves, sessions there go on; it comes back and follows, and gets its half again", () => {
  for (const [victim, survivor] of [
    ["a", "b"],
    ["b", "a"],
  ] as const) {
    const bench = twoHalves(83);
    const session = new PairInitiator(bench, "host");
    session.login(bench[survivor]);
    for (const lun of [0, 1]) write(session, lun, filled(lun));
    bench[victim].machine.crash();
    bench.untilHalves(survivor, survivor);
    for (const lun of [0, 1]) assertReads(session, lun, filled(lun));
    for (const lun of [0, 1]) write(session, lun, filled(lun + 10));
    assert.equal(Object.values(owners(bench)), [bench[survivor].name, bench[survivor].name]);
    bench.start(bench[victim]);
    bench.untilAllMirrored();
    for (const [half, owner] of (["a", "b"] as const).entries()) {
      if (owner === survivor) continue;
      bench.succeed(bench[survivor].appliance!.halves[half]!.failover(bench[victim].name));
    }
    bench.untilHalves("a", "b");
    for (const lun of [0, 1]) assertReads(session, lun, filled(lun + 10));
    for (const lun of [0, 1]) write(session, lun, filled(lun + 20));
    assert.ok(session.isOpen);
  }
});

test("the interconnect is cut -> each appliance goes on with its own half, and takes nothing over", () => {
  const bench = twoHalves(84);
  const near = bench.machines.map((machine, index) => {
    const session = new PairInitiator(bench, `host${index}`);
    session.login(machine);
    write(session, index, filled(index));
    return session;
  });
  bench.cut(true);
  bench.runFor(8000);
  bench.untilHalves("a", "b");
  for (const [index, session] of near.entries()) {
    write(session, index, filled(index + 10));
    assertReads(session, index, filled(index + 10));
    // The other half cannot be reached here: it says so, and changes nothing.
    const { status } = session.run(cdb.write10(0, blocks), filled(99), 1 - index);
    assert.is.not(status, 0);
  }
  bench.cut(false);
  bench.untilAllMirrored();
  for (const [index, session] of near.entries())
    for (const lun of [0, 1]) assertReads(session, lun, filled(lun + 10 + 0 * index));
});

test("both lose power -> both halves come up, with everything acknowledged", () => {
  const bench = twoHalves(85);
  const session = new PairInitiator(bench, "host");
  session.login(bench.a);
  for (const lun of [0, 1]) write(session, lun, filled(lun));
  bench.a.machine.crash();
  bench.b.machine.crash();
  bench.startBoth();
  bench.untilHalves("a", "b");
  session.login(bench.b);
  for (const lun of [0, 1]) assertReads(session, lun, filled(lun));
});

function move(bench: PairBench, at: PairMachine, group: string, to: string): boolean {
  return bench.call<FailoverJson>(at, "POST", "/v1/pair/move", { group, to }).changed;
}

test("pair move -> the group is served by the other appliance; sessions at both go on, mappings and data go along", () => {
  const bench = twoHalves(86);
  const sessions = bench.machines.map((machine, index) => {
    const session = new PairInitiator(bench, `host${index}`);
    session.login(machine);
    return session;
  });
  for (const lun of [0, 1]) write(sessions[0]!, lun, filled(lun));
  let seed = 100;
  for (const [asked, to] of [
    [bench.a, bench.b],
    [bench.a, bench.a],
    [bench.b, bench.b],
  ] as const) {
    assert.ok(move(bench, asked, "one", to.name));
    assert.equal(owners(bench), { one: to.name, two: "oak-b" });
    assert.not(move(bench, asked, "one", to.name), "it is there already");
    for (const session of sessions) {
      seed++;
      assert.equal(luns(session), [0, 1]);
      write(session, 0, filled(seed));
      for (const other of sessions) assertReads(other, 0, filled(seed));
      assertReads(session, 1, filled(1));
      assert.ok(session.isOpen);
    }
  }
  bench.untilAllMirrored();
  bench.b.machine.crash();
  bench.untilHalves("a", "a");
  for (const [lun, data] of [filled(seed), filled(1)].entries()) assertReads(sessions[0]!, lun, data);
});

test("a group moves under load -> every write is answered, nothing acknowledged is lost, and the host waits for a moment", () => {
  for (const seed of [87, 88, 89]) {
    const bench = twoHalves(seed);
    const host = bench.host("one", 300);
    host.run();
    bench.until("some writes", () => host.acks > 300);
    assert.ok(move(bench, bench.a, "one", "oak-b"));
    let acks = host.acks;
    bench.until("writes go on", () => host.acks > acks + 300);
    assert.ok(move(bench, bench.b, "one", "oak-a"));
    acks = host.acks;
    bench.until("writes go on", () => host.acks > acks + 300);
    host.rest();
    assert.is(host.verify(), null);
    assert.ok(host.longestGapMs < 500, `the host waited ${host.longestGapMs} ms`);
  }
});

test("an appliance dies anywhere in a move -> the group is in one half, whole, and served", () => {
  for (let step = 0; step < 24; step++) {
    const bench = twoHalves(900 + step);
    const session = new PairInitiator(bench, "host");
    const victim = step % 2 === 0 ? bench.a : bench.b;
    const survivor = bench.other(victim);
    session.login(survivor);
    write(session, 0, filled(step));
    void bench.a.api!("POST", "/v1/pair/move", JSON.stringify({ group: "one", to: "oak-b" }));
    bench.runFor(step * 1.5);
    victim.machine.crash();
    const both = survivor === bench.a ? "a" : "b";
    bench.untilHalves(both, both);
    bench.until("the group is served", () => owners(bench)["one"] === survivor.name);
    assertReads(session, 0, filled(step));
    write(session, 0, filled(step + 1));
    bench.start(victim);
    bench.untilAllMirrored();
    assert.equal(Object.keys(owners(bench)), ["one", "two"]);
    assertReads(session, 0, filled(step + 1));
  }
});

test("a half runs out of space -> gets some of the other half's, and writes go on", () => {
  const bench = twoHalves(95, { diskBytes: 800 * mebibyte });
  bench.call(bench.a, "POST", "/v1/volumes", { name: "big", sizeBytes: 1024 * mebibyte, group: "one" });
  bench.call(bench.a, "POST", "/v1/hosts/any/map", { volume: "big" });
  const freeAt = (half: number) =>
    bench.machines.flatMap(({ appliance }) => appliance?.halves[half]?.engine?.pool.usage() ?? [])[0]!;
  const before = freeAt(0);
  const host = bench.host("big", 1);
  host.fill(before.freeBytes + 128 * mebibyte);
  assert.ok(freeAt(0).totalBytes > before.totalBytes, "it has got slabs");
  assert.is(freeAt(0).totalBytes + freeAt(1).totalBytes, 2 * before.totalBytes, "no slab is lost, none is there twice");
});

test.run();
