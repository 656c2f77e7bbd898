/** What a golden copy has heard to be committed, through power losses: a restart never shows less than hosts have read. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { GroupBench } from "./support/group_bench.ts";
import { recordOf } from "./support/log_surgery.ts";
import { PlainCache } from "./support/plain_cache.ts";

const test = suite("log_commit_cells");

/**
 * A flushed medium, one batch at a time, that reads memory while it writes: what is stored to meanwhile arrives half old, half new.
 */
class TearingCache extends PlainCache {
  #waiting: ((outcome: "persisted" | "failed") => void)[] = [];
  #busy = false;

  override persist(done: (outcome: "persisted" | "failed") => void): void {
    this.#waiting.push(done);
    if (!this.#busy) this.#batch();
  }

  #batch(): void {
    const callers = this.#waiting;
    this.#waiting = [];
    this.#busy = true;
    const image = this.memory.slice();
    super.persist((outcome) => {
      const durable = super.content();
      for (let at = 0; at < image.byteLength; at += 64) {
        const before = image.subarray(at, at + 64);
        const now = this.memory.subarray(at, at + 64);
        if (Buffer.compare(before, now) !== 0) durable.set(now.subarray(0, 8), at);
      }
      this.#busy = false;
      for (const done of callers) done(outcome);
      if (this.#waiting.length > 0 && !this.#busy) this.#batch();
    });
  }
}

for (let seed = 1; seed <= 6; seed++) {
  test(`commits are heard while the cache is being written, then the power goes (seed ${seed}) -> what was shown is shown`, () => {
    const bench = new GroupBench(seed, "flush");
    bench.cache = new TearingCache(bench.clock, bench.cache.sizeBytes, "flush");
    bench.start();
    bench.serve();
    const { log } = bench.group;
    bench.group.destager.close();
    log.require("a peer", log.commitSeq);
    const block = new Uint8Array(4096);
    for (let at = 0; at < 120; at++) bench.request("write", 8 * at, 8, block);
    bench.until(() => log.persistedSeq === log.headSeq);
    const base = log.commitSeq;
    assert.ok(log.headSeq >= base + 120);
    log.followPrimary(base);
    const heardMax = 20 + bench.prng.below(90);
    for (let heard = 1; heard <= heardMax; heard++) {
      log.hearCommit(base + heard);
      const turn = bench.prng.below(4);
      if (turn > 1) bench.clock.runDeferred();
      if (turn > 2) bench.clock.step();
    }
    const shown = log.commitSeq;
    bench.crash();
    bench.start();
    assert.ok(bench.group.log.commitSeq >= shown, `${bench.group.log.commitSeq} is shown, and it was ${shown}`);
  });
}

/** A golden copy with records of which it has heard that the primary has committed them all; returns its head. */
function heardToTheHead(bench: GroupBench): number {
  bench.start();
  bench.serve();
  const { log } = bench.group;
  log.require("a peer", log.commitSeq);
  for (let at = 0; at < 3; at++) bench.request("write", 8 * at, 8, new Uint8Array(4096).fill(at + 1));
  bench.until(() => log.persistedSeq === log.headSeq);
  log.followPrimary(log.commitSeq);
  log.hearCommit(log.headSeq);
  bench.until(() => log.commitSeq === log.headSeq);
  let persisted = false;
  bench.nvram.persistAll(() => (persisted = true));
  bench.until(() => persisted);
  return log.headSeq;
}

/** As when the power fails during the batch that carried the record: no more of it has become durable than a commit heard meanwhile. */
function tearNewest(bench: GroupBench, seq: number): void {
  const { at, header } = recordOf(bench.cache.memory, bench.nvram, seq);
  bench.cache.memory.fill(0, at, at + header.totalBytes);
}

test("a golden copy has heard its newest record to be committed, which power loss has torn -> no loss of its cache, the primary sends it again", () => {
  const bench = new GroupBench(7, "flush");
  const head = heardToTheHead(bench);
  bench.group.destager.close();
  bench.crash();
  tearNewest(bench, head);
  bench.start();
  assert.is(bench.group.log.headSeq, head - 1);
  assert.is(bench.group.cacheWasLost, false);
  assert.is(bench.group.log.knownCommitSeq, head - 1, "what is shown ends with what is there");
});

test.run();
