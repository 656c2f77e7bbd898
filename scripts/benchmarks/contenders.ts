/** What is measured: a server that runs, where it listens, which processes it costs; and helpers to start one. */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, ftruncateSync, openSync, readFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { ifInterrupted } from "./interruption.ts";

export interface Running {
  /** `nbd://HOST:PORT/EXPORT` or `iscsi://HOST:PORT/IQN/LUN`. */
  readonly url: string;
  /** Processes whose CPU time counts. */
  readonly pids: readonly number[];
  /** Waits until nothing is left to do in the background: a cache destaged, a mirror in sync. */
  settled?(): Promise<void>;
  /** What a run left undone, by name (`cacheDirtyBytes`, `lagBytes`). */
  leftOver?(): Promise<Readonly<Record<string, number>>>;
  stop(): Promise<void>;
}

export interface Contender {
  readonly name: string;
  /** One line: what it is and what it stands on. */
  readonly what: string;
  start(folder: string, sizeBytes: number): Promise<Running>;
}

/** Sparse. */
export function emptyFile(path: string, sizeBytes: number): string {
  const file = openSync(path, "w");
  ftruncateSync(file, sizeBytes);
  closeSync(file);
  return path;
}

export function spawnQuiet(program: string, args: readonly string[]): ChildProcess {
  return killedIfInterrupted(spawn(program, [...args], { stdio: ["ignore", "ignore", "inherit"] }));
}

export function killedIfInterrupted<Child extends ChildProcess>(child: Child): Child {
  child.once(
    "exit",
    ifInterrupted(() => child.kill("SIGKILL")),
  );
  return child;
}

export function running(child: ChildProcess, url: string): Running {
  const ended = new Promise<void>((resolve) => {
    child.on("exit", () => resolve());
  });
  return {
    url,
    pids: [child.pid ?? 0],
    stop: async () => {
      child.kill("SIGTERM");
      await ended;
    },
  };
}

export async function freePort(): Promise<number> {
  return await new Promise((resolve, reject) => {
    const server = createServer();
    server.on("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}

/** Waits until something listens for NBD at `address`. */
export async function serving(child: ChildProcess, address: string, name: string): Promise<Running> {
  const at = address.lastIndexOf(":");
  const result = running(child, `nbd://${address}/${name}`);
  for (let attempt = 0; attempt < 200; attempt++) {
    if (child.exitCode !== null) throw new Error(`${child.spawnfile} ended with ${child.exitCode}`);
    const open = await new Promise<boolean>((resolve) => {
      Bun.connect({
        hostname: address.slice(0, at),
        port: Number(address.slice(at + 1)),
        socket: {
          data(socket) {
            // Goodbye in the protocol's own way: an option NBD_OPT_ABORT.
            socket.write("\0\0\0\x03IHAVEOPT\0\0\0\x02\0\0\0\0");
            socket.end();
            resolve(true);
          },
          connectError: () => resolve(false),
        },
      }).catch(() => resolve(false));
    });
    if (open) return result;
    await Bun.sleep(25);
  }
  await result.stop();
  throw new Error(`${child.spawnfile} does not listen on ${address}`);
}

const ticksPerSecond = 100;

/** CPU seconds (user and system) that these processes have used so far. */
export function cpuSeconds(pids: readonly number[]): number {
  let ticks = 0;
  for (const pid of pids) {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    ticks += Number(fields[11]) + Number(fields[12]);
  }
  return ticks / ticksPerSecond;
}
