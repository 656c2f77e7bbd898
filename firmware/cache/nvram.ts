/**
 * The write cache as the array uses it: a header with the nonce, and segments that are lent to the groups' logs.
 *
 * Layout: two header pages written alternately (u32 magic "GCNV", u32 crc32 of bytes 8 .. 128, u32 version, u32 segmentBytes,
 * u64 generation, u64 sizeBytes, 16B nonce, 16B array id), at byte 8,192 what was noted of roots on the shelf (`root_notes.ts`), then
 * from byte 65,536 the segments.
 *
 * Modes:
 *
 *     write-back ──(battery fails, persist fails)──▶ write-through ──(battery good again, copy complete)──▶ write-back
 *
 * Invariants:
 * - Every store into the cache's memory is declared in the same event; one persist per turn of the event loop covers all groups.
 * - A failed persist means that the cache has failed: the mode is write-through until the next start.
 */
import type { Clock } from "../../hal/api/clock.ts";
import type { Digests } from "../../hal/api/digests.ts";
import type { Hal } from "../../hal/api/hal.ts";
import type { WriteCache } from "../../hal/api/write_cache.ts";
import { assert } from "../codec/assert.ts";
import { fromHex, getU64, setU64, toHex } from "../codec/bytes.ts";
import { segmentBytesFor } from "../log/limits.ts";
import { type Region, regionOf } from "../log/record.ts";
import { CacheCredits } from "./cache_credits.ts";
import { RootNotes } from "./root_notes.ts";

const magic = 0x564e4347;
const version = 1;
const coveredBytes = 128;
const headerPageBytes = 4096;
/** Both headers. */
export const headerAreaBytes = 2 * headerPageBytes;
const segmentsAt = 65536;

/** A log that stores into the cache and wants to know when that is durable. */
export interface NvramClient {
  /** Called once per persist in which the client took part; `token` is what it gave to `wantPersist`. */
  persisted(token: number): void;
  cacheFailed(): void;
}

export type NvramHeader =
  | { readonly kind: "blank" }
  /** Something is stored where the headers are, and no header is whole. */
  | { readonly kind: "damaged" }
  | { readonly kind: "formatted"; readonly nonce: string; readonly arrayId: string }
  | { readonly kind: "refused"; readonly text: string };

export class Nvram {
  readonly region: Region;
  readonly segmentBytes: number;
  readonly segmentCount: number;
  readonly #cache: WriteCache;
  readonly #clock: Clock;
  readonly #digests: Digests;
  #generation = 0;
  #free: number[] = [];
  /** By slot: the group whose log has borrowed it. */
  readonly #borrowers: (string | null)[];
  readonly credits: CacheCredits;
  readonly roots: RootNotes;
  #failed = false;
  #wanting: NvramClient[] = [];
  #tokens: number[] = [];
  #scheduled = false;
  #room: (() => void)[] = [];

  constructor(cache: WriteCache, clock: Clock, digests: Digests) {
    this.#cache = cache;
    this.#clock = clock;
    this.#digests = digests;
    this.region = regionOf(cache.memory);
    this.segmentBytes = segmentBytesFor(cache.sizeBytes);
    this.segmentCount = Math.floor((cache.sizeBytes - segmentsAt) / this.segmentBytes);
    assert(this.segmentCount >= 2, "the cache holds at least two segments");
    this.#borrowers = new Array<string | null>(this.segmentCount).fill(null);
    this.credits = new CacheCredits(this.segmentCount);
    this.roots = new RootNotes(this.region, digests, (at, byteCount) => cache.wrote(at, byteCount));
  }

  /** A flushed medium: a batch of stores must not share a sector with an acknowledged one. */
  get flushed(): boolean {
    return this.#cache.domain === "flush";
  }

  get failed(): boolean {
    return this.#failed;
  }

  get freeSegments(): number {
    return this.#free.length;
  }

  /** How many segments the group's log may borrow now. */
  freeSegmentsFor(group: string): number {
    return this.credits.allowance(group, this.#free.length);
  }

  /** What the cache's header says. Everything else in the cache is to be believed only if the nonce is the expected one. */
  readHeader(): NvramHeader {
    const { bytes, view } = this.region;
    const isBlank = bytes.subarray(0, headerAreaBytes).every((byte) => byte === 0);
    let best: NvramHeader = { kind: isBlank ? "blank" : "damaged" };
    let bestGeneration = -1;
    for (const base of [0, headerPageBytes]) {
      if (view.getUint32(base, true) !== magic) continue;
      if (this.#digests.crc32(bytes.subarray(base + 8, base + coveredBytes)) !== view.getUint32(base + 4, true))
        continue;
      const generation = getU64(view, base + 16);
      if (!(generation > bestGeneration)) continue;
      bestGeneration = generation;
      const found = view.getUint32(base + 8, true);
      if (found !== version) {
        best = {
          kind: "refused",
          text: `the write cache has format version ${found}, this firmware knows ${version}; start the firmware that used it last`,
        };
      } else if (
        view.getUint32(base + 12, true) !== this.segmentBytes ||
        getU64(view, base + 24) !== this.#cache.sizeBytes
      ) {
        best = {
          kind: "refused",
          text: "the write cache was formatted with another size; restore the former [cache] size in the profile",
        };
      } else {
        best = {
          kind: "formatted",
          nonce: toHex(bytes.subarray(base + 32, base + 48)),
          arrayId: toHex(bytes.subarray(base + 48, base + 64)),
        };
      }
    }
    this.#generation = Math.max(0, bestGeneration);
    return best;
  }

  /** Writes the header with a new nonce and persists it. */
  writeHeader(nonce: string, arrayId: string, done: (outcome: "persisted" | "failed") => void): void {
    const { bytes, view } = this.region;
    this.#generation++;
    const base = (this.#generation % 2) * headerPageBytes;
    bytes.fill(0, base, base + headerPageBytes);
    view.setUint32(base, magic, true);
    view.setUint32(base + 8, version, true);
    view.setUint32(base + 12, this.segmentBytes, true);
    setU64(view, base + 16, this.#generation);
    setU64(view, base + 24, this.#cache.sizeBytes);
    bytes.set(fromHex(nonce), base + 32);
    bytes.set(fromHex(arrayId), base + 48);
    view.setUint32(base + 4, this.#digests.crc32(bytes.subarray(base + 8, base + coveredBytes)), true);
    this.#cache.wrote(base, headerPageBytes);
    this.#cache.persist(done);
  }

  /**
   * Persists what has been stored by now. Nothing else: what the region held at the start is durable already, and to write it again
   * in place would put acknowledged records at stake when the power goes meanwhile.
   */
  persistAll(done: (outcome: "persisted" | "failed") => void): void {
    this.#cache.persist(done);
  }

  baseOf(slot: number): number {
    return segmentsAt + slot * this.segmentBytes;
  }

  /**
   * Tells which slots recovery found in use, by group; all others are free, and what is left in them (of a group that was deleted, and
   * may come back under the same id) is never found again.
   */
  setUsed(used: ReadonlyMap<string, readonly number[]>): void {
    for (const [group, slots] of used) for (const slot of slots) this.#lend(slot, group);
    this.#free = [];
    for (let slot = this.segmentCount - 1; slot >= 0; slot--) {
      if (this.#borrowers[slot] !== null) continue;
      this.#wipeHeader(slot);
      this.#free.push(slot);
    }
  }

  /** Nothing in the cache counts any more: no segment of it may ever be found by a later recovery. */
  giveUp(): void {
    this.roots.keepOnly(new Set());
    for (let slot = 0; slot < this.segmentCount; slot++) this.#wipeHeader(slot);
  }

  /** A free slot for the group's log, or -1 when there is none that it may have. */
  allocate(group: string): number {
    return this.freeSegmentsFor(group) > 0 ? this.allocateForRecovery(group) : -1;
  }

  /** Recovery needs what the log had before, whatever the others are sure of. */
  allocateForRecovery(group: string): number {
    const slot = this.#free.pop() ?? -1;
    if (slot >= 0) this.#lend(slot, group);
    return slot;
  }

  #lend(slot: number, group: string): void {
    assert(this.#borrowers[slot] === null, "a segment is lent once");
    this.#borrowers[slot] = group;
    this.credits.took(group);
  }

  /** Gives a slot back; its header is wiped so that recovery does not take it for the log's. */
  release(slot: number): void {
    const group = this.#borrowers[slot] ?? null;
    assert(group !== null, "a segment that is given back was lent");
    this.#borrowers[slot] = null;
    this.credits.gave(group);
    this.#wipeHeader(slot);
    this.#free.push(slot);
    for (const listener of this.#room) this.#clock.defer(listener);
  }

  /** A group that nobody could open is given up: so are its segments. */
  releaseAllOf(group: string): void {
    for (const [slot, borrower] of this.#borrowers.entries()) if (borrower === group) this.release(slot);
  }

  #wipeHeader(slot: number): void {
    const base = this.baseOf(slot);
    this.region.bytes.fill(0, base, base + 64);
    this.#cache.wrote(base, 64);
  }

  /** Listeners are called (deferred) whenever a slot becomes free. */
  onRoom(listener: () => void): void {
    this.#room.push(listener);
  }

  /** Declares a store made by a log. */
  wrote(at: number, byteCount: number): void {
    this.#cache.wrote(at, byteCount);
  }

  /** One persist for everybody who asked during this turn; a client asks at most once per turn. */
  wantPersist(client: NvramClient, token: number): void {
    this.#wanting.push(client);
    this.#tokens.push(token);
    if (this.#scheduled) return;
    this.#scheduled = true;
    this.#clock.defer(this.#persistNow);
  }

  fail(): void {
    this.#failed = true;
  }

  #persistNow = (): void => {
    this.#scheduled = false;
    const clients = this.#wanting;
    const tokens = this.#tokens;
    this.#wanting = [];
    this.#tokens = [];
    this.#cache.persist((outcome) => {
      if (outcome === "failed") this.#failed = true;
      for (let index = 0; index < clients.length; index++) {
        const client = clients[index]!;
        // After a failure a later persist may seem to succeed without what the failed one left out.
        if (this.#failed) client.cacheFailed();
        else client.persisted(tokens[index]!);
      }
    });
  };
}

/** The nonce of what a cache holds; null: it holds nothing, or nothing that is whole. */
export function nonceIn({ cache, clock, digests }: Pick<Hal, "cache" | "clock" | "digests">): string | null {
  const header = new Nvram(cache, clock, digests).readHeader();
  return header.kind === "formatted" ? header.nonce : null;
}
