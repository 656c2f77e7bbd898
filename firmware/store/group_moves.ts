/**
 * Moves a group from one half of a pool to the other. Its data, maps and log stay where they are; what moves is who writes them.
 *
 *     the half that has it                              the other half
 *     claim c
 *       beginMove: leaving, claim c + 1 ──parcel, c + 2──▶ adoptGroup: its slabs are the group's in this table,
 *                                                          the root is in a slot of this half,
 *                                                          the document names the group with c + 2: it is moved
 *       endMove: no entry, slabs elsewhere ◀───────────────
 *       cancelMove: claim c + 3   (the other half has not got it, and will not take the parcel any more)
 *
 * Invariants:
 * - At any crash the half with the higher claim has the group, and everything that it needs is durable there: c + 1 alone, c + 1
 *   against c + 2, c + 2 alone, c + 3 alone. A parcel that came late nevertheless, or whose name was not durable for certain (c + 2
 *   against c + 3), loses: a start compares the claims before it opens anything (`manage/moved_on.ts`).
 * - The slabs are the group's in the table of the half that leaves until the other one is known to have it.
 * - Slabs whose owner the document does not name are elsewhere (`stored_pool.ts`): what an adoption that never ended leaves behind. In
 *   memory they stay the group's while its name may be on a disk, and are elsewhere before another parcel of it is judged.
 * - A group that has left is taken back only when nothing of its leaving is under way here.
 * - A root's generation only grows, through whichever half: an older root in a slot of this half is never taken for the newest.
 */
import type { Clock } from "../../hal/api/clock.ts";
import type { DiskSet } from "./disk_set.ts";
import { decodeGroupRoot } from "./group_root.ts";
import { type ReadParcel, readParcel, slabList } from "./move_parcel.ts";
import { type GroupPlace, isOwnNumber } from "./pool_document.ts";
import { fitsSlot, type PoolRecord } from "./pool_record.ts";
import { metadataFailed, type SlabTable, slabKind } from "./slab_table.ts";
import type { SlotPair } from "./slot_pair.ts";
import type { GroupParcel, StoreDone, StoreError } from "./store.ts";

interface MoveParts {
  readonly clock: Clock;
  readonly disks: DiskSet;
  readonly table: SlabTable;
  readonly record: PoolRecord;
  slotsOf(place: GroupPlace): SlotPair;
}

const noRoom: StoreError = {
  code: "no-space",
  text: "the pool's document has no room for the move; remove a group, or make the array's document smaller",
};

export class GroupMoves {
  readonly #parts: MoveParts;
  /** Numbers of the groups that are being adopted. */
  readonly #arriving = new Set<number>();
  /** And of those whose entry is being taken out. */
  readonly #ending = new Set<number>();

  constructor(parts: MoveParts) {
    this.#parts = parts;
  }

  /** The group is closed. */
  begin(place: GroupPlace, done: (error: StoreError | null, parcel: GroupParcel | null) => void): void {
    const { clock, table, record } = this.#parts;
    const leaving: GroupPlace = { ...place, claim: place.claim + 1, leaving: true };
    // In memory at once, so that nobody opens it meanwhile.
    if (!this.#put(leaving)) {
      clock.defer(() => done(noRoom, null));
      return;
    }
    const giveUp = (error: StoreError) => {
      record.document = record.withGroup(place.number, place);
      done(error, null);
    };
    const slots = this.#parts.slotsOf(place);
    slots.load((result) => {
      if (result.kind === "failed") giveUp(metadataFailed(result.error));
      else if (result.kind === "corrupt" || !decodeGroupRoot(result.body)) {
        giveUp({
          code: "corrupt",
          text: `root of group ${place.id}: it does not hold together, so it cannot be moved`,
        });
      } else {
        table.save((tableError) => {
          if (tableError) giveUp(metadataFailed(tableError));
          else {
            record.save((error) => {
              if (error) giveUp(error);
              else done(null, this.#parcelOf(leaving, slots.generation, result.bodyBytes));
            });
          }
        });
      }
    });
  }

  adopt(value: unknown, done: StoreDone): void {
    const { clock, disks, record } = this.#parts;
    const read = readParcel(value, disks.geometry, disks.slabEnd);
    const refuse = (error: StoreError) => clock.defer(() => done(error));
    if (typeof read === "string") {
      refuse({ code: "corrupt", text: `the parcel of a group is refused: ${read}` });
      return;
    }
    const { parcel } = read;
    const here = record.find(parcel.id);
    if (here?.number === parcel.number && here.claim === parcel.claim && !here.leaving) {
      record.save(done);
      return;
    }
    if (this.#leftOver(parcel.number).length > 0) {
      this.#dropLeftOver(parcel.number, (error) => (error ? done(error) : this.adopt(value, done)));
      return;
    }
    const why = this.#whyNot(read);
    if (why !== null) {
      refuse({ code: "refused", text: `group ${parcel.id} is not taken: ${why}` });
      return;
    }
    const { groupsMax } = disks.geometry;
    const rootIndex = record.freeRootIndex(groupsMax);
    const place = { id: parcel.id, number: parcel.number, rootIndex, claim: parcel.claim, leaving: false };
    if (rootIndex < 0) refuse({ code: "no-space", text: `this half holds ${groupsMax} groups, and no more fit` });
    else if (!fitsSlot(record.withGroup(place.number, place))) refuse(noRoom);
    else this.#take(place, read, done);
  }

  /** Slabs in memory of an adoption that has failed: the group may have given some up since, and taken others. */
  #leftOver(number: number): readonly number[] {
    const { table, record } = this.#parts;
    const isKnown = this.#arriving.has(number) || this.#ending.has(number);
    if (isKnown || record.document.groups.some((group) => group.number === number)) return [];
    return table.allSlabsOf(number);
  }

  /** When no disk names the group for certain. */
  #dropLeftOver(number: number, done: StoreDone): void {
    const { table, record } = this.#parts;
    record.save((error) => {
      if (!error) for (const slab of this.#leftOver(number)) table.sendElsewhere(slab);
      done(error);
    });
  }

  /** Slabs, root, name: each durable before the next. */
  #take(place: GroupPlace, { parcel, slabs }: ReadParcel, done: StoreDone): void {
    const { table, record } = this.#parts;
    record.heldRoots.add(place.rootIndex);
    this.#arriving.add(place.number);
    for (const { slab, kind } of slabs) table.adopt(slab, place.number, kind);
    const end = (error: StoreError | null) => {
      record.heldRoots.delete(place.rootIndex);
      this.#arriving.delete(place.number);
      done(error);
    };
    const giveUp = (error: StoreError) => {
      for (const { slab } of slabs) table.sendElsewhere(slab);
      end(error);
    };
    const writeName = () => {
      if (!this.#put(place)) {
        giveUp(noRoom);
        return;
      }
      record.save((error) => {
        if (error === null) {
          end(null);
          return;
        }
        record.document = record.withGroup(place.number, null);
        // One disk may have the name. If it stays the slabs stay the group's: whoever reads the disks finds both or neither.
        record.save((again) => (again ? end(error) : giveUp(error)));
      });
    };
    table.save((tableError) => {
      if (tableError) {
        giveUp(metadataFailed(tableError));
        return;
      }
      const slots = this.#parts.slotsOf(place);
      slots.startAbove(parcel.generation);
      slots.save(parcel.root, (rootError) => {
        if (rootError) giveUp(metadataFailed(rootError));
        else writeName();
      });
    });
  }

  end(id: string, done: StoreDone): void {
    const { table, record } = this.#parts;
    const place = record.find(id);
    if (place) {
      this.#ending.add(place.number);
      record.document = record.withGroup(place.number, null);
    }
    record.save((error) => {
      if (place) this.#ending.delete(place.number);
      if (error) {
        if (place) record.document = record.withGroup(place.number, place);
        done(error);
        return;
      }
      if (place) for (const slab of table.allSlabsOf(place.number)) table.sendElsewhere(slab);
      table.save((tableError) => done(tableError && metadataFailed(tableError)));
    });
  }

  cancel(id: string, done: StoreDone): void {
    const { clock, record } = this.#parts;
    const place = record.find(id);
    if (!place?.leaving) {
      const text = `group ${id} is not leaving, so there is no move to cancel`;
      clock.defer(() => done({ code: "refused", text }));
      return;
    }
    // One above the parcel's.
    if (!this.#put({ ...place, claim: place.claim + 2, leaving: false })) {
      clock.defer(() => done(noRoom));
      return;
    }
    record.save((error) => {
      if (error) record.document = record.withGroup(place.number, place);
      done(error);
    });
  }

  /** False: it does not fit. */
  #put(place: GroupPlace): boolean {
    const { record } = this.#parts;
    const next = record.withGroup(place.number, place);
    if (!fitsSlot(next)) return false;
    record.document = next;
    return true;
  }

  #parcelOf({ id, number, claim }: GroupPlace, generation: number, root: Uint8Array): GroupParcel {
    const { table } = this.#parts;
    return {
      id,
      number,
      claim: claim + 1,
      generation,
      root: root.slice(),
      dataSlabs: slabList(table.slabsOf(number, slabKind.data)),
      mapSlabs: slabList(table.slabsOf(number, slabKind.map)),
      logSlabs: slabList(table.slabsOf(number, slabKind.log)),
    };
  }

  /** What speaks against a parcel that holds together; null: nothing. */
  #whyNot({ parcel, slabs }: ReadParcel): string | null {
    const { disks, table, record } = this.#parts;
    const { id, number, claim } = parcel;
    const here = record.document.groups.find((group) => group.id === id || group.number === number);
    if (here?.id === id && here.number === number) {
      if (here.claim > claim) return `this half has it with the later claim ${here.claim}, the parcel's is ${claim}`;
      return "it has not left this half yet; end the former move first";
    }
    if (here) return `this half has group ${here.id} with number ${here.number}`;
    if (this.#arriving.has(number)) return "it is being taken already; wait for that to end";
    if (this.#ending.has(number)) return "it is just leaving this half; wait for that to end";
    if (isOwnNumber(disks.geometry, number) && number >= record.document.nextGroupNumber)
      return `this half has never given a group the number ${number}`;
    const unfit = slabs.find(({ slab }) => !table.isElsewhere(slab));
    return unfit ? `slab ${unfit.slab} is not the other half's` : null;
  }
}
