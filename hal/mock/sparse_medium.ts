/**
 * The bytes of one simulated disk: sparse 4 KiB pages, what is read now beside what would survive a power loss.
 *
 * Invariants:
 * - A page's buffer never changes once it is in a map: versions can be kept by reference.
 * - `#volatile` has an entry exactly for the pages whose durable content differs, or may differ, from what is read now.
 */
import type { Prng } from "./prng.ts";
import { decideSectors, type Temper } from "./sector_fates.ts";

export const pageBytes = 4096;
/** Pages written together share one buffer of at most this. */
const sharedBytesMax = 65536;

const zeroPage = new Uint8Array(pageBytes);

interface VolatilePage {
  durable: Uint8Array;
  /** The versions that flushes under way are making durable. */
  flushing: Uint8Array[];
  /** Whose write it was last. */
  writer: string;
  /** A later flush will make it durable; false after a failed flush, which leaves the old content behind. */
  dirty: boolean;
}

/** What a flush covers: the pages, as they were when it was called. */
export type FlushCapture = ReadonlyMap<number, Uint8Array>;

export interface MediumImage {
  readonly pages: ReadonlyMap<number, Uint8Array>;
}

export class SparseMedium {
  readonly sizeBytes: number;
  #pages = new Map<number, Uint8Array>();
  #volatile = new Map<number, VolatilePage>();

  constructor(sizeBytes: number) {
    this.sizeBytes = sizeBytes;
  }

  /** Pages that take space. */
  get pageCount(): number {
    return this.#pages.size;
  }

  hasPage(offsetBytes: number): boolean {
    return this.#pages.has(Math.floor(offsetBytes / pageBytes));
  }

  read(offsetBytes: number, target: Uint8Array): void {
    let page = offsetBytes / pageBytes;
    for (let at = 0; at < target.byteLength; at += pageBytes, page++) {
      const content = this.#pages.get(page);
      if (content === undefined) target.fill(0, at, at + pageBytes);
      else target.set(content, at);
    }
  }

  /** `bytes` is the medium's from now on. */
  write(offsetBytes: number, bytes: Uint8Array, writer: string): void {
    for (let at = 0; at < bytes.byteLength; at += sharedBytesMax) {
      // A page that lives on must not keep a megabyte alive.
      const shared = bytes.byteLength <= sharedBytesMax ? bytes : bytes.slice(at, at + sharedBytesMax);
      for (let inside = 0; inside < shared.byteLength; inside += pageBytes) {
        this.#setPage((offsetBytes + at + inside) / pageBytes, shared.subarray(inside, inside + pageBytes), writer);
      }
    }
  }

  /**
   * From here on a flush is under way. It also covers what an earlier flush, still under way, has begun with: the one that ends first
   * makes it durable.
   */
  captureFlush(): FlushCapture {
    const capture = new Map<number, Uint8Array>();
    for (const [page, entry] of this.#volatile) {
      if (entry.dirty) entry.flushing.push(this.#content(page));
      const newest = entry.flushing.at(-1);
      if (newest !== undefined) capture.set(page, newest);
      entry.dirty = false;
    }
    return capture;
  }

  /** The flush is done, for good (`kept`) or with an error: then the old content stays, and nobody will write these pages again. */
  completeFlush(capture: FlushCapture, kept: boolean): void {
    for (const [page, content] of capture) {
      const entry = this.#volatile.get(page);
      const at = entry?.flushing.indexOf(content) ?? -1;
      if (entry === undefined || at < 0) continue;
      // What is durable now supersedes the versions of earlier flushes that are still under way.
      if (kept) entry.flushing.splice(0, at + 1);
      else entry.flushing.splice(at, 1);
      if (!kept) continue;
      entry.durable = content;
      if (!entry.dirty && entry.flushing.length === 0 && this.#content(page) === content) this.#volatile.delete(page);
    }
  }

  /** Decides all that is not durable, of one writer or of all (null). */
  losePower(prng: Prng, temper: Temper, writer: string | null): void {
    for (const [page, entry] of this.#volatile) {
      if (writer !== null && entry.writer !== writer) continue;
      const content = new Uint8Array(pageBytes);
      decideSectors(prng, temper, [entry.durable, ...entry.flushing, this.#content(page)], content);
      this.#pages.set(page, content);
      this.#volatile.delete(page);
    }
  }

  /** Gives pages back. What is read there later is anything: zeros, the old content, or garbage. */
  discard(offsetBytes: number, lengthBytes: number, prng: Prng): void {
    const kind = prng.below(4);
    for (let page = offsetBytes / pageBytes; page < (offsetBytes + lengthBytes) / pageBytes; page++) {
      if (kind === 2 || !this.#pages.has(page)) continue;
      if (kind === 3) this.#pages.set(page, prng.fill(new Uint8Array(pageBytes)));
      else this.#pages.delete(page);
      this.#volatile.delete(page);
    }
  }

  /** Bit rot: what is read and what is durable change together. `bit` is 0 to 7. */
  flipBit(offsetBytes: number, bit: number): void {
    const page = Math.floor(offsetBytes / pageBytes);
    const rotted = this.#content(page).slice();
    rotted[offsetBytes % pageBytes]! ^= 1 << bit;
    this.#pages.set(page, rotted);
    const entry = this.#volatile.get(page);
    if (entry !== undefined) entry.durable = rotted;
  }

  /** The offset of a byte in a page that holds something; null when the medium is blank. */
  someOffset(prng: Prng): number | null {
    if (this.#pages.size === 0) return null;
    let skip = prng.below(this.#pages.size);
    for (const page of this.#pages.keys()) if (skip-- === 0) return page * pageBytes + prng.below(pageBytes);
    return null;
  }

  /** All that is read now, as durable content: a copy of the disk. Costs no copying of pages. */
  image(): MediumImage {
    return { pages: new Map(this.#pages) };
  }

  restore(image: MediumImage): void {
    this.#pages = new Map(image.pages);
    this.#volatile = new Map();
  }

  #content(page: number): Uint8Array {
    return this.#pages.get(page) ?? zeroPage;
  }

  #setPage(page: number, content: Uint8Array, writer: string): void {
    const entry = this.#volatile.get(page);
    if (entry === undefined) {
      this.#volatile.set(page, { durable: this.#content(page), flushing: [], writer, dirty: true });
    } else {
      entry.dirty = true;
      entry.writer = writer;
    }
    this.#pages.set(page, content);
  }
}
