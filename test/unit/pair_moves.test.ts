/** Groups that move from one appliance of a pair to the other, and moves that a death interrupts. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { FailoverJson } from "../../firmware/manage/control.ts";
import type { HostJson } from "../../firmware/manage/status_json.ts";
import { pairLimits } from "../../firmware/pair/limits.ts";
import type { PairBench, PairMachine, PathHost } from "./support/pair_bench.ts";
import { PairInitiator } from "./support/pair_initiator.ts";
import { cdb } from "./support/scsi_bench.ts";
import { assertReads, filled, luns, mebibyte, owners, twoHalves, write } from "./support/two_halves.ts";

const test = suite("pair_moves");

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

test("a move with a wait that is none, or too much in it -> refused at once, and the next one is as ever", () => {
  const bench = twoHalves(1093);
  const answers: string[] = [];
  const bad = [
    { timeoutMs: "x" },
    { timeoutMs: null },
    { timeoutMs: 0 },
    { timeoutMs: 1e12 },
    { group: 7 },
    { by: "me" },
  ];
  for (const words of bad) {
    const body = JSON.stringify({ group: "one", to: "oak-b", ...words });
    for (const { api } of bench.machines)
      void api!("POST", "/v1/pair/move", body).then((answer) =>
        answers.push(`${answer.status} ${JSON.stringify(answer.body)}`),
      );
  }
  bench.until("all are answered", () => answers.length === 2 * bad.length);
  for (const answer of answers) assert.match(answer, /^400 .*"invalid"/);
  assert.match(answers[0]!, /timeoutMs: /);
  assert.ok(move(bench, bench.a, "one", "oak-b"));
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

test("a host at the other appliance asks for something and logs out with the next byte -> nothing of it is left, and the group moves", () => {
  const bench = twoHalves(1094);
  const session = new PairInitiator(bench, "host");
  session.login(bench.b);
  write(session, 0, filled(1));
  session.logoutBehind(() => {
    session.begin(cdb.read10(0, 8), { readBytes: 4096 });
    session.begin(cdb.write10(0, 8), { data: filled(2) });
  });
  assert.ok(move(bench, bench.a, "one", "oak-b"));
});

/** A host that writes to a group whose log has six segments by now. */
function longLog(seed: number, cacheBytes: number): { readonly bench: PairBench; readonly host: PathHost } {
  const store = { slabBytes: mebibyte, logSlotBytes: 262144, mapCacheBytes: 4 * mebibyte };
  const bench = twoHalves(seed, { store, cacheBytes });
  const host = bench.host("one", 400);
  host.run();
  // The shelf takes the log, and is slow with what is scattered: much is in the log alone.
  for (const disk of bench.shelf.slots) disk!.faults.writeMs = 20;
  const entry = bench.owner.partnership!.engine!.groups.find("one")!;
  bench.until("a long log", () => entry.group.log.list.segments.length >= 6);
  return { bench, host };
}

test("a group moves whose log on the shelf has more than one slab -> all of it goes along", () => {
  const { bench, host } = longLog(94, 6 * mebibyte);
  assert.ok(move(bench, bench.a, "one", "oak-b"));
  const acks = host.acks;
  bench.until("writes go on", () => host.acks > acks + 100);
  host.rest();
  assert.is(host.verify(), null);
});

test("moves to and fro, before the former has quite ended -> hosts' access goes along, and nobody is left with a stale one", () => {
  const bench = twoHalves(95);
  const session = new PairInitiator(bench, "host");
  session.login(bench.a);
  write(session, 0, filled(1));
  let open = 0;
  for (let turn = 0; turn < 60; turn++) {
    open++;
    const body = { group: "one", to: turn % 2 === 0 ? "oak-b" : "oak-a", timeoutMs: 3000 };
    void bench.machines[turn % 3 === 0 ? 0 : 1]!.api!("POST", "/v1/pair/move", JSON.stringify(body)).then(() => open--);
    bench.runFor((turn % 7) * 3 + (turn % 2) * pairLimits.breathMs);
  }
  bench.until("all are answered", () => open === 0);
  assertReads(session, 0, filled(1));
  const halves = bench.machines.flatMap(({ appliance }) => appliance!.halves.flatMap(({ engine }) => engine ?? []));
  const mapped = halves.map(({ groups, control }) =>
    control.hosts.list()[0]!.mappings.map(({ volume }) => [volume, groups.findVolume(volume) !== null]),
  );
  assert.equal(mapped.flat().sort(), [
    ["one", true],
    ["two", true],
  ]);
});

test("an appliance dies anywhere in a move -> the group is in one half, whole, and served", () => {
  for (let step = 0; step < 14; step++) {
    const bench = twoHalves(900 + step);
    const session = new PairInitiator(bench, "host");
    const victim = step % 2 === 0 ? bench.a : bench.b;
    const survivor = bench.other(victim);
    session.login(survivor);
    write(session, 0, filled(step));
    void bench.a.api!("POST", "/v1/pair/move", JSON.stringify({ group: "one", to: "oak-b" }));
    // Two before hosts wait, the others while they do.
    bench.runFor(step < 2 ? step * 20 : pairLimits.breathMs + (step - 2) * 2.5);
    victim.machine.crash();
    const both = survivor === bench.a ? "a" : "b";
    bench.untilHalves(both, both);
    bench.until("the group is served", () => owners(bench)["one"] === survivor.name);
    assertReads(session, 0, filled(step));
    write(session, 0, filled(step + 1));
    bench.start(victim);
    bench.untilAllMirrored();
    // The half that it was to move to may have come to the survivor meanwhile, and the move may go on there.
    bench.until("both groups are shown", () => Object.keys(owners(bench)).length === 2);
    assertReads(session, 0, filled(step + 1));
  }
});

test("an appliance dies while a group with a long log leaves it -> the partner takes it back, though its cache has the segments too", () => {
  for (let step = 0; step < 8; step++) {
    // Room for eleven segments in each half.
    const { bench, host } = longLog(950 + step, 3 * mebibyte);
    const { groups } = bench.owner.partnership!.engine!;
    void bench.a.api!("POST", "/v1/pair/move", JSON.stringify({ group: "one", to: "oak-b" }));
    bench.until("it leaves", () => groups.find("one") === null);
    bench.runFor(step * 8);
    bench.a.machine.crash();
    bench.untilHalves("b", "b");
    bench.until("the group is served", () => owners(bench)["one"] === "oak-b");
    const acks = host.acks;
    bench.until("writes go on", () => host.acks > acks + 100);
    host.rest();
    assert.is(host.verify(), null);
  }
});

test("a half is handed over while one of its groups moves -> the move is answered, and the group is served", () => {
  for (let step = 0; step < 20; step++) {
    const bench = twoHalves(1000 + step);
    const sessions = bench.machines.map((machine, index) => {
      const session = new PairInitiator(bench, `host${index}`);
      session.login(machine);
      return session;
    });
    write(sessions[0]!, 0, filled(step));
    let open = 2;
    void bench.a.appliance!.halves[0]!.failover("oak-b").then(() => open--);
    bench.runFor(step * 2);
    void bench.a.api!("POST", "/v1/pair/move", JSON.stringify({ group: "one", to: "oak-b" })).then(() => open--);
    bench.until("both are answered", () => open === 0);
    bench.until("the group is served", () => owners(bench)["one"] === "oak-b");
    for (const [index, session] of sessions.entries()) {
      assertReads(session, 0, filled(step + index));
      write(session, 0, filled(step + index + 1));
    }
    bench.untilAllMirrored();
    bench.call(bench.a, "POST", "/v1/pair/failover", { home: true });
    bench.untilAllMirrored();
    assert.is(move(bench, bench.a, "one", owners(bench)["one"] === "oak-a" ? "oak-b" : "oak-a"), true, "another move");
    assertReads(sessions[0]!, 0, filled(step + 2));
  }
});

test("a group moves -> the partner's front ends hear of its volumes before anybody hears that it has been taken", () => {
  const bench = twoHalves(1090);
  const told: string[] = [];
  const { transfers, seat } = bench.b.appliance!.halves[1]!.engine!;
  seat.onDirectory(() => {
    if (seat.directory().exports.some(({ name, uuid }) => name === "one" && uuid !== null)) told.push("directory");
  });
  const adopt = transfers.adopt.bind(transfers);
  transfers.adopt = async (transfer) => {
    const taken = await adopt(transfer);
    told.push("taken");
    return taken;
  };
  assert.ok(move(bench, bench.a, "one", "oak-b"));
  assert.equal(told.slice(0, 2), ["directory", "taken"]);
});

/** The step of a move from `a` to `b` that waits so long, before it goes on. */
function slowMove(bench: PairBench, step: "begin" | "adopt", waitMs: number): { isWaiting: boolean; goesOn: boolean } {
  const half = step === "begin" ? bench.a.appliance!.halves[0]! : bench.b.appliance!.halves[1]!;
  const transfers = half.engine!.transfers as unknown as Record<string, (asked: unknown) => Promise<unknown>>;
  const act = transfers[step]!.bind(transfers);
  const state = { isWaiting: false, goesOn: false };
  transfers[step] = async (asked) => {
    state.isWaiting = true;
    await new Promise<void>((resolve) => bench.world.hostClock.after(waitMs, resolve));
    state.goesOn = true;
    return act(asked);
  };
  void bench.a.api!("POST", "/v1/pair/move", JSON.stringify({ group: "one", to: "oak-b" }));
  bench.until("it is on its way", () => state.isWaiting);
  return state;
}

test("a host logs in while a group is on its way -> its commands wait as those of others do, and it finds every LUN", () => {
  for (const [index, step] of (["begin", "adopt"] as const).entries()) {
    for (const at of [0, 1]) {
      const bench = twoHalves(1100 + 2 * index + at);
      const before = new PairInitiator(bench, "before");
      before.login(bench.machines[at]!);
      write(before, 0, filled(1));
      const state = slowMove(bench, step, 50);
      assert.equal(luns(before, 1), [0, 1]);
      assert.not(state.goesOn, "who was there before knows its LUNs");
      const session = new PairInitiator(bench, "new");
      session.login(bench.machines[at]!);
      assert.ok(state.goesOn, "its first command, to the LUN that moves, has waited");
      assert.equal(luns(session), [0, 1]);
      assertReads(session, 0, filled(1));
      write(session, 0, filled(2));
      assertReads(before, 0, filled(2));
    }
  }
});

test("a host logs in while a group is on its way for long -> it has what is there meanwhile, and the rest when it has come", () => {
  const bench = twoHalves(1104);
  const state = slowMove(bench, "adopt", 4 * pairLimits.waitMs);
  const session = new PairInitiator(bench, "new");
  const began = bench.world.nowMs;
  session.login(bench.a);
  assert.ok(bench.world.nowMs - began < 2 * pairLimits.waitMs);
  assert.equal(luns(session, 1), [1]);
  write(session, 1, filled(3));
  assertReads(session, 1, filled(3));
  assert.not(state.goesOn);
  bench.until("the group has moved", () => bench.a.saw("group-moved"));
  write(session, 0, filled(4));
  assertReads(session, 0, filled(4));
  assert.equal(luns(session), [0, 1]);
});

test("a volume is mapped while its group leaves -> the mapping goes along", () => {
  const bench = twoHalves(1092);
  bench.call(bench.a, "POST", "/v1/hosts", { name: "h", any: true });
  const { groups, control } = bench.owner.partnership!.engine!;
  const letGo = groups.letGo.bind(groups);
  groups.letGo = async (entry) => {
    const mapped = control.hosts.map("h", { volume: "one", lun: 5, readOnly: true });
    await letGo(entry);
    assert.ok((await mapped).ok);
  };
  assert.ok(move(bench, bench.a, "one", "oak-b"));
  const { mappings } = bench.call<HostJson>(bench.a, "GET", "/v1/hosts/h");
  assert.equal(mappings, [{ volume: "one", lun: 5, readOnly: true }]);
});

test("a group moves under load -> what it had written is at home, and the other half reads no log", () => {
  const bench = twoHalves(1091);
  const host = bench.host("one", 300);
  host.run();
  bench.until("some writes", () => host.acks > 300);
  const { groups } = bench.owner.partnership!.engine!;
  const { transfers, groups: theirs } = bench.b.appliance!.halves[1]!.engine!;
  const { log } = groups.find("one")!.group;
  let headSeq = 0;
  const adopt = transfers.adopt.bind(transfers);
  transfers.adopt = async (transfer) => {
    const taken = await adopt(transfer);
    const segments = theirs.find("one")!.group.log.list.segments;
    assert.ok(segments.length > 0 && segments.every(({ firstSeq }) => firstSeq > headSeq), "what came behind the move");
    return taken;
  };
  const end = log.leave.bind(log);
  log.leave = () => {
    headSeq = log.headSeq;
    end();
  };
  assert.ok(move(bench, bench.a, "one", "oak-b"));
  assert.ok(headSeq > 300);
  const acks = host.acks;
  bench.until("writes go on", () => host.acks > acks + 100);
  host.rest();
  assert.is(host.verify(), null);
});

test("a half is handed over while something is created in it -> the creation is answered, and so is the next one", () => {
  const bench = twoHalves(1076);
  const { volumes } = bench.owner.partnership!.engine!.control;
  const answers: string[] = [];
  const create = (name: string) => {
    const body = JSON.stringify({ name, sizeBytes: 64 * mebibyte, group: "one" });
    void bench.a.api!("POST", "/v1/volumes", body).then(({ status, body }) => {
      answers.push(`${status} ${JSON.stringify(body)}`);
    });
  };
  // What is at work when the firmware ends does not come to an end by itself.
  let isAtWork = false;
  volumes.create = () => {
    isAtWork = true;
    return new Promise(() => {});
  };
  create("three");
  bench.until("it is at work", () => isAtWork);
  bench.succeed(bench.a.appliance!.halves[0]!.failover("oak-b"));
  bench.until("the creation is answered", () => answers.length === 1);
  assert.match(answers[0]!, /has changed meanwhile/);
  bench.untilAllMirrored();
  create("four");
  bench.until("the next one is answered", () => answers.length === 2);
  assert.match(answers[1]!, /^200/);
});

test("the shelf answers late while a group's hosts are held -> the group stays, and its hosts go on", () => {
  let refusedAfterHold = 0;
  for (let step = 0; step < 10; step++) {
    const bench = twoHalves(1030 + step);
    const host = bench.host("one", 300);
    host.run();
    bench.until("some writes", () => host.acks > 100);
    const move = bench.a.api!("POST", "/v1/pair/move", JSON.stringify({ group: "one", to: "oak-b", timeoutMs: 3000 }));
    let answer: { readonly status: number; readonly body: unknown } | null = null;
    void move.then((given) => {
      answer = given;
    });
    bench.runFor(50 + step * 3);
    for (const disk of bench.shelf.slots) disk!.faults.writeMs = 3000;
    // A move is some thirty writes, one behind the other; the other half's owner is given 65 s for its part.
    bench.until("the move is answered", () => answer !== null, 200_000);
    if (JSON.stringify(answer).includes("did not end in")) refusedAfterHold++;
    for (const disk of bench.shelf.slots) disk!.faults.writeMs = 0.1;
    const acks = host.acks;
    bench.until("writes go on", () => host.acks > acks + 100);
    host.rest();
    assert.is(host.verify(), null);
  }
  assert.ok(refusedAfterHold > 0, "some were refused for what hosts had asked");
});

test("a disk keeps the name of a group that was taken back -> whoever owns that half next does not open it", () => {
  // The owner of half 0 goes on and takes the other half too; or both start with nobody there to ask.
  for (const isAlone of [false, true]) {
    const bench = twoHalves(1092);
    const session = new PairInitiator(bench, "host");
    session.login(bench.a);
    write(session, 0, filled(1));
    // What half 1's owner knows of itself, when the name has reached the disks and that was not told.
    const { pool, transfers } = bench.b.appliance!.halves[1]!.engine!;
    const claims = pool.groupClaims.bind(pool);
    const before = claims().map(({ id }) => id);
    pool.groupClaims = () => claims().filter(({ id }) => before.includes(id));
    const adopt = pool.adoptGroup.bind(pool);
    pool.adoptGroup = (parcel, done) => adopt(parcel, () => done({ code: "disk-failed", text: "a disk has failed" }));
    // Nor do the disks take anything else.
    transfers.forget = async () => {};
    const body = { group: "one", to: "oak-b" };
    let status = 0;
    void bench.a.api!("POST", "/v1/pair/move", JSON.stringify(body)).then((answer) => {
      status = answer.status;
    });
    bench.until("the move is answered", () => status !== 0);
    assert.is(status, 409);
    assert.equal(owners(bench), { one: "oak-a", two: "oak-b" });
    write(session, 0, filled(2));
    bench.b.machine.crash();
    if (isAlone) {
      bench.a.machine.crash();
      bench.start(bench.a);
    }
    bench.untilHalves("a", "a");
    const halves = bench.a.appliance!.halves.map(({ engine }) => engine!);
    bench.until("the group is served", () => halves[0]!.groups.find("one") !== null);
    assert.is(halves[1]!.groups.find("one"), null);
    assert.equal(halves[1]!.pool.groupIds(), before);
    const mapped = () => halves.map(({ control }) => control.hosts.list()[0]!.mappings.map(({ volume }) => volume));
    bench.until("each half has its own mapping", () => mapped()[1]!.length === 1);
    assert.equal(mapped(), [["one"], ["two"]]);
    assert.ok(bench.a.saw("group-moved-on"));
    if (!isAlone) assertReads(session, 0, filled(2));
    assert.is(owners(bench)["one"], "oak-a");
  }
});

test("a group that has left comes back -> it goes on as it was served for a while, later it asks its peers", () => {
  for (const [awayMs, goesOn] of [
    [pairLimits.inheritMs - 1000, true],
    [pairLimits.inheritMs + 1000, false],
  ] as const) {
    const bench = twoHalves(1050);
    const engine = bench.owner.partnership!.engine!;
    const { groups, transfers } = engine;
    const told: boolean[] = [];
    const takeUp = groups.takeUp.bind(groups);
    groups.takeUp = (id, inherits) => {
      told.push(inherits);
      return takeUp(id, inherits);
    };
    let step = "";
    void transfers.prepare("one", 3000).then(async () => {
      const begun = await transfers.begin("one");
      step = begun.ok ? begun.value.id : begun.error.text;
    });
    bench.until("it has left", () => step !== "" && groups.find("one") === null);
    bench.cut(true);
    bench.runFor(awayMs);
    void transfers.cancel(step);
    bench.until("it is back", () => groups.find("one") !== null);
    assert.equal(told, [goesOn]);
  }
});

test.run();
