/** Runs in the guest: does what the host orders over the virtio port. It has nothing but Bun and the two files beside it. */
import { readdirSync, readFileSync, writeSync } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { join } from "node:path";
import { findRecords, recordOf } from "./records.ts";
import { type Asked, type Found, portName, type Ran, type Told } from "./words.ts";

const ports = "/sys/class/virtio-ports";
const port = readdirSync(ports).find((name) => readFileSync(join(ports, name, "name"), "utf8").trim() === portName);
if (port === undefined) throw new Error(`no virtio port is called ${portName}`);
/** Both ways through one: the kernel opens a virtio port only once. */
const host = await open(join("/dev", port), "r+");

function tell(told: Told): void {
  const line = Buffer.from(`${JSON.stringify(told)}\n`);
  let at = 0;
  while (at < line.length) at += writeSync(host.fd, line, at);
}

let isStopping = false;
let writers: Promise<void>[] = [];
const pathOf = (folder: string, file: number) => join(folder, `records-${file}`);

async function run(argv: readonly string[]): Promise<Ran> {
  const child = Bun.spawn([...argv], { stdin: "ignore", stdout: "pipe", stderr: "pipe" });
  const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  return { code: await child.exited, out, err };
}

/** Appends and syncs record after record; what it tells is on the disk. */
async function write(folder: string, file: number): Promise<void> {
  let handle: FileHandle | null = null;
  try {
    handle = await open(pathOf(folder, file), "a");
    for (let number = 1; !isStopping; number++) {
      const record = recordOf(file, number);
      const { bytesWritten } = await handle.write(record);
      if (bytesWritten !== record.length) throw new Error(`only ${bytesWritten} of ${record.length} bytes`);
      await handle.sync();
      tell({ synced: [file, number] });
    }
  } catch (error) {
    tell({ broken: `writer ${file}: ${error instanceof Error ? error.message : String(error)}` });
  } finally {
    await handle?.close();
  }
}

async function obey(asked: Asked): Promise<unknown> {
  switch (asked.do) {
    case "run":
      return run(asked.argv);
    case "write":
      isStopping = false;
      writers = Array.from({ length: asked.files }, (_, file) => write(asked.folder, file));
      return null;
    case "stop":
      isStopping = true;
      await Promise.all(writers);
      return null;
    case "find":
      return Array.from({ length: asked.files }, (_, file): Found => {
        return { file, ...findRecords(file, readFileSync(pathOf(asked.folder, file))) };
      });
  }
}

async function serve(line: string): Promise<void> {
  const asked = JSON.parse(line) as Asked;
  try {
    tell({ id: asked.id, answer: await obey(asked) });
  } catch (error) {
    tell({ id: asked.id, failed: error instanceof Error ? error.message : String(error) });
  }
}

tell({ ready: readFileSync("/proc/sys/kernel/osrelease", "utf8").trim() });
const decoder = new TextDecoder();
const buffer = new Uint8Array(65_536);
let rest = "";
for (;;) {
  const { bytesRead } = await host.read(buffer, 0, buffer.length, null);
  // The host has gone.
  if (bytesRead === 0) break;
  const lines = (rest + decoder.decode(buffer.subarray(0, bytesRead), { stream: true })).split("\n");
  rest = lines.pop() ?? "";
  for (const line of lines) void serve(line);
}
process.exit(0);
