/**
 * Brings a new lab to where `up` promises it: group `demo` with its volumes on the first array, a golden copy on every other one,
 * in sync, pairs mirrored, all exports open to any host. Every step may have been done by an `up` that was interrupted.
 *
 * An array is asked through whichever of its appliances is up first: a standby forwards to the owner.
 */
import type { GroupJson, HostJson, VolumeJson } from "../../firmware/manage/status_json.ts";
import { ask, demand, statusOf } from "./appliances.ts";
import { endedError, running } from "./runner.ts";
import { type TimeLeft, whenOneSettled, whenWhole } from "./settling.ts";
import { demoGroup, type Lab, LabError, saveLab } from "./site.ts";
import { timesOf } from "./times.ts";
import { waitUntil } from "./wait.ts";

const anyHost = "any";

export async function prepareDemo(lab: Lab, left: TimeLeft): Promise<void> {
  const answering: { name: string; appliance: string }[] = [];
  for (const array of lab.site.arrays) {
    answering.push({ name: array.name, appliance: await whenOneSettled(lab, array, left) });
  }
  const [first, ...others] = answering;
  if (first === undefined) throw new LabError("the site has no arrays");
  const primary = first.appliance;

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
    await volumesThere(lab, other.appliance, left());
    await openToAnyHost(lab, other.appliance);
  }
  await whenWhole(lab, left);
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
  const found = await waitUntil(limitMs, timesOf(lab).pollMs, async () => {
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
  await volumesShow(lab, appliance, limitMs, "the volumes", () => true);
}

async function exportsOpen(lab: Lab, appliance: string, limitMs: number): Promise<void> {
  await volumesShow(lab, appliance, limitMs, "the exports", ({ exported }) => exported !== "no");
}

/** A refusal is waited out: a standby whose owner is busy cannot forward the question. */
async function volumesShow(
  lab: Lab,
  appliance: string,
  limitMs: number,
  what: string,
  isRight: (volume: VolumeJson) => boolean,
): Promise<void> {
  const wanted = lab.site.volumes.map(({ name }) => name);
  let last = "";
  const found = await waitUntil(limitMs, timesOf(lab).pollMs, async () => {
    const answer = await ask<VolumeJson[]>(lab, appliance, "GET", "/v1/volumes");
    if (!answer.ok && (await running(lab, appliance)) === null) throw endedError(lab, appliance);
    const right = answer.ok ? answer.value.filter(isRight).map(({ name }) => name) : [];
    const absent = wanted.filter((name) => !right.includes(name));
    last = answer.ok ? `not ${absent.join(", ")}` : answer.text;
    return answer.ok && absent.length === 0 ? true : null;
  });
  if (found !== null) return;
  throw new LabError(
    `${what} of ${appliance} are not there in time (${last}): scripts/lab logs ${appliance}`,
    "timeout",
  );
}
