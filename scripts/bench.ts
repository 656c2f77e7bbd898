/**
 * How fast, beside whom: `scripts/bench [BENCH...] [options]`.
 *
 * Every figure is measured beside a named peer on the same machine in the same run, and printed as a ratio.
 */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { availableParallelism, loadavg } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { parseDuration } from "../firmware/shell/quantities.ts";
import type { Finding, Probe } from "./benchmarks/findings.ts";
import { hostBenches, type Protocol } from "./benchmarks/host_works.ts";
import { heedInterruptions, ifInterrupted } from "./benchmarks/interruption.ts";
import { type RoundsOptions, type Run, runRounds } from "./benchmarks/rounds.ts";
import { type Summary, summarize, table } from "./benchmarks/summary.ts";
import { judgeFinding, judgeWorks, type Verdict, verdictTable } from "./benchmarks/verdicts.ts";
import { type Bench, benches, probes, type Work } from "./benchmarks/works.ts";
import { ensureClients } from "./clients.ts";
import { type Heartbeat, heartbeatForm, parseHeartbeat } from "./lab_site/heartbeat.ts";

const help = `usage: scripts/bench [BENCH...] [options]

${benches.map((each) => `  ${each.name.padEnd(14)}  ${each.question}${each.onRequest === true ? " (only when named)" : ""}`).join("\n")}
${probes.map((each) => `  ${each.name.padEnd(14)}  ${each.question}`).join("\n")}
  host            what a host gets, over NBD and iSCSI, beside nbdkit, qemu-nbd and tgtd (only when named; runs of 1 s)

  --only P        of host: nbd or iscsi
  --full          of host: every size, pattern, mix, depth and number of connections, each point once

  --work A,B      only these works, by the beginning of their names: ${[...new Set(benches.flatMap((each) => each.works.map((work) => work.name)))].join(", ")}
  --with A,B      only these contenders: ${[...new Set(benches.flatMap((each) => each.contenders.map(({ name }) => name)))].join(", ")}
  --client C      lean, third-party (fio, iscsi-perf) or both (default lean; the cost of the others hides differences)
  --seconds S     length of a run, where the work does not fix it (default 2; host 1)
  --rounds R      runs of each, in alternation (default 3)
  --runs N        of failover: how often the owner is killed, for each protocol (default 20; its bars are judged at 100)
  --heartbeat H   of failover: the pair's, like 50x5 (every 50 ms, lost when 5 are missed); default the firmware's own, 100x10
  --steady TIME   of failover: instead of breaking the pair, run it under full load for so long (60m), half of it for each
                  protocol, and count who takes its partner for dead
  --dir D         where the backing files lie (default /dev/shm, a tmpfs)
  --json          everything as JSON, each run included`;

/** Every contender's volume: the size of the lab's demo volumes. */
const sizeBytes = 1024 ** 3;

interface Answer {
  readonly bench: string;
  readonly question: string;
  readonly contenders: readonly { readonly name: string; readonly what: string }[];
  readonly loadBefore: string;
  readonly loadAfter: string;
  readonly summaries: readonly Summary[];
  readonly runs: readonly Run[];
}

function fail(text: string): never {
  process.stderr.write(`${text}\n`);
  process.exit(2);
}

function say(text: string): void {
  process.stderr.write(`${text}\n`);
}

function parse() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        work: { type: "string" },
        with: { type: "string" },
        client: { type: "string", default: "lean" },
        seconds: { type: "string" },
        only: { type: "string" },
        full: { type: "boolean", default: false },
        rounds: { type: "string", default: "3" },
        runs: { type: "string", default: "20" },
        heartbeat: { type: "string" },
        steady: { type: "string" },
        dir: { type: "string", default: "/dev/shm" },
        json: { type: "boolean", default: false },
        help: { type: "boolean", default: false },
      },
    });
  } catch (error) {
    return fail(`${(error as Error).message}\n${help}`);
  }
}

function positive(text: string, name: string): number {
  const value = Number(text);
  if (!(value > 0)) fail(`--${name} ${text}: a number above 0 is needed`);
  return value;
}

function heartbeatOf(text: string | undefined): Heartbeat | null {
  if (text === undefined) return null;
  return parseHeartbeat(text) ?? fail(`--heartbeat ${text}: ${heartbeatForm}`);
}

function steadyOf(text: string | undefined): number | null {
  if (text === undefined) return null;
  const ms = parseDuration(text);
  return ms !== null && ms > 0 ? ms : fail(`--steady ${text}: a time like 60m is needed`);
}

function clientsOf(text: string): RoundsOptions["clients"] {
  if (text === "both") return ["lean", "third-party"];
  if (text === "lean" || text === "third-party") return [text];
  return fail(`--client ${text}: lean, third-party or both`);
}

function protocolOf(text: string | undefined): Protocol | null {
  if (text === undefined) return null;
  if (text === "nbd" || text === "iscsi") return text;
  return fail(`--only ${text}: nbd or iscsi`);
}

function chooseBenches(names: readonly string[]): Bench[] {
  if (names.includes("host")) {
    if (names.length > 1) fail("host is a run of its own");
    return hostBenches({ full: values.full, only: protocolOf(values.only) });
  }
  for (const name of names) {
    const known = [...benches, ...probes];
    if (!known.some((each) => each.name === name)) {
      fail(`there is no bench "${name}": ${known.map((each) => each.name).join(", ")}`);
    }
  }
  return names.length === 0
    ? benches.filter((each) => each.onRequest !== true)
    : benches.filter((each) => names.includes(each.name));
}

function chooseWorks(bench: Bench, wanted: string | undefined): Work[] {
  const beginnings = wanted?.split(",") ?? [""];
  return bench.works.filter((work) => beginnings.some((beginning) => work.name.startsWith(beginning)));
}

function withOnly(bench: Bench, wanted: string | undefined): Bench {
  const names = wanted?.split(",");
  const contenders = bench.contenders.filter(({ name }) => names === undefined || names.includes(name));
  if (contenders.length === 0) fail(`--with ${wanted}: none of them is in ${bench.name}`);
  return { ...bench, contenders };
}

function load(): string {
  return loadavg()
    .map((value) => value.toFixed(2))
    .join(" ");
}

const { values, positionals } = parse();
if (values.help) {
  process.stdout.write(`${help}\n`);
  process.exit(0);
}
const clients = clientsOf(values.client);
const isHost = positionals.includes("host");
const seconds = positive(values.seconds ?? (isHost ? "1" : "2"), "seconds");
const rounds = positive(values.rounds, "rounds");
const runs = positive(values.runs, "runs");
const heartbeat = heartbeatOf(values.heartbeat);
const steadyMs = steadyOf(values.steady);
if ((heartbeat !== null || steadyMs !== null) && !positionals.includes("failover"))
  fail("--heartbeat and --steady are of failover: scripts/bench failover --heartbeat 50x5");
const chosen = chooseBenches(positionals)
  .map((bench) => ({ bench: withOnly(bench, values.with), works: chooseWorks(bench, values.work) }))
  .filter(({ works }) => works.length > 0);
// A choice of works or contenders is a question about those alone.
const narrowed = values.work !== undefined || values.with !== undefined;
const chosenProbes: readonly Probe[] =
  positionals.length === 0 ? (narrowed ? [] : probes) : probes.filter(({ name }) => positionals.includes(name));
if (chosen.length === 0 && chosenProbes.length === 0) fail(`no work "${values.work}" in these benches`);

const missing = ensureClients(say, ["nbdkit", "qemu-nbd", "qemu-storage-daemon", "fio", ...(isHost ? ["tgtd"] : [])]);
if (missing.length > 0) {
  for (const { text } of missing) say(text);
  process.exit(1);
}

mkdirSync(values.dir, { recursive: true });
const folder = mkdtempSync(join(values.dir, "goldcopy-bench-"));
ifInterrupted(() => rmSync(folder, { recursive: true, force: true }));
heedInterruptions(say);
const answers: Answer[] = [];
const findings: Finding[] = [];
const verdicts: Verdict[] = [];
const failed: string[] = [];
/** What has been measured so far is worth its table. */
function gaveUp(name: string, error: unknown): null {
  say(`${name} failed: ${String(error)}`);
  failed.push(name);
  return null;
}

const startedMs = performance.now();
try {
  for (const { bench, works } of chosen) {
    const loadBefore = load();
    say(`${bench.name}: ${bench.question}`);
    const options = { bench, works, clients, folder, sizeBytes, seconds, rounds, say };
    const measured = await runRounds(options).catch((error: unknown) => gaveUp(bench.name, error));
    if (measured === null) continue;
    const answer: Answer = {
      bench: bench.name,
      question: bench.question,
      contenders: bench.contenders.map(({ name, what }) => ({ name, what })),
      loadBefore,
      loadAfter: load(),
      summaries: summarize(measured),
      runs: measured,
    };
    answers.push(answer);
    verdicts.push(...judgeWorks(bench.name, works, answer.summaries));
    if (values.json) continue;
    const about = `load average before ${answer.loadBefore}, after ${answer.loadAfter}`;
    process.stdout.write(`\n${bench.name}: ${bench.question} (${about})\n${table(answer.summaries)}\n`);
  }
  for (const probe of chosenProbes) {
    say(`${probe.name}: ${probe.question}`);
    const own = join(folder, probe.name);
    mkdirSync(own);
    const found =
      (await probe.run(own, say, { runs, heartbeat, steadyMs }).catch((error: unknown) => gaveUp(probe.name, error))) ??
      [];
    findings.push(...found);
    verdicts.push(...found.map((finding) => judgeFinding(probe.name, finding)));
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
const conditions = {
  cores: availableParallelism(),
  backing: values.dir,
  volumeBytes: sizeBytes,
  secondsPerRun: seconds,
  rounds,
  minutes: Math.round((performance.now() - startedMs) / 6000) / 10,
  sharing: "servers, clients and whatever else runs share all cores; `othersCores` is what ran outside the measurement",
};
if (values.json)
  process.stdout.write(`${JSON.stringify({ conditions, failed, verdicts, findings, answers }, null, 1)}\n`);
else {
  if (verdicts.length > 0) process.stdout.write(`\n${verdictTable(verdicts)}\n`);
  process.stdout.write(
    `\n${conditions.cores} cores, 1 GiB volumes in ${conditions.backing}; runs of ${seconds} s unless the work says otherwise, ` +
      `${rounds} rounds in alternation, medians; ${conditions.sharing}; ${conditions.minutes} min in all\n`,
  );
}
if (failed.length > 0) {
  process.stderr.write(`failed: ${failed.join(", ")}\n`);
  process.exit(1);
}
