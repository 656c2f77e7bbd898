/**
 * Option data in, option replies out (specification: "Option types", "Option reply types").
 *
 * Decoders return null for data that does not follow the specification: lengths that lie, bytes left over, strings that are not
 * UTF-8, contain NUL or are too long. A cold path: plain objects and copies.
 */
import { Info, Magic, optionReplyHeaderBytes, Rep } from "./constants.ts";

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const encoder = new TextEncoder();

export interface GoData {
  readonly name: string;
  /** What the client asks to be told (NBD_INFO_*), unknown values included. */
  readonly infos: readonly number[];
}

export interface MetaContextData {
  readonly name: string;
  readonly queries: readonly string[];
}

export interface ExportFacts {
  readonly name: string;
  readonly description: string;
  readonly sizeBytes: number;
  readonly transmissionFlags: number;
}

export function decodeString(data: Uint8Array, bytesMax: number): string | null {
  if (data.byteLength > bytesMax) return null;
  try {
    const text = decoder.decode(data);
    return text.includes("\0") ? null : text;
  } catch {
    return null;
  }
}

/** NBD_OPT_INFO and NBD_OPT_GO: 32-bit length of name, name, 16-bit count, 16-bit requests. */
export function decodeGo(data: Uint8Array, nameBytesMax: number): GoData | null {
  if (data.byteLength < 6) return null;
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const nameBytes = view.getUint32(0);
  if (nameBytes > data.byteLength - 6) return null;
  const name = decodeString(data.subarray(4, 4 + nameBytes), nameBytesMax);
  const count = view.getUint16(4 + nameBytes);
  if (name === null || data.byteLength !== 6 + nameBytes + 2 * count) return null;
  const infos: number[] = [];
  for (let index = 0; index < count; index++) infos.push(view.getUint16(6 + nameBytes + 2 * index));
  return { name, infos };
}

/** NBD_OPT_LIST_META_CONTEXT and NBD_OPT_SET_META_CONTEXT: name as above, 32-bit count, then queries, each with its length. */
export function decodeMetaContext(data: Uint8Array, nameBytesMax: number): MetaContextData | null {
  if (data.byteLength < 8) return null;
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const nameBytes = view.getUint32(0);
  if (nameBytes > data.byteLength - 8) return null;
  const name = decodeString(data.subarray(4, 4 + nameBytes), nameBytesMax);
  if (name === null) return null;
  let at = 4 + nameBytes;
  const count = view.getUint32(at);
  at += 4;
  // Each query takes at least its own length field: a count beyond that lies, and must not drive a loop.
  if (count > (data.byteLength - at) / 4) return null;
  const queries: string[] = [];
  for (let index = 0; index < count; index++) {
    if (data.byteLength - at < 4) return null;
    const queryBytes = view.getUint32(at);
    at += 4;
    if (queryBytes > data.byteLength - at) return null;
    const query = decodeString(data.subarray(at, at + queryBytes), nameBytesMax);
    if (query === null) return null;
    queries.push(query);
    at += queryBytes;
  }
  return at === data.byteLength ? { name, queries } : null;
}

/** What the server says first: `NBDMAGIC`, `IHAVEOPT`, handshake flags. */
export function encodeGreeting(flags: number): Uint8Array {
  const bytes = new Uint8Array(18);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, Magic.initHigh);
  view.setUint32(4, Magic.initLow);
  view.setUint32(8, Magic.optionHigh);
  view.setUint32(12, Magic.optionLow);
  view.setUint16(16, flags);
  return bytes;
}

export function encodeReply(option: number, type: number, data?: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(optionReplyHeaderBytes + (data?.byteLength ?? 0));
  const view = new DataView(bytes.buffer);
  view.setUint32(0, Magic.optionReplyHigh);
  view.setUint32(4, Magic.optionReplyLow);
  view.setUint32(8, option);
  view.setUint32(12, type);
  view.setUint32(16, data?.byteLength ?? 0);
  if (data !== undefined) bytes.set(data, optionReplyHeaderBytes);
  return bytes;
}

export function encodeErrorReply(option: number, type: number, text: string): Uint8Array {
  return encodeReply(option, type, encoder.encode(text));
}

/** NBD_REP_SERVER: length of name, name, then a text for people. */
export function encodeServerReply(option: number, name: string, description: string): Uint8Array {
  const nameBytes = encoder.encode(name);
  const descriptionBytes = encoder.encode(description);
  const data = new Uint8Array(4 + nameBytes.byteLength + descriptionBytes.byteLength);
  new DataView(data.buffer).setUint32(0, nameBytes.byteLength);
  data.set(nameBytes, 4);
  data.set(descriptionBytes, 4 + nameBytes.byteLength);
  return encodeReply(option, Rep.server, data);
}

/** NBD_REP_META_CONTEXT: id, name. */
export function encodeMetaContextReply(option: number, id: number, name: string): Uint8Array {
  const nameBytes = encoder.encode(name);
  const data = new Uint8Array(4 + nameBytes.byteLength);
  new DataView(data.buffer).setUint32(0, id);
  data.set(nameBytes, 4);
  return encodeReply(option, Rep.metaContext, data);
}

export function encodeInfoExport(option: number, facts: ExportFacts): Uint8Array {
  const data = new Uint8Array(12);
  const view = new DataView(data.buffer);
  view.setUint16(0, Info.export);
  setUint64(view, 2, facts.sizeBytes);
  view.setUint16(10, facts.transmissionFlags);
  return encodeReply(option, Rep.info, data);
}

/** NBD_INFO_NAME and NBD_INFO_DESCRIPTION: the kind, then a string. */
export function encodeInfoText(option: number, kind: number, text: string): Uint8Array {
  const textBytes = encoder.encode(text);
  const data = new Uint8Array(2 + textBytes.byteLength);
  new DataView(data.buffer).setUint16(0, kind);
  data.set(textBytes, 2);
  return encodeReply(option, Rep.info, data);
}

export function encodeInfoBlockSize(
  option: number,
  sizes: { readonly minBytes: number; readonly preferredBytes: number; readonly maxBytes: number },
): Uint8Array {
  const data = new Uint8Array(14);
  const view = new DataView(data.buffer);
  view.setUint16(0, Info.blockSize);
  view.setUint32(2, sizes.minBytes);
  view.setUint32(6, sizes.preferredBytes);
  view.setUint32(10, sizes.maxBytes);
  return encodeReply(option, Rep.info, data);
}

/** The answer to NBD_OPT_EXPORT_NAME, which has no reply header: size, flags and, unless waived, 124 zeroes. */
export function encodeExportNameAnswer(facts: ExportFacts, noZeroes: boolean): Uint8Array {
  const bytes = new Uint8Array(noZeroes ? 10 : 134);
  const view = new DataView(bytes.buffer);
  setUint64(view, 0, facts.sizeBytes);
  view.setUint16(8, facts.transmissionFlags);
  return bytes;
}

export function concatBytes(parts: readonly Uint8Array[]): Uint8Array {
  let length = 0;
  for (const part of parts) length += part.byteLength;
  const whole = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.byteLength;
  }
  return whole;
}

function setUint64(view: DataView, at: number, value: number): void {
  view.setUint32(at, Math.floor(value / 4294967296));
  view.setUint32(at + 4, value >>> 0);
}
