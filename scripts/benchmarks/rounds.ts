/** Servers beside each other: the same work, the same machine, the same run, rounds in alternation. */
import { readFileSync } from "node:fs";
import { type Contender, cpuSeconds, type Running } from "./contenders.ts";
import { type GeneratorName, generate, thirdPartyFor } from "./generators.ts";
import type { LoadPlan } from "./load/plan.ts";
import type { Bench, Work } from "./works.ts";

export interface Run {
  readonly contender: string;
  readonly work: string;
  readonly client: GeneratorName;
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
  /** Our own load generator, the third-party one of the protocol, or both. */
  readonly clients: readonly ("lean" | "third-party")[];
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
      await generate("lean", { ...planOf(running.url, fill, options), until: "once" });
      await running.settled?.();
    }
    for (const work of options.works) {
      for (let round = 0; round < (work.rounds ?? options.rounds); round++) {
        // Every other round runs backwards: nobody always comes after the same neighbour.
        const order = round % 2 === 0 ? servers : [...servers].reverse();
        for (const client of options.clients) {
          for (const [contender, running] of order) {
            const plan = planOf(running.url, work, options);
            const generator = client === "lean" ? "lean" : thirdPartyFor(plan);
            if (generator === null) continue;
            const run = await measure(contender, running, work, plan, generator, round);
            runs.push(run);
            options.say(`  ${work.name}, ${generator}, ${contender.name}: ${Math.round(run.iops)} IOPS`);
          }
        }
      }
    }
  } finally {
    for (const [, running] of servers) await running.stop();
  }
  return runs;
}

function planOf(url: string, work: Work, options: RoundsOptions): LoadPlan {
  return {
    url,
    kind: work.kind,
    blockBytes: work.blockBytes,
    depth: work.depth,
    connections: work.connections ?? 1,
    seconds: work.seconds ?? options.seconds,
    sizeBytes: options.sizeBytes,
    until: work.opsMax ?? "timed",
  };
}

async function measure(
  { name }: Contender,
  running: Running,
  work: Work,
  plan: LoadPlan,
  client: GeneratorName,
  round: number,
): Promise<Run> {
  if (work.settledFirst === true) await running.settled?.();
  let cpuBefore = cpuSeconds(running.pids);
  let busyBefore = machineBusySeconds();
  // Without the generator's warm-up, where it has one.
  const result = await generate(client, plan, () => {
    cpuBefore = cpuSeconds(running.pids);
    busyBefore = machineBusySeconds();
  });
  const serverCpuSeconds = cpuSeconds(running.pids) - cpuBefore;
  const busySeconds = machineBusySeconds() - busyBefore;
  const leftOver = (await running.leftOver?.()) ?? {};
  const gib = (result.bytesPerSecond * result.seconds) / 2 ** 30;
  return {
    contender: name,
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

/** Seconds that all cores together have been busy since boot. */
function machineBusySeconds(): number {
  const line = readFileSync("/proc/stat", "utf8").split("\n")[0]!;
  const [user, nice, system, , , irq, softirq, steal] = line.trim().split(/\s+/).slice(1).map(Number);
  return (user! + nice! + system! + irq! + softirq! + steal!) / 100;
}
