/**
 * The appliance image that this machine runs (images/): its slots, through the partitions that hold their roots and the script that
 * owns the ESP. All of it is synchronous below: a command does nothing else meanwhile, and the firmware is another process.
 */
import { spawn, spawnSync } from "node:child_process";
import {
  closeSync,
  constants,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { dirname, join } from "node:path";
import {
  type ApplianceImage,
  type BootFileName,
  type ImageRelease,
  type ImageSlots,
  type SlotName,
  slotNames,
  type UpdateKey,
} from "../api/appliance_image.ts";
import { imageRun, machineFacts, shownTrial, showTrial, textOf } from "./image_state.ts";
import { isPageAligned, lockExclusive } from "./libc.ts";
import { readKeyFile } from "./signature_check.ts";

const slotScript = "/usr/lib/goldcopy/slot";
const releasePath = "/etc/goldcopy-release";
const keysDir = "/etc/goldcopy-update-keys";
const notesPath = "/var/lib/goldcopy/update.json";
/** In memory, like all of /run. */
const stagingDir = `${imageRun}/update`;
const absentCode = 3;
const pageBytes = 4096;

/** null: this machine runs no appliance image. */
export function openApplianceImage(): ApplianceImage | null {
  const running = slotNames.find((name) => name === textOf(`${imageRun}/slot`));
  const release = readRelease();
  if (running === undefined || release === null) return null;
  let lockFd: number | null = null;
  return {
    slots: new LinuxSlots(running, release),
    facts: machineFacts,
    showTrial,
    trialShown: shownTrial,
    // Without its newline the kernel shows it only when another message comes.
    say: (text) => writeFileSync("/dev/kmsg", `<5>goldcopy: ${text.replaceAll("\n", " ")}\n`),
    lock: () => {
      lockFd ??= openSync(`${imageRun}/update.lock`, constants.O_RDWR | constants.O_CREAT, 0o600);
      return lockExclusive(lockFd);
    },
    restart: () => spawn("reboot", [], { stdio: "ignore", detached: true }).unref(),
  };
}

function readRelease(): ImageRelease | null {
  const text = textOf(releasePath);
  if (text === null) return null;
  const value = (name: string) => new RegExp(`^${name}=(.*)$`, "m").exec(text)?.[1] ?? "";
  return {
    version: value("VERSION"),
    commit: value("COMMIT"),
    counter: Number(value("COUNTER")),
    machine: value("MACHINE"),
  };
}

class LinuxSlots implements ImageSlots {
  readonly running: SlotName;
  readonly release: ImageRelease;
  readonly #files = new Map<SlotName, number>();
  #direct: { readonly slot: SlotName; readonly fd: number } | null = null;

  constructor(running: SlotName, release: ImageRelease) {
    this.running = running;
    this.release = release;
  }

  get keys(): UpdateKey[] {
    let names: string[] = [];
    try {
      names = readdirSync(keysDir).sort();
    } catch {
      // No folder, no key: every bundle is refused.
    }
    return names.flatMap((name) => {
      const key = readKeyFile(join(keysDir, name));
      return "fault" in key ? [] : [key];
    });
  }

  get rootSizeBytes(): number {
    const device = script(["device", this.running === "a" ? "b" : "a"]).stdout.trim();
    const sectors = Number(textOf(`/sys/class/block/${device.replace("/dev/", "")}/size`) ?? 0);
    return sectors * 512;
  }

  async variables(): Promise<Record<string, string>> {
    const pairs = script(["show"]).stdout.trim().split("\n");
    return Object.fromEntries(pairs.map((line) => [line.replace(/=.*/, ""), line.replace(/^[^=]*=/, "")]));
  }

  async setVariables(changes: Readonly<Record<string, string>>): Promise<void> {
    script(["set", ...Object.entries(changes).map(([name, value]) => `${name}=${value}`)]);
  }

  async writeRoot(slot: SlotName, offsetBytes: number, bytes: Uint8Array): Promise<void> {
    if (slot === this.running) throw new Error(`slot ${slot} runs, and is not written to`);
    const fd = this.#files.get(slot) ?? openSync(deviceOf(slot), "r+");
    this.#files.set(slot, fd);
    for (let done = 0; done < bytes.byteLength; )
      done += writeSync(fd, bytes, done, bytes.byteLength - done, offsetBytes + done);
  }

  async flushRoot(slot: SlotName): Promise<void> {
    const fd = this.#files.get(slot);
    if (fd === undefined) return;
    fsyncSync(fd);
    closeSync(fd);
    this.#files.delete(slot);
  }

  /** Past the page cache (O_DIRECT): it would answer with what was meant to be written. */
  async readRoot(slot: SlotName, offsetBytes: number, target: Uint8Array): Promise<void> {
    if (this.#direct?.slot !== slot) {
      if (this.#direct !== null) closeSync(this.#direct.fd);
      this.#direct = { slot, fd: openSync(deviceOf(slot), constants.O_RDONLY | constants.O_DIRECT) };
    }
    const buffer = pageAligned(target.byteLength);
    for (let done = 0; done < buffer.byteLength; ) {
      const count = readSync(this.#direct.fd, buffer, done, buffer.byteLength - done, offsetBytes + done);
      if (count === 0) throw new Error(`slot ${slot} ends at ${offsetBytes + done} bytes`);
      done += count;
    }
    target.set(buffer);
  }

  async clearBoot(slot: SlotName): Promise<void> {
    if (slot === this.running) throw new Error(`slot ${slot} runs, and is not cleared`);
    script(["clear", slot]);
  }

  async writeBootFile(slot: SlotName, name: BootFileName, bytes: Uint8Array): Promise<void> {
    if (slot === this.running) throw new Error(`slot ${slot} runs, and is not written to`);
    staged(name, (path) => {
      writeFileSync(path, bytes);
      script(["put", slot, name, path]);
    });
  }

  async readBootFile(slot: SlotName, name: BootFileName): Promise<Uint8Array | null> {
    return staged(name, (path) => {
      const { status } = script(["get", slot, name, path], [absentCode]);
      return status === absentCode ? null : readFileSync(path);
    });
  }

  async readNotes(): Promise<Uint8Array | null> {
    try {
      return readFileSync(notesPath);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
      throw error;
    }
  }

  async writeNotes(bytes: Uint8Array): Promise<void> {
    const aside = `${notesPath}.new`;
    const fd = openSync(aside, "w", 0o600);
    writeSync(fd, bytes);
    fsyncSync(fd);
    closeSync(fd);
    renameSync(aside, notesPath);
    const folder = openSync(dirname(notesPath), "r");
    fsyncSync(folder);
    closeSync(folder);
  }
}

function deviceOf(slot: SlotName): string {
  const device = script(["device", slot]).stdout.trim();
  if (!statSync(device).isBlockDevice()) throw new Error(`${device} is no disk`);
  return device;
}

/** Its words are the error's. */
function script(words: readonly string[], alsoGood: readonly number[] = []): { stdout: string; status: number } {
  const run = spawnSync(slotScript, [...words], { encoding: "utf8" });
  const status = run.status ?? -1;
  if (run.error !== undefined) throw run.error;
  if (status !== 0 && !alsoGood.includes(status))
    throw new Error(run.stderr.trim() || `${slotScript} ${words[0]} has ended with ${status}`);
  return { stdout: run.stdout, status };
}

function staged<T>(name: string, use: (path: string) => T): T {
  mkdirSync(stagingDir, { recursive: true });
  const path = join(stagingDir, name);
  try {
    return use(path);
  } finally {
    rmSync(path, { force: true });
  }
}

/** `bytes`: a multiple of the page size. */
function pageAligned(bytes: number): Uint8Array {
  const room = new Uint8Array(bytes + pageBytes);
  for (let at = 0; at < pageBytes; at += 8) {
    const candidate = room.subarray(at, at + bytes);
    if (isPageAligned(candidate)) return candidate;
  }
  throw new Error("memory that begins nowhere on a page");
}
