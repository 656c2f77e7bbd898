/**
 * An open pool: the array's document, the groups, the slabs. Opening and creating stand in `open_pool.ts`.
 *
 * Invariants:
 * - A group exists when the pool's document names it; its root was durable before. Removing goes the other way round: first the name,
 *   then the slabs; slabs whose owner has no name are free.
 * - The pool's document is saved one version at a time; callers that come meanwhile share the next one.
 */
import type { Clock } from "../../hal/api/clock.ts";
import type { Digests } from "../../hal/api/digests.ts";
import type { DiskError } from "../../hal/api/shelf.ts";
import { assert } from "../codec/assert.ts";
import { decodeBody, encodeBody } from "./cbor_body.ts";
import type { DiskSet } from "./disk_set.ts";
import { rootSlotOffset } from "./geometry.ts";
import { decodeGroupRoot } from "./group_root.ts";
import type { MapCache } from "./map_cache.ts";
import { encodePoolDocument, type GroupPlace, type PoolDocument } from "./pool_document.ts";
import type { PoolTag, SlabTable } from "./slab_table.ts";
import { SlotPair, slotBodyBytesMax } from "./slot_pair.ts";
import type { DiskReport, GroupStore, Pool, PoolUsage, StoreDone, StoreError } from "./store.ts";
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
  #document: PoolDocument;
  #saving = false;
  #saveWaiting: StoreDone[] = [];

  constructor(parts: PoolParts, document: PoolDocument) {
    this.arrayId = parts.arrayId;
    this.arrayName = parts.arrayName;
    this.#parts = parts;
    this.#document = document;
    const known = new Set(document.groups.map((group) => group.number));
    for (let slab = 1; slab < parts.table.owner.length; slab += 1) {
      const owner = parts.table.owner[slab]!;
      if (owner !== 0 && !known.has(owner)) parts.table.giveBack(slab);
    }
  }

  arrayDocument(): unknown {
    return decodeBody(this.#document.arrayBytes)?.value;
  }

  saveArrayDocument(document: unknown, done: StoreDone): void {
    const arrayBytes = encodeBody(document);
    const next = { ...this.#document, arrayBytes };
    if (encodePoolDocument(next).byteLength > slotBodyBytesMax) {
      this.#parts.clock.defer(() =>
        done({ code: "no-space", text: `the array's document is too large (${arrayBytes.byteLength} bytes)` }),
      );
      return;
    }
    this.#document = next;
    this.#save(done);
  }

  groupIds(): readonly string[] {
    return this.#document.groups.map((group) => group.id);
  }

  createGroup(id: string, document: unknown, done: GroupDone): void {
    assert(!this.#document.groups.some((group) => group.id === id), `group ${id} exists already`);
    const { clock, disks } = this.#parts;
    const rootIndex = this.#freeRootIndex();
    if (rootIndex < 0) {
      const text = `the pool holds ${disks.geometry.groupsMax} groups, and no more fit`;
      clock.defer(() => done({ code: "no-space", text }, null));
      return;
    }
    const place: GroupPlace = { id, number: this.#document.nextGroupNumber, rootIndex };
    // Taken at once, so that two creations do not meet.
    this.#document = {
      ...this.#document,
      nextGroupNumber: place.number + 1,
      groups: [...this.#document.groups, place],
    };
    const group = new StoredGroup({ ...this.#groupParts(place) }, null);
    const giveUp = (error: StoreError, named: boolean) => {
      group.retire(error);
      this.#forget(place);
      // When the name may have become durable, its slabs stay away from others until the next start knows.
      if (!named) this.#giveBackSlabs(place);
      done(error, null);
    };
    if (!group.allocator.updatePromise()) {
      clock.defer(() => giveUp({ code: "no-space", text: "the pool has no slab left for the group's maps" }, false));
      return;
    }
    group.startLoading(null);
    group.commit(document, (error) => {
      if (error) giveUp(error, false);
      else {
        this.#save((saveError) => {
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
    const place = this.#document.groups.find((group) => group.id === id);
    const before = this.#open.get(id);
    if (before && !before.failed) {
      this.#parts.clock.defer(() => done(null, before));
      return;
    }
    if (!place) {
      this.#parts.clock.defer(() => done({ code: "unknown-version", text: `the pool has no group ${id}` }, null));
      return;
    }
    this.#open.delete(id);
    if (!before) this.#load(place, done);
    else {
      before.whenIdle(() => {
        before.retire({ code: "disk-failed", text: "the group was opened anew" });
        this.#load(place, done);
      });
    }
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
    const place = this.#document.groups.find((group) => group.id === id);
    if (!place) {
      this.#parts.clock.defer(() => done({ code: "unknown-version", text: `the pool has no group ${id}` }));
      return;
    }
    const group = this.#open.get(id);
    this.#open.delete(id);
    if (!group) this.#remove(place, done);
    else {
      group.whenIdle(() => {
        group.retire({ code: "disk-failed", text: "the group was removed" });
        this.#remove(place, done);
      });
    }
  }

  #remove(place: GroupPlace, done: StoreDone): void {
    this.#forget(place);
    this.#save((error) => {
      if (error) {
        done(error);
        return;
      }
      this.#giveBackSlabs(place);
      this.#parts.table.save((tableError) => done(tableError && diskFailed(tableError)));
    });
  }

  disks(): readonly DiskReport[] {
    return this.#parts.reports;
  }

  adoptStale(done: StoreDone): void {
    this.#parts.adoptStale((error) => done(error && diskFailed(error)));
  }

  usage(): PoolUsage {
    const { disks, table } = this.#parts;
    return {
      totalBytes: (disks.slabEnd - 1) * disks.geometry.slabBytes,
      freeBytes: table.freeCount * disks.geometry.slabBytes,
    };
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

  #freeRootIndex(): number {
    const used = new Set(this.#document.groups.map((group) => group.rootIndex));
    for (let index = 0; index < this.#parts.disks.geometry.groupsMax; index += 1) if (!used.has(index)) return index;
    return -1;
  }

  #giveBackSlabs(place: GroupPlace): void {
    const { table } = this.#parts;
    for (let slab = 1; slab < table.owner.length; slab += 1) {
      if (table.owner[slab] === place.number) table.giveBack(slab);
    }
  }

  #forget(place: GroupPlace): void {
    this.#document = {
      ...this.#document,
      groups: this.#document.groups.filter((group) => group.number !== place.number),
    };
  }

  #save(done: StoreDone): void {
    this.#saveWaiting.push(done);
    if (!this.#saving) this.#saveNext();
  }

  #saveNext(): void {
    const waiting = this.#saveWaiting;
    this.#saveWaiting = [];
    this.#saving = true;
    const generation = this.#parts.slots.generation + 1;
    const taken = this.#parts.slots.save(encodePoolDocument(this.#document), (error) => {
      this.#saving = false;
      if (error === null) this.#parts.saved?.(generation);
      for (const done of waiting) done(error && diskFailed(error));
      if (this.#saveWaiting.length > 0 && !this.#saving) this.#saveNext();
    });
    assert(taken, "the pool's document fits its slot");
  }
}

function diskFailed(error: DiskError): StoreError {
  return { code: "disk-failed", text: `pool metadata: ${error.text}` };
}
