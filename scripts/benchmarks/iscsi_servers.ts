/** The iSCSI target that ours is measured beside. */
import { rmSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { waitUntil } from "../lab_site/wait.ts";
import { output } from "./bench_lab.ts";
import { type Contender, emptyFile, freePort, type Running, running, spawnQuiet } from "./contenders.ts";

const targetName = "iqn.2026-11.bench:tgtd";
const startLimitMs = 10_000;

/** Debian's tgtd as a plain process with a control port of its own, so that one that runs on the machine is left alone. */
export const tgtd: Contender = {
  name: "tgtd",
  what: "tgtd, one sparse file, its default of 16 I/O threads",
  async start(folder, sizeBytes) {
    const port = await freePort();
    const control = String(20_000 + (process.pid % 10_000));
    const file = emptyFile(join(folder, "tgtd.raw"), sizeBytes);
    const child = spawnQuiet("tgtd", ["-f", "-C", control, "--iscsi", `portal=127.0.0.1:${port}`]);
    const admin = (...args: string[]) => output("tgtadm", ["-C", control, "--lld", "iscsi", ...args]);
    const plain = running(child, `iscsi://127.0.0.1:${port}/${targetName}/1`);
    const server: Running = {
      ...plain,
      async stop() {
        // It ends by itself once it has no targets, and not by SIGTERM; a client that has gone may still be known for a moment.
        await admin("--op", "delete", "--force", "--mode", "target", "--tid", "1").catch(() => "");
        await output("tgtadm", ["-C", control, "--op", "delete", "--mode", "system"]).catch(() =>
          child.kill("SIGKILL"),
        );
        const killed = setTimeout(() => child.kill("SIGKILL"), 3000);
        await plain.stop();
        clearTimeout(killed);
        for (const name of [`socket.${control}`, `socket.${control}.lock`])
          rmSync(join("/var/run/tgtd", name), { force: true });
      },
    };
    try {
      const listens = await waitUntil(startLimitMs, 25, async () => {
        if (child.exitCode !== null) throw new Error(`tgtd ended with ${child.exitCode}`);
        return (await isOpen(port)) ? true : null;
      });
      if (listens === null) throw new Error("tgtd does not listen");
      await admin("--op", "new", "--mode", "target", "--tid", "1", "-T", targetName);
      await admin("--op", "new", "--mode", "logicalunit", "--tid", "1", "--lun", "1", "-b", file);
      await admin("--op", "bind", "--mode", "target", "--tid", "1", "-I", "ALL");
      return server;
    } catch (error) {
      await server.stop();
      throw error;
    }
  },
};

function isOpen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: "127.0.0.1", port }, () => {
      socket.destroy();
      resolve(true);
    });
    socket.on("error", () => resolve(false));
  });
}
