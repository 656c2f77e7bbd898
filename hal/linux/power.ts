/**
 * The power port for a partner on the same machine: SIGKILL, then proof by the lock that the partner holds for life.
 *
 * A process that is stopped, or hangs in its main loop, dies all the same; one that waits in the kernel for a disk dies when that wait is
 * over, and until then the port does not claim it dead. Whoever holds a lock that the target has nothing to do with is not killed.
 */
import type { Clock } from "../api/clock.ts";
import type { PowerPort } from "../api/power.ts";
import { holderName, holderOf, isFree } from "./life_lock.ts";

/** A killed process of some hundred megabytes is gone in 10 to 50 ms. */
const lookMs = 2;
/** A process that waits for a disk in the kernel cannot die before the disk answers or times out (30 s in Linux by default). */
const giveUpMs = 35_000;

export class LinuxPowerPort implements PowerPort {
  readonly target: string;
  readonly #holder: string;
  readonly #lockPath: string;
  readonly #clock: Clock;

  constructor(options: {
    readonly array: string;
    readonly target: string;
    readonly lockPath: string;
    readonly clock: Clock;
  }) {
    this.target = options.target;
    this.#holder = holderName(options.array, options.target);
    this.#lockPath = options.lockPath;
    this.#clock = options.clock;
  }

  isDead(): boolean {
    return isFree(this.#lockPath);
  }

  kill(done: (doubt: string | null) => void): void {
    const untilMs = this.#clock.nowMs() + giveUpMs;
    const look = (): void => {
      if (this.isDead()) return done(null);
      if (this.#clock.nowMs() >= untilMs) return done(`${this.#lockPath} is still held after ${giveUpMs / 1000} s`);
      const other = this.#signal();
      if (other !== null) return done(this.#isOthers(other));
      this.#clock.after(lookMs, look);
    };
    this.#clock.defer(look);
  }

  #isOthers(other: string): string {
    return `${this.#lockPath} is the lock of ${other}, and the partner here is ${this.#holder}; correct [array] name, [pair] partner or [power] target_lock in the profile`;
  }

  /** Also again: a holder that has just started may not have written its name yet. A text is another appliance, which goes on. */
  #signal(): string | null {
    const holder = holderOf(this.#lockPath, this.#holder);
    if (holder === null || typeof holder === "string") return holder;
    try {
      process.kill(holder.pid, "SIGKILL");
    } catch {
      // It has died in between, or is not ours to kill; the lock tells.
    }
    return null;
  }
}
