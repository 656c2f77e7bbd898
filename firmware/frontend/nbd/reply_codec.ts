/**
 * Replies of the transmission phase, written in place (specification: "Simple reply message", "Structured reply chunk message").
 * Cookies are two signed 32-bit halves, as the request parser gives them. No allocation.
 */
import { type BlockError, logicalBlockBytes } from "../../volume/block_request.ts";
import {
  Cmd,
  Errno,
  Magic,
  offsetDataHeaderBytes,
  ReplyFlag,
  ReplyType,
  simpleReplyBytes,
  structuredHeaderBytes,
} from "./constants.ts";

const encoder = new TextEncoder();
const twoTo32 = 4294967296;

/** What a structured error chunk says to people. */
const errorTexts: Readonly<Record<Errno, Uint8Array>> = {
  [Errno.none]: encoder.encode(""),
  [Errno.perm]: encoder.encode("the export is read-only"),
  [Errno.io]: encoder.encode("medium error: the data cannot be read correctly"),
  [Errno.inval]: encoder.encode(`invalid request: check range, flags and alignment to ${logicalBlockBytes} bytes`),
  [Errno.nospc]: encoder.encode("no space: beyond the end of the volume, or the pool is full"),
  [Errno.overflow]: encoder.encode("the request is too long"),
  [Errno.notsup]: encoder.encode("not fast: zeroes that stay allocated have to be written"),
  [Errno.shutdown]: encoder.encode("the volume is not served here now"),
};

export const errorReplyBytesMax = structuredHeaderBytes + 6 + 80;

/** `BlockError` as the specification wants it ("Error values"): a write beyond the end is ENOSPC, anything else EINVAL. */
export function errnoOf(error: BlockError, command: number): Errno {
  switch (error) {
    case "read-only":
      return Errno.perm;
    case "out-of-range":
      return outOfRange(command);
    case "unaligned":
      return Errno.inval;
    case "no-space":
      return Errno.nospc;
    case "medium-error":
      return Errno.io;
    case "not-ready":
    case "closed":
      return Errno.shutdown;
  }
}

export function outOfRange(command: number): Errno {
  return command === Cmd.write || command === Cmd.writeZeroes ? Errno.nospc : Errno.inval;
}

export function putSimpleReply(view: DataView, at: number, error: number, cookieHigh: number, cookieLow: number): void {
  view.setInt32(at, Magic.simpleReply);
  view.setInt32(at + 4, error);
  view.setInt32(at + 8, cookieHigh);
  view.setInt32(at + 12, cookieLow);
}

function putChunkHeader(view: DataView, at: number, type: number, cookieHigh: number, cookieLow: number): void {
  view.setInt32(at, Magic.structuredReply);
  view.setInt16(at + 4, ReplyFlag.done);
  view.setUint16(at + 6, type);
  view.setInt32(at + 8, cookieHigh);
  view.setInt32(at + 12, cookieLow);
}

/** The header of the only content chunk of a READ: 28 bytes, followed by `length` bytes of data. */
export function putOffsetDataHeader(
  view: DataView,
  at: number,
  reply: {
    readonly cookieHigh: number;
    readonly cookieLow: number;
    readonly offset: number;
    readonly length: number;
  },
): void {
  putChunkHeader(view, at, ReplyType.offsetData, reply.cookieHigh, reply.cookieLow);
  view.setUint32(at + 16, reply.length + (offsetDataHeaderBytes - structuredHeaderBytes));
  view.setUint32(at + 20, Math.floor(reply.offset / twoTo32));
  view.setUint32(at + 24, reply.offset >>> 0);
}

/** Header and context id of a BLOCK_STATUS chunk, 24 bytes; `extentCount` descriptors of 8 bytes follow. */
export function putBlockStatusHeader(
  view: DataView,
  at: number,
  reply: {
    readonly cookieHigh: number;
    readonly cookieLow: number;
    readonly contextId: number;
    readonly extentCount: number;
  },
): void {
  putChunkHeader(view, at, ReplyType.blockStatus, reply.cookieHigh, reply.cookieLow);
  view.setUint32(at + 16, 4 + 8 * reply.extentCount);
  view.setUint32(at + 20, reply.contextId);
}

/** An error reply in the form that was negotiated; returns its length, at most `errorReplyBytesMax`. */
export function putError(
  view: DataView,
  at: number,
  reply: {
    readonly cookieHigh: number;
    readonly cookieLow: number;
    readonly error: Errno;
    readonly structured: boolean;
  },
): number {
  if (!reply.structured) {
    putSimpleReply(view, at, reply.error, reply.cookieHigh, reply.cookieLow);
    return simpleReplyBytes;
  }
  const text = errorTexts[reply.error];
  putChunkHeader(view, at, ReplyType.error, reply.cookieHigh, reply.cookieLow);
  view.setUint32(at + 16, 6 + text.byteLength);
  view.setUint32(at + 20, reply.error);
  view.setUint16(at + 24, text.byteLength);
  for (let index = 0; index < text.byteLength; index++) view.setUint8(at + 26 + index, text[index]!);
  return 26 + text.byteLength;
}
