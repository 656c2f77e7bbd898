/**
 * Transmission requests out of a byte stream, pulled one step at a time (specification: "Compact request message", "Extended
 * request message").
 *
 * Invariants:
 * - Every cut of the stream gives the same steps; a header is held back until all of it is there.
 * - A header is reported before its payload is accepted. A payload is discarded unless `keepPayload` is called before the next
 *   step. Compact headers have one with WRITE, extended headers with every command that has PAYLOAD_LEN set.
 * - A kept payload is the received chunks' own memory, in order; only a payload that trickles in tiny pieces is assembled in a
 *   buffer, so that the number of pieces stays bounded.
 * - A chunk is held for each piece of it that is kept, and by the parser until it is used up.
 * - `push` is called only when the chunk before is used up (`next` gave `Step.more`).
 */
import { assert } from "../../codec/assert.ts";
import { noChunk, type ReceivedChunk } from "../received_chunk.ts";
import { Cmd, CmdFlag, extendedRequestHeaderBytes, Magic, requestHeaderBytes } from "./constants.ts";

export const Step = {
  /** The chunk is used up. */
  more: 0,
  /** A header is in the parser's fields. */
  request: 1,
  /** The payload of the last header has been kept, or discarded, completely. */
  payload: 2,
  /** Not a request: the stream cannot be understood from here on. */
  badMagic: 3,
} as const;

export type Step = (typeof Step)[keyof typeof Step];

/** Pieces below `smallPieceBytes` beyond this count are assembled: at most 64 + 32 MiB / 4 KiB + 1 pieces in a payload. */
const piecesMax = 64;
const smallPieceBytes = 4096;

const twoTo32 = 4294967296;

/** Where a payload is kept. */
export interface PayloadKeeper {
  /** The pieces, in order, read-only. */
  readonly payload: Uint8Array[];
  /** The chunks that pieces lie in, held once for each: the keeper's to release. */
  readonly chunks: ReceivedChunk[];
}

export class RequestParser {
  flags = 0;
  command = 0;
  /** The cookie's two halves as signed 32-bit integers: they are only ever copied. */
  cookieHigh = 0;
  cookieLow = 0;
  /** Bytes; Infinity when it exceeds 2^53 - 1, which no volume reaches. */
  offset = 0;
  /** The same as it came, in two signed halves: an extended reply repeats it. */
  offsetHigh = 0;
  offsetLow = 0;
  /** Bytes: 32 bits, with extended headers as `offset`. */
  length = 0;
  /** Bytes of payload that follow the header. */
  payloadBytes = 0;
  /** Bytes of the present payload still to come. */
  payloadLeft = 0;

  private chunk = noChunk;
  private bytes: Uint8Array = noChunk.bytes;
  private at = 0;
  private readonly extended: boolean;
  private readonly magic: number;
  private readonly headerBytes: number;
  private readonly carry: Uint8Array;
  private carried = 0;
  private keeper: PayloadKeeper | null = null;
  private assembly: Uint8Array | null = null;
  private assembled = 0;
  private inPayload = false;

  constructor(extended: boolean) {
    this.extended = extended;
    this.magic = extended ? Magic.extendedRequest : Magic.request;
    this.headerBytes = extended ? extendedRequestHeaderBytes : requestHeaderBytes;
    this.carry = new Uint8Array(this.headerBytes);
  }

  /** Inside a message: an end of the stream here is a truncation. */
  get midway(): boolean {
    return this.carried > 0 || this.inPayload;
  }

  /** `chunk`: the parser's to release. */
  push(chunk: ReceivedChunk): void {
    assert(this.chunk === noChunk, "nbd request parser: the chunk before is used up");
    this.chunk = chunk;
    this.bytes = chunk.bytes;
    this.at = 0;
  }

  /** The payload of the header just reported is appended to what `keeper` has. */
  keepPayload(keeper: PayloadKeeper): void {
    this.keeper = keeper;
  }

  next(): Step {
    if (this.inPayload) return this.takePayload();
    const left = this.bytes.byteLength - this.at;
    if (this.carried === 0 && left >= this.headerBytes) {
      const at = this.at;
      this.at = at + this.headerBytes;
      return this.readHeader(this.bytes, at);
    }
    const take = Math.min(left, this.headerBytes - this.carried);
    for (let index = 0; index < take; index++) this.carry[this.carried + index] = this.bytes[this.at + index]!;
    this.at += take;
    this.carried += take;
    // A wrong magic is told at once: whoever speaks another protocol need not send 28 bytes first.
    if (this.carried >= 4 && int32(this.carry, 0) !== this.magic) return Step.badMagic;
    if (this.carried < this.headerBytes) return this.usedUp();
    this.carried = 0;
    return this.readHeader(this.carry, 0);
  }

  private readHeader(bytes: Uint8Array, at: number): Step {
    if (int32(bytes, at) !== this.magic) return Step.badMagic;
    this.flags = (bytes[at + 4]! << 8) | bytes[at + 5]!;
    this.command = (bytes[at + 6]! << 8) | bytes[at + 7]!;
    this.cookieHigh = int32(bytes, at + 8);
    this.cookieLow = int32(bytes, at + 12);
    this.offsetHigh = int32(bytes, at + 16);
    this.offsetLow = int32(bytes, at + 20);
    this.offset = joined(this.offsetHigh, this.offsetLow);
    const lengthHead = int32(bytes, at + 24);
    this.length = this.extended ? joined(lengthHead, int32(bytes, at + 28)) : lengthHead >>> 0;
    const hasPayload = this.extended ? (this.flags & CmdFlag.payloadLen) !== 0 : this.command === Cmd.write;
    this.payloadBytes = hasPayload ? this.length : 0;
    this.payloadLeft = this.payloadBytes;
    this.keeper = null;
    this.inPayload = this.payloadBytes > 0;
    return Step.request;
  }

  private takePayload(): Step {
    const left = this.bytes.byteLength - this.at;
    const take = Math.min(left, this.payloadLeft);
    if (take > 0) {
      if (this.keeper !== null) this.keep(this.keeper, take);
      this.at += take;
      this.payloadLeft -= take;
    }
    if (this.payloadLeft > 0) return this.usedUp();
    this.inPayload = false;
    this.keeper = null;
    this.assembly = null;
    return Step.payload;
  }

  private keep({ payload, chunks }: PayloadKeeper, take: number): void {
    const piece = this.bytes.subarray(this.at, this.at + take);
    if (this.assembly === null && (payload.length < piecesMax || take >= smallPieceBytes)) {
      payload.push(piece);
      this.chunk.hold();
      chunks.push(this.chunk);
      return;
    }
    if (this.assembly === null) {
      this.assembly = new Uint8Array(this.payloadLeft);
      this.assembled = 0;
      payload.push(this.assembly);
    }
    this.assembly.set(piece, this.assembled);
    this.assembled += take;
  }

  /** Lets go of the chunk, so that an idle session does not hold its memory. */
  private usedUp(): Step {
    const { chunk } = this;
    this.chunk = noChunk;
    this.bytes = noChunk.bytes;
    this.at = 0;
    if (chunk !== noChunk) chunk.release();
    return Step.more;
  }
}

/** Two halves of an unsigned 64-bit number; Infinity beyond the safe integers. */
function joined(high: number, low: number): number {
  const highBits = high >>> 0;
  return highBits > 0x1fffff ? Number.POSITIVE_INFINITY : highBits * twoTo32 + (low >>> 0);
}

function int32(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!;
}
