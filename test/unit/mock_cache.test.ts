/** Simulated NVRAM: both persistence domains through every kind of death. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { Hal } from "../../hal/api/hal.ts";
import type { PersistenceDomain } from "../../hal/api/write_cache.ts";
import type { MockAppliance } from "../../hal/mock/appliance.ts";
import { World } from "../../hal/mock/world.ts";

const test = suite("mock_cache");

interface Bench {
  readonly world: World;
  readonly oak: MockAppliance;
  hal: Hal;
}

function bench(seed: number, domain: PersistenceDomain): Bench {
  const world = new World({ seed });
  const oak = world.addAppliance({
    name: "oak-a",
    cache: { sizeBytes: 65536, domain, storeCheck: "full" },
    shelves: [],
    hbaPorts: [],
    nics: [],
  });
  return { world, oak, hal: oak.boot() };
}

function store(on: Bench, at: number, bytes: number, byte: number): void {
  on.hal.cache.memory.fill(byte, at, at + bytes);
  on.hal.cache.wrote(at, bytes);
}

function persist(on: Bench): "persisted" | "failed" {
  let outcome: "persisted" | "failed" | null = null;
  on.hal.cache.persist((result) => {
    outcome = result;
  });
  on.world.runUntil(() => outcome !== null, 1000);
  assert.ok(outcome !== null);
  return outcome;
}

function restart(on: Bench, how: "crash" | "powerLoss"): void {
  on.oak[how]();
  on.hal = on.oak.boot();
}

/** Each sector's byte; -1: mixed. */
const sectors = (on: Bench, at: number, count: number): number[] =>
  Array.from({ length: count }, (_, index) => {
    const sector = on.hal.cache.memory.subarray(at + index * 512, at + index * 512 + 512);
    return sector.every((byte) => byte === sector[0]) ? sector[0]! : -1;
  });

test("battery -> every declared store survives both deaths, without a persist", () => {
  for (const how of ["crash", "powerLoss"] as const) {
    const on = bench(1, "battery");
    store(on, 1000, 3000, 7);
    const before = on.hal.cache.memory.slice();
    restart(on, how);
    assert.is(Buffer.compare(on.hal.cache.memory, before), 0);
    assert.is(persist(on), "persisted");
  }
});

test("battery failed -> told to the listener; the content is lost with the power, not with the process", () => {
  const on = bench(2, "battery");
  const states: string[] = [];
  on.hal.cache.onBattery((state) => states.push(state));
  store(on, 0, 4096, 7);
  on.oak.nvram.failBattery();
  on.world.runFor(1);
  assert.is(on.hal.cache.battery(), "failed");
  restart(on, "crash");
  assert.equal(sectors(on, 0, 8), new Array(8).fill(7));
  restart(on, "powerLoss");
  assert.ok(sectors(on, 0, 8).every((byte) => byte === -1));
  on.hal.cache.onBattery((state) => states.push(state));
  on.oak.nvram.repairBattery();
  on.world.runFor(1);
  assert.equal(states, ["failed", "good"]);
});

test("flush -> what a completed persist covered survives; the rest is applied, dropped or (power) garbled by sector", () => {
  const seen = { crash: new Set<string>(), powerLoss: new Set<string>() };
  for (const how of ["crash", "powerLoss"] as const) {
    for (let seed = 0; seed < 100; seed++) {
      const on = bench(seed, "flush");
      store(on, 0, 4096, 1);
      assert.is(persist(on), "persisted");
      store(on, 2048, 4096, 2);
      restart(on, how);
      assert.equal(sectors(on, 0, 4), [1, 1, 1, 1], "persisted and not touched again");
      const open = [...sectors(on, 2048, 8)];
      for (const [index, byte] of open.entries()) {
        if (byte === 2) seen[how].add("applied");
        else if (byte === (index < 4 ? 1 : 0)) seen[how].add("dropped");
        else seen[how].add("garbled");
      }
      const mixed = new Set(open.map((byte) => byte === 2)).size > 1;
      if (mixed) seen[how].add("torn");
    }
  }
  assert.equal([...seen.crash].toSorted(), ["applied", "dropped", "torn"]);
  assert.equal([...seen.powerLoss].toSorted(), ["applied", "dropped", "garbled", "torn"]);
});

test("flush, a store after persist was called -> is not covered by it; persists complete in their order", () => {
  let dropped = 0;
  for (let seed = 0; seed < 40; seed++) {
    const on = bench(seed, "flush");
    const order: number[] = [];
    store(on, 0, 512, 1);
    on.hal.cache.persist(() => order.push(1));
    store(on, 512, 512, 2);
    for (let index = 2; index < 6; index++) {
      if (index > 2) on.hal.cache.persist(() => order.push(index));
    }
    on.world.runUntil(() => order.length === 4, 1000);
    assert.equal(order, [1, 3, 4, 5]);
    store(on, 1024, 512, 3);
    let isDone = false;
    on.hal.cache.persist(() => {
      isDone = true;
    });
    store(on, 1536, 512, 4);
    on.world.runUntil(() => isDone, 1000);
    restart(on, "powerLoss");
    assert.equal(sectors(on, 0, 3), [1, 2, 3]);
    if (sectors(on, 1536, 1)[0] !== 4) dropped++;
  }
  assert.ok(dropped > 5);
});

test("a persist that fails -> what it covered never becomes durable; later ones fail, or succeed on demand", () => {
  let lost = 0;
  for (let seed = 0; seed < 40; seed++) {
    const on = bench(seed, "flush");
    on.oak.nvram.failPersists();
    on.oak.nvram.faults.persistErrorsForgotten = seed > 0;
    store(on, 0, 512, 1);
    assert.is(persist(on), "failed");
    assert.is(persist(on), seed > 0 ? "persisted" : "failed");
    restart(on, "powerLoss");
    if (sectors(on, 0, 1)[0] !== 1) lost++;
    assert.is(persist(on), "persisted");
  }
  assert.ok(lost > 5);
});

test("a store that was not declared -> a broken contract, after a persist and at a death", () => {
  for (const domain of ["battery", "flush"] as const) {
    const on = bench(3, domain);
    on.hal.cache.memory[5000] = 1;
    on.hal.cache.persist(() => {});
    assert.throws(() => on.world.runFor(100), /byte 5000 of the cache was not declared/);
    assert.throws(() => on.oak.crash(), /byte 5000/);
  }
});

test("a store and its declaration -> may both come after another part's persist in the same event", () => {
  const on = bench(4, "battery");
  on.hal.clock.after(1, () => {
    on.hal.cache.memory[1] = 1;
    on.hal.cache.persist(() => {});
    on.hal.cache.wrote(1, 1);
  });
  on.world.runFor(10);
  restart(on, "crash");
  assert.is(on.hal.cache.memory[1], 1);
});

test("death between a store and its declaration -> the store is there or not, and no broken contract", () => {
  const seen = new Set<number>();
  for (let seed = 0; seed < 20; seed++) {
    const on = bench(seed, "battery");
    on.oak.crashAtEffect(2);
    on.hal.clock.after(1, () => {
      store(on, 0, 512, 1);
      store(on, 512, 512, 2);
      store(on, 1024, 512, 3);
    });
    on.world.runFor(10);
    assert.is(on.oak.isUp, false);
    on.hal = on.oak.boot();
    const [first, second, third] = sectors(on, 0, 3);
    assert.is(first, 1);
    assert.is(third, 0, "stored after the death");
    seen.add(second!);
  }
  assert.equal([...seen].toSorted(), [0, 2]);
});

test("an old image, a blank module, a flipped bit -> are what the next boot finds", () => {
  const on = bench(5, "battery");
  store(on, 0, 512, 1);
  const image = on.oak.nvram.image();
  store(on, 0, 512, 2);
  assert.throws(() => on.oak.nvram.restore(image), /is up/);
  on.oak.crash();
  on.oak.nvram.restore(image);
  on.hal = on.oak.boot();
  assert.is(on.hal.cache.memory[0], 1);
  on.oak.nvram.flipBit(0, 4);
  assert.is(on.hal.cache.memory[0], 17);
  restart(on, "crash");
  assert.is(on.hal.cache.memory[0], 17);
  on.oak.crash();
  on.oak.nvram.replace();
  on.hal = on.oak.boot();
  assert.ok(on.hal.cache.memory.every((byte) => byte === 0));
});

test.run();
