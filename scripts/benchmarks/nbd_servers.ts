/** The NBD servers that ours is measured beside, and our front end alone. */
import { spawn } from "node:child_process";
import { join } from "node:path";
import { repositoryRoot } from "../tools.ts";
import {
  type Contender,
  emptyFile,
  freePort,
  killedIfInterrupted,
  running,
  serving,
  spawnQuiet,
} from "./contenders.ts";

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
  what: "qemu-nbd, one sparse raw file, cache=writeback, 16 clients at once",
  async start(folder, sizeBytes) {
    const port = await freePort();
    const file = emptyFile(join(folder, "qemu-nbd.raw"), sizeBytes);
    const args = ["-t", "-e", "16", "-f", "raw", "-b", "127.0.0.1", "-p", String(port), "--cache=writeback", file];
    return await serving(spawnQuiet("qemu-nbd", args), `127.0.0.1:${port}`, "");
  },
};

/** The front end alone: what the appliance could reach if log and store cost nothing. */
export const frontEnd: Contender = {
  name: "front-end",
  what: "our NBD front end over plain memory (no log, no store)",
  start(_folder, sizeBytes) {
    const program = join(repositoryRoot, "test", "real", "support", "nbd_memory_server.ts");
    const child = killedIfInterrupted(
      spawn(process.execPath, [program, `demo-1=${sizeBytes}`], { stdio: ["pipe", "pipe", "inherit"] }),
    );
    return new Promise((resolve, reject) => {
      let out = "";
      child.on("error", reject);
      child.on("exit", () => reject(new Error("the memory server ended")));
      child.stdout.on("data", (chunk: Buffer) => {
        out += chunk.toString();
        const line = /^(\S+)\n/.exec(out);
        if (line !== null) resolve(running(child, `nbd://${line[1]}/demo-1`));
      });
    });
  },
};
