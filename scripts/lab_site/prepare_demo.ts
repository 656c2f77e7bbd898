/**
 * Brings a new lab to where `up` promises it: group `demo` with its volumes on the first array, a golden copy on every other one,
 * in sync, all exports open to any host. Every step may have been done by an `up` that was interrupted.
 */
import type { GroupJson, HostJson, VolumeJson } from "../../firmware/manage/status_json.ts";
import { ask, demand, statusOf } from "./appliances.ts";
import { demoGroup, type Lab, LabError, saveLab } from "./site.ts";
import { waitUntil } from "./wait.ts";

const anyHost = "any";

export async function prepareDemo(lab: Lab, limitMs: number): Promise<void> {
  const [first, ...others] = lab.site.arrays;
  const primary = first?.appliances[0];
  if (first === undefined || primary === undefined) throw new LabError("the site has no appliances");
  const endMs = performance.now() + limitMs;
  const left = () => Math.max(0, endMs - performance.now());

  await create(lab, primary, "/v1/groups", { name: demoGroup });
  for (const { name, sizeBytes } of lab.site.volumes) {
    await create(lab, primary, "/v1/volumes", { name, sizeBytes, group: demoGroup });
  }
  await openToAnyHost(lab, primary);
  for (const other of others) {
    const cycleMs = lab.site.mode === "delta" ? 30_000 : null;
    await create(lab, primary, `/v1/groups/${demoGroup}/add-peer`, { array: other.name, mode: lab.site.mode, cycleMs });
  }
  for (const other of others) {
    await inSync(lab, primary, other.name, left());
    for (const appliance of other.appliances.slice(0, 1)) {
      await volumesThere(lab, appliance, left());
      await openToAnyHost(lab, appliance);
    }
  }
  for (const appliance of lab.site.appliances) await exportsOpen(lab, appliance.name, left());
  lab.site.prepared = true;
  saveLab(lab);
}

/** What exists already is fine. */
async function create(lab: Lab, appliance: string, path: string, body: unknown): Promise<void> {
  const answer = await ask(lab, appliance, "POST", path, body);
  if (!answer.ok && answer.code !== "exists")
    throw new LabError(`${appliance}: ${answer.text} (${answer.code})`, answer.code);
}

async function openToAnyHost(lab: Lab, appliance: string): Promise<void> {
  await create(lab, appliance, "/v1/hosts", { name: anyHost, any: true });
  const hosts = await demand<HostJson[]>(lab, appliance, "GET", "/v1/hosts");
  const mapped = hosts.find((host) => host.name === anyHost)?.mappings ?? [];
  for (const [lun, { name }] of lab.site.volumes.entries()) {
    if (mapped.some((mapping) => mapping.volume === name)) continue;
    await demand(lab, appliance, "POST", `/v1/hosts/${anyHost}/map`, { volume: name, lun });
  }
}

/** Waits until the primary says that `array` is in sync. */
export async function inSync(lab: Lab, primary: string, array: string, limitMs: number): Promise<GroupJson> {
  let last = "no answer";
  const found = await waitUntil(limitMs, 30, async () => {
    const group = (await statusOf(lab, primary))?.groups.find((candidate) => candidate.name === demoGroup);
    const peer = group?.peers.find((candidate) => candidate.array === array);
    if (peer !== undefined) last = peer.state;
    return peer?.state === "in-sync" ? (group ?? null) : null;
  });
  if (found === null)
    throw new LabError(`${array} is not in sync in time (${last}): scripts/lab logs ${primary}`, "timeout");
  return found;
}

async function volumesThere(lab: Lab, appliance: string, limitMs: number): Promise<void> {
  const wanted = lab.site.volumes.map((volume) => volume.name);
  const found = await waitUntil(limitMs, 30, async () => {
    const volumes = await demand<VolumeJson[]>(lab, appliance, "GET", "/v1/volumes");
    return wanted.every((name) => volumes.some((volume) => volume.name === name)) ? true : null;
  });
  if (found === null) throw new LabError(`${appliance} does not have ${wanted.join(", ")} in time`, "timeout");
}

async function exportsOpen(lab: Lab, appliance: string, limitMs: number): Promise<void> {
  const found = await waitUntil(limitMs, 30, async () => {
    const volumes = await demand<VolumeJson[]>(lab, appliance, "GET", "/v1/volumes");
    const wanted = volumes.filter((volume) => lab.site.volumes.some(({ name }) => name === volume.name));
    return wanted.length === lab.site.volumes.length && wanted.every(({ exported }) => exported !== "no") ? true : null;
  });
  if (found === null) throw new LabError(`the exports of ${appliance} are not open in time`, "timeout");
}
