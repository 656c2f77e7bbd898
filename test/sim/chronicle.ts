/**
 * What happened in a run, newest last, kept for the report of a failure: per array the firmware's events, role commands, deaths and
 * starts; for the world faults and phases. And the first violation, which ends the run.
 */
import type { World } from "../../hal/mock/world.ts";

const linesMax = 80;

export interface Violation {
  /** As in the list of invariants: D1, O3, …; `liveness`, `panic`, `contract`, `protocol` for what has no letter. */
  readonly invariant: string;
  readonly text: string;
  readonly facts: readonly string[];
  readonly atMs: number;
}

export class Chronicle {
  violation: Violation | null = null;
  /** Gets every line as it comes. */
  listener: ((line: string) => void) | null = null;
  readonly #world: World;
  readonly #lines = new Map<string, string[]>();

  constructor(world: World) {
    this.#world = world;
  }

  /** `place`: an array's name, or `world`. */
  note(place: string, text: string): void {
    const line = `${this.#world.nowMs.toFixed(3).padStart(12)} ms  ${place.padEnd(5)}  ${text}`;
    const lines = this.#lines.get(place);
    if (lines === undefined) this.#lines.set(place, [line]);
    else {
      lines.push(line);
      if (lines.length > 2 * linesMax) lines.splice(0, linesMax);
    }
    this.listener?.(line);
  }

  /** The first one counts: what comes later follows from it. */
  fail(invariant: string, text: string, facts: readonly string[] = []): void {
    this.note("world", `VIOLATION ${invariant}: ${text}`);
    this.violation ??= { invariant, text, facts, atMs: this.#world.nowMs };
  }

  /** The newest lines of all places, in the order of time. */
  recent(): string[] {
    return [...this.#lines.values()].flatMap((lines) => lines.slice(-linesMax)).sort();
  }
}
