/** Forks: what they hold, what dropping and promoting does, and when space comes back. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { StoredGroup } from "../../firmware/store/stored_group.ts";
import { dataStep, mebibyte, StoreBench, tagOf, zeroStep } from "./support/store_bench.ts";

const test = suite("store_forks");

function benchWithVolume(
  seed: number,
  slots: readonly number[] = [64 * mebibyte],
): { bench: StoreBench; group: StoredGroup } {
  const bench = new StoreBench({ seed, slots });
  const group = bench.create();
  group.createVolume({ number: 1, sizeBytes: 32 * mebibyte });
  return { bench, group };
}

const chunkOf = (tag: number) => new Array<number>(16).fill(tag);
const tagAt = (bench: StoreBench, group: StoredGroup, version: string, block: number): number => {
  const { error, bytes } = bench.read(group, version, 1, block);
  assert.is(error, null, error?.text);
  return tagOf(bytes);
};

test("a block written after a fork -> a chunk for that block alone, and both versions whole", () => {
  const { bench, group } = benchWithVolume(1);
  bench.apply(group, [dataStep(1, 0, chunkOf(5))]);
  group.fork("f", 1);
  assert.is(group.usage().dataBytes, 65536, "a fork takes no data space");
  const writes = bench.shelf.disk(0).medium.pageCount;
  bench.apply(group, [dataStep(1, 3, [6])]);
  assert.is(bench.shelf.disk(0).medium.pageCount - writes, 1, "one block is written, none is copied");
  assert.is(group.usage().dataBytes, 2 * 65536);
  assert.is(tagAt(bench, group, "f", 3), 5);
  assert.is(tagAt(bench, group, "head", 3), 6);
  assert.is(tagAt(bench, group, "head", 4), 5);
});

test("a shared chunk with a base, written again -> at most one base, everything readable", () => {
  const { bench, group } = benchWithVolume(2);
  bench.apply(group, [dataStep(1, 0, chunkOf(1))]);
  for (let round = 0; round < 6; round += 1) {
    group.fork(`f${round}`, round);
    bench.apply(group, [dataStep(1, round * 2, [100 + round])]);
    bench.commit(group);
  }
  for (let round = 0; round < 6; round += 1) {
    for (let block = 0; block < 16; block += 1) {
      const writtenBefore = block % 2 === 0 && block / 2 < round;
      assert.is(tagAt(bench, group, `f${round}`, block), writtenBefore ? 100 + block / 2 : 1);
    }
  }
  for (let block = 0; block < 16; block += 1) {
    assert.is(tagAt(bench, group, "head", block), block % 2 === 0 && block < 12 ? 100 + block / 2 : 1);
  }
});

test("a chunk copied from a damaged base -> the damaged block is a medium error there too, its neighbours are whole", () => {
  const { bench, group } = benchWithVolume(3);
  bench.apply(group, [dataStep(1, 0, chunkOf(1))]);
  group.fork("f0", 0);
  bench.apply(group, [dataStep(1, 0, [2])]);
  group.fork("f1", 1);
  bench.commit(group);
  // The base is the first chunk of the first data slab: found by its content.
  const disk = bench.shelf.disk(0);
  const page = new Uint8Array(4096);
  let damagedAt = -1;
  for (let at = 0; at < disk.medium.sizeBytes && damagedAt < 0; at += 65536) {
    disk.medium.read(at + 5 * 4096, page);
    if (page[0] === 1 && page[4095] === 0) damagedAt = at + 5 * 4096;
  }
  assert.ok(damagedAt > 0);
  disk.flipBit(damagedAt + 100, 3);
  bench.apply(group, [dataStep(1, 1, [3])]);
  const { error } = bench.read(group, "head", 1, 5);
  assert.is(error?.code, "medium-error");
  assert.is(error?.block, 5);
  assert.is(tagAt(bench, group, "head", 4), 1);
  assert.is(tagAt(bench, group, "head", 6), 1);
  const report = bench.scrub(group);
  assert.ok(report.finished);
  assert.equal(new Set(report.damaged.map((found) => found.block)), new Set([5]));
  assert.ok(report.damaged.some((found) => found.version === "head"));
});

test("a fork dropped -> unknown at once; its own space comes back after the commit, shared space stays", () => {
  const { bench, group } = benchWithVolume(4);
  bench.apply(group, [dataStep(1, 0, new Array<number>(320).fill(1))]);
  group.fork("f", 1);
  bench.apply(group, [dataStep(1, 0, new Array<number>(160).fill(2))]);
  bench.commit(group);
  assert.is(group.usage().dataBytes, 30 * 65536);
  group.dropFork("f");
  assert.is(bench.read(group, "f", 1, 0).error?.code, "unknown-version");
  bench.settle(group);
  assert.is(group.usage().dataBytes, 20 * 65536);
  assert.is(tagAt(bench, group, "head", 0), 2);
  assert.is(tagAt(bench, group, "head", 319), 1);
  // What was inherited is the head's own: written in place.
  bench.apply(group, [dataStep(1, 200, [9])]);
  assert.is(group.usage().dataBytes, 20 * 65536);
});

test("a drop that is not committed yet -> a crash brings the fork back whole, whatever the head did meanwhile", () => {
  const { bench, group } = benchWithVolume(5);
  bench.apply(group, [dataStep(1, 0, chunkOf(1))]);
  group.fork("old", 0);
  bench.apply(group, [dataStep(1, 32, chunkOf(3))]);
  group.fork("f", 1);
  // The reaper has work, and would go on with the second fork if it could.
  group.dropFork("old");
  bench.commit(group, "kept");
  group.dropFork("f");
  bench.world.runFor(100);
  bench.apply(group, [dataStep(1, 0, chunkOf(2)), dataStep(1, 32, chunkOf(4))]);
  bench.world.runFor(100);
  // The process dies, so that everything written stays written.
  bench.crash();
  const again = bench.reopen();
  assert.is(again.document(), "kept");
  for (let block = 0; block < 16; block += 1) {
    assert.is(tagAt(bench, again, "f", block), 1);
    assert.is(tagAt(bench, again, "f", 32 + block), 3);
  }
});

test("space freed while nobody writes -> comes back without a commit of the caller's, the document stays", () => {
  const { bench, group } = benchWithVolume(11);
  bench.apply(group, [dataStep(1, 0, new Array<number>(1600).fill(1))]);
  bench.commit(group, "first");
  const free = bench.pool!.usage().freeBytes;
  group.deleteVolume(1);
  bench.commit(group, "second");
  bench.world.runFor(2000);
  assert.ok(bench.pool!.usage().freeBytes >= free + 6 * mebibyte);
  assert.is(group.document(), "second");
  bench.powerLoss();
  const again = bench.reopen();
  assert.is(again.document(), "second");
  assert.is(again.usage().dataBytes, 0);
});

test("a change that is not committed -> is not made durable by the group's own commit", () => {
  const { bench, group } = benchWithVolume(12);
  group.createVolume({ number: 2, sizeBytes: 8 * mebibyte });
  bench.apply(group, [dataStep(1, 0, new Array<number>(1600).fill(1)), dataStep(2, 0, [7])]);
  bench.commit(group, "first");
  group.deleteVolume(1);
  bench.commit(group, "second");
  group.fork("f", 1);
  bench.world.runFor(2000);
  bench.powerLoss();
  assert.equal(bench.reopen().forks(), []);
});

test("promoteFork -> the head is the fork's content, the former head is kept, and both can be written on", () => {
  const { bench, group } = benchWithVolume(6);
  bench.apply(group, [dataStep(1, 0, [1, 1]), dataStep(1, 100, [7])]);
  group.fork("f", 50);
  bench.apply(group, [dataStep(1, 1, [2]), zeroStep(1, 100, 1)]);
  group.promoteFork("f", { id: "was", seq: 60 });
  assert.is(tagAt(bench, group, "head", 1), 1);
  assert.is(tagAt(bench, group, "head", 100), 7);
  bench.apply(group, [dataStep(1, 0, [3])]);
  bench.commit(group);
  bench.crash();
  const again = bench.reopen();
  assert.equal(
    again.forks().map(({ id, seq }) => [id, seq]),
    [
      ["f", 50],
      ["was", 60],
    ],
  );
  assert.equal(
    [0, 1, 100].map((block) => tagAt(bench, again, "head", block)),
    [3, 1, 7],
  );
  assert.equal(
    [0, 1, 100].map((block) => tagAt(bench, again, "was", block)),
    [1, 2, 0],
  );
  assert.equal(
    [0, 1, 100].map((block) => tagAt(bench, again, "f", block)),
    [1, 1, 7],
  );
});

test("promoteFork without keeping the head -> what it alone held comes back", () => {
  const { bench, group } = benchWithVolume(7);
  bench.apply(group, [dataStep(1, 0, chunkOf(1))]);
  group.fork("f", 1);
  bench.apply(group, [dataStep(1, 64, new Array<number>(160).fill(2))]);
  group.promoteFork("f", null);
  bench.settle(group);
  assert.is(group.usage().dataBytes, 65536);
});

test("a dropped fork with two branches -> hidden until one is gone, then given back", () => {
  const { bench, group } = benchWithVolume(8);
  bench.apply(group, [dataStep(1, 0, new Array<number>(160).fill(1))]);
  group.fork("root", 1);
  bench.apply(group, [dataStep(1, 0, chunkOf(2))]);
  group.promoteFork("root", { id: "branch", seq: 2 });
  bench.apply(group, [dataStep(1, 16, chunkOf(3))]);
  group.dropFork("root");
  bench.settle(group);
  assert.equal(
    group.forks().map((fork) => fork.id),
    ["branch"],
  );
  assert.is(tagAt(bench, group, "branch", 16), 1);
  assert.is(tagAt(bench, group, "head", 0), 1);
  group.dropFork("branch");
  bench.settle(group);
  assert.is(group.usage().dataBytes, 10 * 65536);
  assert.is(group.family.nodes.size, 0);
});

test("a volume deleted and a fork that still has it -> the fork reads on, space comes back with the fork", () => {
  const { bench, group } = benchWithVolume(9);
  bench.apply(group, [dataStep(1, 0, new Array<number>(160).fill(1))]);
  group.fork("f", 1);
  group.deleteVolume(1);
  bench.settle(group);
  assert.equal(group.volumes("head"), []);
  assert.is(tagAt(bench, group, "f", 159), 1);
  assert.is(group.usage().dataBytes, 10 * 65536);
  group.dropFork("f");
  bench.settle(group);
  assert.is(group.usage().dataBytes, 0);
});

test("reaping cut short by a crash -> goes on after the reopen, and ends with nothing lost or left", () => {
  const { bench, group } = benchWithVolume(10);
  group.resizeVolume(1, 2 ** 31);
  const steps = Array.from({ length: 60 }, (_, leaf) => dataStep(1, leaf * 768, [leaf + 1]));
  bench.apply(group, steps);
  group.fork("f", 1);
  bench.apply(
    group,
    steps.map((_, leaf) => dataStep(1, leaf * 768, [leaf + 100])),
  );
  group.dropFork("f");
  bench.commit(group, 1);
  bench.world.runFor(4);
  bench.commit(group, 2);
  const cursor = [...group.family.nodes.values()][0]?.cursor;
  assert.ok(cursor && cursor.leaf > 0, "the reaper is somewhere in the middle");
  bench.powerLoss();
  const again = bench.reopen();
  bench.settle(again, 3);
  assert.is(again.usage().dataBytes, 60 * 65536);
  assert.is(again.family.nodes.size, 0);
  assert.is(tagAt(bench, again, "head", 59 * 768), 159);
});

test.run();
