/**
 * NBD servers beside each other: the same work, the same machine, the same run, rounds in alternation.
 *
 * Each figure is the median over rounds; a ratio is the median of the rounds' own ratios, so that a machine that changes its
 * speed between rounds does not count for either side.
 */
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { loadavg } from "node:os";
import { join } from "node:path";
import { type Contender, cpuSeconds, type Running } from "./contenders.ts";

export interface Work {
  readonly name: string;
  readonly kind: "randread" | "randwrite" | "read" | "write";
  readonly blockBytes: number;
  readonly depth: number;
}

export const nbdWorks: readonly Work[] = [
  { name: "4k-randread-d32", kind: "randread", blockBytes: 4096, depth: 32 },
  { name: "4k-randwrite-d32", kind: "randwrite", blockBytes: 4096, depth: 32 },
  { name: "1m-read-d4", kind: "read", blockBytes: 1048576, depth: 4 },
  { name: "1m-write-d4", kind: "write", blockBytes: 1048576, depth: 4 },
  { name: "4k-randread-d1", kind: "randread", blockBytes: 4096, depth: 1 },
  { name: "4k-randwrite-d1", kind: "randwrite", blockBytes: 4096, depth: 1 },
];

export type ClientName = "lean" | "fio";

export interface Run {
  readonly contender: string;
  readonly work: string;
  readonly client: ClientName;
  readonly round: number;
  readonly iops: number;
  readonly bytesPerSecond: number;
  readonly latencyUsP50: number;
  readonly latencyUsP99: number;
  readonly seconds: number;
  readonly serverCpuSeconds: number;
  readonly serverCpuSecondsPerGib: number;
  readonly clientCpuSeconds: number;
  /** Share of all cores that neither this server nor this client used: others, or idle. */
  readonly othersCpuShare: number;
}

export interface NbdBenchOptions {
  readonly contenders: readonly Contender[];
  readonly works: readonly Work[];
  readonly clients: readonly ClientName[];
  readonly folder: string;
  readonly sizeBytes: number;
  readonly seconds: number;
  readonly rounds: number;
  readonly say: (text: string) => void;
}

export async function runNbdBench(options: NbdBenchOptions): Promise<Run[]> {
  const servers: [Contender, Running][] = [];
  const runs: Run[] = [];
  try {
    for (const contender of options.contenders) {
      const running = await contender.start(options.folder, options.sizeBytes);
      servers.push([contender, running]);
      options.say(`${contender.name}: ${contender.what}; filling ${options.sizeBytes / 1048576} MiB`);
      await lean(running.at, { name: "fill", kind: "write", blockBytes: 1048576, depth: 4 }, options, true);
    }
    for (const work of options.works) {
      for (let round = 0; round < options.rounds; round++) {
        // Every other round runs backwards: nobody always comes after the same neighbour.
        const order = round % 2 === 0 ? servers : [...servers].reverse();
        for (const client of options.clients) {
          for (const [contender, running] of order) {
            const run = await measure(contender, running, work, client, round, options);
            runs.push(run);
            options.say(`  ${work.name} ${client} ${contender.name}: ${Math.round(run.iops)} IOPS`);
          }
        }
      }
    }
  } finally {
    for (const [, running] of servers) await running.stop();
  }
  return runs;
}

async function measure(
  contender: Contender,
  running: Running,
  work: Work,
  client: ClientName,
  round: number,
  options: NbdBenchOptions,
): Promise<Run> {
  const cpuBefore = cpuSeconds(running.pids);
  const busyBefore = machineBusySeconds();
  const result =
    client === "lean" ? await lean(running.at, work, options, false) : await fio(running.at, work, options);
  const serverCpuSeconds = cpuSeconds(running.pids) - cpuBefore;
  const busySeconds = machineBusySeconds() - busyBefore;
  const gib = (result.bytesPerSecond * result.seconds) / 2 ** 30;
  return {
    contender: contender.name,
    work: work.name,
    client,
    round,
    ...result,
    serverCpuSeconds,
    serverCpuSecondsPerGib: gib > 0 ? serverCpuSeconds / gib : 0,
    othersCpuShare: Math.max(0, (busySeconds - serverCpuSeconds - result.clientCpuSeconds) / result.seconds),
  };
}

type ClientResult = Pick<
  Run,
  "iops" | "bytesPerSecond" | "latencyUsP50" | "latencyUsP99" | "seconds" | "clientCpuSeconds"
>;

async function lean(at: string, work: Work, options: NbdBenchOptions, once: boolean): Promise<ClientResult> {
  const args = [
    at,
    work.kind,
    work.blockBytes,
    work.depth,
    options.seconds,
    options.sizeBytes,
    once ? "once" : "timed",
  ];
  const program = join(import.meta.dir, "nbd_load.ts");
  return JSON.parse(await output(process.execPath, [program, ...args.map(String)])) as ClientResult;
}

interface FioSide {
  readonly iops: number;
  readonly bw_bytes: number;
  readonly runtime: number;
  readonly clat_ns: { readonly percentile: Readonly<Record<string, number>> };
}

async function fio(at: string, work: Work, options: NbdBenchOptions): Promise<ClientResult> {
  const text = await output("fio", [
    "--name=bench",
    "--thread",
    "--ioengine=nbd",
    `--uri=nbd://${at}`,
    `--rw=${work.kind}`,
    `--bs=${work.blockBytes}`,
    `--iodepth=${work.depth}`,
    `--size=${options.sizeBytes}`,
    "--time_based",
    `--runtime=${options.seconds}`,
    "--norandommap",
    "--randrepeat=0",
    "--output-format=json",
  ]);
  const job = JSON.parse(text.slice(text.indexOf("{"))).jobs[0] as Record<"read" | "write", FioSide> & {
    usr_cpu: number;
    sys_cpu: number;
  };
  const side = work.kind.endsWith("read") ? job.read : job.write;
  const seconds = side.runtime / 1000;
  return {
    iops: side.iops,
    bytesPerSecond: side.bw_bytes,
    latencyUsP50: Math.round((side.clat_ns.percentile["50.000000"] ?? 0) / 1000),
    latencyUsP99: Math.round((side.clat_ns.percentile["99.000000"] ?? 0) / 1000),
    seconds,
    clientCpuSeconds: ((job.usr_cpu + job.sys_cpu) / 100) * seconds,
  };
}

function output(program: string, args: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, [...args], { stdio: ["ignore", "pipe", "inherit"] });
    const parts: Buffer[] = [];
    child.stdout.on("data", (chunk: Buffer) => parts.push(chunk));
    child.on("error", reject);
    child.on("close", (code) => {
      if (code === 0) resolve(Buffer.concat(parts).toString());
      else reject(new Error(`${program} ended with ${code}`));
    });
  });
}

/** Seconds that all cores together have been busy since boot. */
function machineBusySeconds(): number {
  const line = readFileSync("/proc/stat", "utf8").split("\n")[0]!;
  const [user, nice, system, , , irq, softirq, steal] = line.trim().split(/\s+/).slice(1).map(Number);
  return (user! + nice! + system! + irq! + softirq! + steal!) / 100;
}

export interface Summary {
  readonly work: string;
  readonly client: ClientName;
  readonly contender: string;
  readonly iops: number;
  readonly iopsMin: number;
  readonly iopsMax: number;
  readonly bytesPerSecond: number;
  readonly latencyUsP50: number;
  readonly latencyUsP99: number;
  readonly serverCpuSecondsPerGib: number;
  /** Cores that the client kept busy; near 1 the client is the limit. */
  readonly clientCores: number;
  /** Cores that processes outside this measurement kept busy. */
  readonly othersCores: number;
  /** This contender ÷ each other one, by name. */
  readonly ratios: Readonly<Record<string, number>>;
}

export function summarize(runs: readonly Run[]): Summary[] {
  const summaries: Summary[] = [];
  const seen = new Set<string>();
  for (const { work, client, contender } of runs) {
    const key = `${work} ${client} ${contender}`;
    if (seen.has(key)) continue;
    seen.add(key);
    const here = runs.filter((run) => run.work === work && run.client === client);
    const own = here.filter((run) => run.contender === contender);
    const ratios: Record<string, number> = {};
    for (const other of new Set(here.map((run) => run.contender))) {
      if (other === contender) continue;
      const paired = own.map((run) => {
        const peer = here.find((each) => each.contender === other && each.round === run.round);
        return peer === undefined ? Number.NaN : run.iops / peer.iops;
      });
      ratios[other] = median(paired);
    }
    summaries.push({
      work,
      client,
      contender,
      iops: median(own.map((run) => run.iops)),
      iopsMin: Math.min(...own.map((run) => run.iops)),
      iopsMax: Math.max(...own.map((run) => run.iops)),
      bytesPerSecond: median(own.map((run) => run.bytesPerSecond)),
      latencyUsP50: median(own.map((run) => run.latencyUsP50)),
      latencyUsP99: median(own.map((run) => run.latencyUsP99)),
      serverCpuSecondsPerGib: median(own.map((run) => run.serverCpuSecondsPerGib)),
      clientCores: median(own.map((run) => run.clientCpuSeconds / run.seconds)),
      othersCores: median(own.map((run) => run.othersCpuShare)),
      ratios,
    });
  }
  return summaries;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].filter((value) => !Number.isNaN(value)).sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  if (sorted.length === 0) return Number.NaN;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

export function loadText(): string {
  return loadavg()
    .map((load) => load.toFixed(2))
    .join(" ");
}
