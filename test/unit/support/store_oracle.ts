/**
 * A store beside a model of it: plain maps of block contents per version. Random operations go to both, then both are compared;
 * `checkSpace` proves that exactly what some version reaches is allocated.
 */
import * as assert from "uvu/assert";
import type { Tree } from "../../../firmware/store/fork_family.ts";
import {
  entriesPerLeaf,
  entryAt,
  entryBase,
  entryLocation,
  leavesPerPage,
  pointerAt,
  pointerPage,
  pointersPerInner,
} from "../../../firmware/store/map_page.ts";
import type { HomeStep } from "../../../firmware/store/store.ts";
import type { StoredGroup } from "../../../firmware/store/stored_group.ts";
import type { Prng } from "../../../hal/mock/prng.ts";
import { dataStep, type StoreBench, tagOf, zeroStep } from "./store_bench.ts";

interface ModelVolume {
  sizeBytes: number;
  readonly blocks: Map<number, number>;
}
type ModelImage = Map<number, ModelVolume>;

interface Model {
  head: ModelImage;
  forks: Map<string, ModelImage>;
}

type Operation =
  | { readonly kind: "apply"; readonly steps: readonly HomeStep[] }
  | { readonly kind: "fork"; readonly id: string }
  | { readonly kind: "drop"; readonly id: string }
  | { readonly kind: "promote"; readonly id: string; readonly keepAs: string | null }
  | { readonly kind: "create"; readonly volume: number; readonly sizeBytes: number }
  | { readonly kind: "resize"; readonly volume: number; readonly sizeBytes: number }
  | { readonly kind: "delete"; readonly volume: number };

const gibibyte = 2 ** 30;
const volumesMax = 3;
const forksMax = 5;
/** Leaves that are written: neighbours, and on both sides of an inner page's end. */
const hotLeaves = [0, 1, 2, 251, 252, 253, 600];
const blocksPerLeaf = 768;
const hotBlocks = 96;

export class StoreOracle {
  readonly bench: StoreBench;
  readonly prng: Prng;
  group: StoredGroup;
  model: Model = { head: new Map(), forks: new Map() };
  /** What the last durable commit holds, and what was done since. */
  durable: Model = this.model;
  journal: Operation[] = [];
  commits = 0;
  #tag = 1;
  #names = 1;
  #volumes = 1;

  constructor(bench: StoreBench, prng: Prng) {
    this.bench = bench;
    this.prng = prng;
    this.group = bench.create(0);
    this.durable = copyModel(this.model);
  }

  /** One random operation, carried out to its end. */
  step(): void {
    const operation = this.draw();
    if (operation) this.perform(operation);
  }

  draw(): Operation | null {
    const { prng, model } = this;
    const volumes = [...model.head.keys()];
    const forks = [...model.forks.keys()];
    const roll = prng.below(100);
    if (volumes.length === 0 || (roll < 3 && volumes.length < volumesMax)) {
      return {
        kind: "create",
        volume: this.#volumes++,
        sizeBytes: prng.pick([2 * gibibyte, 2 * gibibyte, 4096 * 100, 5 * 2 ** 20]),
      };
    }
    if (roll < 5 && volumes.length > 1) return { kind: "delete", volume: prng.pick(volumes) };
    if (roll < 7) return { kind: "resize", volume: prng.pick(volumes), sizeBytes: 2 * gibibyte };
    if (roll < 17 && forks.length < forksMax) return { kind: "fork", id: `f${this.#names++}` };
    if (roll < 26 && forks.length > 0) return { kind: "drop", id: prng.pick(forks) };
    if (roll < 29 && forks.length > 0) {
      return { kind: "promote", id: prng.pick(forks), keepAs: prng.chance(0.5) ? `k${this.#names++}` : null };
    }
    return this.#drawApply(volumes);
  }

  #drawApply(volumes: readonly number[]): Operation | null {
    const { prng } = this;
    const steps: HomeStep[] = [];
    const taken = new Set<string>();
    for (let count = 1 + prng.below(6); count > 0; count -= 1) {
      const volume = prng.pick(volumes);
      const sizeBlocks = Math.ceil(this.model.head.get(volume)!.sizeBytes / 4096);
      const zero = prng.chance(0.3);
      let firstBlock = prng.pick(hotLeaves) * blocksPerLeaf + prng.below(hotBlocks);
      let blockCount = 1 + prng.below(prng.chance(0.3) ? 40 : 4);
      if (zero && prng.chance(0.2)) {
        firstBlock = prng.chance(0.5) ? 0 : prng.below(sizeBlocks);
        blockCount = sizeBlocks - firstBlock;
      }
      blockCount = Math.min(blockCount, sizeBlocks - firstBlock);
      if (blockCount <= 0) continue;
      // Only blocks near the hot places can collide.
      const keys: string[] = [];
      for (const block of hotBlocksIn(firstBlock, blockCount)) keys.push(`${volume}/${block}`);
      const overlaps =
        keys.some((key) => taken.has(key)) || steps.some((other) => overlap(other, volume, firstBlock, blockCount));
      if (overlaps) continue;
      for (const key of keys) taken.add(key);
      const tags = Array.from({ length: zero ? 0 : blockCount }, () => this.#tag++);
      const data = { ...dataStep(volume, firstBlock, tags), fresh: prng.chance(0.3) };
      steps.push(zero ? zeroStep(volume, firstBlock, blockCount) : data);
    }
    return steps.length > 0 ? { kind: "apply", steps } : null;
  }

  perform(operation: Operation): void {
    this.note(operation);
    this.carryOut(operation);
  }

  /** The model's part. */
  note(operation: Operation): void {
    this.journal.push(operation);
    noteIn(this.model, operation);
  }

  /** The store's part. */
  carryOut(operation: Operation): void {
    const { group } = this;
    if (operation.kind === "apply") this.bench.apply(group, operation.steps);
    else if (operation.kind === "fork") group.fork(operation.id, 1);
    else if (operation.kind === "drop") group.dropFork(operation.id);
    else if (operation.kind === "promote") {
      group.promoteFork(operation.id, operation.keepAs === null ? null : { id: operation.keepAs, seq: 1 });
    } else if (operation.kind === "create")
      group.createVolume({ number: operation.volume, sizeBytes: operation.sizeBytes });
    else if (operation.kind === "resize") group.resizeVolume(operation.volume, operation.sizeBytes);
    else group.deleteVolume(operation.volume);
  }

  commit(): void {
    this.bench.commit(this.group, ++this.commits);
    this.committed();
  }

  committed(): void {
    this.durable = copyModel(this.model);
    this.journal = [];
  }

  /**
   * After a death: opens again, checks what is durable, and applies the journal again as the log's replay does. `pending`: a commit
   * was under way, with the number `commits`; it may have come about or not.
   */
  recover(pending: boolean): void {
    this.group = this.bench.reopen();
    const number = this.group.document() as number;
    if (pending && number === this.commits) this.committed();
    else {
      assert.is(number, pending ? this.commits - 1 : this.commits, "the document of the last commit");
      this.commits = number;
    }
    const touched = new Set<string>();
    const zeroed = new Set<string>();
    for (const operation of this.journal) {
      if (operation.kind !== "apply") continue;
      for (const step of operation.steps) {
        const count = step.kind === "data" ? step.crcs.length : step.blockCount;
        for (const block of hotBlocksIn(step.firstBlock, count)) {
          const key = `${step.volume}/${block}`;
          // Zeroing changes no content, and a fresh step leaves it alone unless the map says that nothing is there.
          if (step.kind === "zero") zeroed.add(key);
          else if (!step.fresh || zeroed.has(key)) touched.add(key);
        }
      }
    }
    this.model = copyModel(this.durable);
    this.compare(touched);
    for (const operation of this.journal) {
      noteIn(this.model, operation);
      this.carryOut(operation);
    }
    this.compare();
  }

  /** Reads every version and compares. Blocks of the head in `touched` may be anything, or an error. */
  compare(touched: ReadonlySet<string> = new Set()): void {
    const { group, model } = this;
    assert.equal(
      group
        .forks()
        .map((fork) => fork.id)
        .sort(),
      [...model.forks.keys()].sort(),
    );
    this.#compareImage("head", model.head, touched);
    for (const [id, image] of model.forks) this.#compareImage(id, image, new Set());
  }

  #compareImage(version: string, image: ModelImage, touched: ReadonlySet<string>): void {
    const sizes = [...image]
      .map(([number, volume]) => ({ number, sizeBytes: volume.sizeBytes }))
      .sort((a, b) => a.number - b.number);
    assert.equal(
      [...this.group.volumes(version)].sort((a, b) => a.number - b.number),
      sizes,
    );
    for (const [number, volume] of image) {
      const sizeBlocks = Math.ceil(volume.sizeBytes / 4096);
      for (const leaf of hotLeaves) {
        const first = leaf * blocksPerLeaf;
        const count = Math.min(hotBlocks + 40, sizeBlocks - first);
        if (count <= 0) continue;
        const isTouched = (block: number) => touched.has(`${number}/${block}`);
        const { error, bytes } = this.bench.read(this.group, version, number, first, count);
        if (error) {
          assert.ok(isTouched(error.block!), `${version} volume ${number}: ${error.code} ${error.text}`);
          this.#compareSingly(version, number, volume, first, count, isTouched);
          continue;
        }
        for (let block = 0; block < count; block += 1) {
          if (isTouched(first + block)) continue;
          assert.is(
            tagOf(bytes, block),
            volume.blocks.get(first + block) ?? 0,
            `${version} volume ${number} block ${first + block}`,
          );
        }
      }
    }
  }

  #compareSingly(
    version: string,
    number: number,
    volume: ModelVolume,
    first: number,
    count: number,
    isTouched: (block: number) => boolean,
  ): void {
    for (let block = first; block < first + count; block += 1) {
      if (isTouched(block)) continue;
      const { error, bytes } = this.bench.read(this.group, version, number, block);
      assert.is(error, null, `${version} volume ${number} block ${block}: ${error?.text}`);
      assert.is(tagOf(bytes), volume.blocks.get(block) ?? 0, `${version} volume ${number} block ${block}`);
    }
  }

  /** Settles, then compares what is allocated with what is reached. */
  checkSpace(): void {
    this.bench.settle(this.group, ++this.commits);
    this.committed();
    const { group } = this;
    const places = new Map<number, string>();
    const pages = new Set<number>();
    for (const [version, trees] of versionsOf(group)) {
      for (const tree of trees.values()) this.#walk(version, tree, tree.height, 0, pages, places);
    }
    for (const chunk of places.keys())
      assert.ok(group.allocator.data.isUsed(chunk), `chunk ${chunk} is in use, but free`);
    assert.is(group.allocator.data.usedCount, places.size, "chunks allocated and reached");
    for (const page of pages) assert.ok(group.allocator.map.isUsed(page), `page ${page} is in use, but free`);
    const own = [...group.dataSpace.places(), ...group.mapSpace.places()];
    assert.is(group.allocator.map.usedCount, pages.size + own.length, "pages allocated and reached");
    assert.is(group.allocator.data.heldCount, 0);
  }

  #walk(
    version: string,
    tree: Tree,
    level: number,
    firstLeaf: number,
    pages: Set<number>,
    chunks: Map<number, string>,
  ): void {
    const { trees } = this.group;
    assert.is(
      this.bench.wait((done) => trees.loadTo(() => tree, firstLeaf, level, done)),
      null,
    );
    if (trees.locate(tree, firstLeaf, level) < 0) return;
    pages.add(trees.at.page);
    const slot = trees.cache.find(trees.at.page);
    const words = trees.cache.words(slot).slice(trees.cache.at(slot), trees.cache.at(slot) + 1024);
    if (level > 0) {
      for (let index = 0; index < pointersPerInner; index += 1) {
        if (pointerPage(words, pointerAt(0, index)) !== 0)
          this.#walk(version, tree, level - 1, firstLeaf + index * leavesPerPage[level - 1]!, pages, chunks);
      }
      return;
    }
    for (let entry = 0; entry < entriesPerLeaf; entry += 1) {
      for (const chunk of [words[entryAt(0, entry) + entryLocation]!, words[entryAt(0, entry) + entryBase]!]) {
        if (chunk === 0) continue;
        const place = `${tree.volume}/${firstLeaf * entriesPerLeaf + entry}`;
        assert.is(chunks.get(chunk) ?? place, place, `chunk ${chunk} is in two places`);
        chunks.set(chunk, place);
      }
    }
  }
}

function* versionsOf(group: StoredGroup): Generator<[string, ReadonlyMap<number, Tree>]> {
  yield ["head", group.family.headTrees];
  for (const node of group.family.nodes.values()) yield [node.id ?? `hidden ${node.key}`, node.trees];
}

function* hotBlocksIn(firstBlock: number, blockCount: number): Generator<number> {
  for (const leaf of hotLeaves) {
    const first = leaf * blocksPerLeaf;
    const end = Math.min(first + hotBlocks + 40, firstBlock + blockCount);
    for (let block = Math.max(first, firstBlock); block < end; block += 1) yield block;
  }
}

function overlap(step: HomeStep, volume: number, firstBlock: number, blockCount: number): boolean {
  const count = step.kind === "data" ? step.crcs.length : step.blockCount;
  return step.volume === volume && step.firstBlock < firstBlock + blockCount && firstBlock < step.firstBlock + count;
}

function noteIn(model: Model, operation: Operation): void {
  if (operation.kind === "apply") {
    for (const step of operation.steps) {
      const { blocks } = model.head.get(step.volume)!;
      if (step.kind === "data") {
        for (let index = 0; index < step.crcs.length; index += 1) {
          blocks.set(step.firstBlock + index, new Uint32Array(step.bytes.buffer)[index * 1024]!);
        }
      } else {
        for (const block of [...blocks.keys()]) {
          if (block >= step.firstBlock && block < step.firstBlock + step.blockCount) blocks.delete(block);
        }
      }
    }
  } else if (operation.kind === "fork") model.forks.set(operation.id, copyImage(model.head));
  else if (operation.kind === "drop") model.forks.delete(operation.id);
  else if (operation.kind === "promote") {
    if (operation.keepAs !== null) model.forks.set(operation.keepAs, model.head);
    model.head = copyImage(model.forks.get(operation.id)!);
  } else if (operation.kind === "create")
    model.head.set(operation.volume, { sizeBytes: operation.sizeBytes, blocks: new Map() });
  else if (operation.kind === "resize") {
    const volume = model.head.get(operation.volume)!;
    volume.sizeBytes = Math.max(volume.sizeBytes, operation.sizeBytes);
  } else model.head.delete(operation.volume);
}

function copyImage(image: ModelImage): ModelImage {
  return new Map(
    [...image].map(([number, volume]) => [number, { sizeBytes: volume.sizeBytes, blocks: new Map(volume.blocks) }]),
  );
}

function copyModel(model: Model): Model {
  return { head: copyImage(model.head), forks: new Map([...model.forks].map(([id, image]) => [id, copyImage(image)])) };
}
