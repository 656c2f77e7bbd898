/**
 * Counts the saves of a group's root, in the root itself and in the cache, so that an older root is not taken for the newest
 * (`cache/root_notes.ts` says how that comes about).
 *
 * Invariant: what a stale root says of images and roles is not believed, and its successors count on from the one that is lost.
 */
import type { Nvram } from "../cache/nvram.ts";
import { staleText } from "../cache/root_notes.ts";
import type { EventSink } from "../manage/events.ts";
import type { GroupStore, StoreDone, StoreError } from "../store/store.ts";

/** What the start has found of cache and shelf. */
export interface FoundHardware {
  /** The cache held what the shelf expects; otherwise nothing in it counts. */
  readonly cacheTrusted: boolean;
  /** A disk is used, on the operator's word, that lacks writes: the group counts as one whose newest writes are lost. */
  readonly diskWasStale?: boolean;
}

export class RootSaves {
  /** The root found at the start, or a disk below it, is older than what was durable. */
  readonly isStale: boolean;
  readonly #nvram: Nvram;
  readonly #store: GroupStore;
  readonly #trouble: (error: StoreError) => void;
  #number: number;

  constructor(
    options: FoundHardware & {
      readonly nvram: Nvram;
      readonly store: GroupStore;
      readonly events: EventSink;
    },
    found: { readonly name: string; readonly rootNumber: number },
    trouble: (error: StoreError) => void,
  ) {
    this.#nvram = options.nvram;
    this.#store = options.store;
    this.#trouble = trouble;
    const noted = options.cacheTrusted ? options.nvram.roots.numberOf(options.store.id) : 0;
    const rootIsOld = found.rootNumber < noted;
    this.isStale = rootIsOld || options.diskWasStale === true;
    this.#number = Math.max(found.rootNumber, noted);
    if (rootIsOld)
      options.events.emit("root-stale", `group ${found.name}: its root ${staleText}`, { group: found.name });
  }

  /** The number of the document that is going to be saved. */
  next(): number {
    return ++this.#number;
  }

  /** In a task of the store queue: one save at a time. Whoever asked for it, a save that fails is shown. */
  commit(document: unknown, done: StoreDone): void {
    this.#store.commit(document, (error) => {
      if (error === null) this.durable();
      else this.#trouble(error);
      done(error);
    });
  }

  /** The newest document is. */
  durable(): void {
    this.#nvram.roots.note(this.#store.id, this.#number);
  }
}
