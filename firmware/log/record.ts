/**
 * The record: what the write log consists of, in the cache, on the shelf and on the peer link alike.
 *
 * Layout, little-endian, at a multiple of 64 bytes:
 *
 *     0  u32  magic "GCR1"
 *     4  u32  crc32 of bytes 8 .. headerBytes
 *     8  u8   version (1)
 *     9  u8   kind
 *    10  u16  flags (0)
 *    12  u32  headerBytes: 128 + the checksum table, a multiple of 64
 *    16  u32  payloadBytes
 *    20  u32  volume number, 0 for kinds that concern the group
 *    24  16B  timeline
 *    40  u64  firstSeq
 *    48  u64  lastSeq
 *    56  u64  startLba (512-byte blocks)
 *    64  u64  blockCount
 *    72  u64  wallMs: when the primary admitted it
 *    80  u64  asOfSeq (as-of kinds), parent seq (opening)
 *    88  u64  commitSeq: what its writer knew to be committed then
 *    96  16B  parent timeline (opening), else zero (kept for the identity of a forwarded write)
 *   112  u32  group tag: crc32 of the group's id
 *   116  12B  zero
 *   128  u32 each: crc32 of every piece of the payload, cut where a multiple of 4,096 bytes of the volume lies
 *   ...  payload, then zeros to a multiple of 64
 *
 * Invariants:
 * - A record is valid only if the header's checksum, the piece checksums and the group tag are right: torn and stale bytes are
 *   never taken for a record.
 * - The piece checksums of whole physical blocks are the checksums that the map stores: they are computed once, on admission.
 */
import type { Digests } from "../../hal/api/digests.ts";
import { alignUp, getU64, setU64 } from "../codec/bytes.ts";
import { appendBlock } from "../codec/crc32_run.ts";

export const RecordKind = {
  write: 1,
  zero: 2,
  unmap: 3,
  boundary: 4,
  control: 5,
  opening: 6,
  consistentAt: 7,
  chunk: 8,
  chunkHole: 9,
  table: 10,
} as const;
export type RecordKind = (typeof RecordKind)[keyof typeof RecordKind];

export const recordAlignBytes = 64;
export const fixedHeaderBytes = 128;
const magic = 0x31524347;
const version = 1;
const blockBytes = 4096;
const lbaPerBlock = 8;

/** A record's header, decoded. Reused: `decodeHeader` fills every field. */
export interface RecordHeader {
  kind: number;
  headerBytes: number;
  payloadBytes: number;
  /** Header, payload and padding: the distance to the next record. */
  totalBytes: number;
  volume: number;
  timeline0: number;
  timeline1: number;
  timeline2: number;
  timeline3: number;
  firstSeq: number;
  lastSeq: number;
  startLba: number;
  blockCount: number;
  wallMs: number;
  asOfSeq: number;
  commitSeq: number;
  headerCrc: number;
}

export function emptyHeader(): RecordHeader {
  return {
    kind: 0,
    headerBytes: 0,
    payloadBytes: 0,
    totalBytes: 0,
    volume: 0,
    timeline0: 0,
    timeline1: 0,
    timeline2: 0,
    timeline3: 0,
    firstSeq: 0,
    lastSeq: 0,
    startLba: 0,
    blockCount: 0,
    wallMs: 0,
    asOfSeq: 0,
    commitSeq: 0,
    headerCrc: 0,
  };
}

/** Bytes with the view on them that the codec needs. */
export interface Region {
  readonly bytes: Uint8Array;
  readonly view: DataView;
}

export function regionOf(bytes: Uint8Array): Region {
  return { bytes, view: new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength) };
}

/** A timeline as the four words that records carry. */
export interface TimelineWords {
  readonly w0: number;
  readonly w1: number;
  readonly w2: number;
  readonly w3: number;
}

export function timelineWords(hex: string): TimelineWords {
  const word = (index: number) => {
    const part = hex.slice(8 * index, 8 * index + 8);
    return Number.parseInt(part, 16) >>> 0;
  };
  return { w0: word(0), w1: word(1), w2: word(2), w3: word(3) };
}

export function timelineHex(w0: number, w1: number, w2: number, w3: number): string {
  return [w0, w1, w2, w3].map((word) => word.toString(16).padStart(8, "0")).join("");
}

export function headerTimeline(header: RecordHeader): string {
  return timelineHex(header.timeline0, header.timeline1, header.timeline2, header.timeline3);
}

export function isOnTimeline(header: RecordHeader, words: TimelineWords): boolean {
  return (
    header.timeline0 === words.w0 &&
    header.timeline1 === words.w1 &&
    header.timeline2 === words.w2 &&
    header.timeline3 === words.w3
  );
}

/** Kinds that take no seq of their own: they stand behind the record whose seq they carry. */
export function isAsOf(kind: number): boolean {
  return kind === RecordKind.chunk || kind === RecordKind.chunkHole || kind === RecordKind.table;
}

/** Kinds whose blocks change the volume's content. */
export function carriesBlocks(kind: number): boolean {
  return kind === RecordKind.write || kind === RecordKind.chunk;
}

export function clearsBlocks(kind: number): boolean {
  return kind === RecordKind.zero || kind === RecordKind.unmap || kind === RecordKind.chunkHole;
}

/** How many pieces a payload has: physical blocks touched for block kinds, 4 KiB parts otherwise. */
export function pieceCount(kind: number, startLba: number, payloadBytes: number): number {
  if (payloadBytes === 0) return 0;
  const lead = carriesBlocks(kind) ? (startLba % lbaPerBlock) * 512 : 0;
  return Math.ceil((lead + payloadBytes) / blockBytes);
}

export function headerBytesFor(kind: number, startLba: number, payloadBytes: number): number {
  return fixedHeaderBytes + alignUp(4 * pieceCount(kind, startLba, payloadBytes), recordAlignBytes);
}

export function recordBytesFor(kind: number, startLba: number, payloadBytes: number): number {
  return headerBytesFor(kind, startLba, payloadBytes) + alignUp(payloadBytes, recordAlignBytes);
}

export interface RecordFields {
  kind: RecordKind;
  volume: number;
  timeline: TimelineWords;
  firstSeq: number;
  lastSeq: number;
  startLba: number;
  blockCount: number;
  wallMs: number;
  asOfSeq: number;
  commitSeq: number;
  parent: TimelineWords | null;
  groupTag: number;
}

/**
 * Writes a record whose payload is already in place behind its header (at `offset + headerBytesFor(...)`). Returns the record's
 * total length. `offset` is a multiple of 64.
 */
export function encodeAround(
  region: Region,
  offset: number,
  fields: RecordFields,
  payloadBytes: number,
  digests: Digests,
): number {
  const { bytes, view } = region;
  const headerBytes = headerBytesFor(fields.kind, fields.startLba, payloadBytes);
  const payloadAt = offset + headerBytes;
  const end = payloadAt + alignUp(payloadBytes, recordAlignBytes);
  if (end > payloadAt + payloadBytes) bytes.fill(0, payloadAt + payloadBytes, end);
  view.setUint32(offset, magic, true);
  view.setUint8(offset + 8, version);
  view.setUint8(offset + 9, fields.kind);
  view.setUint16(offset + 10, 0, true);
  view.setUint32(offset + 12, headerBytes, true);
  view.setUint32(offset + 16, payloadBytes, true);
  view.setUint32(offset + 20, fields.volume, true);
  setTimeline(view, offset + 24, fields.timeline);
  setU64(view, offset + 40, fields.firstSeq);
  setU64(view, offset + 48, fields.lastSeq);
  setU64(view, offset + 56, fields.startLba);
  setU64(view, offset + 64, fields.blockCount);
  setU64(view, offset + 72, fields.wallMs);
  setU64(view, offset + 80, fields.asOfSeq);
  setU64(view, offset + 88, fields.commitSeq);
  if (fields.parent !== null) setTimeline(view, offset + 96, fields.parent);
  else bytes.fill(0, offset + 96, offset + 112);
  view.setUint32(offset + 112, fields.groupTag, true);
  bytes.fill(0, offset + 116, offset + fixedHeaderBytes);
  let table = offset + fixedHeaderBytes;
  let at = payloadAt;
  const payloadEnd = payloadAt + payloadBytes;
  let pieceEnd = at + blockBytes - leadBytes(fields.kind, fields.startLba);
  while (at < payloadEnd) {
    const stop = Math.min(pieceEnd, payloadEnd);
    view.setUint32(table, digests.crc32(bytes.subarray(at, stop)), true);
    table += 4;
    at = stop;
    pieceEnd = stop + blockBytes;
  }
  if (table < payloadAt) bytes.fill(0, table, payloadAt);
  view.setUint32(offset + 4, digests.crc32(bytes.subarray(offset + 8, payloadAt)), true);
  return end - offset;
}

/** Whether a valid record header stands at `offset`, wholly (payload included) before `limit`; fills `header` if so. */
export function decodeHeader(
  region: Region,
  offset: number,
  limit: number,
  groupTag: number,
  digests: Digests,
  header: RecordHeader,
): boolean {
  if (offset + fixedHeaderBytes > limit) return false;
  const view = region.view;
  if (view.getUint32(offset, true) !== magic || view.getUint8(offset + 8) !== version) return false;
  const headerBytes = view.getUint32(offset + 12, true);
  const payloadBytes = view.getUint32(offset + 16, true);
  if (headerBytes < fixedHeaderBytes || headerBytes % recordAlignBytes !== 0) return false;
  const totalBytes = headerBytes + alignUp(payloadBytes, recordAlignBytes);
  if (offset + totalBytes > limit) return false;
  readHeader(region, offset, header);
  if (headerBytes !== headerBytesFor(header.kind, header.startLba, payloadBytes)) return false;
  if (view.getUint32(offset + 112, true) !== groupTag) return false;
  if (digests.crc32(region.bytes.subarray(offset + 8, offset + headerBytes)) !== header.headerCrc) return false;
  return rangesAreSane(header);
}

/** Fills `header` from a record that is known to be valid (it was checked when it came into this log). */
export function readHeader(region: Region, offset: number, header: RecordHeader): void {
  const view = region.view;
  header.headerCrc = view.getUint32(offset + 4, true);
  header.kind = view.getUint8(offset + 9);
  header.headerBytes = view.getUint32(offset + 12, true);
  header.payloadBytes = view.getUint32(offset + 16, true);
  header.totalBytes = header.headerBytes + alignUp(header.payloadBytes, recordAlignBytes);
  header.volume = view.getUint32(offset + 20, true);
  header.timeline0 = view.getUint32(offset + 24, true);
  header.timeline1 = view.getUint32(offset + 28, true);
  header.timeline2 = view.getUint32(offset + 32, true);
  header.timeline3 = view.getUint32(offset + 36, true);
  header.firstSeq = getU64(view, offset + 40);
  header.lastSeq = getU64(view, offset + 48);
  header.startLba = getU64(view, offset + 56);
  header.blockCount = getU64(view, offset + 64);
  header.wallMs = getU64(view, offset + 72);
  header.asOfSeq = getU64(view, offset + 80);
  header.commitSeq = getU64(view, offset + 88);
}

/** The parent timeline of an opening record. */
export function parentTimeline(region: Region, offset: number): string {
  const view = region.view;
  return timelineHex(
    view.getUint32(offset + 96, true),
    view.getUint32(offset + 100, true),
    view.getUint32(offset + 104, true),
    view.getUint32(offset + 108, true),
  );
}

/** Whether every piece of the payload has the checksum that the header's table tells. */
export function payloadIsIntact(region: Region, offset: number, header: RecordHeader, digests: Digests): boolean {
  const table = offset + fixedHeaderBytes;
  const at = offset + header.headerBytes;
  const end = at + header.payloadBytes;
  const lead = leadBytes(header.kind, header.startLba);
  const isWholeBlocks = lead === 0 && header.payloadBytes % blockBytes === 0 && header.payloadBytes > 0;
  return isWholeBlocks
    ? digests.crc32(region.bytes.subarray(at, end)) ===
        runChecksum(region.view, table, header.payloadBytes / blockBytes)
    : piecesAreIntact(region, { table, at, end, firstEnd: at + blockBytes - lead }, digests);
}

function runChecksum(view: DataView, table: number, blocks: number): number {
  let crc = view.getUint32(table, true);
  for (let block = 1; block < blocks; block++) crc = appendBlock(crc, view.getUint32(table + 4 * block, true));
  return crc;
}

function piecesAreIntact(
  region: Region,
  payload: { readonly table: number; readonly at: number; readonly end: number; readonly firstEnd: number },
  digests: Digests,
): boolean {
  let { table, at, firstEnd: pieceEnd } = payload;
  while (at < payload.end) {
    const stop = Math.min(pieceEnd, payload.end);
    if (digests.crc32(region.bytes.subarray(at, stop)) !== region.view.getUint32(table, true)) return false;
    table += 4;
    at = stop;
    pieceEnd = stop + blockBytes;
  }
  return true;
}

function rangesAreSane(header: RecordHeader): boolean {
  if (!(header.firstSeq >= 0 && header.lastSeq >= header.firstSeq)) return false;
  if (!(header.startLba >= 0 && header.blockCount >= 0 && header.startLba + header.blockCount <= maxLba)) return false;
  if (Number.isNaN(header.asOfSeq) || Number.isNaN(header.commitSeq) || Number.isNaN(header.wallMs)) return false;
  if (header.kind < RecordKind.write || header.kind > RecordKind.table) return false;
  if (carriesBlocks(header.kind) || clearsBlocks(header.kind)) {
    if (header.volume < 1 || header.volume > maxVolumeNumber) return false;
  }
  if (carriesBlocks(header.kind)) return header.payloadBytes === header.blockCount * 512 && header.blockCount > 0;
  return !clearsBlocks(header.kind) || header.payloadBytes === 0;
}

/** So that (volume, block) is one exact number. */
export const maxVolumeNumber = (1 << 20) - 1;
/** 2^32 physical blocks of 4 KiB: the largest volume is 16 TiB, so that a block number fits 32 bits. */
export const maxLba = 4294967296 * lbaPerBlock;

function leadBytes(kind: number, startLba: number): number {
  return carriesBlocks(kind) ? (startLba % lbaPerBlock) * 512 : 0;
}

function setTimeline(view: DataView, offset: number, words: TimelineWords): void {
  view.setUint32(offset, words.w0, true);
  view.setUint32(offset + 4, words.w1, true);
  view.setUint32(offset + 8, words.w2, true);
  view.setUint32(offset + 12, words.w3, true);
}
