/** The fuzzer's budget in the test run; by hand it is unlimited: scripts/fuzz. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { startServer } from "../real/support/nbd_server.ts";
import { Fuzzer } from "./fuzzer.ts";
import { NbdFuzzTarget } from "./nbd_target.ts";

const test = suite("fuzz_nbd");

/** About 20,000 a second. */
const casesPerSeed = 80_000;
const liveCases = 1500;

function run(seed: number, cases: number): { reached: string; poolSize: number } {
  const target = new NbdFuzzTarget();
  const fuzzer = new Fuzzer(target, seed);
  for (let index = 0; index < cases; index++) {
    const fuzzCase = fuzzer.next();
    const report = target.runCase(fuzzCase);
    assert.is(report.finding, null, `case ${fuzzer.caseCount} of seed ${seed}: scripts/fuzz nbd --seed ${seed}`);
    fuzzer.learn(fuzzCase, report);
  }
  return { reached: [...fuzzer.reached].join("\n"), poolSize: fuzzer.poolSize };
}

test("recorded sessions -> every one reaches the end that it was recorded for", () => {
  const target = new NbdFuzzTarget();
  const reached = target.corpus().map((script) => target.runCase({ script, scenarioSeed: 3 }).reached.join("; "));
  for (const word of ["reply 7 structured 5", "reply 7 extended 6", "reply 0 simple simple 0", "option 2"]) {
    assert.ok(
      reached.some((each) => each.includes(word)),
      word,
    );
  }
});

test("the same seed -> the same cases, reaching the same", () => {
  assert.equal(run(9, 3000), run(9, 3000));
});

for (const seed of [1, 2, 3]) {
  test(`${casesPerSeed} mutated sessions of seed ${seed} -> every invariant holds`, () => {
    assert.ok(run(seed, casesPerSeed).poolSize > 1000);
  });
}

test(`${liveCases} mutated sessions against a server on TCP -> allowed conversations, and it serves on`, async () => {
  const server = await startServer(["demo-1=131072", "golden=131072:ro"]);
  const target = new NbdFuzzTarget();
  const fuzzer = new Fuzzer(target, 4);
  for (let index = 0; index < liveCases; index++) {
    const fuzzCase = fuzzer.next();
    const report = await target.runAt(server.address, "demo-1", fuzzCase);
    assert.is(report.finding, null, `case ${fuzzer.caseCount} of seed 4`);
    fuzzer.learn(fuzzCase, report);
  }
  assert.ok(server.alive());
  await server.stop();
});

test.run();
