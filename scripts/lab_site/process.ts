/** Appliances as real, detached processes, each in the network that the lab gives it. */
import { spawn } from "node:child_process";
import { closeSync, existsSync, openSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { applianceEnv } from "../appliance_env.ts";
import { repositoryRoot } from "../tools.ts";
import { networkWords } from "./network.ts";
import { livingProcess, type NamedProcess, stillLiving } from "./proc.ts";
import { profilePath } from "./profile.ts";
import { type Lab, LabError, pathIn, writeWhole } from "./site.ts";
import { waitUntil } from "./wait.ts";

export interface RunningProcess extends NamedProcess {
  readonly paused: boolean;
}

interface NotedProcess extends NamedProcess {
  /** The lab has stopped it: should it be gone before it is resumed, somebody has fenced it. */
  readonly paused?: boolean;
}

const processFile = (lab: Lab, name: string): string => pathIn(lab, name, "process.json");

function notedProcess(lab: Lab, name: string): NotedProcess | null {
  const path = processFile(lab, name);
  if (!existsSync(path)) return null;
  try {
    return JSON.parse(readFileSync(path, "utf8"));
  } catch {
    return null;
  }
}

function noteProcess(lab: Lab, name: string, noted: NotedProcess): void {
  writeWhole(processFile(lab, name), `${JSON.stringify(noted)}\n`);
}

/** null: not running (a process that has ended and was not collected is not running). */
export function runningProcess(lab: Lab, name: string): RunningProcess | null {
  const noted = notedProcess(lab, name);
  const living = noted === null ? null : stillLiving(noted);
  if (living === null) return null;
  return { pid: living.pid, startTicks: living.startTicks, paused: /^t$/i.test(living.state) };
}

export function outputPath(lab: Lab, name: string): string {
  return pathIn(lab, name, "output.log");
}

/** Starts the appliance's process; it outlives this one. */
export function spawnAppliance(lab: Lab, name: string): RunningProcess {
  const output = openSync(outputPath(lab, name), "a");
  try {
    const main = join(repositoryRoot, "firmware", "main.ts");
    // Each of these programs becomes the next one in the same process.
    const words = [...networkWords(lab, name), process.execPath, main, "--profile", profilePath(lab, name)];
    const child = spawn(words[0]!, words.slice(1), {
      cwd: lab.dir,
      env: { ...process.env, ...applianceEnv() },
      stdio: ["ignore", output, output],
      detached: true,
    });
    child.unref();
    const pid = child.pid;
    const stat = pid === undefined ? null : livingProcess(pid);
    if (pid === undefined || stat === null) throw new LabError(`${name} could not be started`);
    noteProcess(lab, name, { pid, startTicks: stat.startTicks });
    return { pid, startTicks: stat.startTicks, paused: false };
  } finally {
    closeSync(output);
  }
}

/** Sends a signal to exactly that process. False: it is gone. */
function signal(lab: Lab, name: string, kind: "SIGKILL" | "SIGTERM" | "SIGSTOP" | "SIGCONT"): boolean {
  const running = runningProcess(lab, name);
  if (running === null) return false;
  try {
    process.kill(running.pid, kind);
    return true;
  } catch {
    return false;
  }
}

/** False: it is not running. */
export function pauseAppliance(lab: Lab, name: string): boolean {
  const running = runningProcess(lab, name);
  if (running === null) return false;
  const { pid, startTicks } = running;
  // Noted first: from the moment it stands still its partner may kill it.
  noteProcess(lab, name, { pid, startTicks, paused: true });
  if (signal(lab, name, "SIGSTOP")) return true;
  noteProcess(lab, name, { pid, startTicks });
  return false;
}

/** `fenced`: it was killed while it was paused. */
export function resumeAppliance(lab: Lab, name: string): "resumed" | "fenced" | "down" {
  const noted = notedProcess(lab, name);
  if (noted === null) return "down";
  if (!signal(lab, name, "SIGCONT")) return noted.paused === true ? "fenced" : "down";
  noteProcess(lab, name, { pid: noted.pid, startTicks: noted.startTicks });
  return "resumed";
}

/** Returns when the process is gone. */
export async function killAppliance(lab: Lab, name: string): Promise<void> {
  signal(lab, name, "SIGKILL");
  await gone(lab, name, 10_000);
}

/** Orderly; a paused process is resumed first, because it could not obey. */
export async function stopAppliance(lab: Lab, name: string): Promise<void> {
  if (signal(lab, name, "SIGTERM")) signal(lab, name, "SIGCONT");
  await gone(lab, name, 60_000);
}

async function gone(lab: Lab, name: string, limitMs: number): Promise<void> {
  const ended = await waitUntil(limitMs, 5, () => (runningProcess(lab, name) === null ? true : null));
  if (ended === null)
    throw new LabError(`${name} is still running after ${limitMs / 1000} s: scripts/lab logs ${name}`, "timeout");
  rmSync(processFile(lab, name), { force: true });
}

/** For whoever waits for something that the process does not live to do. */
export function endedError(lab: Lab, name: string): LabError {
  return new LabError(`${name} has ended: ${lastOutput(lab, name)}`, "ended");
}

/** The end of what the process printed, for messages. */
function lastOutput(lab: Lab, name: string): string {
  const path = outputPath(lab, name);
  if (!existsSync(path)) return "it printed nothing";
  const lines = readFileSync(path, "utf8").split("\n");
  // A stack follows the message; the message is what a person needs.
  const message = lines.findLast((line) => /^(?:goldcopy: |[A-Za-z]*[Ee]rror: )/.test(line));
  const last = lines.findLast((line) => line.trim() !== "" && !line.startsWith("Bun v"));
  return (message ?? last ?? "it printed nothing").slice(0, 600);
}
