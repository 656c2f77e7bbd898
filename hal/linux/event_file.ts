/**
 * Where events are kept: a file of lines, bounded by keeping one predecessor.
 *
 * Invariants:
 * - `append` never waits for a device and never fails: a log that cannot be written must not stop the appliance.
 * - Lines are written in order, each once; `written` says when none is left. `flushNow` leaves none behind at once, for the last
 *   words of a process that cannot wait: what is under way then may stand there twice.
 */
import { appendFile, appendFileSync, closeSync, mkdirSync, openSync, renameSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { causeOf } from "./address.ts";

/** Two files of at most this: 32 MiB, about 100,000 events. */
const fileBytesMax = 16 * 1024 * 1024;
/** Lines waiting for a device that hangs: 1 MiB, then the oldest are dropped. */
const waitingCharsMax = 1024 * 1024;

export class EventFile {
  readonly #path: string;
  #waiting: string[] = [];
  #waitingChars = 0;
  #writing: string | null = null;
  #fileBytes: number;
  #onWritten: (() => void)[] = [];

  private constructor(path: string, fileBytes: number) {
    this.#path = path;
    this.#fileBytes = fileBytes;
  }

  /** Or what is wrong with the path, one line. */
  static open(path: string): EventFile | string {
    try {
      mkdirSync(dirname(path), { recursive: true });
      closeSync(openSync(path, "a", 0o640));
      return new EventFile(path, statSync(path).size);
    } catch (error) {
      return `${path}: cannot write events: ${causeOf(error)}; give the profile another [log] file`;
    }
  }

  append(line: string): void {
    this.#waiting.push(line);
    this.#waitingChars += line.length;
    while (this.#waitingChars > waitingCharsMax)
      this.#waitingChars -= this.#waiting.shift()?.length ?? this.#waitingChars;
    this.#writeNext();
  }

  /** Resolves when every line so far is written, or after `limitMs` of a device that hangs. */
  written(limitMs: number): Promise<void> {
    return new Promise((resolve) => {
      setTimeout(resolve, limitMs).unref();
      this.#onWritten.push(resolve);
      this.#writeNext();
    });
  }

  flushNow(): void {
    const text = (this.#writing ?? "") + this.#take();
    try {
      if (text !== "") appendFileSync(this.#path, text);
    } catch {
      // There is nowhere left to say so.
    }
  }

  #take(): string {
    const text = this.#waiting.join("");
    this.#waiting = [];
    this.#waitingChars = 0;
    return text;
  }

  #writeNext(): void {
    if (this.#writing !== null) return;
    if (this.#waiting.length === 0) {
      for (const tell of this.#onWritten.splice(0)) tell();
      return;
    }
    this.#rotate();
    const text = this.#take();
    this.#writing = text;
    appendFile(this.#path, text, (error) => {
      this.#writing = null;
      if (error === null) this.#fileBytes += Buffer.byteLength(text);
      this.#writeNext();
    });
  }

  #rotate(): void {
    if (this.#fileBytes < fileBytesMax) return;
    this.#fileBytes = 0;
    try {
      renameSync(this.#path, `${this.#path}.1`);
    } catch {
      // It grows on; the next start tries again.
    }
  }
}
