/** Opening a pool: every state that a disk can be found in, torn metadata, lost disks. Nothing that is not ours is overwritten. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { superblockOffset } from "../../firmware/store/geometry.ts";
import { pageChecksum } from "../../firmware/store/page_seal.ts";
import type { MockDisk } from "../../hal/mock/disk.ts";
import { mockDigests } from "../../hal/mock/runtime.ts";
import { dataStep, groupId, mebibyte, StoreBench, tagOf } from "./support/store_bench.ts";

const test = suite("store_disks");

const states = (bench: StoreBench) => bench.pool!.disks().map(({ place, state }) => [place, state]);

/** A digest of everything on a disk: to show that it was left alone. */
function imageOf(disk: MockDisk): string {
  const bytes = new Uint8Array(4 * mebibyte);
  disk.medium.read(0, bytes);
  return Buffer.from(mockDigests.sha256(bytes)).toString("hex");
}

function fill(disk: MockDisk, offsetBytes: number, lengthBytes: number, byte: number): void {
  const first = offsetBytes - (offsetBytes % 4096);
  const bytes = new Uint8Array(Math.ceil((offsetBytes + lengthBytes - first) / 4096) * 4096);
  disk.medium.read(first, bytes);
  bytes.fill(byte, offsetBytes - first, offsetBytes - first + lengthBytes);
  disk.medium.write(first, bytes, "test");
  disk.settle();
}

/** Rewrites words of a superblock copy, with a right checksum. */
function patch(disk: MockDisk, copy: number, change: (words: Uint32Array) => void): void {
  const page = new Uint8Array(4096);
  disk.medium.read(superblockOffset(copy), page);
  const words = new Uint32Array(page.buffer);
  change(words);
  words[0] = pageChecksum(page, mockDigests);
  disk.medium.write(superblockOffset(copy), page, "test");
  disk.settle();
}

test("blank disks, not asked to create -> blank, and still blank afterwards", () => {
  const bench = new StoreBench({ seed: 1, slots: [32 * mebibyte, 32 * mebibyte] });
  const result = bench.tryOpen(false);
  assert.not.ok(result.ok);
  assert.is(!result.ok && result.code, "blank");
  assert.is(bench.shelf.disk(0).medium.pageCount, 0);
});

test("no disk at all -> missing-disk", () => {
  const bench = new StoreBench({ seed: 2, slots: [null] });
  const result = bench.tryOpen(true);
  assert.is(!result.ok && result.code, "missing-disk");
});

test("disks too small for a slab -> too-small, nothing written", () => {
  const bench = new StoreBench({ seed: 3, slots: [mebibyte] });
  const result = bench.tryOpen(true);
  assert.is(!result.ok && result.code, "too-small");
  assert.is(bench.shelf.disk(0).medium.pageCount, 0);
});

test("another array's disks -> foreign, nothing overwritten", () => {
  const bench = new StoreBench({ seed: 4, slots: [32 * mebibyte, 32 * mebibyte] });
  bench.create();
  bench.crash();
  const before = imageOf(bench.shelf.disk(0));
  const result = bench.tryOpen(true, "elm");
  assert.is(!result.ok && result.code, "foreign");
  assert.is(imageOf(bench.shelf.disk(0)), before);
});

test("one superblock copy torn, either one -> the other is used", () => {
  for (const copy of [0, 1]) {
    const bench = new StoreBench({ seed: 5 + copy });
    bench.create("kept");
    bench.crash();
    fill(bench.shelf.disk(0), superblockOffset(copy) + 512, 512, 0xab);
    assert.is(bench.reopen().document(), "kept");
  }
});

test("both superblock copies damaged -> corrupt, not taken for blank, nothing overwritten", () => {
  const bench = new StoreBench({ seed: 7 });
  bench.create();
  bench.crash();
  for (const copy of [0, 1]) fill(bench.shelf.disk(0), superblockOffset(copy), 512, 0xab);
  const before = imageOf(bench.shelf.disk(0));
  const result = bench.tryOpen(true);
  assert.is(!result.ok && result.code, "corrupt");
  assert.is(imageOf(bench.shelf.disk(0)), before);
});

test("a newer version, or an unknown incompatible feature -> newer-version, nothing overwritten", () => {
  const changes = [
    (words: Uint32Array) => (words[2] = 2),
    (words: Uint32Array) => (words[18] = 2),
    (words: Uint32Array) => (words[17] = 4),
  ];
  for (const change of changes) {
    const bench = new StoreBench({ seed: 8 });
    bench.create();
    bench.crash();
    for (const copy of [0, 1]) patch(bench.shelf.disk(0), copy, change);
    const before = imageOf(bench.shelf.disk(0));
    const result = bench.tryOpen(true);
    assert.is(!result.ok && result.code, "newer-version");
    assert.is(imageOf(bench.shelf.disk(0)), before);
  }
});

test("an unknown compatible feature -> used, and the flag kept", () => {
  const bench = new StoreBench({ seed: 9 });
  bench.create("kept");
  bench.crash();
  for (const copy of [0, 1]) patch(bench.shelf.disk(0), copy, (words) => (words[16] = 0x40));
  assert.is(bench.reopen().document(), "kept");
  for (const copy of [0, 1]) {
    const page = new Uint8Array(4096);
    bench.shelf.disk(0).medium.read(superblockOffset(copy), page);
    assert.is(new Uint32Array(page.buffer)[16], 0x40);
  }
});

test("disks that have changed places -> found by their ids, reported, in use", () => {
  const bench = new StoreBench({ seed: 10, slots: [32 * mebibyte, 32 * mebibyte, null] });
  const group = bench.create();
  group.createVolume({ number: 1, sizeBytes: 32 * mebibyte });
  bench.apply(group, [dataStep(1, 0, new Array<number>(4096).fill(3))]);
  bench.commit(group, "kept");
  bench.crash();
  bench.shelf.swap(0, 2);
  const again = bench.reopen();
  assert.equal(states(bench), [
    ["shelf0/1", "in-use"],
    ["shelf0/2", "misplaced"],
  ]);
  assert.is(tagOf(bench.read(again, "head", 1, 4095).bytes), 3);
  bench.crash();
  bench.reopen();
  assert.equal(states(bench), [
    ["shelf0/1", "in-use"],
    ["shelf0/2", "in-use"],
  ]);
});

test("one of two disks missing -> the pool opens, what lay there is an error, the rest is served; put back it is stale", () => {
  for (const lost of [0, 1]) {
    const bench = new StoreBench({ seed: 11 + lost, slots: [32 * mebibyte, 32 * mebibyte] });
    const group = bench.create("kept");
    group.createVolume({ number: 1, sizeBytes: 32 * mebibyte });
    for (let at = 0; at < 4096; at += 256) bench.apply(group, [dataStep(1, at, new Array<number>(256).fill(3))]);
    bench.commit(group, "kept");
    bench.crash();
    const disk = bench.shelf.pull(lost);
    bench.open(false);
    assert.equal(new Map(states(bench) as [string, string][]).get(`shelf0/${lost}`), "missing");
    const { error, group: again } = bench.tryOpenGroup();
    assert.is(error, null, error?.text);
    assert.is(again!.document(), "kept");
    let served = 0;
    for (let block = 0; block < 4096; block += 16) {
      const read = bench.read(again!, "head", 1, block);
      if (read.error)
        assert.ok(read.error.code === "disk-failed" || read.error.code === "medium-error", read.error.code);
      else {
        assert.is(tagOf(read.bytes), 3);
        served += 1;
      }
    }
    assert.ok(served < 256, "something lay on the missing disk");
    bench.crash();
    const before = imageOf(disk);
    bench.shelf.insert(lost, disk);
    bench.open(false);
    assert.equal(new Map(states(bench) as [string, string][]).get(`shelf0/${lost}`), "stale");
    assert.is(imageOf(disk), before);
  }
});

test("openings that end at an error of one disk, over and over -> that disk is in use, not stale", () => {
  for (const kind of ["write", "flush"] as const) {
    const bench = new StoreBench({ seed: 26, slots: [32 * mebibyte, 32 * mebibyte] });
    bench.create("kept");
    for (let round = 0; round < 6; round += 1) {
      bench.crash();
      bench.shelf.disk(1).failNext(kind);
      const result = bench.tryOpen(false);
      assert.is(!result.ok && result.code, "disk-failed");
    }
    bench.crash();
    assert.is(bench.reopen().document(), "kept");
    assert.equal(states(bench), [
      ["shelf0/0", "in-use"],
      ["shelf0/1", "in-use"],
    ]);
  }
});

test("a disk that was away, and the newest superblock of the others is damaged -> it is stale all the same", () => {
  for (const copy of [0, 1]) {
    const bench = new StoreBench({ seed: 27, slots: [32 * mebibyte, 32 * mebibyte] });
    bench.create("kept");
    bench.crash();
    const image = bench.shelf.disk(1).medium.image();
    bench.reopen();
    bench.crash();
    bench.shelf.disk(1).medium.restore(image);
    fill(bench.shelf.disk(0), superblockOffset(copy), 512, 0xab);
    bench.open(false);
    assert.equal(states(bench), [
      ["shelf0/0", "in-use"],
      ["shelf0/1", "stale"],
    ]);
  }
});

test("one opening reads no newest superblock, a disk is put back as it was before that opening -> it is stale", () => {
  const bench = new StoreBench({ seed: 28, slots: [32 * mebibyte, 32 * mebibyte] });
  bench.create("kept");
  bench.crash();
  const image = bench.shelf.disk(1).medium.image();
  // At creation the newest superblock is the first; it is the first that is read, too.
  for (const slot of [0, 1]) bench.shelf.disk(slot).failNext("read", "error", "medium");
  bench.reopen();
  bench.crash();
  bench.shelf.disk(1).medium.restore(image);
  bench.open(false);
  assert.equal(states(bench), [
    ["shelf0/0", "in-use"],
    ["shelf0/1", "stale"],
  ]);
});

test("the process dies in one opening after another, at any point -> no disk is stale", () => {
  for (let seed = 0; seed < 40; seed += 1) {
    const bench = new StoreBench({ seed: 200 + seed, slots: [32 * mebibyte, 32 * mebibyte, 32 * mebibyte] });
    bench.create("kept");
    for (let round = 0; round < 5; round += 1) {
      bench.crash();
      bench.hal = bench.oak.boot();
      let died = false;
      bench.world.hostClock.after(0.5 + ((seed * 5 + round) % 23) * 0.1, () => {
        died = true;
        bench.crash();
      });
      try {
        bench.tryOpen(false);
      } catch (error) {
        // The appliance died while the test waited for it.
        assert.ok(died, (error as Error).message);
      }
      bench.world.runUntil(() => died, 1000);
    }
    assert.is(bench.reopen().document(), "kept");
  }
});

test("both disks of the metadata missing -> missing-disk, and it says which", () => {
  const bench = new StoreBench({ seed: 13, slots: [32 * mebibyte, 32 * mebibyte, 32 * mebibyte] });
  bench.create();
  bench.crash();
  bench.shelf.pull(0);
  bench.shelf.pull(1);
  const result = bench.tryOpen(true);
  assert.is(!result.ok && result.code, "missing-disk");
  assert.match(result.ok ? "" : result.text, /shelf0\/0 and shelf0\/1/);
});

test("a copy of a disk beside it -> one is used, the other is left alone", () => {
  const bench = new StoreBench({ seed: 14, slots: [32 * mebibyte, null] });
  bench.create("kept");
  bench.crash();
  const bytes = new Uint8Array(32 * mebibyte);
  bench.shelf.disk(0).medium.read(0, bytes);
  const copy = bench.shelf.newDisk("copy", 32 * mebibyte);
  copy.medium.write(0, bytes, "test");
  copy.settle();
  bench.shelf.insert(1, copy);
  const before = imageOf(copy);
  assert.is(bench.reopen().document(), "kept");
  assert.equal(states(bench), [
    ["shelf0/0", "in-use"],
    ["shelf0/1", "foreign"],
  ]);
  assert.is(imageOf(copy), before);
});

test("a blank disk beside a pool -> reported, not touched", () => {
  const bench = new StoreBench({ seed: 15, slots: [32 * mebibyte, null] });
  bench.create();
  bench.crash();
  bench.shelf.insert(1, bench.shelf.newDisk("new", 32 * mebibyte));
  bench.reopen();
  assert.equal(states(bench)[1], ["shelf0/1", "blank"]);
  assert.is(bench.shelf.disk(1).medium.pageCount, 0);
});

test("power lost at any point of a creation -> it is created again, or was complete; never corrupt", () => {
  for (let seed = 0; seed < 40; seed += 1) {
    const bench = new StoreBench({ seed: 100 + seed, slots: [32 * mebibyte, 32 * mebibyte] });
    const hal = bench.oak.boot();
    const boot = bench.hal;
    assert.is(boot, null);
    bench.hal = hal;
    let ended = false;
    bench.world.hostClock.after((seed % 20) * 0.25, () => {
      ended = true;
      bench.powerLoss();
    });
    try {
      bench.tryOpen(true);
    } catch (error) {
      // The appliance died while the test waited for it.
      assert.ok(ended, (error as Error).message);
    }
    bench.world.runUntil(() => ended, 1000);
    // A garbled first superblock can not be told from a damaged one: nothing is overwritten then.
    const result = bench.tryOpen(true);
    if (!result.ok) assert.is(result.code, "corrupt", result.text);
    else assert.equal(bench.pool!.groupIds(), []);
  }
});

test("a root slot torn -> the other one, the commit before it", () => {
  const bench = new StoreBench({ seed: 16 });
  const group = bench.create("first");
  bench.commit(group, "second");
  bench.commit(group, "third");
  bench.crash();
  // Find the newest root by its body.
  const disk = bench.shelf.disk(0);
  const page = new Uint8Array(4096);
  for (let at = 0; at < 8 * mebibyte; at += 4096) {
    disk.medium.read(at, page);
    if (Buffer.from(page).includes("third")) fill(disk, at + 64, 64, 0x77);
  }
  assert.is(bench.reopen().document(), "second");
});

test("metadata damaged on one of two disks -> taken from the other", () => {
  for (const damaged of [0, 1]) {
    const bench = new StoreBench({ seed: 17 + damaged, slots: [32 * mebibyte, 32 * mebibyte] });
    const group = bench.create("kept");
    group.createVolume({ number: 1, sizeBytes: 8 * mebibyte });
    bench.commit(group, "kept");
    bench.crash();
    // Pool document, slab table, roots.
    fill(bench.shelf.disk(damaged), 131072, 2 * mebibyte, 0x55);
    const again = bench.reopen();
    assert.is(again.document(), "kept");
    // And it has been mended: the other disk may go now.
    bench.crash();
    bench.shelf.pull(1 - damaged);
    assert.is(bench.reopen().document(), "kept");
  }
});

test("a disk that answers nothing but errors -> missing", () => {
  const bench = new StoreBench({ seed: 19, slots: [32 * mebibyte, 32 * mebibyte] });
  bench.create("kept");
  bench.crash();
  bench.shelf.disk(1).isAbsent = true;
  bench.reopen();
  const { disks } = { disks: new Map(states(bench) as [string, string][]) };
  assert.is(disks.get("shelf0/1"), "missing");
});

test("a flush that fails in a commit -> disk-failed, commits refused until reopened; then the last durable state", () => {
  const bench = new StoreBench({ seed: 20 });
  const group = bench.create("first");
  group.createVolume({ number: 1, sizeBytes: 8 * mebibyte });
  bench.commit(group, "second");
  bench.apply(group, [dataStep(1, 0, [1])]);
  bench.shelf.disk(0).failNext("flush");
  assert.is(bench.tryCommit(group, "third")?.code, "disk-failed");
  assert.is(bench.tryCommit(group, "fourth")?.code, "disk-failed");
  assert.is(bench.tryApply(group, [dataStep(1, 0, [2])])?.code, "disk-failed");
  bench.crash();
  const again = bench.reopen();
  assert.ok(again.document() === "second" || again.document() === "third");
  bench.commit(again, "fifth");
});

test("a group that failed -> can be opened anew in the same pool", () => {
  const bench = new StoreBench({ seed: 21 });
  const group = bench.create("first");
  group.createVolume({ number: 1, sizeBytes: 8 * mebibyte });
  bench.apply(group, [dataStep(1, 0, [1])]);
  bench.commit(group, "second");
  bench.apply(group, [dataStep(1, 1, [2])]);
  bench.shelf.disk(0).failNext("write");
  assert.is(bench.tryCommit(group, "third")?.code, "disk-failed");
  const { error, group: again } = bench.tryOpenGroup(groupId);
  assert.is(error, null, error?.text);
  assert.is(again!.document(), "second");
  assert.is(tagOf(bench.read(again!, "head", 1, 0).bytes), 1);
  bench.apply(again!, [dataStep(1, 1, [2])]);
  bench.commit(again!, "third");
  bench.crash();
  assert.is(tagOf(bench.read(bench.reopen(), "head", 1, 1).bytes), 2);
});

test("a write refused for want of space on the medium -> the apply can be repeated, commits wait for it", () => {
  const bench = new StoreBench({ seed: 22 });
  const group = bench.create("first");
  group.createVolume({ number: 1, sizeBytes: 8 * mebibyte });
  bench.commit(group, "second");
  bench.shelf.disk(0).failNext("write", "error", "no-space");
  assert.is(bench.tryApply(group, [dataStep(1, 0, [1])])?.code, "disk-failed");
  assert.is(bench.tryCommit(group, "third")?.code, "disk-failed");
  bench.apply(group, [dataStep(1, 0, [1])]);
  bench.commit(group, "third");
  assert.is(tagOf(bench.read(group, "head", 1, 0).bytes), 1);
});

test("bit rot in data -> medium error with the block, never wrong data; scrub finds it; a rewrite mends it", () => {
  const bench = new StoreBench({ seed: 23 });
  const group = bench.create();
  group.createVolume({ number: 1, sizeBytes: 8 * mebibyte });
  bench.apply(group, [dataStep(1, 0, new Array<number>(64).fill(0x5a5a5a5a))]);
  bench.commit(group);
  const disk = bench.shelf.disk(0);
  const page = new Uint8Array(4096);
  let at = 0;
  for (; at < disk.medium.sizeBytes; at += 4096) {
    disk.medium.read(at, page);
    if (page.every((byte) => byte === 0x5a)) break;
  }
  disk.flipBit(at + 17, 2);
  const { error } = bench.read(group, "head", 1, 0, 64);
  assert.is(error?.code, "medium-error");
  assert.is(group.tryRead("head", 1, error!.block!, page), false);
  const report = bench.scrub(group);
  assert.equal(report.damaged, [{ version: "head", volume: 1, block: error!.block! }]);
  bench.apply(group, [dataStep(1, error!.block!, [9])]);
  assert.equal(bench.scrub(group).damaged, []);
});

test("a map page lost or stale -> medium error, never another page's content", () => {
  const bench = new StoreBench({ seed: 24, mapCacheBytes: mebibyte });
  const group = bench.create();
  group.createVolume({ number: 1, sizeBytes: 8 * mebibyte });
  bench.apply(group, [dataStep(1, 0, [1]), dataStep(1, 800, [2])]);
  bench.commit(group);
  bench.crash();
  const disk = bench.shelf.disk(0);
  const page = new Uint8Array(4096);
  const leaves: number[] = [];
  for (let at = 0; at < disk.medium.sizeBytes; at += 4096) {
    disk.medium.read(at, page);
    if (new Uint32Array(page.buffer)[1] === 0x4c4d4347) leaves.push(at);
  }
  assert.is(leaves.length, 2);
  // A misdirected write: one leaf's content lies where the other's should be.
  disk.medium.read(leaves[0]!, page);
  disk.medium.write(leaves[1]!, page, "test");
  disk.settle();
  const again = bench.reopen();
  const outcomes = [0, 800].map((block) => bench.read(again, "head", 1, block));
  assert.is(outcomes.filter(({ error }) => error === null).length, 1);
  assert.is(outcomes.find(({ error }) => error !== null)!.error!.code, "medium-error");
  assert.is(bench.scrub(again).damaged.length, 1);
});

test("bitmap pages damaged -> reads go on, applies are refused as corrupt", () => {
  const bench = new StoreBench({ seed: 25 });
  const group = bench.create();
  group.createVolume({ number: 1, sizeBytes: 8 * mebibyte });
  bench.apply(group, [dataStep(1, 0, [1])]);
  bench.commit(group);
  bench.crash();
  const disk = bench.shelf.disk(0);
  const page = new Uint8Array(4096);
  for (let at = 0; at < disk.medium.sizeBytes; at += 4096) {
    disk.medium.read(at, page);
    if (new Uint32Array(page.buffer)[1] === 0x50534347) fill(disk, at + 2048, 512, 1);
  }
  const again = bench.reopen();
  assert.is(tagOf(bench.read(again, "head", 1, 0).bytes), 1);
  assert.is(bench.tryApply(again, [dataStep(1, 0, [2])])?.code, "corrupt");
});

test.run();
