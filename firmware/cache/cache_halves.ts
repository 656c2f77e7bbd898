/**
 * A write cache in two halves, each a write cache of its own to whoever has it; a persist is the whole cache's.
 *
 * Invariant: a persist that has failed may have left out what either half had stored, so the cache has failed for both, and for whoever
 * has a half later: no persist succeeds any more until the process begins anew.
 */
import type { BatteryState, WriteCache } from "../../hal/api/write_cache.ts";
import { alignDown } from "../codec/bytes.ts";

/** Halves begin at a page, so that no sector of a flushed medium holds something of both. */
const pageBytes = 65536;

export function cacheHalves(cache: WriteCache): readonly [WriteCache, WriteCache] {
  const halfBytes = alignDown(cache.sizeBytes / 2, pageBytes);
  let hasFailed = false;
  const listeners: ((state: BatteryState) => void)[] = [];
  cache.onBattery((state) => {
    for (const listener of listeners) listener(state);
  });
  const half = (startBytes: number): WriteCache => ({
    sizeBytes: halfBytes,
    domain: cache.domain,
    memory: cache.memory.subarray(startBytes, startBytes + halfBytes),
    battery: () => cache.battery(),
    onBattery: (listener) => listeners.push(listener),
    wrote: (offsetBytes, lengthBytes) => cache.wrote(startBytes + offsetBytes, lengthBytes),
    persist: (done) =>
      cache.persist((outcome) => {
        hasFailed ||= outcome === "failed";
        done(hasFailed ? "failed" : "persisted");
      }),
  });
  return [half(0), half(halfBytes)];
}
