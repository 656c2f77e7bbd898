/** The two halves of a pair's array: each appliance owns one, both are reached through either, and one appliance can have both. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { HostJson, PairStatusJson, TrialJson, VolumeJson } from "../../firmware/manage/status_json.ts";
import { PairInitiator } from "./support/pair_initiator.ts";
import { cdb } from "./support/scsi_bench.ts";
import { assertReads, blocks, filled, luns, mebibyte, owners, twoHalves, write } from "./support/two_halves.ts";

const test = suite("pair_halves");

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

test("requests that are no good, at either appliance -> an answer that says so, and the pair goes on", () => {
  const bench = twoHalves(90);
  const long = "x".repeat(40_000);
  for (const machine of bench.machines) {
    for (const noun of ["volumes", "groups", "hosts", "peers", "shelves", "disks", "pools", "caches", "nothing"]) {
      for (const name of ["%ff", "%", "x%2", long])
        assert.is(bench.refusal(machine, "GET", `/v1/${noun}/${name}`, {}), "invalid", `${noun}/${name.slice(0, 9)}`);
    }
    assert.is(bench.refusal(machine, "GET", `/v1/volumes?${long}`, {}), null, "the half that is here answers");
    for (const volume of [long, "\ud800", "a/b", "\n"]) {
      for (const verb of ["map", "unmap"])
        assert.is(bench.refusal(machine, "POST", `/v1/hosts/any/${verb}`, { volume }), "invalid", verb);
    }
    assert.is(bench.refusal(machine, "POST", "/v1/hosts", { name: long, any: true }), "invalid");
    assert.is(bench.refusal(machine, "POST", "/v1/pair/move", { group: long, to: "oak-a" }), "invalid");
  }
  assert.equal(owners(bench), { one: "oak-a", two: "oak-b" });
});

test("a half asks the other one what does not fit one frame -> it is answered", () => {
  const bench = twoHalves(91);
  const volumes = Array.from({ length: 40_000 }, (_, index) => `${"x".repeat(40)}${index}`);
  const half = bench.a.appliance!.halves[1]!;
  const asked = half.askPartner("POST", "/half/forget", JSON.stringify({ volumes }))!;
  assert.equal(bench.answer(asked), { status: 200, body: null });
  bench.untilAllMirrored();
});

test("a version on trial -> either appliance says so of itself, and of its partner; a partner that is gone says nothing", () => {
  const bench = twoHalves(83);
  const told = (machine: (typeof bench)["a"], path: string) => bench.call<TrialJson>(machine, "GET", path).trial;
  assert.is(told(bench.a, "/v1/pair/trial"), null);
  bench.b.trial = "group two has not found its role yet";
  assert.is(told(bench.a, "/v1/pair/trial"), "group two has not found its role yet");
  assert.is(told(bench.a, "/v1/trial"), null);
  assert.is(told(bench.b, "/v1/trial"), "group two has not found its role yet");
  assert.is(told(bench.b, "/v1/pair/trial"), null);
  bench.b.machine.crash();
  bench.until("the partner is lost", () => bench.call<PairStatusJson>(bench.a, "GET", "/v1/pair").state === "degraded");
  assert.is(bench.refusal(bench.a, "GET", "/v1/pair/trial", {}), "starting");
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
