/** A new owner lets hosts in when its groups know their roles: before, it would only end their sessions again. */
import type { Clock, Timer } from "../../hal/api/clock.ts";
import { pairLimits } from "./limits.ts";

/** What the owner's firmware knows of its groups. */
export interface GroupRoles {
  entries(): readonly { readonly replication: { readonly settled: boolean } }[];
}

export class KnownRoles {
  readonly #clock: Clock;
  #timer: Timer | null = null;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Calls `done` when all roles are known, or after `rolesMs` all the same, unless `cancel` comes first. Perhaps at once. */
  await(groups: GroupRoles, done: () => void): void {
    const latestMs = this.#clock.nowMs() + pairLimits.rolesMs;
    const look = (): void => {
      this.#timer = null;
      const isKnown = groups.entries().every(({ replication }) => replication.settled);
      if (isKnown || this.#clock.nowMs() >= latestMs) return done();
      this.#timer = this.#clock.after(pairLimits.lookMs, look);
    };
    look();
  }

  cancel(): void {
    this.#timer?.cancel();
    this.#timer = null;
  }
}
