/** The store's formats and small parts by themselves: superblock, roots, bitmaps, page cache, slab table's promises. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { decodeBody, encodeBody } from "../../firmware/store/cbor_body.ts";
import { formatProblem, geometryOf } from "../../firmware/store/geometry.ts";
import { decodeGroupRoot } from "../../firmware/store/group_root.ts";
import { MapCache } from "../../firmware/store/map_cache.ts";
import { heightFor, innerPagesFor, leavesFor } from "../../firmware/store/map_page.ts";
import { decodePoolDocument } from "../../firmware/store/pool_document.ts";
import { SpaceMap } from "../../firmware/store/space_map.ts";
import { decodeSuperblock, encodeSuperblock, type Superblock } from "../../firmware/store/superblock.ts";
import { Prng } from "../../hal/mock/prng.ts";
import { mockDigests } from "../../hal/mock/runtime.ts";

const test = suite("store_formats");

const superblock: Superblock = {
  generation: 2 ** 33 + 5,
  compatFlags: 3,
  ready: true,
  format: { slabBytes: 2 ** 26, logSlotBytes: 2 ** 22, groupsMax: 64, slabsMax: 4096, halves: 1 },
  diskIndex: 1,
  diskCount: 2,
  metadataCopy: 2,
  slot: 7,
  arrayId: "0123456789abcdef0123456789abcdef",
  poolId: "ffeeddccbbaa99887766554433221100",
  diskId: "00000000000000000000000000000002",
  arrayName: "oak",
  shelfName: "shelf0",
  diskTable: [
    { diskId: "00000000000000000000000000000001", slabBase: 1, slabCount: 10, place: "shelf0/0" },
    { diskId: "00000000000000000000000000000002", slabBase: 11, slabCount: 20, place: "shelf0/7" },
  ],
};

test("a superblock -> decodes to itself, at its own copy only", () => {
  const bytes = encodeSuperblock(superblock, { copy: 1, half: 0 }, mockDigests);
  assert.equal(decodeSuperblock(bytes, { copy: 1, half: 0 }, mockDigests), { kind: "valid", superblock });
  assert.is(decodeSuperblock(bytes, { copy: 0, half: 0 }, mockDigests).kind, "invalid");
  // The layout is fixed: magic, version, and the ids at their places.
  assert.is(Buffer.from(bytes.subarray(4, 8)).toString("latin1"), "GCSB");
  assert.is(bytes[8], 1);
  assert.is(Buffer.from(bytes.subarray(128, 144)).toString("hex"), superblock.arrayId);
  assert.is(Buffer.from(bytes.subarray(177, 180)).toString("latin1"), "oak");
});

test("any byte of a superblock changed -> not valid", () => {
  const bytes = encodeSuperblock(superblock, { copy: 0, half: 0 }, mockDigests);
  for (let at = 0; at < bytes.byteLength; at += 1) {
    bytes[at]! ^= 0x10;
    assert.is.not(decodeSuperblock(bytes, { copy: 0, half: 0 }, mockDigests).kind, "valid", `byte ${at}`);
    bytes[at]! ^= 0x10;
  }
});

test("a forming superblock -> has nothing behind its first sector", () => {
  const bytes = encodeSuperblock({ ...superblock, ready: false, diskTable: [] }, { copy: 0, half: 0 }, mockDigests);
  assert.ok(bytes.subarray(512).every((byte) => byte === 0));
});

test("format numbers -> refused with the name of what is wrong", () => {
  const good = { slabBytes: 2 ** 20, logSlotBytes: 2 ** 18, groupsMax: 4, slabsMax: 1024, halves: 1 } as const;
  assert.is(formatProblem(good), null);
  assert.match(formatProblem({ ...good, slabBytes: 3 * 2 ** 20 })!, /slabBytes/);
  assert.match(formatProblem({ ...good, slabBytes: 2 ** 27 })!, /slabBytes/);
  assert.match(formatProblem({ ...good, logSlotBytes: 2 ** 21 })!, /logSlotBytes/);
  assert.match(formatProblem({ ...good, logSlotBytes: 1000 })!, /logSlotBytes/);
  assert.match(formatProblem({ ...good, groupsMax: 0 })!, /groupsMax/);
  assert.match(formatProblem({ ...good, slabsMax: 2 ** 40 })!, /slabsMax/);
  const geometry = geometryOf(good);
  assert.is(geometry.dataOffset % 65536, 0);
  assert.ok(geometry.rootsOffset + 4 * 2 * 131072 <= geometry.dataOffset);
});

test("tree arithmetic -> leaves, heights and pages of known sizes", () => {
  assert.is(leavesFor(512), 1);
  assert.is(leavesFor(3 * 2 ** 20), 1);
  assert.is(leavesFor(2 ** 30), 342);
  assert.is(leavesFor(2 ** 40), 349526);
  assert.equal([1, 2, 252, 253, 63504, 63505].map(heightFor), [0, 1, 1, 2, 2, 3]);
  assert.is(innerPagesFor(1), 0);
  assert.is(innerPagesFor(349526), 1388 + 6 + 1);
});

test("a root or pool document that does not hold together -> null", () => {
  const tree = [1, 4096, 0, 0, 0, 0];
  const node = [1, "f", 5, 1, 0, [tree], null];
  const good: Record<string, unknown> = {
    document: encodeBody("x"),
    epoch: 2,
    nextKey: 2,
    headParent: 1,
    head: [tree],
    nodes: [node],
    dataSpace: [],
    mapSpace: [[0, 300, 5]],
    dataUsed: 0,
    mapUsed: 2,
  };
  assert.ok(decodeGroupRoot(good));
  const bad: Record<string, unknown>[] = [
    { document: "text" },
    { document: new Uint8Array([0x5a]) },
    { epoch: -1 },
    { epoch: 1 },
    { nextKey: 1 },
    { headParent: 9 },
    { head: [[1, 4096, 0, 0, 0]] },
    { head: [tree, tree] },
    { head: [[1, 4097, 0, 0, 0, 0]] },
    { head: [[1, 4096, 99, 0, 0, 0]] },
    { nodes: [node, node] },
    { nodes: [[1, "head", 5, 1, 0, [], null]] },
    { nodes: [[1, "f", 5, 1, 7, [], null]] },
    { nodes: [[1, "f", 5, 1, 1, [], null]] },
    { nodes: [[1, "f", 5, 1, 0, [], [1, 2]]] },
    { mapSpace: [[0, 300]] },
    { mapUsed: 1.5 },
  ];
  for (const change of bad) assert.is(decodeGroupRoot({ ...good, ...change }), null, JSON.stringify(change));
  for (const body of [null, 5, "x", [], {}]) assert.is(decodeGroupRoot(body), null);
  const numbering = { groupsMax: 4, half: 0, halves: 1 } as const;
  const pool = { array: encodeBody(null), nextGroupNumber: 3, groups: [["a", 1, 0]] };
  assert.ok(decodePoolDocument(pool, numbering));
  for (const groups of [
    [["a", 3, 0]],
    [["a", 1, 4]],
    [
      ["a", 1, 0],
      ["a", 2, 1],
    ],
    [
      ["a", 1, 0],
      ["b", 2, 0],
    ],
    [5],
    5,
  ]) {
    assert.is(decodePoolDocument({ ...pool, groups }, numbering), null, JSON.stringify(groups));
  }
});

test("CBOR that lies about its length, or nests without end -> undefined, not an exception", () => {
  assert.is(decodeBody(new Uint8Array([0x9b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff])), undefined);
  assert.is(decodeBody(new Uint8Array(100_000).fill(0x81)), undefined);
  assert.is(decodeBody(new Uint8Array(0)), undefined);
});

test("a bitmap beside a set, random operations -> the same units and counts", () => {
  for (const unitsPerSlab of [16, 256, 16384]) {
    const prng = new Prng(unitsPerSlab, "bitmap");
    const map = new SpaceMap(unitsPerSlab, 8);
    for (const slab of [2, 3, 7]) map.addSlab(slab);
    const used = new Set<number>();
    const held = new Set<number>();
    for (let round = 0; round < 20_000; round += 1) {
      const roll = prng.unit();
      if (roll < 0.55) {
        const unit = map.allocate();
        if (unit < 0) assert.is(used.size + held.size, 3 * unitsPerSlab, "none only when all are taken");
        else {
          assert.not.ok(used.has(unit) || held.has(unit));
          assert.ok([2, 3, 7].includes(Math.floor(unit / unitsPerSlab)));
          used.add(unit);
        }
      } else if (roll < 0.8 && used.size > 0) {
        const unit = prng.pick([...used].slice(0, 50));
        map.free(unit);
        used.delete(unit);
        held.add(unit);
      } else if (held.size > 0) {
        const unit = [...held][0]!;
        const slab = map.release(unit);
        held.delete(unit);
        const slabLeft = [...used, ...held].some(
          (other) => Math.floor(other / unitsPerSlab) === Math.floor(unit / unitsPerSlab),
        );
        if (unitsPerSlab === 16) assert.is(slab !== 0, !slabLeft);
      }
      if (unitsPerSlab === 16384 && round > 3000) break;
    }
    assert.is(map.usedCount, used.size);
    assert.is(map.heldCount, held.size);
    assert.is(map.freeCount, 3 * unitsPerSlab - used.size - held.size);
    assert.throws(() => map.free([...held][0] ?? 2 * unitsPerSlab - 1));
  }
});

test("the page cache beside a map, random operations -> finds what it holds, never evicts dirty or pinned pages", () => {
  const prng = new Prng(5, "cache");
  const cache = new MapCache(1024 * 1024);
  const dirty = new Map<number, number>();
  for (let round = 0; round < 20_000; round += 1) {
    const page = 1 + prng.below(2000) * (prng.chance(0.2) ? 2 ** 25 : 1);
    let slot = cache.find(page);
    if (slot < 0) {
      assert.not.ok(dirty.has(page), "a dirty page is still there");
      slot = cache.take();
      cache.words(slot)[cache.at(slot)] = page % 65536;
      cache.enter(slot, page);
      cache.unpin(slot);
    }
    assert.is(cache.words(slot)[cache.at(slot)], page % 65536);
    assert.is(cache.pageOf(slot), page);
    const roll = prng.unit();
    if (roll < 0.02 && dirty.size < 400) {
      cache.markDirty(slot);
      dirty.set(page, slot);
    } else if (roll < 0.04) {
      cache.drop(slot);
      dirty.delete(page);
    } else if (roll < 0.05) {
      const other = 10_000 + round;
      const wasDirty = dirty.delete(page);
      cache.rename(slot, other);
      cache.words(slot)[cache.at(slot)] = other % 65536;
      if (wasDirty) dirty.set(other, slot);
      assert.is(cache.find(page), -1);
      assert.is(cache.find(other), slot);
    } else if (roll < 0.052) {
      for (const dirtySlot of dirty.values()) cache.markClean(dirtySlot);
      dirty.clear();
      cache.shrink();
    }
    assert.is(cache.dirtyCount, dirty.size);
  }
  for (const [page, slot] of dirty) assert.is(cache.find(page), slot);
});

test.run();
