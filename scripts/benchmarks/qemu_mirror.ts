/**
 * QEMU's synchronous mirror: `qemu-storage-daemon` serves a file over NBD and writes every block to a second `qemu-nbd` before it
 * answers (`blockdev-mirror`, `copy-mode=write-blocking`).
 */
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { type Contender, cpuSeconds, emptyFile, freePort, serving, spawnQuiet } from "./contenders.ts";

export const qemuMirror: Contender = {
  name: "qemu-mirror",
  what: "qemu-storage-daemon, blockdev-mirror write-blocking to a qemu-nbd, one sparse raw file each",
  async start(folder, sizeBytes) {
    const [targetPort, exportPort] = [await freePort(), await freePort()];
    const targetFile = emptyFile(join(folder, "mirror-target.raw"), sizeBytes);
    const sourceFile = emptyFile(join(folder, "mirror-source.raw"), sizeBytes);
    const monitor = join(folder, "qsd.sock");
    const target = await serving(
      spawnQuiet("qemu-nbd", ["-t", "-e", "8", "-f", "raw", "-b", "127.0.0.1", "-p", String(targetPort), targetFile]),
      `127.0.0.1:${targetPort}`,
      "",
    );
    const daemon = await serving(
      spawnQuiet("qemu-storage-daemon", [
        "--chardev",
        `socket,path=${monitor},server=on,wait=off,id=monitor`,
        "--monitor",
        "chardev=monitor",
        "--blockdev",
        `driver=file,node-name=source-file,filename=${sourceFile}`,
        "--blockdev",
        "driver=raw,node-name=source,file=source-file",
        "--blockdev",
        `driver=nbd,node-name=target,server.type=inet,server.host=127.0.0.1,server.port=${targetPort}`,
        "--nbd-server",
        `addr.type=inet,addr.host=127.0.0.1,addr.port=${exportPort},max-connections=8`,
        "--export",
        "type=nbd,id=export,node-name=source,name=demo-1,writable=on",
      ]),
      `127.0.0.1:${exportPort}`,
      "demo-1",
    );
    const stop = async () => {
      await daemon.stop();
      await target.stop();
    };
    try {
      await startMirror(monitor);
    } catch (error) {
      await stop();
      throw error;
    }
    const pids = [...daemon.pids, ...target.pids];
    cpuSeconds(pids);
    return { url: daemon.url, pids, stop };
  },
};

/** Speaks QMP (docs/interop/qmp-spec): one JSON object per line. Resolves when the mirror is ready. */
function startMirror(monitor: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket: Socket = connect(monitor);
    let text = "";
    const limit = setTimeout(() => socket.destroy(new Error("the mirror does not become ready")), 60_000);
    const ask = (execute: string, args: object = {}) =>
      socket.write(`${JSON.stringify({ execute, arguments: args })}\n`);
    socket.on("error", reject);
    socket.on("close", () => clearTimeout(limit));
    socket.on("data", (chunk: Buffer) => {
      text += chunk.toString();
      const lines = text.split("\n");
      text = lines.pop() ?? "";
      for (const line of lines) {
        const message = JSON.parse(line) as { QMP?: unknown; error?: { desc: string }; event?: string };
        if (message.error !== undefined) socket.destroy(new Error(`QMP: ${message.error.desc}`));
        if (message.event === "BLOCK_JOB_READY") {
          socket.end();
          resolve();
        }
        if (message.QMP === undefined) continue;
        ask("qmp_capabilities");
        ask("blockdev-mirror", {
          "job-id": "mirror",
          device: "source",
          target: "target",
          sync: "full",
          "copy-mode": "write-blocking",
        });
      }
    });
  });
}
