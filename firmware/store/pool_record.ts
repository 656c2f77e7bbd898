/**
 * The document of one half of an open pool, and its two slots on the disks.
 *
 * Invariant: it is saved one version at a time; callers that come meanwhile share the next one.
 */
import type { Digests } from "../../hal/api/digests.ts";
import { assert } from "../codec/assert.ts";
import type { DiskSet } from "./disk_set.ts";
import { poolDocumentSlotOffset } from "./geometry.ts";
import { encodePoolDocument, type GroupPlace, type PoolDocument } from "./pool_document.ts";
import { metadataFailed, type PoolTag } from "./slab_table.ts";
import { SlotPair, slotBodyBytesMax } from "./slot_pair.ts";
import type { StoreDone } from "./store.ts";

export class PoolRecord {
  document: PoolDocument;
  /** Root slots that are written before the document names their group. */
  readonly heldRoots = new Set<number>();
  readonly #slots: SlotPair;
  readonly #saved: ((generation: number) => void) | undefined;
  #saving = false;
  #waiting: StoreDone[] = [];

  /** `saved`: called with the generation of each version that has become durable. */
  constructor(slots: SlotPair, document: PoolDocument, saved: ((generation: number) => void) | undefined) {
    this.#slots = slots;
    this.#saved = saved;
    this.document = document;
  }

  find(id: string): GroupPlace | undefined {
    return this.document.groups.find((group) => group.id === id);
  }

  /** The document with this entry for the group of that number; null: without one. */
  withGroup(number: number, place: GroupPlace | null): PoolDocument {
    const { groups } = this.document;
    const own = place === null ? [] : [place];
    const isHere = groups.some((group) => group.number === number);
    const next = groups.flatMap((group) => (group.number === number ? own : [group]));
    return { ...this.document, groups: isHere ? next : [...groups, ...own] };
  }

  /** A root slot that nobody uses or holds; -1: none. */
  freeRootIndex(groupsMax: number): number {
    const used = new Set([...this.heldRoots, ...this.document.groups.map((group) => group.rootIndex)]);
    for (let index = 0; index < groupsMax; index += 1) if (!used.has(index)) return index;
    return -1;
  }

  /** Makes the present document durable. */
  save(done: StoreDone): void {
    this.#waiting.push(done);
    if (!this.#saving) this.#saveNext();
  }

  #saveNext(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    this.#saving = true;
    const generation = this.#slots.generation + 1;
    const taken = this.#slots.save(encodePoolDocument(this.document), (error) => {
      this.#saving = false;
      if (error === null) this.#saved?.(generation);
      for (const done of waiting) done(error && metadataFailed(error));
      if (this.#waiting.length > 0 && !this.#saving) this.#saveNext();
    });
    assert(taken, "the pool's document fits its slot");
  }
}

export function fitsSlot(document: PoolDocument): boolean {
  return encodePoolDocument(document).byteLength <= slotBodyBytesMax;
}

/** The slots of the document of the half that `disks` belongs to. */
export function documentSlots(disks: DiskSet, digests: Digests, tag: PoolTag): SlotPair {
  const { geometry } = disks;
  const offsets = [poolDocumentSlotOffset(geometry, 0), poolDocumentSlotOffset(geometry, 1)] as const;
  return new SlotPair(disks, digests, { owner: 0, ...tag, offsets });
}
