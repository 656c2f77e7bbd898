/** SQLite on a mounted LUN: a process of its own that commits with `synchronous = FULL` and tells each commit. */
import { Database as Sqlite } from "bun:sqlite";
import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import type { Database, Load, OpenDatabase } from "./database.ts";
import { type Acknowledged, balancesSql, entriesSql, schemaSql } from "./ledger.ts";

export const sqlite: Database = {
  name: "SQLite",
  programs: [],
  async open(folder) {
    mkdirSync(folder, { recursive: true });
    return new SqliteFile(join(folder, "ledger.sqlite"));
  },
};

/** Every commit is an fsync of the write-ahead log, every checkpoint one of the file. */
export function openDurably(file: string): Sqlite {
  const database = new Sqlite(file, { create: true });
  database.run("PRAGMA journal_mode = WAL;");
  database.run("PRAGMA synchronous = FULL;");
  database.run("PRAGMA wal_autocheckpoint = 200;");
  return database;
}

class SqliteFile implements OpenDatabase {
  readonly #file: string;
  #writer: ChildProcess | null = null;
  #writerEnded: Promise<string> = Promise.resolve("");

  constructor(file: string) {
    this.#file = file;
  }

  async create(): Promise<void> {
    const database = openDurably(this.#file);
    for (const sql of schemaSql) database.run(sql);
    database.close();
  }

  async start(): Promise<void> {
    // Opening it for reading anything recovers it.
    await this.contents();
  }

  load(acknowledged: Acknowledged): Load {
    const first = acknowledged.last.map((last) => String(last + 1));
    const child = spawn(process.execPath, [join(import.meta.dir, "sqlite_writer.ts"), this.#file, ...first], {
      stdio: ["pipe", "pipe", "pipe"],
    });
    let buffered = "";
    let err = "";
    child.stderr.on("data", (chunk: Buffer) => {
      err += chunk.toString();
    });
    child.stdout.on("data", (chunk: Buffer) => {
      buffered += chunk.toString();
      const lines = buffered.split("\n");
      buffered = lines.pop() ?? "";
      for (const line of lines) {
        const [worker, number] = line.split(" ").map(Number);
        acknowledged.note(worker!, number!);
      }
    });
    this.#writer = child;
    this.#writerEnded = new Promise((resolve) => {
      child.on("close", (code) => resolve(code === 0 ? "" : `the writer ended with ${code}: ${err.trim()}`));
    });
    return { stop: () => child.stdin.end(), ended: this.#writerEnded };
  }

  async contents(): Promise<{ entries: string[][]; balances: string[][] }> {
    const database = openDurably(this.#file);
    try {
      const rows = (sql: string) =>
        database
          .query(sql)
          .values()
          .map((row) => row.map(String));
      return { entries: rows(entriesSql), balances: rows(balancesSql) };
    } finally {
      database.close();
    }
  }

  async stop(): Promise<void> {
    this.#writer?.stdin?.end();
    await this.#writerEnded;
  }

  async check(): Promise<void> {
    const database = openDurably(this.#file);
    try {
      const found = database.query("PRAGMA integrity_check;").values().flat().join();
      if (found !== "ok") throw new Error(`integrity_check: ${found}`);
    } finally {
      database.close();
    }
  }

  async abandon(): Promise<void> {
    this.#writer?.kill("SIGKILL");
    await this.#writerEnded;
  }
}
