import { suite } from "uvu";
import * as assert from "uvu/assert";
import { GroupBench, type Tracked } from "./support/group_bench.ts";

const test = suite("write_through");

function stamped(stamp: number): Uint8Array {
  const payload = new Uint8Array(4096);
  for (let at = 0; at < 8; at++) new DataView(payload.buffer).setUint32(at * 512, stamp, true);
  return payload;
}

function write(bench: GroupBench, block: number, stamp: number): Tracked {
  return bench.request("write", 8 * block, 8, stamped(stamp));
}

function large(bench: GroupBench): Tracked {
  const blockCount = 8 * (1 + bench.prng.below(255));
  return bench.request("write", 0, blockCount, new Uint8Array(blockCount * 512));
}

function stampAt(bench: GroupBench, block: number): number {
  const tracked = bench.request("read", 8 * block, 8, null);
  bench.until(() => tracked.done);
  assert.is(tracked.error, null);
  return new DataView(tracked.target.buffer).getUint32(0, true);
}

/** The power goes while the battery is dead: nothing in the cache is left. */
function loseCache(bench: GroupBench): void {
  bench.crash();
  bench.loseCache();
}

for (let seed = 1; seed <= 8; seed++) {
  test(`the battery fails, later the power (seed ${seed}) -> every acknowledged write is on the shelf`, () => {
    const bench = new GroupBench(seed, "battery");
    bench.start();
    bench.serve();
    const acknowledged = new Map<number, number>();
    const undecided = new Map<number, Set<number>>();
    const pending: { tracked: Tracked; block: number; stamp: number }[] = [];
    const settle = () => {
      for (const one of [...pending]) {
        if (!one.tracked.done) continue;
        assert.is(one.tracked.error, null);
        pending.splice(pending.indexOf(one), 1);
        acknowledged.set(one.block, Math.max(acknowledged.get(one.block) ?? 0, one.stamp));
      }
    };
    const failsAt = 5 + bench.prng.below(40);
    for (let stamp = 1; stamp <= 120; stamp++) {
      if (stamp === failsAt) {
        bench.group.writeThrough.begin();
        assert.ok(bench.group.writeThrough.atRiskBytes > 0 || bench.group.destager.dirtyBytes === 0);
      }
      const block = bench.prng.below(200);
      const tracked = write(bench, block, stamp);
      undecided.set(block, (undecided.get(block) ?? new Set()).add(stamp));
      pending.push({ tracked, block, stamp });
      for (let steps = bench.prng.below(3); steps > 0; steps--) bench.clock.step();
      settle();
    }
    bench.until(() => bench.group.writeThrough.atRiskBytes === 0);
    settle();
    loseCache(bench);
    bench.start();
    assert.not(bench.group.cacheWasLost);
    bench.serve();
    for (const [block, stamp] of acknowledged) {
      const found = stampAt(bench, block);
      assert.ok(
        found === stamp || (found > stamp && undecided.get(block)!.has(found)),
        `block ${block} holds ${found}, acknowledged was ${stamp}`,
      );
    }
  });
}

test("write-through is on -> nothing is acknowledged before the shelf has flushed it", () => {
  const bench = new GroupBench(1, "battery");
  bench.start();
  bench.serve();
  bench.group.writeThrough.begin();
  bench.until(() => bench.group.writeThrough.atRiskBytes === 0);
  bench.store.failure = { code: "disk-failed", text: "no answer" };
  const tracked = write(bench, 3, 1);
  for (let steps = 0; steps < 50; steps++) bench.clock.step();
  assert.not(tracked.done, "the shelf has not taken it");
  assert.ok(bench.events.some((event) => event.startsWith("write-through-failed")));
  bench.store.failure = null;
  bench.until(() => tracked.done);
  assert.is(tracked.error, null);
});

test("what the shelf has taken and not flushed is still at risk", () => {
  const bench = new GroupBench(9, "battery");
  bench.start();
  bench.serve();
  const tracked = write(bench, 3, 1);
  bench.until(() => tracked.done);
  const { store } = bench.group;
  const flushLog = store.flushLog.bind(store);
  let flush: (() => void) | null = null;
  store.flushLog = (done) => {
    flush = () => flushLog(done);
  };
  bench.group.writeThrough.begin();
  bench.until(() => flush !== null);
  assert.ok(bench.group.writeThrough.atRiskBytes >= 4096, `${bench.group.writeThrough.atRiskBytes}`);
  flush!();
  bench.until(() => bench.group.writeThrough.atRiskBytes === 0);
});

test("the battery is good again -> write-back, and the cache's copy counts after a crash", () => {
  const bench = new GroupBench(2, "battery");
  bench.start();
  bench.serve();
  bench.group.writeThrough.begin();
  const first = write(bench, 1, 1);
  bench.until(() => first.done);
  let ended = false;
  bench.group.writeThrough.end(() => (ended = true));
  bench.until(() => ended);
  const second = write(bench, 2, 2);
  bench.until(() => second.done);
  bench.crash();
  bench.start();
  bench.serve();
  assert.is(stampAt(bench, 1), 1);
  assert.is(stampAt(bench, 2), 2);
});

test("the cache is lost with writes in it -> the group says so", () => {
  const bench = new GroupBench(3, "battery");
  bench.start();
  bench.serve();
  const tracked = write(bench, 1, 1);
  bench.until(() => tracked.done);
  loseCache(bench);
  bench.start();
  assert.ok(bench.group.cacheWasLost);
});

test("an orderly stop, then another cache -> nothing is lost, and nothing is said to be", () => {
  const bench = new GroupBench(4, "battery");
  bench.start();
  bench.serve();
  const tracked = write(bench, 1, 1);
  bench.until(() => tracked.done);
  let stopped = false;
  bench.group.stop(() => (stopped = true));
  bench.until(() => stopped);
  loseCache(bench);
  bench.start();
  assert.not(bench.group.cacheWasLost);
  bench.serve();
  assert.is(stampAt(bench, 1), 1);
});

test("the battery fails again while write-through ends -> write-through goes on, and nothing is lost with the cache", () => {
  for (let steps = 0; steps <= 3; steps++) {
    const bench = new GroupBench(5, "battery");
    bench.start();
    bench.serve();
    bench.group.writeThrough.begin();
    bench.until(() => bench.group.writeThrough.atRiskBytes === 0);
    bench.group.writeThrough.end(() => {});
    for (let step = 0; step < steps; step++) bench.clock.step();
    bench.group.writeThrough.begin();
    const tracked = write(bench, 1, 1);
    bench.until(() => tracked.done);
    bench.until(() => bench.group.writeThrough.atRiskBytes === 0);
    assert.ok(bench.group.writeThrough.active);
    loseCache(bench);
    bench.start();
    assert.not(bench.group.cacheWasLost, `begun again after ${steps} steps`);
    bench.serve();
    assert.is(stampAt(bench, 1), 1);
  }
});

test("kept for a move, the cache fails and is good again in the midst of it -> the shelf has everything until the release", () => {
  for (const healthy of [true, false]) {
    for (let steps = 0; steps <= 6; steps++) {
      const bench = new GroupBench(12, "battery");
      bench.start();
      bench.serve();
      const { writeThrough } = bench.group;
      const before = write(bench, 1, 1);
      bench.until(() => before.done);
      let ended = 0;
      const end = () => writeThrough.end(() => ended++);
      if (!healthy) writeThrough.begin();
      for (let step = 0; step < steps; step++) bench.clock.step();
      if (!healthy && steps % 2 === 0) end();
      writeThrough.keep();
      if (steps % 3 === 0) writeThrough.begin();
      bench.until(() => writeThrough.holdsAll);
      end();
      const after = write(bench, 2, 2);
      bench.until(() => after.done && !writeThrough.busy);
      assert.ok(writeThrough.holdsAll, "kept");
      assert.is(ended, 0);
      if (steps < 6) loseCache(bench);
      else {
        writeThrough.release();
        bench.until(() => ended === 1);
        assert.not(writeThrough.active);
        bench.crash();
      }
      bench.start();
      assert.not(bench.group.cacheWasLost, `${healthy}, ${steps} steps`);
      bench.serve();
      assert.is(stampAt(bench, 1), 1);
      assert.is(stampAt(bench, 2), 2);
    }
  }
});

test("the mode ends, begins and ends again before the shelf has heard of the first end -> it ends when it has heard of the last", () => {
  const bench = new GroupBench(13, "battery");
  bench.start();
  bench.serve();
  const { writeThrough } = bench.group;
  writeThrough.begin();
  bench.until(() => writeThrough.holdsAll && !writeThrough.busy);
  const ends: string[] = [];
  writeThrough.end(() => ends.push("first"));
  writeThrough.begin();
  writeThrough.end(() => ends.push("last"));
  let commits = 0;
  const { store } = bench.group;
  const commit = store.commit.bind(store);
  store.commit = (document, done) =>
    commit(document, (error) => {
      commits++;
      done(error);
      // Whatever the root says now, a crash here is a crash in the mode, or behind its end.
      if (writeThrough.active) assert.equal(ends, []);
    });
  bench.until(() => ends.length > 0);
  assert.equal(ends, ["last"]);
  assert.ok(commits >= 2, `${commits} commits`);
});

test("a flush of the shelf fails once -> what it covered is written again before anything is acknowledged", () => {
  const bench = new GroupBench(6, "battery");
  bench.start();
  bench.serve();
  bench.group.writeThrough.begin();
  bench.until(() => bench.group.writeThrough.atRiskBytes === 0);
  bench.store.flushFailure = { code: "disk-failed", text: "the flush has failed" };
  const tracked = write(bench, 3, 1);
  bench.until(() => bench.events.some((event) => event.startsWith("write-through-failed")));
  assert.not(tracked.done);
  bench.store.flushFailure = null;
  bench.until(() => tracked.done);
  loseCache(bench);
  bench.start();
  bench.serve();
  assert.is(stampAt(bench, 3), 1);
});

test("the battery fails while the cache persists -> the persist acknowledges nothing, the shelf does", () => {
  const bench = new GroupBench(7, "flush");
  bench.start();
  bench.serve();
  const tracked = write(bench, 4, 1);
  bench.clock.runDeferred();
  bench.group.writeThrough.begin();
  bench.store.failure = { code: "disk-failed", text: "no answer" };
  for (let steps = 0; steps < 20; steps++) bench.clock.step();
  assert.not(tracked.done);
  bench.store.failure = null;
  bench.until(() => tracked.done);
});

test("segments come home while they are copied -> no place on the shelf is lost or used by two", () => {
  for (let seed = 1; seed <= 6; seed++) {
    const bench = new GroupBench(seed, "battery");
    bench.start();
    bench.serve();
    bench.group.writeThrough.begin();
    const pending: Tracked[] = [];
    for (let count = 0; count < 150; count++) {
      pending.push(large(bench));
      const last = pending[pending.length - 1]!;
      if (bench.prng.chance(0.3)) bench.group.destager.kick();
      for (let steps = bench.prng.below(6); steps > 0; steps--) bench.clock.step();
      if (bench.prng.chance(0.2)) bench.until(() => last.done);
    }
    bench.until(() => pending.every((one) => one.done));
    let drained = false;
    bench.group.destager.drain(() => (drained = true));
    bench.until(() => drained && !bench.group.writeThrough.busy);
    const used = bench.group.log.list.segments.filter((segment) => segment.shelfSlot !== null).length;
    assert.is(bench.store.logSlots().length, used, `seed ${seed}`);
    const { list } = bench.group.log;
    const kept = list.segments.length - used;
    assert.ok(bench.store.slotsExpected >= 1 && bench.store.slotsExpected <= kept + 1, `seed ${seed}`);
    assert.is(
      bench.nvram.freeSegments + bench.group.log.list.segments.filter((segment) => segment.slot >= 0).length,
      bench.nvram.segmentCount,
      `seed ${seed}`,
    );
  }
});

test("write-back -> the store keeps a slot for every segment that is not at home, and for the next one", () => {
  const bench = new GroupBench(3, "battery");
  bench.start();
  bench.serve();
  assert.is(bench.store.slotsExpected, bench.group.log.list.segments.length + 1);
  const { log } = bench.group;
  log.require("elm", log.commitSeq);
  for (let count = 0; log.list.segments.length < 5; count++) write(bench, count % 256, count);
  assert.is(bench.store.slotsExpected, 6);
  log.require("elm", null);
  let drained = false;
  bench.group.destager.drain(() => (drained = true));
  bench.until(() => drained);
  assert.is(bench.store.slotsExpected, log.list.segments.length + 1);
  assert.ok(bench.store.slotsExpected <= 2, `${bench.store.slotsExpected}`);
});

test("the shelf has no slot, and the other half has -> write-through goes on at once", () => {
  const bench = new GroupBench(4, "battery");
  bench.start();
  bench.serve();
  bench.store.slotsMax = 0;
  bench.moreSpace = (done) => {
    bench.store.slotsMax = 8;
    done(true);
  };
  const tracked = write(bench, 3, 1);
  bench.group.writeThrough.begin();
  bench.until(() => tracked.done && bench.group.writeThrough.atRiskBytes === 0);
  assert.is(tracked.error, null);
  assert.not.ok(bench.events.some((event) => event.startsWith("write-through-failed")));
});

test("write-through finds no slot, for what an absent peer needs has them -> the peer is given up, hosts go on", () => {
  const bench = new GroupBench(6, "battery");
  bench.start();
  bench.serve();
  const { room, log, writeThrough } = bench.group;
  room.retain("elm", 0);
  room.onOverflow((peer) => room.release(peer));
  writeThrough.begin();
  bench.until(() => writeThrough.atRiskBytes === 0);
  bench.store.slotsMax = 4;
  for (let stamp = 1; log.list.segments[0]!.ordinal === 1; stamp++) {
    assert.ok(stamp < 1000, "the log of the peer gives way");
    const tracked = write(bench, stamp % 256, stamp);
    bench.until(() => tracked.done);
    let drained = false;
    bench.group.destager.drain(() => (drained = true));
    bench.until(() => drained);
  }
  assert.ok(bench.nvram.freeSegments > bench.nvram.segmentCount / 2, "not for want of room in the cache");
});

test("segments had gone from the log -> the next start does not read what still lies in their places on the shelf", () => {
  const bench = new GroupBench(1, "battery");
  // A place that is given back looks to the next start as it did before.
  bench.store.freeLogSlot = () => {};
  bench.start();
  bench.serve();
  bench.group.writeThrough.begin();
  const writeHome = (tracked: Tracked) => {
    bench.until(() => tracked.done);
    let drained = false;
    bench.group.destager.drain(() => (drained = true));
    bench.until(() => drained && !bench.group.writeThrough.busy);
  };
  for (let count = 0; count < 60; count++) writeHome(large(bench));
  writeHome(write(bench, 3, 77));
  const { segments, nextOrdinal } = bench.group.log.list;
  const kept = nextOrdinal - (segments[0]?.ordinal ?? nextOrdinal);
  assert.ok(bench.store.logSlots().length > kept + 5, `${bench.store.logSlots().length} places, ${kept} segments`);
  bench.crash();
  const { store } = bench;
  const readSlot = store.readLogSlot.bind(store);
  let wholeReads = 0;
  store.readLogSlot = (slot, offsetBytes, target, done) => {
    if (target.byteLength > 4096) wholeReads++;
    readSlot(slot, offsetBytes, target, done);
  };
  bench.start();
  // The root of the last save may be older than the last segment that went.
  assert.ok(wholeReads <= kept + 1, `${wholeReads} segments were read, ${kept} were in the log`);
  bench.serve();
  assert.is(stampAt(bench, 3), 77);
});

test("the mode ends while a copy is under way, and begins anew -> what was written in between is on the shelf too", () => {
  for (let seed = 1; seed <= 4; seed++) {
    const bench = new GroupBench(seed, "battery");
    bench.start();
    bench.serve();
    const { writeThrough } = bench.group;
    const written: Tracked[] = [];
    const writeNext = () => {
      const payload = new Uint8Array(512);
      new DataView(payload.buffer).setUint32(0, written.length + 1, true);
      written.push(bench.request("write", 8 * written.length, 1, payload));
      bench.clock.runDeferred();
    };
    writeThrough.begin();
    writeNext();
    bench.until(() => written.every((one) => one.done) && !writeThrough.busy);
    writeNext();
    assert.ok(writeThrough.busy);
    writeNext();
    let ended = false;
    writeThrough.end(() => (ended = true));
    bench.until(() => ended);
    // A run that began in the mode goes on behind its end, and takes along what it finds.
    for (let turn = 0; turn < 6; turn++) {
      writeNext();
      bench.clock.step();
    }
    writeThrough.begin();
    bench.until(() => writeThrough.atRiskBytes === 0 && !writeThrough.busy && written.every((one) => one.done));
    loseCache(bench);
    bench.start();
    assert.not(bench.group.cacheWasLost);
    bench.serve();
    written.forEach((_, index) => {
      const read = bench.request("read", 8 * index, 8, null);
      bench.until(() => read.done);
      assert.is(new DataView(read.target.buffer).getUint32(0, true), index + 1, `seed ${seed}, write ${index + 1}`);
    });
  }
});

test("a peer is away while write-through lasts -> the log on the shelf alone keeps to its quota, then the peer is given up", () => {
  const bench = new GroupBench(11, "battery");
  bench.start();
  bench.serve();
  const { room, writeThrough, log } = bench.group;
  room.retain("elm", log.commitSeq);
  let overflowed: string | null = null;
  room.onOverflow((peer) => {
    overflowed = peer;
  });
  writeThrough.begin();
  let most = 0;
  for (let count = 0; count < 200 && overflowed === null; count++) {
    const tracked = large(bench);
    bench.until(() => tracked.done || overflowed !== null);
    most = Math.max(most, room.shelfBytes);
    assert.ok(room.spilledBytes <= bench.shelfLogBytes, `${room.spilledBytes} bytes on the shelf alone`);
  }
  assert.is(overflowed, "elm");
  assert.ok(most <= bench.shelfLogBytes + bench.nvram.segmentCount * bench.store.logSlotBytes);
  room.release("elm");
  const tracked = large(bench);
  bench.until(() => tracked.done);
  assert.is(tracked.error, null);
});

for (const how of ["kept for a move, and released", "the battery fails, and is good again"] as const) {
  test(`${how}; then the power goes, and the log on the shelf is not read at the start -> what was acknowledged is in the cache`, () => {
    const bench = new GroupBench(31, "flush");
    bench.start();
    bench.serve();
    const { writeThrough } = bench.group;
    let last: Tracked;
    if (how === "kept for a move, and released") {
      writeThrough.keep();
      bench.until(() => writeThrough.holdsAll);
      last = write(bench, 1, 1);
      bench.until(() => last.done);
      writeThrough.release();
    } else {
      writeThrough.begin();
      bench.until(() => writeThrough.holdsAll);
      bench.nvram.persistAll(() => writeThrough.end(() => {}));
      bench.clock.step();
      last = write(bench, 1, 1);
    }
    bench.until(() => last.done && !writeThrough.active && !writeThrough.busy);
    bench.crash();
    bench.store.readFailure = { code: "disk-failed", text: "no answer" };
    bench.start();
    bench.store.readFailure = null;
    assert.not(bench.group.cacheWasLost);
    bench.serve();
    assert.is(stampAt(bench, 1), 1);
  });
}

test.run();
