/**
 * An open pool, or the half of one that is open here: the array's document, the groups, the slabs. Opening stands in `open_pool.ts`,
 * what passes between the halves in `half_space.ts` and `group_moves.ts`.
 *
 * Invariants:
 * - A group exists when the pool's document names it; its root was durable before. Removing goes the other way round: first the name,
 *   then the slabs. Slabs whose owner has no name are free in a pool with one half. In one with two they are elsewhere: the group may
 *   be the other half's (an adoption that never ended), and if it is not they come back as orphans.
 */
import type { Clock } from "../../hal/api/clock.ts";
import type { Digests } from "../../hal/api/digests.ts";
import type { DiskError } from "../../hal/api/shelf.ts";
import { assert } from "../codec/assert.ts";
import { decodeBody, encodeBody } from "./cbor_body.ts";
import type { DiskSet } from "./disk_set.ts";
import { rootSlotOffset } from "./geometry.ts";
import { claimsOf } from "./group_claims.ts";
import { GroupMoves } from "./group_moves.ts";
import { decodeGroupRoot } from "./group_root.ts";
import { HalfSpace } from "./half_space.ts";
import type { MapCache } from "./map_cache.ts";
import type { GroupPlace, PoolDocument } from "./pool_document.ts";
import { fitsSlot, PoolRecord } from "./pool_record.ts";
import { metadataFailed, type PoolTag, type SlabTable } from "./slab_table.ts";
import { SlotPair } from "./slot_pair.ts";
import type {
  DiskReport,
  GroupClaim,
  GroupParcel,
  GroupStore,
  Pool,
  PoolUsage,
  StoreDone,
  StoreError,
} from "./store.ts";
import { StoredGroup } from "./stored_group.ts";

export interface PoolParts {
  readonly arrayId: string;
  readonly arrayName: string;
  readonly clock: Clock;
  readonly digests: Digests;
  readonly disks: DiskSet;
  readonly table: SlabTable;
  readonly cache: MapCache;
  readonly slots: SlotPair;
  readonly tag: PoolTag;
  readonly reports: readonly DiskReport[];
  /** See `PoolOptions`. */
  readonly saved: ((generation: number) => void) | undefined;
  adoptStale(done: (error: DiskError | null) => void): void;
}

type GroupDone = (error: StoreError | null, group: GroupStore | null) => void;

export class StoredPool implements Pool {
  readonly arrayId: string;
  readonly arrayName: string;
  readonly #parts: PoolParts;
  readonly #open = new Map<string, StoredGroup>();
  readonly #record: PoolRecord;
  readonly #space: HalfSpace;
  readonly #moves: GroupMoves;
  /** The array's document that became durable last. */
  #arrayBytes: Uint8Array;

  constructor(parts: PoolParts, document: PoolDocument) {
    this.#arrayBytes = document.arrayBytes;
    this.arrayId = parts.arrayId;
    this.arrayName = parts.arrayName;
    this.#parts = parts;
    this.#record = new PoolRecord(parts.slots, document, parts.saved);
    const { clock, disks, table } = parts;
    this.#space = new HalfSpace(table, clock);
    const slotsOf = (place: GroupPlace) => this.#groupParts(place).slots;
    this.#moves = new GroupMoves({ clock, disks, table, record: this.#record, slotsOf });
    const known = new Set(document.groups.map((group) => group.number));
    for (let slab = 1; slab < table.owner.length; slab += 1) {
      const owner = table.owner[slab]!;
      if (owner === 0 || table.isElsewhere(slab) || known.has(owner)) continue;
      if (disks.geometry.halves === 1) table.giveBack(slab);
      else table.sendElsewhere(slab);
    }
  }

  arrayDocument(): unknown {
    return decodeBody(this.#record.document.arrayBytes)?.value;
  }

  saveArrayDocument(document: unknown, done: StoreDone): void {
    const arrayBytes = encodeBody(document);
    const next = { ...this.#record.document, arrayBytes };
    if (!fitsSlot(next)) {
      this.#parts.clock.defer(() =>
        done({ code: "no-space", text: `the array's document is too large (${arrayBytes.byteLength} bytes)` }),
      );
      return;
    }
    this.#record.document = next;
    this.#record.save((error) => {
      const { document: present } = this.#record;
      if (error === null) this.#arrayBytes = arrayBytes;
      // What the disks have is not known, and the next save settles it.
      else if (present.arrayBytes === arrayBytes) this.#record.document = { ...present, arrayBytes: this.#arrayBytes };
      done(error);
    });
  }

  groupIds(): readonly string[] {
    return this.#record.document.groups.map((group) => group.id);
  }

  createGroup(id: string, document: unknown, done: GroupDone): void {
    assert(!this.#record.document.groups.some((group) => group.id === id), `group ${id} exists already`);
    const { clock, disks } = this.#parts;
    const { document: before } = this.#record;
    const rootIndex = this.#record.freeRootIndex(disks.geometry.groupsMax);
    if (rootIndex < 0) {
      const text = `the pool holds ${disks.geometry.groupsMax} groups, and no more fit`;
      clock.defer(() => done({ code: "no-space", text }, null));
      return;
    }
    const place: GroupPlace = { id, number: before.nextGroupNumber, rootIndex, claim: 0, leaving: false };
    const nextGroupNumber = place.number + disks.geometry.halves;
    const next = { ...before, nextGroupNumber, groups: [...before.groups, place] };
    if (!fitsSlot(next)) {
      const text = "the pool's document has no room for another group; delete one, or remove a host";
      clock.defer(() => done({ code: "no-space", text }, null));
      return;
    }
    // Taken at once, so that two creations do not meet.
    this.#record.document = next;
    const group = new StoredGroup({ ...this.#groupParts(place) }, null);
    const giveUp = (error: StoreError, named: boolean) => {
      group.retire(error);
      this.#forget(place);
      // When the name may have become durable, its slabs stay away from others until the next start knows.
      if (!named) this.#giveBackSlabs(place);
      done(error, null);
    };
    if (!group.allocator.updatePromise()) {
      const text =
        "the pool has no slab for another group's maps: what is free is promised to the maps and logs of those that are there; " +
        "delete groups that are not needed, or add disks";
      clock.defer(() => giveUp({ code: "no-space", text }, false));
      return;
    }
    group.startLoading(null);
    group.commit(document, (error) => {
      if (error) giveUp(error, false);
      else {
        this.#record.save((saveError) => {
          if (saveError) giveUp(saveError, true);
          else {
            this.#open.set(id, group);
            done(null, group);
          }
        });
      }
    });
  }

  openGroup(id: string, done: GroupDone): void {
    const place = this.#record.find(id);
    const before = this.#open.get(id);
    if (before && !before.failed) {
      this.#parts.clock.defer(() => done(null, before));
      return;
    }
    const why = this.#whyUntouchable(id, place);
    if (!place || why !== null) {
      this.#parts.clock.defer(() => done(why, null));
      return;
    }
    this.#close(id, "the group was opened anew", () => this.#load(place, done));
  }

  #load(place: GroupPlace, done: GroupDone): void {
    const { id } = place;
    const parts = this.#groupParts(place);
    parts.slots.load((result) => {
      if (result.kind === "failed") {
        done({ code: "disk-failed", text: `root of group ${id}: ${result.error.text}` }, null);
        return;
      }
      const root = result.kind === "loaded" ? decodeGroupRoot(result.body) : null;
      if (!root) {
        const why = result.kind === "corrupt" ? result.text : "its content does not hold together";
        done({ code: "corrupt", text: `root of group ${id}: ${why}` }, null);
        return;
      }
      const group = new StoredGroup(parts, root);
      this.#open.set(id, group);
      group.startLoading(root);
      done(null, group);
    });
  }

  removeGroup(id: string, done: StoreDone): void {
    const place = this.#record.find(id);
    const why = this.#whyUntouchable(id, place);
    if (place && why === null) this.#close(id, "the group was removed", () => this.#remove(place, done));
    else this.#parts.clock.defer(() => done(why));
  }

  /** What keeps a group from being opened, removed or moved; null: nothing. */
  #whyUntouchable(id: string, place: GroupPlace | undefined): StoreError | null {
    if (!place) return { code: "unknown-version", text: `the pool has no group ${id}` };
    if (!place.leaving) return null;
    const text = `group ${id} is leaving for the other half; end or cancel the move, as the claims of both halves say`;
    return { code: "refused", text };
  }

  /** Retires the group's instance, if there is one, when nothing of its own is under way. */
  #close(id: string, why: string, next: () => void): void {
    const group = this.#open.get(id);
    this.#open.delete(id);
    if (!group) next();
    else {
      group.whenIdle(() => {
        group.retire({ code: "disk-failed", text: why });
        next();
      });
    }
  }

  #remove(place: GroupPlace, done: StoreDone): void {
    this.#forget(place);
    this.#record.save((error) => {
      if (error) {
        done(error);
        return;
      }
      this.#giveBackSlabs(place);
      this.#parts.table.save((tableError) => done(tableError && metadataFailed(tableError)));
    });
  }

  disks(): readonly DiskReport[] {
    return this.#parts.reports;
  }

  adoptStale(done: StoreDone): void {
    this.#parts.adoptStale((error) => done(error && metadataFailed(error)));
  }

  get slabBytes(): number {
    return this.#parts.disks.geometry.slabBytes;
  }

  usage(): PoolUsage {
    const { disks, table } = this.#parts;
    return {
      totalBytes: table.ownCount * disks.geometry.slabBytes,
      freeBytes: table.freeCount * disks.geometry.slabBytes,
      spareBytes: table.spareCount * disks.geometry.slabBytes,
    };
  }

  cede(slabCount: number, done: (error: StoreError | null, slabs: readonly number[]) => void): void {
    if (this.#refuses((error) => done(error, []))) return;
    this.#space.cede(slabCount, done);
  }

  receive(slabs: readonly number[], done: StoreDone): void {
    if (!this.#refuses(done)) this.#space.receive(slabs, done);
  }

  claims(): Uint8Array {
    return this.#space.claims();
  }

  receiveOrphans(theirClaims: Uint8Array, done: (error: StoreError | null, slabCount: number) => void): void {
    if (this.#refuses((error) => done(error, 0))) return;
    this.#space.receiveOrphans(theirClaims, done);
  }

  beginMove(id: string, done: (error: StoreError | null, parcel: GroupParcel | null) => void): void {
    if (this.#refuses((error) => done(error, null))) return;
    const place = this.#record.find(id);
    const why = this.#whyUntouchable(id, place);
    if (place && why === null) this.#close(id, "the group was moved", () => this.#moves.begin(place, done));
    else this.#parts.clock.defer(() => done(why, null));
  }

  adoptGroup(parcel: unknown, done: StoreDone): void {
    if (!this.#refuses(done)) this.#moves.adopt(parcel, done);
  }

  endMove(id: string, done: StoreDone): void {
    assert(!this.#open.has(id), `group ${id} is open here, so it has not moved`);
    if (!this.#refuses(done)) this.#moves.end(id, done);
  }

  cancelMove(id: string, done: StoreDone): void {
    if (!this.#refuses(done)) this.#moves.cancel(id, done);
  }

  groupClaims(): readonly GroupClaim[] {
    return claimsOf(this.#record.document);
  }

  /** Whether there is no other half to deal with; then `done` hears of it. */
  #refuses(done: StoreDone): boolean {
    if (this.#parts.disks.geometry.halves === 2) return false;
    const text = "the pool was made for one appliance: there is no other half to move anything to";
    this.#parts.clock.defer(() => done({ code: "refused", text }));
    return true;
  }

  /** Nothing happens by itself any more. */
  close(): void {
    for (const group of this.#open.values()) group.reaper.stop();
  }

  #groupParts(place: GroupPlace) {
    const { clock, digests, disks, table, cache, tag } = this.#parts;
    const { geometry } = disks;
    const slots = new SlotPair(disks, digests, {
      owner: place.number,
      ...tag,
      offsets: [rootSlotOffset(geometry, place.rootIndex, 0), rootSlotOffset(geometry, place.rootIndex, 1)],
    });
    return { id: place.id, number: place.number, clock, digests, disks, table, cache, slots, tag };
  }

  #giveBackSlabs(place: GroupPlace): void {
    const { table } = this.#parts;
    for (const slab of table.allSlabsOf(place.number)) table.giveBack(slab);
  }

  #forget(place: GroupPlace): void {
    this.#record.document = this.#record.withGroup(place.number, null);
  }
}
