/**
 * A real appliance for tests: `firmware/main.ts` in a process of its own with a small generated profile. What it is given can be
 * bent in every way before it starts.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { EventJson } from "../../../firmware/manage/events.ts";
import type { GroupJson, StatusJson } from "../../../firmware/manage/status_json.ts";
import { askAppliance } from "../../../firmware/shell/ask.ts";
import { waitUntil } from "../../../scripts/lab_site/wait.ts";

const root = join(import.meta.dir, "../../..");
export const mebibyte = 1024 * 1024;
const readyLimitMs = 30_000;

/** A fresh directory; in memory where there is such a place: sparse disks are copied and compared a lot. */
export function scratch(): string {
  return mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "goldcopy-bad-"));
}

export interface Ended {
  readonly code: number;
  /** What it printed on standard error. */
  readonly err: string;
}

export interface ApplianceShape {
  readonly array: string;
  readonly name: string;
  readonly cacheBytes: number;
  readonly diskBytes: readonly number[];
  readonly persistence: "battery" | "flush";
  /** For NBD. */
  readonly hbaPorts: readonly number[];
  readonly iscsiPorts: readonly number[];
  readonly nicPorts: readonly number[];
  /** Peer arrays of one appliance each. */
  readonly peers: readonly { readonly array: string; readonly name: string; readonly nicPorts: readonly number[] }[];
  /** Lines put at the end. */
  readonly more: string;
}

/** Ports that are free now, below the range for outgoing connections. */
export async function freePorts(count: number): Promise<number[]> {
  const found: number[] = [];
  let candidate = 12_000 + Math.floor(Math.random() * 19_000);
  while (found.length < count) {
    candidate = candidate >= 32_000 ? 12_000 : candidate + 1;
    const port = candidate;
    const isFree = await new Promise<boolean>((resolve) => {
      const server = createServer();
      server.once("error", () => resolve(false));
      server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
    });
    if (isFree) found.push(port);
  }
  return found;
}

export class TestAppliance {
  readonly dir: string;
  shape: ApplianceShape;
  #child: ChildProcess | null = null;
  #ended: Promise<Ended> | null = null;

  private constructor(dir: string, shape: ApplianceShape) {
    this.dir = dir;
    this.shape = shape;
  }

  static async make(dir: string, wishes: Partial<ApplianceShape> = {}): Promise<TestAppliance> {
    const ports = await freePorts(4);
    const shape: ApplianceShape = {
      array: "oak",
      name: "oak-a",
      cacheBytes: 16 * mebibyte,
      diskBytes: [512 * mebibyte],
      persistence: "battery",
      hbaPorts: ports.slice(0, 2),
      iscsiPorts: [],
      nicPorts: ports.slice(2, 4),
      peers: [],
      more: "",
      ...wishes,
    };
    mkdirSync(dir, { recursive: true });
    return new TestAppliance(dir, shape);
  }

  get profilePath(): string {
    return join(this.dir, "profile.toml");
  }
  get socket(): string {
    return join(this.dir, "manage.sock");
  }
  get cachePath(): string {
    return join(this.dir, "nvram");
  }
  get logPath(): string {
    return join(this.dir, "events.log");
  }
  diskPath(slot: number): string {
    return join(this.dir, `shelf0-${slot}.disk`);
  }
  /** HOST:PORT of an HBA port. */
  hba(index = 0): string {
    return `127.0.0.1:${this.shape.hbaPorts[index]}`;
  }
  /** HOST:PORT of an iSCSI portal. */
  iscsiPortal(index = 0): string {
    return `127.0.0.1:${this.shape.iscsiPorts[index]}`;
  }
  nic(index = 0): string {
    return `127.0.0.1:${this.shape.nicPorts[index]}`;
  }
  get pid(): number {
    return this.#child?.pid ?? 0;
  }
  get alive(): boolean {
    return this.#child !== null && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  profile(): string {
    const { array, name, cacheBytes, diskBytes, persistence, hbaPorts, iscsiPorts, nicPorts, peers, more } = this.shape;
    const lines = [
      "[array]",
      `name = "${array}"`,
      `appliance = "${name}"`,
      "[manage]",
      `socket = "${this.socket}"`,
      "[log]",
      `file = "${this.logPath}"`,
      "[cache]",
      `path = "${this.cachePath}"`,
      `size = ${cacheBytes}`,
      `persistence = "${persistence}"`,
    ];
    for (const [index, port] of hbaPorts.entries())
      lines.push("[[hba]]", `name = "hba${index}"`, `listen = "127.0.0.1:${port}"`, 'protocol = "nbd"');
    for (const [index, port] of iscsiPorts.entries())
      lines.push("[[hba]]", `name = "iscsi${index}"`, `listen = "127.0.0.1:${port}"`, 'protocol = "iscsi"');
    for (const [index, port] of nicPorts.entries())
      lines.push("[[nic]]", `name = "nic${index}"`, `listen = "127.0.0.1:${port}"`);
    lines.push("[[shelf]]", 'name = "shelf0"');
    for (const [slot, bytes] of diskBytes.entries())
      lines.push("[[shelf.disk]]", `slot = ${slot}`, `path = "${this.diskPath(slot)}"`, `size = ${bytes}`);
    for (const peer of peers) {
      const addresses = peer.nicPorts.map((port) => `"127.0.0.1:${port}"`).join(", ");
      lines.push("[[peer]]", `array = "${peer.array}"`);
      lines.push(`appliances = [{ name = "${peer.name}", addresses = [${addresses}] }]`);
    }
    return `${lines.join("\n")}\n${more}`;
  }

  /** Writes the profile (or `text` in its place) and starts the process; waits for nothing. */
  launch(options: { args?: readonly string[]; profile?: string } = {}): Promise<Ended> {
    writeFileSync(this.profilePath, options.profile ?? this.profile());
    const child = spawn(
      process.execPath,
      [join(root, "firmware/main.ts"), "--profile", this.profilePath, ...(options.args ?? [])],
      { stdio: ["ignore", "ignore", "pipe"], env: { ...process.env, UV_THREADPOOL_SIZE: "16" } },
    );
    let err = "";
    child.stderr.on("data", (chunk: Buffer) => {
      err += chunk.toString();
    });
    this.#child = child;
    this.#ended = new Promise((resolve) => {
      child.on("close", (code) => resolve({ code: code ?? 137, err }));
    });
    return this.#ended;
  }

  /** Starts it and waits until every group's role has settled. */
  async start(options: { args?: readonly string[] } = {}): Promise<StatusJson> {
    const ended = this.launch(options);
    let early: Ended | null = null;
    void ended.then((how) => {
      early = how;
    });
    const status = await waitUntil(readyLimitMs, 20, async () => {
      if (early !== null) throw new Error(`${this.shape.name} ended with ${early.code}: ${early.err}`);
      const answer = await askAppliance(this.socket, "GET", "/v1/status", undefined, 2000);
      if (!answer.ok) return null;
      const found = answer.value as StatusJson;
      return found.appliances[0]?.state === "up" ? found : null;
    });
    if (status === null) throw new Error(`${this.shape.name} is not up after ${readyLimitMs} ms`);
    return status;
  }

  /** Starts it where it must refuse; returns how it ended. */
  async refusal(options: { args?: readonly string[]; profile?: string } = {}): Promise<Ended> {
    const ended = this.launch(options);
    const limit = setTimeout(() => this.#child?.kill("SIGKILL"), readyLimitMs);
    const how = await ended;
    clearTimeout(limit);
    return how;
  }

  async #stop(signal: "SIGTERM" | "SIGKILL"): Promise<Ended | null> {
    if (this.#child === null || this.#ended === null) return null;
    if (this.alive) this.#child.kill(signal);
    return await this.#ended;
  }
  stop(): Promise<Ended | null> {
    return this.#stop("SIGTERM");
  }
  kill(): Promise<Ended | null> {
    return this.#stop("SIGKILL");
  }

  /** The answer's value; a refusal throws. */
  async demand<T>(method: string, path: string, body?: unknown): Promise<T> {
    const answer = await askAppliance(this.socket, method, path, body);
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.text} (${answer.code})`);
    return answer.value as T;
  }

  ask(method: string, path: string, body?: unknown) {
    return askAppliance(this.socket, method, path, body);
  }

  async group(name: string): Promise<GroupJson> {
    const status = await this.demand<StatusJson>("GET", "/v1/status");
    const found = status.groups.find((group) => group.name === name);
    if (found === undefined) throw new Error(`no group ${name}`);
    return found;
  }

  /** A volume that any host may use. */
  async addVolume(name: string, sizeBytes: number): Promise<void> {
    await this.demand("POST", "/v1/volumes", { name, sizeBytes });
    await this.ask("POST", "/v1/hosts", { name: "any", any: true });
    await this.demand("POST", "/v1/hosts/any/map", { volume: name });
  }

  /** Every event in the log file, over all starts. */
  events(): EventJson[] {
    if (!existsSync(this.logPath)) return [];
    return readFileSync(this.logPath, "utf8")
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line) as EventJson);
  }

  eventsOf(code: string): EventJson[] {
    return this.events().filter((event) => event.code === code);
  }

  residentBytes(): number {
    const match = /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${this.pid}/status`, "utf8"));
    return Number(match?.[1] ?? 0) * 1024;
  }
}

/** A copy with the holes of the original. */
export function copyFile(from: string, to: string): void {
  rmSync(to, { recursive: true, force: true });
  const { status, stderr } = spawnSync("cp", ["--sparse=always", from, to], { encoding: "utf8" });
  if (status !== 0) throw new Error(`cp ${from} ${to}: ${stderr}`);
}

/** Digests of all files under `dir`, to show that nothing was overwritten; logs and profiles aside. */
export function digests(dir: string): Record<string, string> {
  const found: Record<string, string> = {};
  for (const name of readdirSync(dir, { recursive: true, encoding: "utf8" }).sort()) {
    const path = join(dir, name);
    const stat = statSync(path, { throwIfNoEntry: false });
    if (stat === undefined || !stat.isFile() || /\.(log|toml)$/.test(name)) continue;
    found[name] = `${stat.size} ${Bun.hash.xxHash3(readFileSync(path)).toString(16)}`;
  }
  return found;
}

/** Whether the text is one line that a person can act on: it names something, and says what to do. */
export function isOneLine(text: string): boolean {
  return /^goldcopy: [^\n]{20,400}\n$/.test(text);
}

export function wipe(dir: string): void {
  rmSync(dir, { recursive: true, force: true });
}
