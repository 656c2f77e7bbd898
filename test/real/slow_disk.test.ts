/**
 * A disk that stops answering under cold reads, on a real kernel: its reads hold threads of the process, and others must not need
 * those. The disk is a file by nbdfuse on an nbdkit that can be told to pause.
 */
import { mkdtempSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { waitUntil } from "../../scripts/lab_site/wait.ts";
import { command } from "../unit/support/nbd_host.ts";
import { freePorts, mebibyte, TestAppliance, wipe } from "./support/appliance.ts";
import { AttachedLun } from "./support/attachments.ts";
import { findProgram, testUnless } from "./support/clients.ts";
import { againInside, isInside, whyNoMounts } from "./support/mounts.ts";
import { commandOf, NbdHost } from "./support/raw_socket.ts";

const whyNot = await whyNoMounts();
if (whyNot === null && !isInside()) process.exit(await againInside(import.meta.path));

const test = suite("slow_disk");
const blockBytes = 4096;
/** More than the process has threads for files. */
const coldReads = 32;
const requests = 200;
const answerLimitMs = 10_000;

/** A disk of nbdkit's that can be paused. */
class PausableDisk {
  readonly #server: ReturnType<typeof Bun.spawn>;
  readonly #control: string;
  readonly file: AttachedLun;

  private constructor(server: ReturnType<typeof Bun.spawn>, control: string, file: AttachedLun) {
    this.#server = server;
    this.#control = control;
    this.file = file;
  }

  /** `path` becomes the disk. */
  static async make(dir: string, path: string, bytes: number): Promise<PausableDisk> {
    const [port] = await freePorts(1);
    const control = join(dir, "pause.sock");
    const args = ["-f", "-i", "127.0.0.1", "-p", String(port), "--filter=pause", "memory", String(bytes)];
    const server = Bun.spawn(["nbdkit", ...args, `pause-control=${control}`], {
      stdio: ["ignore", "ignore", "inherit"],
    });
    try {
      const listens = () =>
        new Promise<true | null>((resolve) => {
          const socket = connect({ host: "127.0.0.1", port: port! }, () => socket.destroy());
          socket.on("error", () => resolve(null));
          socket.on("close", () => resolve(true));
        });
      await waitUntil(10_000, 20, listens);
      const file = await AttachedLun.by("nbdfuse", [path, `nbd://127.0.0.1:${port}`], path);
      return new PausableDisk(server, control, file);
    } catch (error) {
      server.kill("SIGKILL");
      throw error;
    }
  }

  /** One letter asks, the same in capitals answers: `p` when everything has come to rest, `r` when it goes on. */
  #ask(letter: "p" | "r"): Promise<void> {
    return new Promise((resolve, reject) => {
      const socket = connect(this.#control, () => socket.write(letter));
      socket.on("data", () => {
        socket.destroy();
        resolve();
      });
      socket.on("error", reject);
    });
  }
  pause(): Promise<void> {
    return this.#ask("p");
  }
  resume(): Promise<void> {
    return this.#ask("r");
  }

  async close(): Promise<void> {
    await this.resume().catch(() => {});
    await this.file.lose();
    this.#server.kill("SIGKILL");
    await this.#server.exited;
  }
}

async function inTime<T>(promise: Promise<T>, what: string): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | null = null;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not within ${answerLimitMs} ms: ${what}`)), answerLimitMs);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer!);
  }
}

for (const persistence of ["battery", "flush"] as const) {
  const name = `more cold reads than threads on a disk that does not answer, ${persistence} -> other sessions are served meanwhile`;
  const missing = ["nbdkit", "nbdfuse"].filter((program) => findProgram(program) === null);
  const hindrance = whyNot ?? (missing.length > 0 ? `${missing.join()} missing` : null);
  testUnless(test, hindrance, name, async () => {
    // Not in memory: the cache's own writes need threads then.
    const dir = mkdtempSync(join(tmpdir(), "goldcopy-slow-"));
    const oak = await TestAppliance.make(join(dir, "oak"), { persistence, diskBytes: [1024 * mebibyte] });
    const disk = await PausableDisk.make(dir, oak.diskPath(0), 1024 * mebibyte);
    try {
      await oak.start();
      await oak.addVolume("cold", 16 * mebibyte);
      await oak.addVolume("busy", 16 * mebibyte);
      const filler = (await NbdHost.open(oak.hba(), "cold"))!;
      for (let at = 0; at < coldReads; at++)
        assert.is(await filler.write(at * 65536, new Uint8Array(65536).fill(at + 1)), 0);
      filler.close();
      const home = async () => {
        const group = await oak.group("cold");
        return group.appliedSeq === group.commitSeq ? true : null;
      };
      assert.ok(await waitUntil(answerLimitMs, 20, home), "the writes are at home");
      await oak.kill();
      await oak.start();

      const cold = (await NbdHost.open(oak.hba(), "cold"))!;
      // Brings the map in: what is slow afterwards are the reads of the data.
      assert.ok(Buffer.isBuffer(await cold.read(0, blockBytes)));
      const busy = (await NbdHost.open(oak.hba(), "busy"))!;
      assert.is(await busy.write(0, new Uint8Array(blockBytes)), 0);
      await disk.pause();
      for (let at = 0; at < coldReads; at++)
        cold.raw.send(
          command({ command: commandOf.read, cookie: BigInt(at), offset: at * 65536 + 4096, length: blockBytes }),
        );
      const replies = cold.raw.read(coldReads * (16 + blockBytes));
      let answered = false;
      void replies.then(() => {
        answered = true;
      });
      for (let at = 0; at < requests; at++) {
        const block = new Uint8Array(blockBytes).fill(at);
        assert.is(await inTime(busy.write(at * blockBytes, block), `write ${at} of another session`), 0);
        assert.equal(
          await inTime(busy.read(at * blockBytes, blockBytes), `read ${at} of another session`),
          Buffer.from(block),
        );
      }
      assert.not(answered, "the cold reads still wait");
      await disk.resume();
      const all = await inTime(replies, "the cold reads, once the disk answers");
      assert.is(all.byteLength, coldReads * (16 + blockBytes));
      busy.close();
      cold.close();
    } finally {
      await disk.resume().catch(() => {});
      await oak.kill();
      await disk.close();
      wipe(dir);
    }
  });
}

test.run();
