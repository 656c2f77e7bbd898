/**
 * A group's forks, as its document tells of them: the store knows their content, this their seq and lineage.
 *
 * Invariant: a fork is refused before anything is changed when the root has no room for it: a root that has grown too large could not
 * be saved any more, and nothing would go home.
 */
import type { WriteLog } from "../log/write_log.ts";
import type { LineageEntry } from "../peer/lineage.ts";
import type { GroupStore, StoreError } from "../store/store.ts";
import { forkLineage, type GroupDocument } from "./group_document.ts";

type Fork = GroupDocument["forks"][number];

export class GroupForks {
  readonly #store: GroupStore;
  readonly #log: WriteLog;
  #forks: readonly Fork[];

  constructor(store: GroupStore, log: WriteLog, found: readonly Fork[]) {
    this.#store = store;
    this.#log = log;
    this.#forks = found;
  }

  /** Those that the store has. */
  list(): Fork[] {
    const stored = new Set(this.#store.forks().map(({ id }) => id));
    return this.#forks.filter(({ id }) => stored.has(id));
  }

  has(id: string): boolean {
    return this.#store.forks().some((fork) => fork.id === id);
  }

  find(id: string): Fork | undefined {
    return this.list().find((fork) => fork.id === id);
  }

  /** Forks the home, which is the group at `seq`, unless that fork is there; `spareBytes`: by how much the root may still grow. */
  take(id: string, seq: number, spareBytes: number): StoreError | null {
    if (this.has(id)) return null;
    if (!this.#store.hasRoomForFork(spareBytes))
      return { code: "no-space", text: "the group's root has no room for another fork" };
    this.#store.fork(id, seq);
    this.remember(id, seq, this.#log.lineage());
    return null;
  }

  /** The store has forked the head as `id`. */
  remember(id: string, seq: number, lineage: readonly LineageEntry[]): void {
    this.#forks = [...this.#forks.filter((fork) => fork.id !== id), { id, seq, lineage: forkLineage(lineage, seq) }];
  }
}
