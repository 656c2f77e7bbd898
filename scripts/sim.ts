/**
 * Simulates sites of two arrays, single or pairs, by seed and checks what they promise: `scripts/sim --help`.
 *
 * A failure prints the seed, the invariant, the facts and the way to play it again. The last line sums up. Exit codes: 0 every seed
 * held, 1 one did not, 2 usage.
 */
import { type FaultClass, faultClasses } from "../test/sim/faults.ts";
import { type RunReport, runSeed } from "../test/sim/run.ts";
import { type Fencing, fencings, type PairCount, pairCounts } from "../test/sim/site_plan.ts";

const defaultTicks = 8000;

const usage = `usage: scripts/sim [--seed N | --seeds A..B] [options]

Plays sites of two arrays with real firmware on simulated hardware: hosts read and write, faults strike, an operator gives commands;
then everything is healed and must become whole. What is checked, and how to read a failure: docs/simulation.md.

  --seed N        one seed
  --seeds A..B    all seeds from A to B (default 1..20)
  --ticks T       milliseconds of simulated time under load and faults (default ${defaultTicks}); healing comes on top
  --faults C,…    the only classes of faults that may strike; each seed draws some of them. Of:
                  ${wrap(faultClasses, 100, 18)}
  --without C,…   classes that may not strike
  --always C,…    classes that strike every seed, whatever it draws
  --pairs P       how many arrays are pairs: ${pairCounts.join(", ")}; as the seed draws without it
  --fencing F     how the partners of pairs are fenced: ${fencings.join(", ")}; as the seed draws without it
  --no-operator   nobody gives commands
  --keep-going    goes on behind a failure
  --trace         prints everything that happens, and the fingerprint of the run

Exit codes: 0 every seed held, 1 one did not (seed, invariant, last events and the replay command are printed), 2 usage.`;

interface Arguments {
  readonly first: number;
  readonly last: number;
  readonly ticks: number;
  readonly faults: readonly FaultClass[];
  readonly always: readonly FaultClass[];
  /** What a replay needs beside seed and ticks. */
  readonly faultWords: string;
  /** null: as each seed draws. */
  readonly pairs: PairCount | null;
  readonly fencing: Fencing | null;
  readonly operator: boolean;
  readonly keepGoing: boolean;
  readonly trace: boolean;
}

function wrap(words: readonly string[], widthMax: number, indent: number): string {
  const lines = [""];
  for (const word of words) {
    if (lines.at(-1)!.length + word.length > widthMax) lines.push("");
    lines[lines.length - 1] += ` ${word}`;
  }
  return lines.map((line) => line.trim()).join(`\n${" ".repeat(indent)}`);
}

function fail(text: string): never {
  console.error(`sim: ${text}\n${usage}`);
  process.exit(2);
}

function wholeNumber(word: string | undefined, name: string): number {
  const value = Number(word);
  if (word === undefined || !Number.isSafeInteger(value) || value < 0) fail(`${name} takes a whole number`);
  return value;
}

function classList(word: string | undefined, name: string): FaultClass[] {
  const names = (word ?? fail(`${name} takes classes`)).split(",").filter((one) => one !== "");
  for (const one of names) if (!faultClasses.includes(one as FaultClass)) fail(`there is no class ${one}`);
  return names as FaultClass[];
}

const withValue = [
  "--seed",
  "--seeds",
  "--ticks",
  "--without",
  "--faults",
  "--only",
  "--always",
  "--pairs",
  "--fencing",
];

function readArguments(words: readonly string[]): Arguments {
  let range = { first: 1, last: 20 };
  let ticks = defaultTicks;
  let faults: readonly FaultClass[] = faultClasses;
  let always: readonly FaultClass[] = [];
  let faultWords = "";
  let pairs: PairCount | null = null;
  let fencing: Fencing | null = null;
  let operator = true;
  let keepGoing = false;
  let trace = false;
  for (let at = 0; at < words.length; at++) {
    const word = words[at]!;
    const next = words[at + 1];
    if (word === "--seed") range = { first: wholeNumber(next, word), last: wholeNumber(next, word) };
    else if (word === "--seeds") {
      const [from, to] = (next ?? "").split("..");
      range = { first: wholeNumber(from, word), last: wholeNumber(to, word) };
    } else if (word === "--ticks") ticks = wholeNumber(next, word);
    else if (word === "--without") {
      const without = classList(next, word);
      faults = faultClasses.filter((one) => !without.includes(one));
      faultWords += ` --without ${next}`;
    } else if (word === "--faults" || word === "--only") {
      faults = classList(next, word);
      faultWords += ` --faults ${next}`;
    } else if (word === "--always") {
      always = classList(next, word);
      faultWords += ` --always ${next}`;
    } else if (word === "--pairs") {
      pairs = pairCounts.find((one) => one === next) ?? fail(`--pairs takes one of ${pairCounts.join(", ")}`);
      faultWords += ` --pairs ${next}`;
    } else if (word === "--fencing") {
      fencing = fencings.find((one) => one === next) ?? fail(`--fencing takes one of ${fencings.join(", ")}`);
      faultWords += ` --fencing ${next}`;
    } else if (word === "--no-operator") operator = false;
    else if (word === "--keep-going") keepGoing = true;
    else if (word === "--trace") trace = true;
    else if (word === "--help") {
      console.log(usage);
      process.exit(0);
    } else fail(`unknown argument ${word}`);
    if (withValue.includes(word)) at++;
  }
  return { ...range, ticks, faults, always, faultWords, pairs, fencing, operator, keepGoing, trace };
}

interface Totals {
  seeds: number;
  failed: number;
  hostWrites: number;
  simulatedMs: number;
}

function report(run: RunReport, replay: string): void {
  const { violation } = run;
  if (violation === null) return;
  console.log(`\nseed ${run.seed}: ${violation.invariant} does not hold at ${violation.atMs.toFixed(3)} ms`);
  console.log(`  ${violation.text}`);
  for (const fact of violation.facts) console.log(`    ${fact}`);
  console.log("  what happened near it:");
  for (const line of run.recent) console.log(`  ${line}`);
  console.log(`seed ${run.seed}: ${violation.invariant}: ${violation.text}`);
  console.log(`replay: ${replay}`);
}

function main(): void {
  const options = readArguments(process.argv.slice(2));
  const startedMs = performance.now();
  const totals: Totals = { seeds: 0, failed: 0, hostWrites: 0, simulatedMs: 0 };
  const elapsedSeconds = (): number => (performance.now() - startedMs) / 1000;
  const one = (seed: number): boolean => {
    const trace = options.trace ? { trace: (line: string) => console.log(line) } : {};
    const { ticks, faults, always, operator, pairs, fencing } = options;
    const given = { ...(pairs === null ? {} : { pairs }), ...(fencing === null ? {} : { fencing }) };
    const run = runSeed({ seed, ticks, faults, always, operator, ...trace, ...given });
    totals.seeds++;
    totals.hostWrites += run.hostWrites;
    totals.simulatedMs += run.simulatedMs;
    if (options.trace) console.log(`fingerprint ${run.fingerprint}, ${run.events} events`);
    if (run.violation === null) return true;
    totals.failed++;
    report(
      run,
      `scripts/sim --seed ${seed} --ticks ${options.ticks}${options.faultWords}${options.operator ? "" : " --no-operator"}`,
    );
    return options.keepGoing;
  };
  const range = (first: number, last: number): boolean => {
    for (let seed = first; seed <= last; seed++) if (!one(seed)) return false;
    return true;
  };
  range(options.first, options.last);
  const seconds = elapsedSeconds();
  const rate = Math.round(totals.hostWrites / seconds);
  console.log(
    `${totals.seeds} seeds, ${totals.failed} failed, ${totals.hostWrites} host writes, ` +
      `${(totals.simulatedMs / 1000).toFixed(1)} simulated seconds, ${seconds.toFixed(1)} real seconds, ${rate} host writes/s`,
  );
  process.exitCode = totals.failed === 0 ? 0 : 1;
}

main();
