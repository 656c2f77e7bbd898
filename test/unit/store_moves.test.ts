/** Groups that move between the halves of a pool: whole at any death, in one half only, and never taken from a parcel that lies. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { decodeBody, encodeBody } from "../../firmware/store/cbor_body.ts";
import { type Half, poolDocumentSlotOffset } from "../../firmware/store/geometry.ts";
import { slabList } from "../../firmware/store/move_parcel.ts";
import type { GroupParcel, LogSlot, StoreError } from "../../firmware/store/store.ts";
import type { StoredGroup } from "../../firmware/store/stored_group.ts";
import { bothHalves, deaths, dies, HalvesBench, other } from "./support/halves_bench.ts";
import { contentOf, mebibyte, tagOf } from "./support/store_bench.ts";

const test = suite("store_moves");

const id = "aa".repeat(16);
const tags = [11, 12, 13, 14];

/** A group of half `half` with data in two leaves, a fork and a log slot that has been written. */
function benchWithGroup(seed: number, half: Half, options: { groupsMax?: number } = {}): HalvesBench {
  const bench = new HalvesBench({ seed, ...options }).create();
  const group = bench.createGroup(half, id);
  group.createVolume({ number: 1, sizeBytes: 6 * mebibyte });
  bench.write(group, 0, tags);
  bench.write(group, 800, tags);
  group.fork("before", 1);
  bench.write(group, 0, [21]);
  const slot = bench.wait<LogSlot | null>((done) => group.allocateLogSlot(done))!;
  bench.done((done) => group.writeLogSlot(slot, 4096, [contentOf(77)], done));
  bench.done((done) => group.flushLog(done));
  return bench;
}

/** Everything of the group is there; it can be written. */
function checkGroup(bench: HalvesBench, half: Half): StoredGroup {
  const group = bench.openGroup(half, id);
  assert.is(group.document(), id);
  assert.equal(bench.tags(group, 0, 4), [21, ...tags.slice(1)]);
  assert.equal(bench.tags(group, 800, 4), tags);
  const fork = new Uint8Array(4096);
  bench.done((done) => group.read("before", 1, 0, fork, done));
  assert.is(tagOf(fork), tags[0]);
  const log = new Uint8Array(4096);
  bench.done((done) => group.readLogSlot(group.logSlots()[0]!, 4096, log, done));
  assert.is(tagOf(log), 77);
  bench.write(group, 0, [21]);
  return group;
}

const claimOf = (bench: HalvesBench, half: Half) => bench.pool(half).groupClaims()[0];

test("a group moved and moved back, written in between -> its data is read where it is, the log and the fork go with it", () => {
  const bench = benchWithGroup(1, 0);
  for (let round = 0; round < 6; round += 1) {
    const from: Half = round % 2 === 0 ? 0 : 1;
    bench.move(from, id);
    bench.checkSlabs();
    assert.is(bench.holderOf(id), other(from));
    const group = checkGroup(bench, other(from));
    bench.write(group, 100 + round, [30 + round]);
    assert.equal(
      bench.tags(group, 100, round + 1),
      Array.from({ length: round + 1 }, (_, index) => 30 + index),
    );
    if (round === 3) {
      for (const half of bothHalves) bench.kill(half, "power");
      bench.reopen();
    }
  }
  assert.equal(claimOf(bench, 0), { id, claim: 12, leaving: false });
});

test("a read under way when the group leaves -> what it brings is not taken for the group's after it has come back", () => {
  const bench = benchWithGroup(2, 0);
  bench.kill(0, "process");
  bench.reopen();
  const stale = bench.openGroup(0, id);
  let ended = false;
  stale.read("head", 1, 0, new Uint8Array(4096), () => {
    ended = true;
  });
  bench.move(0, id);
  assert.ok(bench.world.runUntil(() => ended, 10_000));
  const group = bench.openGroup(1, id);
  // So often that every page number of the slab has had its turn.
  for (let round = 0; round < 200; round += 1) bench.write(group, 0, [1000 + round]);
  for (let last = 0; last < 3; last += 1) {
    bench.move(1, id);
    assert.equal(bench.tags(bench.openGroup(0, id), 0, 1), [last === 0 ? 1199 : 2000 + last - 1]);
    bench.move(0, id);
    bench.write(bench.openGroup(1, id), 0, [2000 + last]);
  }
});

test("the instance that a group has left is told to free its log slots -> the slabs stay the other half's", () => {
  const bench = benchWithGroup(14, 0);
  const group = bench.openGroup(0, id);
  const slots = Array.from({ length: 8 }, () => bench.wait<LogSlot | null>((done) => group.allocateLogSlot(done))!);
  bench.move(0, id);
  const free = bench.spaceOf("freeBytes");
  for (const slot of slots) group.freeLogSlot(slot);
  assert.is(
    bench.wait<LogSlot | null>((done) => group.allocateLogSlot(done)),
    null,
  );
  assert.is(bench.spaceOf("freeBytes"), free);
  bench.checkSlabs();
  checkGroup(bench, 1);
});

test("a death at any point of a move, on either side -> the claims say who has the group, and it is whole there", () => {
  const seen = new Set<string>();
  for (const kind of deaths) {
    for (const from of bothHalves) {
      for (const victim of bothHalves) {
        for (let effect = 1, died = true; died; effect += 1) {
          const bench = benchWithGroup(3, from);
          died = dies(bench, victim, effect, kind, () => bench.move(from, id));
          if (died) {
            const onDisk = bench.claimsOnDisk(victim);
            bench.open(victim);
            assert.equal(onDisk, { error: null, claims: bench.pool(victim).groupClaims() });
            seen.add(bothHalves.map((half) => JSON.stringify(claimOf(bench, half) ?? null)).join(" "));
          }
          bench.settle();
          const holder = bench.holderOf(id);
          bench.checkSlabs();
          checkGroup(bench, holder);
          // And over another start of both.
          for (const half of bothHalves) bench.kill(half, "process");
          bench.reopen();
          assert.is(bench.holderOf(id), holder);
          bench.checkSlabs();
          checkGroup(bench, holder);
          bench.move(holder, id);
          checkGroup(bench, other(holder));
        }
      }
    }
  }
  // Before, leaving, moved but not ended, ended; from either half.
  assert.is(seen.size, 8, [...seen].join("\n"));
});

test("a death at any point of cancelling and ending -> done again it comes to the same", () => {
  for (const kind of deaths) {
    for (let effect = 1, died = true; died; effect += 1) {
      const bench = benchWithGroup(4, 0);
      const parcel = bench.beginMove(0, id);
      died = dies(bench, 0, effect, kind, () => bench.done((done) => bench.pool(0).cancelMove(id, done)));
      bench.reopen();
      bench.settle();
      assert.is(bench.holderOf(id), 0);
      assert.ok(claimOf(bench, 0)!.claim > parcel.claim);
      // The parcel comes late nevertheless: refused for its slabs are in use, or the lower claim loses.
      bench.wait<StoreError | null>((done) => bench.pool(1).adoptGroup(parcel, done));
      bench.settle();
      assert.is(bench.holderOf(id), 0);
      checkGroup(bench, 0);
      bench.checkSlabs();
    }
  }
});

test("a group that is leaving -> is not opened, removed or moved again, over a restart too; cancelled, it is as before", () => {
  const bench = benchWithGroup(5, 0);
  bench.beginMove(0, id);
  for (const restart of [false, true]) {
    if (restart) {
      bench.kill(0, "process");
      bench.open(0);
    }
    const pool = bench.pool(0);
    const errors = [
      bench.wait<StoreError | null>((done) => pool.openGroup(id, (error) => done(error))),
      bench.wait<StoreError | null>((done) => pool.removeGroup(id, done)),
      bench.wait<StoreError | null>((done) => pool.beginMove(id, (error) => done(error))),
    ];
    for (const error of errors) {
      assert.is(error?.code, "refused");
      assert.match(error!.text, /is leaving/);
    }
    assert.equal(pool.groupClaims(), [{ id, claim: 1, leaving: true }]);
    assert.equal(pool.groupIds(), [id]);
  }
  bench.done((done) => bench.pool(0).cancelMove(id, done));
  checkGroup(bench, 0);
  const again = bench.wait<StoreError | null>((done) => bench.pool(0).cancelMove(id, done));
  assert.is(again?.code, "refused");
});

test("the same parcel twice, and an end twice -> as once; an older parcel is refused", () => {
  const bench = benchWithGroup(6, 0);
  const parcel = bench.beginMove(0, id);
  const adopt = (half: Half, what: GroupParcel) =>
    bench.wait<StoreError | null>((done) => bench.pool(half).adoptGroup(what, done));
  assert.is(adopt(1, parcel), null);
  assert.is(adopt(1, parcel), null);
  // Not back before the first move has ended.
  const back = bench.beginMove(1, id);
  assert.match(adopt(0, back)!.text, /end the former move first/);
  bench.done((done) => bench.pool(1).cancelMove(id, done));
  for (const _ of ["once", "twice"]) bench.done((done) => bench.pool(0).endMove(id, done));
  bench.write(bench.openGroup(1, id), 0, [99]);
  assert.is(adopt(1, parcel)?.code, "refused");
  assert.equal(bench.tags(bench.openGroup(1, id), 0, 1), [99]);
  bench.checkSlabs();
});

test("a group comes back while its leaving is not durable yet -> refused until it is, whether the disks take that or not", () => {
  for (const fails of [false, true]) {
    const bench = benchWithGroup(15, 0);
    const parcel = bench.beginMove(0, id);
    bench.done((done) => bench.pool(1).adoptGroup(parcel, done));
    const back = bench.beginMove(1, id);
    if (fails) bench.shelf.disk(0).failNext("write");
    const ended: (StoreError | null)[] = [];
    bench.pool(0).endMove(id, (error) => ended.push(error));
    const adopt = () => bench.wait<StoreError | null>((done) => bench.pool(0).adoptGroup(back, done));
    assert.match(adopt()?.text ?? "taken", /wait for that to end/);
    assert.ok(bench.world.runUntil(() => ended.length > 0, 1000));
    assert.is(ended[0]?.code, fails ? "disk-failed" : undefined);
    assert.equal(claimOf(bench, 0), fails ? { id, claim: 1, leaving: true } : undefined);
    if (fails) bench.done((done) => bench.pool(0).endMove(id, done));
    assert.is(adopt(), null);
    bench.done((done) => bench.pool(1).endMove(id, done));
    checkGroup(bench, 0);
    bench.checkSlabs();
  }
});

/** A group with log slots in two slabs that half 1 does not take: so many times one of two disks does not take its document. */
function adoptWithoutName(seed: number, failing: number): HalvesBench {
  const bench = benchWithGroup(seed, 0);
  const group = bench.openGroup(0, id);
  for (let slot = 0; slot < 5; slot += 1) bench.wait<LogSlot | null>((done) => group.allocateLogSlot(done));
  const parcel = bench.beginMove(0, id);
  const geometry = bench.geometry(1);
  const places = [poolDocumentSlotOffset(geometry, 0), poolDocumentSlotOffset(geometry, 1)];
  let left = failing;
  bench.onWrite = (slot, offset) => {
    if (slot !== 0 || !places.includes(offset) || left-- <= 0) return;
    bench.shelf.disk(0).failNext("write");
  };
  const error = bench.wait<StoreError | null>((done) => bench.pool(1).adoptGroup(parcel, done));
  bench.onWrite = null;
  assert.is(error?.code, "disk-failed");
  assert.ok(left <= 0);
  bench.done((done) => bench.pool(0).cancelMove(id, done));
  return bench;
}

test("one of two disks does not take the name of a group that comes -> no disk names it when that is told", () => {
  const bench = adoptWithoutName(16, 1);
  bench.checkSlabs();
  bench.kill(1, "process");
  assert.equal(bench.claimsOnDisk(1), { error: null, claims: [] });
  bench.open(1);
  assert.is(bench.holderOf(id), 0);
  checkGroup(bench, 0);
});

test("a group that could not be taken gives slabs up and comes again -> those stay the other half's", () => {
  const bench = adoptWithoutName(17, 2);
  const before = bench.pool(0).usage().freeBytes;
  const group = bench.openGroup(0, id);
  for (const slot of group.logSlots()) group.freeLogSlot(slot);
  bench.write(group, 0, [21]);
  const free = bench.pool(0).usage().freeBytes;
  assert.ok(free > before);
  bench.move(0, id);
  bench.checkSlabs();
  assert.is(bench.pool(0).usage().freeBytes, free);
  assert.equal(bench.tags(bench.openGroup(1, id), 0, 4), [21, ...tags.slice(1)]);
});

test("no root slot is free, or the document is full -> a clear refusal, nothing changes, the move can be cancelled", () => {
  const full = benchWithGroup(7, 0, { groupsMax: 2 });
  for (const other of ["bb", "cc"]) full.createGroup(1, other.repeat(16));
  const crammed = benchWithGroup(8, 0);
  const room = 128 * 1024 - 64;
  let fits = 0;
  for (let size = room; fits === 0; size -= 1) {
    const document = { padding: "x".repeat(size) };
    const error = crammed.wait<StoreError | null>((done) => crammed.pool(1).saveArrayDocument(document, done));
    if (error === null) fits = size;
  }
  for (const [bench, text] of [
    [full, /holds 2 groups/],
    [crammed, /document has no room/],
  ] as const) {
    const parcel = bench.beginMove(0, id);
    const before = bench.image();
    const error = bench.wait<StoreError | null>((done) => bench.pool(1).adoptGroup(parcel, done));
    assert.is(error?.code, "no-space");
    assert.match(error!.text, text);
    assert.is(bench.image(), before);
    bench.done((done) => bench.pool(0).cancelMove(id, done));
    checkGroup(bench, 0);
    bench.checkSlabs();
  }
});

test("an error of the disks in any step -> the step can be done again, or the move be settled by the claims", () => {
  const steps: Record<string, (bench: HalvesBench) => (done: (error: StoreError | null) => void) => void> = {
    begin: (bench) => (done) => bench.pool(0).beginMove(id, (error) => done(error)),
    adopt: (bench) => {
      const parcel = bench.beginMove(0, id);
      return (done) => bench.pool(1).adoptGroup(parcel, done);
    },
    end: (bench) => {
      const parcel = bench.beginMove(0, id);
      bench.done((done) => bench.pool(1).adoptGroup(parcel, done));
      return (done) => bench.pool(0).endMove(id, done);
    },
    cancel: (bench) => {
      bench.beginMove(0, id);
      return (done) => bench.pool(0).cancelMove(id, done);
    },
  };
  for (const [name, prepare] of Object.entries(steps)) {
    for (let write = 1, failed = true; failed; write += 1) {
      for (const again of [true, false]) {
        const bench = benchWithGroup(9, 0);
        const step = prepare(bench);
        const disk = bench.shelf.disk(0);
        // The n-th write goes wrong: those before are let through one by one.
        let left = write;
        const error = bench.wait<StoreError | null>((done) => {
          bench.onWrite = () => {
            left -= 1;
            if (left === 0) disk.failNext("write");
          };
          step(done);
        });
        bench.onWrite = null;
        disk.forgetMarked();
        failed = left <= 0 && error !== null;
        if (failed && name === "adopt") assert.equal(bench.pool(1).groupClaims(), []);
        if (failed && again) assert.is(bench.wait(step), null, `${name}, write ${write}`);
        for (const half of bothHalves) bench.kill(half, "process");
        bench.reopen();
        bench.settle();
        bench.checkSlabs();
        checkGroup(bench, bench.holderOf(id));
      }
    }
  }
});

test("a parcel that lies, in any part -> refused, and nothing changes on the disks or in memory", () => {
  const bench = benchWithGroup(10, 0);
  bench.createGroup(1, "bb".repeat(16));
  bench.createGroup(0, "cc".repeat(16));
  const parcel = bench.beginMove(0, id);
  const numbers = (list: Uint8Array) => [...new Uint32Array(list.slice().buffer)];
  const data = numbers(parcel.dataSlabs);
  const maps = numbers(parcel.mapSlabs);
  const own = bench.pool(1).claims();
  const ownSlab = Array.from({ length: own.length * 8 }, (_, slab) => slab).find(
    (slab) => (own[slab >> 3]! & (1 << (slab & 7))) !== 0,
  )!;
  const root = decodeBody(parcel.root)!.value as Record<string, unknown>;
  const withRoot = (change: Record<string, unknown>) => ({ root: encodeBody({ ...root, ...change }) });
  const lies: (Partial<Record<keyof GroupParcel, unknown>> | string | number | null)[] = [
    null,
    5,
    "parcel",
    { id: "head" },
    { id: "AA".repeat(16) },
    { id: 7 },
    { id: "bb".repeat(16) },
    { number: 0 },
    { number: 2 },
    { number: 4 },
    { number: 2 ** 32 - 1 },
    { number: 1.5 },
    { claim: 1 },
    { claim: Number.MAX_SAFE_INTEGER },
    { claim: "2" },
    { generation: 0 },
    { generation: Number.MAX_SAFE_INTEGER },
    { generation: Number.NaN },
    { root: new Uint8Array(0) },
    { root: new Uint8Array(128 * 1024) },
    { root: "root" },
    { root: parcel.root.subarray(0, 40) },
    withRoot({ epoch: -1 }),
    withRoot({ mapSpace: [[0, 1, 1]] }),
    withRoot({ head: [[1, 4096, 0, 123_456, 1, 1]] }),
    { dataSlabs: [1, 2] },
    { dataSlabs: new Uint8Array(3) },
    { dataSlabs: slabList([0]) },
    { dataSlabs: slabList([100_000]) },
    { dataSlabs: slabList([...data, data[0]!]) },
    { dataSlabs: slabList([...data, maps[0]!]) },
    { dataSlabs: slabList([...data, ownSlab]) },
    { mapSlabs: slabList([]) },
    { logSlabs: undefined },
  ];
  const before = bench.image();
  const claims = bench.pool(1).claims();
  const usage = bench.pool(1).usage();
  for (const lie of lies) {
    const told = typeof lie === "object" && lie !== null ? { ...parcel, ...lie } : lie;
    const error = bench.wait<StoreError | null>((done) => bench.pool(1).adoptGroup(told, done));
    assert.ok(error?.code === "corrupt" || error?.code === "refused", JSON.stringify(lie));
    assert.equal(bench.pool(1).groupIds(), ["bb".repeat(16)]);
  }
  assert.is(bench.image(), before);
  assert.equal(bench.pool(1).claims(), claims);
  assert.equal(bench.pool(1).usage(), usage);
  // And what is true is taken after all.
  bench.done((done) => bench.pool(1).adoptGroup(parcel, done));
  bench.done((done) => bench.pool(0).endMove(id, done));
  checkGroup(bench, 1);
  bench.checkSlabs();
});

test("claims read from the disks of a half that nobody has open -> as it had them; a half that is not there is refused", () => {
  const bench = benchWithGroup(11, 1);
  bench.beginMove(1, id);
  bench.kill(1, "power");
  const before = bench.image();
  assert.equal(bench.claimsOnDisk(1), { error: null, claims: [{ id, claim: 1, leaving: true }] });
  assert.equal(bench.claimsOnDisk(0), { error: null, claims: [] });
  assert.is(bench.image(), before, "nothing was written");
  const single = new HalvesBench({ seed: 12, halves: 1 });
  single.open(0, true);
  assert.match(single.claimsOnDisk(1).error!.text, /made for one appliance/);
  assert.match(new HalvesBench({ seed: 13 }).claimsOnDisk(0).error!.text, /no disk of array oak/);
});

test.run();
