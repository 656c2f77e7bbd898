/** Finding and damaging records in a cache's memory, as a torn or lost write would. */
import type { Nvram } from "../../../firmware/cache/nvram.ts";
import { emptyHeader, payloadIsIntact, type RecordHeader, readHeader, regionOf } from "../../../firmware/log/record.ts";
import { decodeSegmentHeader } from "../../../firmware/log/segment.ts";
import { mockDigests } from "../../../hal/mock/runtime.ts";

const recordMagic = 0x31524347;

export interface FoundRecord {
  /** Where it lies in the memory, bytes. */
  readonly at: number;
  readonly ordinal: number;
  readonly header: RecordHeader;
}

/** Every intact record in segments with a header, by place. `memory`: the cache's bytes; `nvram`: how they are cut. */
export function recordsIn(memory: Uint8Array, nvram: Nvram): FoundRecord[] {
  const region = regionOf(memory);
  const found: FoundRecord[] = [];
  for (let slot = 0; slot < nvram.segmentCount; slot++) {
    const base = nvram.baseOf(slot);
    const segment = decodeSegmentHeader(region, base, mockDigests);
    if (segment === null) continue;
    for (let at = base; at < base + nvram.segmentBytes; at += 64) {
      if (region.view.getUint32(at, true) !== recordMagic) continue;
      const header = emptyHeader();
      readHeader(region, at, header);
      if (at + header.totalBytes > base + nvram.segmentBytes) continue;
      if (payloadIsIntact(region, at, header, mockDigests)) found.push({ at, ordinal: segment.ordinal, header });
    }
  }
  return found;
}

/** The newest record with `seq`. */
export function recordOf(memory: Uint8Array, nvram: Nvram, seq: number): FoundRecord {
  const found = recordsIn(memory, nvram).filter((one) => one.header.firstSeq === seq);
  const newest = found.sort((a, b) => b.ordinal - a.ordinal)[0];
  if (newest === undefined) throw new Error(`no record ${seq} in the cache`);
  return newest;
}
