/** Starts `nbd_memory_server.ts` or `iscsi_memory_server.ts` in a process of its own. */
import { spawn } from "node:child_process";
import { join } from "node:path";

export interface RunningServer {
  readonly pid: number;
  /** `nbd://HOST:PORT`, `iscsi://HOST:PORT` */
  readonly uri: string;
  readonly address: string;
  /** What the server reported so far, a line per event. */
  reports(): string;
  alive(): boolean;
  stop(): Promise<void>;
}

export function startServer(args: readonly string[], protocol: "nbd" | "iscsi" = "nbd"): Promise<RunningServer> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [join(import.meta.dirname, `${protocol}_memory_server.ts`), ...args], {
      stdio: ["pipe", "pipe", "pipe"],
    });
    let out = "";
    let reports = "";
    let exited = false;
    const closed = new Promise<void>((done) => {
      child.on("close", () => {
        exited = true;
        done();
      });
    });
    child.stderr.on("data", (chunk: Buffer) => {
      reports += chunk.toString();
    });
    child.on("error", reject);
    child.on("close", () => reject(new Error(`the server ended before it listened: ${reports}`)));
    child.stdout.on("data", (chunk: Buffer) => {
      out += chunk.toString();
      const line = /^(\S+)\n/.exec(out);
      if (line === null) return;
      resolve({
        pid: child.pid ?? 0,
        address: line[1]!,
        uri: `${protocol}://${line[1]}`,
        reports: () => reports,
        alive: () => !exited,
        stop: () => {
          child.stdin.end();
          return closed;
        },
      });
    });
  });
}
