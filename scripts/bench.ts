/**
 * How fast, beside whom: `scripts/bench [WORK...] [options]`.
 *
 * Every figure is measured beside a named peer on the same machine in the same run, and printed as a ratio.
 */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { type Contender, frontEnd, nbdkit, qemuNbd } from "./benchmarks/contenders.ts";
import { type ClientName, loadText, nbdWorks, runNbdBench, type Summary, summarize } from "./benchmarks/nbd_bench.ts";

const contenders: readonly Contender[] = [frontEnd, nbdkit, qemuNbd];

const help = `usage: scripts/bench [WORK...] [options]

works:       ${nbdWorks.map((work) => work.name).join(", ")} (default: all; a prefix will do)
  --with A,B      contenders: ${contenders.map((each) => each.name).join(", ")} (default: all)
  --client C      lean, fio or both (default lean; fio's own cost is near a whole core and hides differences)
  --seconds S     length of each run (default 3)
  --rounds R      runs of each, in alternation (default 5)
  --size-mib M    size of the volume (default 1024)
  --dir D         where the backing files lie (default /dev/shm, a tmpfs)
  --json          everything as JSON, each run included`;

function fail(text: string): never {
  process.stderr.write(`${text}\n`);
  process.exit(2);
}

function parse() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        with: { type: "string" },
        client: { type: "string", default: "lean" },
        seconds: { type: "string", default: "3" },
        rounds: { type: "string", default: "5" },
        "size-mib": { type: "string", default: "1024" },
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

function choose<Item extends { readonly name: string }>(
  all: readonly Item[],
  wanted: readonly string[],
  what: string,
): Item[] {
  for (const name of wanted) {
    if (!all.some((each) => each.name.startsWith(name))) {
      fail(`there is no ${what} "${name}": ${all.map((each) => each.name).join(", ")}`);
    }
  }
  return all.filter((each) => wanted.some((name) => each.name.startsWith(name)));
}

function table(summaries: readonly Summary[]): string {
  const rows = [
    [
      "work",
      "client",
      "server",
      "IOPS",
      "min..max",
      "MB/s",
      "p50 us",
      "p99 us",
      "server CPU s/GiB",
      "client cores",
      "other cores",
      "ratio",
    ],
  ];
  for (const each of summaries) {
    rows.push([
      each.work,
      each.client,
      each.contender,
      String(Math.round(each.iops)),
      `${Math.round(each.iopsMin)}..${Math.round(each.iopsMax)}`,
      (each.bytesPerSecond / 1e6).toFixed(0),
      String(each.latencyUsP50),
      String(each.latencyUsP99),
      each.serverCpuSecondsPerGib.toFixed(2),
      each.clientCores.toFixed(2),
      each.othersCores.toFixed(2),
      Object.entries(each.ratios)
        .map(([name, ratio]) => `${ratio.toFixed(2)} x ${name}`)
        .join(", "),
    ]);
  }
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column]!))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

const { values, positionals } = parse();
if (values.help) {
  process.stdout.write(`${help}\n`);
  process.exit(0);
}
const works = positionals.length === 0 ? [...nbdWorks] : choose(nbdWorks, positionals, "work");
const chosen = values.with === undefined ? [...contenders] : choose(contenders, values.with.split(","), "contender");
const clients: ClientName[] =
  values.client === "both"
    ? ["lean", "fio"]
    : values.client === "fio"
      ? ["fio"]
      : values.client === "lean"
        ? ["lean"]
        : fail(`--client ${values.client}: lean, fio or both`);
const seconds = positive(values.seconds, "seconds");
const rounds = positive(values.rounds, "rounds");
const sizeBytes = positive(values["size-mib"], "size-mib") * 1048576;

mkdirSync(values.dir, { recursive: true });
const folder = mkdtempSync(join(values.dir, "goldcopy-bench-"));
const say = (text: string) => process.stderr.write(`${text}\n`);
const loadBefore = loadText();
try {
  const runs = await runNbdBench({ contenders: chosen, works, clients, folder, sizeBytes, seconds, rounds, say });
  const summaries = summarize(runs);
  const about = {
    cores: availableParallelism(),
    backing: values.dir,
    volumeMib: sizeBytes / 1048576,
    secondsPerRun: seconds,
    rounds,
    contenders: chosen.map(({ name, what }) => ({ name, what })),
    sharing: "server and client share all cores with whatever else runs (column: other cores)",
    loadBefore,
    loadAfter: loadText(),
  };
  if (values.json) process.stdout.write(`${JSON.stringify({ about, summaries, runs }, null, 1)}\n`);
  else {
    process.stdout.write(
      `${about.cores} cores, ${about.volumeMib} MiB in ${about.backing}, ${rounds} rounds of ${seconds} s in alternation, median; ` +
        `load before ${about.loadBefore}, after ${about.loadAfter}; ${about.sharing}\n${table(summaries)}\n`,
    );
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
