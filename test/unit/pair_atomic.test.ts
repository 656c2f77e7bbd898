/** A pair on a shelf that fences by itself: an owner that was stopped may wake, and then neither writes nor tells anything stale (L1, D3). */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { NbdClient } from "../sim/nbd_client.ts";
import { asBuffer, stampAt, stampSectors } from "../sim/stamp.ts";
import { benchWithHost, blockBytes, type PairBench, type PairMachine } from "./support/pair_bench.ts";

const test = suite("pair_atomic");
const limitMs = 1000;
const stamp = 77_777_777;

/** A host with one path, which asks for one block at a time. */
class OnePath {
  answers: { readonly errno: number; readonly stamp: number }[] = [];
  isReady = false;
  isClosed = false;
  #client: NbdClient | null = null;
  #cookie = 1;

  constructor(bench: PairBench, at: PairMachine) {
    const failed = () => {
      this.isClosed = true;
    };
    bench.world.connectHost(
      at.address,
      (stream) => {
        this.#client = new NbdClient(stream, "v1", true, {
          ready: () => {
            this.isReady = true;
          },
          reply: (_cookie, errno, data) =>
            this.answers.push({ errno, stamp: data === null ? 0 : stampAt(asBuffer(data), 0, 0, block * 8) }),
          closed: failed,
          broken: (what) => {
            throw new Error(what);
          },
        });
        return this.#client;
      },
      failed,
    );
    bench.until("a path of its own", () => this.isReady);
  }

  read(): void {
    this.#client!.send("read", this.#cookie++, block * blockBytes, blockBytes, null);
  }

  write(number: number): void {
    const payload = new Uint8Array(blockBytes);
    stampSectors(payload, number, 0, block * 8);
    this.#client!.send("write", this.#cookie++, block * blockBytes, blockBytes, payload);
  }
}

/** Beyond what the bench's host writes. */
const block = 600;

function atomicBench(seed: number) {
  return benchWithHost(seed, { fencing: "atomic" });
}

function goesOn(bench: PairBench, host: { readonly acks: number }): void {
  const { acks } = host;
  bench.until("writes go on", () => host.acks > acks + 300);
}

test("the owner's process dies -> the partner evicts it after the limit and has every acknowledged write; it comes back and follows", () => {
  const { bench, host } = atomicBench(1);
  const diedMs = bench.world.nowMs;
  bench.a.machine.crash();
  bench.until("the partner owns", () => bench.b.role === "owner", 5000);
  assert.ok(bench.world.nowMs - diedMs >= limitMs - 200, "not before the limit of silence");
  assert.ok(bench.shelf.refuses("oak-a"));
  goesOn(bench, host);
  bench.start(bench.a);
  bench.untilMirrored();
  assert.is(bench.a.role, "standby");
  assert.not(bench.shelf.refuses("oak-a"));
  host.rest();
  bench.settleStores();
  assert.ok(bench.cachesAreAlike());
  assert.is(host.verify(), null);
});

test("the owner is stopped, and wakes after the takeover -> it learns that it was evicted, ends, and follows as a new life", () => {
  for (let seed = 10; seed < 12; seed++) {
    const { bench, host } = atomicBench(seed);
    // Writes of its are under way when it is evicted.
    for (const disk of bench.shelf.slots) disk!.faults.slowFactor = seed % 2 === 0 ? 1 : 20;
    bench.runFor(70 * (seed - 9));
    bench.a.machine.pause();
    bench.until("the partner owns", () => bench.b.role === "owner", 20_000);
    assert.ok(bench.a.machine.isUp, "nobody has killed it");
    const other = new OnePath(bench, bench.b);
    other.write(stamp);
    bench.until("the new owner acknowledges", () => other.answers.length === 1);
    bench.a.machine.resume();
    bench.until("it ends", () => bench.a.ended !== null, 5000);
    assert.match(bench.a.ended!, /oak-b has evicted it/);
    assert.is(bench.b.role, "owner");
    assert.is(bench.b.machine.bootCount, 1);
    goesOn(bench, host);
    bench.start(bench.a);
    bench.untilMirrored();
    assert.is(bench.a.role, "standby");
    host.rest();
    assert.is(host.verify(), null);
  }
});

test("a read that came in at a stopped owner, after its successor took a newer write -> never answered with the old data", () => {
  for (let seed = 20; seed < 23; seed++) {
    const { bench, host } = atomicBench(seed);
    const late = new OnePath(bench, bench.a);
    late.write(stamp);
    bench.until("the old data is acknowledged", () => late.answers.length === 1);
    late.read();
    bench.until("a read", () => late.answers.length === 2);
    assert.equal(late.answers[1], { errno: 0, stamp });
    bench.a.machine.pause();
    bench.until("the partner owns", () => bench.b.role === "owner", 20_000);
    const other = new OnePath(bench, bench.b);
    other.write(stamp + 1);
    bench.until("the new data is acknowledged", () => other.answers.length === 1);
    assert.is(other.answers[0]!.errno, 0);
    late.read();
    bench.runFor(seed);
    bench.a.machine.resume();
    bench.until("the old owner has ended", () => bench.a.ended !== null, 5000);
    bench.until("its host knows", () => late.isClosed);
    for (const answer of late.answers.slice(2)) assert.is.not(answer.stamp, stamp, `seed ${seed}: stale`);
    host.rest();
    assert.is(host.verify(), null);
  }
});

test("the owner wakes and counts just before it is evicted -> its half is opened only when that count's lease is over", () => {
  for (let seed = 25; seed < 28; seed++) {
    const { bench, host } = atomicBench(seed);
    const late = new OnePath(bench, bench.a);
    late.write(stamp);
    bench.until("the old data is acknowledged", () => late.answers.length === 1);
    bench.cut(true);
    bench.a.machine.pause();
    for (const disk of bench.shelf.slots) disk!.faults.fenceMs = 50;
    bench.until("it is being evicted", () => bench.b.saw("partner-fenced"), 20_000);
    bench.a.machine.resume();
    bench.runFor(10);
    bench.a.machine.pause();
    const countedMs = bench.world.nowMs - 10;
    bench.until("the partner owns", () => bench.b.role === "owner", 20_000);
    const other = new OnePath(bench, bench.b);
    other.write(stamp + 1);
    bench.until("the new data is acknowledged", () => other.answers.length === 1);
    late.read();
    bench.runFor(5);
    bench.a.machine.resume();
    bench.until("the old owner has ended", () => bench.a.ended !== null, 5000);
    for (const answer of late.answers.slice(1)) assert.is.not(answer.stamp, stamp, `seed ${seed}: stale`);
    assert.ok(bench.world.nowMs - countedMs >= limitMs, `seed ${seed}: opened while a lease might have held`);
    bench.cut(false);
    host.rest();
    assert.is(host.verify(), null);
  }
});

test("the owner stands still for less than the limit -> nobody takes over, and what waits is answered", () => {
  const { bench, host } = atomicBench(30);
  const reader = new OnePath(bench, bench.a);
  for (let round = 0; round < 4; round++) {
    bench.a.machine.pause();
    reader.read();
    bench.runFor(limitMs * 0.85);
    bench.a.machine.resume();
    bench.until("the read is answered", () => reader.answers.length === round + 1, 2000);
    bench.runFor(300);
  }
  assert.is(bench.owner, bench.a);
  assert.is(bench.b.machine.bootCount, 1);
  host.rest();
  assert.is(host.verify(), null);
});

test("the interconnect is cut, both ways or one -> both go on with what they own, and answer reads all the time", () => {
  for (const oneWay of [false, true]) {
    const { bench, host } = atomicBench(31);
    bench.world.cut("oak-a", "oak-b", oneWay);
    bench.until("unmirrored", () => bench.a.state === "degraded");
    const reader = new OnePath(bench, bench.a);
    for (let round = 0; round < 20; round++) {
      reader.read();
      bench.until("a read is answered", () => reader.answers.length === round + 1, 500);
      bench.runFor(100);
    }
    assert.is(bench.owner, bench.a);
    bench.world.join("oak-a", "oak-b");
    bench.untilMirrored();
    host.rest();
    assert.is(host.verify(), null);
  }
});

test("alone, with the partner evicted -> reads and writes go on", () => {
  const { bench, host } = atomicBench(32);
  bench.a.machine.crash();
  bench.until("the partner owns", () => bench.b.role === "owner", 5000);
  const reader = new OnePath(bench, bench.b);
  for (let round = 0; round < 20; round++) {
    reader.read();
    bench.until("a read is answered", () => reader.answers.length === round + 1, 500);
    bench.runFor(100);
  }
  host.rest();
  assert.is(host.verify(), null);
});

test("the owner's disk hangs for longer than its lease -> its answers wait, and go on when the disk does", () => {
  const { bench, host } = atomicBench(33);
  const reader = new OnePath(bench, bench.a);
  for (const disk of bench.shelf.slots) disk!.hang();
  bench.runFor(limitMs);
  reader.read();
  bench.runFor(5000);
  assert.is(reader.answers.length, 0);
  for (const disk of bench.shelf.slots) disk!.unhang();
  bench.until("the read is answered", () => reader.answers.length === 1, 2000);
  host.rest();
  assert.is(host.verify(), null);
});

test("an eviction with an unknown outcome, or of some disks only -> nothing is taken over before it is complete", () => {
  const { bench, host } = atomicBench(34);
  const [first, second] = bench.shelf.slots;
  first!.faults.fenceErrorRate = 1;
  bench.a.machine.pause();
  bench.until("it is told", () => bench.b.saw("partner-not-fenced"), 5000);
  first!.faults.fenceErrorRate = 0;
  second!.isAbsent = true;
  bench.runFor(10_000);
  assert.is(bench.b.role, "free");
  assert.ok(bench.a.machine.isUp);
  second!.isAbsent = false;
  bench.until("the partner owns", () => bench.b.role === "owner", 10_000);
  bench.a.machine.resume();
  bench.until("the old owner has ended", () => bench.a.ended !== null, 5000);
  goesOn(bench, host);
  host.rest();
  assert.is(host.verify(), null);
});

test("both evict each other -> the disks let one of them win, and it serves both halves", () => {
  for (let seed = 40; seed < 42; seed++) {
    const { bench, host } = atomicBench(seed);
    const first = () => bench.shelf.slots[0]!;
    bench.world.cut("oak-a", "oak-b");
    bench.until("apart", () => bench.a.state === "degraded");
    // Neither sees the other count.
    first().hang();
    bench.shelf.slots[1]!.hang();
    for (const { machine } of bench.machines) machine.pause();
    bench.runFor(3 * limitMs);
    for (const { machine } of bench.machines) machine.resume();
    for (const disk of bench.shelf.slots) disk!.unhang();
    bench.runFor(seed * 3);
    for (const { machine } of bench.machines) if (seed % 2 === 0) machine.pause();
    bench.runFor(4 * limitMs);
    for (const { machine } of bench.machines) machine.resume();
    bench.world.join("oak-a", "oak-b");
    for (let round = 0; round < 20; round++) {
      for (const each of bench.machines) if (!each.machine.isUp) bench.start(each);
      bench.runFor(500);
    }
    bench.untilMirrored();
    host.rest();
    assert.is(host.verify(), null);
  }
});

test("the power of both goes, and of the shelf -> registrations are there still; either comes up alone", () => {
  const { bench, host } = atomicBench(50);
  bench.a.machine.powerLoss();
  bench.b.machine.powerLoss();
  bench.start(bench.b);
  bench.until("it owns", () => bench.b.role === "owner", 20_000);
  goesOn(bench, host);
  bench.start(bench.a);
  bench.untilMirrored();
  host.rest();
  assert.is(host.verify(), null);
});

test("the disks forget their registrations -> both find out, end, and register anew", () => {
  const { bench, host } = atomicBench(51);
  for (const disk of bench.shelf.slots) disk!.registrations.clear();
  bench.until("both have found out", () => bench.machines.every(({ ended }) => ended !== null), 5000);
  for (const each of bench.machines) bench.start(each);
  bench.untilMirrored();
  host.rest();
  assert.is(host.verify(), null);
});

test("the appliances are stopped and woken again and again -> every acknowledged write is there, and one of them serves", () => {
  const { bench, host } = atomicBench(60);
  const prng = bench.world.prng("stops");
  const startTheDead = () => {
    for (const each of bench.machines) if (!each.machine.isUp) bench.start(each);
  };
  for (let round = 0; round < 25; round++) {
    const victim = prng.pick(bench.machines).machine;
    victim.pause();
    bench.runFor(prng.between(100, 2500));
    victim.resume();
    bench.runFor(prng.between(1, 1500));
    startTheDead();
  }
  bench.until("the pair is mirrored", () => {
    startTheDead();
    return bench.machines.some(({ role, state }) => role === "owner" && state === "mirrored");
  });
  host.rest();
  assert.is(host.verify(), null);
});

test.run();
