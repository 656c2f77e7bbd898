/** The lab's appliances as one asks them: states, starting, and everything through their own management API. */
import { iscsiTargetName } from "../../firmware/manage/iscsi_name.ts";
import type { GroupJson, StatusJson } from "../../firmware/manage/status_json.ts";
import { askAppliance } from "../../firmware/shell/ask.ts";
import type { Answer } from "../../firmware/shell/command.ts";
import { lastOutput, type RunningProcess, runningProcess, spawnAppliance } from "./process.ts";
import { writeProfile } from "./profile.ts";
import { applianceOf, type Lab, LabError, type SiteAppliance, socketOf } from "./site.ts";
import { waitUntil } from "./wait.ts";

/** The whole of `up`, and of one `start` (interfaces: exit 1 after 60 s). */
export const startLimitMs = 60_000;
const askLimitMs = 2000;

export interface ApplianceView {
  readonly name: string;
  readonly array: string;
  readonly pid: number | null;
  readonly state: "up" | "starting" | "paused" | "down";
  readonly at: string;
  readonly nbd: string;
  readonly nbdPortals: readonly string[];
  readonly iscsi: string | null;
  readonly iscsiPortals: readonly string[];
  readonly iqn: string | null;
}

export async function ask<T>(lab: Lab, name: string, method: string, path: string, body?: unknown): Promise<Answer<T>> {
  return (await askAppliance(socketOf(lab, name), method, path, body)) as Answer<T>;
}

/** As `ask`; a refusal is an error of the lab. */
export async function demand<T>(lab: Lab, name: string, method: string, path: string, body?: unknown): Promise<T> {
  const answer = await ask<T>(lab, name, method, path, body);
  if (!answer.ok) throw new LabError(`${name}: ${answer.text} (${answer.code})`, answer.code);
  return answer.value;
}

/** null: no answer within two seconds. */
export async function statusOf(lab: Lab, name: string): Promise<StatusJson | null> {
  const answer = await askAppliance(socketOf(lab, name), "GET", "/v1/status", undefined, askLimitMs);
  return answer.ok ? (answer.value as StatusJson) : null;
}

export async function viewOf(lab: Lab, appliance: SiteAppliance): Promise<ApplianceView> {
  const running = runningProcess(lab, appliance.name);
  const portals = appliance.nbdPorts.map((port) => `nbd://127.0.0.1:${port}`);
  const iscsiPortals = appliance.iscsiPorts.map((port) => `127.0.0.1:${port}`);
  return {
    name: appliance.name,
    array: appliance.array,
    pid: running?.pid ?? null,
    state: await stateOf(lab, appliance.name, running),
    at: socketOf(lab, appliance.name),
    nbd: portals[0] ?? "",
    nbdPortals: portals,
    iscsi: iscsiPortals[0] ?? null,
    iscsiPortals,
    iqn: iscsiPortals.length === 0 ? null : iscsiTargetName(appliance.array),
  };
}

async function stateOf(lab: Lab, name: string, running: RunningProcess | null): Promise<ApplianceView["state"]> {
  if (running === null) return "down";
  if (running.paused) return "paused";
  const status = await statusOf(lab, name);
  return status !== null && isSettled(status, name) ? "up" : "starting";
}

export function labView(lab: Lab): Promise<{ dir: string; appliances: ApplianceView[] }> {
  return Promise.all(lab.site.appliances.map((appliance) => viewOf(lab, appliance))).then((appliances) => ({
    dir: lab.dir,
    appliances,
  }));
}

function isSettled(status: StatusJson, name: string): boolean {
  const own = status.appliances.find((appliance) => appliance.name === name);
  return own?.state === "up" && status.groups.every((group) => group.settled);
}

/** Starts the process if it is not running. Not waiting for anything. */
export function launch(lab: Lab, name: string): void {
  const appliance = applianceOf(lab, name);
  if (runningProcess(lab, name) !== null) return;
  writeProfile(lab, appliance);
  spawnAppliance(lab, name);
}

/** Waits until every group's role has settled, writable or not. */
export async function whenSettled(lab: Lab, name: string, limitMs: number): Promise<readonly GroupJson[]> {
  const settled = await waitUntil(limitMs, 20, async () => {
    const running = runningProcess(lab, name);
    if (running === null) throw new LabError(`${name} has ended: ${lastOutput(lab, name)}`, "ended");
    if (running.paused) throw new LabError(`${name} is paused: scripts/lab resume ${name}`, "paused");
    const status = await statusOf(lab, name);
    return status !== null && isSettled(status, name) ? status.groups : null;
  });
  if (settled !== null) return settled;
  const text = `${name} is not up after ${limitMs / 1000} s: scripts/lab logs ${name}`;
  throw new LabError(text, "timeout");
}

/** A process that has just been started needs a moment until its management socket answers. */
export async function whenAnswering(lab: Lab, name: string): Promise<void> {
  const answered = await waitUntil(10_000, 20, async () => {
    if (runningProcess(lab, name) === null) throw new LabError(`${name} has ended: ${lastOutput(lab, name)}`, "ended");
    return (await statusOf(lab, name)) === null ? null : true;
  });
  if (answered === null) throw new LabError(`${name} does not answer: scripts/lab logs ${name}`, "unreachable");
}
