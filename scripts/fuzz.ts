/**
 * Mutates recorded sessions of a protocol and checks that its front end holds its invariants: `scripts/fuzz --help`.
 *
 * A finding is printed with the way to play it again and kept as a file. The last line sums up. Exit codes: 0 nothing found, 1 a
 * finding, 2 usage.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Fuzzer } from "../test/fuzz/fuzzer.ts";
import { IscsiFuzzTarget } from "../test/fuzz/iscsi_target.ts";
import { NbdFuzzTarget } from "../test/fuzz/nbd_target.ts";
import type { CaseReport, FuzzCase, FuzzTarget } from "../test/fuzz/target.ts";
import { targetName } from "../test/unit/support/iscsi_bench.ts";

interface Protocol {
  readonly volume: string;
  readonly make: (volume: string) => FuzzTarget;
}

const protocols: Readonly<Record<string, Protocol>> = {
  iscsi: { volume: targetName, make: (volume) => new IscsiFuzzTarget(volume) },
  nbd: { volume: "demo-1", make: (volume) => new NbdFuzzTarget(volume) },
};
const defaultCases = 20_000;
const progressMs = 10_000;

const usage = `usage: scripts/fuzz ${Object.keys(protocols).join("|")} [options]
  --seed N          the first case's seed (default 1); the same seed gives the same cases
  --cases N         stop after so many cases (default ${defaultCases})
  --seconds S       stop after so many seconds instead; 0: never
  --at HOST:PORT    against a running appliance; its volume may be overwritten
  --volume NAME     the volume there (nbd: default demo-1; iscsi: the target's iSCSI name)
  --replay FILE     plays one finding again
  --keep-going      goes on behind a finding`;

interface Arguments {
  readonly target: FuzzTarget;
  readonly seed: number;
  readonly cases: number | null;
  readonly seconds: number | null;
  readonly at: string | null;
  readonly volume: string;
  readonly replay: string | null;
  readonly keepGoing: boolean;
}

function fail(text: string): never {
  console.error(`fuzz: ${text}\n${usage}`);
  process.exit(2);
}

function wholeNumber(word: string | undefined, name: string): number {
  const value = Number(word);
  if (word === undefined || !Number.isSafeInteger(value) || value < 0) fail(`${name} takes a whole number`);
  return value;
}

function readArguments(words: readonly string[]): Arguments {
  if (words.includes("--help")) {
    console.log(usage);
    process.exit(0);
  }
  const [name, ...rest] = words;
  const protocol = protocols[name ?? ""];
  if (protocol === undefined) fail(name === undefined ? "which protocol?" : `there is no target ${name}`);
  const options = new Map<string, string>();
  let keepGoing = false;
  for (let index = 0; index < rest.length; index++) {
    const word = rest[index]!;
    if (word === "--keep-going") keepGoing = true;
    else if (["--seed", "--cases", "--seconds", "--at", "--volume", "--replay"].includes(word)) {
      options.set(word, rest[++index] ?? fail(`${word} takes a value`));
    } else fail(`unknown argument ${word}`);
  }
  const seconds = options.has("--seconds") ? wholeNumber(options.get("--seconds"), "--seconds") : null;
  const cases = options.has("--cases") ? wholeNumber(options.get("--cases"), "--cases") : null;
  const volume = options.get("--volume") ?? protocol.volume;
  return {
    target: protocol.make(volume),
    seed: wholeNumber(options.get("--seed") ?? "1", "--seed"),
    cases: cases ?? (seconds === null ? defaultCases : null),
    seconds: seconds === 0 ? null : seconds,
    at: options.get("--at") ?? null,
    volume,
    replay: options.get("--replay") ?? null,
    keepGoing,
  };
}

function play({ target, at, volume }: Arguments, fuzzCase: FuzzCase): CaseReport | Promise<CaseReport> {
  return at === null ? target.runCase(fuzzCase) : target.runAt(at, volume, fuzzCase);
}

/** Where a finding lies, as JSON: the seed of the scenario and the messages in hexadecimal digits. */
function keep({ target, seed }: Arguments, caseNumber: number, { script, scenarioSeed }: FuzzCase): string {
  const folder = join(tmpdir(), "goldcopy-fuzz");
  mkdirSync(folder, { recursive: true });
  const path = join(folder, `${target.name}-${seed}-${caseNumber}.json`);
  const messages = script.map((message) => Buffer.from(message).toString("hex"));
  writeFileSync(path, `${JSON.stringify({ scenarioSeed, messages }, null, 1)}\n`);
  return path;
}

function readCase(path: string): FuzzCase {
  const { scenarioSeed, messages } = JSON.parse(readFileSync(path, "utf8")) as {
    scenarioSeed: number;
    messages: string[];
  };
  return { scenarioSeed, script: messages.map((message) => new Uint8Array(Buffer.from(message, "hex"))) };
}

async function main(): Promise<void> {
  const given = readArguments(process.argv.slice(2));
  const { target, seed } = given;
  if (given.replay !== null) {
    const { reached, finding } = await play(given, readCase(given.replay));
    console.log(reached.join("\n"));
    console.log(finding ?? "nothing found");
    process.exit(finding === null ? 0 : 1);
  }
  const fuzzer = new Fuzzer(target, seed);
  const startMs = performance.now();
  let toldMs = startMs;
  let findings = 0;
  const secondsGone = () => (performance.now() - startMs) / 1000;
  while (given.cases === null || fuzzer.caseCount < given.cases) {
    if (given.seconds !== null && secondsGone() >= given.seconds) break;
    const fuzzCase = fuzzer.next();
    const report = await play(given, fuzzCase);
    fuzzer.learn(fuzzCase, report);
    if (report.finding !== null) {
      findings++;
      const path = keep(given, fuzzer.caseCount, fuzzCase);
      console.log(`FOUND at case ${fuzzer.caseCount} of seed ${seed}: ${report.finding}`);
      console.log(`  play it again: scripts/fuzz ${target.name} --replay ${path}`);
      if (!given.keepGoing) break;
    }
    if (performance.now() - toldMs < progressMs) continue;
    toldMs = performance.now();
    console.log(`${fuzzer.caseCount} cases, ${fuzzer.reached.size} words reached, pool of ${fuzzer.poolSize}`);
  }
  const rate = Math.round(fuzzer.caseCount / Math.max(0.001, secondsGone()));
  console.log(
    `${target.name}, seed ${seed}: ${fuzzer.caseCount} cases (${rate} a second), ${fuzzer.reached.size} words reached, ` +
      `pool of ${fuzzer.poolSize}, ${findings} findings`,
  );
  process.exit(findings === 0 ? 0 : 1);
}

await main();
