/**
 * The groups of this array: opening them at a start, creating and deleting them, and finding volumes by name.
 */
import type { Hal } from "../../hal/api/hal.ts";
import type { ApplianceConfig } from "../appliance.ts";
import type { Nvram } from "../cache/nvram.ts";
import { toHex } from "../codec/bytes.ts";
import { whenAnswered, whenDone } from "../codec/promised.ts";
import { GroupReplication } from "../mirror/group_replication.ts";
import { ReplicationHost } from "../peer/replication_host.ts";
import type { GroupStore, Pool, StoreError } from "../store/store.ts";
import { Group } from "../volume/group.ts";
import { newGroupDocument } from "../volume/group_document.ts";
import type { GroupVolume } from "../volume/group_port.ts";
import { replicationPort } from "../volume/replication_port.ts";
import type { FoundHardware } from "../volume/root_saves.ts";
import { type Result, refused } from "./control.ts";
import type { EventSink } from "./events.ts";
import type { PeerArrayJson } from "./status_json.ts";

export interface GroupRegistryOptions {
  readonly hal: Hal;
  readonly pool: Pool;
  readonly nvram: Nvram;
  readonly config: ApplianceConfig;
  readonly events: EventSink;
  readonly shelfLogBytes: number;
  /** Why the cache does not count as safe when its battery is said to have failed; a clause. */
  whyUnsafe(): string;
  /** What it means that the battery is said to be good; a clause. */
  whySafe(): string;
  /** See `AdmissionOptions`. */
  moreSpace(done: (hasCome: boolean) => void): void;
}

export interface GroupEntry {
  readonly group: Group;
  readonly replication: GroupReplication;
}

/** A group of the pool that could not be opened: the others serve without it, and nothing of it is used or overwritten. */
export interface DamagedGroup {
  readonly id: string;
  readonly text: string;
}

export interface FoundVolume extends GroupEntry {
  readonly volume: GroupVolume;
}

/** A pool keeps this many groups: each has its own roots. A small cache may allow fewer (`CacheCredits.groupsMax`). */
const groupsMax = 64;
/** A new group's first opening takes two commits of its root; after this long its status tells what it waits for. */
const openLimitMs = 10_000;

export class GroupRegistry {
  readonly #options: GroupRegistryOptions;
  readonly #entries = new Map<string, GroupEntry>();
  readonly #creating = new Set<string>();
  readonly damaged: DamagedGroup[] = [];
  readonly host: ReplicationHost;
  #cacheHealthy = true;
  /** Counts the turns of the cache's state: what an earlier good turn began ends nothing after a later fault. */
  #cacheGoodRounds = 0;
  /** What one group had in the cache alone is on the shelf. */
  onSafe: () => void = () => {};
  /** What hosts may do with a group has changed. */
  onServing: () => unknown = () => {};
  #onVolumesChanged: (gone: readonly GroupVolume[]) => void = () => {};

  constructor(options: GroupRegistryOptions) {
    this.#options = options;
    const { hal, config, pool, events } = options;
    this.host = new ReplicationHost({
      hal,
      array: { name: config.array.name, id: pool.arrayId },
      appliance: config.array.appliance,
      peers: config.peers,
      settings: { heartbeatMs: config.link.heartbeatMs, peerTimeoutMs: config.link.peerTimeoutMs },
      events,
      groups: {
        find: (id) => this.#entries.get(id)?.replication ?? null,
        createGolden: (info, done) => {
          void this.create(info.name, { id: info.id, replication: info.document }).then((created) => {
            if (created.ok) done(created.value.replication, null);
            else done(null, created.error.text);
          });
        },
      },
    });
  }

  /** Called after every change of a group's volumes, wherever it was made; `gone` are those that no longer are. */
  onVolumesChanged(listener: (gone: readonly GroupVolume[]) => void): void {
    this.#onVolumesChanged = listener;
  }

  /**
   * Recovers every group of the pool. A group whose root is damaged is left out and shown; any other trouble (a disk that fails, a
   * cache without the newest writes) may end once the hardware is put right, so it stops the start: a sentence says why.
   */
  async openAll(found: FoundHardware): Promise<string | null> {
    const ids = groupsHere(this.#options.pool);
    for (const id of ids) this.#options.nvram.credits.join(id);
    for (const id of ids) {
      const stored = await whenAnswered<StoreError, GroupStore | null>((done) =>
        this.#options.pool.openGroup(id, done),
      );
      if (stored.error?.code === "corrupt") {
        this.#leaveOut({ id, text: stored.error.text });
        continue;
      }
      if (stored.error !== null || stored.value === null)
        return `group ${id}: ${stored.error?.text ?? "it cannot be opened"}`;
      const trouble = await this.#open(stored.value, found, this.#options.config.acceptCacheLoss);
      if (trouble !== null) return trouble;
    }
    return null;
  }

  /** Makes durable which groups have lost writes with a cache: its nonce, which still tells of it, is about to go. */
  saveLosses(): Promise<string | null> {
    const lost = this.all().filter((group) => group.cacheWasLost);
    return this.#saveEach(lost, (group, done) => group.settle(done, false));
  }

  /** Makes durable what the groups have recovered: the cache has its new nonce. */
  settle(): Promise<string | null> {
    return this.#saveEach(this.all(), (group, done) => group.settle(done));
  }

  /** One whose bitmaps are damaged is left out, as one whose root is. */
  async #saveEach(
    which: readonly Group[],
    save: (group: Group, done: (error: StoreError | null) => void) => void,
  ): Promise<string | null> {
    for (const group of which) {
      const error = await whenDone<StoreError>((done) => save(group, done));
      if (error !== null && error.code !== "corrupt") return `group ${group.name}: ${error.text}`;
      if (error === null) continue;
      group.close();
      this.#entries.delete(group.id);
      this.#leaveOut({ id: group.id, text: `${group.name}: ${error.text}` });
    }
    return null;
  }

  #leaveOut(damaged: DamagedGroup): void {
    this.damaged.push(damaged);
    this.#options.events.emit("group-damaged", damagedText(damaged), { group: damaged.id });
  }

  /** `acceptsLoss`: the operator's word, which is for a start. */
  async #open(store: GroupStore, found: FoundHardware, acceptsLoss = false): Promise<string | null> {
    const { hal, nvram, events, shelfLogBytes, config, moreSpace } = this.#options;
    const { clock, digests, entropy } = hal;
    nvram.credits.join(store.id);
    const own = { id: store.id, store, nvram, ...found };
    const options = { ...own, clock, digests, entropy, events, shelfLogBytes, moreSpace };
    const opened = await whenAnswered<StoreError, Group | null>((done) => Group.open(options, done));
    if (opened.error !== null || opened.value === null)
      return `group ${store.id}: ${opened.error?.text ?? "it cannot be opened"}`;
    const group = opened.value;
    group.writeThrough.onSafe = () => {
      // A group that is about to move goes to the shelf with a good cache.
      if (!this.#cacheHealthy)
        events.emit("cache-data-safe", `group ${group.name}: what only the failed cache held is on the shelf`);
      this.onSafe();
    };
    if (group.cacheLostNow && !acceptsLoss) {
      return (
        `the write cache is empty, and ${group.name} had writes that only the former one holds: put that one back, ` +
        "or take over at the peer, or start once with --accept-cache-loss, which gives them up"
      );
    }
    group.onVolumesChanged = (gone) => this.#onVolumesChanged(gone);
    group.log.onFailed = () => this.#cacheHasFailed("a persist of the write cache has failed");
    const place = { array: config.array.name, appliance: config.array.appliance };
    const replication = new GroupReplication(
      replicationPort(group, place, () => this.onServing()),
      this.host,
    );
    this.#entries.set(group.id, { group, replication });
    if (group.cacheWasLost) {
      events.emit(
        "cache-lost",
        `group ${group.name}: its newest writes are lost, with the write cache, a damaged log, a root that is not the newest or a stale disk; its image is inconsistent`,
        {
          group: group.name,
        },
      );
    }
    return null;
  }

  /** Settles the roles and meets the peers; `inherits`: the group was served here until a moment ago. The error names every NIC that could not be opened. */
  startReplication(inherits: (groupId: string) => boolean, done: (error: string | null) => void): void {
    for (const { replication, group } of this.#entries.values()) {
      replication.start(inherits(group.id));
      group.room.thaw();
    }
    this.host.start((errors) => done(errors.length === 0 ? null : errors.join("; ")));
  }

  /** Resolves when everything that is committed now is at home, or cannot get there; hosts go on. */
  async bringHome(): Promise<void> {
    await Promise.all(this.all().map((group) => new Promise<void>((resolve) => group.destager.drain(() => resolve()))));
  }

  async stop(): Promise<void> {
    await Promise.all(this.entries().map(({ replication }) => replication.stop(true)));
    this.host.stop();
    await Promise.all(this.entries().map(({ group }) => new Promise<void>((resolve) => group.stop(resolve))));
  }

  /** Whether the pool has a group of that id, whatever its state. */
  knows(id: string): boolean {
    return this.#options.pool.groupIds().includes(id);
  }

  /** The configured peer arrays and whether they answer. */
  peers(): PeerArrayJson[] {
    const nowMs = this.#options.hal.clock.nowMs();
    return this.#options.config.peers.map(({ array, appliances }) => {
      const channels = this.entries().flatMap(({ replication }) => replication.channel(array) ?? []);
      const connected = channels.some((channel) => channel.connected);
      const heard = channels.flatMap((channel) => channel.lastHeardMs ?? []);
      const why = channels.length === 0 ? "no group replicates with it" : `none of its addresses has answered`;
      return {
        array,
        appliances,
        connected,
        lastHeardMs: heard.length === 0 ? null : Math.max(0, Math.round(nowMs - Math.max(...heard))),
        why: connected ? null : why,
      };
    });
  }

  entries(): GroupEntry[] {
    return [...this.#entries.values()].sort((a, b) => (a.group.name < b.group.name ? -1 : 1));
  }

  all(): Group[] {
    return this.entries().map(({ group }) => group);
  }

  find(name: string): GroupEntry | null {
    return this.entries().find(({ group }) => group.name === name) ?? null;
  }

  /**
   * What `name` means to hosts and operators. A peer chooses the names in its groups by itself: its golden copy never comes before a
   * volume that this array is primary of, and of two alike the older group on this array wins, so that no name changes its meaning.
   */
  findVolume(name: string): FoundVolume | null {
    let best: FoundVolume | null = null;
    for (const entry of this.#entries.values()) {
      const volume = entry.group.volumes().find((one) => one.name === name);
      if (volume === undefined) continue;
      if (best === null || (isPrimary(entry) && !isPrimary(best))) best = { ...entry, volume };
    }
    return best;
  }

  /** All that `findVolume` finds. */
  volumesByName(): Map<string, FoundVolume> {
    const found = new Map<string, FoundVolume>();
    for (const entry of this.#entries.values()) {
      for (const volume of entry.group.volumes()) {
        const best = found.get(volume.name);
        if (best === undefined || (isPrimary(entry) && !isPrimary(best))) found.set(volume.name, { ...entry, volume });
      }
    }
    return found;
  }

  /** Names that volumes of several groups have. */
  namesTwice(): string[] {
    const seen = new Set<string>();
    const twice = new Set<string>();
    for (const { group } of this.#entries.values()) {
      for (const { name } of group.volumes()) (seen.has(name) ? twice : seen).add(name);
    }
    return [...twice];
  }

  endExports(volume: string, reason: string): void {
    const found = this.findVolume(volume);
    if (found !== null) found.group.endTargets(found.volume.number, reason);
  }

  /** A new, empty group; `golden`: the copy of a group that exists elsewhere. */
  async create(
    name: string,
    golden: { readonly id: string; readonly replication: unknown } | null = null,
  ): Promise<Result<GroupEntry>> {
    if (this.find(name) !== null || this.#creating.has(name)) {
      return refused("exists", `group ${name} exists on this array; choose another name`);
    }
    if (this.#entries.size >= groupsMax)
      return refused("invalid", `there are ${groupsMax} groups already, the most that an array keeps`);
    const cacheMax = this.#options.nvram.credits.groupsMax;
    if (this.#entries.size >= cacheMax)
      return refused(
        "invalid",
        `the write cache has room for ${cacheMax} groups, and they exist; give the profile a larger [cache] size`,
      );
    this.#creating.add(name);
    try {
      const { pool, hal } = this.#options;
      const identity = golden?.id ?? toHex(hal.entropy.fill(new Uint8Array(16)));
      const damaged = this.damaged.find((one) => one.id === identity);
      if (damaged !== undefined) return refused("exists", damagedText(damaged));
      // A peer calls again at once after a deletion here, and after a creation that failed half-way.
      if (pool.groupIds().includes(identity)) {
        const text = `group ${name} is just being deleted, or its creation has failed and the next start finds what there is`;
        return refused("busy", `${text}; try again`);
      }
      const document = newGroupDocument(name, golden?.replication ?? null);
      const stored = await whenAnswered<StoreError, GroupStore | null>((done) =>
        pool.createGroup(identity, document, done),
      );
      if (stored.error !== null || stored.value === null) {
        const code = stored.error?.code === "no-space" ? "no-space" : "shelf-failed";
        return refused(code, `group ${name} could not be made durable: ${stored.error?.text ?? "the pool refused"}`);
      }
      const joined = await this.#join(stored.value, { cacheTrusted: true }, false);
      if (!joined.ok) return joined;
      const entry = joined.value;
      // Whoever made a group may use it: its log is open for writing when the answer comes.
      if (golden === null) await entry.replication.until(() => entry.group.serving().writable, openLimitMs);
      return { ok: true, value: entry };
    } finally {
      this.#creating.delete(name);
    }
  }

  /** A group that comes to a running appliance. `inherits`: it was served until a moment ago. */
  async #join(store: GroupStore, found: FoundHardware, inherits: boolean): Promise<Result<GroupEntry>> {
    const trouble = await this.#open(store, found);
    if (trouble !== null) return refused("failed", trouble);
    const entry = this.#entries.get(store.id)!;
    // Before its root says anything of the cache, which has what recovery has brought into it.
    if ((await this.#persistAll()) === "failed") this.#cacheHasFailed("a persist of the write cache has failed");
    if (!this.#cacheHealthy) entry.group.writeThrough.begin();
    const error = await whenDone<StoreError>((done) => entry.group.settle(done));
    if (error !== null) {
      // What the pool holds of it is found by the next start.
      this.#entries.delete(store.id);
      entry.group.close();
      return refused("shelf-failed", error.text);
    }
    // Also when it failed meanwhile.
    if (!this.#cacheHealthy) {
      entry.group.writeThrough.begin();
      if (this.#options.hal.cache.battery() === "good") this.#cacheIsGood();
    }
    entry.replication.start(inherits);
    entry.group.room.thaw();
    return { ok: true, value: entry };
  }

  /**
   * Ends a group here without giving it up: nothing of it is under way afterwards, and the shelf has all of it (`writeThrough.holdsAll`
   * is the caller's to see to). Hosts' sessions break off, or wait for whoever serves it next.
   */
  async letGo(entry: GroupEntry): Promise<void> {
    const { group, replication } = entry;
    group.endTargets(null, "the group moves to the partner", true);
    await replication.stop(false);
    group.setServing({ writable: false, why: "the group moves to the partner", readable: null });
    this.#entries.delete(group.id);
    await this.#forgetInCache(group, () => group.log.leave());
  }

  /** Opens a group that the shelf has all of: one that has come from the partner, or that was to go to it. */
  async takeUp(id: string, inherits: boolean): Promise<Result<GroupEntry>> {
    // Of an attempt that came to nothing.
    this.#options.nvram.releaseAllOf(id);
    const stored = await whenAnswered<StoreError, GroupStore | null>((done) => this.#options.pool.openGroup(id, done));
    if (stored.error !== null || stored.value === null)
      return refused("shelf-failed", `group ${id}: ${stored.error?.text ?? "it cannot be opened"}`);
    const joined = await this.#join(stored.value, { cacheTrusted: false }, inherits);
    if (!joined.ok) return joined;
    // Hosts' commands wait for it: they are not to be told that it is not ready.
    await joined.value.replication.until(() => joined.value.replication.settled, openLimitMs);
    this.#onVolumesChanged([]);
    return joined;
  }

  /** What is under way at the store must not land on space that belongs to somebody else by then. */
  async #forgetInCache(group: Group, emptyLog: () => void): Promise<void> {
    await new Promise<void>((resolve) => group.retire(resolve));
    emptyLog();
    this.#options.nvram.credits.leave(group.id);
    this.#options.nvram.roots.forget(group.id);
    this.#cacheModeMoved();
    // Of those that are left the shelf may have everything now.
    this.onSafe();
  }

  async remove(entry: GroupEntry): Promise<Result<null>> {
    const { group, replication } = entry;
    await replication.stop(false);
    group.setServing({ writable: false, why: "the group is being deleted", readable: null });
    const gone = group.volumes();
    this.#entries.delete(group.id);
    this.#onVolumesChanged(gone);
    await this.#forgetInCache(group, () => group.log.reset([], 0));
    const error = await whenDone<StoreError>((done) => this.#options.pool.removeGroup(group.id, done));
    return error === null ? { ok: true, value: null } : refused("shelf-failed", error.text);
  }

  /** Gives up what is left of a group that could not be opened. */
  async removeDamaged(damaged: DamagedGroup): Promise<Result<null>> {
    const { pool, nvram } = this.#options;
    const error = await whenDone<StoreError>((done) => pool.removeGroup(damaged.id, done));
    if (error !== null) return refused("shelf-failed", error.text);
    nvram.releaseAllOf(damaged.id);
    nvram.credits.leave(damaged.id);
    nvram.roots.forget(damaged.id);
    this.damaged.splice(this.damaged.indexOf(damaged), 1);
    return { ok: true, value: null };
  }

  // ---------------------------------------------------------------- the battery

  get cacheHealthy(): boolean {
    return this.#cacheHealthy;
  }

  /** Write-through is on for every group, and the shelf has everything that was acknowledged. */
  get allOnShelf(): boolean {
    return !this.#cacheHealthy && this.all().every(({ writeThrough }) => writeThrough.holdsAll);
  }

  /** Follows the cache's battery: write-through before the next acknowledgement after a fault. */
  watchBattery(): void {
    const { cache } = this.#options.hal;
    cache.onBattery((state) => {
      if (state === "failed") this.#cacheHasFailed(this.#options.whyUnsafe());
      else this.#cacheIsGood();
    });
    if (cache.battery() === "failed") this.#cacheHasFailed(this.#options.whyUnsafe());
  }

  #cacheHasFailed(why: string): void {
    this.#cacheGoodRounds++;
    if (this.#cacheHealthy) {
      this.#options.events.emit(
        "cache-failed",
        `${why}: every acknowledgement waits for the shelf now (write-through)`,
      );
    }
    this.#cacheHealthy = false;
    // Also those whose write-through was about to end.
    for (const { group } of this.#entries.values()) group.writeThrough.begin();
    // Without groups there is nobody else to say so.
    if (this.allOnShelf) this.#options.hal.clock.defer(() => this.onSafe());
  }

  #persistAll(): Promise<"persisted" | "failed"> {
    const { nvram } = this.#options;
    return new Promise((resolve) =>
      nvram.persistAll((outcome) => {
        if (outcome === "failed") nvram.fail();
        resolve(outcome);
      }),
    );
  }

  #cacheIsGood(): void {
    const { nvram } = this.#options;
    if (this.#cacheHealthy || nvram.failed) return;
    const round = ++this.#cacheGoodRounds;
    nvram.persistAll((outcome) => {
      if (outcome === "failed") nvram.fail();
      if (outcome === "failed" || round !== this.#cacheGoodRounds) return;
      for (const { group } of this.#entries.values()) group.writeThrough.end(() => this.#cacheModeMoved());
      this.#cacheModeMoved();
    });
  }

  /** Write-back is back when every group is there. */
  #cacheModeMoved(): void {
    if (this.#cacheHealthy || this.#options.nvram.failed || this.#options.hal.cache.battery() === "failed") return;
    if ([...this.#entries.values()].some(({ group }) => group.writeThrough.active)) return;
    this.#cacheHealthy = true;
    this.#options.events.emit("cache-good", `${this.#options.whySafe()}: write-back`);
  }

  closeAll(): void {
    for (const { group } of this.#entries.values()) group.close();
  }
}

/** Those that a start opens: one that is leaving for the other half is nobody's before it is known where it is. */
export function groupsHere(pool: Pool): readonly string[] {
  return pool.groupClaims().flatMap(({ id, leaving }) => (leaving ? [] : [id]));
}

function isPrimary({ replication }: GroupEntry): boolean {
  return replication.document.role === "primary";
}

export function damagedText({ id, text }: DamagedGroup): string {
  return (
    `group ${id} is damaged and left out, its data untouched: ${text}; take over at its peer, then give it up here with ` +
    `goldcopy group delete ${id}`
  );
}
