/** What a person sees of a demo: numbered steps, what each proved, and a summary. */

export interface Check {
  readonly what: string;
  readonly passed: boolean;
}

/** The demo cannot go on. */
export class DemoFailed extends Error {}

export class Report {
  readonly checks: Check[] = [];
  readonly facts: [string, string][] = [];
  readonly #startedMs = performance.now();
  readonly #quiet: boolean;
  #steps = 0;

  constructor(quiet: boolean) {
    this.#quiet = quiet;
  }

  elapsedSeconds(): number {
    return (performance.now() - this.#startedMs) / 1000;
  }

  step(title: string): void {
    this.#steps++;
    this.#print(`\n${this.#steps}. ${title}  (${this.elapsedSeconds().toFixed(1)} s)`);
  }

  say(text: string): void {
    for (const line of text.split("\n")) this.#print(`   ${line}`);
  }

  /** What was run, so that a reader can run it too. */
  command(words: string): void {
    this.#print(`   $ ${words}`);
  }

  /** Something that must hold; the demo goes on, its exit code tells. */
  check(passed: boolean, what: string): boolean {
    this.checks.push({ what, passed });
    this.#print(`   ${passed ? "proven" : "FAILED"}: ${what}`);
    return passed;
  }

  /** Something without which the rest makes no sense. */
  require(passed: boolean, what: string): void {
    if (!this.check(passed, what)) throw new DemoFailed(what);
  }

  fact(name: string, value: string): void {
    this.facts.push([name, value]);
  }

  summary(): string {
    const failed = this.checks.filter((check) => !check.passed);
    const width = Math.max(...this.facts.map(([name]) => name.length), 0);
    const lines = this.facts.map(([name, value]) => `   ${name.padEnd(width)}  ${value}`);
    const verdict =
      failed.length === 0
        ? `all ${this.checks.length} checks passed`
        : `${failed.length} of ${this.checks.length} checks FAILED:\n${failed.map((check) => `   - ${check.what}`).join("\n")}`;
    return ["", "Summary", ...lines, "", `${verdict}, ${this.elapsedSeconds().toFixed(0)} s`].join("\n");
  }

  #print(line: string): void {
    if (!this.#quiet) console.log(line);
  }
}
