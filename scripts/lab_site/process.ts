/** Appliances as real, detached processes, each in the network that the lab gives it. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { applianceEnv } from "../appliance_env.ts";
import { repositoryRoot } from "../tools.ts";
import { networkWords } from "./network.ts";
import {
  notedAndLiving,
  notedProcess,
  noteProcess,
  outputPath,
  signalNoted,
  spawnNoted,
  whenGone,
} from "./noted_process.ts";
import type { NamedProcess } from "./proc.ts";
import { profilePath, writeProfile } from "./profile.ts";
import type { ResumeOutcome, Runner } from "./runner.ts";
import { applianceOf, type Lab } from "./site.ts";

export interface RunningProcess extends NamedProcess {
  readonly paused: boolean;
}

/** null: not running (a process that has ended and was not collected is not running). */
export function runningProcess(lab: Lab, name: string): RunningProcess | null {
  const living = notedAndLiving(lab, name);
  if (living === null) return null;
  return { pid: living.pid, startTicks: living.startTicks, paused: /^t$/i.test(living.state) };
}

/** Starts the appliance's process if it is not running. Not waiting for anything. */
export function startProcess(lab: Lab, name: string): void {
  if (runningProcess(lab, name) !== null) return;
  writeProfile(lab, applianceOf(lab, name));
  const main = join(repositoryRoot, "firmware", "main.ts");
  // Each of these programs becomes the next one in the same process.
  const words = [...networkWords(lab, name), process.execPath, main, "--profile", profilePath(lab, name)];
  spawnNoted(lab, name, words, { ...process.env, ...applianceEnv() });
}

/** False: it does not run. */
export function pauseProcess(lab: Lab, name: string): boolean {
  const running = runningProcess(lab, name);
  if (running === null) return false;
  const { pid, startTicks } = running;
  // Noted first: from the moment it stands still its partner may kill it.
  noteProcess(lab, name, { pid, startTicks, paused: true });
  if (signalNoted(lab, name, "SIGSTOP")) return true;
  noteProcess(lab, name, { pid, startTicks });
  return false;
}

function resumeProcess(lab: Lab, name: string): ResumeOutcome {
  const noted = notedProcess(lab, name);
  if (noted === null) return "down";
  if (!signalNoted(lab, name, "SIGCONT")) return noted.paused === true ? "fenced" : "down";
  noteProcess(lab, name, { pid: noted.pid, startTicks: noted.startTicks });
  return "resumed";
}

/** Returns when the process is gone. */
export async function killAppliance(lab: Lab, name: string): Promise<void> {
  signalNoted(lab, name, "SIGKILL");
  await whenGone(lab, name, 10_000);
}

/** Orderly; a paused process is resumed first, because it could not obey. */
async function stopProcess(lab: Lab, name: string): Promise<void> {
  if (signalNoted(lab, name, "SIGTERM")) signalNoted(lab, name, "SIGCONT");
  await whenGone(lab, name, 60_000);
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

export const processes: Runner = {
  running: async (lab, name) => runningProcess(lab, name),
  start: async (lab, name) => startProcess(lab, name),
  kill: killAppliance,
  stop: stopProcess,
  pause: async (lab, name) => pauseProcess(lab, name),
  resume: async (lab, name) => resumeProcess(lab, name),
  end: (lab, name, orderly) => (orderly ? stopProcess(lab, name) : killAppliance(lab, name)),
  lastOutput,
  logs: [outputPath],
};
