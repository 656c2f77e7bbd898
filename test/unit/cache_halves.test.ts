/** A write cache that two halves of an array share: what becomes of one when it fails for the other. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { cacheHalves } from "../../firmware/cache/cache_halves.ts";
import type { WriteCache } from "../../hal/api/write_cache.ts";
import { World } from "../../hal/mock/world.ts";

const test = suite("cache_halves");

/** A cache of domain `flush`; after a failed persist the next one seems to succeed. */
function forgetfulMachine() {
  const world = new World({ seed: 7 });
  const cache = { sizeBytes: 1048576, domain: "flush" } as const;
  const machine = world.addAppliance({ name: "oak-a", cache, shelves: [], hbaPorts: [], nics: [] });
  machine.nvram.faults.persistErrorsForgotten = true;
  const boot = (run: (halves: readonly [WriteCache, WriteCache]) => void) => {
    machine.start(({ cache }) => run(cacheHalves(cache)));
    world.runFor(100);
  };
  return { machine, boot };
}

function store(half: WriteCache, at: number, byte: number): void {
  half.memory.fill(byte, at, at + 4096);
  half.wrote(at, 4096);
}

test("one half's persist fails, which has covered the other's stores -> that one's next persist promises nothing", () => {
  for (const failing of [0, 1] as const) {
    const { machine, boot } = forgetfulMachine();
    const outcomes: string[] = [];
    boot((halves) => {
      const [one, other] = [halves[failing], halves[1 - failing]!];
      store(other, 65536, 1);
      machine.nvram.failPersists();
      one.persist((outcome) => outcomes.push(outcome));
      other.persist((outcome) => {
        outcomes.push(outcome);
        store(other, 131072, 2);
        other.persist((later) => outcomes.push(later));
      });
    });
    assert.equal(outcomes, ["failed", "failed", "failed"]);
  }
});

test("the cache is good -> each half persists, and keeps what it stored", () => {
  const { machine, boot } = forgetfulMachine();
  const outcomes: string[] = [];
  boot((halves) => {
    for (const [index, half] of halves.entries()) {
      store(half, 65536, index + 1);
      half.persist((outcome) => outcomes.push(outcome));
    }
  });
  assert.equal(outcomes, ["persisted", "persisted"]);
  machine.powerLoss();
  boot((halves) => {
    assert.is(halves[0].memory[65536], 1);
    assert.is(halves[1].memory[65536], 2);
  });
});

test.run();
