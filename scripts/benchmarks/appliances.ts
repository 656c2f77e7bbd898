/** Our own appliances as contenders: real processes of a lab, alone or with a golden copy at the other array. */
import { spawn } from "node:child_process";
import { join } from "node:path";
import type { StatusJson } from "../../firmware/manage/status_json.ts";
import { repositoryRoot } from "../tools.ts";
import type { Contender, Running } from "./contenders.ts";

interface LabAppliance {
  readonly name: string;
  readonly pid: number;
  readonly at: string;
  readonly nbd: string;
}

const aloneVolume = "bench-1";
const settleLimitMs = 120_000;

/** One appliance, its volume in a group without peers; the other array's appliance is stopped. */
export const alone: Contender = {
  name: "goldcopy",
  what: "one appliance, cache 256 MiB (battery), shelf of files; no peer",
  async start(folder, sizeBytes) {
    const lab = await labUp(join(folder, "alone"), "async");
    try {
      const oak = lab.find("oak-a");
      await goldcopy(oak, ["group", "create", "bench"]);
      await goldcopy(oak, ["volume", "create", aloneVolume, "--size", String(sizeBytes), "--group", "bench"]);
      await goldcopy(oak, ["host", "map", "any", aloneVolume]);
      await lab.run(["stop", "elm-a"]);
      return serverOf(lab, oak, [oak.pid], aloneVolume);
    } catch (error) {
      await lab.down();
      throw error;
    }
  },
};

export const asyncPair: Contender = mirrored("async", "two arrays, asynchronous replication; CPU of both appliances");
export const syncPair: Contender = mirrored("sync", "two arrays, synchronous replication; CPU of both appliances");

function mirrored(mode: "async" | "sync", what: string): Contender {
  return {
    name: `goldcopy-${mode}`,
    what,
    async start(folder) {
      const lab = await labUp(join(folder, mode), mode);
      const oak = lab.find("oak-a");
      return serverOf(lab, oak, [oak.pid, lab.find("elm-a").pid], "demo-1");
    },
  };
}

interface Lab {
  find(name: string): LabAppliance;
  run(args: readonly string[]): Promise<string>;
  down(): Promise<void>;
}

async function labUp(dir: string, mode: string): Promise<Lab> {
  const run = (args: readonly string[]) =>
    output(join(repositoryRoot, "scripts", "lab"), [...args, "--dir", dir, "--json"]);
  const down = async () => {
    await run(["down", "--wipe"]);
  };
  try {
    const { appliances } = JSON.parse(await run(["up", "--profile", "single", "--mode", mode])) as {
      appliances: LabAppliance[];
    };
    const find = (name: string) => {
      const found = appliances.find((each) => each.name === name);
      if (found === undefined) throw new Error(`the lab has no ${name}`);
      return found;
    };
    return { find, run, down };
  } catch (error) {
    await down().catch(() => {});
    throw error;
  }
}

function serverOf(lab: Lab, primary: LabAppliance, pids: readonly number[], volume: string): Running {
  const status = async () => JSON.parse(await goldcopy(primary, ["status"])) as StatusJson;
  const leftOver = async () => {
    const { appliances, groups } = await status();
    const own = groups.find((group) => group.volumes.includes(volume));
    return {
      cacheDirtyBytes: appliances.find((each) => each.name === primary.name)?.cacheDirtyBytes ?? 0,
      notDestagedSeqs: own === undefined ? 0 : own.commitSeq - own.appliedSeq,
      lagBytes: own?.peers[0]?.lagBytes ?? 0,
    };
  };
  return {
    at: `${primary.nbd.replace("nbd://", "")}/${volume}`,
    pids,
    leftOver,
    settled: async () => {
      const endMs = performance.now() + settleLimitMs;
      for (;;) {
        const left = await leftOver();
        if (left.notDestagedSeqs === 0 && left.lagBytes === 0) return;
        if (performance.now() > endMs) throw new Error(`${volume} does not settle: ${JSON.stringify(left)}`);
        await Bun.sleep(100);
      }
    },
    stop: () => lab.down(),
  };
}

async function goldcopy(appliance: LabAppliance, args: readonly string[]): Promise<string> {
  return await output(join(repositoryRoot, "scripts", "goldcopy"), [...args, "--at", appliance.at, "--json"]);
}

function output(program: string, args: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, [...args], { stdio: ["ignore", "pipe", "pipe"] });
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
