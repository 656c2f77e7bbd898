/** hal/api/write_cache.ts, both persistence domains. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { WriteCache } from "../../hal/api/write_cache.ts";
import { cacheBytes, type HalBench, type Machine, outcomeOf, pattern, sameBytes } from "./bench.ts";

type Outcome = "persisted" | "failed";

export function cacheSuite(name: string, domain: "battery" | "flush", newBench: () => Promise<HalBench>): void {
  const test = suite(`${name}: write cache, ${domain}`);
  let bench: HalBench;
  let machine: Machine;
  test.before.each(async () => {
    bench = await newBench();
    machine = await bench.open({ appliance: "oak-a", persistence: domain });
  });
  test.after.each(async () => {
    await bench.close();
  });

  const store = (cache: WriteCache, offsetBytes: number, bytes: Uint8Array) => {
    cache.memory.set(bytes, offsetBytes);
    cache.wrote(offsetBytes, bytes.byteLength);
  };
  const persist = (cache: WriteCache) => outcomeOf<Outcome>(bench, "a persist", (done) => cache.persist(done));

  test("a new cache -> zeros of its size, its domain, a good battery", () => {
    const { cache } = machine.hal;
    assert.is(cache.sizeBytes, cacheBytes);
    assert.is(cache.memory.byteLength, cacheBytes);
    assert.is(cache.domain, domain);
    assert.is(cache.battery(), "good");
    assert.not(cache.memory.some((byte) => byte !== 0));
  });

  test("stores anywhere are persisted, the process dies -> all are there", async () => {
    const { cache } = machine.hal;
    const expected = new Uint8Array(cacheBytes);
    for (const [seed, offset, length] of [
      [1, 0, 1],
      [2, 4095, 2],
      [3, 8192, 4096],
      [4, 100_000, 70_000],
      [5, cacheBytes - 5000, 5000],
    ] as const) {
      const bytes = pattern(length, seed);
      expected.set(bytes, offset);
      store(cache, offset, bytes);
    }
    assert.is(await persist(cache), "persisted");
    await machine.restart();
    sameBytes(machine.hal.cache.memory, expected, "after the restart");
  });

  test("rounds of overlapping stores with restarts between -> the newest persisted bytes are there", async () => {
    const expected = new Uint8Array(cacheBytes);
    for (let round = 0; round < 12; round++) {
      const bytes = pattern(1 + ((round * 7919) % 60_000), round + 1);
      const offset = (round * 104_729) % (cacheBytes - bytes.byteLength);
      expected.set(bytes, offset);
      store(machine.hal.cache, offset, bytes);
      assert.is(await persist(machine.hal.cache), "persisted");
      if (round % 4 === 3) {
        await machine.restart();
        sameBytes(machine.hal.cache.memory, expected, `round ${round}`);
      }
    }
  });

  test("persists are called while others are under way -> all done, in order, each store durable", async () => {
    const { cache } = machine.hal;
    const order: number[] = [];
    for (let index = 0; index < 100; index++) {
      store(cache, index * 5000, pattern(300, index + 1));
      cache.persist((outcome) => {
        assert.is(outcome, "persisted");
        order.push(index);
      });
      if (index % 10 === 9) await bench.until("some", () => order.length >= index - 5);
    }
    await bench.until("all", () => order.length >= 100);
    assert.equal(
      order,
      Array.from({ length: 100 }, (_, index) => index),
    );
    await machine.restart();
    for (let index = 0; index < 100; index++) {
      sameBytes(
        machine.hal.cache.memory.subarray(index * 5000, index * 5000 + 300),
        pattern(300, index + 1),
        `${index}`,
      );
    }
  });

  test("a persist follows from within a persist's outcome -> it is done too", async () => {
    const { cache } = machine.hal;
    let depth = 0;
    const next = () => {
      store(cache, depth * 4096, pattern(100, depth + 1));
      cache.persist(() => {
        if (++depth < 20) next();
      });
    };
    next();
    await bench.until("all", () => depth === 20);
    await machine.restart();
    sameBytes(machine.hal.cache.memory.subarray(19 * 4096, 19 * 4096 + 100), pattern(100, 20), "the last");
  });

  test("nothing was stored -> a persist is done nevertheless", async () => {
    assert.is(await persist(machine.hal.cache), "persisted");
    assert.is(await persist(machine.hal.cache), "persisted");
  });

  if (domain === "battery") {
    test("stores are declared but not persisted, the process dies -> all are there", async () => {
      store(machine.hal.cache, 12_345, pattern(70_000, 1));
      await machine.restart();
      sameBytes(machine.hal.cache.memory.subarray(12_345, 82_345), pattern(70_000, 1), "after the restart");
    });
  }

  test("the battery fails and recovers -> the listener is told each change once, battery() agrees", async () => {
    const { cache } = machine.hal;
    const states: string[] = [];
    cache.onBattery((state) => {
      assert.is(state, cache.battery());
      states.push(state);
    });
    machine.setBattery("failed");
    machine.setBattery("failed");
    await bench.until("the failure", () => states.length >= 1);
    assert.is(cache.battery(), "failed");
    machine.setBattery("good");
    await bench.until("the recovery", () => states.length >= 2);
    assert.equal(states, ["failed", "good"]);
  });

  test("the cache fails -> this and every later persist fails", async () => {
    const { cache } = machine.hal;
    store(cache, 0, pattern(100, 1));
    assert.is(await persist(cache), "persisted");
    machine.failCache();
    store(cache, 4096, pattern(100, 2));
    assert.is(await persist(cache), "failed");
    assert.is(await persist(cache), "failed");
    // Reading goes on.
    sameBytes(cache.memory.subarray(0, 100), pattern(100, 1), "what was stored");
  });

  test.run();
}
