/** Random operations on the store beside a model: without deaths, and with process deaths and power losses at any moment. */
import { suite } from "uvu";
import { Prng } from "../../hal/mock/prng.ts";
import { mebibyte, StoreBench } from "./support/store_bench.ts";
import { StoreOracle } from "./support/store_oracle.ts";

const test = suite("store_random");

function oracleOf(seed: number): StoreOracle {
  const bench = new StoreBench({ seed, slots: [96 * mebibyte, 64 * mebibyte], mapCacheBytes: mebibyte });
  return new StoreOracle(bench, new Prng(seed, "operations"));
}

function withSeed(seed: number, run: () => void): void {
  try {
    run();
  } catch (error) {
    throw new Error(`seed ${seed}: ${(error as Error).message}`, { cause: error });
  }
}

/** More seeds: STORE_SEEDS=1..500. */
const [firstSeed, lastSeed] = (process.env["STORE_SEEDS"] ?? "1..2").split("..").map(Number) as [number, number];

test("operations on head and forks -> every version reads as the model says; nothing leaks, nothing is used twice", () => {
  for (let seed = firstSeed; seed <= lastSeed; seed += 1) {
    withSeed(seed, () => {
      const oracle = oracleOf(seed);
      for (let round = 0; round < 150; round += 1) {
        oracle.step();
        if (oracle.prng.chance(0.15)) oracle.commit();
        if (oracle.prng.chance(0.1)) oracle.bench.world.runFor(oracle.prng.below(5));
        if (oracle.prng.chance(0.05)) oracle.compare();
        if (oracle.prng.chance(0.02)) oracle.checkSpace();
      }
      oracle.compare();
      oracle.checkSpace();
      for (const fork of oracle.group.forks()) oracle.perform({ kind: "drop", id: fork.id });
      for (const { number } of oracle.group.volumes("head")) oracle.perform({ kind: "delete", volume: number });
      oracle.checkSpace();
      if (oracle.group.usage().dataBytes !== 0) throw new Error("something is left when nothing should be");
    });
  }
});

test("deaths and power losses at any moment -> what was committed is there, the replay restores the rest, nothing leaks", () => {
  for (let seed = firstSeed; seed <= lastSeed; seed += 1) {
    withSeed(seed, () => {
      const oracle = oracleOf(seed + 1_000_000);
      const { prng, bench } = oracle;
      const die = () => (prng.chance(0.5) ? bench.powerLoss() : bench.crash());
      for (let round = 0; round < 12; round += 1) {
        for (let count = prng.below(12); count > 0; count -= 1) {
          oracle.step();
          if (prng.chance(0.2)) oracle.commit();
          if (prng.chance(0.1)) bench.world.runFor(prng.below(5));
        }
        const how = prng.below(3);
        const operation = how === 0 ? oracle.draw() : null;
        if (operation?.kind === "apply") {
          oracle.note(operation);
          oracle.group.apply(operation.steps, () => {});
          bench.world.runFor(prng.unit() * 3);
        } else if (how === 1) {
          oracle.commits += 1;
          oracle.group.commit(oracle.commits, () => {});
          bench.world.runFor(prng.unit() * 6);
        }
        die();
        oracle.recover(how === 1);
        if (prng.chance(0.3)) oracle.checkSpace();
      }
      oracle.checkSpace();
      oracle.compare();
    });
  }
});

test.run();
