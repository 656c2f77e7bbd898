/**
 * Replies of the transmission phase, written in place (specification: "Simple reply message", "Structured reply chunk message",
 * "Extended reply chunk message"). Cookies and offsets are two signed 32-bit halves, as the request parser gives them. No
 * allocation.
 */
import { type BlockError, logicalBlockBytes } from "../../volume/block_request.ts";
import {
  Cmd,
  dataOffsetBytes,
  Errno,
  extendedReplyHeaderBytes,
  type HeaderForm,
  Magic,
  ReplyFlag,
  ReplyType,
  simpleReplyBytes,
  structuredHeaderBytes,
} from "./constants.ts";

const encoder = new TextEncoder();
const twoTo32 = 4294967296;

/** What an error chunk says to people. */
const errorTexts: Readonly<Record<Errno, Uint8Array>> = {
  [Errno.none]: encoder.encode(""),
  [Errno.perm]: encoder.encode("not permitted: the export is read-only, or a SCSI host has reserved the volume"),
  [Errno.io]: encoder.encode("medium error: the data cannot be read correctly"),
  [Errno.inval]: encoder.encode(`invalid request: check range, flags and alignment to ${logicalBlockBytes} bytes`),
  [Errno.nospc]: encoder.encode("no space: beyond the end of the volume, or the pool is full"),
  [Errno.overflow]: encoder.encode("the request is too long"),
  [Errno.notsup]: encoder.encode("not fast: zeroes that stay allocated have to be written"),
  [Errno.shutdown]: encoder.encode("the volume is not served here now"),
};

export const errorReplyBytesMax = extendedReplyHeaderBytes + 6 + 80;

/** Which command a reply answers; a request parser and a pooled request both have this shape. */
export interface Answered {
  readonly cookieHigh: number;
  readonly cookieLow: number;
  readonly offsetHigh: number;
  readonly offsetLow: number;
}

/** `BlockError` as the specification wants it ("Error values"): a write beyond the end is ENOSPC, anything else EINVAL. */
export function errnoOf(error: BlockError, command: number): Errno {
  switch (error) {
    case "read-only":
    case "reserved":
      return Errno.perm;
    case "out-of-range":
      return outOfRange(command);
    case "unaligned":
    case "miscompare":
    case "too-long":
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

/** The length of a reply's header, without what describes its payload. */
export function headerBytesOf(form: HeaderForm): number {
  if (form === "extended") return extendedReplyHeaderBytes;
  return form === "structured" ? structuredHeaderBytes : simpleReplyBytes;
}

/** What lies in front of a READ's data. */
export function readHeaderBytesOf(form: HeaderForm): number {
  return form === "simple" ? simpleReplyBytes : headerBytesOf(form) + dataOffsetBytes;
}

/** The only content of a READ's reply: `readHeaderBytesOf` bytes, followed by `length` bytes of data. */
export function putReadHeader(
  view: DataView,
  at: number,
  form: HeaderForm,
  command: Answered & { readonly length: number },
): void {
  if (form === "simple") {
    putSimpleReply(view, at, Errno.none, command);
    return;
  }
  const offsetAt = putChunkHeader(
    view,
    at,
    form,
    { type: ReplyType.offsetData, payloadBytes: 8 + command.length },
    command,
  );
  view.setInt32(offsetAt, command.offsetHigh);
  view.setInt32(offsetAt + 4, command.offsetLow);
}

/** A success without a payload; returns its length. */
export function putDone(view: DataView, at: number, form: HeaderForm, command: Answered): number {
  if (form === "extended")
    return putChunkHeader(view, at, form, { type: ReplyType.none, payloadBytes: 0 }, command) - at;
  // Structured replies leave it open; the simple form is the shorter one.
  putSimpleReply(view, at, Errno.none, command);
  return simpleReplyBytes;
}

/** An error reply in the form that was negotiated; returns its length, at most `errorReplyBytesMax`. */
export function putError(view: DataView, at: number, form: HeaderForm, command: Answered, error: Errno): number {
  if (form === "simple") {
    putSimpleReply(view, at, error, command);
    return simpleReplyBytes;
  }
  const text = errorTexts[error];
  const chunk = { type: ReplyType.error, payloadBytes: 6 + text.byteLength };
  const bodyAt = putChunkHeader(view, at, form, chunk, command);
  view.setUint32(bodyAt, error);
  view.setUint16(bodyAt + 4, text.byteLength);
  for (let index = 0; index < text.byteLength; index++) view.setUint8(bodyAt + 6 + index, text[index]!);
  return bodyAt + 6 + text.byteLength - at;
}

/** What lies in front of a BLOCK_STATUS chunk's descriptors: context id and, extended, their number. */
export function statusHeaderBytesOf(form: HeaderForm): number {
  return headerBytesOf(form) + (form === "extended" ? 8 : 4);
}

export function statusDescriptorBytesOf(form: HeaderForm): number {
  return form === "extended" ? 16 : 8;
}

export function putStatusHeader(
  view: DataView,
  at: number,
  form: HeaderForm,
  command: Answered,
  status: { readonly contextId: number; readonly extentCount: number },
): void {
  const extended = form === "extended";
  const payloadBytes = (extended ? 8 : 4) + status.extentCount * statusDescriptorBytesOf(form);
  const type = extended ? ReplyType.blockStatusExt : ReplyType.blockStatus;
  const bodyAt = putChunkHeader(view, at, form, { type, payloadBytes }, command);
  view.setUint32(bodyAt, status.contextId);
  if (extended) view.setUint32(bodyAt + 4, status.extentCount);
}

/** `lengthBytes` fits 32 bits where the form has no more. */
export function putStatusDescriptor(
  view: DataView,
  at: number,
  form: HeaderForm,
  lengthBytes: number,
  state: number,
): void {
  if (form !== "extended") {
    view.setUint32(at, lengthBytes);
    view.setUint32(at + 4, state);
    return;
  }
  setUint64(view, at, lengthBytes);
  setUint64(view, at + 8, state);
}

function putSimpleReply(view: DataView, at: number, error: number, command: Answered): void {
  view.setInt32(at, Magic.simpleReply);
  view.setInt32(at + 4, error);
  view.setInt32(at + 8, command.cookieHigh);
  view.setInt32(at + 12, command.cookieLow);
}

/** Every chunk of this server is the last of its reply. Returns where the payload begins. */
function putChunkHeader(
  view: DataView,
  at: number,
  form: HeaderForm,
  chunk: { readonly type: number; readonly payloadBytes: number },
  command: Answered,
): number {
  const extended = form === "extended";
  view.setInt32(at, extended ? Magic.extendedReply : Magic.structuredReply);
  view.setInt16(at + 4, ReplyFlag.done);
  view.setUint16(at + 6, chunk.type);
  view.setInt32(at + 8, command.cookieHigh);
  view.setInt32(at + 12, command.cookieLow);
  if (!extended) {
    view.setUint32(at + 16, chunk.payloadBytes);
    return at + structuredHeaderBytes;
  }
  view.setInt32(at + 16, command.offsetHigh);
  view.setInt32(at + 20, command.offsetLow);
  setUint64(view, at + 24, chunk.payloadBytes);
  return at + extendedReplyHeaderBytes;
}

function setUint64(view: DataView, at: number, value: number): void {
  view.setUint32(at, Math.floor(value / twoTo32));
  view.setUint32(at + 4, value >>> 0);
}
