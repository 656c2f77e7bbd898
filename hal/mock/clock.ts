/**
 * A clock on virtual time.
 *
 * Fault model:
 * - the monotonic clock of every boot starts anywhere and runs too fast or too slow by a constant rate;
 * - a timer fires late by a seeded moment, never early;
 * - the wall clock jumps either way (`WallClock.jump`), and keeps its error over restarts as an RTC does.
 */
import type { Clock, Timer } from "../api/clock.ts";
import { eventKind } from "./event_heap.ts";
import type { Kernel } from "./kernel.ts";
import type { Lifetime } from "./lifetime.ts";
import type { Prng } from "./prng.ts";

/** 2026-01-01T00:00:00Z: where the world's wall time starts. */
const worldEpochMs = 1767225600000;

/** An appliance's real-time clock: part of the machine. */
export class WallClock {
  #errorMs = 0;
  readonly #kernel: Kernel;

  constructor(kernel: Kernel) {
    this.#kernel = kernel;
  }

  nowMs(): number {
    return worldEpochMs + this.#kernel.nowMs + this.#errorMs;
  }

  jump(byMs: number): void {
    this.#errorMs += byMs;
  }
}

export interface ClockOptions {
  /** Where the monotonic clock stands now. */
  readonly startMs: number;
  /** How fast it runs: 1 is right, 1.0001 gains 0.1 ms per second. */
  readonly rate: number;
  /** Timers fire late by 0 to this, evenly. */
  readonly latenessMsMax: number;
}

export class VirtualClock implements Clock {
  readonly #kernel: Kernel;
  readonly #lifetime: Lifetime | null;
  readonly #wall: WallClock;
  readonly #prng: Prng;
  readonly #options: ClockOptions;
  readonly #startedAtMs: number;

  constructor(kernel: Kernel, lifetime: Lifetime | null, wall: WallClock, prng: Prng, options: ClockOptions) {
    this.#kernel = kernel;
    this.#lifetime = lifetime;
    this.#wall = wall;
    this.#prng = prng;
    this.#options = options;
    this.#startedAtMs = kernel.nowMs;
  }

  nowMs(): number {
    return this.#options.startMs + (this.#kernel.nowMs - this.#startedAtMs) * this.#options.rate;
  }

  wallMs(): number {
    return this.#wall.nowMs();
  }

  after(delayMs: number, fire: () => void): Timer {
    if (!(delayMs >= 0)) throw new RangeError(`a timer of ${delayMs} ms`);
    // The microsecond keeps rounding from firing a timer early as `nowMs` measures it.
    const late = delayMs === 0 ? 0 : this.#prng.unit() * this.#options.latenessMsMax + 0.001;
    return this.#kernel.schedule(delayMs / this.#options.rate + late, eventKind.timer, this.#lifetime, fire);
  }

  defer(task: () => void): void {
    this.#kernel.defer(this.#lifetime, task);
  }
}
