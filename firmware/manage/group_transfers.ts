/**
 * A group's way from one half of an array to the other, as the firmware of a half sees it: giving (prepare, begin, then end or cancel)
 * and taking (adopt). What carries it between the halves, and keeps hosts waiting meanwhile, is `pair/group_mover.ts`.
 *
 *     served ──prepare──▶ served, write-through: the shelf has all ──begin──▶ leaving: nobody has it open ──end──▶ gone
 *        ▲                   │ abandon                                         │ cancel
 *        └───────────────────┴─────────────────────────────────────────────────┘
 *
 * Invariants:
 * - The other half opens the group from the shelf alone: before it leaves, everything acknowledged is there.
 * - Mappings and reservations of the group's volumes are in the document of the half that takes it before the group is, in place of
 *   whatever that half still had of them; a half that has not got the group, or not any more, keeps none of them.
 * - Whoever hears that a group has been taken has been told of its volumes before: a host that goes on then finds its logical unit.
 */
import type { Clock } from "../../hal/api/clock.ts";
import { whenAnswered, whenDone } from "../codec/promised.ts";
import type { GroupClaim, GroupParcel, Pool, StoreError } from "../store/store.ts";
import type { Group } from "../volume/group.ts";
import type { ArrayDocument } from "./array_document.ts";
import { type Belongings, belongingsOf, nothing, type VolumeNames, withBelongings } from "./belongings.ts";
import { done, type Result, refused } from "./control.ts";
import type { GroupEntry, GroupRegistry } from "./groups.ts";
import { fromWire, toWire, type WireParcel } from "./parcel_wire.ts";

/** What goes with a group, as JSON. Without `uuids` (none) from a partner that is older than these: it names those with reservations. */
export interface Transfer extends VolumeNames, Belongings {
  readonly parcel: WireParcel;
  /** Hosts could write to it until now. */
  readonly wasServed: boolean;
}

export interface GroupTransfersParts {
  readonly clock: Clock;
  /** So long after hosts could write to a group it goes on without asking its peers (L4), ms. */
  readonly inheritMs: number;
  readonly pool: Pool;
  readonly groups: GroupRegistry;
  document(): ArrayDocument;
  save(document: ArrayDocument): Promise<StoreError | null>;
  /** Nobody is to go on with what is known of these volumes (UUIDs): they have gone, or come with what the document has of them. */
  forgetUnits(uuids: readonly string[]): void;
  /** What hosts may see has changed. */
  changed(): void;
}

/**
 * So long what hosts have written since `prepare` may take to come home: 1 to 21 ms for up to 1,600 records of 4 KiB. The other half would
 * read them in the log, with the rest of their segments: 10 to 40 ms for each 4 MiB.
 */
const homeMs = 100;
/** How often it is looked whether the shelf has everything. */
const lookMs = 5;

export class GroupTransfers {
  readonly #parts: GroupTransfersParts;
  /** By id: until when a group that has left, and was served, goes on as if it had not, when it comes back. */
  readonly #servedUntilMs = new Map<string, number>();
  /** Groups that are just coming, by their id, and their volumes: what belongs to those is here before they are. */
  readonly #coming = new Map<string, VolumeNames>();
  /** Groups that are this half's and could not be opened, by their id. */
  readonly #closed = new Set<string>();
  /** The document may have something of volumes that have gone, and whose names nobody knows any more. */
  #hasStrangers = false;

  constructor(parts: GroupTransfersParts) {
    this.#parts = parts;
  }

  /** UUIDs of the group's volumes, when the shelf has everything of it, and goes on having it. Hosts go on meanwhile. */
  async prepare(name: string, timeoutMs: number): Promise<Result<readonly string[]>> {
    const { groups, clock } = this.#parts;
    const entry = groups.find(name);
    if (entry === null) return refused("not-found", `there is no group ${name}; see: goldcopy group list`);
    if (this.#coming.has(entry.group.id))
      return refused("busy", `group ${name} is just coming from the partner; ask again in a moment`);
    if (entry.replication.status().operation !== null)
      return refused("busy", `another operation of group ${name} is running; wait for its end`);
    entry.group.writeThrough.keep();
    const latestMs = clock.nowMs() + timeoutMs;
    // What is at home the other half need not read in the log.
    let isHome = false;
    entry.group.destager.drain(() => {
      isHome = true;
    });
    while (!isHome || !entry.group.writeThrough.holdsAll) {
      if (clock.nowMs() >= latestMs) {
        this.abandon(name);
        return refused(
          "not-drained",
          `the shelf did not take everything of group ${name} in time; it stays where it is`,
        );
      }
      await new Promise<void>((resolve) => clock.after(lookMs, resolve));
    }
    return done(entry.group.volumes().map(({ uuid }) => uuid));
  }

  /** After `prepare`: it stays. */
  abandon(name: string): void {
    this.#parts.groups.find(name)?.group.writeThrough.release();
  }

  /** Ends the group here, with its hosts waiting; nobody has it open afterwards. */
  async begin(name: string): Promise<Result<{ readonly id: string; readonly transfer: Transfer }>> {
    const { groups, pool, document } = this.#parts;
    const entry = groups.find(name);
    if (entry === null) return refused("not-found", `group ${name} has gone meanwhile`);
    await this.#emptyLog(entry.group);
    if (groups.find(name) !== entry) return refused("not-found", `group ${name} has gone meanwhile`);
    if (!entry.group.writeThrough.holdsAll)
      return refused("busy", `the shelf has not everything of group ${name} any more`);
    const { id } = entry.group;
    const volumes = entry.group.volumes();
    const names = { volumes: volumes.map(({ name }) => name), uuids: volumes.map(({ uuid }) => uuid) };
    const wasServed = entry.replication.role.is("serving");
    if (wasServed) this.#servedUntilMs.set(id, this.#inheritsUntilMs());
    await groups.letGo(entry);
    // Until now its volumes could be mapped.
    const transfer = { ...names, ...belongingsOf(document(), names), wasServed };
    const begun = await whenAnswered<StoreError, GroupParcel | null>((answer) => pool.beginMove(id, answer));
    if (begun.error !== null || begun.value === null) {
      const why = begun.error?.text ?? "the pool has no parcel";
      await this.#comeBack(id);
      return refused("shelf-failed", `group ${name} could not leave, and stays: ${why}`);
    }
    const parcel = toWire(begun.value);
    if (parcel === null) {
      await this.cancel(id);
      return refused("invalid", `group ${name} has more slabs than can be told the other half; failover moves it`);
    }
    return done({ id, transfer: { ...transfer, parcel } });
  }

  /**
   * What is committed goes home, and its segments leave the log but for those that a peer needs: whoever opens the group next reads the
   * others alone. What has not come home after `homeMs` stays in the log.
   */
  #emptyLog(group: Group): Promise<void> {
    const { clock } = this.#parts;
    return new Promise((resolve) => {
      let isLate = false;
      const limit = clock.after(homeMs, () => {
        isLate = true;
        resolve();
      });
      group.destager.drain(() => {
        if (isLate) return;
        limit.cancel();
        group.log.list.seal();
        group.room.reclaim();
        group.settle(() => resolve());
      });
    });
  }

  /** The group has come from the other half. */
  async adopt(transfer: Transfer): Promise<Result<GroupEntry>> {
    const id = String(transfer.parcel["id"]);
    const uuids = [...new Set([...transfer.uuids, ...Object.keys(transfer.reservations)])];
    const names = { volumes: transfer.volumes, uuids };
    this.#coming.set(id, names);
    try {
      return await this.#adopt(id, transfer, names);
    } finally {
      this.#coming.delete(id);
    }
  }

  async #adopt(id: string, transfer: Transfer, names: VolumeNames): Promise<Result<GroupEntry>> {
    const { pool, document, save, clock, forgetUnits } = this.#parts;
    const inheritsUntilMs = transfer.wasServed ? this.#inheritsUntilMs() : Number.NEGATIVE_INFINITY;
    const before = document();
    const missing = transfer.mappings.find(({ host }) => !before.hosts.some(({ name }) => name === host));
    if (missing !== undefined)
      return refused("not-found", `host ${missing.host} is not known to the other half; remove it and add it again`);
    const saved = await save(withBelongings(before, names, transfer));
    if (saved !== null) return refused(codeOf(saved), saved.text);
    const adopted = await whenDone<StoreError>((answer) => pool.adoptGroup(fromWire(transfer.parcel), answer));
    if (adopted !== null) {
      this.#coming.delete(id);
      await this.forget(names);
      return refused(codeOf(adopted), adopted.text);
    }
    forgetUnits(names.uuids);
    return this.#takeUp(id, clock.nowMs() <= inheritsUntilMs);
  }

  /** The other half has it. `names`: its volumes, or none where that is not known any more. */
  async end(id: string, names: VolumeNames): Promise<Result<null>> {
    const { pool } = this.#parts;
    const ended = await whenDone<StoreError>((answer) => pool.endMove(id, answer));
    if (ended !== null) return refused("shelf-failed", ended.text);
    this.#servedUntilMs.delete(id);
    if (names.volumes.length > 0) await this.forget(names);
    else await this.forgetStrangers();
    this.#parts.changed();
    return done(null);
  }

  /** The other half has not got it, and will not take it any more. */
  async cancel(id: string): Promise<Result<GroupEntry>> {
    const { pool } = this.#parts;
    const cancelled = await whenDone<StoreError>((answer) => pool.cancelMove(id, answer));
    if (cancelled !== null) return refused("shelf-failed", cancelled.text);
    return this.#comeBack(id);
  }

  #comeBack(id: string): Promise<Result<GroupEntry>> {
    const untilMs = this.#servedUntilMs.get(id) ?? Number.NEGATIVE_INFINITY;
    this.#servedUntilMs.delete(id);
    return this.#takeUp(id, this.#parts.clock.nowMs() <= untilMs);
  }

  #inheritsUntilMs(): number {
    return this.#parts.clock.nowMs() + this.#parts.inheritMs;
  }

  async #takeUp(id: string, inherits: boolean): Promise<Result<GroupEntry>> {
    this.#closed.delete(id);
    const taken = await this.#parts.groups.takeUp(id, inherits);
    if (!taken.ok) this.#closed.add(id);
    // Both appliances' front ends know where its volumes are before they hear that hosts need not wait any more.
    this.#parts.changed();
    return taken;
  }

  /** Opens what could not be opened when it came, or stayed: a disk may answer again; and puts in order what is left. Called now and then. */
  async openClosed(): Promise<void> {
    const { pool } = this.#parts;
    for (const id of [...this.#closed]) {
      if (pool.groupIds().includes(id)) await this.#takeUp(id, false);
      else this.#closed.delete(id);
    }
    if (this.#hasStrangers) await this.forgetStrangers();
  }

  /** What belonged to volumes that no group of this half has: at once, or when `openClosed` finds that all of its volumes are known. */
  async forgetStrangers(): Promise<void> {
    const { groups, document } = this.#parts;
    const open = groups.entries();
    const areOpen = this.claims().every((claim) => !claim.leaving && open.some(({ group }) => group.id === claim.id));
    // Some are in the log alone, and a start does not know at once whether they are committed.
    this.#hasStrangers = !areOpen || !open.every(({ replication }) => replication.role.is("serving", "following"));
    if (this.#hasStrangers) return;
    const { hosts, reservations } = document();
    const volumes = hosts.flatMap(({ mappings }) => mappings.map(({ volume }) => volume));
    await this.forget({ volumes, uuids: Object.keys(reservations) });
  }

  claims(): readonly GroupClaim[] {
    return this.#parts.pool.groupClaims();
  }

  /** What belonged to volumes that have gone, or have not come. Those that are here, or are coming, keep it. */
  async forget({ volumes, uuids }: VolumeNames): Promise<void> {
    const { document, save, groups, forgetUnits } = this.#parts;
    const coming = [...this.#coming.values()];
    const here = new Set(groups.all().flatMap((group) => group.volumes().map(({ uuid }) => uuid)));
    const gone = {
      volumes: volumes.filter(
        (name) => groups.findVolume(name) === null && !coming.some((names) => names.volumes.includes(name)),
      ),
      uuids: uuids.filter((uuid) => !here.has(uuid) && !coming.some((names) => names.uuids.includes(uuid))),
    };
    forgetUnits(gone.uuids);
    const before = document();
    const { mappings, reservations } = belongingsOf(before, gone);
    if (mappings.length === 0 && Object.keys(reservations).length === 0) return;
    await save(withBelongings(before, gone, nothing));
  }
}

function codeOf({ code }: StoreError): "no-space" | "shelf-failed" {
  return code === "no-space" ? code : "shelf-failed";
}
