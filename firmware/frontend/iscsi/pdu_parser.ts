/**
 * iSCSI PDUs out of a byte stream, pulled one step at a time (RFC 7143 11.2).
 *
 *   BHS 48 ─ AHS 0..1020 ─ header digest 0|4 ──▶ Step.header ─ data ─ padding to 4 ─ data digest 0|4 ──▶ Step.payload
 *
 * Invariants:
 * - Every cut of the stream gives the same steps; every PDU gives `header`, then `payload`, also without data.
 * - A header is reported, and its digest is right, before its data is accepted. The data is discarded unless `keepPayload` is called
 *   before the next step.
 * - Kept data is the received chunks' own memory, in order. It is kept before its digest is known: `dataDigestRight` tells at
 *   `Step.payload`.
 * - `push` is called only when the chunk before is used up (`next` gave `Step.more`).
 * - After `tooLong` or `badHeaderDigest` the stream cannot be understood any more.
 */
import { assert } from "../../codec/assert.ts";
import { ahsBytesMax, digestBytes, headerBytes, immediateBit } from "./constants.ts";
import type { IscsiDigests } from "./ports.ts";

export const Step = {
  /** The chunk is used up. */
  more: 0,
  /** A header, with its additional segments, is in the parser's fields. */
  header: 1,
  /** The data of the last header has been kept, or discarded, completely. */
  payload: 2,
  /** DataSegmentLength is above what was declared: a format error (7.7). */
  tooLong: 3,
  badHeaderDigest: 4,
} as const;
export type Step = (typeof Step)[keyof typeof Step];

/** Takes a PDU's data piece by piece; the memory is the receiver's to keep, not to change. */
export interface PayloadSink {
  piece(bytes: Uint8Array): void;
}

const empty = new Uint8Array(0);

export class PduParser {
  /** The largest DataSegmentLength accepted: what was declared as MaxRecvDataSegmentLength. */
  dataBytesMax: number;
  headerDigest = false;
  dataDigest = false;

  /** The present PDU. */
  opcode = 0;
  immediate = false;
  /** The second byte. */
  flags = 0;
  ahsBytes = 0;
  dataBytes = 0;
  /** False: the data that was kept or discarded was not what was sent. */
  dataDigestRight = true;

  /** BHS, AHS and header digest of the present PDU. */
  readonly bytes = new Uint8Array(headerBytes + ahsBytesMax + digestBytes);
  private readonly view = new DataView(this.bytes.buffer);
  private have = 0;
  private wanted = headerBytes;

  private readonly digests: IscsiDigests;
  private chunk: Uint8Array = empty;
  private at = 0;
  private inPayload = false;
  private sink: PayloadSink | null = null;
  private dataLeft = 0;
  private paddingLeft = 0;
  private crc = 0;
  private readonly trailer = new Uint8Array(digestBytes);
  private trailerHave = 0;

  constructor(digests: IscsiDigests, dataBytesMax: number) {
    this.digests = digests;
    this.dataBytesMax = dataBytesMax;
  }

  /** Inside a PDU: an end of the stream here is a truncation. */
  get midway(): boolean {
    return this.have > 0 || this.inPayload;
  }

  /** Data that the other side has promised and not sent. */
  get receivesPayload(): boolean {
    return this.inPayload && this.dataLeft > 0;
  }

  u32(offset: number): number {
    return this.view.getUint32(offset);
  }

  u16(offset: number): number {
    return this.view.getUint16(offset);
  }

  push(chunk: Uint8Array): void {
    assert(this.at === this.chunk.byteLength, "iscsi parser: the chunk before is used up");
    this.chunk = chunk;
    this.at = 0;
  }

  /** The data of the header just reported goes to `sink`. */
  keepPayload(sink: PayloadSink): void {
    this.sink = sink;
  }

  /** Whoever keeps the present data does not want it any more. */
  dropPayload(): void {
    this.sink = null;
  }

  dropPayloadFor(sink: PayloadSink): void {
    if (this.sink === sink) this.sink = null;
  }

  next(): Step {
    return this.inPayload ? this.takePayload() : this.takeHeader();
  }

  private takeHeader(): Step {
    for (;;) {
      const take = Math.min(this.chunk.byteLength - this.at, this.wanted - this.have);
      const { bytes, chunk, at, have } = this;
      for (let index = 0; index < take; index++) bytes[have + index] = chunk[at + index]!;
      this.at += take;
      this.have += take;
      if (this.have < this.wanted) return this.usedUp();
      if (this.wanted > headerBytes) break;
      const more = this.bytes[4]! * 4 + (this.headerDigest ? digestBytes : 0);
      if (more === 0) break;
      this.wanted = headerBytes + more;
    }
    return this.headerComplete();
  }

  private headerComplete(): Step {
    const { bytes } = this;
    const endOfHeader = this.headerDigest ? this.wanted - digestBytes : this.wanted;
    if (this.headerDigest) {
      const crc = this.digests.crc32c(bytes.subarray(0, endOfHeader));
      if (crc !== this.view.getUint32(endOfHeader, true)) return Step.badHeaderDigest;
    }
    this.opcode = bytes[0]! & 0x3f;
    this.immediate = (bytes[0]! & immediateBit) !== 0;
    this.flags = bytes[1]!;
    this.ahsBytes = endOfHeader - headerBytes;
    this.dataBytes = this.view.getUint32(4) & 0xffffff;
    if (this.dataBytes > this.dataBytesMax) return Step.tooLong;
    this.have = 0;
    this.wanted = headerBytes;
    this.inPayload = true;
    this.sink = null;
    this.dataLeft = this.dataBytes;
    this.paddingLeft = -this.dataBytes & 3;
    this.trailerHave = this.dataDigest && this.dataBytes > 0 ? 0 : digestBytes;
    this.crc = 0;
    this.dataDigestRight = true;
    return Step.header;
  }

  private takePayload(): Step {
    if (this.dataLeft > 0) {
      const take = Math.min(this.chunk.byteLength - this.at, this.dataLeft);
      if (take > 0) {
        this.takeData(take);
        this.dataLeft -= take;
      }
      if (this.dataLeft > 0) return this.usedUp();
    }
    if (this.paddingLeft > 0) {
      const take = Math.min(this.chunk.byteLength - this.at, this.paddingLeft);
      if (this.trailerHave === 0 && take > 0) {
        this.crc = this.digests.crc32c(this.chunk.subarray(this.at, this.at + take), this.crc);
      }
      this.at += take;
      this.paddingLeft -= take;
      if (this.paddingLeft > 0) return this.usedUp();
    }
    while (this.trailerHave < digestBytes) {
      if (this.at === this.chunk.byteLength) return this.usedUp();
      this.trailer[this.trailerHave++] = this.chunk[this.at++]!;
      if (this.trailerHave < digestBytes) continue;
      const [first, second, third, fourth] = this.trailer;
      const sent = (first! | (second! << 8) | (third! << 16) | (fourth! << 24)) >>> 0;
      this.dataDigestRight = sent === this.crc;
    }
    this.inPayload = false;
    this.sink = null;
    return Step.payload;
  }

  private takeData(take: number): void {
    const { at, chunk } = this;
    this.at = at + take;
    if (this.sink === null && this.trailerHave !== 0) return;
    const piece = take === chunk.byteLength ? chunk : chunk.subarray(at, at + take);
    if (this.trailerHave === 0) this.crc = this.digests.crc32c(piece, this.crc);
    this.sink?.piece(piece);
  }

  /** Lets go of the chunk, so that an idle session does not hold its memory. */
  private usedUp(): Step {
    this.chunk = empty;
    this.at = 0;
    return Step.more;
  }
}
