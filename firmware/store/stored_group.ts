/**
 * One consistency group in the store: `GroupStore` over its parts. The commit stands in `commit.ts`.
 *
 *     open ──▶ loading bitmaps ──▶ ready ──▶ failed (a write or flush of a commit went wrong: only reopening helps)
 *
 * Reads work from the start; apply and commit wait until the bitmaps are there.
 *
 * What a disk's refusal means for an apply: `no-space` and `absent` leave the group usable; commits are refused until an apply has
 * succeeded again (the caller repeats the steps). Every other refusal, and any in a commit, has an unknown outcome: the group has
 * failed, and recovery goes by what is durable.
 */
import type { Clock } from "../../hal/api/clock.ts";
import type { Digests } from "../../hal/api/digests.ts";
import { assert } from "../codec/assert.ts";
import { Allocator, type MapShape } from "./allocator.ts";
import { decodeBody, encodeBody } from "./cbor_body.ts";
import { commitGroup, hasRoomForFork } from "./commit.ts";
import type { DiskSet } from "./disk_set.ts";
import { ForkFamily } from "./fork_family.ts";
import { blocksPerChunk, pageBytes } from "./geometry.ts";
import { type GroupRoot, isVolumeSize } from "./group_root.ts";
import { HomeReader } from "./home_reader.ts";
import { HomeWriter } from "./home_writer.ts";
import { LogSlots } from "./log_slots.ts";
import type { MapCache } from "./map_cache.ts";
import {
  blocksPerLeaf,
  entriesPerLeaf,
  entryAt,
  entryBirth,
  entryLocation,
  heightFor,
  innerPagesFor,
  leavesFor,
} from "./map_page.ts";
import { absent, hole, MapTrees } from "./map_tree.ts";
import { Reaper } from "./reaper.ts";
import { startScrub } from "./scrub.ts";
import type { PoolTag, SlabTable } from "./slab_table.ts";
import type { SlotPair } from "./slot_pair.ts";
import { SpaceTree } from "./space_tree.ts";
import {
  chunkBytes,
  type GroupStore,
  type GroupUsage,
  type HomeExtent,
  type HomeStep,
  type LogSlot,
  type ScrubReport,
  type StoreDone,
  type StoredFork,
  type StoredVolume,
  type StoreError,
  type Version,
} from "./store.ts";

export interface GroupParts {
  readonly id: string;
  /** The group's number in the pool: the owner in slab table and page headers. */
  readonly number: number;
  readonly clock: Clock;
  readonly digests: Digests;
  readonly disks: DiskSet;
  readonly table: SlabTable;
  readonly cache: MapCache;
  readonly slots: SlotPair;
  readonly tag: PoolTag;
}

/** So many freed chunks (256 MiB) are worth a commit of the group's own while more is being freed. */
const ownCommitChunks = 4096;

type Readiness =
  | { readonly kind: "loading" }
  | { readonly kind: "ready" }
  | { readonly kind: "failed"; readonly error: StoreError };

export class StoredGroup implements GroupStore {
  readonly id: string;
  readonly logSlotBytes: number;
  readonly parts: GroupParts;
  readonly family: ForkFamily;
  readonly allocator: Allocator;
  readonly trees: MapTrees;
  readonly writer: HomeWriter;
  readonly reader: HomeReader;
  readonly reaper: Reaper;
  readonly dataSpace: SpaceTree;
  readonly mapSpace: SpaceTree;
  documentBytes: Uint8Array;
  readonly #log: LogSlots;
  #readiness: Readiness = { kind: "loading" };
  #whenReady: (() => void)[] = [];
  #afterApply: (() => void)[] = [];
  /** Odd while an apply runs. */
  #applySequence = 0;
  #shape: MapShape = { leaves: 0, inner: 0, height: 0 };
  /** `own`: a commit that the group makes by itself (`#bringBack`); callers wait for its end. */
  #busy: "apply" | "commit" | "own" | null = null;
  /** Something has changed since the last commit that the caller will commit together with its document. */
  #changed = false;
  #afterOwn: (() => void)[] = [];
  #failed: StoreError | null = null;
  /** An apply was refused by a disk and has to be repeated before anything is committed. */
  #applyOwed = false;

  /** `root`: what the group's root says; null for a new group. `startLoading` comes next. */
  constructor(parts: GroupParts, root: GroupRoot | null) {
    const { disks, table, clock, digests, cache, tag, number } = parts;
    this.parts = parts;
    this.id = parts.id;
    this.logSlotBytes = disks.geometry.logSlotBytes;
    this.family = root?.family ?? new ForkFamily();
    this.documentBytes = root?.documentBytes ?? new Uint8Array(0);
    this.allocator = new Allocator({
      table,
      owner: number,
      chunksPerSlab: disks.geometry.chunksPerSlab,
      pagesPerSlab: disks.geometry.pagesPerSlab,
      slabEnd: disks.slabEnd,
      shape: () => this.#shape,
    });
    this.dataSpace = new SpaceTree(this.allocator.data, number, 0, tag);
    this.mapSpace = new SpaceTree(this.allocator.map, number, 1, tag);
    this.allocator.setSpaceTrees([this.dataSpace, this.mapSpace]);
    this.allocator.data.presumeUsed(root?.dataUsed ?? 0);
    this.allocator.map.presumeUsed(root?.mapUsed ?? 0);
    const { family, allocator } = this;
    this.trees = new MapTrees({ cache, disks, digests, allocator, family, owner: number, tag });
    const { trees } = this;
    this.writer = new HomeWriter({ disks, trees, family, allocator });
    const applies = {
      sequence: () => this.#applySequence,
      whenNone: (callback: () => void) => {
        if (this.#applySequence % 2 === 1) this.#afterApply.push(callback);
        else callback();
      },
    };
    this.reader = new HomeReader({ disks, trees, family, allocator, digests, applies });
    this.reaper = new Reaper({ clock, family, trees, allocator, progressed: () => this.#bringBack() });
    this.#log = new LogSlots({ disks, table, clock, owner: number, allocator });
    this.#updateShape();
  }

  /** Reads the bitmaps; nothing waits for it but what allocates. */
  startLoading(root: GroupRoot | null): void {
    const { disks, digests, table, number } = this.parts;
    const finish = (error: StoreError | null) => {
      if (this.#readiness.kind !== "loading") return;
      const owned = (slab: number) => table.owner[slab] === number;
      const sound = !error && this.allocator.data.adoptPages(owned) && this.allocator.map.adoptPages(owned);
      if (sound) {
        this.#readiness = { kind: "ready" };
        this.allocator.giveBackEmpty();
        this.allocator.updatePromise();
        this.reaper.wake();
      } else {
        const wrong: StoreError = { code: "corrupt", text: "the bitmaps name slabs that are not the group's" };
        this.#readiness = { kind: "failed", error: error ?? wrong };
      }
      const waiting = this.#whenReady;
      this.#whenReady = [];
      for (const callback of waiting) callback();
    };
    if (!root) finish(null);
    else {
      this.dataSpace.load(root.dataSpace, disks, digests, (dataError) => {
        if (dataError) finish(dataError);
        else this.mapSpace.load(root.mapSpace, disks, digests, finish);
      });
    }
  }

  /** The instance is used no more: removed, opened anew, or moved to the other half. */
  retire(why: StoreError): void {
    this.#failed = this.#failed ?? why;
    this.reaper.stop();
    this.trees.retire(this.#failed);
    this.allocator.retire();
    this.#log.retire();
  }

  get failed(): boolean {
    return this.#failed !== null;
  }

  /** Calls back when nothing of the group's own is under way; the caller has nothing under way itself (asserted). */
  whenIdle(callback: () => void): void {
    assert(this.#busy === null || this.#busy === "own", `the group is still in use: ${this.#busy} runs`);
    if (this.#busy === "own") this.#afterOwn.push(callback);
    else callback();
  }

  document(): unknown {
    return decodeBody(this.documentBytes)?.value;
  }

  volumes(version: Version): readonly StoredVolume[] {
    const trees = this.family.treesOf(version);
    return trees ? [...trees.values()].map((tree) => ({ number: tree.volume, sizeBytes: tree.sizeBytes })) : [];
  }

  createVolume(volume: StoredVolume): void {
    const { number, sizeBytes } = volume;
    assert(Number.isInteger(number) && number >= 0 && number < 2 ** 32, `not a volume number: ${number}`);
    assert(!this.family.headTrees.has(number), `volume ${number} exists already`);
    assert(isVolumeSize(sizeBytes), `not a volume size: ${sizeBytes}`);
    this.#changed = true;
    this.family.headTrees.set(number, { volume: number, sizeBytes, height: 0, page: 0, checksum: 0, birth: 0 });
    this.#updateShape();
  }

  resizeVolume(number: number, sizeBytes: number): void {
    const tree = this.family.headTrees.get(number);
    assert(tree !== undefined, `volume ${number} does not exist`);
    assert(
      isVolumeSize(sizeBytes) && sizeBytes >= tree.sizeBytes,
      `volume ${number} can not get the size ${sizeBytes}`,
    );
    this.#changed = true;
    tree.sizeBytes = sizeBytes;
    this.#updateShape();
  }

  deleteVolume(number: number): void {
    assert(this.#busy !== "apply", "no volume is deleted while an apply runs");
    this.#changed = true;
    this.family.deleteVolume(number);
    this.#updateShape();
  }

  tryRead(version: Version, volume: number, firstBlock: number, target: Uint8Array): boolean {
    return this.reader.tryRead(version, volume, firstBlock, target);
  }

  read(version: Version, volume: number, firstBlock: number, target: Uint8Array, done: StoreDone): void {
    assert(firstBlock >= 0 && target.byteLength % pageBytes === 0, "reads are of whole blocks");
    this.reader.read(version, volume, firstBlock, target, done);
  }

  extents(
    version: Version,
    volume: number,
    range: { readonly firstBlock: number; readonly blockCount: number; readonly limit: number },
    done: (error: StoreError | null, extents: readonly HomeExtent[]) => void,
  ): void {
    this.reader.extents(version, volume, range, done);
  }

  apply(steps: readonly HomeStep[], done: StoreDone): void {
    this.#begin("apply", done, (finish) => {
      this.#applySequence += 1;
      this.writer.apply(steps, (error, diskCode) => {
        this.#applySequence += 1;
        if (!error) this.#applyOwed = false;
        else if (diskCode === "no-space" || diskCode === "absent") this.#applyOwed = true;
        else if (diskCode) this.#failed = error;
        // Those who wait look again before the next apply can begin.
        const waiting = this.#afterApply;
        this.#afterApply = [];
        for (const callback of waiting) callback();
        finish(error);
      });
    });
  }

  commit(document: unknown, done: StoreDone): void {
    this.#begin("commit", done, (finish) => {
      if (this.#applyOwed) {
        finish({ code: "disk-failed", text: "an apply was refused by a disk and has not been repeated" });
        return;
      }
      this.#commit(encodeBody(document), finish);
    });
  }

  #commit(documentBytes: Uint8Array, finish: StoreDone): void {
    this.#changed = false;
    commitGroup(this, documentBytes, (error, fatal) => {
      if (error) this.#changed = true;
      if (error && fatal) this.#failed = error;
      finish(error);
      this.reaper.wake();
    });
  }

  /**
   * Makes what the reaper has freed usable when the caller has nothing to commit: the same document again. Never when anything else
   * has changed, for that has to become durable together with the caller's next document.
   */
  #bringBack(): void {
    const freed = this.allocator.awaitingCommit;
    const enough = freed >= ownCommitChunks || (freed > 0 && this.family.nextToReap() === null);
    if (!enough || this.#busy !== null || this.#changed || this.#applyOwed || this.#failed) return;
    this.#busy = "own";
    this.#commit(this.documentBytes, () => {
      this.#busy = null;
      const waiting = this.#afterOwn;
      this.#afterOwn = [];
      for (const callback of waiting) callback();
    });
  }

  /** Runs `work` alone, when the bitmaps are there; refusals come later, never at once. */
  #begin(what: "apply" | "commit", done: StoreDone, work: (finish: StoreDone) => void): void {
    if (this.#busy === "own") {
      this.#afterOwn.push(() => this.#begin(what, done, work));
      return;
    }
    assert(this.#busy === null, `${what} while ${this.#busy} runs`);
    this.#busy = what;
    if (what === "apply") this.#changed = true;
    const finish = (error: StoreError | null) => {
      this.#busy = null;
      done(error);
    };
    const start = () => {
      if (this.#failed) {
        const { text } = this.#failed;
        this.parts.clock.defer(() =>
          finish({ code: "disk-failed", text: `the group has failed and must be opened anew: ${text}` }),
        );
      } else if (this.#readiness.kind === "failed") {
        const { error } = this.#readiness;
        this.parts.clock.defer(() => finish(error));
      } else work(finish);
    };
    if (this.#readiness.kind === "loading") this.#whenReady.push(start);
    else start();
  }

  forks(): readonly StoredFork[] {
    return this.family
      .forks()
      .map((node) => ({ id: node.id as string, seq: node.seq, volumes: this.volumes(node.id as string) }));
  }

  hasRoomForFork(spareBytes: number): boolean {
    return hasRoomForFork(this, spareBytes);
  }

  fork(id: string, seq: number): void {
    assert(this.#busy !== "apply", "no fork is taken while an apply runs");
    this.#changed = true;
    const node = this.family.fork(id, seq, this.family.headTrees);
    this.family.headParent = node.key;
  }

  dropFork(id: string): void {
    this.#changed = true;
    this.family.doom(id);
  }

  promoteFork(id: string, keepHeadAs: { readonly id: string; readonly seq: number } | null): void {
    assert(this.#busy !== "apply", "no fork is promoted while an apply runs");
    this.#changed = true;
    this.family.promote(id, keepHeadAs);
    this.#updateShape();
  }

  reserveChunks(count: number): boolean {
    return this.allocator.reserve(count);
  }

  releaseChunks(count: number): void {
    this.allocator.release(count);
  }

  chunksNeeded(volume: number, firstBlock: number, blockCount: number): number | null {
    const tree = this.family.headTrees.get(volume);
    assert(tree !== undefined, `volume ${volume} does not exist`);
    const lastChunk = Math.floor((firstBlock + blockCount - 1) / blocksPerChunk);
    let needed = 0;
    for (let chunk = Math.floor(firstBlock / blocksPerChunk); chunk <= lastChunk; ) {
      const leaf = Math.floor(chunk / entriesPerLeaf);
      const leafEnd = Math.min(lastChunk + 1, (leaf + 1) * entriesPerLeaf);
      const slot = this.trees.walk(tree, leaf);
      if (slot === absent) return null;
      if (slot === hole) {
        needed += leafEnd - chunk;
        chunk = leafEnd;
        continue;
      }
      const words = this.trees.cache.words(slot);
      const at = this.trees.cache.at(slot);
      const origin = this.family.originAt(volume, leaf);
      for (; chunk < leafEnd; chunk += 1) {
        const entry = entryAt(at, chunk - leaf * entriesPerLeaf);
        const location = words[entry + entryLocation]!;
        const own = location !== 0 && words[entry + entryBirth]! > origin && this.parts.disks.hasChunk(location);
        if (!own) needed += 1;
      }
    }
    return needed;
  }

  loadMap(volume: number, firstBlock: number, blockCount: number, done: StoreDone): void {
    const lastLeaf = Math.floor((firstBlock + blockCount - 1) / blocksPerLeaf);
    const next = (leaf: number) => {
      this.trees.load(
        () => this.family.headTrees.get(volume) ?? null,
        leaf,
        (error) => {
          if (error || leaf >= lastLeaf) done(error);
          else next(leaf + 1);
        },
      );
    };
    next(Math.floor(firstBlock / blocksPerLeaf));
  }

  logSlots(): readonly LogSlot[] {
    return this.#log.list();
  }

  expectLogSlots(slotCount: number): boolean {
    return this.#log.expect(slotCount);
  }

  allocateLogSlot(done: (slot: LogSlot | null) => void): void {
    this.#log.allocate(done);
  }

  allocateSpareLogSlot(done: (slot: LogSlot | null) => void): void {
    this.#log.allocateSpare(done);
  }

  freeLogSlot(slot: LogSlot): void {
    this.#log.free(slot);
  }

  writeLogSlot(slot: LogSlot, offsetBytes: number, sources: readonly Uint8Array[], done: StoreDone): void {
    this.#log.write(slot, offsetBytes, sources, done);
  }

  readLogSlot(slot: LogSlot, offsetBytes: number, target: Uint8Array, done: StoreDone): void {
    this.#log.read(slot, offsetBytes, target, done);
  }

  flushLog(done: StoreDone): void {
    this.#log.flush(done);
  }

  scrub(progress: (checkedBytes: number, totalBytes: number) => boolean, done: (report: ScrubReport) => void): void {
    const { family, trees, reader } = this;
    startScrub({ family, trees, reader, totalBytes: this.usage().dataBytes, progress, done });
  }

  usage(): GroupUsage {
    return {
      dataBytes: this.allocator.data.usedCount * chunkBytes,
      metadataBytes: this.allocator.map.usedCount * pageBytes,
      logBytes: this.#log.usedCount * this.logSlotBytes,
      reservedBytes: this.allocator.reservedChunks * chunkBytes,
    };
  }

  /** A commit would let the map cache breathe, or bring freed space back. */
  wantsCommit(): boolean {
    return this.parts.cache.crowded || this.allocator.awaitingCommit > 0;
  }

  #updateShape(): void {
    let leaves = 0;
    let inner = 0;
    let height = 0;
    for (const tree of this.family.headTrees.values()) {
      const own = leavesFor(tree.sizeBytes);
      leaves += own;
      inner += innerPagesFor(own);
      height = Math.max(height, heightFor(own), tree.height);
    }
    this.#shape = { leaves, inner, height };
    this.allocator.updatePromise();
  }
}
