import { suite } from "uvu";
import * as assert from "uvu/assert";
import { GroupBench, type Tracked } from "./support/group_bench.ts";
import { recordOf } from "./support/log_surgery.ts";

const test = suite("log_recovery");

function stamped(stamp: number, blockCount = 1): Uint8Array {
  const payload = new Uint8Array(blockCount * 512);
  for (let at = 0; at < blockCount; at++) new DataView(payload.buffer).setUint32(at * 512, stamp, true);
  return payload;
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
  assert.is(seq, head);
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

test.run();
