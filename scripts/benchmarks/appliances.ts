/** Our own appliances as contenders: real processes of a lab, alone or with a golden copy at the other array. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { type BenchLab, goldcopy, type LabAppliance, labUp, leftOverOf, whenSettled } from "./bench_lab.ts";
import type { Contender, Running } from "./contenders.ts";
import { pairAlone, pairVolume, partners } from "./pair_site.ts";

const aloneVolume = "bench-1";

/** A site of one array with one appliance. */
export function siteAlone(folder: string, name: string, lines: readonly string[]): string {
  const path = join(folder, `${name}.toml`);
  writeFileSync(path, `${[...lines, 'arrays = [{ name = "oak", appliances = ["oak-a"] }]'].join("\n")}\n`);
  return path;
}

/** One appliance, its volume in a group without peers. */
export async function startAlone(
  folder: string,
  sizeBytes: number,
  mapping: readonly string[] = [],
): Promise<{ lab: BenchLab; volume: string }> {
  const site = siteAlone(folder, "alone", [`volumes = [{ name = "demo-1", size = "16MiB" }]`]);
  const lab = await labUp(join(folder, "alone"), ["--profile", site]);
  try {
    const oak = lab.find("oak-a");
    await goldcopy(oak, ["group", "create", "bench"]);
    await goldcopy(oak, ["volume", "create", aloneVolume, "--size", String(sizeBytes), "--group", "bench"]);
    await goldcopy(oak, ["host", "map", "any", aloneVolume, ...mapping]);
    return { lab, volume: aloneVolume };
  } catch (error) {
    await lab.down();
    throw error;
  }
}

export const alone: Contender = {
  name: "goldcopy",
  what: "one appliance, cache 256 MiB (battery), shelf of files; no peer",
  async start(folder, sizeBytes) {
    const { lab, volume } = await startAlone(folder, sizeBytes);
    const oak = lab.find("oak-a");
    return serverOf(lab, oak, [oak.pid], volume);
  },
};

const iscsiLun = 7;

export const aloneIscsi: Contender = {
  name: "goldcopy",
  what: `${alone.what}; over iSCSI`,
  async start(folder, sizeBytes) {
    const { lab, volume } = await startAlone(folder, sizeBytes, ["--lun", String(iscsiLun)]);
    const oak = lab.find("oak-a");
    if (oak.iscsi !== null) {
      const server = serverOf(lab, oak, [oak.pid], volume);
      return { ...server, url: `iscsi://${oak.iscsi}/${oak.iqn}/${iscsiLun}` };
    }
    await lab.down();
    throw new Error("the lab's appliance has no iSCSI portal");
  },
};

export const asyncPair: Contender = mirrored("async", "two arrays, asynchronous replication; CPU of both appliances");
export const syncPair: Contender = mirrored("sync", "two arrays, synchronous replication; CPU of both appliances");

export const cachePair: Contender = {
  name: "goldcopy-pair",
  what: "two appliances of one array, each with a copy of the write cache; no peer; CPU of both",
  async start(folder, sizeBytes) {
    const site = await pairAlone(folder, sizeBytes);
    const owner = await site.mirrored();
    const pids = partners.map((partner) => site.find(partner).pid);
    return serverOf(site.bench, site.find(owner), pids, pairVolume);
  },
};

function mirrored(mode: "async" | "sync", what: string): Contender {
  return {
    name: `goldcopy-${mode}`,
    what,
    async start(folder) {
      const lab = await labUp(join(folder, mode), ["--profile", "single", "--mode", mode]);
      const oak = lab.find("oak-a");
      return serverOf(lab, oak, [oak.pid, lab.find("elm-a").pid], "demo-1");
    },
  };
}

function serverOf(lab: BenchLab, primary: LabAppliance, pids: readonly number[], volume: string): Running {
  return {
    url: `${primary.nbd}/${volume}`,
    pids,
    leftOver: () => leftOverOf(primary, volume),
    settled: () => whenSettled(primary, volume),
    stop: () => lab.down(),
  };
}
