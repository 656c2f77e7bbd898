/** What the scripts of an appliance image (images/root/usr/lib/goldcopy) and the firmware tell each other in files that a restart removes. */
import { readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import type { MachineFacts } from "../api/appliance_image.ts";

export const imageRun = "/run/goldcopy";

/** null: there is no such file. */
export function textOf(path: string): string | null {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return null;
  }
}

const trialPath = `${imageRun}/trial`;

/** What a version on trial waits for; null: none is on trial, or this is no appliance image. */
export function shownTrial(): string | null {
  return textOf(trialPath);
}

export function showTrial(why: string | null): void {
  if (why === null) rmSync(trialPath, { force: true });
  else if (why !== shownTrial()) {
    writeFileSync(`${trialPath}.new`, `${why}\n`);
    renameSync(`${trialPath}.new`, trialPath);
  }
}

export function machineFacts(): MachineFacts {
  const upS = Number(textOf("/proc/uptime")?.split(" ")[0] ?? 0);
  return {
    serving: textOf(`${imageRun}/serving`) !== null,
    degraded: textOf(`${imageRun}/degraded`),
    upMs: Math.round(upS * 1000),
  };
}
