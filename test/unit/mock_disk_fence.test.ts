/** The fence of a simulated disk: who is registered may write, and of the others nothing lands; and what a fence that is none lets through. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { Disk, DiskError, DiskFence } from "../../hal/api/shelf.ts";
import type { MockAppliance } from "../../hal/mock/appliance.ts";
import type { MockDisk } from "../../hal/mock/disk.ts";
import { World } from "../../hal/mock/world.ts";

const test = suite("mock_disk_fence");

type FencedDisk = Disk & { readonly fence: DiskFence };
type Outcome = DiskError["code"] | "good";

class Bench {
  readonly world: World;
  readonly medium: MockDisk;
  readonly a: MockAppliance;
  readonly b: MockAppliance;

  constructor(seed: number) {
    this.world = new World({ seed });
    const shelf = this.world.addShelf({ name: "shelf0", fencing: "atomic", slots: [1 << 20] });
    this.medium = shelf.disk(0);
    const add = (name: string) =>
      this.world.addAppliance({
        name,
        cache: { sizeBytes: 65536, domain: "battery" },
        shelves: [shelf],
        hbaPorts: [],
        nics: [],
      });
    this.a = add("oak-a");
    this.b = add("oak-b");
  }

  boot(which: MockAppliance): FencedDisk {
    return which.boot().shelves[0]!.disks[0]! as FencedDisk;
  }

  /** Both have registered. */
  bootBoth(): { onA: FencedDisk; onB: FencedDisk } {
    const onA = this.boot(this.a);
    const onB = this.boot(this.b);
    assert.is(this.register(onA, 1), "good");
    assert.is(this.register(onB, 2), "good");
    return { onA, onB };
  }

  outcome(start: (done: (error: DiskError | null) => void) => void): Outcome {
    const outcomes: Outcome[] = [];
    start((error) => outcomes.push(error?.code ?? "good"));
    assert.is(outcomes.length, 0, "done before return");
    this.world.runUntil(() => outcomes.length > 0, 10_000);
    assert.is(outcomes.length, 1);
    return outcomes[0]!;
  }

  register(on: FencedDisk, key: number): Outcome {
    return this.outcome((done) => on.fence.register(new Uint8Array(8).fill(key), done));
  }

  evictOthers(on: FencedDisk): Outcome {
    return this.outcome((done) => on.fence.evictOthers(done));
  }

  look(on: FencedDisk): Outcome {
    return this.outcome((done) => on.fence.look(done));
  }

  write(on: Disk, byte: number): Outcome {
    return this.outcome((done) => on.write(0, [filled(byte)], done));
  }

  found(on: Disk): number {
    const target = filled(0xaa);
    assert.is(
      this.outcome((done) => on.read(0, target, done)),
      "good",
    );
    assert.ok(target.every((byte) => byte === target[0]));
    return target[0]!;
  }
}

const filled = (byte: number): Uint8Array => new Uint8Array(4096).fill(byte);

test("nobody is registered -> all may write; somebody is -> only those registered, and all may read", () => {
  const bench = new Bench(1);
  const onA = bench.boot(bench.a);
  const onB = bench.boot(bench.b);
  assert.is(bench.write(onB, 1), "good");
  assert.is(bench.register(onA, 1), "good");
  assert.is(bench.write(onB, 2), "evicted");
  assert.is(
    bench.outcome((done) => onB.flush(done)),
    "evicted",
  );
  assert.is(
    bench.outcome((done) => onB.discard(0, 4096, done)),
    "evicted",
  );
  assert.is(bench.found(onB), 1);
  assert.is(bench.register(onB, 2), "good");
  assert.is(bench.write(onB, 3), "good");
  assert.is(bench.found(onA), 3);
});

test("an eviction -> the other one can do nothing from then on, and learns it; its next boot registers anew", () => {
  const bench = new Bench(2);
  const { onA, onB } = bench.bootBoth();
  assert.is(bench.look(onA), "good");
  assert.is(bench.evictOthers(onB), "good");
  assert.is(bench.look(onA), "evicted");
  assert.is(bench.write(onA, 1), "evicted");
  assert.is(bench.evictOthers(onA), "evicted", "whoever was evicted evicts nobody");
  assert.is(bench.write(onB, 2), "good");
  bench.a.crash();
  const again = bench.boot(bench.a);
  assert.is(bench.write(again, 3), "evicted");
  assert.is(bench.register(again, 3), "good");
  assert.is(bench.look(again), "good");
  assert.is(bench.write(again, 4), "good");
  assert.is(bench.look(onB), "good");
});

test("the next boot of whoever was not evicted -> it takes the place of the one before", () => {
  const bench = new Bench(3);
  bench.bootBoth();
  bench.a.crash();
  const again = bench.boot(bench.a);
  assert.is(bench.look(again), "evicted", "it has registered nothing itself");
  assert.is(bench.register(again, 3), "good");
  assert.equal([...bench.medium.registrations.keys()].sort(), ["oak-a", "oak-b"]);
});

test("a write is under way when its writer is evicted -> it never lands; at a disk that judges when it is sent it does", () => {
  for (const lateWrites of [false, true]) {
    const bench = new Bench(4);
    const { onA, onB } = bench.bootBoth();
    assert.is(bench.write(onB, 1), "good");
    bench.medium.faults.lateWrites = lateWrites;
    bench.medium.faults.slowFactor = 1000;
    let late: Outcome | null = null;
    onA.write(0, [filled(2)], (error) => {
      late = error?.code ?? "good";
    });
    bench.medium.faults.slowFactor = 1;
    assert.is(bench.evictOthers(onB), "good");
    assert.is(late, null, "still under way");
    assert.is(bench.found(onB), 1);
    bench.world.runUntil(() => late !== null, 10_000);
    assert.is(late, lateWrites ? "good" : "evicted");
    assert.is(bench.found(onB), lateWrites ? 2 : 1);
  }
});

test("the evicted one dies with a write under way -> nothing of that lands", () => {
  for (let seed = 10; seed < 40; seed++) {
    const bench = new Bench(seed);
    const { onA, onB } = bench.bootBoth();
    assert.is(bench.write(onB, 1), "good");
    bench.medium.faults.slowFactor = 1000;
    onA.write(0, [filled(2)], () => assert.unreachable("a dead boot is called"));
    bench.medium.faults.slowFactor = 1;
    assert.is(bench.evictOthers(onB), "good");
    bench.a.crash();
    assert.is(bench.found(onB), 1);
  }
});

test("an error -> it has happened, or it has not", () => {
  const seen = { evicted: 0, good: 0 };
  for (let seed = 50; seed < 80; seed++) {
    const bench = new Bench(seed);
    const { onA, onB } = bench.bootBoth();
    bench.medium.faults.fenceErrorRate = 1;
    assert.is(bench.evictOthers(onB), "failed");
    bench.medium.faults.fenceErrorRate = 0;
    const mine = bench.look(onA);
    assert.ok(mine === "good" || mine === "evicted");
    seen[mine]++;
  }
  assert.ok(seen.good > 5 && seen.evicted > 5, JSON.stringify(seen));
});

test("a power loss, the disk's too -> registrations stay; at a disk without APTPL they go, and all may write", () => {
  for (const forgetsRegistrations of [false, true]) {
    const bench = new Bench(90);
    const { onB } = bench.bootBoth();
    assert.is(bench.evictOthers(onB), "good");
    bench.medium.faults.forgetsRegistrations = forgetsRegistrations;
    bench.a.powerLoss();
    bench.b.powerLoss();
    const onA = bench.boot(bench.a);
    assert.is(bench.write(onA, 1), forgetsRegistrations ? "good" : "evicted");
  }
});

test("a shelf with other fencing -> its disks have no fence", () => {
  const world = new World({ seed: 1 });
  const shelf = world.addShelf({ name: "shelf0", fencing: "power", slots: [1 << 20] });
  const oak = world.addAppliance({
    name: "oak-a",
    cache: { sizeBytes: 65536, domain: "battery" },
    shelves: [shelf],
    hbaPorts: [],
    nics: [],
  });
  assert.is(oak.boot().shelves[0]!.disks[0]!.fence, undefined);
});

test.run();
