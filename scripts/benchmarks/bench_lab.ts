/** A lab of real appliance processes for a benchmark: started, asked and taken down by the commands that people use. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { join } from "node:path";
import type { StatusJson } from "../../firmware/manage/status_json.ts";
import { repositoryRoot } from "../tools.ts";
import { ifInterrupted } from "./interruption.ts";
import type { LoadKind, LoadPlan } from "./load/plan.ts";

export interface LabAppliance {
  readonly name: string;
  readonly pid: number;
  readonly at: string;
  readonly nbd: string;
  /** `HOST:PORT`, and the target's name; null: no iSCSI. */
  readonly iscsi: string | null;
  readonly iqn: string | null;
}

export interface BenchLab {
  readonly dir: string;
  find(name: string): LabAppliance;
  /** A lab command; returns what it printed. */
  run(args: readonly string[]): Promise<string>;
  down(): Promise<void>;
}

export const settleLimitMs = 120_000;

export async function labUp(dir: string, options: readonly string[]): Promise<BenchLab> {
  const program = join(repositoryRoot, "scripts", "lab");
  const run = (args: readonly string[]) => output(program, [...args, "--dir", dir, "--json"]);
  const isDown = ifInterrupted(() => spawnSync(program, ["down", "--wipe", "--dir", dir], { stdio: "ignore" }));
  const down = async () => {
    await run(["down", "--wipe"]);
    isDown();
  };
  try {
    const { appliances } = JSON.parse(await run(["up", ...options])) as { appliances: LabAppliance[] };
    const find = (name: string) => {
      const found = appliances.find((each) => each.name === name);
      if (found === undefined) throw new Error(`the lab has no ${name}`);
      return found;
    };
    return { dir, find, run, down };
  } catch (error) {
    await down().catch(() => {});
    throw error;
  }
}

/** `HOST:PORT` of its first NBD portal. */
export function portalOf(appliance: LabAppliance): string {
  return appliance.nbd.replace("nbd://", "");
}

export async function goldcopy(appliance: LabAppliance, args: readonly string[]): Promise<string> {
  return await output(join(repositoryRoot, "scripts", "goldcopy"), [...args, "--at", appliance.at, "--json"]);
}

export async function statusOf(appliance: LabAppliance): Promise<StatusJson> {
  return JSON.parse(await goldcopy(appliance, ["status"])) as StatusJson;
}

export interface LeftOver extends Readonly<Record<string, number>> {
  readonly cacheDirtyBytes: number;
  readonly notDestagedSeqs: number;
  readonly lagBytes: number;
}

/** What `appliance` has still to do for the group of `volume`. */
export async function leftOverOf(appliance: LabAppliance, volume: string): Promise<LeftOver> {
  const { appliances, groups } = await statusOf(appliance);
  const own = groups.find((group) => group.volumes.includes(volume));
  return {
    cacheDirtyBytes: appliances.find((each) => each.name === appliance.name)?.cacheDirtyBytes ?? 0,
    notDestagedSeqs: own === undefined ? 0 : own.commitSeq - own.appliedSeq,
    lagBytes: own?.peers[0]?.lagBytes ?? 0,
  };
}

export async function whenSettled(appliance: LabAppliance, volume: string): Promise<void> {
  const endMs = performance.now() + settleLimitMs;
  for (;;) {
    const left = await leftOverOf(appliance, volume);
    if (left.notDestagedSeqs === 0 && left.lagBytes === 0) return;
    if (performance.now() > endMs) throw new Error(`${volume} does not settle: ${JSON.stringify(left)}`);
    await Bun.sleep(100);
  }
}

/** A load that runs until its server dies, or it is stopped: it says nothing and its end is no failure. It does not read. */
export function endlessLoad(url: string, kind: LoadKind, blockBytes: number, depth: number): ChildProcess {
  const plan: LoadPlan = { url, kind, blockBytes, depth, connections: 1, seconds: 0, sizeBytes: 0, until: "endless" };
  return spawn(process.execPath, [join(import.meta.dir, "load", "load.ts"), JSON.stringify(plan)], { stdio: "ignore" });
}

export async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  await new Promise((resolve) => child.on("exit", resolve));
}

/** Waits until `value` is above 0 and has not changed for `quietMs`; returns it. Null: not within `settleLimitMs`. */
export async function whenStill(value: () => Promise<number>, quietMs: number): Promise<number | null> {
  const endMs = performance.now() + settleLimitMs;
  let last = await value();
  let sinceMs = performance.now();
  while (performance.now() < endMs) {
    await Bun.sleep(50);
    const now = await value();
    if (now !== last || now === 0) {
      last = now;
      sinceMs = performance.now();
    } else if (performance.now() - sinceMs >= quietMs) return now;
  }
  return null;
}

export function output(
  program: string,
  args: readonly string[],
  env?: Readonly<Record<string, string>>,
): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, [...args], {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, ...env },
    });
    let stdout = "";
    let stderr = "";
    child.stdout.on("data", (chunk: Buffer) => {
      stdout += chunk.toString();
    });
    child.stderr.on("data", (chunk: Buffer) => {
      stderr += chunk.toString();
    });
    child.on("error", reject);
    child.on("close", (code) => {
      if (code === 0) resolve(stdout);
      else reject(new Error(`${program} ${args.join(" ")}: exit ${code}: ${stderr.trim()} ${stdout.trim()}`));
    });
  });
}
