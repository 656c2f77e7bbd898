/** The lab's appliances as one asks them: everything goes through their own management API. */
import type { StatusJson } from "../../firmware/manage/status_json.ts";
import { askAppliance } from "../../firmware/shell/ask.ts";
import type { Answer } from "../../firmware/shell/command.ts";
import { endedError, running } from "./runner.ts";
import { atOf, type Lab, LabError } from "./site.ts";
import { timesOf } from "./times.ts";
import { waitUntil } from "./wait.ts";

export async function ask<T>(lab: Lab, name: string, method: string, path: string, body?: unknown): Promise<Answer<T>> {
  return (await askAppliance(atOf(lab, name), method, path, body)) as Answer<T>;
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
  const { orderLimitMs, pollMs } = timesOf(lab);
  const started = await waitUntil(orderLimitMs, pollMs, async () => {
    if ((await running(lab, name)) === null) throw endedError(lab, name);
    const answer = await ask<unknown>(lab, name, method, path, body);
    if (answer.ok) return true;
    if (answer.code === "starting" || answer.code === "unreachable") return null;
    throw new LabError(`${name}: ${answer.text} (${answer.code})`, answer.code);
  });
  if (started === null)
    throw new LabError(`${name} is still starting and takes no orders: scripts/lab logs ${name}`, "timeout");
}

/** null: no answer in time. */
export async function statusOf(lab: Lab, name: string): Promise<StatusJson | null> {
  const answer = await askAppliance(atOf(lab, name), "GET", "/v1/status", undefined, timesOf(lab).askLimitMs);
  return answer.ok ? (answer.value as StatusJson) : null;
}
