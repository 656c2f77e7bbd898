/** What each lab command does; its words are judged in `lab.ts`. Each returns what to print. */
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, rmdirSync, rmSync } from "node:fs";
import { join, resolve } from "node:path";
import type { GroupJson, PeerMode } from "../../firmware/manage/status_json.ts";
import { demand, launch } from "./appliances.ts";
import { changeLinks, type LinkChange } from "./links.ts";
import { endHolders } from "./namespaces.ts";
import { ensureNetwork, networkWords, refuseWithoutNamespaces } from "./network.ts";
import { prepareDemo } from "./prepare_demo.ts";
import {
  killAppliance,
  outputPath,
  pauseAppliance,
  resumeAppliance,
  runningProcess,
  stopAppliance,
} from "./process.ts";
import { startLimitMs, timeLeft, whenSettled } from "./settling.ts";
import {
  applianceOf,
  createLab,
  defaultProfile,
  isBuiltIn,
  type Lab,
  LabError,
  loadLab,
  pathIn,
  requireLab,
} from "./site.ts";
import { siteOf } from "./site_file.ts";
import { type ApplianceView, type LabView, labView, type ServiceView } from "./views.ts";

export interface Printed {
  readonly json: unknown;
  readonly text: string;
}

export interface UpWishes {
  readonly dir: string;
  /** null: the default, or what the lab has. */
  readonly profile: string | null;
  readonly mode: PeerMode | null;
  readonly persistence: "battery" | "flush" | null;
  readonly network?: "netns" | null;
}

export async function up(wishes: UpWishes): Promise<Printed> {
  const left = timeLeft(startLimitMs);
  if (wishes.mode === "delta")
    throw new LabError("--mode delta is not in this version: use async or sync", "not-in-this-version");
  const isFile = wishes.profile !== null && !isBuiltIn(wishes.profile);
  const profile = isFile ? resolve(wishes.profile) : wishes.profile;
  const existing = loadLab(wishes.dir);
  if (existing !== null) refuseOtherWishes(existing, { ...wishes, profile });
  if (existing === null && wishes.network === "netns") refuseWithoutNamespaces();
  const lab =
    existing ??
    (await createLab(
      wishes.dir,
      siteOf({
        profile: profile ?? defaultProfile,
        mode: wishes.mode ?? "async",
        persistence: wishes.persistence ?? "battery",
        network: wishes.network ?? "loopback",
      }),
    ));
  await withNetwork(lab);
  const names = lab.site.appliances.map((appliance) => appliance.name);
  for (const name of names) {
    if (runningProcess(lab, name)?.paused) resumeAppliance(lab, name);
    launch(lab, name);
  }
  if (!lab.site.prepared) await prepareDemo(lab, left);
  await Promise.all(names.map((name) => whenSettled(lab, name, left())));
  return await status(wishes.dir);
}

async function withNetwork(lab: Lab): Promise<void> {
  await ensureNetwork(lab, (name) => runningProcess(lab, name) !== null);
}

function refuseOtherWishes(lab: Lab, wishes: UpWishes): void {
  for (const key of ["profile", "mode", "persistence", "network"] as const) {
    const wanted = wishes[key];
    if (wanted === null || wanted === undefined || wanted === lab.site[key]) continue;
    const hint = key === "mode" ? "goldcopy group set-mode changes it online" : "scripts/lab down --wipe starts over";
    throw new LabError(`the lab in ${lab.dir} has ${key} ${lab.site[key]}, not ${wanted}: ${hint}`, "exists");
  }
}

export async function status(dir: string): Promise<Printed> {
  const view = await labView(requireLab(dir));
  const width = Math.max(...view.appliances.map(({ name }) => name.length));
  const line = ({ name, state, pid, pair, at, nbdPortals, iscsiPortals, iqn }: ApplianceView) =>
    `${name.padEnd(width)}  ${state.padEnd(8)}  ${pid === null ? "" : `pid ${pid}`}` +
    `${pair === null ? "" : `  pair with ${pair.partner}: ${pair.state}`}\n` +
    nbdPortals.map((portal) => `  nbd  ${portal}/VOLUME\n`).join("") +
    iscsiPortals.map((portal) => `  iscsi  iscsi://${portal}/${iqn}/LUN\n`).join("") +
    (iscsiPortals.length > 0
      ? ""
      : "  no iSCSI: the lab is from before it; scripts/lab down --wipe and up make it anew\n") +
    `  goldcopy --at ${at}`;
  return {
    json: view,
    text: [...view.appliances.map(line), ...view.services.map(serviceLine), ...networkLine(view)].join("\n"),
  };
}

function serviceLine({ array, nbd, iscsi, iqn }: ServiceView): string {
  return `${array}, at whichever of its appliances owns it\n  nbd  ${nbd}/VOLUME\n  iscsi  iscsi://${iscsi}/${iqn}/LUN`;
}

function networkLine({ network }: LabView): string[] {
  return network === "netns" ? ["These addresses are in the lab's own network: scripts/lab exec -- CMD"] : [];
}

/** Runs a command where hosts are, or where the appliance is; its output and its exit code are the caller's. */
export function exec(dir: string, applianceName: string | null, command: readonly string[]): number {
  const lab = requireLab(dir);
  if (command.length === 0) throw new LabError("say which command: scripts/lab exec -- CMD", "usage", 2);
  const [program, ...args] = [...networkWords(lab, applianceName), ...command];
  const ran = spawnSync(program!, args, { stdio: "inherit" });
  if (ran.error !== undefined) throw new LabError(`${program} cannot be run: ${ran.error.message}`);
  return ran.status ?? 1;
}

export async function kill(dir: string, name: string): Promise<Printed> {
  const lab = requireLab(dir);
  applianceOf(lab, name);
  await killAppliance(lab, name);
  return { json: { name, state: "down" }, text: `${name} is dead` };
}

export async function stop(dir: string, name: string): Promise<Printed> {
  const lab = requireLab(dir);
  applianceOf(lab, name);
  await stopAppliance(lab, name);
  return { json: { name, state: "down" }, text: `${name} has stopped` };
}

export async function start(dir: string, name: string): Promise<Printed> {
  const lab = requireLab(dir);
  await withNetwork(lab);
  launch(lab, name);
  const settled = await whenSettled(lab, name, startLimitMs);
  const groups = settled.map(({ name: group, role, writable, why }) => ({ name: group, role, writable, why }));
  return { json: { name, groups }, text: [`${name} is up`, ...groups.map(groupLine)].join("\n") };
}

function groupLine({ name, role, writable, why }: Pick<GroupJson, "name" | "role" | "writable" | "why">): string {
  return `  ${name}: ${role}, ${writable ? "writable" : `not writable: ${why ?? "no reason given"}`}`;
}

export function pause(dir: string, name: string): Printed {
  const lab = requireLab(dir);
  applianceOf(lab, name);
  if (!pauseAppliance(lab, name)) throw new LabError(`${name} is not running: scripts/lab start ${name}`, "down");
  return { json: { name, state: "paused" }, text: `${name} is paused` };
}

/** A process that was fenced dead meanwhile cannot be resumed: that is an error. */
export function resume(dir: string, name: string): Printed {
  const lab = requireLab(dir);
  applianceOf(lab, name);
  const outcome = resumeAppliance(lab, name);
  if (outcome === "fenced")
    throw new LabError(`${name} was fenced dead while it was paused: scripts/lab start ${name}`, "fenced");
  if (outcome === "down") throw new LabError(`${name} is not running any more: scripts/lab start ${name}`, "down");
  return { json: { name, state: "resumed" }, text: `${name} goes on` };
}

export async function fault(
  dir: string,
  name: string,
  kind: string,
  on: boolean,
  place: string | null,
): Promise<Printed> {
  const lab = requireLab(dir);
  applianceOf(lab, name);
  const value = await demand(lab, name, "POST", "/v1/lab/fault", { kind, on, place });
  return { json: value, text: `${name}: ${kind} fault ${on ? "on" : "off"}` };
}

/** The main loop of `name` stands still for so long: shorter than `hung_ms` it is late, longer it hangs. */
export async function stall(dir: string, name: string, forMs: number): Promise<Printed> {
  const lab = requireLab(dir);
  applianceOf(lab, name);
  const value = await demand(lab, name, "POST", "/v1/lab/stall", { forMs });
  return { json: value, text: `${name}: its main loop stands still for ${forMs} ms` };
}

export async function link(dir: string, wish: LinkChange): Promise<Printed> {
  const changed = await changeLinks(requireLab(dir), wish);
  const lines = changed.map(({ from, to, nic, shape }) => {
    const rate = shape.rateBytesPerSecond === null ? "" : `, ${(shape.rateBytesPerSecond * 8) / 1e6} Mbit/s`;
    const loss = shape.loss === 0 ? "" : `, ${shape.loss * 100} % lost`;
    const state = shape.cut ? "cut" : `open, ${shape.latencyMs} ms ± ${shape.jitterMs} ms${rate}${loss}`;
    return `${from} ${nic} -> ${to}: ${state}`;
  });
  return { json: { links: changed }, text: lines.join("\n") };
}

export function logs(dir: string, name: string): Printed {
  const lab = requireLab(dir);
  applianceOf(lab, name);
  const read = (path: string) => (existsSync(path) ? readFileSync(path, "utf8").trimEnd() : "");
  const events = read(pathIn(lab, name, "events.log"));
  const output = read(outputPath(lab, name));
  return { json: { events, output }, text: [events, output].filter((text) => text !== "").join("\n") };
}

/** Stops everything it started, nothing else; with `wipe` removes everything it made. */
export async function down(dir: string, wipe: boolean): Promise<Printed> {
  let lab: Lab | null = null;
  try {
    lab = loadLab(dir);
  } catch (error) {
    // A lab whose description cannot be read: its processes cannot be named, its files can be removed.
    if (!wipe) throw error;
  }
  const names = lab?.site.appliances.map((appliance) => appliance.name) ?? [];
  if (lab !== null) {
    const present = lab;
    await Promise.all(names.map((name) => (wipe ? killAppliance(present, name) : stopAppliance(present, name))));
  }
  await endHolders(resolve(dir));
  if (wipe && lab !== null) removeFiles(lab);
  const text =
    lab === null ? `there is no lab in ${dir}` : `the lab in ${lab.dir} is down${wipe ? " and removed" : ""}`;
  return { json: { stopped: names, wiped: wipe && lab !== null }, text };
}

/** Only what `up` made: a directory that a person chose may hold other things. */
function removeFiles(lab: Lab): void {
  for (const { name } of lab.site.appliances) rmSync(join(lab.dir, name), { recursive: true, force: true });
  for (const { name } of lab.site.arrays) rmSync(join(lab.dir, name), { recursive: true, force: true });
  for (const file of ["lab.json", "links.json"]) rmSync(join(lab.dir, file), { force: true });
  try {
    rmdirSync(lab.dir);
  } catch {
    // Something else lies there, or it is not empty.
  }
}
