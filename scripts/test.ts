/**
 * Runs every test (those in test/long/ by hand: scripts/test long) and says how it went. The last line, and only the last, is `N passed, N failed` (`, N skipped`).
 *
 * Invariants:
 * - Each file runs in a process of its own, with a time limit; what it started in its process group ends with it.
 * - A file that crashes, hangs, prints no totals, or exits non-zero without a failed test counts as failed.
 * - A third-party client that cannot be had is a failure.
 */
import { spawn, spawnSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { build } from "./build.ts";
import { clientEnvironment, ensureClients } from "./clients.ts";
import { readTotals, type Totals } from "./test_totals.ts";
import { repositoryRoot } from "./tools.ts";

/** Two cores; a third would only make times longer. */
const filesAtOnce = 2;
/**
 * Against hangs. Unit tests take up to half a minute, the others up to five, those of emulated machines up to seven, and several times that
 * on a machine that is busy otherwise.
 */
const fileLimitMs = { unit: 300_000, long: 1_200_000, byHand: 3_600_000 } as const;
/** What takes too long to be run with all the others: only when a PART names it. */
const byHand = "test/long/";
const fixedSeeds = [
  { first: 1, last: 20 },
  { first: 21, last: 40 },
] as const;
const freshSeedCount = 20;

interface Job {
  readonly title: string;
  readonly program: string;
  readonly args: readonly string[];
  readonly limitMs: number;
  /** How a run is counted: by uvu's totals, or as one. */
  readonly counted: "totals" | "one";
}

function testFiles(): string[] {
  return readdirSync(join(repositoryRoot, "test"), { recursive: true, encoding: "utf8" })
    .filter((path) => path.endsWith(".test.ts"))
    .map((path) => join("test", path))
    .sort();
}

function testJobs(filters: readonly string[]): Job[] {
  return testFiles()
    .filter((path) => isWanted(path, filters))
    .map((path) => ({
      title: path,
      program: process.execPath,
      args: [path],
      limitMs: limitOf(path),
      counted: "totals",
    }));
}

function isWanted(path: string, filters: readonly string[]): boolean {
  return filters.length === 0 ? !path.startsWith(byHand) : filters.some((filter) => path.includes(filter));
}

function limitOf(path: string): number {
  if (path.startsWith(byHand)) return fileLimitMs.byHand;
  return /^test\/(?:real|sim|fuzz)/.test(path) ? fileLimitMs.long : fileLimitMs.unit;
}

function simulationJobs(filters: readonly string[]): Job[] {
  const program = join(repositoryRoot, "scripts", "sim");
  if (!existsSync(program) || (filters.length > 0 && !filters.includes("sim"))) return [];
  const first = freshSeed();
  const seeds = [...fixedSeeds, { first, last: first + freshSeedCount - 1 }];
  return seeds.map((range) => ({
    title: `scripts/sim --seeds ${range.first}..${range.last}`,
    program,
    args: ["--seeds", `${range.first}..${range.last}`],
    limitMs: fileLimitMs.long,
    counted: "one",
  }));
}

/** Other seeds with every commit, and the same ones for everybody who tests that commit. */
function freshSeed(): number {
  const head = spawnSync("git", ["rev-parse", "HEAD"], { cwd: repositoryRoot, encoding: "utf8" }).stdout?.trim() ?? "";
  const part = /^[0-9a-f]{40}$/.test(head)
    ? Number.parseInt(head.slice(0, 10), 16)
    : Math.floor(Math.random() * 2 ** 40);
  return 1000 + part;
}

function checkJob(): Job {
  return {
    title: "scripts/check",
    program: join(repositoryRoot, "scripts", "check"),
    args: [],
    limitMs: fileLimitMs.unit,
    counted: "one",
  };
}

/** Process groups of what is running, to end with this process. */
const running = new Set<number>();

function run(job: Job): Promise<Totals> {
  return new Promise((resolve) => {
    const startedMs = performance.now();
    const child = spawn(job.program, job.args, {
      cwd: repositoryRoot,
      env: { ...clientEnvironment, NO_COLOR: "1", FORCE_COLOR: "0" },
      stdio: ["ignore", "pipe", "pipe"],
      detached: true,
    });
    const group = child.pid ?? 0;
    running.add(group);
    const output: Buffer[] = [];
    child.stdout.on("data", (chunk: Buffer) => output.push(chunk));
    child.stderr.on("data", (chunk: Buffer) => output.push(chunk));
    let timedOut = false;
    const timer = setTimeout(() => {
      timedOut = true;
      endGroup(group);
    }, job.limitMs);
    let ended = false;
    const finish = (code: number | null, signal: string | null) => {
      if (ended) return;
      ended = true;
      clearTimeout(timer);
      endGroup(group);
      running.delete(group);
      const text = Buffer.concat(output).toString("utf8");
      const seconds = ((performance.now() - startedMs) / 1000).toFixed(1);
      const cause = timedOut ? `not done after ${job.limitMs / 1000} s` : signal !== null ? `ended by ${signal}` : null;
      const totals = readTotals({ counted: job.counted, text, code, cause });
      const skipped = totals.skipped > 0 ? `, ${totals.skipped} SKIPPED` : "";
      if (totals.failed > 0) console.log(text.trimEnd());
      const verdict =
        totals.failed > 0 ? `FAIL  ${job.title}: ${totals.why ?? `${totals.failed} failed`}` : `ok    ${job.title}`;
      console.log(`${verdict}  (${totals.passed} passed${skipped}, ${seconds} s)`);
      resolve(totals);
    };
    child.on("error", (error) => {
      output.push(Buffer.from(String(error)));
      finish(1, null);
    });
    child.on("close", finish);
    // A process left behind by a test may hold the pipe open for ever.
    child.on("exit", (code, signal) => setTimeout(() => finish(code, signal), 500));
  });
}

function endGroup(group: number): void {
  try {
    if (group > 1) process.kill(-group, "SIGKILL");
  } catch {
    // Nothing of the group is left.
  }
}

const usage = `usage: scripts/test [--with-check] [PART...]

Runs every test file whose path contains one of the PARTs (without one: all but those in test/long/; "sim" is the simulation's seeds), two
at a time, and installs the third-party clients that they need. The last line is "N passed, N failed".

  --with-check    runs scripts/check as well`;

async function main(): Promise<void> {
  const words = process.argv.slice(2);
  const unknown = words.find((word) => word.startsWith("-") && word !== "--with-check");
  if (unknown !== undefined) {
    const isHelp = unknown === "--help" || unknown === "-h";
    console.log(isHelp ? usage : `unknown option ${unknown}\n${usage}`);
    process.exit(isHelp ? 0 : 2);
  }
  const withCheck = words.includes("--with-check");
  const filters = words.filter((word) => word !== "--with-check");
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.on(signal, () => {
      for (const group of running) endGroup(group);
      process.exit(1);
    });
  }
  const sum = { passed: 0, failed: 0, skipped: 0 };
  try {
    build();
  } catch (error) {
    console.log(`FAIL  scripts/build: ${error instanceof Error ? error.message : String(error)}`);
    sum.failed++;
  }
  for (const { text } of ensureClients((line) => console.log(line))) {
    console.log(`FAIL  ${text}`);
    sum.failed++;
  }
  const jobs = [...(withCheck ? [checkJob()] : []), ...testJobs(filters), ...simulationJobs(filters)];
  if (filters.length === 0)
    for (const path of testFiles().filter((path) => path.startsWith(byHand)))
      console.log(`by hand only: ${path} (scripts/test long)`);
  if (jobs.length === 0) {
    console.log(`no test matches ${filters.join(" ")}`);
    sum.failed++;
  }
  const next = jobs.values();
  const worker = async () => {
    for (const job of next) {
      const totals = await run(job);
      sum.passed += totals.passed;
      sum.failed += totals.failed;
      sum.skipped += totals.skipped;
    }
  };
  await Promise.all(Array.from({ length: filesAtOnce }, worker));
  const skipped = sum.skipped > 0 ? `, ${sum.skipped} skipped` : "";
  console.log(`${sum.passed} passed, ${sum.failed} failed${skipped}`);
  process.exitCode = sum.failed === 0 ? 0 : 1;
}

await main();
