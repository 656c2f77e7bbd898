import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { LogCursor } from "../../firmware/log/replication_log.ts";
import type { GroupPort } from "../../firmware/volume/group_port.ts";
import { replicationPort } from "../../firmware/volume/replication_port.ts";
import { Prng } from "../../hal/mock/prng.ts";
import { GroupBench, sectors } from "./support/group_bench.ts";
import { ManualClock } from "./support/manual_clock.ts";

const test = suite("log_replication");

/** Primary and golden side of one group with the stream between them moved by hand. */
class Lane {
  readonly clock = new ManualClock();
  readonly oak: GroupBench;
  readonly elm: GroupBench;
  readonly prng: Prng;
  from!: GroupPort;
  to!: GroupPort;
  cursor: LogCursor | null = null;
  overflowed = false;

  constructor(seed: number) {
    this.prng = new Prng(seed, "lane");
    this.oak = new GroupBench(`${seed}-oak`, "battery", this.clock);
    this.elm = new GroupBench(`${seed}-elm`, this.prng.chance(0.5) ? "battery" : "flush", this.clock);
    this.oak.start();
    this.elm.start();
    this.meet();
    this.elm.group.room.thaw();
    this.oak.serve();
    this.elm.group.setServing({ writable: false, why: "golden", readable: "head" });
  }

  /** Both sides have (re)started: ports anew, and the cursor where the golden side stands. */
  meet(): void {
    this.from = replicationPort(this.oak.group, { array: "oak", appliance: "oak-a" });
    this.to = replicationPort(this.elm.group, { array: "elm", appliance: "elm-a" });
    this.from.log.onOverflow((peer) => {
      this.overflowed = true;
      this.from.log.release(peer);
    });
    this.from.log.retain("elm", this.to.log.persistedSeq);
    this.cursor = this.from.log.cursorAfter(this.to.log.headSeq);
  }

  /** Moves at most one run over; false when there was none. */
  move(): boolean {
    if (this.cursor === null) return false;
    const before = { ...this.cursor };
    let run = this.from.log.next(this.cursor, this.from.log.commitSeq, 65536);
    if (run === "on-shelf") {
      let answered = false;
      this.from.log.load(this.cursor, this.from.log.commitSeq, 65536, (loaded) => {
        answered = true;
        run = loaded ?? "end";
      });
      this.oak.until(() => answered);
    }
    if (typeof run === "string") return false;
    const outcome = this.to.log.appendRun(run.bytes);
    if (outcome.kind === "busy") {
      Object.assign(this.cursor, before);
      const again = this.from.log.cursorAfter(this.to.log.headSeq);
      if (again !== null) this.cursor = again;
      return false;
    }
    assert.is(outcome.kind, "appended", JSON.stringify(outcome));
    this.to.log.hearCommit(this.prng.chance(0.7) ? this.from.log.commitSeq : before.seq);
    return true;
  }
}

function stamped(stamp: number, blockCount: number): Uint8Array {
  const payload = new Uint8Array(blockCount * 512);
  for (let at = 0; at < blockCount; at++) new DataView(payload.buffer).setUint32(at * 512, stamp, true);
  return payload;
}

/** The stamps of the golden image must be those after exactly the first k writes. */
function checkPrefix(
  lane: Lane,
  history: readonly { seq: number; startLba: number; blockCount: number; stamp: number }[],
  seed: number,
): void {
  const viewSeq = lane.elm.group.log.commitSeq;
  const expected = new Uint32Array(sectors);
  for (const write of history) {
    if (write.seq > viewSeq) continue;
    expected.fill(write.stamp, write.startLba, write.startLba + write.blockCount);
  }
  const image = new Uint8Array(sectors * 512);
  let answered = false;
  lane.elm.group.read(1, 0, image, (error) => {
    assert.is(error, null);
    answered = true;
  });
  lane.elm.until(() => answered);
  if (lane.elm.group.log.commitSeq !== viewSeq) return;
  const view = new DataView(image.buffer);
  for (let sector = 0; sector < sectors; sector++) {
    assert.is(
      view.getUint32(sector * 512, true),
      expected[sector]!,
      `seed ${seed}: O1 at seq ${viewSeq}, sector ${sector}`,
    );
  }
}

function runLane(seed: number): void {
  const lane = new Lane(seed);
  const { prng } = lane;
  const history: { seq: number; startLba: number; blockCount: number; stamp: number }[] = [];
  let lastView = 0;
  for (let round = 0; round < 5; round++) {
    for (let operation = 0; operation < 60; operation++) {
      const kind = prng.below(10);
      if (kind < 5) {
        const startLba = prng.below(sectors);
        const blockCount = 1 + prng.below(Math.min(64, sectors - startLba));
        const stamp = history.length + 1;
        const before = lane.oak.group.log.headSeq;
        const tracked = lane.oak.request("write", startLba, blockCount, stamped(stamp, blockCount));
        lane.oak.until(() => tracked.done);
        assert.is(tracked.error, null);
        // One record per 64 KiB part: the image between them is a prefix too, so the seq of each part counts.
        let lba = startLba;
        for (let seq = before + 1; seq <= lane.oak.group.log.headSeq; seq++) {
          const part = Math.min(startLba + blockCount - lba, 128 - (lba % 128));
          history.push({ seq, startLba: lba, blockCount: part, stamp });
          lba += part;
        }
      } else if (kind < 8) lane.move();
      else lane.clock.step();
      assert.ok(lane.elm.group.log.commitSeq >= lastView, "O3: the view never goes back");
      lastView = lane.elm.group.log.commitSeq;
      if (lane.overflowed) return;
    }
    if (lane.elm.group.volumes().length > 0) checkPrefix(lane, history, seed);
    if (prng.chance(0.6)) {
      const goldenCrashes = prng.chance(0.7);
      // The clock is one for both sides: a crash forgets the timers of both, so both restart.
      const seen = lane.elm.group.log.commitSeq;
      lane.oak.crash();
      lane.elm.crash();
      lane.elm.start();
      lane.oak.start();
      lane.elm.group.setServing({ writable: false, why: "golden", readable: "head" });
      assert.ok(
        lane.elm.group.log.commitSeq >= (goldenCrashes ? seen : 0),
        `seed ${seed}: O3 over a restart, ${lane.elm.group.log.commitSeq} < ${seen}`,
      );
      lane.meet();
      lane.elm.group.room.thaw();
      lane.oak.serve();
      lane.cursor = lane.from.log.cursorAfter(lane.to.log.headSeq);
    }
  }
  lane.oak.until(() => !lane.move() || lane.overflowed);
  if (lane.overflowed) return;
  for (let tries = 0; tries < 1000 && lane.to.log.commitSeq < lane.from.log.commitSeq; tries++) {
    lane.move();
    lane.to.log.hearCommit(lane.from.log.commitSeq);
    lane.clock.step();
  }
  assert.is(lane.to.log.commitSeq, lane.from.log.commitSeq, `seed ${seed}: the golden side catches up`);
  checkPrefix(lane, history, seed);
}

test("records moved with crashes in between -> the golden image is always a prefix, and catches up", () => {
  for (let seed = 1; seed <= 20; seed++) runLane(seed);
});

test("a run with one bit changed -> corrupt, nothing appended", () => {
  const lane = new Lane(77);
  const tracked = lane.oak.request("write", 0, 8, stamped(1, 8));
  lane.oak.until(() => tracked.done);
  const run = lane.from.log.next(lane.cursor!, lane.from.log.commitSeq, 65536);
  assert.type(run, "object");
  if (typeof run === "string") return;
  for (const at of [5, 13, 30, 45, 130, run.bytes.byteLength - 100]) {
    const bad = run.bytes.slice();
    bad[at]! ^= 0x10;
    const before = lane.to.log.headSeq;
    const outcome = lane.to.log.appendRun(bad);
    assert.ok(outcome.kind === "corrupt" || lane.to.log.headSeq > before, `byte ${at}: ${outcome.kind}`);
    if (outcome.kind !== "corrupt") assert.unreachable("a changed run was taken");
  }
});

test("a run sent twice -> skipped; a run with a hole before it -> gap", () => {
  const lane = new Lane(78);
  for (let stamp = 1; stamp <= 3; stamp++) {
    const tracked = lane.oak.request("write", 8 * stamp, 8, stamped(stamp, 8));
    lane.oak.until(() => tracked.done);
  }
  const first = lane.from.log.next(lane.cursor!, lane.from.log.commitSeq - 1, 1 << 20);
  const last = lane.from.log.next(lane.cursor!, lane.from.log.commitSeq, 1 << 20);
  if (typeof first === "string" || typeof last === "string") return assert.unreachable("there are two runs");
  assert.is(lane.to.log.appendRun(last.bytes).kind, "gap");
  assert.is(lane.to.log.appendRun(first.bytes).kind, "appended");
  const head = lane.to.log.headSeq;
  assert.is(lane.to.log.appendRun(first.bytes).kind, "appended");
  assert.is(lane.to.log.headSeq, head);
  assert.is(lane.to.log.appendRun(last.bytes).kind, "appended");
});

test("two branches from one point -> diverged, both stay", () => {
  const lane = new Lane(79);
  lane.oak.until(() => !lane.move());
  lane.to.log.hearCommit(lane.from.log.commitSeq);
  lane.elm.until(() => lane.elm.group.log.commitSeq === lane.oak.group.log.commitSeq);
  let opened = false;
  lane.elm.group.openForWriting(() => (opened = true));
  lane.elm.until(() => opened);
  const tracked = lane.oak.request("write", 0, 8, stamped(1, 8));
  lane.oak.until(() => tracked.done);
  const run = lane.from.log.next(lane.cursor!, lane.from.log.commitSeq, 1 << 20);
  if (typeof run === "string") return assert.unreachable("there is a run");
  assert.is(lane.to.log.appendRun(run.bytes).kind, "diverged");
});

test("the golden side's pool is full -> it says so, and goes on by itself when there is space again", () => {
  const lane = new Lane(77);
  const { oak, elm } = lane;
  let written = 0;
  const write = () => {
    const tracked = oak.request("write", 128 * written++, 8, stamped(written, 8));
    oak.until(() => tracked.done);
  };
  write();
  while (lane.move()) oak.until(() => lane.to.log.persistedSeq === lane.to.log.headSeq);
  lane.to.log.hearCommit(lane.from.log.commitSeq);
  oak.until(() => lane.to.log.destagedSeq === lane.to.log.headSeq);
  elm.store.chunksLeft = 0;
  write();
  let asked = 0;
  lane.to.log.onRoom(() => {
    asked++;
    lane.move();
  });
  assert.not(lane.move());
  assert.ok(elm.events.some((event) => event.startsWith("pool-full: group demo")));
  elm.store.chunksLeft = 100;
  oak.until(() => lane.to.log.headSeq === lane.from.log.headSeq);
  assert.ok(asked > 0);
});

test.run();
