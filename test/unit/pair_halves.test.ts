/** The two halves of a pair's array: each appliance owns one, both are reached through either, and one appliance can have both. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { HostJson, PairStatusJson, StatusJson, VolumeJson } from "../../firmware/manage/status_json.ts";
import { PairBench } from "./support/pair_bench.ts";
import { PairInitiator } from "./support/pair_initiator.ts";
import { cdb } from "./support/scsi_bench.ts";

const test = suite("pair_halves");
const mebibyte = 1048576;
const blocks = 8;

function filled(seed: number): Uint8Array {
  return Uint8Array.from({ length: 4096 }, (_, index) => (index * 13 + seed) & 0xff);
}

/** One group with a volume in each half; `one` is LUN 0, and `two` LUN 1. */
function twoHalves(seed: number): PairBench {
  const bench = new PairBench(seed);
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
  for (let tries = 0; tries < 6; tries++) {
    const found = initiator.read(cdb.read10(0, blocks), 4096, lun);
    if (found !== null) return found;
  }
  throw new Error("not read");
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
  for (const [index, session] of near.entries()) for (const lun of [0, 1]) assertReads(session, lun, filled(lun + 10 + 0 * index));
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

test.run();
