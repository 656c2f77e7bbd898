/**
 * The group's log slots: its slabs of kind log, cut into slots of `logSlotBytes`.
 *
 * Which slots are in use is known to the log alone. On disk there is only the slab table: after a start every slot of the group's log
 * slabs counts as in use until the log has freed it. A slot that was never written holds what the slab held before, perhaps of
 * another group, perhaps an older segment of this one: the log knows its segments by their own identity and checksums.
 *
 * Invariants:
 * - A slab is the group's durably before a slot of it is handed out.
 * - A flush covers every write that had completed before it, also those that another flush, still under way, has begun to cover.
 * - An empty slab goes back to the pool, but for one that is kept so that a log at rest does not take and give back slabs.
 * - The slots that the log expects to take are free in its slabs, or promised to the group as slabs, unless the pool was too full when
 *   they were first expected; nothing is reserved for data then (`allocator.ts`).
 */
import type { Clock } from "../../hal/api/clock.ts";
import type { DiskError } from "../../hal/api/shelf.ts";
import { assert } from "../codec/assert.ts";
import type { Allocator } from "./allocator.ts";
import type { DiskSet } from "./disk_set.ts";
import { type SlabTable, slabKind } from "./slab_table.ts";
import type { LogSlot, StoreDone, StoreError } from "./store.ts";

export class LogSlots {
  readonly #disks: DiskSet;
  readonly #table: SlabTable;
  readonly #clock: Clock;
  readonly #owner: number;
  readonly #allocator: Allocator;
  /** By slab: which of its slots are in use. */
  readonly #slabs = new Map<number, boolean[]>();
  /** By disk: how many writes have completed there, and how many of them a completed flush covers. */
  readonly #writes = new Map<number, { completed: number; durable: number }>();
  #usedCount = 0;
  /** In slabs that are there. */
  #freeCount = 0;
  /** So many slots more will be wanted. */
  #expected = 0;
  #retired = false;

  constructor(options: { disks: DiskSet; table: SlabTable; clock: Clock; owner: number; allocator: Allocator }) {
    this.#disks = options.disks;
    this.#table = options.table;
    this.#clock = options.clock;
    this.#owner = options.owner;
    this.#allocator = options.allocator;
    options.allocator.setLog(() => this.#slabsNeeded());
    for (const slab of options.table.slabsOf(options.owner, slabKind.log)) this.#addSlab(slab, true);
  }

  /** Hands out no slot and gives back no slab any more: another instance, or the pool, has taken over. */
  retire(): void {
    this.#retired = true;
  }

  /** The log will want so many slots more than it has. False: the pool has not got them now. */
  expect(slotCount: number): boolean {
    this.#expected = slotCount;
    return this.#allocator.updatePromise();
  }

  get usedCount(): number {
    return this.#usedCount;
  }

  list(): LogSlot[] {
    const { slotsPerSlab } = this.#disks.geometry;
    const slots: LogSlot[] = [];
    for (const slab of [...this.#slabs.keys()].sort((a, b) => a - b)) {
      const used = this.#slabs.get(slab)!;
      for (let index = 0; index < slotsPerSlab; index += 1)
        if (used[index] === true) slots.push({ index: slab * slotsPerSlab + index });
    }
    return slots;
  }

  allocate(done: (slot: LogSlot | null) => void): void {
    if (this.#retired) {
      this.#clock.defer(() => done(null));
      return;
    }
    for (const [slab, used] of this.#slabs) {
      const index = used.indexOf(false);
      if (index < 0 || !this.#table.isPresent(slab)) continue;
      this.#hand(slab, index);
      this.#clock.defer(() => done({ index: slab * this.#disks.geometry.slotsPerSlab + index }));
      return;
    }
    // What the group's data and maps were promised is not for its log.
    const spare = this.#table.availableFor(this.#owner) - this.#allocator.slabsNeeded();
    const slab = spare > 0 ? this.#table.take(this.#owner, slabKind.log) : 0;
    if (slab === 0) {
      this.#clock.defer(() => done(null));
      return;
    }
    this.#addSlab(slab, false);
    this.#hand(slab, 0);
    this.#table.save((error) => {
      if (error) {
        this.#expected += 1;
        this.#unuse(slab, 0);
        done(null);
      } else done({ index: slab * this.#disks.geometry.slotsPerSlab });
    });
  }

  /** As `allocate`, but of what is left when all that is expected is kept. */
  allocateSpare(done: (slot: LogSlot | null) => void): void {
    if (this.expect(this.#expected + 1)) {
      this.allocate(done);
      return;
    }
    this.expect(this.#expected - 1);
    this.#clock.defer(() => done(null));
  }

  free(slot: LogSlot): void {
    const { slotsPerSlab } = this.#disks.geometry;
    this.#unuse(Math.floor(slot.index / slotsPerSlab), slot.index % slotsPerSlab);
  }

  write(slot: LogSlot, offsetBytes: number, sources: readonly Uint8Array[], done: StoreDone): void {
    const lengthBytes = sources.reduce((sum, source) => sum + source.byteLength, 0);
    const { disk, offset } = this.#placeOf(slot, offsetBytes, lengthBytes);
    this.#disks.write(disk, offset, sources, (error) => {
      const writes = this.#writes.get(disk) ?? { completed: 0, durable: 0 };
      writes.completed++;
      this.#writes.set(disk, writes);
      done(error && errorOf(error));
    });
  }

  read(slot: LogSlot, offsetBytes: number, target: Uint8Array, done: StoreDone): void {
    const { disk, offset } = this.#placeOf(slot, offsetBytes, target.byteLength);
    this.#disks.read(disk, offset, target, (error) => done(error && errorOf(error)));
  }

  flush(done: StoreDone): void {
    const open = [...this.#writes].filter(([, writes]) => writes.durable < writes.completed);
    const covered = open.map(([, writes]) => ({ writes, completed: writes.completed }));
    this.#disks.flushAll(
      open.map(([disk]) => disk),
      (error) => {
        // After an error they stay open: the next flush must not look clean because there is nothing left to flush.
        if (error === null)
          for (const { writes, completed } of covered) writes.durable = Math.max(writes.durable, completed);
        done(error && errorOf(error));
      },
    );
  }

  #addSlab(slab: number, used: boolean): void {
    const { slotsPerSlab } = this.#disks.geometry;
    this.#slabs.set(slab, new Array<boolean>(slotsPerSlab).fill(used));
    if (used) this.#usedCount += slotsPerSlab;
    else this.#freeCount += slotsPerSlab;
  }

  #hand(slab: number, index: number): void {
    this.#slabs.get(slab)![index] = true;
    this.#usedCount += 1;
    this.#freeCount -= 1;
    this.#expected = Math.max(0, this.#expected - 1);
    this.#allocator.updatePromise();
  }

  /** Slabs for what is expected beyond the free slots. */
  #slabsNeeded(): number {
    return Math.ceil(Math.max(0, this.#expected - this.#freeCount) / this.#disks.geometry.slotsPerSlab);
  }

  #unuse(slab: number, index: number): void {
    const { slotsPerSlab } = this.#disks.geometry;
    const used = this.#slabs.get(slab);
    assert(used?.[index] === true, `log slot ${slab}/${index} is not in use`);
    used[index] = false;
    this.#usedCount -= 1;
    if (this.#table.isPresent(slab)) this.#freeCount += 1;
    if (this.#retired) return;
    const spares = [...this.#slabs.values()].filter((slots) => !slots.includes(true));
    if (!used.includes(true) && spares.length > 1) {
      this.#slabs.delete(slab);
      if (this.#table.isPresent(slab)) this.#freeCount -= slotsPerSlab;
      this.#table.giveBack(slab);
    }
    this.#allocator.updatePromise();
  }

  #placeOf(slot: LogSlot, offsetBytes: number, lengthBytes: number): { disk: number; offset: number } {
    const { slotsPerSlab, logSlotBytes } = this.#disks.geometry;
    const slab = Math.floor(slot.index / slotsPerSlab);
    const inSlab = slot.index % slotsPerSlab;
    assert(this.#slabs.get(slab)?.[inSlab] === true, `log slot ${slot.index} is not in use`);
    const inside = offsetBytes >= 0 && lengthBytes >= 0 && offsetBytes + lengthBytes <= logSlotBytes;
    assert(
      inside && offsetBytes % 4096 === 0 && lengthBytes % 4096 === 0,
      "log slots are read and written in whole pages inside them",
    );
    return {
      disk: this.#disks.slabDisk[slab]!,
      offset: this.#disks.slabOffset[slab]! + inSlab * logSlotBytes + offsetBytes,
    };
  }
}

function errorOf(error: DiskError): StoreError {
  return { code: error.code === "medium" ? "medium-error" : "disk-failed", text: `log slot: ${error.text}` };
}
