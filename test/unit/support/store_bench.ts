/** A pool on simulated disks, driven step by step: what the tests of the store share. */
import * as assert from "uvu/assert";
import { type OpenResult, openPool } from "../../../firmware/store/open_pool.ts";
import type {
  GroupStore,
  HomeStep,
  LogSlot,
  Pool,
  ScrubReport,
  StoreError,
  Version,
} from "../../../firmware/store/store.ts";
import type { StoredGroup } from "../../../firmware/store/stored_group.ts";
import type { Hal } from "../../../hal/api/hal.ts";
import type { MockAppliance } from "../../../hal/mock/appliance.ts";
import { mockDigests } from "../../../hal/mock/runtime.ts";
import type { MockShelf } from "../../../hal/mock/shelf.ts";
import { World } from "../../../hal/mock/world.ts";

export const mebibyte = 1024 * 1024;
export const blockBytes = 4096;
export const groupId = "00112233445566778899aabbccddeeff";

export interface BenchOptions {
  readonly seed: number;
  readonly slots?: readonly (number | null)[];
  readonly slabBytes?: number;
  readonly mapCacheBytes?: number;
  readonly groupsMax?: number;
  readonly cacheBytes?: number;
}

export class StoreBench {
  readonly world: World;
  readonly shelf: MockShelf;
  readonly oak: MockAppliance;
  readonly #options: BenchOptions;
  hal: Hal | null = null;
  pool: Pool | null = null;

  constructor(options: BenchOptions) {
    this.#options = options;
    this.world = new World({ seed: options.seed });
    this.shelf = this.world.addShelf({ name: "shelf0", slots: options.slots ?? [64 * mebibyte] });
    this.oak = this.world.addAppliance({
      name: "oak-a",
      cache: { sizeBytes: options.cacheBytes ?? 65536, domain: "battery" },
      shelves: [this.shelf],
      hbaPorts: [],
      nics: [],
    });
  }

  tryOpen(createIfBlank: boolean, arrayName = "oak"): OpenResult {
    this.hal ??= this.oak.boot();
    const { clock, entropy, digests, shelves } = this.hal;
    const { slabBytes = mebibyte, mapCacheBytes = 4 * mebibyte, groupsMax = 4 } = this.#options;
    const format = { slabBytes, logSlotBytes: slabBytes / 4, mapCacheBytes, groupsMax };
    const result = this.wait<OpenResult>((done) =>
      openPool({ clock, entropy, digests, shelves, arrayName, format, createIfBlank }, done),
    );
    if (result.ok) this.pool = result.pool;
    return result;
  }

  open(createIfBlank = true): Pool {
    const result = this.tryOpen(createIfBlank);
    assert.ok(result.ok, result.ok ? "" : `${result.code}: ${result.text}`);
    return this.pool!;
  }

  /** A new pool with one new group. */
  create(document: unknown = 0): StoredGroup {
    this.open();
    return this.createGroup(groupId, document);
  }

  createGroup(id: string, document: unknown): StoredGroup {
    const [error, group] = this.waitPair<StoreError, GroupStore>((done) => this.pool!.createGroup(id, document, done));
    assert.is(error, null, error?.text);
    return group as StoredGroup;
  }

  tryOpenGroup(id = groupId): { error: StoreError | null; group: StoredGroup | null } {
    const [error, group] = this.waitPair<StoreError, GroupStore>((done) => this.pool!.openGroup(id, done));
    return { error, group: group as StoredGroup | null };
  }

  /** Opens the pool and its group again, after a death or without one. */
  reopen(): StoredGroup {
    if (!this.oak.isUp) this.hal = null;
    this.open(false);
    const { error, group } = this.tryOpenGroup();
    assert.is(error, null, error?.text);
    return group!;
  }

  crash(): void {
    this.oak.crash();
    this.hal = null;
  }

  powerLoss(): void {
    this.oak.powerLoss();
    this.hal = null;
  }

  wait<T>(start: (done: (value: T) => void) => void): T {
    const got: T[] = [];
    start((value) => got.push(value));
    const ended = this.world.runUntil(() => got.length > 0, 600_000);
    assert.ok(ended, `nothing came back: ${this.world.describe()}`);
    return got[0]!;
  }

  waitPair<A, B>(start: (done: (a: A | null, b: B | null) => void) => void): [A | null, B | null] {
    return this.wait<[A | null, B | null]>((done) => start((a, b) => done([a, b])));
  }

  apply(group: GroupStore, steps: readonly HomeStep[]): void {
    const error = this.tryApply(group, steps);
    assert.is(error, null, error?.text);
  }

  tryApply(group: GroupStore, steps: readonly HomeStep[]): StoreError | null {
    return this.wait<StoreError | null>((done) => group.apply(steps, done));
  }

  commit(group: GroupStore, document: unknown = 0): void {
    const error = this.tryCommit(group, document);
    assert.is(error, null, error?.text);
  }

  tryCommit(group: GroupStore, document: unknown = 0): StoreError | null {
    return this.wait<StoreError | null>((done) => group.commit(document, done));
  }

  read(
    group: GroupStore,
    version: Version,
    volume: number,
    firstBlock: number,
    blockCount = 1,
  ): { error: StoreError | null; bytes: Uint8Array } {
    const bytes = new Uint8Array(blockCount * blockBytes).fill(0xee);
    const error = this.wait<StoreError | null>((done) => group.read(version, volume, firstBlock, bytes, done));
    return { error, bytes };
  }

  allocateLogSlot(group: GroupStore): LogSlot | null {
    return this.wait<LogSlot | null>((done) => group.allocateLogSlot(done));
  }

  scrub(group: GroupStore): ScrubReport {
    return this.wait<ScrubReport>((done) => group.scrub(() => true, done));
  }

  /** Commits until everything that was dropped has been given back. */
  settle(group: StoredGroup, document: unknown = 0): void {
    for (let round = 0; round < 1000; round += 1) {
      this.commit(group, document);
      this.world.runUntil(() => group.family.nextToReap() === null && !group.reaper.busy, 600_000);
      const hidden = [...group.family.nodes.values()].some((node) => node.id === null && !node.doomDurable);
      if (!hidden && !group.wantsCommit()) {
        this.commit(group, document);
        return;
      }
    }
    throw new Error("the reaper does not come to an end");
  }
}

/** A block's content by its tag: 0 is zeros. */
export function contentOf(tag: number): Uint8Array {
  return new Uint8Array(new Uint32Array(blockBytes / 4).fill(tag).buffer);
}

export function tagOf(bytes: Uint8Array, block = 0): number {
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset + block * blockBytes, blockBytes / 4);
  const tag = words[0]!;
  for (const word of words) if (word !== tag) throw new Error(`a block is a mixture of ${tag} and ${word}`);
  return tag;
}

export function dataStep(volume: number, firstBlock: number, tags: readonly number[]): HomeStep {
  const bytes = new Uint8Array(tags.length * blockBytes);
  const crcs = new Uint32Array(tags.length);
  tags.forEach((tag, index) => {
    const content = contentOf(tag);
    bytes.set(content, index * blockBytes);
    crcs[index] = mockDigests.crc32(content);
  });
  return { kind: "data", volume, firstBlock, bytes, crcs };
}

export function zeroStep(volume: number, firstBlock: number, blockCount: number): HomeStep {
  return { kind: "zero", volume, firstBlock, blockCount };
}
