/** One group of the store on healthy disks: apply, commit, read, extents, reopen, log slots. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { LogSlot } from "../../firmware/store/store.ts";
import { blockBytes, dataStep, groupId, mebibyte, StoreBench, tagOf, zeroStep } from "./support/store_bench.ts";

const test = suite("store_group");

test("a new pool and group -> reopened, the document and the volumes are there", () => {
  const bench = new StoreBench({ seed: 1 });
  const group = bench.create({ seq: 0 });
  group.createVolume({ number: 1, sizeBytes: 8 * mebibyte });
  group.createVolume({ number: 2, sizeBytes: mebibyte + 512 });
  bench.commit(group, { seq: 7, lineage: ["a", 2 ** 40] });
  bench.crash();
  const again = bench.reopen();
  assert.equal(again.document(), { seq: 7, lineage: ["a", 2 ** 40] });
  assert.equal(again.volumes("head"), [
    { number: 1, sizeBytes: 8 * mebibyte },
    { number: 2, sizeBytes: mebibyte + 512 },
  ]);
  assert.equal(bench.pool!.groupIds(), [groupId]);
});

test("blocks applied and committed -> read back after a reopen; the rest is zeros", () => {
  const bench = new StoreBench({ seed: 2 });
  const group = bench.create();
  group.createVolume({ number: 1, sizeBytes: 16 * mebibyte });
  bench.apply(group, [dataStep(1, 5, [11, 12, 13]), dataStep(1, 2000, [99]), dataStep(1, 14, [1, 2, 3, 4, 5])]);
  bench.commit(group, 1);
  bench.crash();
  const again = bench.reopen();
  const { error, bytes } = bench.read(again, "head", 1, 0, 24);
  assert.is(error, null);
  const tags = Array.from({ length: 24 }, (_, block) => tagOf(bytes, block));
  assert.equal(tags, [0, 0, 0, 0, 0, 11, 12, 13, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 0, 0, 0, 0, 0]);
  assert.is(tagOf(bench.read(again, "head", 1, 2000).bytes), 99);
  assert.is(tagOf(bench.read(again, "head", 1, 4095).bytes), 0);
});

test("tryRead -> right or refused, and right at last once everything is in memory", () => {
  const bench = new StoreBench({ seed: 3 });
  const group = bench.create();
  group.createVolume({ number: 1, sizeBytes: 4 * mebibyte });
  bench.apply(group, [
    dataStep(
      1,
      0,
      Array.from({ length: 100 }, (_, index) => index + 1),
    ),
  ]);
  bench.shelf.disk(0).faults.tryReadRate = 1;
  const target = new Uint8Array(100 * blockBytes);
  assert.ok(group.tryRead("head", 1, 0, target));
  for (let block = 0; block < 100; block += 1) assert.is(tagOf(target, block), block + 1);
  bench.shelf.disk(0).faults.tryReadRate = 0;
  assert.not.ok(group.tryRead("head", 1, 0, target));
  assert.ok(group.tryRead("head", 1, 200, target), "holes need no disk");
});

test("extents -> data and holes alternate, adjoin, and respect the limit", () => {
  const bench = new StoreBench({ seed: 4 });
  const group = bench.create();
  group.createVolume({ number: 1, sizeBytes: 64 * mebibyte });
  bench.apply(group, [dataStep(1, 3, [1, 2]), dataStep(1, 9000, [3])]);
  const extents = (limit: number) =>
    bench.wait<readonly unknown[]>((done) =>
      group.extents("head", 1, { firstBlock: 0, blockCount: 16384, limit }, (error, found) => {
        assert.is(error, null);
        done(found);
      }),
    );
  assert.equal(extents(100), [
    { firstBlock: 0, blockCount: 3, allocated: false },
    { firstBlock: 3, blockCount: 2, allocated: true },
    { firstBlock: 5, blockCount: 8995, allocated: false },
    { firstBlock: 9000, blockCount: 1, allocated: true },
    { firstBlock: 9001, blockCount: 7383, allocated: false },
  ]);
  assert.is(extents(2).length, 2);
});

test("zero steps -> take the space back, at once in the map and after the commit in the pool", () => {
  const bench = new StoreBench({ seed: 5 });
  const group = bench.create();
  group.createVolume({ number: 1, sizeBytes: 32 * mebibyte });
  const free = () => bench.pool!.usage().freeBytes;
  bench.commit(group);
  const before = free();
  bench.apply(group, [dataStep(1, 0, new Array<number>(2048).fill(5))]);
  bench.commit(group);
  assert.is(group.usage().dataBytes, 8 * mebibyte);
  bench.apply(group, [zeroStep(1, 8, 2032)]);
  assert.is(group.usage().dataBytes, 2 * 65536);
  assert.is(tagOf(bench.read(group, "head", 1, 7).bytes), 5);
  assert.is(tagOf(bench.read(group, "head", 1, 8).bytes), 0);
  assert.is(tagOf(bench.read(group, "head", 1, 2040).bytes), 5);
  bench.apply(group, [zeroStep(1, 0, 8192)]);
  assert.is(group.usage().dataBytes, 0);
  bench.commit(group);
  bench.commit(group);
  assert.is(free(), before - mebibyte, "one slab holds the pages of the bitmaps");
});

test("a write within a hole of TiBs -> costs one chunk and the pages above it", () => {
  const bench = new StoreBench({ seed: 6 });
  const group = bench.create();
  group.createVolume({ number: 1, sizeBytes: 2 ** 42 });
  const block = 2 ** 30 - 1;
  bench.apply(group, [dataStep(1, block, [77]), zeroStep(1, 0, 2 ** 29)]);
  bench.commit(group);
  assert.is(group.usage().dataBytes, 65536);
  bench.crash();
  assert.is(tagOf(bench.read(bench.reopen(), "head", 1, block).bytes), 77);
});

test("a volume grown beyond its tree -> keeps its data and takes more", () => {
  const bench = new StoreBench({ seed: 7 });
  const group = bench.create();
  group.createVolume({ number: 1, sizeBytes: 4096 });
  bench.apply(group, [dataStep(1, 0, [1])]);
  bench.commit(group);
  group.resizeVolume(1, 8 * 2 ** 30);
  bench.apply(group, [dataStep(1, 2 ** 21 - 1, [2])]);
  group.resizeVolume(1, 8 * 2 ** 40);
  bench.apply(group, [dataStep(1, 2 ** 31 - 1, [3])]);
  bench.commit(group);
  bench.crash();
  const again = bench.reopen();
  assert.is(tagOf(bench.read(again, "head", 1, 0).bytes), 1);
  assert.is(tagOf(bench.read(again, "head", 1, 2 ** 21 - 1).bytes), 2);
  assert.is(tagOf(bench.read(again, "head", 1, 2 ** 31 - 1).bytes), 3);
});

test("more pages than the cache holds -> paged out and in, all readable", () => {
  const bench = new StoreBench({ seed: 8, mapCacheBytes: mebibyte, slots: [256 * mebibyte] });
  const group = bench.create();
  group.createVolume({ number: 1, sizeBytes: 2 ** 40 });
  // 600 leaves, each 3 MiB apart, in batches: more than the 256 slots of the cache.
  for (let batch = 0; batch < 6; batch += 1) {
    const steps = Array.from({ length: 100 }, (_, index) =>
      dataStep(1, (batch * 100 + index) * 768, [batch * 100 + index + 1]),
    );
    bench.apply(group, steps);
    bench.commit(group, batch);
  }
  assert.ok(group.trees.cache.sizeBytes <= mebibyte);
  for (let leaf = 0; leaf < 600; leaf += 7) assert.is(tagOf(bench.read(group, "head", 1, leaf * 768).bytes), leaf + 1);
  // All of them in one apply: dirty pages may go beyond the bound, and the memory comes back.
  bench.apply(
    group,
    Array.from({ length: 600 }, (_, leaf) => dataStep(1, leaf * 768 + 1, [leaf + 5000])),
  );
  assert.ok(group.trees.cache.sizeBytes > mebibyte);
  assert.ok(group.wantsCommit());
  bench.commit(group);
  assert.ok(group.trees.cache.sizeBytes <= mebibyte);
  for (let leaf = 0; leaf < 600; leaf += 7) {
    assert.is(tagOf(bench.read(group, "head", 1, leaf * 768 + 1).bytes), leaf + 5000);
    assert.is(tagOf(bench.read(group, "head", 1, leaf * 768).bytes), leaf + 1);
  }
});

test("a flush of log slots is called while another is under way -> it ends when all that was written before it is durable", () => {
  for (let seed = 1; seed <= 20; seed++) {
    const bench = new StoreBench({ seed: 100 + seed });
    const group = bench.create();
    const slot = bench.allocateLogSlot(group)!;
    const payload = new Uint8Array(8192).fill(7);
    assert.is(
      bench.wait((done) => group.writeLogSlot(slot, 0, [payload], done)),
      null,
    );
    group.flushLog(() => {});
    assert.is(
      bench.wait((done) => group.flushLog(done)),
      null,
    );
    bench.powerLoss();
    const target = new Uint8Array(8192);
    const again = bench.reopen();
    assert.is(
      bench.wait((done) => again.readLogSlot(slot, 0, target, done)),
      null,
    );
    assert.equal(target, payload, `seed ${100 + seed}`);
  }
});

test("log slots -> durable before they are handed out, all there after a reopen, slabs given back", () => {
  const bench = new StoreBench({ seed: 9 });
  const group = bench.create();
  const free = bench.pool!.usage().freeBytes;
  const slots = Array.from({ length: 9 }, () => bench.allocateLogSlot(group)!);
  assert.is(new Set(slots.map((slot) => slot.index)).size, 9);
  assert.is(bench.pool!.usage().freeBytes, free - 3 * mebibyte);
  const payload = new Uint8Array(8192).fill(3);
  const write = bench.wait((done) => group.writeLogSlot(slots[5]!, 4096, [payload], done));
  assert.is(write, null);
  assert.is(
    bench.wait((done) => group.flushLog(done)),
    null,
  );
  bench.powerLoss();
  const again = bench.reopen();
  const kept = again.logSlots();
  assert.is(kept.length, 12);
  for (const slot of slots) assert.ok(kept.some((other) => other.index === slot.index));
  const target = new Uint8Array(8192);
  assert.is(
    bench.wait((done) => again.readLogSlot(slots[5]!, 4096, target, done)),
    null,
  );
  assert.equal(target, payload);
  again.freeLogSlot(kept[0]!);
  assert.equal(again.logSlots(), kept.slice(1), "what has been freed is not found by another recovery");
  for (const slot of kept.slice(1)) again.freeLogSlot(slot);
  assert.is(bench.pool!.usage().freeBytes, free - mebibyte, "one slab is kept");
});

test("the log expects slots -> nothing else gets them: no reservation, no spill, no other group", () => {
  const bench = new StoreBench({ seed: 11, slots: [16 * mebibyte] });
  const group = bench.create();
  group.createVolume({ number: 1, sizeBytes: 64 * mebibyte });
  bench.commit(group);
  const other = bench.createGroup("f".repeat(32), 0);
  assert.ok(group.expectLogSlots(7));
  let reserved = 0;
  while (group.reserveChunks(1)) reserved += 1;
  while (other.reserveChunks(1));
  assert.is(bench.allocateLogSlot(other), null);
  assert.is(bench.pool!.usage().spareBytes, 0);
  const spare = () => bench.wait<LogSlot | null>((done) => group.allocateSpareLogSlot(done));
  assert.ok(spare(), "two slabs hold one more than is expected");
  assert.is(spare(), null);
  for (let slot = 0; slot < 7; slot += 1) assert.ok(bench.allocateLogSlot(group), `slot ${slot}`);
  assert.is(bench.allocateLogSlot(group), null, "the rest is promised to data");
  const tags = new Array<number>(16).fill(8);
  for (let chunk = 0; chunk < reserved; chunk += 1) bench.apply(group, [dataStep(1, chunk * 16, tags)]);
  assert.is(group.reserveChunks(32), false);
});

test("the pool has not got what the log expects -> nothing more is reserved; what was reserved is there", () => {
  const bench = new StoreBench({ seed: 12, slots: [16 * mebibyte] });
  const group = bench.create();
  group.createVolume({ number: 1, sizeBytes: 64 * mebibyte });
  bench.commit(group);
  let reserved = 0;
  while (group.reserveChunks(1)) reserved += 1;
  group.releaseChunks(1);
  reserved -= 1;
  assert.not(group.expectLogSlots(1));
  assert.not(group.reserveChunks(1));
  const tags = new Array<number>(16).fill(9);
  for (let chunk = 0; chunk < reserved; chunk += 1) bench.apply(group, [dataStep(1, chunk * 16, tags)]);
  bench.commit(group);
  group.releaseChunks(reserved);
  group.deleteVolume(1);
  bench.settle(group);
  assert.ok(group.reserveChunks(1), "the log has got its slab, and there is more");
  assert.ok(bench.allocateLogSlot(group));
});

test("a pool that is full -> no-space for reservations and applies; what was there stays; space comes back", () => {
  const bench = new StoreBench({ seed: 10, slots: [16 * mebibyte] });
  const group = bench.create();
  group.createVolume({ number: 1, sizeBytes: 64 * mebibyte });
  bench.commit(group);
  let reserved = 0;
  while (group.reserveChunks(1)) reserved += 1;
  assert.ok(reserved > 100 && reserved < 240, `${reserved} chunks of a 16 MiB disk`);
  const tags = new Array<number>(16).fill(8);
  for (let chunk = 0; chunk < reserved; chunk += 1) {
    bench.apply(group, [dataStep(1, chunk * 16, tags)]);
    group.releaseChunks(1);
    if (chunk % 10 === 9) bench.commit(group, chunk);
  }
  assert.not.ok(group.reserveChunks(16));
  let error = null;
  for (let chunk = reserved; !error && chunk < 1024; chunk += 1)
    error = bench.tryApply(group, [dataStep(1, chunk * 16, tags)]);
  assert.is(error?.code, "no-space");
  bench.commit(group);
  assert.is(tagOf(bench.read(group, "head", 1, (reserved - 1) * 16 + 15).bytes), 8);
  bench.apply(group, [zeroStep(1, 0, reserved * 16)]);
  bench.commit(group);
  assert.ok(group.reserveChunks(16));
});

test("reserved chunks -> every apply within the reservation succeeds on a pool that is otherwise full", () => {
  const bench = new StoreBench({ seed: 11, slots: [24 * mebibyte] });
  const group = bench.create();
  const other = bench.createGroup("ff".repeat(16), 0);
  group.createVolume({ number: 1, sizeBytes: 1024 * mebibyte });
  other.createVolume({ number: 1, sizeBytes: 1024 * mebibyte });
  assert.ok(group.reserveChunks(64));
  for (let chunk = 0; chunk < 4000; chunk += 1) if (bench.tryApply(other, [dataStep(1, chunk * 16, [1])])) break;
  // Each chunk in a leaf of its own.
  for (let count = 0; count < 64; count += 1) bench.apply(group, [dataStep(1, count * 768 * 5, [count + 1])]);
  bench.commit(group, 1);
  group.releaseChunks(64);
  for (let count = 0; count < 64; count += 1)
    assert.is(tagOf(bench.read(group, "head", 1, count * 768 * 5).bytes), count + 1);
});

test("chunksNeeded -> null while the map is not in memory; new and shared chunks count", () => {
  const bench = new StoreBench({ seed: 12 });
  const group = bench.create();
  group.createVolume({ number: 1, sizeBytes: 64 * mebibyte });
  assert.is(group.chunksNeeded(1, 0, 33), 3);
  bench.apply(group, [dataStep(1, 16, [1])]);
  assert.is(group.chunksNeeded(1, 0, 48), 2);
  group.fork("f", 1);
  assert.is(group.chunksNeeded(1, 0, 48), 3);
  bench.commit(group);
  bench.crash();
  const again = bench.reopen();
  assert.is(again.chunksNeeded(1, 0, 48), null);
  assert.is(
    bench.wait((done) => again.loadMap(1, 0, 48, done)),
    null,
  );
  assert.is(again.chunksNeeded(1, 0, 48), 3);
});

test("a group removed -> everything goes back to the pool, and the name is free", () => {
  const bench = new StoreBench({ seed: 13 });
  bench.open();
  const free = bench.pool!.usage().freeBytes;
  const group = bench.createGroup(groupId, 1);
  group.createVolume({ number: 1, sizeBytes: 8 * mebibyte });
  bench.apply(group, [dataStep(1, 0, new Array<number>(300).fill(4))]);
  bench.commit(group, 2);
  bench.allocateLogSlot(group);
  assert.is(
    bench.wait((done) => bench.pool!.removeGroup(groupId, done)),
    null,
  );
  assert.is(bench.pool!.usage().freeBytes, free);
  const again = bench.createGroup(groupId, "new");
  assert.is(again.document(), "new");
  assert.equal(again.volumes("head"), []);
  bench.crash();
  assert.is(bench.reopen().document(), "new");
});

test("a document too large for the root -> refused, the group goes on", () => {
  const bench = new StoreBench({ seed: 14 });
  const group = bench.create("small");
  const error = bench.tryCommit(group, "x".repeat(200_000));
  assert.is(error?.code, "no-space");
  bench.commit(group, "still small");
  bench.crash();
  assert.is(bench.reopen().document(), "still small");
});

test("a chunk freed while it is being read -> not reused before the read has ended", () => {
  const bench = new StoreBench({ seed: 15 });
  const group = bench.create();
  group.createVolume({ number: 1, sizeBytes: 8 * mebibyte });
  bench.apply(group, [dataStep(1, 0, [1, 2])]);
  bench.commit(group);
  const { faults } = bench.shelf.disk(0);
  faults.readMs = 10_000;
  const target = new Uint8Array(8192);
  let ended = false;
  group.read("head", 1, 0, target, (error) => {
    assert.is(error, null);
    ended = true;
  });
  faults.readMs = 0.08;
  bench.apply(group, [zeroStep(1, 0, 16)]);
  bench.commit(group);
  assert.not.ok(ended);
  assert.is(group.allocator.data.heldCount, 1);
  bench.apply(group, [dataStep(1, 64, [3])]);
  bench.world.runUntil(() => ended, 600_000);
  assert.is(tagOf(target, 1), 2, "what was there when the read began");
  assert.is(group.allocator.data.heldCount, 0);
});

test("reads while the same blocks are applied again and again -> old or new, never an error or a mixture", () => {
  const bench = new StoreBench({ seed: 16 });
  const group = bench.create();
  group.createVolume({ number: 1, sizeBytes: 8 * mebibyte });
  bench.apply(group, [dataStep(1, 0, new Array<number>(64).fill(1))]);
  let round = 1;
  const applyNext = () => {
    round += 1;
    if (round <= 60) group.apply([dataStep(1, 0, new Array<number>(64).fill(round))], applyNext);
  };
  let reads = 0;
  const newest = new Array<number>(64).fill(0);
  const readNext = () => {
    const target = new Uint8Array(64 * blockBytes);
    group.read("head", 1, 0, target, (error) => {
      assert.is(error, null, error?.text);
      for (let block = 0; block < 64; block += 1) {
        const tag = tagOf(target, block);
        assert.ok(tag >= newest[block]!, "never backwards");
        newest[block] = tag;
      }
      reads += 1;
      if (round <= 60) readNext();
    });
  };
  applyNext();
  readNext();
  bench.world.runUntil(() => round > 60, 600_000);
  assert.ok(reads > 5);
});

test("fresh steps -> what was there stays readable through a crash before the commit, also when they come again and again", () => {
  const bench = new StoreBench({ seed: 20 });
  let group = bench.create();
  group.createVolume({ number: 1, sizeBytes: 8 * mebibyte });
  const tags = Array.from({ length: 16 }, (_, block) => block + 1);
  bench.apply(group, [dataStep(1, 0, tags)]);
  bench.commit(group, 0);
  for (let round = 1; round <= 40; round += 1) {
    const block = (round * 5) % 16;
    const step = { ...dataStep(1, block, [1000 + round]), fresh: true };
    bench.apply(group, [step]);
    bench.powerLoss();
    group = bench.reopen();
    for (let at = 0; at < 16; at += 1)
      assert.is(tagOf(bench.read(group, "head", 1, at).bytes), tags[at], `round ${round}`);
    bench.apply(group, [step]);
    bench.commit(group, round);
    tags[block] = 1000 + round;
  }
  for (let at = 0; at < 16; at += 1) assert.is(tagOf(bench.read(group, "head", 1, at).bytes), tags[at]);
  assert.ok(group.usage().dataBytes <= 2 * 65536);
  bench.apply(group, [dataStep(1, 0, tags)]);
  bench.commit(group, 99);
  assert.is(group.usage().dataBytes, 65536);
});

test("a disk missing -> blocks on it are written anew elsewhere, the rest of their chunk stays an error", () => {
  const bench = new StoreBench({ seed: 17, slots: [64 * mebibyte, 64 * mebibyte] });
  const group = bench.create();
  group.createVolume({ number: 1, sizeBytes: 32 * mebibyte });
  for (let at = 0; at < 4096; at += 256) bench.apply(group, [dataStep(1, at, new Array<number>(256).fill(3))]);
  bench.commit(group);
  bench.crash();
  // The maps' slab may lie on either disk: the one without it is pulled.
  const page = new Uint8Array(4096);
  const hasLeaf = (slot: number) => {
    const { medium } = bench.shelf.disk(slot);
    for (let at = 0; at < medium.sizeBytes; at += 4096) {
      medium.read(at, page);
      if (new Uint32Array(page.buffer)[1] === 0x4c4d4347) return true;
    }
    return false;
  };
  bench.shelf.pull(hasLeaf(0) ? 1 : 0);
  const again = bench.reopen();
  const lost = Array.from({ length: 256 }, (_, chunk) => chunk).filter(
    (chunk) => bench.read(again, "head", 1, chunk * 16).error !== null,
  );
  assert.ok(lost.length > 0 && lost.length < 256);
  bench.apply(
    again,
    lost.map((chunk) => dataStep(1, chunk * 16 + 4, [100 + chunk])),
  );
  bench.commit(again, 5);
  for (const chunk of lost) {
    assert.is(tagOf(bench.read(again, "head", 1, chunk * 16 + 4).bytes), 100 + chunk);
    assert.is(bench.read(again, "head", 1, chunk * 16 + 5).error?.code, "disk-failed");
  }
  bench.apply(again, [zeroStep(1, 0, 8192)]);
  bench.commit(again, 6);
  assert.is(again.usage().dataBytes, 0);
});

test("a group removed while it gives space back by itself -> everything goes back to the pool", () => {
  for (let waitMs = 0; waitMs < 12; waitMs += 1) {
    const bench = new StoreBench({ seed: 30 + waitMs });
    const group = bench.create();
    group.createVolume({ number: 1, sizeBytes: 8 * mebibyte });
    bench.apply(group, [dataStep(1, 0, new Array<number>(640).fill(1))]);
    bench.commit(group, 1);
    group.deleteVolume(1);
    bench.commit(group, 2);
    bench.world.runFor(waitMs * 0.5);
    assert.is(
      bench.wait((done) => bench.pool!.removeGroup(groupId, done)),
      null,
    );
    assert.is(bench.pool!.usage().freeBytes, bench.pool!.usage().totalBytes);
  }
});

test("a group removed while it is being read -> the read ends, the pool is whole", () => {
  const bench = new StoreBench({ seed: 18 });
  const group = bench.create();
  group.createVolume({ number: 1, sizeBytes: 8 * mebibyte });
  bench.apply(group, [dataStep(1, 0, [1, 2])]);
  bench.commit(group);
  bench.shelf.disk(0).faults.readMs = 1000;
  let ended = false;
  group.read("head", 1, 0, new Uint8Array(8192), () => {
    ended = true;
  });
  bench.apply(group, [zeroStep(1, 0, 16)]);
  bench.commit(group);
  assert.is(
    bench.wait((done) => bench.pool!.removeGroup(groupId, done)),
    null,
  );
  bench.world.runUntil(() => ended, 600_000);
  assert.is(bench.pool!.usage().freeBytes, bench.pool!.usage().totalBytes);
});

test.run();
