/** Simulated disks and shelves: what survives what, and every fault on demand. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { Hal } from "../../hal/api/hal.ts";
import type { Disk, DiskError } from "../../hal/api/shelf.ts";
import type { MockAppliance } from "../../hal/mock/appliance.ts";
import { BrokenContract } from "../../hal/mock/contract.ts";
import type { MockShelf } from "../../hal/mock/shelf.ts";
import { World } from "../../hal/mock/world.ts";

const test = suite("mock_disk");

const tebibyte = 2 ** 40;

interface Bench {
  readonly world: World;
  readonly shelf: MockShelf;
  readonly oak: MockAppliance;
  hal: Hal;
}

function bench(seed: number): Bench {
  const world = new World({ seed });
  const shelf = world.addShelf({ name: "shelf0", slots: [tebibyte, 1 << 20, null] });
  const oak = world.addAppliance({
    name: "oak-a",
    cache: { sizeBytes: 65536, domain: "battery" },
    shelves: [shelf],
    hbaPorts: [],
    nics: [],
  });
  return { world, shelf, oak, hal: oak.boot() };
}

const disk = (on: Bench, slot = 0): Disk => on.hal.shelves[0]!.disks[slot]!;
const filled = (byte: number, bytes = 4096): Uint8Array => new Uint8Array(bytes).fill(byte);

function outcome(on: Bench, start: (done: (error: DiskError | null) => void) => void): DiskError | null {
  const outcomes: (DiskError | null)[] = [];
  start((error) => outcomes.push(error));
  assert.is(outcomes.length, 0, "done before return");
  on.world.runUntil(() => outcomes.length > 0, 10_000);
  assert.is(outcomes.length, 1);
  return outcomes[0]!;
}

const write = (on: Bench, at: number, bytes: Uint8Array) => outcome(on, (done) => disk(on).write(at, [bytes], done));
const flush = (on: Bench) => outcome(on, (done) => disk(on).flush(done));
function read(on: Bench, at: number, bytes = 4096): Uint8Array {
  const target = filled(0xaa, bytes);
  assert.is(
    outcome(on, (done) => disk(on).read(at, target, done)),
    null,
  );
  return target;
}
/** The byte of each 512-byte sector, -1 for a mixed one. */
const sectors = (bytes: Uint8Array): number[] =>
  Array.from({ length: bytes.byteLength / 512 }, (_, index) => {
    const sector = bytes.subarray(index * 512, index * 512 + 512);
    return sector.every((byte) => byte === sector[0]) ? sector[0]! : -1;
  });

test("writes anywhere on a TiB -> read back; unwritten ranges are zeros; memory stays small", () => {
  const on = bench(1);
  const far = tebibyte - 8192;
  assert.is(
    outcome(on, (done) => disk(on).write(far, [filled(1, 1000), filled(2, 7192)], done)),
    null,
  );
  const back = read(on, far, 8192);
  assert.ok(back.subarray(0, 1000).every((byte) => byte === 1) && back.subarray(1000).every((byte) => byte === 2));
  assert.ok(read(on, 0).every((byte) => byte === 0));
  assert.is(on.shelf.disk(0).medium.pageCount, 2);
});

test("tryRead -> sometimes would block; forced either way", () => {
  const on = bench(2);
  write(on, 4096, filled(5));
  const target = filled(0);
  let hits = 0;
  for (let turn = 0; turn < 100; turn++) if (disk(on).tryRead(4096, target)) hits++;
  assert.ok(hits > 40 && hits < 95, `${hits} of 100`);
  assert.is(target[0], 5);
  on.shelf.disk(0).faults.tryReadRate = 0;
  assert.is(disk(on).tryRead(4096, target), false);
});

test("process death -> completed writes stay without a flush; those under way happen, in part, or not", () => {
  const seen = new Set<string>();
  for (let seed = 0; seed < 60; seed++) {
    const on = bench(seed);
    write(on, 0, filled(1, 16384));
    disk(on).write(0, [filled(2, 16384)], () => assert.unreachable("a dead boot is called"));
    on.world.runFor(0.01);
    on.oak.crash();
    on.hal = on.oak.boot();
    const found = sectors(read(on, 0, 16384));
    assert.ok(found.every((byte) => byte === 1 || byte === 2));
    for (let page = 0; page < 4; page++)
      assert.is(new Set(found.slice(page * 8, page * 8 + 8)).size, 1, "torn in a page");
    seen.add(found.join());
    assert.equal(sectors(read(on, 0, 16384)), found, "decided once");
  }
  assert.ok(seen.size > 4, `${seen.size} different outcomes`);
});

test("power loss -> flushed writes stay; others are applied, dropped or garbled by sector", () => {
  const seen = { applied: 0, dropped: 0, mixed: 0, garbled: 0 };
  for (let seed = 0; seed < 200; seed++) {
    const on = bench(seed);
    write(on, 0, filled(1));
    write(on, 4096, filled(1));
    assert.is(flush(on), null);
    write(on, 4096, filled(2));
    on.oak.powerLoss();
    on.hal = on.oak.boot();
    assert.ok(
      sectors(read(on, 0)).every((byte) => byte === 1),
      "a flushed page",
    );
    const found = sectors(read(on, 4096));
    if (found.some((byte) => byte !== 1 && byte !== 2)) seen.garbled++;
    else if (found.every((byte) => byte === 2)) seen.applied++;
    else if (found.every((byte) => byte === 1)) seen.dropped++;
    else seen.mixed++;
  }
  for (const [what, count] of Object.entries(seen)) assert.ok(count > 5, `${what}: ${count} of 200`);
});

test("a write after the flush was called -> is not covered by it", () => {
  let lost = 0;
  for (let seed = 0; seed < 40; seed++) {
    const on = bench(seed);
    let isFlushed = false;
    disk(on).flush(() => {
      isFlushed = true;
    });
    on.shelf.disk(0).faults.writeMs = 0.001;
    write(on, 0, filled(1));
    on.world.runUntil(() => isFlushed, 100);
    on.oak.powerLoss();
    on.hal = on.oak.boot();
    if (!sectors(read(on, 0)).every((byte) => byte === 1)) lost++;
  }
  assert.ok(lost > 5);
});

test("a flush is called while another is under way -> it covers what the other covers, whichever ends first", () => {
  for (let seed = 0; seed < 40; seed++) {
    const on = bench(seed);
    write(on, 0, filled(1));
    disk(on).flush(() => {});
    assert.is(flush(on), null);
    on.oak.powerLoss();
    on.hal = on.oak.boot();
    assert.ok(
      sectors(read(on, 0)).every((byte) => byte === 1),
      `seed ${seed}`,
    );
  }
});

test("a failed flush -> what it covered never becomes durable; later ones fail, or succeed on demand", () => {
  let lost = 0;
  for (let seed = 0; seed < 40; seed++) {
    const on = bench(seed);
    on.shelf.disk(0).faults.flushErrorsForgotten = seed > 0;
    on.shelf.disk(0).failNext("flush");
    write(on, 0, filled(1));
    assert.is(flush(on)?.code, "failed");
    assert.is(flush(on)?.code, seed > 0 ? undefined : "failed");
    assert.is(read(on, 0)[0], 1);
    on.oak.powerLoss();
    on.hal = on.oak.boot();
    assert.is(flush(on), null);
    if (!sectors(read(on, 0)).every((byte) => byte === 1)) lost++;
  }
  assert.ok(lost > 5);
});

test("errors on demand -> reported with their code and place; unreadable ranges heal by a write", () => {
  const on = bench(3);
  const { shelf } = on;
  shelf.disk(0).failNext("read", "error", "medium");
  assert.equal(
    outcome(on, (done) => disk(on).read(0, filled(0), done)),
    { code: "medium", text: "shelf0/0: read at 0: medium" },
  );
  shelf.disk(0).makeUnreadable(5000, 10);
  const bad = () => outcome(on, (done) => disk(on).read(4096, filled(0), done))?.code ?? null;
  assert.is(bad(), "medium");
  assert.is(disk(on).tryRead(4096, filled(0)), false);
  write(on, 4096, filled(3));
  assert.is(bad(), null);
  shelf.disk(0).failNext("write");
  assert.is(write(on, 0, filled(1))?.code, "failed");
  shelf.disk(0).faults.pageCountMax = shelf.disk(0).medium.pageCount;
  assert.is(write(on, 1 << 20, filled(1))?.code, "no-space");
  assert.is(write(on, 4096, filled(1)), null);
});

test("silent faults on demand -> lost and misdirected writes succeed, a flipped bit stays flipped", () => {
  const on = bench(4);
  const mock = on.shelf.disk(0);
  write(on, 0, filled(1));
  mock.failNext("write", "lost");
  assert.is(write(on, 0, filled(2)), null);
  assert.is(read(on, 0)[0], 1);
  mock.failNext("write", "misdirected");
  assert.is(write(on, 0, filled(3)), null);
  assert.is(read(on, 0)[0], 1);
  assert.is(mock.medium.pageCount, 2);
  mock.flipBit(17, 3);
  assert.is(read(on, 0)[17], 1 ^ 8);
});

test("a hanging disk -> completes nothing until it goes on; with a deadline it reports a timeout, and the write may come later", () => {
  const on = bench(5);
  const mock = on.shelf.disk(0);
  mock.hang();
  const outcomes: (string | null)[] = [];
  disk(on).write(0, [filled(1)], (error) => outcomes.push(error?.code ?? null));
  on.world.runFor(60_000);
  assert.equal(outcomes, []);
  mock.unhang();
  on.world.runFor(10);
  assert.equal(outcomes, [null]);
  mock.faults.deadlineMs = 500;
  mock.hang();
  const source = filled(2);
  disk(on).write(0, [source], (error) => outcomes.push(error?.code ?? null));
  on.world.runFor(1000);
  assert.equal(outcomes, [null, "timeout"]);
  source.fill(9);
  mock.unhang();
  on.world.runFor(10);
  assert.equal(outcomes, [null, "timeout"]);
  assert.is(read(on, 0)[0], 2, "the bytes of the call");
});

test("a read that reported a timeout -> its target is the caller's again, also when the disk goes on", () => {
  const on = bench(5);
  const mock = on.shelf.disk(0);
  write(on, 0, filled(1));
  mock.faults.deadlineMs = 500;
  mock.hang();
  const outcomes: (string | null)[] = [];
  const target = filled(0);
  disk(on).read(0, target, (error) => outcomes.push(error?.code ?? null));
  on.world.runFor(1000);
  assert.equal(outcomes, ["timeout"]);
  target.fill(9);
  mock.unhang();
  on.world.runFor(10);
  assert.equal(outcomes, ["timeout"]);
  assert.equal(target, filled(9), "nothing was put into it");
});

test("a disk is pulled, put back, swapped -> absent, then there with all its bytes, in the new slot", () => {
  const on = bench(6);
  const held = disk(on);
  write(on, 0, filled(1));
  let code: string | null = null;
  held.read(0, filled(0), (error) => {
    code = error?.code ?? null;
  });
  const pulled = on.shelf.pull(0);
  assert.is(on.hal.shelves[0]!.disks[0], null);
  on.world.runFor(100);
  assert.is(code, "absent");
  assert.is(outcome(on, (done) => held.flush(done))?.code, "absent");
  on.shelf.insert(0, pulled);
  assert.is(read(on, 0)[0], 1);
  on.shelf.swap(0, 1);
  assert.is(disk(on, 1).place, "shelf0/1");
  assert.is(disk(on, 1).sizeBytes, tebibyte);
  on.shelf.swap(1, 2);
  assert.is(on.hal.shelves[0]!.disks[1], null);
  assert.is(disk(on, 2).sizeBytes, tebibyte);
});

test("the contract broken by the caller -> the run ends", () => {
  const on = bench(7);
  const nothing = () => {};
  assert.throws(
    () => disk(on).write(100, [filled(1)], nothing),
    (error: unknown) => error instanceof BrokenContract,
  );
  assert.throws(
    () => disk(on).read(0, filled(1, 100), nothing),
    (error: unknown) => error instanceof BrokenContract,
  );
  assert.throws(
    () => disk(on).write(tebibyte, [filled(1)], nothing),
    (error: unknown) => error instanceof BrokenContract,
  );
  assert.throws(() => on.world.settle(), /shelf0/, "kept even when the firmware catches it");
  const changing = filled(1);
  disk(on).write(0, [changing], nothing);
  changing[7] = 2;
  assert.throws(() => on.world.runFor(100), /source changed/);
  const target = filled(1);
  disk(on).read(0, target, nothing);
  target[7] = 2;
  assert.throws(() => on.world.runFor(100), /target changed/);
});

test("a shared shelf -> both see the writes; one machine's power loss touches its own unflushed writes only", () => {
  let lost = 0;
  for (let seed = 0; seed < 30; seed++) {
    const world = new World({ seed });
    const shelf = world.addShelf({ name: "shelf0", slots: [1 << 20] });
    const add = (name: string) =>
      world.addAppliance({
        name,
        cache: { sizeBytes: 4096, domain: "battery" },
        shelves: [shelf],
        hbaPorts: [],
        nics: [],
      });
    const a = add("oak-a");
    const b = add("oak-b");
    const onA: Bench = { world, shelf, oak: a, hal: a.boot() };
    const onB: Bench = { world, shelf, oak: b, hal: b.boot() };
    write(onA, 0, filled(1));
    write(onB, 4096, filled(2));
    assert.is(read(onB, 0)[0], 1);
    a.powerLoss();
    assert.ok(sectors(read(onB, 4096)).every((byte) => byte === 2));
    if (!sectors(read(onB, 0)).every((byte) => byte === 1)) lost++;
  }
  assert.ok(lost > 3);
});

test("an old image of a disk -> everything since is gone", () => {
  const on = bench(8);
  write(on, 0, filled(1));
  const image = on.shelf.disk(0).medium.image();
  write(on, 0, filled(2));
  write(on, 4096, filled(2));
  on.oak.crash();
  on.shelf.disk(0).medium.restore(image);
  on.hal = on.oak.boot();
  assert.is(read(on, 0)[0], 1);
  assert.is(read(on, 4096)[0], 0);
});

test.run();
