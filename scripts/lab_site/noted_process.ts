/**
 * What the lab has started and does not wait for: one detached process for each appliance, noted in the appliance's directory, so that the
 * next command finds it and nothing else.
 */
import { spawn } from "node:child_process";
import { closeSync, existsSync, openSync, readFileSync, rmSync } from "node:fs";
import { livingProcess, type NamedProcess, stillLiving } from "./proc.ts";
import { type Lab, LabError, pathIn, writeWhole } from "./site.ts";
import { waitUntil } from "./wait.ts";

export interface NotedProcess extends NamedProcess {
  /** The lab has stopped it: should it be gone before it is resumed, somebody has fenced it. */
  readonly paused?: boolean;
}

const processFile = (lab: Lab, name: string): string => pathIn(lab, name, "process.json");

/** It may have ended meanwhile. */
export function notedProcess(lab: Lab, name: string): NotedProcess | null {
  const path = processFile(lab, name);
  if (!existsSync(path)) return null;
  try {
    return JSON.parse(readFileSync(path, "utf8"));
  } catch {
    return null;
  }
}

export function noteProcess(lab: Lab, name: string, noted: NotedProcess): void {
  writeWhole(processFile(lab, name), `${JSON.stringify(noted)}\n`);
}

/** null: it is not running (one that has ended and was not collected is not running). */
export function notedAndLiving(lab: Lab, name: string) {
  const noted = notedProcess(lab, name);
  return noted === null ? null : stillLiving(noted);
}

/** What the process printed. */
export function outputPath(lab: Lab, name: string): string {
  return pathIn(lab, name, "output.log");
}

/** Starts the appliance's process; it outlives this one. */
export function spawnNoted(
  lab: Lab,
  name: string,
  words: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): NamedProcess {
  const output = openSync(outputPath(lab, name), "a");
  try {
    const child = spawn(words[0]!, words.slice(1), {
      cwd: lab.dir,
      env,
      stdio: ["ignore", output, output],
      detached: true,
    });
    // Said below, by its missing id.
    child.on("error", () => {});
    child.unref();
    const pid = child.pid;
    const stat = pid === undefined ? null : livingProcess(pid);
    if (pid === undefined || stat === null) throw new LabError(`${name} could not be started`);
    const named = { pid, startTicks: stat.startTicks };
    noteProcess(lab, name, named);
    return named;
  } finally {
    closeSync(output);
  }
}

/** Sends a signal to exactly that process. False: it is gone. */
export function signalNoted(lab: Lab, name: string, kind: NodeJS.Signals): boolean {
  const living = notedAndLiving(lab, name);
  if (living === null) return false;
  try {
    process.kill(living.pid, kind);
    return true;
  } catch {
    return false;
  }
}

/** Returns when the process is gone. */
export async function whenGone(lab: Lab, name: string, limitMs: number): Promise<void> {
  const ended = await waitUntil(limitMs, 5, () => (notedAndLiving(lab, name) === null ? true : null));
  if (ended === null)
    throw new LabError(`${name} is still running after ${limitMs / 1000} s: scripts/lab logs ${name}`, "timeout");
  rmSync(processFile(lab, name), { force: true });
}
