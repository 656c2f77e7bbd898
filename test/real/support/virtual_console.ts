/** An appliance's console, as what is read and typed there: the serial port of a virtual machine. */
import { waitUntil } from "../../../scripts/lab_site/wait.ts";

/** What takes ten seconds on an idle machine; the tests beside it take their share. */
export const consoleLimitMs = 150_000;

export class VirtualConsole {
  readonly #write: (text: string) => void;
  #text = "";
  /** Where the search for what comes next begins. */
  #seen = 0;
  #isGone = false;

  constructor(write: (text: string) => void) {
    this.#write = write;
  }

  /** The console has said this. */
  take(chunk: Buffer | string): void {
    this.#text += chunk.toString().replaceAll("\r", "");
  }

  /** Nothing more will be said. */
  end(): void {
    this.#isGone = true;
  }

  get isGone(): boolean {
    return this.#isGone;
  }

  /** The next text that fits, after what was found before. */
  async shows(pattern: RegExp, limitMs = consoleLimitMs): Promise<RegExpExecArray> {
    const found = await waitUntil(limitMs, 20, () => {
      const match = pattern.exec(this.#text.slice(this.#seen));
      if (match === null && this.#isGone) throw new Error(`the machine has ended before ${pattern}\n${this.tail()}`);
      return match;
    });
    if (found === null) throw new Error(`the console does not show ${pattern} in ${limitMs} ms\n${this.tail()}`);
    this.#seen += found.index + found[0].length;
    return found;
  }

  async type(line: string): Promise<void> {
    this.#write(`${line}\r`);
    // The console repeats it: it has been read.
    await this.shows(new RegExp(line.replaceAll(/[^\w ]/g, ".")));
  }

  /** Of the menu's `goldcopy` entry, begun. */
  async begin(words: string): Promise<void> {
    await this.type("g");
    await this.shows(/goldcopy $/);
    await this.type(words);
  }

  /** Of the menu's `goldcopy` entry: what the command printed. */
  async goldcopy(words: string, limitMs = consoleLimitMs): Promise<string> {
    await this.begin(words);
    const [said] = await this.shows(/[\s\S]*?\[s\]tatus[^\n]*> /, limitMs);
    return said;
  }

  /** Its last words. */
  tail(): string {
    return this.#text.split("\n").slice(-60).join("\n");
  }
}
