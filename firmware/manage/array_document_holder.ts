/**
 * The array's document as one half of it goes by it, and its way to the shelf.
 *
 * Invariants:
 * - What could not be saved is not gone by: the document is again the one that the pool goes on with, unless a newer one is on its way.
 * - Hosts and reservations leave room in the pool's slot for what must not fail: the caches' nonces, and groups that are made or come.
 */
import { encodeBody } from "../store/cbor_body.ts";
import { rootSlotBytes } from "../store/geometry.ts";
import type { Pool, StoreError } from "../store/store.ts";
import { type ArrayDocument, readArrayDocument } from "./array_document.ts";

/** The nonces take less than 1 KiB, 64 groups that have moved less than 4 KiB. */
const roomBytes = 16 * 1024;
const documentBytesMax = rootSlotBytes - roomBytes;

export class ArrayDocumentHolder {
  #document: ArrayDocument;
  readonly #pool: Pool;

  constructor(pool: Pool, document: ArrayDocument) {
    this.#pool = pool;
    this.#document = document;
  }

  get document(): ArrayDocument {
    return this.#document;
  }

  /** The document is gone by at once, and durable when this resolves. */
  save(document: ArrayDocument): Promise<StoreError | null> {
    // One that is too large already, from before there was this bound, may become smaller.
    if (sizeOf(document) > documentBytesMax && commandedBytes(document) > commandedBytes(this.#document)) {
      const text = `the array's hosts and reservations need more than the ${documentBytesMax} bytes that it keeps; remove a host`;
      return Promise.resolve({ code: "no-space", text });
    }
    this.#document = document;
    return new Promise((resolve) =>
      this.#pool.saveArrayDocument(document, (error) => {
        if (error !== null && this.#document === document) this.#takeBack();
        resolve(error);
      }),
    );
  }

  #takeBack(): void {
    const present = readArrayDocument(this.#pool.arrayDocument());
    if (typeof present !== "string") this.#document = present;
  }
}

function sizeOf(value: unknown): number {
  return encodeBody(value).byteLength;
}

function commandedBytes({ hosts, reservations }: ArrayDocument): number {
  return sizeOf({ hosts, reservations });
}
