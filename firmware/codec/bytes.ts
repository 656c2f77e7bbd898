/** Byte helpers that the fixed layouts share. All integers are little-endian; a 64-bit one is a safe integer in two halves. */

const twoTo32 = 4294967296;

/** Reads an unsigned 64-bit integer; a value above 2^53 - 1 comes back as NaN, which no range check accepts. */
export function getU64(view: DataView, offset: number): number {
  const high = view.getUint32(offset + 4, true);
  return high > 0x1fffff ? Number.NaN : high * twoTo32 + view.getUint32(offset, true);
}

/** `value`: a safe integer, 0 or above. */
export function setU64(view: DataView, offset: number, value: number): void {
  view.setUint32(offset, value >>> 0, true);
  view.setUint32(offset + 4, Math.floor(value / twoTo32), true);
}

export function alignDown(value: number, unit: number): number {
  return Math.floor(value / unit) * unit;
}

export function alignUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit;
}

const hexDigits = "0123456789abcdef";

export function toHex(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += hexDigits.charAt(byte >> 4) + hexDigits.charAt(byte & 15);
  return text;
}

/** `hex`: an even number of hex digits, already checked. */
export function fromHex(hex: string): Uint8Array {
  const bytes = new Uint8Array(hex.length / 2);
  for (let index = 0; index < bytes.length; index++) {
    bytes[index] = Number.parseInt(hex.slice(2 * index, 2 * index + 2), 16);
  }
  return bytes;
}

/** Whether `hex` is an identity: 32 hex digits in lower case. */
export function isId(hex: unknown): hex is string {
  return typeof hex === "string" && /^[0-9a-f]{32}$/.test(hex);
}
