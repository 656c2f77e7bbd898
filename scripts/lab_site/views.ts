/** What `status` and `up` print of each appliance. */
import { iscsiTargetName } from "../../firmware/manage/iscsi_name.ts";
import type { PairJson } from "../../firmware/manage/status_json.ts";
import { hostAddress, serviceAddress, servicePorts } from "./addresses.ts";
import { statusOf } from "./appliances.ts";
import { running } from "./runner.ts";
import { isSettled } from "./settling.ts";
import { atOf, type Lab, type SiteAppliance } from "./site.ts";

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
  const address = hostAddress(lab, appliance);
  const portals = appliance.nbdPorts.map((port) => `nbd://${address}:${port}`);
  const iscsiPortals = appliance.iscsiPorts.map((port) => `${address}:${port}`);
  return {
    name: appliance.name,
    array: appliance.array,
    ...(await lifeOf(lab, appliance.name)),
    at: atOf(lab, appliance.name),
    nbd: portals[0] ?? "",
    nbdPortals: portals,
    iscsi: iscsiPortals[0] ?? null,
    iscsiPortals,
    iqn: iscsiPortals.length === 0 ? null : iscsiTargetName(appliance.array),
  };
}

async function lifeOf(lab: Lab, name: string): Promise<Pick<ApplianceView, "pid" | "state" | "pair">> {
  const found = await running(lab, name);
  if (found === null) return { pid: null, state: "down", pair: null };
  const { pid } = found;
  if (found.paused) return { pid, state: "paused", pair: null };
  const status = await statusOf(lab, name);
  const isUp = status !== null && isSettled(status, name);
  return { pid, state: isUp ? "up" : "starting", pair: status?.pair ?? null };
}

/** An array at its service address: at whichever of its appliances owns it. */
export interface ServiceView {
  readonly array: string;
  readonly nbd: string;
  readonly iscsi: string;
  readonly iqn: string;
}

function servicesOf(lab: Lab): ServiceView[] {
  return lab.site.arrays.flatMap(({ name }) => {
    const address = serviceAddress(lab, name);
    if (address === null) return [];
    const nbd = `nbd://${address}:${servicePorts.nbd}`;
    return [{ array: name, nbd, iscsi: `${address}:${servicePorts.iscsi}`, iqn: iscsiTargetName(name) }];
  });
}

export interface LabView {
  readonly dir: string;
  /** `netns`: the addresses are in the lab's own network (`scripts/lab exec`). */
  readonly network: "loopback" | "netns";
  readonly machines: "process" | "vm";
  readonly appliances: readonly ApplianceView[];
  readonly services: readonly ServiceView[];
}

export async function labView(lab: Lab): Promise<LabView> {
  const appliances = await Promise.all(lab.site.appliances.map((appliance) => viewOf(lab, appliance)));
  return {
    dir: lab.dir,
    network: lab.site.network,
    machines: lab.site.machines,
    appliances,
    services: servicesOf(lab),
  };
}
