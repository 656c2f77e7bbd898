/** PostgreSQL on a mounted LUN, as Debian ships it: fsync on, page checksums on, several sessions that write. */
import { type ChildProcess, spawn } from "node:child_process";
import { chmodSync, chownSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { waitUntil } from "../../../scripts/lab_site/wait.ts";
import { run, runOk } from "./clients.ts";
import type { Database, Load } from "./database.ts";
import {
  type Acknowledged,
  balancesSql,
  entriesSql,
  schemaSql,
  transactionSql,
  transferOf,
  workerCount,
} from "./ledger.ts";

/** PostgreSQL does not run as root. */
const nobody = { id: 65534, name: "nobody" };
const asNobody = ["setpriv", "--reuid", String(nobody.id), "--regid", String(nobody.id), "--clear-groups"];
const startLimitMs = 30_000;
const endLimitMs = 20_000;

/** Small segments and a small log: many checkpoints, so that the kill meets data files and not only the log. */
const settings = {
  listen_addresses: "",
  fsync: "on",
  synchronous_commit: "on",
  full_page_writes: "on",
  max_wal_size: "8MB",
  min_wal_size: "2MB",
  shared_buffers: "4MB",
  restart_after_crash: "off",
};

export const postgres: Database = {
  name: "PostgreSQL",
  programs: ["postgres", "initdb", "psql", "pg_checksums", "setpriv"],
  async open(folder, outside) {
    const data = join(folder, "postgres");
    const socket = join(outside, "postgres-socket");
    for (const path of [folder, data, socket]) {
      mkdirSync(path, { recursive: true });
      chownSync(path, nobody.id, nobody.id);
    }
    chmodSync(outside, 0o711);
    return new PostgresServer(data, socket);
  },
};

class PostgresServer {
  readonly #data: string;
  readonly #socket: string;
  #server: ChildProcess | null = null;
  #ended: Promise<void> = Promise.resolve();
  #said = "";

  constructor(data: string, socket: string) {
    this.#data = data;
    this.#socket = socket;
  }

  async create(): Promise<void> {
    const [program, ...args] = [...asNobody, "initdb", "--data-checksums", "--wal-segsize=1", "--auth=trust"];
    await runOk(program!, [...args, "--no-instructions", "-D", this.#data], { cwd: "/" });
    await this.start();
    for (const sql of schemaSql) await this.#ask(sql);
  }

  async start(): Promise<void> {
    const options = Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
    const [program, ...args] = [...asNobody, "postgres", "-D", this.#data, "-k", this.#socket, ...options];
    const child = spawn(program!, args, { stdio: ["ignore", "ignore", "pipe"], cwd: "/" });
    let isGone = false;
    this.#said = "";
    child.stderr.on("data", (chunk: Buffer) => {
      this.#said = (this.#said + chunk.toString()).slice(-4000);
    });
    this.#server = child;
    this.#ended = new Promise((resolve) => {
      child.on("close", () => {
        isGone = true;
        resolve();
      });
    });
    const up = await waitUntil(startLimitMs, 20, async () => {
      if (isGone) throw new Error(`postgres has ended: ${this.#said}`);
      return (await run("psql", [...this.#where(), "-c", "SELECT 1"])).code === 0 ? true : null;
    });
    if (up === null) throw new Error(`postgres does not come up: ${this.#said}`);
  }

  load(acknowledged: Acknowledged): Load {
    const workers = Array.from({ length: workerCount }, (_, worker) => this.#worker(worker, acknowledged));
    return {
      stop: () => {
        for (const { stop } of workers) stop();
      },
      ended: Promise.all(workers.map(({ ended }) => ended)).then((errors) => errors.find((text) => text !== "") ?? ""),
    };
  }

  /** One session; the next transaction is sent when the last one is acknowledged. */
  #worker(worker: number, acknowledged: Acknowledged): { stop(): void; ended: Promise<string> } {
    const child = spawn("psql", [...this.#where(), "-v", "ON_ERROR_STOP=1"], { stdio: ["pipe", "pipe", "pipe"] });
    let isStopping = false;
    let buffered = "";
    let err = "";
    const next = () => {
      if (isStopping) {
        child.stdin.end();
        return;
      }
      const transfer = transferOf(worker, acknowledged.last[worker]! + 1);
      child.stdin.write(`${transactionSql(transfer).join("\n")}\n\\echo ${transfer.number}\n`);
    };
    // A session that has died takes no more; its end tells why.
    child.stdin.on("error", () => {});
    child.stderr.on("data", (chunk: Buffer) => {
      err += chunk.toString();
    });
    child.stdout.on("data", (chunk: Buffer) => {
      buffered += chunk.toString();
      const lines = buffered.split("\n");
      buffered = lines.pop() ?? "";
      for (const line of lines) {
        acknowledged.note(worker, Number(line));
        next();
      }
    });
    next();
    return {
      stop: () => {
        isStopping = true;
      },
      ended: new Promise((resolve) => {
        child.on("close", (code) => resolve(code === 0 ? "" : `psql ended with ${code}: ${err.trim()}`));
      }),
    };
  }

  async contents(): Promise<{ entries: string[][]; balances: string[][] }> {
    const rows = async (sql: string) =>
      (await this.#ask(sql))
        .split("\n")
        .filter((line) => line !== "")
        .map((line) => line.split("|"));
    return { entries: await rows(entriesSql), balances: await rows(balancesSql) };
  }

  async stop(): Promise<void> {
    this.#server?.kill("SIGINT");
    await this.#end();
  }

  /** The database's own check of what lies on the disk: every page against its checksum. */
  async check(): Promise<void> {
    const [program, ...args] = [...asNobody, "pg_checksums", "--check", "-D", this.#data];
    await runOk(program!, args, { cwd: "/" });
  }

  async abandon(): Promise<void> {
    this.#server?.kill("SIGQUIT");
    await this.#end();
  }

  async #end(): Promise<void> {
    const limit = setTimeout(() => this.#server?.kill("SIGKILL"), endLimitMs);
    await this.#ended;
    clearTimeout(limit);
    this.#server = null;
  }

  #where(): string[] {
    return ["-X", "-q", "-A", "-t", "-h", this.#socket, "-U", nobody.name, "-d", "postgres"];
  }

  async #ask(sql: string): Promise<string> {
    return (await runOk("psql", [...this.#where(), "-v", "ON_ERROR_STOP=1", "-c", sql])).stdout;
  }
}
