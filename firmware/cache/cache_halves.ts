/** A write cache in two halves, each a write cache of its own to whoever has it; a persist is the whole cache's. */
import type { BatteryState, WriteCache } from "../../hal/api/write_cache.ts";
import { alignDown } from "../codec/bytes.ts";

/** Halves begin at a page, so that no sector of a flushed medium holds something of both. */
const pageBytes = 65536;

export function cacheHalves(cache: WriteCache): readonly [WriteCache, WriteCache] {
  const halfBytes = alignDown(cache.sizeBytes / 2, pageBytes);
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
    persist: (done) => cache.persist(done),
  });
  return [half(0), half(halfBytes)];
}
