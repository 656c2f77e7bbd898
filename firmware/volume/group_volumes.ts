/**
 * A group's volumes as of two points of its log: committed (what hosts see) and at home (what the store holds), with the changes
 * that lie between them.
 *
 * Invariant: a change comes home with the batch that holds its record, never earlier: a fork at a boundary has the volumes of that
 * seq.
 */
import type { GroupStore } from "../store/store.ts";
import type { GroupVolume } from "./group_port.ts";
import { bringHome, changed, type VolumeChange } from "./volume_table.ts";

export class GroupVolumes {
  #committed: readonly GroupVolume[] = [];
  #home: readonly GroupVolume[] = [];
  #pending: { readonly record: number; readonly change: VolumeChange }[] = [];

  get committed(): readonly GroupVolume[] {
    return this.#committed;
  }

  get home(): readonly GroupVolume[] {
    return this.#home;
  }

  /** Both points are this: a start, or a fork that was promoted. */
  set(volumes: readonly GroupVolume[]): void {
    this.#committed = [...volumes];
    this.#home = [...volumes];
    this.#pending = [];
  }

  /** The log was emptied: what had not come home never will. */
  forgetPending(): void {
    this.#pending = [];
  }

  /** Record number `record` is committed; returns the volumes that are gone. */
  commit(change: VolumeChange, record: number): GroupVolume[] {
    const before = this.#committed;
    this.#pending.push({ record, change });
    this.#committed = changed(before, change);
    return before.filter((volume) => !this.#committed.some((one) => one.number === volume.number));
  }

  /** Brings the changes of records before number `records` home. Idempotent. */
  bringHome(store: GroupStore, records: number): void {
    const due = this.#pending.filter((pending) => pending.record < records);
    if (due.length === 0) return;
    this.#pending = this.#pending.filter((pending) => pending.record >= records);
    for (const { change } of due) this.#home = changed(this.#home, change);
    bringHome(store, this.#home);
  }

  find(number: number): GroupVolume | undefined {
    return this.#committed.find((volume) => volume.number === number);
  }

  /** Above every number in use. */
  get nextNumber(): number {
    return Math.max(0, ...this.#committed.map((volume) => volume.number)) + 1;
  }
}
