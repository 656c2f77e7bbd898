/**
 * What the process tells the supervisor that started it, in lines: `turns`, at once and then every second while its main loop does;
 * `serves`, once, when hosts are served. The supervisor ends one that has become silent (images/root/usr/lib/goldcopy/supervise).
 *
 * Invariants:
 * - Nothing here waits or fails: a pipe that is full or has no reader loses what is said.
 */
import { constants, openSync, writeSync } from "node:fs";
import type { Clock } from "../api/clock.ts";

const turnsEveryMs = 1000;

export class SupervisorPipe {
  readonly #clock: Pick<Clock, "after">;
  /** null: nobody listens. */
  readonly #fd: number | null;

  /** `path`: a fifo with a reader; undefined: there is no supervisor. */
  constructor(path: string | undefined, clock: Pick<Clock, "after">) {
    this.#clock = clock;
    this.#fd = path === undefined ? null : openToWrite(path);
    if (this.#fd !== null) this.#turn();
  }

  serves(): void {
    this.#say("serves");
  }

  #turn(): void {
    this.#say("turns");
    this.#clock.after(turnsEveryMs, () => this.#turn());
  }

  #say(word: string): void {
    if (this.#fd === null) return;
    try {
      writeSync(this.#fd, `${word}\n`);
    } catch {
      // Full (EAGAIN) or without a reader (EPIPE).
    }
  }
}

function openToWrite(path: string): number | null {
  try {
    return openSync(path, constants.O_WRONLY | constants.O_NONBLOCK);
  } catch {
    return null;
  }
}
