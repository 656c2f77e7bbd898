/** A new owner lets hosts in when its groups know their roles: before, it would only end their sessions again. */
import { pairLimits } from "./limits.ts";

/** What the owner's firmware knows of its groups. */
export interface GroupRoles {
  entries(): readonly {
    readonly replication: {
      readonly settled: boolean;
      /** See `GroupReplication`. */
      until(holds: () => boolean, timeoutMs: number): Promise<boolean>;
    };
  }[];
}

export class KnownRoles {
  /** Counts the waits: one that was cancelled is not heard. */
  #turn = 0;

  /** Calls `done` when all roles are known, or after `rolesMs` all the same, unless `cancel` comes first. Perhaps at once. */
  await(groups: GroupRoles, done: () => void): void {
    const turn = ++this.#turn;
    const unknown = groups.entries().filter(({ replication }) => !replication.settled);
    if (unknown.length === 0) return done();
    const known = unknown.map(({ replication }) => replication.until(() => replication.settled, pairLimits.rolesMs));
    void Promise.all(known).then(() => {
      if (turn === this.#turn) done();
    });
  }

  cancel(): void {
    this.#turn++;
  }
}
