/** The fuzzer's budget in the test run; by hand it is unlimited: scripts/fuzz. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { startServer } from "../real/support/nbd_server.ts";
import { targetName } from "../unit/support/iscsi_bench.ts";
import { Fuzzer } from "./fuzzer.ts";
import { IscsiFuzzTarget } from "./iscsi_target.ts";

const test = suite("fuzz_iscsi");

/** About 4,000 a second. */
const casesPerSeed = 20_000;
const liveCases = 400;

function run(seed: number, cases: number): { reached: string; poolSize: number } {
  const target = new IscsiFuzzTarget();
  const fuzzer = new Fuzzer(target, seed);
  for (let index = 0; index < cases; index++) {
    const fuzzCase = fuzzer.next();
    const report = target.runCase(fuzzCase);
    assert.is(report.finding, null, `case ${fuzzer.caseCount} of seed ${seed}: scripts/fuzz iscsi --seed ${seed}`);
    fuzzer.learn(fuzzCase, report);
  }
  return { reached: [...fuzzer.reached].join("\n"), poolSize: fuzzer.poolSize };
}

test("recorded sessions -> every one reaches what it was recorded for", () => {
  const target = new IscsiFuzzTarget();
  const reached = target.corpus().flatMap((script) => target.runCase({ script, scenarioSeed: 3 }).reached);
  // Login, response, data with status, R2T, task management, text, logout, ping, Reject, a dropped session.
  for (const word of [
    "23 135",
    "21 128 0 0",
    "25 129",
    "31 128",
    "22 128 0 0",
    "24 128",
    "26 128 0 0",
    "20 128",
    "3f 128 4",
  ]) {
    assert.ok(
      reached.some((each) => each.startsWith(word)),
      word,
    );
  }
});

test("the same seed -> the same cases, reaching the same", () => {
  assert.equal(run(9, 1000), run(9, 1000));
});

for (const seed of [1, 2]) {
  test(`${casesPerSeed} mutated sessions of seed ${seed} -> every invariant holds`, () => {
    assert.ok(run(seed, casesPerSeed).poolSize > 150);
  });
}

test(`${liveCases} mutated sessions against a server on TCP -> allowed conversations, and it serves on`, async () => {
  const server = await startServer(["1048576"], "iscsi");
  const target = new IscsiFuzzTarget();
  const fuzzer = new Fuzzer(target, 4);
  for (let index = 0; index < liveCases; index++) {
    const fuzzCase = fuzzer.next();
    const report = await target.runAt(server.address, targetName, fuzzCase);
    assert.is(report.finding, null, `case ${fuzzer.caseCount} of seed 4`);
    fuzzer.learn(fuzzCase, report);
  }
  assert.ok(server.alive());
  await server.stop();
});

test.run();
