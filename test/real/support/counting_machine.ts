/**
 * A virtual machine without an operating system: its boot sector counts, and writes the count to the disk's second sector, for ever. So the
 * file of its disk shows whether its processor runs.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, mkdtempSync, openSync, readSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { LinuxClock } from "../../../hal/linux/clock.ts";
import { converse, type Monitor } from "../../../hal/linux/qmp.ts";
import { emulator } from "../../../scripts/image_build/machine.ts";
import { waitUntil } from "../../../scripts/lab_site/wait.ts";

/** 16-bit code at 7C00h; the BIOS leaves the drive's number in DL. */
const bootCode = [
  ...[0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xc0], // xor ax, ax; mov ds, ax; mov es, ax
  ...[0x66, 0xff, 0x06, 0x00, 0x7e], // again: inc dword [7E00h]
  ...[0xb8, 0x01, 0x03, 0xbb, 0x00, 0x7e], // mov ax, 0301h (write one sector); mov bx, 7E00h
  ...[0xb9, 0x02, 0x00, 0xb6, 0x00], // mov cx, 2 (cylinder 0, sector 2); mov dh, 0
  ...[0xcd, 0x13, 0xeb, 0xec], // int 13h; jmp again
];
const sectorBytes = 512;
const diskBytes = 1024 * 1024;
const limitMs = 60_000;
/** A running machine counts thousands of times in this. */
const watchMs = 1500;
const clock = new LinuxClock();

export class CountingMachine {
  readonly #dir = mkdtempSync(join(tmpdir(), "goldcopy-counting-"));
  readonly #qemu: ChildProcess;
  readonly #disk: string;
  #said = "";
  #isGone = false;

  /** Off. */
  constructor(name: string) {
    this.#disk = join(this.#dir, "disk");
    const disk = Buffer.alloc(diskBytes);
    disk.set(bootCode);
    disk.set([0x55, 0xaa], sectorBytes - 2);
    writeFileSync(this.#disk, disk);
    const monitors = [this.monitor, this.#ownMonitor].flatMap((path) => ["-qmp", `unix:${path},server=on,wait=off`]);
    const args = ["-name", name, "-accel", "tcg", "-m", "16", "-nodefaults", "-display", "none", "-S", ...monitors];
    const drive = `if=none,id=disk,file=${this.#disk},format=raw,cache=none`;
    this.#qemu = spawn(emulator, [...args, "-drive", drive, "-device", "virtio-blk-pci,drive=disk"]);
    for (const output of [this.#qemu.stdout, this.#qemu.stderr])
      output?.on("data", (chunk: Buffer) => {
        this.#said += chunk.toString();
      });
    const gone = () => {
      this.#isGone = true;
    };
    this.#qemu.on("error", gone);
    this.#qemu.on("close", gone);
  }

  /** For whoever is tested. */
  get monitor(): string {
    return join(this.#dir, "partner.qmp");
  }

  get #ownMonitor(): string {
    return join(this.#dir, "own.qmp");
  }

  /** Through a monitor of the test's own, as soon as there is one. */
  async ask<T>(talk: (monitor: Monitor) => Promise<T>): Promise<T> {
    let why: unknown;
    const found = await waitUntil(limitMs, 20, async () => {
      if (this.#isGone) throw new Error(`QEMU has ended: ${this.#said}`);
      try {
        return { value: await converse({ address: this.#ownMonitor, clock, limitMs: 5000 }, talk) };
      } catch (error) {
        why = error;
        return null;
      }
    });
    if (found === null) throw why;
    return found.value;
  }

  async switchOn(): Promise<void> {
    await this.ask((monitor) => monitor.execute("cont"));
    const before = this.#count();
    if ((await waitUntil(limitMs, 5, () => (this.#count() !== before ? true : null))) === null)
      throw new Error(`the machine does not count: ${this.#said}`);
  }

  /** Whether it writes to its disk now: watched until it does, or for long enough. */
  runs(): boolean {
    const before = this.#count();
    const endMs = performance.now() + watchMs;
    while (performance.now() < endMs) if (this.#count() !== before) return true;
    return false;
  }

  get isThere(): boolean {
    return !this.#isGone;
  }

  signal(kind: "SIGSTOP" | "SIGCONT" | "SIGKILL"): void {
    this.#qemu.kill(kind);
  }

  async close(): Promise<void> {
    this.#qemu.kill("SIGKILL");
    await waitUntil(limitMs, 2, () => (this.#isGone ? true : null));
    rmSync(this.#dir, { recursive: true, force: true });
  }

  #count(): number {
    const bytes = Buffer.alloc(4);
    const fd = openSync(this.#disk, "r");
    readSync(fd, bytes, 0, 4, sectorBytes);
    closeSync(fd);
    return bytes.readUInt32LE();
  }
}
