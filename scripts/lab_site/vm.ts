/**
 * Appliances as virtual machines: one QEMU each, which lives from `up` to `down` and is the machine's box: with power or without.
 *
 *   no QEMU ──start──▶ off (prelaunch) ──cont──▶ on (running) ⇄ paused
 *                        ▲                        │ ├─ the partner fences it, through its own monitor ─▶ off (prelaunch)
 *                        │                        │ └─ the appliance switches itself off ─▶ off (shutdown)
 *                        └── kill: a new QEMU ◀───┘
 *
 * A machine that is off keeps its monitor: so its partner can have the proof of its death. `kill` ends QEMU as a loss of power ends a
 * machine, hosts' connections with it, and puts a new one in its place, off.
 */
import { existsSync, readFileSync } from "node:fs";
import { LinuxClock } from "../../hal/linux/clock.ts";
import { converse, type Monitor, MonitorError } from "../../hal/linux/qmp.ts";
import { stateOf } from "../../hal/linux/qmp_power.ts";
import { clientEnvironment } from "../clients.ts";
import { emulator } from "../image_build/machine.ts";
import {
  notedAndLiving,
  notedProcess,
  noteProcess,
  outputPath,
  signalNoted,
  spawnNoted,
  whenGone,
} from "./noted_process.ts";
import type { ResumeOutcome, Runner, Running } from "./runner.ts";
import { applianceOf, type Lab, LabError, monitorSocket, pathIn } from "./site.ts";
import { consoleLog, machineWords, socketWords } from "./vm_files.ts";
import { waitUntil } from "./wait.ts";

const clock = new LinuxClock();
/** Of a question that takes milliseconds; the host may be busy with what it emulates. */
const monitorLimitMs = 20_000;
/** Between the end of a fenced machine and its next start: some rounds of QEMU's main loop. */
const fencingMs = 200;
const spawnLimitMs = 30_000;
const killLimitMs = 20_000;
/** The appliance gives its firmware 35 s, and an emulated one is slow. */
const stopLimitMs = 180_000;

/** In these it has no power. */
const offStates: readonly unknown[] = ["prelaunch", "shutdown"];

/** What the monitor of a living QEMU says. */
async function ask<T>(lab: Lab, name: string, talk: (monitor: Monitor) => Promise<T>): Promise<T> {
  try {
    return await converse({ address: pathIn(lab, name, monitorSocket), clock, limitMs: monitorLimitMs }, talk);
  } catch (error) {
    if (!(error instanceof MonitorError)) throw error;
    throw new LabError(`${name}: ${error.message}: scripts/lab logs ${name}`, "monitor");
  }
}

/** null: there is no QEMU. */
async function stateNow(lab: Lab, name: string): Promise<unknown> {
  if (notedAndLiving(lab, name) === null) return null;
  try {
    return await ask(lab, name, stateOf);
  } catch (error) {
    // It may have ended under the question.
    if (notedAndLiving(lab, name) === null) return null;
    throw error;
  }
}

async function runningMachine(lab: Lab, name: string): Promise<Running | null> {
  // One that its partner fences while it runs is off for a moment only: it is switched on again.
  const state = await waitUntil(fencingMs, fencingMs / 2, async () => {
    const found = await stateNow(lab, name);
    return offStates.includes(found) ? null : { found };
  });
  const living = notedAndLiving(lab, name);
  if (state === null || state.found === null || living === null) return null;
  return { pid: living.pid, paused: state.found !== "running" };
}

/** A box without power, where there is none at all. */
async function ensureBox(lab: Lab, name: string): Promise<void> {
  if (notedAndLiving(lab, name) !== null) return;
  const appliance = applianceOf(lab, name);
  const words = [...machineWords(lab, appliance), ...socketWords(lab, appliance)];
  // -no-shutdown: a machine that has switched itself off keeps its monitor.
  spawnNoted(lab, name, [emulator, "-name", name, "-S", "-no-shutdown", ...words], clientEnvironment);
  const isThere = await waitUntil(spawnLimitMs, 20, async () => {
    if (notedAndLiving(lab, name) === null)
      throw new LabError(`${name}: QEMU has ended: ${lastOutput(lab, name)}`, "ended");
    return existsSync(pathIn(lab, name, monitorSocket)) && (await answers(lab, name)) ? true : null;
  });
  if (isThere === null)
    throw new LabError(`${name}: QEMU does not start in ${spawnLimitMs / 1000} s: ${lastOutput(lab, name)}`, "timeout");
}

function answers(lab: Lab, name: string): Promise<boolean> {
  return ask(lab, name, stateOf).then(
    () => true,
    () => false,
  );
}

async function start(lab: Lab, name: string): Promise<void> {
  await ensureBox(lab, name);
  await ask(lab, name, async (monitor) => {
    const state = await stateOf(monitor);
    if (state === "running" || state === "paused") return;
    // One that has switched itself off has to be reset before it goes on.
    if (state !== "prelaunch") await monitor.execute("system_reset");
    await monitor.execute("cont");
  });
  noteUnpaused(lab, name);
}

async function kill(lab: Lab, name: string): Promise<void> {
  signalNoted(lab, name, "SIGKILL");
  await whenGone(lab, name, killLimitMs);
  await ensureBox(lab, name);
}

async function stop(lab: Lab, name: string): Promise<void> {
  if ((await runningMachine(lab, name)) === null) return;
  await ask(lab, name, async (monitor) => {
    await monitor.execute("cont");
    await monitor.execute("system_powerdown");
  });
  noteUnpaused(lab, name);
  const off = await waitUntil(stopLimitMs, 200, async () => ((await runningMachine(lab, name)) === null ? true : null));
  if (off === null)
    throw new LabError(`${name} is still running after ${stopLimitMs / 1000} s: scripts/lab logs ${name}`, "timeout");
}

async function pause(lab: Lab, name: string): Promise<boolean> {
  const living = notedAndLiving(lab, name);
  if (living === null || (await runningMachine(lab, name)) === null) return false;
  const { pid, startTicks } = living;
  // Noted first: from the moment it stands still its partner may switch it off.
  noteProcess(lab, name, { pid, startTicks, paused: true });
  await ask(lab, name, (monitor) => monitor.execute("stop"));
  return true;
}

async function resume(lab: Lab, name: string): Promise<ResumeOutcome> {
  const wasPaused = notedProcess(lab, name)?.paused === true;
  const state = await stateNow(lab, name);
  if (state === null || offStates.includes(state)) return wasPaused ? "fenced" : "down";
  await ask(lab, name, (monitor) => monitor.execute("cont"));
  noteUnpaused(lab, name);
  return "resumed";
}

function noteUnpaused(lab: Lab, name: string): void {
  const living = notedAndLiving(lab, name);
  if (living !== null) noteProcess(lab, name, { pid: living.pid, startTicks: living.startTicks });
}

/** The box goes too. */
async function end(lab: Lab, name: string, orderly: boolean): Promise<void> {
  if (orderly) await stop(lab, name);
  signalNoted(lab, name, "SIGKILL");
  await whenGone(lab, name, killLimitMs);
}

/** What the appliance said on its console, or QEMU where there is nothing. */
function lastOutput(lab: Lab, name: string): string {
  const lines = (path: string) => (existsSync(path) ? readFileSync(path, "utf8").replaceAll("\r", "").split("\n") : []);
  const lastOf = (all: readonly string[]) => all.findLast((line) => line.trim() !== "");
  const own = notedAndLiving(lab, name) === null ? [] : lines(consoleLog(lab, name));
  const said =
    own.findLast((line) => line.includes("goldcopy: ")) ?? lastOf(own) ?? lastOf(lines(outputPath(lab, name)));
  return (said ?? "it printed nothing").slice(0, 600);
}

export const machines: Runner = {
  running: runningMachine,
  start,
  kill,
  stop,
  pause,
  resume,
  end,
  lastOutput,
  logs: [consoleLog, outputPath],
};
