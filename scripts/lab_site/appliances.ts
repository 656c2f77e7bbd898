/** The lab's appliances as one starts and asks them: everything goes through their own management API. */
import type { StatusJson } from "../../firmware/manage/status_json.ts";
import { askAppliance } from "../../firmware/shell/ask.ts";
import type { Answer } from "../../firmware/shell/command.ts";
import { endedError, runningProcess, spawnAppliance } from "./process.ts";
import { writeProfile } from "./profile.ts";
import { applianceOf, type Lab, LabError, socketOf } from "./site.ts";
import { waitUntil } from "./wait.ts";

const askLimitMs = 2000;
const startedLimitMs = 10_000;

export async function ask<T>(lab: Lab, name: string, method: string, path: string, body?: unknown): Promise<Answer<T>> {
  return (await askAppliance(socketOf(lab, name), method, path, body)) as Answer<T>;
}

/** As `ask`; a refusal is an error of the lab. */
export async function demand<T>(lab: Lab, name: string, method: string, path: string, body?: unknown): Promise<T> {
  const answer = await ask<T>(lab, name, method, path, body);
  if (!answer.ok) throw new LabError(`${name}: ${answer.text} (${answer.code})`, answer.code);
  return answer.value;
}

/** As `demand`; an appliance that is still starting is waited for. */
export async function demandWhenStarted(
  lab: Lab,
  name: string,
  method: string,
  path: string,
  body?: unknown,
): Promise<void> {
  const started = await waitUntil(startedLimitMs, 50, async () => {
    if (runningProcess(lab, name) === null) throw endedError(lab, name);
    const answer = await ask<unknown>(lab, name, method, path, body);
    if (answer.ok) return true;
    if (answer.code === "starting" || answer.code === "unreachable") return null;
    throw new LabError(`${name}: ${answer.text} (${answer.code})`, answer.code);
  });
  if (started === null)
    throw new LabError(`${name} is still starting and takes no orders: scripts/lab logs ${name}`, "timeout");
}

/** null: no answer within two seconds. */
export async function statusOf(lab: Lab, name: string): Promise<StatusJson | null> {
  const answer = await askAppliance(socketOf(lab, name), "GET", "/v1/status", undefined, askLimitMs);
  return answer.ok ? (answer.value as StatusJson) : null;
}

/** Starts the process if it is not running. Not waiting for anything. */
export function launch(lab: Lab, name: string): void {
  const appliance = applianceOf(lab, name);
  if (runningProcess(lab, name) !== null) return;
  writeProfile(lab, appliance);
  spawnAppliance(lab, name);
}
