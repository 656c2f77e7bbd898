/** The NBD servers that are measured beside each other: how each is started over the same kind of backing, and what it costs. */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, ftruncateSync, openSync, readFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import { repositoryRoot } from "../tools.ts";

export interface Running {
  /** `HOST:PORT/NAME` */
  readonly at: string;
  /** Processes whose CPU time counts. */
  readonly pids: readonly number[];
  stop(): Promise<void>;
}

export interface Contender {
  readonly name: string;
  /** One line: what it is and what it stands on. */
  readonly what: string;
  start(folder: string, sizeBytes: number): Promise<Running>;
}

export const nbdkit: Contender = {
  name: "nbdkit",
  what: "nbdkit file, one sparse file",
  async start(folder, sizeBytes) {
    const port = await freePort();
    const file = emptyFile(join(folder, "nbdkit.raw"), sizeBytes);
    return await serving(
      spawnQuiet("nbdkit", ["-f", "-i", "127.0.0.1", "-p", String(port), "file", file]),
      `127.0.0.1:${port}`,
      "",
    );
  },
};

export const qemuNbd: Contender = {
  name: "qemu-nbd",
  what: "qemu-nbd, one sparse raw file, cache=writeback",
  async start(folder, sizeBytes) {
    const port = await freePort();
    const file = emptyFile(join(folder, "qemu-nbd.raw"), sizeBytes);
    const args = ["-t", "-f", "raw", "-b", "127.0.0.1", "-p", String(port), "--cache=writeback", file];
    return await serving(spawnQuiet("qemu-nbd", args), `127.0.0.1:${port}`, "");
  },
};

/** The front end alone: what the appliance could reach if log and store cost nothing. */
export const frontEnd: Contender = {
  name: "front-end",
  what: "our NBD front end over plain memory (no log, no store)",
  start(_folder, sizeBytes) {
    const program = join(repositoryRoot, "test", "real", "support", "nbd_memory_server.ts");
    const child = spawn(process.execPath, [program, `demo-1=${sizeBytes}`], { stdio: ["pipe", "pipe", "inherit"] });
    return new Promise((resolve, reject) => {
      let out = "";
      child.on("error", reject);
      child.on("exit", () => reject(new Error("the memory server ended")));
      child.stdout.on("data", (chunk: Buffer) => {
        out += chunk.toString();
        const line = /^(\S+)\n/.exec(out);
        if (line !== null) resolve(running(child, `${line[1]}/demo-1`));
      });
    });
  },
};

function emptyFile(path: string, sizeBytes: number): string {
  const file = openSync(path, "w");
  ftruncateSync(file, sizeBytes);
  closeSync(file);
  return path;
}

function spawnQuiet(program: string, args: readonly string[]): ChildProcess {
  return spawn(program, [...args], { stdio: ["ignore", "ignore", "inherit"] });
}

function running(child: ChildProcess, at: string): Running {
  const ended = new Promise<void>((resolve) => {
    child.on("exit", () => resolve());
  });
  return {
    at,
    pids: [child.pid ?? 0],
    stop: async () => {
      child.kill("SIGTERM");
      await ended;
    },
  };
}

async function freePort(): Promise<number> {
  return await new Promise((resolve, reject) => {
    const server = createServer();
    server.on("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}

/** Waits until something listens at `address`. */
async function serving(child: ChildProcess, address: string, name: string): Promise<Running> {
  const at = address.lastIndexOf(":");
  const result = running(child, `${address}/${name}`);
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
