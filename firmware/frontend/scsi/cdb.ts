/** Fields of CDBs: big-endian, 64-bit LBAs judged without wrapping (SPC-5 4.2.5). */

export function u16(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 8) | bytes[at + 1]!;
}

export function u24(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 16) | (bytes[at + 1]! << 8) | bytes[at + 2]!;
}

export function u32(bytes: Uint8Array, at: number): number {
  return bytes[at]! * 0x1000000 + u24(bytes, at + 1);
}

/** A value above 2^53 - 1 comes back as Infinity: it is beyond the end of every volume. */
export function u64(bytes: Uint8Array, at: number): number {
  const high = u32(bytes, at);
  return high > 0x1fffff ? Number.POSITIVE_INFINITY : high * 0x100000000 + u32(bytes, at + 4);
}

export function putU16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >> 8;
  bytes[at + 1] = value & 0xff;
}

export function putU32(bytes: Uint8Array, at: number, value: number): void {
  putU16(bytes, at, value >>> 16);
  putU16(bytes, at + 2, value & 0xffff);
}

/** `value`: a safe integer. */
export function putU64(bytes: Uint8Array, at: number, value: number): void {
  putU32(bytes, at, Math.floor(value / 0x100000000));
  putU32(bytes, at + 4, value >>> 0);
}

/** `text` in ASCII, cut or padded with spaces to `length`. */
export function putText(bytes: Uint8Array, at: number, length: number, text: string): void {
  for (let index = 0; index < length; index++) bytes[at + index] = index < text.length ? text.charCodeAt(index) : 0x20;
}

/** The data of a task in one piece. */
export function joined(pieces: readonly Uint8Array[]): Uint8Array {
  const [only] = pieces;
  if (pieces.length === 1 && only !== undefined) return only;
  const bytes = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.byteLength, 0));
  let at = 0;
  for (const piece of pieces) {
    bytes.set(piece, at);
    at += piece.byteLength;
  }
  return bytes;
}
