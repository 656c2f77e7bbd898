/** The lab's pair as benchmarks and tests break it: who owns, paths of a host, killing, repairing, handing over. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { PairStatusJson, StatusJson } from "../../firmware/manage/status_json.ts";
import { askAppliance } from "../../firmware/shell/ask.ts";
import { demand } from "../lab_site/appliances.ts";
import type { Heartbeat } from "../lab_site/heartbeat.ts";
import { killAppliance, pauseProcess, startProcess } from "../lab_site/process.ts";
import { type Lab, requireLab, socketOf } from "../lab_site/site.ts";
import { waitUntil } from "../lab_site/wait.ts";
import { type BenchLab, type LabAppliance, labUp } from "./bench_lab.ts";

export const pairVolume = "demo-1";
/** The lab maps its first volume there. */
const pairLun = 0;
const pollMs = 20;
const repairLimitMs = 60_000;
const askLimitMs = 2000;

export type PathProtocol = "nbd" | "iscsi";

export const partners = ["oak-a", "oak-b"] as const;
export type Partner = (typeof partners)[number];

export function otherOf(partner: Partner): Partner {
  return partner === "oak-a" ? "oak-b" : "oak-a";
}

/** Only oak-a and oak-b, with one volume. */
export async function pairAlone(
  folder: string,
  sizeBytes: number,
  heartbeat: Heartbeat | null = null,
): Promise<PairSite> {
  const path = join(folder, "pair.toml");
  const lines = [
    `volumes = [{ name = "${pairVolume}", size = "${sizeBytes}B" }]`,
    'arrays = [{ name = "oak", appliances = ["oak-a", "oak-b"] }]',
    ...(heartbeat === null ? [] : [`heartbeat = "${heartbeat.everyMs}x${heartbeat.missedMax}"`]),
  ];
  writeFileSync(path, `${lines.join("\n")}\n`);
  return new PairSite(await labUp(join(folder, "pair"), ["--profile", path]));
}

export class PairSite {
  readonly bench: BenchLab;
  readonly lab: Lab;

  constructor(bench: BenchLab) {
    this.bench = bench;
    this.lab = requireLab(bench.dir);
  }

  find(partner: Partner): LabAppliance {
    return this.bench.find(partner);
  }

  url(partner: Partner, protocol: PathProtocol): string {
    const { nbd, iscsi, iqn } = this.find(partner);
    return protocol === "nbd" ? `${nbd}/${pairVolume}` : `iscsi://${iscsi}/${iqn}/${pairLun}`;
  }

  /** Both paths of a host, the owner's first. */
  async paths(protocol: PathProtocol): Promise<string[]> {
    const owner = await this.owner();
    return [this.url(owner, protocol), this.url(otherOf(owner), protocol)];
  }

  /** null: no answer. */
  async pairOf(partner: Partner): Promise<PairStatusJson | null> {
    const answer = await askAppliance(socketOf(this.lab, partner), "GET", "/v1/pair", undefined, askLimitMs);
    return answer.ok ? (answer.value as PairStatusJson) : null;
  }

  /** Waits until one of them owns the array. */
  async owner(): Promise<Partner> {
    return await this.#when("one owns", async () => {
      for (const partner of partners) if ((await this.pairOf(partner))?.role === "owner") return partner;
      return null;
    });
  }

  /** Waits until the owner says that both caches are alike; returns it. */
  async mirrored(): Promise<Partner> {
    return await this.#when("mirrored", async () => {
      for (const partner of partners) {
        const pair = await this.pairOf(partner);
        if (pair?.role === "owner" && pair.state === "mirrored") return partner;
      }
      return null;
    });
  }

  async kill(partner: Partner): Promise<void> {
    await killAppliance(this.lab, partner);
  }

  /** SIGSTOP. */
  pause(partner: Partner): void {
    pauseProcess(this.lab, partner);
  }

  /** Starts what does not run; returns the owner when the pair is mirrored again. */
  async repair(): Promise<Partner> {
    for (const partner of partners) startProcess(this.lab, partner);
    return await this.mirrored();
  }

  /** Hands the array over to the other appliance; returns the new owner. */
  async handOver(): Promise<Partner> {
    const owner = await this.owner();
    await demand(this.lab, owner, "POST", "/v1/pair/failover", { to: null, timeoutMs: repairLimitMs });
    return otherOf(owner);
  }

  /** Each half to its preferred owner: from then on the group can be moved between the appliances. */
  async goHome(): Promise<void> {
    await demand(this.lab, await this.owner(), "POST", "/v1/pair/failover", { home: true, timeoutMs: repairLimitMs });
    await this.mirrored();
  }

  /** Who has the group of `pairVolume`. */
  async groupOwner(): Promise<Partner> {
    const { groups } = await demand<StatusJson>(this.lab, await this.owner(), "GET", "/v1/status");
    return groups[0]!.owner as Partner;
  }

  /** Moves that group alone to the other appliance. */
  async moveGroup(): Promise<void> {
    const { groups } = await demand<StatusJson>(this.lab, await this.owner(), "GET", "/v1/status");
    const { name, owner } = groups[0]!;
    const to = otherOf(owner as Partner);
    await demand(this.lab, to, "POST", "/v1/pair/move", { group: name, to, timeoutMs: repairLimitMs });
  }

  /** Records that only the cache holds. */
  async notDestaged(owner: Partner): Promise<number> {
    const { groups } = await demand<StatusJson>(this.lab, owner, "GET", "/v1/status");
    return groups.reduce((sum, { commitSeq, appliedSeq }) => sum + commitSeq - appliedSeq, 0);
  }

  /** Waits until everything is at home. */
  async settled(): Promise<void> {
    const owner = await this.owner();
    await this.#when("settled", async () => ((await this.notDestaged(owner)) === 0 ? true : null));
  }

  async down(): Promise<void> {
    await this.bench.down();
  }

  async #when<T>(what: string, probe: () => Promise<T | null>): Promise<T> {
    const found = await waitUntil(repairLimitMs, pollMs, probe);
    if (found !== null) return found;
    const pairs = await Promise.all(partners.map((partner) => this.pairOf(partner)));
    throw new Error(`${this.lab.dir}: not ${what} within ${repairLimitMs / 1000} s: ${JSON.stringify(pairs)}`);
  }
}
