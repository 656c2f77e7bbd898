/**
 * Text of login and text requests: `key=value` pairs, each ended by a NUL (RFC 7143 6.1, 6.2), and the values in them.
 *
 * What is refused: no NUL at the end, no `=`, a key that is empty, longer than 63 bytes or not a standard label, a value above 255
 * bytes (binary values of CHAP: 1,024 bytes encoded), bytes that are not UTF-8.
 */
export const keyBytesMax = 63;
const valueBytesMax = 255;
/** `0x` and two digits for each of 1,024 bytes (6.1, large-binary-value). */
const binaryValueBytesMax = 2 + 2 * 1024;

export interface TextPair {
  readonly key: string;
  readonly value: string;
}

export type ParsedText = { readonly pairs: TextPair[] } | { readonly error: string };

const keyPattern = /^[A-Za-z][A-Za-z0-9.\-+@_#]*$/;
const strict = new TextDecoder("utf-8", { fatal: true });
const encoder = new TextEncoder();

function decode(bytes: Uint8Array): string | null {
  try {
    return strict.decode(bytes);
  } catch {
    return null;
  }
}

export function parseText(bytes: Uint8Array, keysMax: number): ParsedText {
  const pairs: TextPair[] = [];
  let start = 0;
  while (start < bytes.byteLength) {
    const end = bytes.indexOf(0, start);
    if (end < 0) return { error: "a key without the NUL at its end" };
    const item = bytes.subarray(start, end);
    start = end + 1;
    // Some initiators count their padding as text.
    if (item.byteLength === 0) continue;
    if (pairs.length === keysMax) return { error: `more than ${keysMax} keys` };
    const pair = parsePair(item);
    if (typeof pair === "string") return { error: pair };
    pairs.push(pair);
  }
  return { pairs };
}

function parsePair(item: Uint8Array): TextPair | string {
  const equals = item.indexOf(0x3d);
  if (equals < 0) return "a key without a value";
  if (equals === 0) return "a value without a key";
  if (equals > keyBytesMax) return `a key of ${equals} bytes`;
  const key = decode(item.subarray(0, equals));
  if (key === null || !keyPattern.test(key)) return "a key that is not a standard label";
  const valueBytes = item.byteLength - equals - 1;
  if (valueBytes > (key.startsWith("CHAP_") ? binaryValueBytesMax : valueBytesMax)) {
    return `a value of ${valueBytes} bytes for ${key}`;
  }
  const value = decode(item.subarray(equals + 1));
  return value === null ? `a value for ${key} that is not UTF-8` : { key, value };
}

export function encodeText(pairs: readonly TextPair[]): Uint8Array {
  return encoder.encode(pairs.map(({ key, value }) => `${key}=${value}\0`).join(""));
}

/** A numerical value (6.1): decimal or hexadecimal; null when it is neither, or above 2^53 - 1. */
export function parseNumber(value: string): number | null {
  if (!/^(?:[0-9]{1,20}|0[xX][0-9a-fA-F]{1,16})$/.test(value)) return null;
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : null;
}

const base64Digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/** A binary value (6.1): `0x` and hexadecimal or `0b` and base64 digits; null when malformed, empty, or above `bytesMax`. */
export function parseBinary(value: string, bytesMax: number): Uint8Array | null {
  const prefix = value.slice(0, 2).toLowerCase();
  const digits = value.slice(2);
  const bytes = prefix === "0x" ? parseHex(digits) : prefix === "0b" ? parseBase64(digits) : null;
  return bytes === null || bytes.byteLength === 0 || bytes.byteLength > bytesMax ? null : bytes;
}

function parseHex(digits: string): Uint8Array | null {
  if (digits.length % 2 !== 0 || !/^[0-9a-fA-F]*$/.test(digits)) return null;
  const bytes = new Uint8Array(digits.length / 2);
  for (let index = 0; index < bytes.byteLength; index++) {
    bytes[index] = Number.parseInt(digits.slice(index * 2, index * 2 + 2), 16);
  }
  return bytes;
}

function parseBase64(digits: string): Uint8Array | null {
  if (digits.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(digits)) return null;
  const padding = digits.endsWith("==") ? 2 : digits.endsWith("=") ? 1 : 0;
  const bytes = new Uint8Array((digits.length / 4) * 3 - padding);
  let bits = 0;
  let have = 0;
  let at = 0;
  for (const digit of digits.slice(0, digits.length - padding)) {
    bits = ((bits << 6) | base64Digits.indexOf(digit)) & 0xfff;
    have += 6;
    if (have < 8) continue;
    have -= 8;
    bytes[at++] = (bits >> have) & 0xff;
  }
  // Bits that belong to no byte must be zero: one value, one spelling.
  return (bits & ((1 << have) - 1)) === 0 ? bytes : null;
}

export function encodeHex(bytes: Uint8Array): string {
  return "0x" + Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
