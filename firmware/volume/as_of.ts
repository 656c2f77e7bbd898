/**
 * As-of records: a chunk, a hole or the volume table as it was at some seq, for the stream of a peer that is being resynced.
 * They carry the seq of the record before them in that stream and take none of their own.
 */
import type { Digests } from "../../hal/api/digests.ts";
import { encodeAround, headerBytesFor, RecordKind, recordBytesFor, regionOf, timelineWords } from "../log/record.ts";
import type { AsOfPlace, GroupVolume } from "./group_port.ts";
import { encodeChange } from "./volume_table.ts";

export class AsOfEncoder {
  readonly #digests: Digests;
  readonly #groupTag: number;

  constructor(digests: Digests, groupTag: number) {
    this.#digests = digests;
    this.#groupTag = groupTag;
  }

  chunk(place: AsOfPlace, volume: number, firstBlock: number, bytes: Uint8Array): Uint8Array {
    return this.#encode(place, RecordKind.chunk, volume, firstBlock * 8, bytes.byteLength / 512, bytes);
  }

  hole(place: AsOfPlace, volume: number, firstBlock: number, blockCount: number): Uint8Array {
    return this.#encode(place, RecordKind.chunkHole, volume, firstBlock * 8, blockCount * 8, new Uint8Array(0));
  }

  table(place: AsOfPlace, volumes: readonly GroupVolume[], nextNumber: number): Uint8Array {
    const payload = encodeChange({ op: "table", volumes: volumes.map((volume) => ({ ...volume })), nextNumber });
    return this.#encode(place, RecordKind.table, 0, 0, 0, payload);
  }

  #encode(
    place: AsOfPlace,
    kind: RecordKind,
    volume: number,
    startLba: number,
    blockCount: number,
    payload: Uint8Array,
  ): Uint8Array {
    const region = regionOf(new Uint8Array(recordBytesFor(kind, startLba, payload.byteLength)));
    region.bytes.set(payload, headerBytesFor(kind, startLba, payload.byteLength));
    const fields = {
      kind,
      volume,
      timeline: timelineWords(place.timeline),
      firstSeq: place.seq,
      lastSeq: place.seq,
      startLba,
      blockCount,
      wallMs: 0,
      asOfSeq: place.asOfSeq,
      commitSeq: 0,
      parent: null,
      groupTag: this.#groupTag,
    };
    encodeAround(region, 0, fields, payload.byteLength, this.#digests);
    return region.bytes;
  }
}
