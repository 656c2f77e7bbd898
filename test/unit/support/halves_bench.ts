/**
 * A pool of two halves on simulated disks, each half opened by an appliance of its own, and the caller's part of what passes between
 * them. Every write of a half that is open is judged: it lies in the half's own metadata, or in a slab that its table has.
 */
import * as assert from "uvu/assert";
import { decodeBody, encodeBody } from "../../../firmware/store/cbor_body.ts";
import {
  type Geometry,
  geometryOf,
  type Half,
  heartbeatOffset,
  superblockOffset,
} from "../../../firmware/store/geometry.ts";
import { readGroupClaims } from "../../../firmware/store/group_claims.ts";
import { type OpenResult, openPool } from "../../../firmware/store/open_pool.ts";
import type { GroupClaim, GroupParcel, GroupStore, Pool, StoreError } from "../../../firmware/store/store.ts";
import type { StoredGroup } from "../../../firmware/store/stored_group.ts";
import { decodeSuperblock } from "../../../firmware/store/superblock.ts";
import type { Hal } from "../../../hal/api/hal.ts";
import type { Disk, Shelf } from "../../../hal/api/shelf.ts";
import type { MockAppliance } from "../../../hal/mock/appliance.ts";
import { mockDigests } from "../../../hal/mock/runtime.ts";
import type { MockShelf } from "../../../hal/mock/shelf.ts";
import { World } from "../../../hal/mock/world.ts";
import { dataStep, mebibyte, tagOf } from "./store_bench.ts";

export const bothHalves = [0, 1] as const;
export const deaths = ["process", "power"] as const;
export type Death = (typeof deaths)[number];
const slabBytes = mebibyte;

export interface HalvesOptions {
  readonly seed: number;
  readonly slots?: readonly number[];
  readonly halves?: 1 | 2;
  readonly groupsMax?: number;
}

/** The appliance died while the test waited for it. */
export class Died extends Error {}

interface PoolLayout {
  readonly geometry: Geometry;
  readonly slabEnd: number;
  /** The first slab of each disk. */
  readonly bases: readonly number[];
}

export class HalvesBench {
  readonly world: World;
  readonly shelf: MockShelf;
  readonly appliances: readonly [MockAppliance, MockAppliance];
  readonly #options: HalvesOptions;
  readonly #hals: [Hal | null, Hal | null] = [null, null];
  readonly #pools: [Pool | null, Pool | null] = [null, null];
  /** By half: whose hardware it is opened with. */
  readonly owner: [Half, Half] = [0, 1];
  /** Judged writes, by half. */
  readonly writeCounts: [number, number] = [0, 0];
  #layout: PoolLayout | null = null;
  /** Called before each write of an open half. */
  onWrite: ((slot: number, offsetBytes: number) => void) | null = null;

  constructor(options: HalvesOptions) {
    this.#options = options;
    this.world = new World({ seed: options.seed });
    this.shelf = this.world.addShelf({ name: "shelf0", slots: options.slots ?? [24 * mebibyte, 20 * mebibyte] });
    const appliance = (name: string) =>
      this.world.addAppliance({
        name,
        cache: { sizeBytes: 65536, domain: "battery" },
        shelves: [this.shelf],
        hbaPorts: [],
        nics: [],
      });
    this.appliances = [appliance("oak-a"), appliance("oak-b")];
  }

  /** Made through half 0, and both halves open. */
  create(): this {
    this.open(0, true);
    this.open(1);
    return this;
  }

  pool(half: Half): Pool {
    const pool = this.#pools[half];
    assert.ok(pool, `half ${half} is open`);
    return pool!;
  }

  hal(half: Half): Hal {
    const owner = this.owner[half];
    if (!this.appliances[owner].isUp) this.#hals[owner] = null;
    this.#hals[owner] ??= this.appliances[owner].boot();
    return this.#hals[owner]!;
  }

  tryOpen(half: Half, createIfBlank = false, arrayName = "oak"): OpenResult {
    const { clock, entropy, digests, shelves } = this.hal(half);
    const { halves = 2, groupsMax = 3 } = this.#options;
    const format = { slabBytes, logSlotBytes: slabBytes / 4, mapCacheBytes: mebibyte, groupsMax, halves };
    const watched = shelves.map((shelf) => this.#watch(half, shelf));
    this.#pools[half] = null;
    const result = this.wait<OpenResult>((done) =>
      openPool({ clock, entropy, digests, shelves: watched, arrayName, format, createIfBlank, half }, done),
    );
    if (result.ok) this.#pools[half] = result.pool;
    return result;
  }

  open(half: Half, createIfBlank = false): Pool {
    const result = this.tryOpen(half, createIfBlank);
    assert.ok(result.ok, result.ok ? "" : `half ${half}: ${result.code}: ${result.text}`);
    return this.pool(half);
  }

  /** The half's appliance dies, and all halves that it has open. */
  kill(half: Half, kind: Death): void {
    const appliance = this.appliances[this.owner[half]];
    for (const each of bothHalves) if (this.owner[each] === this.owner[half]) this.#pools[each] = null;
    if (appliance.isUp) appliance.crash();
    if (kind === "power") appliance.powerLoss();
  }

  /** What is down is opened again, by the owner that it has now. */
  reopen(): void {
    for (const half of bothHalves) if (this.#pools[half] === null) this.open(half);
  }

  /** Throws `Died` when nothing comes back because an appliance is dead. */
  wait<T>(start: (done: (value: T) => void) => void): T {
    const got: T[] = [];
    start((value) => got.push(value));
    if (!this.world.runUntil(() => got.length > 0, 60_000)) {
      if (this.appliances.some((appliance) => !appliance.isUp)) throw new Died();
      throw new Error(`nothing came back: ${this.world.describe()}`);
    }
    return got[0]!;
  }

  waitPair<T>(start: (done: (error: StoreError | null, value: T) => void) => void): T {
    const { error, value } = this.wait<{ error: StoreError | null; value: T }>((done) =>
      start((error, value) => done({ error, value })),
    );
    assert.is(error, null, error?.text);
    return value;
  }

  done(start: (done: (error: StoreError | null) => void) => void): void {
    const error = this.wait(start);
    assert.is(error, null, error?.text);
  }

  createGroup(half: Half, id: string): StoredGroup {
    return this.waitPair<GroupStore | null>((done) => this.pool(half).createGroup(id, id, done)) as StoredGroup;
  }

  openGroup(half: Half, id: string): StoredGroup {
    return this.waitPair<GroupStore | null>((done) => this.pool(half).openGroup(id, done)) as StoredGroup;
  }

  write(group: StoredGroup, firstBlock: number, tags: readonly number[]): void {
    this.done((done) => group.apply([dataStep(1, firstBlock, tags)], done));
    this.done((done) => group.commit(group.id, done));
  }

  tags(group: StoredGroup, firstBlock: number, count: number): number[] {
    const bytes = new Uint8Array(count * 4096);
    this.done((done) => group.read("head", 1, firstBlock, bytes, done));
    return Array.from({ length: count }, (_, block) => tagOf(bytes, block));
  }

  cede(from: Half, slabCount: number): number {
    const slabs = this.waitPair<readonly number[]>((done) => this.pool(from).cede(slabCount, done));
    this.done((done) => this.pool(other(from)).receive(slabs, done));
    return slabs.length;
  }

  beginMove(from: Half, id: string): GroupParcel {
    const parcel = this.waitPair<GroupParcel | null>((done) => this.pool(from).beginMove(id, done));
    return decodeBody(encodeBody(parcel))!.value as GroupParcel;
  }

  move(from: Half, id: string): void {
    const parcel = this.beginMove(from, id);
    this.done((done) => this.pool(other(from)).adoptGroup(parcel, done));
    this.done((done) => this.pool(from).endMove(id, done));
  }

  /** What a start does about moves and cedings that a death has cut off: the rule of the claims, then the orphans. Returns these. */
  settle(): number {
    const claims = bothHalves.map((half) => this.pool(half).groupClaims());
    for (const id of new Set(claims.flat().map((claim) => claim.id))) {
      const [first, second] = claims.map((of) => of.find((claim) => claim.id === id) ?? null) as [
        GroupClaim | null,
        GroupClaim | null,
      ];
      assert.is.not(first?.claim, second?.claim, "claims are never equal");
      const holder: Half = (first?.claim ?? -1) > (second?.claim ?? -1) ? 0 : 1;
      const [has, hasNot] = holder === 0 ? [first, second] : [second, first];
      if (hasNot) this.done((done) => this.pool(other(holder)).endMove(id, done));
      if (has!.leaving) this.done((done) => this.pool(holder).cancelMove(id, done));
    }
    return this.waitPair<number>((done) => this.pool(0).receiveOrphans(this.pool(1).claims(), done));
  }

  /** Every slab is one half's. */
  checkSlabs(): void {
    const [first, second] = bothHalves.map((half) => this.pool(half).claims()) as [Uint8Array, Uint8Array];
    const { slabEnd } = this.#slabs();
    for (let slab = 1; slab < slabEnd; slab += 1) {
      const holders = [first, second].filter((claims) => (claims[slab >> 3]! & (1 << (slab & 7))) !== 0).length;
      assert.is(holders, 1, `slab ${slab} is in ${holders} tables' hands`);
    }
  }

  /** Of both halves together. */
  spaceOf(what: "freeBytes" | "totalBytes"): number {
    return this.pool(0).usage()[what] + this.pool(1).usage()[what];
  }

  /** The half that has the group, which is in one only and not leaving. */
  holderOf(id: string): Half {
    const holders = bothHalves.filter((half) => this.pool(half).groupIds().includes(id));
    assert.is(holders.length, 1, `group ${id} is in ${holders.length} halves`);
    const claim = this.pool(holders[0]!)
      .groupClaims()
      .find((entry) => entry.id === id)!;
    assert.not.ok(claim.leaving);
    return holders[0]!;
  }

  claimsOnDisk(half: Half): { error: StoreError | null; claims: readonly GroupClaim[] } {
    const { clock, digests, shelves } = this.hal(half);
    return this.wait((done) =>
      readGroupClaims({ clock, digests, shelves, arrayName: "oak", half }, (error, claims) => done({ error, claims })),
    );
  }

  /** A digest of everything that is on the disks. */
  image(): string {
    const digests = this.shelf.slots.map((disk) => {
      const pages = [...disk!.medium.image().pages].sort(([a], [b]) => a - b);
      return pages.reduce(
        (sum, [page, bytes]) => `${mockDigests.crc32(Buffer.concat([Buffer.from(`${sum} ${page} `), bytes]))}`,
        "",
      );
    });
    return digests.join(" ");
  }

  geometry(half: Half): Geometry {
    return geometryOf(this.#slabs().geometry, half);
  }

  /** By what half 0's superblock says: once it is ready that does not change. */
  #slabs(): PoolLayout {
    this.#layout ??= this.#readLayout();
    return this.#layout;
  }

  #readLayout(): PoolLayout {
    for (const copy of [0, 1]) {
      const page = new Uint8Array(4096);
      this.shelf.disk(0).medium.read(superblockOffset(copy), page);
      const read = decodeSuperblock(page, { copy, half: 0 }, mockDigests);
      if (read.kind !== "valid" || !read.superblock.ready) continue;
      const { diskTable } = read.superblock;
      const slabEnd = diskTable.reduce((end, entry) => Math.max(end, entry.slabBase + entry.slabCount), 1);
      return { geometry: geometryOf(read.superblock.format), slabEnd, bases: diskTable.map((entry) => entry.slabBase) };
    }
    throw new Error("no superblock of half 0 is whole");
  }

  #watch(half: Half, shelf: Shelf): Shelf {
    const disks = shelf.disks.map((disk, slot) => disk && this.#watchDisk(half, disk, slot));
    return { name: shelf.name, fencing: shelf.fencing, disks };
  }

  #watchDisk(half: Half, disk: Disk, slot: number): Disk {
    return {
      place: disk.place,
      sizeBytes: disk.sizeBytes,
      read: (offset, target, done) => disk.read(offset, target, done),
      tryRead: (offset, target) => disk.tryRead(offset, target),
      write: (offset, sources, done) => {
        const lengthBytes = sources.reduce((sum, source) => sum + source.byteLength, 0);
        this.#judge(half, slot, offset, lengthBytes);
        this.onWrite?.(slot, offset);
        disk.write(offset, sources, done);
      },
      flush: (done) => disk.flush(done),
      discard: (offset, lengthBytes, done) => disk.discard(offset, lengthBytes, done),
    };
  }

  #judge(half: Half, slot: number, offsetBytes: number, lengthBytes: number): void {
    // A creation writes both halves; an opening writes its own superblocks before the pool is there.
    const isCreation = this.#pools[half] === null && !this.#isReady();
    if (isCreation || this.#options.halves === 1) return;
    this.writeCounts[half] += 1;
    const { dataOffset } = this.geometry(half);
    const text = `half ${half} writes ${lengthBytes} bytes at ${offsetBytes} of disk ${slot}`;
    if (offsetBytes < dataOffset) {
      assert.ok(isOwnMetadata(this.geometry(half), offsetBytes, offsetBytes + lengthBytes), text);
      return;
    }
    const claims = this.pool(half).claims();
    const base = this.#slabs().bases[slot]!;
    const first = base + Math.floor((offsetBytes - dataOffset) / slabBytes);
    const last = base + Math.floor((offsetBytes + lengthBytes - 1 - dataOffset) / slabBytes);
    for (let slab = first; slab <= last; slab += 1) {
      assert.ok((claims[slab >> 3]! & (1 << (slab & 7))) !== 0, `${text}, in slab ${slab} that is elsewhere`);
    }
  }

  #isReady(): boolean {
    try {
      return this.#slabs().slabEnd > 1;
    } catch {
      return false;
    }
  }
}

/** Runs `work`, in which the appliance of `half` dies before its n-th effect on the hardware. False: it lived through it. */
export function dies(bench: HalvesBench, half: Half, effect: number, kind: Death, work: () => void): boolean {
  bench.hal(half);
  bench.appliances[bench.owner[half]].crashAtEffect(effect);
  try {
    work();
  } catch (error) {
    if (!(error instanceof Died)) throw error;
  }
  const died = !bench.appliances[bench.owner[half]].isUp;
  if (died) bench.kill(half, kind);
  else bench.appliances[bench.owner[half]].crashAtEffect(Number.POSITIVE_INFINITY);
  return died;
}

export function other(half: Half): Half {
  return half === 0 ? 1 : 0;
}

function isOwnMetadata(geometry: Geometry, start: number, end: number): boolean {
  const { half } = geometry;
  const rootsEnd = geometry.rootsOffset + geometry.groupsMax * 2 * 131072;
  const own = [
    [superblockOffset(0, half), superblockOffset(0, half) + 4096],
    [superblockOffset(1, half), superblockOffset(1, half) + 4096],
    [heartbeatOffset(0, half), heartbeatOffset(1, half) + 4096],
    [geometry.poolDocumentOffset, rootsEnd],
  ] as const;
  return own.some(([from, to]) => start >= from && end <= to);
}
