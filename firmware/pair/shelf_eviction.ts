/**
 * Fencing by the disks themselves (shelves with fencing `atomic`): each boot registers with every disk under a key of its own, and the
 * partner is fenced by taking its registrations away.
 *
 * Invariants:
 * - A boot registers with a disk once. From the first refusal on it is evicted for good: it ends, and its next life registers anew.
 * - The partner counts as fenced only when every disk that is there has evicted it, and this boot is registered with each. A disk that is
 *   not there keeps the pool from being opened (`start_judgement.ts`); one that has come since makes the proof void.
 * - A disk that was there when this boot was evicted tells so: one that takes its registration still proves that it was not.
 * - Disks are asked one after the other in one order on both appliances: of two that evict each other one loses at the first disk, and
 *   goes no further.
 */
import type { Clock } from "../../hal/api/clock.ts";
import type { Entropy } from "../../hal/api/entropy.ts";
import type { Disk, DiskError, DiskFence, Shelf } from "../../hal/api/shelf.ts";
import type { PartnerFence } from "./partner_fence.ts";

export interface ShelfEvictionOptions {
  readonly clock: Clock;
  readonly entropy: Entropy;
  readonly shelves: readonly Shelf[];
  readonly partner: string;
  /** Registrations are looked at so often; and so long after an eviction another one would find nobody new. */
  readonly limitMs: number;
  /** This appliance has been evicted, as a disk says; called once. */
  evicted(text: string): void;
}

type FencedDisk = Disk & { readonly fence: DiskFence };

const keyBytes = 8;
const isEnding = "this appliance has been evicted itself, or stops";

export class ShelfEviction implements PartnerFence {
  readonly target: string;
  readonly kills = false;
  readonly words;
  readonly #options: ShelfEvictionOptions;
  readonly #key: Uint8Array;
  readonly #registered = new Set<Disk>();
  /** The disks of the last complete eviction, and when that was; null: none since the partner was met. */
  #proof: { readonly disks: ReadonlySet<Disk>; readonly atMs: number } | null = null;
  #waiting: ((doubt: string | null) => void)[] = [];
  #isLooking = false;
  #isOver = false;
  /** One thing at a time is asked of the disks. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(options: ShelfEvictionOptions) {
    this.#options = options;
    this.target = options.partner;
    this.words = {
      doing: "it is evicted from the shelf",
      done: "was evicted from the shelf",
      failed: "could not be evicted",
      help: "look at the shelf, or switch it off by hand",
    };
    this.#key = options.entropy.fill(new Uint8Array(keyBytes));
    // A key of zeros is no key.
    this.#key[0]! |= 1;
  }

  /** Registers with every disk that answers in time; with the others when they do. */
  async start(): Promise<void> {
    const { clock, limitMs } = this.#options;
    const inTime = new Promise<void>((resolve) => clock.after(limitMs, resolve));
    await Promise.race([this.#inTurn(() => this.#lookAtAll()), inTime]);
    this.#tick();
  }

  stop(): void {
    this.#isOver = true;
  }

  isHarmless(): boolean {
    return false;
  }

  met(): void {
    this.#proof = null;
  }

  /** A disk has refused something. One that this boot has not registered with says nothing by that, unless it is needed. */
  refusedBy(disk: Disk, isNeeded: boolean): void {
    if (isNeeded || this.#registered.has(disk)) this.#refused(disk.place);
  }

  #refused(place: string): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#options.evicted(
      `${place} takes nothing from this appliance any more: ${this.target} has evicted it, or the disk has lost its registrations`,
    );
  }

  look(): void {
    if (this.#isLooking) return;
    this.#isLooking = true;
    void this.#inTurn(() => this.#lookAtAll());
  }

  stands(done: () => void): void {
    const { clock, limitMs } = this.#options;
    void this.#inTurn(() => this.#lookAtAll()).then((isTaken) => {
      if (this.#isOver) return;
      if (isTaken) clock.defer(done);
      else clock.after(limitMs, () => this.stands(done));
    });
  }

  fence(done: (doubt: string | null) => void): void {
    this.#waiting.push(done);
    // Both halves lose the partner at the same time.
    if (this.#waiting.length === 1) void this.#inTurn(() => this.#evict());
  }

  #inTurn<T>(task: () => Promise<T>): Promise<T> {
    const mine = this.#turn.then(task);
    this.#turn = mine;
    return mine;
  }

  async #evict(): Promise<void> {
    const doubt = this.#isProven() ? null : await this.#evictAll();
    this.#options.clock.defer(() => {
      for (const done of this.#waiting.splice(0)) done(this.#isOver ? isEnding : doubt);
    });
  }

  #isProven(): boolean {
    const { clock, limitMs } = this.#options;
    const proof = this.#proof;
    if (proof === null || clock.nowMs() - proof.atMs >= limitMs) return false;
    return this.#disks().every((disk) => proof.disks.has(disk));
  }

  /** null: every disk has evicted it. */
  async #evictAll(): Promise<string | null> {
    const disks = this.#disks();
    if (disks.length === 0) return "no disk is there";
    for (const disk of disks) {
      if (!(await this.#isRegisteredNow(disk))) return `${disk.place} has not taken this appliance's registration`;
      const error = await asked((done) => disk.fence.evictOthers(done));
      if (this.#isOver) return isEnding;
      if (error?.code === "evicted") this.#refused(disk.place);
      if (error !== null) return `${disk.place} has not evicted it: ${error.text}`;
    }
    if (!this.#disks().every((disk) => disks.includes(disk))) return "a disk has come meanwhile";
    this.#proof = { disks: new Set(disks), atMs: this.#options.clock.nowMs() };
    return null;
  }

  async #isRegisteredNow(disk: FencedDisk): Promise<boolean> {
    if (this.#registered.has(disk)) return true;
    if ((await asked((done) => disk.fence.register(this.#key, done))) !== null) return false;
    this.#registered.add(disk);
    return true;
  }

  /** Registers where that has not been done, and looks after it where it has: whether a disk still takes such a registration. */
  async #lookAtAll(): Promise<boolean> {
    this.#isLooking = false;
    let isTaken = false;
    for (const disk of this.#disks()) {
      if (this.#isOver) return false;
      if (!this.#registered.has(disk)) {
        await this.#isRegisteredNow(disk);
        continue;
      }
      const error = await asked((done) => disk.fence.look(done));
      if (error?.code === "evicted") this.#refused(disk.place);
      else if (error === null) isTaken = true;
    }
    return isTaken;
  }

  #tick(): void {
    if (this.#isOver) return;
    this.#options.clock.after(this.#options.limitMs, () => {
      this.look();
      this.#tick();
    });
  }

  /** Those that are there. */
  #disks(): FencedDisk[] {
    return this.#options.shelves.flatMap(({ disks }) =>
      disks.filter((disk): disk is FencedDisk => disk?.fence !== undefined),
    );
  }
}

function asked(start: (done: (error: DiskError | null) => void) => void): Promise<DiskError | null> {
  return new Promise((resolve) => start(resolve));
}
