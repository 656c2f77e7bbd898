/**
 * An appliance in a virtual machine: QEMU with an emulated processor, its serial console as what is read and typed. Nothing of it is left
 * when it is closed.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { emulator, type Machine, machineArguments, plainMachine } from "../../../scripts/image_build/machine.ts";
import { waitUntil } from "../../../scripts/lab_site/wait.ts";
import { consoleLimitMs, VirtualConsole } from "./virtual_console.ts";

export class VirtualAppliance extends VirtualConsole {
  readonly #qemu: ChildProcess;
  readonly #ended: Promise<void>;
  readonly #startedMs = performance.now();

  private constructor(machine: Machine, more: readonly string[]) {
    const args = [...machineArguments(machine), "-serial", "stdio", ...more];
    const qemu = spawn(emulator, args, { stdio: ["pipe", "pipe", "pipe"] });
    super((text) => void qemu.stdin.write(text));
    this.#qemu = qemu;
    qemu.stdout.on("data", (chunk: Buffer) => this.take(chunk));
    qemu.stderr.on("data", (chunk: Buffer) => this.take(chunk));
    qemu.stdin.on("error", () => {});
    this.#ended = new Promise<void>((resolve) => {
      qemu.on("error", (error) => {
        this.take(error.message);
        resolve();
      });
      qemu.on("close", () => resolve());
    }).then(() => this.end());
  }

  /** `more`: words for QEMU. */
  static start(machine: Partial<Machine> & { image: string }, more: readonly string[] = []): VirtualAppliance {
    return new VirtualAppliance({ ...plainMachine, ...machine }, more);
  }

  /** Since QEMU was started. */
  get ageS(): number {
    return (performance.now() - this.#startedMs) / 1000;
  }

  /** QEMU ends by itself. */
  async whenGone(limitMs = consoleLimitMs): Promise<void> {
    if ((await waitUntil(limitMs, 50, () => (this.isGone ? true : null))) === null)
      throw new Error(`QEMU does not end in ${limitMs} ms\n${this.tail()}`);
  }

  /** The power is cut. */
  async cutPower(): Promise<void> {
    this.#qemu.kill("SIGKILL");
    await this.#ended;
  }
}
