/** What `status` and `up` print of each appliance. */
import { iscsiTargetName } from "../../firmware/manage/iscsi_name.ts";
import type { PairJson } from "../../firmware/manage/status_json.ts";
import { statusOf } from "./appliances.ts";
import { runningProcess } from "./process.ts";
import { isSettled } from "./settling.ts";
import { type Lab, type SiteAppliance, socketOf } from "./site.ts";

export interface ApplianceView {
  readonly name: string;
  readonly array: string;
  readonly pid: number | null;
  readonly state: "up" | "starting" | "paused" | "down";
  /** As it says itself; null: it has no partner, or does not answer. */
  readonly pair: PairJson | null;
  readonly at: string;
  readonly nbd: string;
  readonly nbdPortals: readonly string[];
  readonly iscsi: string | null;
  readonly iscsiPortals: readonly string[];
  readonly iqn: string | null;
}

async function viewOf(lab: Lab, appliance: SiteAppliance): Promise<ApplianceView> {
  const portals = appliance.nbdPorts.map((port) => `nbd://127.0.0.1:${port}`);
  const iscsiPortals = appliance.iscsiPorts.map((port) => `127.0.0.1:${port}`);
  return {
    name: appliance.name,
    array: appliance.array,
    ...(await lifeOf(lab, appliance.name)),
    at: socketOf(lab, appliance.name),
    nbd: portals[0] ?? "",
    nbdPortals: portals,
    iscsi: iscsiPortals[0] ?? null,
    iscsiPortals,
    iqn: iscsiPortals.length === 0 ? null : iscsiTargetName(appliance.array),
  };
}

async function lifeOf(lab: Lab, name: string): Promise<Pick<ApplianceView, "pid" | "state" | "pair">> {
  const running = runningProcess(lab, name);
  if (running === null) return { pid: null, state: "down", pair: null };
  const { pid } = running;
  if (running.paused) return { pid, state: "paused", pair: null };
  const status = await statusOf(lab, name);
  const isUp = status !== null && isSettled(status, name);
  return { pid, state: isUp ? "up" : "starting", pair: status?.pair ?? null };
}

export async function labView(lab: Lab): Promise<{ dir: string; appliances: ApplianceView[] }> {
  const appliances = await Promise.all(lab.site.appliances.map((appliance) => viewOf(lab, appliance)));
  return { dir: lab.dir, appliances };
}
