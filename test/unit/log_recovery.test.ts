import { suite } from "uvu";
import * as assert from "uvu/assert";
import { AsOfEncoder } from "../../firmware/volume/as_of.ts";
import { mockDigests } from "../../hal/mock/runtime.ts";
import { GroupBench, type Tracked } from "./support/group_bench.ts";
import { recordOf, recordsIn } from "./support/log_surgery.ts";
import { PlainCache } from "./support/plain_cache.ts";

const test = suite("log_recovery");

function stamped(stamp: number, blockCount = 1): Uint8Array {
  const payload = new Uint8Array(blockCount * 512);
  for (let at = 0; at < blockCount; at++) new DataView(payload.buffer).setUint32(at * 512, stamp, true);
  return payload;
}

function noise(bench: GroupBench, blockCount: number): Uint8Array {
  return Uint8Array.from({ length: blockCount * 512 }, () => bench.prng.below(256));
}

function write(bench: GroupBench, lba: number, stamp: number): Tracked {
  const tracked = bench.request("write", lba, 1, stamped(stamp));
  bench.until(() => tracked.done);
  assert.is(tracked.error, null);
  return tracked;
}

function stampAt(bench: GroupBench, lba: number): number {
  const tracked = bench.request("read", lba, 1, null);
  bench.until(() => tracked.done);
  assert.is(tracked.error, null);
  return new DataView(tracked.target.buffer).getUint32(0, true);
}

test("a lost record with a later one behind it, then a new timeline and another crash -> nothing acknowledged is lost", () => {
  const bench = new GroupBench(1, "flush");
  bench.start();
  bench.serve();
  // One batch of two records, then another batch; both are under way when the power goes.
  const early = [1, 2].map((stamp) => bench.request("write", stamp, 1, stamped(stamp)));
  bench.until(() => early.every((one) => one.done));
  write(bench, 3, 3);
  const head = bench.group.log.headSeq;
  bench.crash();
  // The medium kept the first record of the first batch and the whole second batch.
  const memory = bench.cache.memory;
  const torn = recordOf(memory, bench.nvram, head - 1).at;
  memory.fill(0, torn, torn + 64);
  bench.start();
  assert.is(bench.group.log.headSeq, head - 2);
  bench.serve();
  for (let stamp = 11; stamp <= 14; stamp++) write(bench, stamp, stamp);
  bench.crash();
  bench.start();
  bench.serve();
  for (let stamp = 11; stamp <= 14; stamp++) assert.is(stampAt(bench, stamp), stamp);
});

/** Lets the timers run until everything committed is at home. */
function destage(bench: GroupBench): void {
  let drained = false;
  bench.group.destager.drain(() => (drained = true));
  bench.until(() => drained);
}

/** What a peer that has nothing reads of the log: contiguous, up to the seq that is returned. */
function readByPeer(bench: GroupBench, head: number): number {
  const cursor = bench.group.cursors.cursorAfter(0);
  assert.ok(cursor !== null);
  let seq = 0;
  while (seq < head) {
    let run = bench.group.cursors.next(cursor, head, 1 << 20);
    if (run === "on-shelf") {
      let answered = false;
      bench.group.cursors.load(cursor, head, 1 << 20, (loaded) => {
        answered = true;
        run = loaded ?? "end";
      });
      bench.until(() => answered);
    }
    if (typeof run === "string") break;
    assert.is(run.firstSeq, seq + 1);
    seq = run.lastSeq;
  }
  return seq;
}

test("more log on the shelf than the cache holds, then a crash -> it starts, and the peer can read all of it", () => {
  const bench = new GroupBench(2, "battery");
  bench.shelfLogBytes = 64 << 20;
  bench.start();
  bench.group.room.retain("elm", 0);
  bench.serve();
  const whole = 1024;
  for (let stamp = 1; stamp <= 20; stamp++) {
    const tracked = bench.request("write", 0, whole, stamped(stamp, whole));
    bench.until(() => tracked.done);
    destage(bench);
  }
  const spilled = bench.group.log.list.segments.filter((segment) => segment.slot < 0).length;
  assert.ok(spilled > bench.nvram.segmentCount, `${spilled} segments are on the shelf only`);
  const head = bench.group.log.headSeq;
  bench.crash();
  bench.start();
  bench.group.room.retain("elm", 0);
  bench.serve();
  assert.is(readByPeer(bench, head), head);
});

test("write-through kept more on the shelf than the quota, the cache is lost -> the rest is in the cache again, and the peer reads all", () => {
  const bench = new GroupBench(4, "battery");
  bench.shelfLogBytes = 2 * bench.store.logSlotBytes;
  bench.start();
  bench.group.room.retain("elm", 0);
  bench.serve();
  bench.group.writeThrough.begin();
  for (let stamp = 1; stamp <= 12; stamp++) {
    const tracked = bench.request("write", 0, 256, stamped(stamp, 256));
    bench.until(() => tracked.done);
    assert.is(tracked.error, null);
  }
  destage(bench);
  const head = bench.group.log.headSeq;
  assert.ok(bench.group.room.shelfBytes > bench.shelfLogBytes);
  assert.is(bench.group.room.spilledBytes, 0);
  for (const cacheLost of [true, false]) {
    bench.crash();
    if (cacheLost) bench.loseCache();
    else bench.cacheTrusted = true;
    bench.start();
    assert.not(bench.group.cacheWasLost);
    assert.is(bench.group.room.spilledBytes, bench.shelfLogBytes);
    bench.group.room.retain("elm", 0);
    assert.is(readByPeer(bench, head), head);
  }
});

test("home to the end of a segment that is on the shelf alone, and the cache full behind it -> it starts, and the peer reads all", () => {
  const bench = new GroupBench(5, "battery");
  bench.start();
  bench.group.room.retain("elm", 0);
  bench.serve();
  write(bench, 1, 1);
  destage(bench);
  bench.group.log.list.seal();
  const { commit } = bench.store;
  bench.store.commit = () => {};
  const stamps = Array.from({ length: 64 }, (_, index) => index + 2);
  const requests = stamps.map((stamp) => bench.request("write", 0, 128, stamped(stamp, 128)));
  const inCache = () => bench.group.log.list.segments.filter((segment) => segment.slot >= 0);
  bench.until(() => inCache().length === bench.nvram.segmentCount && bench.group.log.list.segments[0]?.slot === -1);
  const head = bench.group.log.headSeq;
  const acknowledged = Math.max(...stamps.filter((_, index) => requests[index]!.done));
  assert.ok(acknowledged > 0);
  bench.store.commit = commit;
  bench.crash();
  bench.start();
  bench.group.room.retain("elm", 0);
  bench.serve();
  assert.is(readByPeer(bench, head), head);
  assert.ok(stampAt(bench, 0) >= acknowledged);
});

test("a start from the shelf alone ends before it has persisted anything -> the next one loses nothing either", () => {
  const bench = new GroupBench(12, "flush");
  bench.start();
  bench.serve();
  bench.group.writeThrough.begin();
  write(bench, 1, 1);
  bench.crash();
  bench.loseCache();
  assert.is(bench.tryStart(), null);
  let isSaved = false;
  bench.group.saveReplicationDocument(null, () => {
    isSaved = true;
  });
  bench.until(() => isSaved);
  bench.crash();
  bench.loseCache();
  bench.start();
  assert.not(bench.group.cacheWasLost);
  bench.serve();
  assert.is(stampAt(bench, 1), 1);
});

test("a slot of the log cannot be read while the cache does not count -> no start, and the slot is kept", () => {
  const bench = new GroupBench(3, "battery");
  bench.start();
  bench.serve();
  bench.group.writeThrough.begin();
  write(bench, 1, 1);
  bench.crash();
  bench.loseCache();
  const slots = bench.store.logSlots().length;
  assert.ok(slots > 0);
  bench.store.readFailure = { code: "disk-failed", text: "no answer" };
  assert.match(bench.tryStart() ?? "it has started", /no answer/);
  assert.is(bench.store.logSlots().length, slots);
  bench.store.readFailure = null;
  bench.start();
  assert.not(bench.group.cacheWasLost);
  bench.serve();
  assert.is(stampAt(bench, 1), 1);
});

test("a committed record rots in the cache -> the group says that writes are lost", () => {
  const bench = new GroupBench(4, "battery");
  bench.start();
  bench.serve();
  destage(bench);
  const writes = [1, 2, 3, 4].map((stamp) => bench.request("write", stamp, 1, stamped(stamp)));
  bench.clock.runDeferred();
  assert.ok(writes.every((one) => one.done));
  const rotten = recordOf(bench.cache.memory, bench.nvram, bench.group.log.headSeq - 1);
  let saved = false;
  bench.group.saveReplicationDocument(null, () => (saved = true));
  bench.until(() => saved);
  bench.crash();
  bench.cache.memory[rotten.at + rotten.header.headerBytes + 5]! ^= 1;
  bench.start();
  assert.is(bench.group.log.headSeq, rotten.header.firstSeq - 1);
  assert.ok(bench.group.cacheWasLost);
});

test("write-through, a record rots on the shelf, the cache is lost -> the group says that writes are lost", () => {
  const bench = new GroupBench(6, "battery");
  bench.start();
  bench.serve();
  bench.group.writeThrough.begin();
  write(bench, 0, 1);
  bench.store.commit = () => {};
  const { list } = bench.group.log;
  for (let stamp = 2; list.segments.length < 4; stamp++) {
    const tracked = bench.request("write", 0, 128, stamped(stamp, 128));
    bench.until(() => tracked.done);
  }
  const rotten = list.segments[1]!;
  let flushed = false;
  bench.store.writeLogSlot(rotten.shelfSlot!, rotten.usedBytes - 512, [new Uint8Array(512)], () =>
    bench.store.flushLog(() => (flushed = true)),
  );
  bench.until(() => flushed);
  bench.crash();
  bench.loseCache();
  bench.start();
  assert.ok(bench.group.log.headSeq < rotten.lastSeq);
  assert.ok(bench.group.cacheWasLost);
});

/** Everything in the log is durable; the timers of destage do not run. */
function settled(bench: GroupBench): void {
  bench.clock.runDeferred();
  bench.clock.pass(1);
  assert.is(bench.group.log.persistedSeq, bench.group.log.headSeq);
}

/** The bytes behind the newest record, as far as `to`, become what a power loss may leave there. */
function cutAt(memory: Uint8Array, from: number, to: number, garbage: (at: number) => number): Uint8Array {
  const cut = memory.slice();
  for (let at = from; at < to; at++) cut[at] = garbage(at);
  return cut;
}

for (const leftover of ["nothing", "garbage", "what was there before"] as const) {
  test(`the log is torn at any sector, behind it ${leftover} -> every record before it is kept, none behind it`, () => {
    const bench = new GroupBench(5, "flush");
    bench.start();
    bench.serve();
    destage(bench);
    for (const blockCount of [1, 8, 3, 16, 1, 1])
      bench.request("write", 5 * blockCount, blockCount, noise(bench, blockCount));
    settled(bench);
    for (const blockCount of [8, 8, 1]) bench.request("write", 7 * blockCount, blockCount, noise(bench, blockCount));
    settled(bench);
    const { log } = bench.group;
    const home = log.destagedSeq;
    const records = recordsIn(bench.cache.memory, bench.nvram).filter((one) => one.header.firstSeq > home);
    const from = Math.min(...records.map((one) => one.at));
    const to = Math.max(...records.map((one) => one.at + one.header.totalBytes));
    const memory = bench.cache.memory.slice();
    bench.crash();
    for (let at = from - (from % 512); at < to; at += 512) {
      const fill = (byte: number) =>
        leftover === "nothing" ? 0 : leftover === "garbage" ? (byte * 31) % 251 : memory[byte - 8192]!;
      bench.cache = new PlainCache(
        bench.clock,
        memory.byteLength,
        "flush",
        cutAt(memory, Math.max(at, from), to, fill),
      );
      assert.is(bench.tryStart(), null);
      const whole = records.filter((one) => one.at + one.header.headerBytes + one.header.payloadBytes <= at);
      const expected = whole.reduce((head, one) => Math.max(head, one.header.lastSeq), home);
      assert.is(bench.group.log.headSeq, expected, `torn at ${at}, records from ${from} to ${to}`);
      bench.group.close();
      bench.clock.forget();
    }
  });
}

test("any sectors of two unflushed batches are lost -> what is kept is a prefix, each record whole", () => {
  for (let seed = 1; seed <= 12; seed++) {
    const bench = new GroupBench(seed, "flush");
    bench.start();
    bench.serve();
    destage(bench);
    const home = bench.group.log.destagedSeq;
    const before = bench.cache.memory.slice();
    for (let stamp = 1; stamp <= 12; stamp++) {
      const blockCount = 1 + bench.prng.below(20);
      bench.request("write", 32 * stamp, blockCount, stamped(stamp, blockCount));
      if (stamp === 6) bench.clock.runDeferred();
    }
    bench.clock.runDeferred();
    const after = bench.cache.memory.slice();
    bench.crash();
    for (let at = 0; at < after.length; at += 512) {
      if (bench.prng.chance(0.1)) after.set(before.subarray(at, at + 512), at);
    }
    bench.cache = new PlainCache(bench.clock, after.byteLength, "flush", after);
    bench.start();
    bench.serve();
    const kept = [];
    for (let stamp = 1; stamp <= 12; stamp++) kept.push(stampAt(bench, 32 * stamp) === stamp);
    const count = kept.filter(Boolean).length;
    assert.ok(
      kept.slice(0, count).every(Boolean),
      `seed ${seed}: from ${home} on, kept ${kept.map(Number).join("")} is a prefix`,
    );
  }
});

test("a segment begins with an as-of record -> after a crash a peer still gets the record before it", () => {
  const bench = new GroupBench(6, "battery");
  bench.start();
  bench.serve();
  write(bench, 1, 1);
  const { log } = bench.group;
  const encoder = new AsOfEncoder(mockDigests, bench.group.groupTag);
  const place = { timeline: log.timeline, seq: log.headSeq, asOfSeq: log.headSeq };
  log.list.seal();
  const outcome = bench.group.receiver.appendRun(encoder.hole(place, 1, 0, 1));
  assert.is(outcome.kind, "appended");
  const head = log.headSeq;
  bench.clock.runDeferred();
  bench.crash();
  bench.start();
  const cursor = bench.group.cursors.cursorAfter(head - 1);
  assert.ok(cursor !== null);
  const run = bench.group.cursors.next(cursor, head, 1 << 20);
  assert.ok(typeof run === "object" && run.firstSeq === head);
});

test("a hole among what is at home, behind it a segment that begins with an as-of record -> its newer records are kept", () => {
  const bench = new GroupBench(11, "battery");
  bench.start();
  bench.group.room.retain("elm", 0);
  bench.serve();
  const { log } = bench.group;
  write(bench, 1, 1);
  log.list.seal();
  write(bench, 2, 2);
  const gone = log.list.last!;
  log.list.seal();
  const place = { timeline: log.timeline, seq: log.headSeq, asOfSeq: log.headSeq };
  const encoder = new AsOfEncoder(mockDigests, bench.group.groupTag);
  assert.is(bench.group.receiver.appendRun(encoder.hole(place, 1, 8, 1)).kind, "appended");
  write(bench, 3, 3);
  destage(bench);
  write(bench, 4, 4);
  const head = log.headSeq;
  bench.crash();
  // Of the segments that the log had let go, the cache has forgotten this one only.
  bench.cache.memory.fill(0, gone.base, gone.base + 64);
  bench.start();
  assert.is(bench.group.log.headSeq, head);
  bench.serve();
  for (const stamp of [1, 2, 3, 4]) assert.is(stampAt(bench, stamp), stamp);
});

test("bit rot in a spilled segment -> it is reported as unreadable, and the walk over it ends", () => {
  const bench = new GroupBench(7, "battery");
  bench.shelfLogBytes = 64 << 20;
  bench.start();
  bench.group.room.retain("elm", 0);
  bench.serve();
  for (let stamp = 1; stamp <= 12; stamp++) {
    const tracked = bench.request("write", 0, 1024, stamped(stamp, 1024));
    bench.until(() => tracked.done);
    destage(bench);
  }
  const head = bench.group.log.headSeq;
  const read = bench.store.readLogSlot.bind(bench.store);
  bench.store.readLogSlot = (slot, offsetBytes, target, done) =>
    read(slot, offsetBytes, target, (error) => {
      // The length of the first record.
      if (target.byteLength > 12288) target.fill(0, 12288 + 12, 12288 + 20);
      done(error);
    });
  const cursor = bench.group.cursors.cursorAfter(0);
  assert.ok(cursor !== null);
  assert.is(bench.group.cursors.next(cursor, head, 1 << 20), "on-shelf");
  let answer: unknown;
  bench.group.cursors.load(cursor, head, 1 << 20, (run) => (answer = run));
  bench.until(() => answer !== undefined);
  assert.is(answer, null);
});

for (const kept of ["on the shelf", "for nobody"] as const) {
  test(`the cache fails and its old content is full of what is at home, kept ${kept} -> the log that the shelf has since fits`, () => {
    const bench = new GroupBench(8, "flush");
    bench.shelfLogBytes = 8 << 20;
    bench.start();
    bench.serve();
    const { log } = bench.group;
    // A peer that has nothing: what is at home stays in the log, and goes to the shelf when the cache needs the room.
    bench.group.room.retain("elm", 0);
    const { list } = log;
    const stamps: number[] = [];
    const next = (): void => {
      stamps.push(stamps.length + 1);
      const tracked = bench.request("write", 128 * (stamps.length % 8), 128, stamped(stamps.length, 128));
      bench.until(() => tracked.done);
      assert.is(tracked.error, null);
    };
    const isSpilled = kept === "on the shelf";
    while (list.segments.length < bench.nvram.segmentCount + (isSpilled ? 2 : -1)) next();
    destage(bench);
    assert.ok(list.segments.filter(({ slot }) => slot >= 0).length >= bench.nvram.segmentCount - 2);
    assert.is(
      list.segments.some(({ slot, shelfSlot }) => slot < 0 && shelfSlot !== null),
      isSpilled,
    );
    bench.cache.failPersist = true;
    if (!isSpilled) bench.group.room.release("elm");
    next();
    const wide = list.segments.at(-1)!.ordinal + 4;
    bench.store.commit = () => {};
    while (list.segments.at(-1)!.ordinal < wide) next();
    bench.crash();
    bench.start();
    bench.serve();
    for (const stamp of stamps.slice(-8)) assert.is(stampAt(bench, 128 * (stamp % 8)), stamp);
  });
}

/** Brings what `primary` has from `from` to `to` to the golden copy, which is to append all of it. */
function bring(primary: GroupBench, golden: GroupBench, from: number, to: number): void {
  const cursor = primary.group.cursors.cursorAfter(from - 1);
  assert.ok(cursor !== null);
  while (cursor.seq < to) {
    const run = primary.group.cursors.next(cursor, to, 1 << 20);
    assert.ok(typeof run === "object");
    assert.is(golden.group.receiver.appendRun(run.bytes).kind, "appended");
  }
}

for (const home of ["nothing", "some", "all"] as const) {
  test(`revoked records come to light behind the end of a segment, ${home} of them at home -> what came again counts`, () => {
    const primary = new GroupBench(9, "battery");
    primary.start();
    primary.serve();
    for (let stamp = 1; stamp <= 20; stamp++) write(primary, stamp, stamp);
    const last = primary.group.log.headSeq;
    const golden = new GroupBench(10, "battery");
    golden.start();
    golden.group.room.retain("ash", 0);
    bring(primary, golden, 1, last - 14);
    settled(golden);
    golden.group.writeThrough.begin();
    bring(primary, golden, last - 13, last - 12);
    golden.until(() => golden.group.log.persistedSeq === last - 12);
    // The cache has these, and does not count any more; the shelf has them not yet.
    bring(primary, golden, last - 11, last - 5);
    golden.crash();
    golden.start();
    assert.is(golden.group.log.headSeq, last - 12);
    bring(primary, golden, last - 11, last);
    settled(golden);
    const homeSeq = { nothing: 0, some: last - 8, all: last - 3 }[home];
    if (homeSeq > 0) {
      golden.group.log.hearCommit(homeSeq);
      settled(golden);
      destage(golden);
      assert.is(golden.group.log.destagedSeq, homeSeq);
    }
    golden.crash();
    golden.start();
    assert.is(golden.group.log.headSeq, last);
    assert.is(readByPeer(golden, last), last);
    golden.group.log.hearCommit(last);
    golden.until(() => golden.group.log.commitSeq === last);
    golden.group.setServing({ writable: false, why: "golden", readable: "head" });
    golden.openTarget();
    for (let stamp = 1; stamp <= 20; stamp++) assert.is(stampAt(golden, stamp), stamp);
  });
}

test.run();
