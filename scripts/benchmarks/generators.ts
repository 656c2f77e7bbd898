/** Load generators: our own lean one, and the third-party one of each protocol, for whoever does not trust it. */
import { join } from "node:path";
import type { LoadPlan, LoadResult } from "./load/plan.ts";

export type GeneratorName = "lean" | "fio" | "iscsi-perf";

export type GeneratorResult = Omit<LoadResult, "ops">;

export async function lean(plan: LoadPlan, began: () => void = () => {}): Promise<GeneratorResult> {
  const program = join(import.meta.dir, "load", "load.ts");
  const { text } = await output(process.execPath, [program, JSON.stringify(plan)], began);
  return JSON.parse(text.slice(text.indexOf("{"))) as LoadResult;
}

/** The third-party generator that can do this work; null: none. */
export function thirdPartyFor(plan: Pick<LoadPlan, "url" | "kind" | "connections">): GeneratorName | null {
  if (plan.url.startsWith("nbd:")) return "fio";
  return plan.kind.endsWith("read") && plan.connections === 1 ? "iscsi-perf" : null;
}

/** `began` is called by a generator that warms up, when it begins to measure. */
export function generate(name: GeneratorName, plan: LoadPlan, began: () => void = () => {}): Promise<GeneratorResult> {
  return { lean, fio, "iscsi-perf": iscsiPerf }[name](plan, began);
}

interface FioSide {
  readonly iops: number;
  readonly bw_bytes: number;
  readonly runtime: number;
  readonly clat_ns: { readonly percentile?: Readonly<Record<string, number>> };
}

async function fio(plan: LoadPlan): Promise<GeneratorResult> {
  const { text } = await output("fio", [
    "--name=bench",
    "--thread",
    "--ioengine=nbd",
    `--uri=${plan.url}`,
    `--rw=${plan.kind}`,
    "--rwmixread=70",
    `--bs=${plan.blockBytes}`,
    `--iodepth=${plan.depth}`,
    `--numjobs=${plan.connections}`,
    "--group_reporting",
    `--size=${plan.sizeBytes}`,
    "--time_based",
    `--runtime=${plan.seconds}`,
    ...(typeof plan.until === "number" ? [`--number_ios=${plan.until}`] : []),
    "--norandommap",
    "--randrepeat=0",
    "--output-format=json",
  ]);
  const job = JSON.parse(text.slice(text.indexOf("{"))).jobs[0] as Record<"read" | "write", FioSide> & {
    usr_cpu: number;
    sys_cpu: number;
  };
  const sides = [job.read, job.write].filter(({ iops }) => iops > 0);
  const sum = (value: (side: FioSide) => number) => sides.reduce((total, side) => total + value(side), 0);
  // Of a mixed work the slower side.
  const worst = (share: string) =>
    Math.round(Math.max(...sides.map(({ clat_ns: { percentile } }) => percentile?.[share] ?? 0)) / 1000);
  const seconds = Math.max(...sides.map(({ runtime }) => runtime)) / 1000;
  return {
    iops: sum(({ iops }) => iops),
    bytesPerSecond: sum(({ bw_bytes }) => bw_bytes),
    latencyUsP50: worst("50.000000"),
    latencyUsP99: worst("99.000000"),
    seconds,
    clientCpuSeconds: ((job.usr_cpu + job.sys_cpu) / 100) * seconds * plan.connections,
  };
}

/** libiscsi's generator: reads only, and no latencies. */
async function iscsiPerf(plan: LoadPlan): Promise<GeneratorResult> {
  const seconds = Math.max(1, Math.round(plan.seconds));
  const args = ["-m", plan.depth, "-b", plan.blockBytes / 512, "-t", seconds, plan.url].map(String);
  const { text, cpuSeconds } = await output("iscsi-perf", plan.kind === "randread" ? ["-r", ...args] : args);
  const found = [...text.matchAll(/iops average (\d+)/g)].at(-1);
  if (found === undefined) throw new Error(`iscsi-perf says no average: ${text.slice(-200)}`);
  const iops = Number(found[1]);
  return {
    iops,
    bytesPerSecond: iops * plan.blockBytes,
    latencyUsP50: Number.NaN,
    latencyUsP99: Number.NaN,
    seconds,
    clientCpuSeconds: cpuSeconds,
  };
}

async function output(
  program: string,
  args: readonly string[],
  spoke: () => void = () => {},
): Promise<{ text: string; cpuSeconds: number }> {
  const child = Bun.spawn([program, ...args], { stdin: "ignore", stdout: "pipe", stderr: "inherit" });
  const decoder = new TextDecoder();
  let text = "";
  for await (const chunk of child.stdout) {
    if (text === "") spoke();
    text += decoder.decode(chunk, { stream: true });
  }
  const code = await child.exited;
  if (code !== 0) throw new Error(`${program} ended with ${code}`);
  return { text, cpuSeconds: Number(child.resourceUsage()?.cpuTime.total ?? 0) / 1e6 };
}
