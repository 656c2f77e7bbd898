/**
 * The write cache is given up while its data was being moved home, in place and under the old checksums: what is neither the old nor
 * known to be the new content is a medium error, wherever it is read, until it is written again.
 */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { ShelfBench } from "./support/shelf_bench.ts";

const test = suite("manage_cache_loss");

test("the cache is lost between the data of a batch and its root -> old content or a medium error, never the new", () => {
  const bench = new ShelfBench(1);
  assert.is(bench.start(), null);
  bench.create();
  bench.fill(1);
  const former = bench.appliance.nvram.image();
  bench.appliance.crash();
  assert.is(bench.start(), null);
  const { group } = bench.groups.find("demo")!;
  // The data is on the disks, and then no flush comes about: the root stays what it was.
  for (const slot of [0, 1, 2]) bench.shelf.disk(slot).failNext("flush");
  const { destagedSeq } = group.log;
  bench.write(2, 1);
  bench.until(() => group.shelfTrouble !== null);
  assert.is(group.log.destagedSeq, destagedSeq, "nothing is at home yet");
  bench.appliance.crash();
  for (const slot of [0, 1, 2]) bench.shelf.disk(slot).forgetMarked();
  bench.appliance.nvram.restore(former);
  assert.match(bench.start() ?? "", /--accept-cache-loss/);
  assert.is(bench.start({ acceptCacheLoss: true }), null);
  assert.is(bench.groups.find("demo")!.group.serving().readable, null);
  const served = bench.answer(bench.control.groups.serveAlone("demo", { timeoutMs: 10_000 }));
  assert.ok(served.ok);
  assert.equal([...bench.values()].sort(), [-1, 1]);
  const report = bench.answer(bench.control.scrub(bench.control.pools()[0]!.name));
  assert.ok(report.ok && !report.value.intact && report.value.damaged[0]?.volume === "demo", "a scrub names them");
  bench.fill(3);
  assert.equal([...bench.values()], [3]);
});

test("the operator's word for a start -> a group that is taken up later does not lose by it what only the cache holds", () => {
  const bench = new ShelfBench(2);
  assert.is(bench.start({ acceptCacheLoss: true }), null);
  bench.create();
  bench.fill(1);
  bench.write(2, 1);
  const entry = bench.groups.find("demo")!;
  const { id } = entry.group;
  let isGone = false;
  void bench.groups.letGo(entry).then(() => {
    isGone = true;
  });
  bench.until(() => isGone);
  const taken = bench.answer(bench.groups.takeUp(id, true));
  assert.match(taken.ok ? "" : taken.error.text, /had writes that only the former one holds/);
});

test.run();
