/**
 * Appliances as real, detached processes. A process is known by its id and its start time (proc(5), stat field 22), so that a
 * reused id is never signalled.
 */
import { spawn } from "node:child_process";
import { closeSync, existsSync, openSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { applianceEnv } from "../appliance_env.ts";
import { repositoryRoot } from "../tools.ts";
import { profilePath } from "./profile.ts";
import { type Lab, LabError, pathIn, writeWhole } from "./site.ts";
import { waitUntil } from "./wait.ts";

export interface RunningProcess {
  readonly pid: number;
  readonly startTicks: number;
  readonly paused: boolean;
}

interface ProcStat {
  readonly state: string;
  readonly startTicks: number;
}

/** null: no such process. */
function procStat(pid: number): ProcStat | null {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The second field is the program's name in parentheses and may hold anything.
    const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
    return { state: fields[0] ?? "", startTicks: Number(fields[19]) };
  } catch {
    return null;
  }
}

interface NotedProcess {
  readonly pid: number;
  readonly startTicks: number;
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
  const stat = noted === null ? null : procStat(noted.pid);
  if (noted === null || stat === null || stat.startTicks !== noted.startTicks) return null;
  if (stat.state === "Z" || stat.state === "X") return null;
  return { pid: noted.pid, startTicks: noted.startTicks, paused: stat.state === "T" || stat.state === "t" };
}

export function outputPath(lab: Lab, name: string): string {
  return pathIn(lab, name, "output.log");
}

/** Starts the appliance's process; it outlives this one. */
export function spawnAppliance(lab: Lab, name: string): RunningProcess {
  const output = openSync(outputPath(lab, name), "a");
  try {
    const child = spawn(
      process.execPath,
      [join(repositoryRoot, "firmware", "main.ts"), "--profile", profilePath(lab, name)],
      {
        cwd: lab.dir,
        env: { ...process.env, ...applianceEnv() },
        stdio: ["ignore", output, output],
        detached: true,
      },
    );
    child.unref();
    const pid = child.pid;
    const stat = pid === undefined ? null : procStat(pid);
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
