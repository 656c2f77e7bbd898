/** A pool of two halves: made in one go, opened side by side, each writing only what is its own; space between them. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { geometryOf, type Half, heartbeatOffset, superblockOffset } from "../../firmware/store/geometry.ts";
import type { StoreError } from "../../firmware/store/store.ts";
import type { StoredGroup } from "../../firmware/store/stored_group.ts";
import { bothHalves, deaths, dies, HalvesBench, other } from "./support/halves_bench.ts";
import { dataStep, mebibyte } from "./support/store_bench.ts";

const test = suite("store_halves");

const ids = ["aa".repeat(16), "bb".repeat(16)] as const;

test("the layout of two halves -> no byte of metadata is in both, the slabs lie alike", () => {
  const format = { slabBytes: 2 ** 20, logSlotBytes: 2 ** 18, groupsMax: 4, slabsMax: 1024, halves: 2 } as const;
  const places: { from: number; to: number }[] = [];
  for (const half of bothHalves) {
    const geometry = geometryOf(format, half);
    for (const page of [0, 1].flatMap((at) => [superblockOffset(at, half), heartbeatOffset(at, half)]))
      places.push({ from: page, to: page + 4096 });
    places.push({ from: geometry.poolDocumentOffset, to: geometry.rootsOffset + 4 * 2 * 131072 });
  }
  places.sort((a, b) => a.from - b.from);
  for (const [index, { to }] of places.entries())
    assert.ok(to <= (places[index + 1]?.from ?? Number.POSITIVE_INFINITY), `${to}`);
  const [first, second] = bothHalves.map((half) => geometryOf(format, half));
  assert.is(first!.dataOffset, second!.dataOffset);
  assert.ok(places.at(-1)!.to <= first!.dataOffset);
  assert.is(heartbeatOffset(1), 12288);
  assert.is(superblockOffset(1), 65536);
});

test("a pool made with two halves -> one pool to both, each has half of the slabs; older releases leave it alone", () => {
  const bench = new HalvesBench({ seed: 1 }).create();
  assert.is(bench.pool(0).arrayId, bench.pool(1).arrayId);
  bench.checkSlabs();
  const [first, second] = bothHalves.map((half) => bench.pool(half).usage());
  assert.ok(Math.abs(first!.totalBytes - second!.totalBytes) <= mebibyte);
  assert.is(first!.freeBytes, first!.totalBytes);
  for (const half of bothHalves) {
    const page = new Uint8Array(4096);
    bench.shelf.disk(0).medium.read(superblockOffset(0, half), page);
    assert.is(new Uint32Array(page.buffer)[18], 1, "an incompatible feature");
  }
});

test("half 1 of blank disks -> blank, also when asked to create, and nothing is written", () => {
  const bench = new HalvesBench({ seed: 2 });
  const result = bench.tryOpen(1, true);
  assert.is(!result.ok && result.code, "blank");
  assert.is(bench.shelf.disk(0).medium.pageCount, 0);
});

test("half 1 of a pool that has one -> refused, and nothing is written; it has nothing to cede or move", () => {
  const bench = new HalvesBench({ seed: 3, halves: 1 });
  bench.open(0, true);
  const before = bench.image();
  const result = bench.tryOpen(1);
  assert.is(!result.ok && result.code, "refused");
  assert.match(result.ok ? "" : result.text, /made for one appliance/);
  assert.is(bench.image(), before);
  const error = bench.wait<StoreError | null>((done) => bench.pool(0).cede(1, (error) => done(error)));
  assert.is(error?.code, "refused");
});

test("both halves in use at once, by two appliances or by one -> each writes only its own; all is there after deaths", () => {
  for (const owner of [1, 0] as const) {
    const bench = new HalvesBench({ seed: 4 });
    bench.owner[1] = owner;
    bench.create();
    let groups = bothHalves.map((half) => bench.createGroup(half, ids[half])) as [StoredGroup, StoredGroup];
    for (const group of groups) group.createVolume({ number: 1, sizeBytes: 3 * mebibyte });
    for (let round = 1; round <= 12; round += 1) {
      for (const half of bothHalves) {
        const group = groups[half];
        bench.write(group, round * 16, [round * 2 + half, round]);
        assert.equal(bench.tags(groups[other(half)], 16, 1), round === 1 && half === 0 ? [0] : [2 + other(half)]);
        if (round % 4 === 0) bench.wait((done) => group.allocateLogSlot(done));
        if (round % 5 === 0) bench.done((done) => bench.pool(half).saveArrayDocument({ round }, done));
      }
      // Both under way at once.
      const open = new Set(groups);
      for (const group of groups) {
        group.apply([dataStep(1, 700, [round])], () => group.commit(group.id, () => open.delete(group)));
      }
      assert.ok(bench.world.runUntil(() => open.size === 0, 10_000));
      if (round % 6 !== 0) continue;
      const dead = round === 6 ? 0 : 1;
      bench.kill(dead, "power");
      if (owner === 0) bench.kill(other(dead), "power");
      for (const half of bothHalves) if (owner === 0 || half === dead) bench.open(half);
      groups = bothHalves.map((half) => bench.openGroup(half, ids[half])) as [StoredGroup, StoredGroup];
    }
    for (const half of bothHalves) {
      for (let round = 1; round <= 12; round += 1)
        assert.equal(bench.tags(groups[half], round * 16, 2), [round * 2 + half, round]);
      assert.equal(bench.tags(groups[half], 700, 1), [12]);
      assert.ok(bench.writeCounts[half] > 50, "the writes were judged");
    }
    bench.checkSlabs();
  }
});

test("numbers of groups -> odd in half 0, even in half 1", () => {
  const bench = new HalvesBench({ seed: 5 }).create();
  for (const half of bothHalves) {
    const numbers = ["11", "22", "33"].map((id) => bench.createGroup(half, id.repeat(16)).parts.number);
    assert.equal(
      numbers,
      [1, 3, 5].map((number) => number + half),
    );
  }
});

test("a death at any point of a creation -> no half of it counts before all of it does; made again, it is one pool", () => {
  for (const kind of deaths) {
    for (let effect = 1, died = true; died; effect += 1) {
      const bench = new HalvesBench({ seed: 6 });
      died = dies(bench, 0, effect, kind, () => bench.open(0, true));
      const early = bench.tryOpen(1);
      const again = bench.tryOpen(0, true);
      // A first superblock that the power loss has garbled can not be told from a damaged one: nothing is overwritten then.
      if (kind === "power" && !again.ok && again.code === "corrupt") {
        assert.is(!early.ok && early.code, "corrupt");
        continue;
      }
      assert.ok(early.ok || early.code === "blank", early.ok ? "" : early.text);
      assert.ok(again.ok, again.ok ? "" : again.text);
      // What half 1 found before half 0 was whole again was the same pool, or none.
      if (early.ok) assert.not.ok(again.ok && again.created);
      bench.open(1);
      assert.is(bench.pool(0).arrayId, bench.pool(1).arrayId);
      assert.equal([...bench.pool(0).groupIds(), ...bench.pool(1).groupIds()], []);
      bench.checkSlabs();
    }
  }
});

test("a disk away while one half was opened -> stale to that half alone", () => {
  const bench = new HalvesBench({ seed: 7 }).create();
  for (const half of bothHalves) bench.kill(half, "process");
  const disk = bench.shelf.pull(1);
  bench.open(1);
  bench.kill(1, "process");
  bench.shelf.insert(1, disk);
  const states = (half: Half) =>
    bench
      .open(half)
      .disks()
      .map(({ state }) => state);
  assert.equal(states(0), ["in-use", "in-use"]);
  assert.equal(states(1), ["in-use", "stale"]);
});

test("one half's superblocks damaged on every disk -> corrupt to half 1; a whole copy of half 0's is needed by both", () => {
  for (const damaged of bothHalves) {
    const bench = new HalvesBench({ seed: 8, slots: [24 * mebibyte] }).create();
    for (const half of bothHalves) bench.kill(half, "process");
    for (const copy of [0, 1]) bench.shelf.disk(0).flipBit(superblockOffset(copy, damaged) + 77, 1);
    const before = bench.image();
    const codes = bothHalves.map((half) => {
      const result = bench.tryOpen(half);
      return result.ok ? "ok" : result.code;
    });
    assert.equal(codes, damaged === 0 ? ["corrupt", "corrupt"] : ["ok", "corrupt"]);
    if (damaged === 0) assert.is(bench.image(), before);
  }
});

test("a half that is full -> refuses; it goes on with what the other half cedes", () => {
  const bench = new HalvesBench({ seed: 9 }).create();
  const group = bench.createGroup(0, ids[0]);
  group.createVolume({ number: 1, sizeBytes: 64 * mebibyte });
  bench.done((done) => group.commit(0, done));
  let reserved = 0;
  while (group.reserveChunks(16)) reserved += 16;
  assert.ok(reserved > 0);
  assert.is(bench.cede(0, 1), 0, "what is promised is not ceded");
  const free = bench.pool(1).usage().freeBytes;
  assert.is(bench.cede(1, 5), 5);
  assert.is(bench.pool(1).usage().freeBytes, free - 5 * mebibyte);
  bench.checkSlabs();
  let more = 0;
  while (group.reserveChunks(16)) more += 16;
  assert.ok(more >= 4 * 16, `${more} chunks in five slabs`);
  assert.is(bench.cede(1, 1000), free / mebibyte - 5, "all that is left");
  assert.is(bench.pool(1).usage().freeBytes, 0);
  assert.is(bench.pool(1).usage().totalBytes, 0);
  bench.checkSlabs();
});

test("slabs ceded -> taken from the disks in turn; the same message twice changes nothing", () => {
  const bench = new HalvesBench({ seed: 10 }).create();
  const slabs = bench.waitPair<readonly number[]>((done) => bench.pool(0).cede(6, done));
  const { dataOffset } = bench.geometry(0);
  const firstDiskSlabs = Math.floor((24 * mebibyte - dataOffset) / mebibyte);
  const onFirst = slabs.filter((slab) => slab <= firstDiskSlabs).length;
  assert.ok(onFirst >= 2 && onFirst <= 5, `${onFirst} of 6 slabs are on the first disk`);
  bench.done((done) => bench.pool(1).receive(slabs, done));
  const { freeBytes } = bench.pool(1).usage();
  bench.done((done) => bench.pool(1).receive(slabs, done));
  assert.is(bench.pool(1).usage().freeBytes, freeBytes);
  for (const wrong of [[0], [1.5], [100_000], [-1]]) {
    const error = bench.wait<StoreError | null>((done) => bench.pool(1).receive(wrong, done));
    assert.is(error?.code, "corrupt", String(wrong));
  }
  const short = bench.wait<StoreError | null>((done) =>
    bench.pool(1).receiveOrphans(new Uint8Array(1), (error) => done(error)),
  );
  assert.is(short?.code, "corrupt");
  bench.checkSlabs();
});

test("a death at any point of a ceding, on either side -> no slab in both hands; what is in none comes back", () => {
  let orphans = 0;
  for (const kind of deaths) {
    for (const victim of bothHalves) {
      for (let effect = 1, died = true; died; effect += 1) {
        const bench = new HalvesBench({ seed: 11 }).create();
        const before = bench.spaceOf("freeBytes");
        died = dies(bench, victim, effect, kind, () => bench.cede(0, 4));
        // When it has ended it is durable on both sides.
        if (!died) for (const half of bothHalves) bench.kill(half, kind);
        bench.reopen();
        const theirs = bench.pool(1).claims();
        assert.not.ok(
          bench
            .pool(0)
            .claims()
            .some((bits, at) => (bits & theirs[at]!) !== 0),
          "a slab is in both hands",
        );
        orphans += bench.settle();
        bench.checkSlabs();
        assert.is(bench.spaceOf("freeBytes"), before);
      }
    }
  }
  assert.ok(orphans > 0, "some deaths left slabs to nobody");
});

test("orphans are looked for while slabs are being ceded, here or there -> none of these is one", () => {
  for (const from of bothHalves) {
    const bench = new HalvesBench({ seed: 13 }).create();
    const ceded: (readonly number[])[] = [];
    bench.pool(from).cede(4, (_, slabs) => ceded.push(slabs));
    const theirs = bench.pool(1).claims();
    assert.is(
      bench.waitPair<number>((done) => bench.pool(0).receiveOrphans(theirs, done)),
      0,
    );
    assert.ok(bench.world.runUntil(() => ceded.length > 0, 1000));
    bench.done((done) => bench.pool(other(from)).receive(ceded[0]!, done));
    bench.checkSlabs();
  }
});

test("a message that slabs have been ceded comes again while they are ceded back -> they go", () => {
  const bench = new HalvesBench({ seed: 15 }).create();
  const slabs = bench.waitPair<readonly number[]>((done) => bench.pool(0).cede(4, done));
  bench.done((done) => bench.pool(1).receive(slabs, done));
  const back: (readonly number[])[] = [];
  bench.pool(1).cede(1000, (_, ceded) => back.push(ceded));
  bench.done((done) => bench.pool(1).receive(slabs, done));
  assert.ok(bench.world.runUntil(() => back.length > 0, 1000));
  bench.done((done) => bench.pool(0).receive(back[0]!, done));
  bench.checkSlabs();
});

test("slabs that could not be ceded durably -> stay where they are", () => {
  const bench = new HalvesBench({ seed: 14 }).create();
  const before = bench.pool(1).usage();
  bench.shelf.disk(0).failNext("write");
  const error = bench.wait<StoreError | null>((done) => bench.pool(1).cede(4, (error) => done(error)));
  assert.is(error?.code, "disk-failed");
  assert.equal(bench.pool(1).usage(), before);
  assert.is(bench.settle(), 0);
  bench.checkSlabs();
  assert.is(bench.cede(1, 4), 4);
  bench.checkSlabs();
});

test("a death in the removal of a group -> it is there as a whole, or its slabs come back as orphans", () => {
  let orphans = 0;
  for (let effect = 1, died = true; died; effect += 1) {
    const bench = new HalvesBench({ seed: 12 }).create();
    const group = bench.createGroup(1, ids[1]);
    group.createVolume({ number: 1, sizeBytes: 3 * mebibyte });
    bench.write(group, 0, [1, 2, 3]);
    died = dies(bench, 1, effect, "power", () => bench.done((done) => bench.pool(1).removeGroup(ids[1], done)));
    bench.reopen();
    orphans += bench.settle();
    bench.checkSlabs();
    if (bench.pool(1).groupIds().length === 0) assert.is(bench.spaceOf("freeBytes"), bench.spaceOf("totalBytes"));
    else assert.equal(bench.tags(bench.openGroup(1, ids[1]), 0, 3), [1, 2, 3]);
  }
  assert.ok(orphans > 0, "some deaths left slabs to nobody");
});

test.run();
