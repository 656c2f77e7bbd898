/**
 * What two NICs tell each other before a link's first byte, so that each knows whose bytes it sends: on one machine all links
 * share a loopback address, and shaping goes by the remote appliance's name.
 *
 *   dialer                    acceptor
 *     | ---- hello -------------> |
 *     | <--- answer ------------- |   held while the acceptor's NIC is cut towards the dialer
 *     | ---- confirm -----------> |   held while the dialer's NIC is cut towards the acceptor
 *
 * Only then do both sides hand the stream up. Each message is 64 bytes, little-endian:
 *
 *   0 magic u32 | 4 version u16 | 6 step u16 | 8 appliance 24 bytes | 32 NIC 16 bytes | 48 zeros | 60 CRC-32 of bytes 0..59
 *
 * Names are printable ASCII, padded with zeros.
 */

export const preambleBytes = 64;
export const applianceNameBytesMax = 24;
export const nicNameBytesMax = 16;

export const preambleStep = { hello: 1, answer: 2, confirm: 3 } as const;
export type PreambleStep = (typeof preambleStep)[keyof typeof preambleStep];

const magic = 0x434e4347; // "GCNC"
const version = 1;
const applianceOffset = 8;
const nicOffset = 32;
const paddingOffset = 48;
const crcOffset = 60;

export interface Preamble {
  readonly step: number;
  readonly appliance: string;
  readonly nic: string;
}

export function encodePreamble(step: PreambleStep, appliance: string, nic: string): Uint8Array {
  const bytes = new Uint8Array(preambleBytes);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, magic, true);
  view.setUint16(4, version, true);
  view.setUint16(6, step, true);
  putName(bytes, applianceOffset, applianceNameBytesMax, appliance);
  putName(bytes, nicOffset, nicNameBytesMax, nic);
  view.setUint32(crcOffset, Bun.hash.crc32(bytes.subarray(0, crcOffset)) >>> 0, true);
  return bytes;
}

/** `bytes`: exactly 64. null: not a preamble of this version. */
export function decodePreamble(bytes: Uint8Array): Preamble | null {
  if (bytes.byteLength !== preambleBytes) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint32(0, true) !== magic || view.getUint16(4, true) !== version) return null;
  if (view.getUint32(crcOffset, true) !== Bun.hash.crc32(bytes.subarray(0, crcOffset)) >>> 0) return null;
  const appliance = getName(bytes.subarray(applianceOffset, nicOffset));
  const nic = getName(bytes.subarray(nicOffset, paddingOffset));
  if (appliance === null || nic === null) return null;
  return { step: view.getUint16(6, true), appliance, nic };
}

function putName(target: Uint8Array, offset: number, bytesMax: number, name: string): void {
  const bytes = new TextEncoder().encode(name);
  if (getName(bytes) === null || bytes.byteLength > bytesMax) {
    throw new Error(`the name "${name}" is not 1 to ${bytesMax} printable ASCII characters`);
  }
  target.set(bytes, offset);
}

function getName(field: Uint8Array): string | null {
  const end = field.indexOf(0);
  const name = end < 0 ? field : field.subarray(0, end);
  if (name.byteLength === 0 || field.subarray(name.byteLength).some((byte) => byte !== 0)) return null;
  if (name.some((byte) => byte <= 0x20 || byte > 0x7e)) return null;
  return String.fromCharCode(...name);
}
