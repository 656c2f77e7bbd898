/** A host in a lab's own network that knows one address, and verifies what it reads there. */
import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { LoadReport, VerifiedLoadOptions } from "../../../scripts/benchmarks/paths/verified_load.ts";
import { repositoryRoot } from "../../../scripts/tools.ts";

export class SinglePathHost {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  private constructor(child: ChildProcess) {
    this.#child = child;
    this.#lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
  }

  /** Resolves when it has written every block once, and goes on writing and reading. */
  static async start(labDir: string, load: VerifiedLoadOptions): Promise<SinglePathHost> {
    const program = join(repositoryRoot, "scripts", "benchmarks", "paths", "host_process.ts");
    const words = ["exec", "--dir", labDir, "--", process.execPath, program, JSON.stringify(load)];
    const stdio: ["pipe", "pipe", "inherit"] = ["pipe", "pipe", "inherit"];
    const host = new SinglePathHost(spawn(join(repositoryRoot, "scripts", "lab"), words, { stdio }));
    await host.#answer();
    return host;
  }

  /** When so many more requests have been answered. */
  async more(count: number): Promise<void> {
    await this.#ask(`more ${count}`);
  }

  /** Does it, lets the host go on, and returns how long it waited at most, in milliseconds. */
  async during(blow: () => Promise<unknown>, answers: number): Promise<number> {
    await this.#ask("mark");
    await blow();
    await this.more(answers);
    return ((await this.#ask("gap")) as { ms: number }).ms;
  }

  /** Reads everything. */
  async finish(): Promise<LoadReport> {
    return (await this.#ask("finish")) as LoadReport;
  }

  /** It ends with its input. */
  stop(): void {
    this.#child.stdin?.end();
  }

  async #ask(line: string): Promise<unknown> {
    this.#child.stdin?.write(`${line}\n`);
    return await this.#answer();
  }

  async #answer(): Promise<unknown> {
    const { done, value } = await this.#lines.next();
    if (done === true) throw new Error("the host has ended; what it said stands above");
    return JSON.parse(value);
  }
}
