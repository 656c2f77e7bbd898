/** A disk has missed writes: it is never used unasked; on the operator's word it is, and what it has missed is never served as data. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { ShelfBench } from "./support/shelf_bench.ts";

const test = suite("manage_stale_disk");
const word = { acceptStaleDisk: true };

/** `demo` was full of 1, and is full of 2; the disks in `slots` are as they were in between. */
function withStale(seed: number, slots: readonly number[]): ShelfBench {
  const bench = new ShelfBench(seed);
  assert.is(bench.start(), null);
  bench.create();
  bench.fill(1);
  bench.appliance.crash();
  const images = slots.map((slot) => bench.image(slot));
  assert.is(bench.start(), null);
  bench.fill(2);
  bench.appliance.crash();
  for (const [index, slot] of slots.entries()) bench.shelf.disk(slot).medium.restore(images[index]!);
  return bench;
}

test("a stale disk, and no word of the operator -> refused as often as it is started, with the command; nothing is changed", () => {
  const bench = withStale(1, [2]);
  const before = [0, 1, 2].map((slot) => bench.image(slot));
  for (let round = 0; round < 3; round++) {
    const text = bench.start() ?? "";
    assert.match(text, /shelf0\/2 is stale \(last used at opening \d+, the pool is at \d+\)/);
    assert.match(text, /start once with --accept-stale-disk/);
  }
  // A page's buffer is never changed: a write makes another one.
  for (const [slot, { pages }] of before.entries())
    for (const [page, bytes] of bench.image(slot).pages)
      assert.ok(pages.get(page) === bytes, `page ${page} of ${slot}`);
});

test("on the operator's word -> started; nothing is shown until he goes on without what is missing, which is a medium error", () => {
  const bench = withStale(2, [2]);
  assert.is(bench.start(word), null);
  assert.ok(bench.events.some((event) => event.startsWith("disk-stale: shelf0/2: ")));
  const status = () => bench.groups.find("demo")!.replication.status();
  assert.is(bench.groups.find("demo")!.group.serving().readable, null);
  assert.is(status().state, "inconsistent");
  bench.appliance.crash();
  assert.is(bench.start(), null, "the word is needed once");
  assert.is(status().state, "inconsistent", "a restart makes nothing of it good");
  const served = bench.answer(bench.control.groups.serveAlone("demo", { timeoutMs: 10_000 }));
  assert.ok(served.ok, served.ok ? "" : served.error.text);
  assert.equal([...bench.values()].sort(), [-1, 2], "never what it was before");
  bench.fill(3);
  assert.equal([...bench.values()], [3]);
});

test("the appliance dies at any point of that start -> the disk is stale as before, or the image is known to lack something", () => {
  for (let round = 0; round < 16; round++) {
    const bench = withStale(3 + round, [2]);
    const outcome = bench.start(word, 2 + round * 0.6);
    if (outcome === null) continue;
    assert.is(outcome, "died");
    const again = bench.start();
    if (again !== null) assert.match(again, /--accept-stale-disk/);
    else assert.is(bench.groups.find("demo")!.replication.status().state, "inconsistent");
  }
});

test("all disks with the pool's metadata are stale -> refused, whatever the word", () => {
  const bench = withStale(50, [0, 1]);
  for (const given of [{}, word]) assert.match(bench.start(given) ?? "", /up to date/);
});

test("a group's bitmaps were on the stale disk -> it alone is left out, and can be given up for what its peer has", () => {
  const bench = withStale(60, [0]);
  assert.is(bench.start(word), null);
  const damaged = () => bench.groups.damaged;
  assert.is(damaged().length, 1);
  assert.is(bench.groups.find("demo"), null);
  const text = bench.control.status().warnings.find(({ code }) => code === "group-damaged")?.text ?? "";
  assert.match(text, /goldcopy group delete [0-9a-f]{32}$/);
  bench.appliance.crash();
  assert.is(bench.start(), null, "the word is needed once");
  assert.is(damaged().length, 1);
  assert.ok(bench.answer(bench.control.groups.delete(damaged()[0]!.id)).ok);
  bench.create();
  bench.fill(4);
  assert.equal([...bench.values()], [4]);
});

test.run();
