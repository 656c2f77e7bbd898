/**
 * Two runs of one seed are the same run: every line of the chronicle, every event and its time, in one process and in two.
 *
 * The chronicle tells what happened on both arrays, to the microsecond; the fingerprint covers every event of the world and digests of
 * what disks were given.
 */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { classesFor, type FaultClass, faultClasses } from "./faults.ts";
import { type RunReport, runSeed } from "./run.ts";
import type { PairCount } from "./site_plan.ts";

const test = suite("sim_determinism");

const ticks = 1500;
/** With media that rot a run ends without mending; the others heal, and are judged to the end. */
const mending = faultClasses.filter((name) => name !== "rot");
const runs: readonly { readonly seed: number; readonly classes: readonly FaultClass[]; readonly pairs?: PairCount }[] =
  [
    { seed: 7, classes: faultClasses },
    { seed: 14, classes: mending },
    { seed: 4012, classes: mending.filter((name) => name !== "pool" && name !== "disk") },
    { seed: 21, classes: classesFor("both", faultClasses), pairs: "both" },
  ];

const played: Played[] = [];

interface Played {
  readonly lines: string[];
  readonly report: RunReport;
}

function play(seed: number, classes: readonly FaultClass[], pairs: PairCount): Played {
  const lines: string[] = [];
  const trace = (line: string) => void lines.push(line);
  const report = runSeed({ seed, ticks, pairs, faults: classes, always: classes, operator: true, trace });
  return { lines, report };
}

function playApart(seed: number, classes: readonly FaultClass[], pairs: PairCount): string[] {
  const script = join(import.meta.dirname, "..", "..", "scripts", "sim.ts");
  const named = classes.join(",");
  const words = [
    "--seed",
    `${seed}`,
    "--ticks",
    `${ticks}`,
    "--faults",
    named,
    "--always",
    named,
    "--pairs",
    pairs,
    "--trace",
  ];
  const { stdout, status } = spawnSync(process.execPath, [script, ...words], { encoding: "utf8" });
  assert.is(status, 0, stdout.slice(-2000));
  const lines = stdout.trimEnd().split("\n");
  // The last line tells real time.
  return lines.slice(0, -1);
}

for (const { seed, classes, pairs = "none" } of runs) {
  test(`seed ${seed} with ${classes.length} classes of faults is played thrice, once by another process -> one run`, () => {
    const first = play(seed, classes, pairs);
    const second = play(seed, classes, pairs);
    played.push(first);
    assert.is(first.report.violation, null);
    assert.ok(first.lines.length > 20, `${first.lines.length} lines`);
    assert.equal(second.lines, first.lines);
    assert.equal(second.report, first.report);
    const { fingerprint, events } = first.report;
    assert.equal(playApart(seed, classes, pairs), [...first.lines, `fingerprint ${fingerprint}, ${events} events`]);
  });
}

test("two seeds -> two runs", () => {
  const fingerprints = new Set(played.map(({ report }) => report.fingerprint));
  assert.is(fingerprints.size, runs.length);
});

test.run();
