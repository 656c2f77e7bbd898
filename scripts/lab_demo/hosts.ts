/** The demo's hosts: third-party programs over NBD and iSCSI. Nothing here knows our code. */
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { clientEnvironment } from "../clients.ts";

export interface Run {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** A program that hangs is a failure, not a wait. */
const runLimitMs = 60_000;

export function run(program: string, args: readonly string[], cwd?: string): Promise<Run> {
  return new Promise((resolve) => {
    const child = spawn(program, args, { env: clientEnvironment, ...(cwd === undefined ? {} : { cwd }) });
    const out: Buffer[] = [];
    const err: Buffer[] = [];
    child.stdout.on("data", (chunk: Buffer) => out.push(chunk));
    child.stderr.on("data", (chunk: Buffer) => err.push(chunk));
    const timer = setTimeout(() => child.kill("SIGKILL"), runLimitMs);
    let ended = false;
    const finish = (code: number, more: string) => {
      if (ended) return;
      ended = true;
      clearTimeout(timer);
      resolve({ code, out: Buffer.concat(out).toString("utf8"), err: Buffer.concat(err).toString("utf8") + more });
    };
    child.on("error", (error) => finish(127, error.message));
    child.on("close", (code, signal) => finish(code ?? 137, signal === null ? "" : ` (ended by ${signal})`));
  });
}

/** The last words of a failed run, in one line. */
export function why(result: Run): string {
  return (result.err.trim() || result.out.trim()).split("\n").at(-1)?.slice(0, 300) ?? `exit code ${result.code}`;
}

/** SHA-256 of what a host reads of a whole volume, by `nbdcopy`. */
export function digestOf(uri: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn("nbdcopy", [uri, "-"], { env: clientEnvironment });
    const hasher = new Bun.CryptoHasher("sha256");
    const err: Buffer[] = [];
    child.stdout.on("data", (chunk: Buffer) => hasher.update(chunk));
    child.stderr.on("data", (chunk: Buffer) => err.push(chunk));
    child.on("error", reject);
    child.on("close", (code) => {
      if (code === 0) resolve(hasher.digest("hex"));
      else reject(new Error(`nbdcopy ${uri}: ${Buffer.concat(err).toString("utf8").trim()}`));
    });
  });
}

export async function fileDigestOf(path: string): Promise<string> {
  const hasher = new Bun.CryptoHasher("sha256");
  for await (const chunk of Bun.file(path).stream()) hasher.update(chunk);
  return hasher.digest("hex");
}

export async function isReadOnly(uri: string): Promise<boolean | null> {
  const info = await run("nbdinfo", ["--json", uri]);
  if (info.code !== 0) return null;
  const document = JSON.parse(info.out) as { exports?: { is_read_only?: boolean }[] };
  return document.exports?.[0]?.is_read_only ?? null;
}

/** Whether a host may write there now: one block at the end of the volume, where the demo keeps nothing else. */
export async function canWrite(uri: string): Promise<boolean> {
  const tried = await run("qemu-io", ["-f", "raw", "-c", "write -P 0x5a 1073737728 4096", uri]);
  return tried.code === 0 && !/failed|error/i.test(tried.out + tried.err);
}

export interface LoadOptions {
  readonly uri: string;
  /** Where fio leaves its files. */
  readonly dir: string;
  /** Names the files and colours the data: 1 to 255, another one for each load. */
  readonly round: number;
  readonly depth: number;
  readonly sizeBytes: number;
  readonly offsetBytes: number;
}

export interface Load {
  /** Ends when everything is written, or when the server is gone. */
  readonly ended: Promise<Run>;
  readonly acksPath: string;
  readonly round: number;
  stop(): void;
}

export const loadBlockBytes = 4096;

/**
 * Random 4 KiB writes by fio, each block once, filled with the round and its own offset. fio's latency log names every write that
 * was acknowledged, in the order of the acknowledgements.
 */
export function startLoad(options: LoadOptions): Load {
  const name = `round-${options.round}`;
  const child = spawn(
    "fio",
    [
      `--name=${name}`,
      "--ioengine=nbd",
      `--uri=${options.uri}`,
      "--rw=randwrite",
      "--randrepeat=0",
      `--bs=${loadBlockBytes}`,
      `--offset=${options.offsetBytes}`,
      `--size=${options.sizeBytes}`,
      `--iodepth=${options.depth}`,
      "--verify=pattern",
      `--verify_pattern=${roundPrefix(options.round)}%o`,
      "--do_verify=0",
      `--write_lat_log=${name}`,
      "--log_offset=1",
      "--disable_clat=1",
      "--disable_slat=1",
      "--output-format=json",
    ],
    { cwd: options.dir, env: clientEnvironment },
  );
  const out: Buffer[] = [];
  const err: Buffer[] = [];
  child.stdout.on("data", (chunk: Buffer) => out.push(chunk));
  child.stderr.on("data", (chunk: Buffer) => err.push(chunk));
  const ended = new Promise<Run>((resolve) => {
    const finish = (code: number) =>
      resolve({ code, out: Buffer.concat(out).toString("utf8"), err: Buffer.concat(err).toString("utf8") });
    child.on("error", () => finish(127));
    child.on("close", (code) => finish(code ?? 137));
  });
  return {
    ended,
    acksPath: join(options.dir, `${name}_lat.1.log`),
    round: options.round,
    stop: () => child.kill("SIGINT"),
  };
}

/** Four bytes, so that no two rounds agree anywhere. */
function roundPrefix(round: number): string {
  return `0x${round.toString(16).padStart(2, "0")}c0ffee`;
}

/** What a block of a round holds: the prefix and the block's offset (8 bytes, little-endian), again and again. */
export function expectedBlock(round: number, offsetBytes: number): Buffer {
  const unit = Buffer.alloc(12);
  unit.write(roundPrefix(round).slice(2), "hex");
  unit.writeBigUInt64LE(BigInt(offsetBytes), 4);
  return Buffer.alloc(loadBlockBytes, unit);
}

/** The offsets of acknowledged writes, in the order of their acknowledgements. */
export function readAcks(load: Load): number[] {
  return readFileSync(load.acksPath, "utf8")
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => Number(line.split(",")[4]));
}
