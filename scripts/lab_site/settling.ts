/**
 * When an appliance, an array, a pair is where a command promises it: the one place that knows that a pair's appliances wait for
 * each other.
 *
 * - An appliance has settled when it says of itself that it is up, and every group's role has settled: a standby shows the array's
 *   groups as the owner does.
 * - A pair is whole when both have settled and one of them says that it is mirrored.
 */
import type { GroupJson, StatusJson } from "../../firmware/manage/status_json.ts";
import { statusOf } from "./appliances.ts";
import { endedError, running } from "./runner.ts";
import { type Lab, LabError, type Site } from "./site.ts";
import { timesOf } from "./times.ts";
import { waitUntil } from "./wait.ts";

type SiteArray = Site["arrays"][number];

/** Milliseconds that are left, whenever it is asked. */
export type TimeLeft = () => number;

export function timeLeft(limitMs: number): TimeLeft {
  const endMs = performance.now() + limitMs;
  return () => Math.max(0, endMs - performance.now());
}

export function isSettled(status: StatusJson, name: string): boolean {
  const own = status.appliances.find((appliance) => appliance.name === name);
  return own?.state === "up" && status.groups.every((group) => group.settled);
}

/** Waits until the appliance has settled; what it shows of its groups then. */
export async function whenSettled(lab: Lab, name: string, limitMs: number): Promise<readonly GroupJson[]> {
  const settled = await waitUntil(limitMs, timesOf(lab).pollMs, async () => {
    const found = await running(lab, name);
    if (found === null) throw endedError(lab, name);
    if (found.paused) throw new LabError(`${name} is paused: scripts/lab resume ${name}`, "paused");
    const status = await statusOf(lab, name);
    return status !== null && isSettled(status, name) ? status.groups : null;
  });
  if (settled !== null) return settled;
  const text = `${name} is not up after ${Math.round(limitMs / 1000)} s: scripts/lab logs ${name}`;
  throw new LabError(text, "timeout");
}

/** Waits until one of the array's appliances has settled: that one answers for the array. */
export async function whenOneSettled(lab: Lab, array: SiteArray, left: TimeLeft): Promise<string> {
  const found = await waitUntil(left(), timesOf(lab).pollMs, async () => {
    const found = await Promise.all(array.appliances.map((name) => running(lab, name)));
    const living = array.appliances.filter((_, index) => found[index] !== null);
    if (living.length === 0) throw endedError(lab, array.appliances[0] ?? array.name);
    for (const name of living) {
      const status = await statusOf(lab, name);
      if (status !== null && isSettled(status, name)) return name;
    }
    return null;
  });
  if (found !== null) return found;
  const [first] = array.appliances;
  throw new LabError(`no appliance of ${array.name} is up in time: scripts/lab logs ${first}`, "timeout");
}

/** Waits until every appliance has settled, and every pair is mirrored. */
export async function whenWhole(lab: Lab, left: TimeLeft): Promise<void> {
  await Promise.all(lab.site.appliances.map(({ name }) => whenSettled(lab, name, left())));
  for (const array of lab.site.arrays.filter(isPair)) await whenMirrored(lab, array, left());
}

function isPair(array: SiteArray): boolean {
  return array.appliances.length > 1;
}

async function whenMirrored(lab: Lab, array: SiteArray, limitMs: number): Promise<void> {
  let last = "no answer";
  const found = await waitUntil(limitMs, timesOf(lab).pollMs, async () => {
    for (const name of array.appliances) {
      const status = await statusOf(lab, name);
      if (status?.pair?.state === "mirrored") return true;
      if (status !== null) last = status.pair?.state ?? "it knows of no partner";
    }
    return null;
  });
  if (found !== null) return;
  const [first] = array.appliances;
  throw new LabError(`${array.name} is not mirrored in time (${last}): scripts/lab logs ${first}`, "timeout");
}
