/** Servers beside each other: the same work, the same machine, the same run, rounds in alternation. */
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type Contender, cpuSeconds, type Running } from "./contenders.ts";
import type { Bench, Work } from "./works.ts";

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
  /** Cores kept busy by processes outside this measurement. */
  readonly othersCores: number;
  /** What the run left undone in the background, if the server says so. */
  readonly leftOver: Readonly<Record<string, number>>;
}

export interface RoundsOptions {
  readonly bench: Bench;
  readonly works: readonly Work[];
  readonly clients: readonly ClientName[];
  readonly folder: string;
  readonly sizeBytes: number;
  readonly seconds: number;
  readonly rounds: number;
  readonly say: (text: string) => void;
}

export async function runRounds(options: RoundsOptions): Promise<Run[]> {
  const servers: [Contender, Running][] = [];
  const runs: Run[] = [];
  try {
    for (const contender of options.bench.contenders) {
      options.say(`${contender.name}: ${contender.what}`);
      const running = await contender.start(options.folder, options.sizeBytes);
      servers.push([contender, running]);
      const fill: Work = { name: "fill", kind: "write", blockBytes: 1048576, depth: 4 };
      await lean(running.at, fill, options, true);
      await running.settled?.();
    }
    for (const work of options.works) {
      for (let round = 0; round < (work.rounds ?? options.rounds); round++) {
        // Every other round runs backwards: nobody always comes after the same neighbour.
        const order = round % 2 === 0 ? servers : [...servers].reverse();
        for (const client of options.clients) {
          for (const [contender, running] of order) {
            const run = await measure(contender, running, work, client, round, options);
            runs.push(run);
            options.say(`  ${work.name}, ${client}, ${contender.name}: ${Math.round(run.iops)} IOPS`);
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
  options: RoundsOptions,
): Promise<Run> {
  if (work.settledFirst === true) await running.settled?.();
  const cpuBefore = cpuSeconds(running.pids);
  const busyBefore = machineBusySeconds();
  const result =
    client === "lean" ? await lean(running.at, work, options, false) : await fio(running.at, work, options);
  const serverCpuSeconds = cpuSeconds(running.pids) - cpuBefore;
  const busySeconds = machineBusySeconds() - busyBefore;
  const leftOver = (await running.leftOver?.()) ?? {};
  const gib = (result.bytesPerSecond * result.seconds) / 2 ** 30;
  return {
    contender: contender.name,
    work: work.name,
    client,
    round,
    ...result,
    serverCpuSeconds,
    serverCpuSecondsPerGib: gib > 0 ? serverCpuSeconds / gib : 0,
    othersCores: Math.max(0, (busySeconds - serverCpuSeconds - result.clientCpuSeconds) / result.seconds),
    leftOver,
  };
}

type ClientResult = Pick<
  Run,
  "iops" | "bytesPerSecond" | "latencyUsP50" | "latencyUsP99" | "seconds" | "clientCpuSeconds"
>;

async function lean(
  at: string,
  work: Work,
  options: RoundsOptions,
  once: boolean,
  began: () => void = () => {},
): Promise<ClientResult> {
  const seconds = work.seconds ?? options.seconds;
  const until = once ? "once" : String(work.opsMax ?? "timed");
  const args = [at, work.kind, work.blockBytes, work.depth, seconds, options.sizeBytes, until];
  const program = join(import.meta.dir, "nbd_load.ts");
  // The first thing that it prints is `begin`, after its warm-up.
  const text = await output(process.execPath, [program, ...args.map(String)], began);
  return JSON.parse(text.slice(text.indexOf("{"))) as ClientResult;
}

interface FioSide {
  readonly iops: number;
  readonly bw_bytes: number;
  readonly runtime: number;
  readonly clat_ns: { readonly percentile: Readonly<Record<string, number>> };
}

async function fio(at: string, work: Work, options: RoundsOptions): Promise<ClientResult> {
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
    `--runtime=${work.seconds ?? options.seconds}`,
    ...(work.opsMax === undefined ? [] : [`--number_ios=${work.opsMax}`]),
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

function output(program: string, args: readonly string[], spoke: () => void = () => {}): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, [...args], { stdio: ["ignore", "pipe", "inherit"] });
    const parts: Buffer[] = [];
    child.stdout.on("data", (chunk: Buffer) => {
      if (parts.length === 0) spoke();
      parts.push(chunk);
    });
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
