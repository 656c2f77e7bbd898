/**
 * Reading a block's home when its volume may be newer than the home: a volume that the log creates, and that no destage has
 * brought to the shelf yet, has nothing there, and reads as zeros.
 */
import type { GroupStore, HomeExtent, StoreDone, StoreError } from "../store/store.ts";

function isAtHome(store: GroupStore, volume: number): boolean {
  return store.volumes("head").some((one) => one.number === volume);
}

export function readHome(
  store: GroupStore,
  volume: number,
  firstBlock: number,
  target: Uint8Array,
  done: StoreDone,
): void {
  if (isAtHome(store, volume)) return store.read("head", volume, firstBlock, target, done);
  target.fill(0);
  done(null);
}

export function homeExtents(
  store: GroupStore,
  volume: number,
  range: { readonly firstBlock: number; readonly blockCount: number; readonly limit: number },
  done: (error: StoreError | null, extents: readonly HomeExtent[]) => void,
): void {
  if (isAtHome(store, volume)) return store.extents("head", volume, range, done);
  done(null, [{ firstBlock: range.firstBlock, blockCount: range.blockCount, allocated: false }]);
}
