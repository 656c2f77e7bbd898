/**
 * The copy of the owner's write cache at its partner, as the owner sees it: when it is begun, what becomes of it, and who waits for it.
 * What the shelf has to know of it is the copy keeper's.
 *
 * Invariant: no copy is begun in a session before this appliance has found, in that session, that its partner has not fenced it. What
 * the partner's cache holds may be newer than what an owner that has been evicted, and has not noticed, knows.
 */
import type { EventSink } from "../manage/events.ts";
import type { CopyKeeper } from "./copy_keeper.ts";
import type { SendMessage } from "./forwarder.ts";
import type { PairRole } from "./frame.ts";
import type { CopyState, MirroredCache } from "./mirrored_cache.ts";
import type { PartnerFence } from "./partner_fence.ts";

export interface PartnerCopyParts {
  readonly mirror: MirroredCache;
  readonly events: EventSink;
  readonly partner: string;
  readonly fence: PartnerFence;
  readonly send: SendMessage;
  /** The partner is connected. */
  met(): boolean;
  role(): PairRole;
  /** As it said last; null: it is not there. */
  partnerRole(): PairRole | null;
  /** Of the own cache; null: it has none, or none that is whole. */
  nonce(): string | null;
  /** The partner should be told. */
  changed(): void;
}

export class PartnerCopy {
  readonly #parts: PartnerCopyParts;
  /** Of the firmware that runs here. */
  #keeper: CopyKeeper | null = null;
  #waiters: (() => void)[] = [];
  /** The partner's cache has been found unfit in this session; a sentence. Empty: nothing is known against it. */
  #refused = "";
  #session = 0;
  /** What the disks say of this appliance, in this session. */
  #standing: "unasked" | "asked" | "stands" = "unasked";
  /** What waits for that. */
  readonly #whenStanding = new Set<() => void>();

  constructor(parts: PartnerCopyParts) {
    this.#parts = parts;
    parts.mirror.onState = (state, why) => this.#moved(state, why);
    parts.mirror.onLocalBattery = () => {
      parts.changed();
      this.look();
    };
  }

  /** See `CopyKeeper`. */
  get trouble(): string | null {
    return this.#keeper?.trouble ?? null;
  }

  /** A session begins. `refused`: why the partner's cache is unfit; empty: it is not. */
  met(refused: string): void {
    this.#begin();
    this.#refused = refused;
  }

  /** It has ended. */
  lost(why: string): void {
    this.#begin();
    this.#parts.mirror.detach(why);
    this.#wake();
  }

  #begin(): void {
    this.#session++;
    this.#standing = "unasked";
    this.#whenStanding.clear();
  }

  /** Why there is none, where that does not pass by itself; a clause, or empty. */
  get whyNone(): string {
    const failed = "the owner's own cache has failed; restart the owner, and replace its cache when it fails again";
    return this.#refused === "" && this.#keeper?.ownFailed === true ? failed : this.#refused;
  }

  /** null: the firmware has ended. */
  keptBy(keeper: CopyKeeper | null): void {
    this.#keeper = keeper;
    if (keeper !== null) keeper.onFree = this.bring;
  }

  look(): void {
    this.#keeper?.look();
  }

  /** The partner is there to take a copy. */
  get isWanted(): boolean {
    return this.#parts.role() === "owner" && this.#parts.partnerRole() === "standby" && this.#refused === "";
  }

  /** Begins it, when there is none and the partner's cache may be written over; otherwise sees to it that it may be. */
  readonly bring = (): void => {
    if (!this.isWanted || this.#parts.mirror.state !== "alone" || this.#keeper === null) return;
    if (!this.#keeper.partnerIsFree) return this.#keeper.look();
    if (this.#standing !== "stands") return this.#findOut(this.bring);
    this.#keeper.taken();
    this.#attach();
  };

  /** Both caches have the same nonce: they differ in what was never acknowledged, if at all, and are made alike before the start. */
  complete(): Promise<void> {
    if (this.#refused !== "") return Promise.resolve();
    return new Promise((resolve) => {
      this.#waiters.push(resolve);
      this.#findOut(this.#attach);
    });
  }

  #findOut(then: () => void): void {
    if (this.#standing === "stands") return then();
    this.#whenStanding.add(then);
    if (this.#standing === "asked") return;
    this.#standing = "asked";
    const session = this.#session;
    this.#parts.fence.stands(() => {
      if (session !== this.#session) return;
      this.#standing = "stands";
      const waiting = [...this.#whenStanding];
      this.#whenStanding.clear();
      for (const one of waiting) one();
    });
  }

  readonly #attach = (): void => {
    const { mirror, nonce, send } = this.#parts;
    mirror.attach(nonce(), send);
  };

  #moved(state: CopyState, why: string): void {
    const { mirror, events, partner, met, role, changed } = this.#parts;
    const owns = role() === "owner" || role() === "starting";
    if (state === "copying") events.emit("pair-copying", `${partner} gets a copy of the write cache`);
    if (state === "mirrored") events.emit("pair-mirrored", `the write caches of both appliances are alike from now on`);
    if (state === "alone" && owns) {
      events.emit("pair-unmirrored", `the write cache has no copy at ${partner}: ${why}`);
      if (met()) this.#refused = why;
    }
    if (state === "complete" && role() === "starting") mirror.rely();
    if (role() === "owner") changed();
    if (state === "alone" || state === "mirrored") this.#wake();
    this.look();
  }

  #wake(): void {
    for (const wake of this.#waiters.splice(0)) wake();
  }
}
