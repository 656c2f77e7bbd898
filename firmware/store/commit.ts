/**
 * The commit of a group: everything applied so far, the family of forks, the bitmaps and the caller's document become durable as one.
 *
 *     seal (in one event): checksums of all changed map pages, new places for changed bitmap pages, the root's bytes
 *       ──▶ write those pages; make the slab table durable if slabs were taken
 *       ──▶ flush every disk written to since the last commit, data included
 *       ──▶ write the root into its other slot, flush
 *       ──▶ done: freed units may be used again, pages are clean, dooms count as durable
 *
 * Invariants:
 * - Until the root's write is durable nothing that the previous root refers to has been touched, but for blocks of chunks that belong
 *   to the head alone (the log still holds what was written there).
 * - Changes made while the commit runs (reaper, forks, volumes) belong to the next one.
 */
import { assert } from "../codec/assert.ts";
import { encodeGroupRoot } from "./group_root.ts";
import { slotBodyBytesMax } from "./slot_pair.ts";
import { sealSpace } from "./space_tree.ts";
import type { StoreError } from "./store.ts";
import type { StoredGroup } from "./stored_group.ts";
import { WriteStream } from "./write_stream.ts";

/** Checksums and page numbers that sealing fills in: up to 9 bytes for each of two per index page and tree that is dirty. */
const rootGrowthBytesMax = 8192;

/** A fork in the root: its node, and what the caller's document says of it. */
const forkBytes = 4096;
/** Its roots of the volumes' maps. */
const treeBytes = 64;

export function hasRoomForFork(group: StoredGroup, spareBytes: number): boolean {
  const addedBytes = forkBytes + treeBytes * group.family.headTrees.size;
  return (
    rootOf(group, group.documentBytes).byteLength + addedBytes + spareBytes + rootGrowthBytesMax <= slotBodyBytesMax
  );
}

function rootOf(group: StoredGroup, documentBytes: Uint8Array): Uint8Array {
  const { family, allocator, dataSpace, mapSpace } = group;
  return encodeGroupRoot({
    documentBytes,
    family,
    dataSpace: dataSpace.roots(),
    mapSpace: mapSpace.roots(),
    dataUsed: allocator.data.usedCount,
    mapUsed: allocator.map.usedCount,
  });
}

/** `fatal`: the outcome is unknown; the group must be opened anew. */
export function commitGroup(
  group: StoredGroup,
  documentBytes: Uint8Array,
  done: (error: StoreError | null, fatal: boolean) => void,
): void {
  const { parts, trees, family, allocator, writer } = group;
  const { clock, digests, disks, table, slots } = parts;
  const generation = slots.generation + 1;
  const refuse = (text: string) => clock.defer(() => done({ code: "no-space", text }, false));

  const root = () => rootOf(group, documentBytes);
  // Judged before anything is sealed; numbers may still grow by a few bytes each.
  const sizeBytes = root().byteLength + rootGrowthBytesMax;
  if (sizeBytes > slotBodyBytesMax) {
    refuse(
      `the group's root needs ${sizeBytes} bytes, more than ${slotBodyBytesMax}: too large a document, or too many forks`,
    );
    return;
  }
  for (const tree of family.allTrees()) trees.seal(tree, generation);
  const places = { allocate: () => allocator.allocateSpacePage(), free: (page: number) => allocator.freePage(page) };
  const spacePages = sealSpace([group.dataSpace, group.mapSpace], places, generation, digests);
  if (!spacePages) {
    refuse("no map page is left for the bitmaps");
    return;
  }
  const body = root();
  assert(body.byteLength <= slotBodyBytesMax, "a root does not grow that much");
  const freed = allocator.takeFreed();
  const doomed = [...family.nodes.values()].filter((node) => node.id === null && !node.doomDurable);
  const dirtySlots = [...trees.dirtySlots];

  const pages = dirtySlots.map((slot) => ({ place: trees.cache.pageOf(slot), bytes: trees.cache.bytes(slot) }));
  for (const page of spacePages) pages.push(page);
  pages.sort((a, b) => a.place - b.place);
  const touched = new Set(writer.touched);
  const stream = new WriteStream(disks, touched);

  const fail = (error: StoreError) => done(error, true);
  const saveRoot = () => {
    slots.save(body, (error) => {
      if (error) {
        fail({ code: "disk-failed", text: `root: ${error.text}` });
        return;
      }
      writer.touched.clear();
      group.documentBytes = documentBytes;
      for (const node of doomed) node.doomDurable = true;
      trees.markClean(dirtySlots);
      allocator.committed(freed);
      done(null, false);
    });
  };
  const flush = () => {
    disks.flushAll(touched, (error) => {
      if (error) fail({ code: "disk-failed", text: `flush: ${error.text}` });
      else saveRoot();
    });
  };
  const saveTable = () => {
    if (stream.error) fail(stream.error);
    else if (!table.dirty) flush();
    else {
      table.save((error) => {
        if (error) fail({ code: "disk-failed", text: `slab table: ${error.text}` });
        else flush();
      });
    }
  };
  // Writing goes on while there is room, and ends with everything written.
  let next = 0;
  const write = () => {
    for (; next < pages.length; next += 1) {
      if (stream.full) {
        stream.whenRoom(write);
        return;
      }
      const page = pages[next]!;
      stream.add(trees.diskOf(page.place), trees.offsetOf(page.place), page.bytes);
    }
    stream.drain(saveTable);
  };
  write();
}
