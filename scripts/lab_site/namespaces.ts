/**
 * Network namespaces of a lab. Each is held by a process that only sleeps, and the kernel removes it, with all interfaces in it, when
 * that one and whoever else is in it have ended: nothing of a lab's network has a name outside of it.
 *
 * As root a namespace is made directly. Others get a user namespace first, in which they are root, where the machine allows that; the
 * client's holder has it, and every other namespace is made in it.
 */
import { spawn, spawnSync } from "node:child_process";
import { closeSync, existsSync, openSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { clientEnvironment } from "../clients.ts";
import { livingProcess, type NamedProcess, stillLiving } from "./proc.ts";
import { LabError, writeWhole } from "./site.ts";
import { waitUntil } from "./wait.ts";

/** The namespace that hosts are in; the others bear their appliances' names, which have no spaces. */
export const clientNamespace = "the client";

export interface Holders {
  readonly hasUserNamespace: boolean;
  /** By namespace. */
  readonly processes: Readonly<Record<string, NamedProcess>>;
}

const holdersPath = (dir: string): string => join(dir, "network.json");
const holderProgram = "sleep";
const startLimitMs = 10_000;
const tools = [
  { program: "unshare", debianPackage: "util-linux" },
  { program: "nsenter", debianPackage: "util-linux" },
  { program: "ip", debianPackage: "iproute2" },
] as const;
/** What a lab's network is made of. */
const probe = "ip link add b0 type bridge && ip link add v0 type veth peer name v1 && ip link set v0 master b0";

const isRoot = (): boolean => process.getuid?.() === 0;

/** What a command line begins with so that it runs in a new network namespace, as root there. */
export function unshareWords(makesUser = !isRoot()): string[] {
  return makesUser ? ["unshare", "--user", "--map-root-user", "--net", "--"] : ["unshare", "--net", "--"];
}

/** Why this machine has no network namespaces for a lab, and what to do; null: it has. */
export function namespaceTrouble(): string | null {
  const missing = tools.find(({ program }) => Bun.which(program, { PATH: clientEnvironment["PATH"] ?? "" }) === null);
  if (missing !== undefined) return `${missing.program} is missing: apt-get install ${missing.debianPackage}`;
  const [program, ...args] = [...unshareWords(), "sh", "-c", probe];
  const ran = spawnSync(program!, args, { env: clientEnvironment, encoding: "utf8" });
  if (ran.status === 0) return null;
  const why = ran.error?.message ?? ran.stderr.trim().split("\n").at(-1) ?? "no reason given";
  const remedy = isRoot()
    ? "give this machine, or its container, CAP_SYS_ADMIN, veth and bridge"
    : "run it as root, or allow user namespaces (sysctl kernel.unprivileged_userns_clone, user.max_user_namespaces)";
  return `this machine has no network namespaces for it (${why}): ${remedy}`;
}

/** null: there are none, or they were left by a lab that was not taken down. */
export function readHolders(dir: string): Holders | null {
  try {
    return existsSync(holdersPath(dir)) ? (JSON.parse(readFileSync(holdersPath(dir), "utf8")) as Holders) : null;
  } catch {
    return null;
  }
}

export function allLive(holders: Holders | null, names: readonly string[]): holders is Holders {
  const lives = (name: string) => {
    const noted = holders?.processes[name];
    return noted !== undefined && stillLiving(noted) !== null;
  };
  return names.every(lives);
}

/** Makes the client's namespace and one for each of `names`. */
export async function makeHolders(dir: string, names: readonly string[]): Promise<Holders> {
  const hasUserNamespace = !isRoot();
  const processes: Record<string, NamedProcess> = {};
  const note = () => writeWhole(holdersPath(dir), `${JSON.stringify({ hasUserNamespace, processes }, null, 2)}\n`);
  const make = async (name: string, words: string[]) => {
    processes[name] = await startHolder(dir, [...words, holderProgram, "infinity"]);
    note();
  };
  await make(clientNamespace, unshareWords(hasUserNamespace));
  for (const name of names) {
    const words = hasUserNamespace ? enterWords({ hasUserNamespace, processes }, clientNamespace) : [];
    await make(name, [...words, ...unshareWords(false)]);
  }
  return { hasUserNamespace, processes };
}

/** Each of these programs becomes the next one in the same process; when it is the last one the namespace is there. */
async function startHolder(dir: string, [program, ...args]: string[]): Promise<NamedProcess> {
  const said = join(dir, "network.log");
  const output = openSync(said, "w");
  const child = spawn(program!, args, { env: clientEnvironment, stdio: ["ignore", output, output], detached: true });
  let hasFailed = false;
  child.on("error", () => {
    hasFailed = true;
  });
  child.unref();
  closeSync(output);
  const holder = await waitUntil(startLimitMs, 2, () => {
    if (hasFailed || child.exitCode !== null || child.pid === undefined) return "ended";
    const living = livingProcess(child.pid);
    return living !== null && programOf(child.pid) === holderProgram ? living : null;
  });
  if (holder === null || holder === "ended") {
    const why = readFileSync(said, "utf8").trim().split("\n").at(-1);
    throw new LabError(`a network namespace could not be made: ${why || "no reason given"}`);
  }
  return { pid: holder.pid, startTicks: holder.startTicks };
}

function programOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, "utf8").trim();
  } catch {
    return "";
  }
}

/** What a command line begins with so that it runs in the namespace. */
export function enterWords(holders: Holders, name: string): string[] {
  const holder = holders.processes[name];
  if (holder === undefined || stillLiving(holder) === null)
    throw new LabError("the lab's network is not there: scripts/lab down, then scripts/lab up", "down");
  const user = holders.hasUserNamespace ? ["--user", "--preserve-credentials"] : [];
  return ["nsenter", "--target", String(holder.pid), ...user, "--net", "--"];
}

/** Ends every holder that lives; what is in their namespaces goes with them. */
export async function endHolders(dir: string): Promise<void> {
  const noted = Object.values(readHolders(dir)?.processes ?? {});
  for (const holder of noted) if (stillLiving(holder) !== null) process.kill(holder.pid, "SIGKILL");
  const ended = await waitUntil(startLimitMs, 2, () => (noted.every((one) => stillLiving(one) === null) ? true : null));
  if (ended === null) throw new LabError("the lab's network namespaces do not end", "timeout");
  for (const path of [holdersPath(dir), join(dir, "network.log")]) rmSync(path, { force: true });
}
