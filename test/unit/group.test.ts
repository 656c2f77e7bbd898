import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { PersistenceDomain } from "../../hal/api/write_cache.ts";
import { GroupBench, sectors, type Tracked } from "./support/group_bench.ts";

const test = suite("group");

/** What each sector may hold: the stamp of the newest acknowledged write, or of any undecided later one. */
function runRandomOperations(seed: number, domain: PersistenceDomain, rounds: number): void {
  const bench = new GroupBench(seed, domain);
  const { prng } = bench;
  const settled = new Array<Set<number>>(sectors).fill(new Set()).map(() => new Set([0]));
  let stamp = 0;
  const stampOf = (bytes: Uint8Array, sector: number) =>
    new DataView(bytes.buffer, bytes.byteOffset).getUint32(sector * 512, true);
  for (let round = 0; round < rounds; round++) {
    bench.start();
    bench.serve();
    const pending: { tracked: Tracked; startLba: number; blockCount: number; stamp: number }[] = [];
    const settle = () => {
      for (const write of [...pending]) {
        if (!write.tracked.done) continue;
        assert.is(write.tracked.error, null);
        pending.splice(pending.indexOf(write), 1);
        for (let at = 0; at < write.blockCount; at++) {
          const may = settled[write.startLba + at]!;
          for (const other of [...may]) if (other < write.stamp || (other === 0 && write.stamp > 0)) may.delete(other);
          may.add(write.stamp);
        }
      }
    };
    const operations = 30 + prng.below(60);
    for (let operation = 0; operation < operations; operation++) {
      const startLba = prng.chance(0.5) ? 8 * prng.below(sectors / 8) : prng.below(sectors);
      const longest = prng.chance(0.2) ? sectors : 24;
      const blockCount = 1 + prng.below(Math.min(longest, sectors - startLba));
      const kind = prng.below(10);
      const overlaps = pending.some(
        (one) => one.startLba < startLba + blockCount && startLba < one.startLba + one.blockCount,
      );
      if (kind < 7 && !overlaps) {
        const zero = kind === 6;
        const now = zero ? 0 : ++stamp;
        const payload = zero ? null : new Uint8Array(blockCount * 512);
        if (payload !== null)
          for (let at = 0; at < blockCount; at++) new DataView(payload.buffer).setUint32(at * 512, now, true);
        const tracked = bench.request(
          zero ? (prng.chance(0.5) ? "zero" : "unmap") : "write",
          startLba,
          blockCount,
          payload,
        );
        if (zero) {
          // Zeros carry no stamp to order by: waited for.
          bench.until(() => tracked.done);
          settle();
          for (let at = 0; at < blockCount; at++) settled[startLba + at] = new Set([0]);
        } else {
          for (let at = 0; at < blockCount; at++) settled[startLba + at]!.add(now);
          pending.push({ tracked, startLba, blockCount, stamp: now });
        }
      } else if (kind >= 7) {
        const tracked = bench.request("read", startLba, blockCount, null);
        bench.until(() => tracked.done);
        assert.is(tracked.error, null);
        for (let at = 0; at < blockCount; at++) {
          const found = stampOf(tracked.target, at);
          assert.ok(
            settled[startLba + at]!.has(found),
            `seed ${seed}: sector ${startLba + at} holds ${found}, may hold ${[...settled[startLba + at]!]}`,
          );
        }
      }
      for (let steps = prng.below(4); steps > 0; steps--) bench.clock.step();
      settle();
    }
    if (prng.chance(0.3)) bench.until(() => pending.every((one) => one.tracked.done));
    settle();
    bench.crash();
  }
  bench.start();
  bench.serve();
  const whole = bench.request("read", 0, sectors, null);
  bench.until(() => whole.done);
  for (let sector = 0; sector < sectors; sector++) {
    const found = stampOf(whole.target, sector);
    assert.ok(
      settled[sector]!.has(found),
      `seed ${seed}: at the end sector ${sector} holds ${found}, may hold ${[...settled[sector]!]}`,
    );
  }
}

for (const domain of ["battery", "flush"] as const) {
  test(`random operations and crashes, ${domain} domain -> every acknowledged write is there, nothing else`, () => {
    for (let seed = 1; seed <= 12; seed++) runRandomOperations(seed, domain, 6);
  });
}

test("a fork's root cannot be saved -> the fork fails, and status shows that the shelf is in trouble", () => {
  const bench = new GroupBench(21, "battery");
  bench.start();
  bench.serve();
  let drained = false;
  bench.group.destager.drain(() => (drained = true));
  bench.until(() => drained);
  assert.is(bench.group.shelfTrouble, null);
  bench.store.failure = { code: "disk-failed", text: "no answer" };
  let failed: string | null = null;
  bench.group.forkHere("kept-1", (error) => (failed = error?.text ?? "no error"));
  bench.until(() => failed !== null);
  assert.is(failed, "no answer");
  assert.is(bench.group.shelfTrouble, "no answer");
});

test.run();
