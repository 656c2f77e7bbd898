/** TransportIDs of iSCSI initiator ports (SPC-5 7.6.4.6). */
import { putU16, u16 } from "./cdb.ts";

const iscsiProtocol = 0x05;
const withIsid = 0x40;
const textBytesMin = 20;
const nameBytesMax = 223;

/** `port`: `IQN,i,0xISID`. */
export function encodeTransportId(port: string): Uint8Array {
  const text = new TextEncoder().encode(port);
  // Null-terminated, a multiple of four, at least 20.
  const textBytes = Math.max(textBytesMin, Math.ceil((text.byteLength + 1) / 4) * 4);
  const bytes = new Uint8Array(4 + textBytes);
  bytes[0] = withIsid | iscsiProtocol;
  putU16(bytes, 2, textBytes);
  bytes.set(text, 4);
  return bytes;
}

/** The initiator port that stands at `at`, and the bytes that it takes; null: none that can be told. */
export function decodeTransportId(bytes: Uint8Array, at: number): { port: string; totalBytes: number } | null {
  if (at + 4 > bytes.byteLength || bytes[at] !== (withIsid | iscsiProtocol)) return null;
  const textBytes = u16(bytes, at + 2);
  const from = at + 4;
  if (textBytes < textBytesMin || textBytes % 4 !== 0 || from + textBytes > bytes.byteLength) return null;
  const end = bytes.indexOf(0, from);
  if (end < 0 || end >= from + textBytes) return null;
  const text = new TextDecoder("latin1").decode(bytes.subarray(from, end));
  const found = /^([!-+\--~]{1,223}),i,0x([0-9a-fA-F]{12})$/.exec(text);
  if (found === null || found[1]!.length > nameBytesMax) return null;
  // Names do not differ by case alone, and hosts are known by theirs in lower case (RFC 7143 4.2.7.2).
  return { port: `${found[1]!},i,0x${found[2]!}`.toLowerCase(), totalBytes: 4 + textBytes };
}
