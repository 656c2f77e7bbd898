/** Hosts' iSCSI sessions at a pair: they stay where they came in, whoever owns the array, and their commands wait while it moves. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { ScsiStatus } from "../../firmware/frontend/scsi/task.ts";
import { pairLimits } from "../../firmware/pair/limits.ts";
import { benchWithHost, type PairBench } from "./support/pair_bench.ts";
import { type Command, PairInitiator } from "./support/pair_initiator.ts";
import { cdb } from "./support/scsi_bench.ts";
import { luns, twoHalves } from "./support/two_halves.ts";

const test = suite("pair_sessions");
const { good, checkCondition } = ScsiStatus;
const moved = 0x062a06;
const parametersChanged = 0x062a01;
const aborted = 0x0b0000;
const inTransition = 0x02040a;
const blocks = 8;

function filled(byteCount: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(byteCount);
  for (let at = 0; at < byteCount; at++) bytes[at] = (at * 31 + (at >> 9) + seed) & 0xff;
  return bytes;
}

function assertSame(found: Uint8Array | null, expected: Uint8Array, what = ""): void {
  assert.ok(found !== null, `${what}: not read`);
  assert.is(Buffer.compare(found, expected), 0, what);
}

function initiatorAt(bench: PairBench, which: "a" | "b"): PairInitiator {
  const initiator = new PairInitiator(bench, "one");
  initiator.login(bench[which]);
  return initiator;
}

function quietBench(seed: number): PairBench {
  const { bench, host } = benchWithHost(seed);
  host.rest();
  return bench;
}

/** What a host does that has been told of the move: asks again. */
function write(initiator: PairInitiator, lba: number, data: Uint8Array): void {
  for (let tries = 0; tries < 5; tries++) {
    const { status, sense } = initiator.run(cdb.write10(lba, data.byteLength / 512), data);
    if (status === good) return;
    assert.ok([moved, parametersChanged, aborted].includes(sense), sense.toString(16));
  }
  throw new Error("not written");
}

test("through the standby → data of every size arrives whole, in both directions, and comes back as asked for", () => {
  const bench = quietBench(70);
  const far = initiatorAt(bench, "b");
  const near = initiatorAt(bench, "a");
  for (const byteCount of [512, 4096, 65536, 1048576, 3 * 1048576]) {
    const data = filled(byteCount, byteCount);
    write(far, 8, data);
    assertSame(near.read(cdb.read10(8, byteCount / 512), byteCount), data, `${byteCount} bytes to the owner`);
    assertSame(far.read(cdb.read10(8, byteCount / 512), byteCount), data, `${byteCount} bytes back`);
  }
  // Not in whole physical blocks, and less than the command has.
  assertSame(far.read(cdb.read10(11, 3), 1000), filled(3 * 1048576, 3 * 1048576).subarray(1536, 2536));
});

test("a planned failover and back → sessions at both appliances go on, told of the new way once", () => {
  const bench = quietBench(71);
  const sessions = [initiatorAt(bench, "a"), initiatorAt(bench, "b")];
  for (const [round, from] of (["a", "b"] as const).entries()) {
    bench.succeed(bench[from].partnership!.failover(null));
    bench.until("the partner owns", () => bench.owner === bench[from === "a" ? "b" : "a"]);
    for (const [index, session] of sessions.entries()) {
      const answers = [session.run([0]), session.run([0]), session.run([0])].map(({ sense }) => sense);
      assert.equal(answers, [moved, parametersChanged, 0], `round ${round}, session ${index}`);
    }
    for (const [index, session] of sessions.entries()) {
      const data = filled(4096, round * 2 + index);
      write(session, index * blocks, data);
      for (const reader of sessions) assertSame(reader.read(cdb.read10(index * blocks, blocks), 4096), data);
      assert.ok(session.isOpen);
    }
    bench.untilMirrored();
  }
});

test("the owner is killed → a session at the standby goes on; reads that were under way are answered, writes at least decided", () => {
  const bench = quietBench(72);
  const session = initiatorAt(bench, "b");
  const before = filled(4096, 1);
  write(session, 0, before);
  const reads: Command[] = [];
  const writes: Command[] = [];
  for (let index = 0; index < 8; index++) {
    reads.push(session.begin(cdb.read10(0, blocks), { readBytes: 4096 }));
    writes.push(session.begin(cdb.write10(64 + index * blocks, blocks), { data: filled(4096, 2) }));
  }
  bench.a.machine.crash();
  for (const read of reads) {
    const { status, sense } = session.end(read);
    if (status === good) assertSame(read.received, before);
    else assert.ok([moved, parametersChanged].includes(sense), sense.toString(16));
  }
  for (const one of writes) {
    const { status, sense } = session.end(one);
    assert.ok(status === good || sense === aborted || sense === moved || sense === parametersChanged);
  }
  assert.ok(reads.some(({ status }) => status === good));
  assert.is(bench.owner, bench.b);
  write(session, 0, filled(4096, 3));
  assertSame(session.read(cdb.read10(0, blocks), 4096), filled(4096, 3));
  assert.ok(session.isOpen);
});

test("commands under way at the owner while it hands over → each is answered once, and what was acknowledged is there", () => {
  for (const seed of [73, 74, 75]) {
    const bench = quietBench(seed);
    const session = initiatorAt(bench, "a");
    const commands = Array.from({ length: 12 }, (_, index) => ({
      lba: index * 2048,
      data: filled(1048576, index + seed),
      command: null as Command | null,
    }));
    for (const one of commands) one.command = session.begin(cdb.write10(one.lba, 2048), { data: one.data });
    const reads = [0, 1, 2, 3].map(() => session.begin(cdb.read10(40960, 2048), { readBytes: 1048576 }));
    // The first of them have been executed, the last ones wait for their data.
    bench.until("one is answered", () => {
      session.hear();
      return commands.some(({ command }) => command!.status !== null);
    });
    bench.succeed(bench.a.partnership!.failover(null));
    for (const one of commands) {
      const { status, sense } = session.end(one.command!);
      if (status !== good) assert.ok([aborted, moved, parametersChanged].includes(sense), sense.toString(16));
    }
    for (const read of reads) session.end(read);
    for (const { lba, data, command } of commands) {
      if (command!.status !== good) write(session, lba, data);
      let found = session.read(cdb.read10(lba, 2048), 1048576);
      for (let tries = 0; found === null && tries < 3; tries++) found = session.read(cdb.read10(lba, 2048), 1048576);
      assertSame(found, data, `${seed}: ${lba}`);
    }
  }
});

test("nobody serves for too long → NOT READY, in transition; the session stays, and works when somebody does", () => {
  const bench = quietBench(76);
  const session = initiatorAt(bench, "b");
  const data = filled(4096, 9);
  write(session, 0, data);
  for (const slot of [0, 1]) bench.shelf.disk(slot).hang();
  bench.a.machine.crash();
  const waiting = session.begin(cdb.read10(0, blocks), { readBytes: 4096 });
  const startedMs = bench.world.nowMs;
  assert.equal(session.end(waiting), { status: checkCondition, sense: inTransition });
  assert.ok(bench.world.nowMs - startedMs >= pairLimits.waitMs);
  for (const slot of [0, 1]) bench.shelf.disk(slot).unhang();
  bench.until("the partner owns", () => bench.b.role === "owner");
  let found = session.read(cdb.read10(0, blocks), 4096);
  for (let tries = 0; found === null && tries < 3; tries++) found = session.read(cdb.read10(0, blocks), 4096);
  assertSame(found, data);
});

test("task management through the standby → ABORT TASK of what has ended: not there; LUN RESET: everybody is told", () => {
  const bench = quietBench(77);
  const far = initiatorAt(bench, "b");
  const near = new PairInitiator(bench, "two");
  near.login(bench.a);
  assert.is(far.manage(1, 0x7777), 1);
  assert.is(far.manage(5), 0);
  assert.is(near.run([0]).sense, 0x062903);
  assert.is(far.run([0]).sense, 0x062903);
  assert.is(far.run([0]).status, good);
});

test("the owner is lost while it is to end tasks of the standby's hosts → it counts as done, and nothing is said of them any more", () => {
  const [abortTask, abortTaskSet, lunReset] = [1, 2, 5];
  for (const action of [abortTask, abortTaskSet, lunReset]) {
    const bench = quietBench(78);
    const far = initiatorAt(bench, "b");
    write(far, 0, filled(4096, 1));
    bench.cut(true);
    const read = far.begin(cdb.read10(0, blocks), { readBytes: 4096 });
    const other = far.begin(cdb.write10(64, blocks), { data: filled(4096, 2) });
    bench.runFor(20);
    const asked = far.beginManage(action, action === abortTask ? read.itt : undefined);
    bench.runFor(20);
    bench.a.machine.crash();
    bench.until("the partner owns", () => bench.b.role === "owner");
    bench.until("a response", () => {
      far.hear();
      return asked.response !== null;
    });
    bench.runFor(pairLimits.waitMs);
    far.hear();
    assert.is(asked.response, 0);
    assert.is(read.status, null, `the read is over, function ${action}`);
    assert.is(other.sense, action === abortTask ? aborted : 0, `the write, function ${action}`);
    assert.is(far.run([0]).sense, moved, "the session goes on");
  }
});

test("ABORT TASK through the standby of a write whose data is still coming → it has ended, and is not executed", () => {
  const bench = quietBench(79);
  const far = initiatorAt(bench, "b");
  const before = filled(65536, 1);
  write(far, 0, before);
  for (const [action, response] of [
    [1, 0],
    [2, 0],
  ] as const) {
    const late = far.begin(cdb.write10(0, 128), { data: filled(65536, 2) });
    bench.runFor(20);
    // The data that was asked for is sent behind it.
    assert.is(far.manage(action, late.itt), response);
    bench.runFor(1000);
    far.hear();
    assert.is(late.status, null);
    assertSame(far.read(cdb.read10(0, 128), 65536), before);
  }
});

test("a half is not served for a while → its LUNs are still reported; who logs in meanwhile is told of them when it is", () => {
  const bench = twoHalves(80);
  const far = initiatorAt(bench, "b");
  bench.cut(true);
  bench.until("the interconnect counts as cut", () => bench.b.appliance!.halves[0]!.role === "free");
  assert.equal(luns(far, 1), [0, 1]);
  const late = new PairInitiator(bench, "late");
  late.login(bench.b);
  assert.equal(luns(late, 1), [1]);
  bench.cut(false);
  bench.untilAllMirrored();
  late.hear();
  assert.is(late.attentions, 1);
  assert.is(far.attentions, 0, "nothing is new to it");
  for (const session of [far, late]) assert.equal(luns(session, 1), [0, 1]);
  bench.shelf.disk(0).hang();
  bench.a.machine.crash();
  bench.until("it is being taken over", () => bench.b.appliance!.halves[0]!.role === "starting");
  for (const session of [far, late]) assert.equal(luns(session, 1), [0, 1]);
  bench.shelf.disk(0).unhang();
  bench.untilHalves("b", "b");
  assert.equal(luns(far, 1), [0, 1]);
});

test("a host takes the data of reads slowly while the array is handed over → they end, and bring nothing that the former owner's memory holds now", () => {
  const [mebibyte, perMebibyte] = [1048576, 2048];
  const data = filled(mebibyte, 1);
  for (const isAtHome of [true, false]) {
    const bench = quietBench(82);
    const [slow, other] = [initiatorAt(bench, "a"), new PairInitiator(bench, "two")];
    other.login(bench.b);
    for (let at = 0; at < 2; at++) write(slow, at * perMebibyte, data);
    slow.reads = false;
    // More than the replies that a session keeps for its host.
    const reads = Array.from({ length: 12 }, (_, index) =>
      slow.begin(cdb.read10((index % 2) * perMebibyte, perMebibyte), { readBytes: mebibyte }),
    );
    bench.runFor(5);
    // A shelf that does not take everything before the hand-over leaves it in the log.
    if (!isAtHome) bench.a.partnership!.engine!.groups.bringHome = async () => {};
    bench.succeed(bench.a.partnership!.failover(null));
    for (let at = 0; at < 6; at++) write(other, (8 + at) * perMebibyte, new Uint8Array(mebibyte).fill(0xee));
    slow.reads = true;
    for (const read of reads) {
      const { status, sense } = slow.end(read);
      if (status === good) assertSame(read.received, data);
      else assert.ok([aborted, moved, parametersChanged].includes(sense), sense.toString(16));
    }
    assert.ok(slow.isOpen);
  }
});

test("SANITIZE is under way when its volume comes to be served elsewhere → it has failed there, and is not taken for done", () => {
  const list = Uint8Array.from([1, 0, 0, 4, 0xde, 0xad, 0xbe, 0xef]);
  const ways: Record<string, (bench: PairBench) => void> = {
    killed: ({ a }) => a.machine.crash(),
    "handed over": (bench) => void bench.succeed(bench.a.partnership!.failover(null)),
    moved: (bench) => void bench.call(bench.a, "POST", "/v1/pair/move", { group: "one", to: "oak-b" }),
    "without power": (bench) => {
      for (const one of bench.machines) one.machine.crash();
      bench.startBoth();
    },
  };
  for (const [way, goElsewhere] of Object.entries(ways)) {
    const bench = twoHalves(81);
    const session = initiatorAt(bench, "b");
    // OVERWRITE with IMMED: 64 MiB take some seconds.
    assert.is(session.run([0x48, 0x81, 0, 0, 0, 0, 0, 0, list.byteLength, 0], list).status, good);
    assert.is(session.run([0]).sense, 0x02041b);
    goElsewhere(bench);
    if (way === "without power") session.login(bench.b);
    const heard: number[] = [];
    while (heard.length < 4) heard.push(session.run([0]).sense);
    assert.is(heard.at(-1), 0x033103, `${way}: ${heard.map((sense) => sense.toString(16))}`);
  }
});

test("a volume grows while a path does not reach its owner, or before it has been told → it is told when it is served elsewhere", () => {
  const bench = twoHalves(83);
  const far = initiatorAt(bench, "b");
  const told = (): number[] => {
    const heard: number[] = [];
    for (let sense = far.run([0]).sense; sense !== 0; sense = far.run([0]).sense) heard.push(sense);
    return heard.filter((sense) => sense !== moved && sense !== parametersChanged);
  };
  const grow = (mebibytes: number): void =>
    void bench.call(bench.a, "POST", "/v1/volumes/one/resize", { sizeBytes: mebibytes * 1048576 });
  assert.equal(told(), []);
  grow(96);
  bench.runFor(100);
  assert.equal(told(), [0x062a09]);
  bench.cut(true);
  bench.until("the interconnect counts as cut", () => bench.b.appliance!.halves[0]!.role === "free");
  grow(128);
  bench.cut(false);
  bench.untilAllMirrored();
  assert.equal(told(), [0x062a09]);
  grow(192);
  bench.runFor(100);
  bench.a.machine.crash();
  bench.untilHalves("b", "b");
  assert.equal(told(), [0x062a09]);
});

test("the unit of RESERVE comes to be served elsewhere → who had it is told that it is lost; who has released it, of nothing", () => {
  const [reserve, release] = [0x16, 0x17].map((opcode) => [opcode, 0, 0, 0, 0, 0]);
  for (const isReleased of [false, true]) {
    const bench = quietBench(84);
    const far = initiatorAt(bench, "b");
    assert.is(far.run(reserve!).status, good);
    if (isReleased) assert.is(far.run(release!).status, good);
    bench.succeed(bench.a.partnership!.failover(null));
    bench.until("the partner owns", () => bench.b.role === "owner");
    const heard = [far.run([0]), far.run([0]), far.run([0])].map(({ sense }) => sense);
    assert.equal(heard, isReleased ? [moved, parametersChanged, 0] : [0x062907, moved, parametersChanged]);
  }
});

test.run();
