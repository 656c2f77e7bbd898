/**
 * An appliance in a virtual machine: QEMU with an emulated processor, its serial console as what is read and typed. Nothing of it is left
 * when it is closed.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { emulator, type Machine, machineArguments, plainMachine } from "../../../scripts/image_build/machine.ts";
import { waitUntil } from "../../../scripts/lab_site/wait.ts";

/** What takes ten seconds on an idle machine; the tests beside it take their share. */
export const consoleLimitMs = 150_000;

export class VirtualAppliance {
  readonly #qemu: ChildProcess;
  readonly #ended: Promise<void>;
  readonly #startedMs = performance.now();
  #console = "";
  /** Where the search for what comes next begins. */
  #seen = 0;
  #isGone = false;

  private constructor(machine: Machine, more: readonly string[]) {
    const args = [...machineArguments(machine), "-serial", "stdio", ...more];
    this.#qemu = spawn(emulator, args, { stdio: ["pipe", "pipe", "pipe"] });
    const take = (chunk: Buffer) => {
      this.#console += chunk.toString().replaceAll("\r", "");
    };
    this.#qemu.stdout?.on("data", take);
    this.#qemu.stderr?.on("data", take);
    this.#qemu.stdin?.on("error", () => {});
    this.#ended = new Promise<void>((resolve) => {
      this.#qemu.on("error", (error) => {
        this.#console += error.message;
        resolve();
      });
      this.#qemu.on("close", () => resolve());
    }).then(() => {
      this.#isGone = true;
    });
  }

  /** `more`: words for QEMU. */
  static start(machine: Partial<Machine> & { image: string }, more: readonly string[] = []): VirtualAppliance {
    return new VirtualAppliance({ ...plainMachine, ...machine }, more);
  }

  get console(): string {
    return this.#console;
  }

  /** Since QEMU was started. */
  get ageS(): number {
    return (performance.now() - this.#startedMs) / 1000;
  }

  /** The next text on the console that fits, after what was found before. */
  async shows(pattern: RegExp, limitMs = consoleLimitMs): Promise<RegExpExecArray> {
    const found = await waitUntil(limitMs, 20, () => {
      const match = pattern.exec(this.#console.slice(this.#seen));
      if (match === null && this.#isGone) throw new Error(`QEMU has ended before ${pattern}\n${this.#tail()}`);
      return match;
    });
    if (found === null) throw new Error(`the console does not show ${pattern} in ${limitMs} ms\n${this.#tail()}`);
    this.#seen += found.index + found[0].length;
    return found;
  }

  async type(line: string): Promise<void> {
    this.#qemu.stdin?.write(`${line}\r`);
    // The console repeats it: it has been read.
    await this.shows(new RegExp(line.replaceAll(/[^\w ]/g, ".")));
  }

  /** Of the menu's `goldcopy` entry: what the command printed. */
  async goldcopy(words: string): Promise<string> {
    await this.type("g");
    await this.shows(/goldcopy $/);
    await this.type(words);
    const [said] = await this.shows(/[\s\S]*?\[s\]tatus[^\n]*> /);
    return said;
  }

  /** QEMU ends by itself. */
  async whenGone(limitMs = consoleLimitMs): Promise<void> {
    if ((await waitUntil(limitMs, 50, () => (this.#isGone ? true : null))) === null)
      throw new Error(`QEMU does not end in ${limitMs} ms\n${this.#tail()}`);
  }

  /** The power is cut. */
  async cutPower(): Promise<void> {
    this.#qemu.kill("SIGKILL");
    await this.#ended;
  }

  #tail(): string {
    return this.#console.split("\n").slice(-60).join("\n");
  }
}
