/**
 * A heartbeat on the wire: one datagram of 40 bytes, little-endian.
 *
 *   0 magic u32 "GCHT" | 4 version u32 | 8 number u64 | 16 turns u32 | 20 stillMs u32 | 24 HMAC-SHA256 of bytes 0..23, its first 16 bytes
 *
 * Numbers grow from 1 with every beat of a channel. The key is a channel's and a direction's own, so a beat of another session, of the
 * other half, of another NIC, or one's own sent back is none; whoever hears takes growing numbers only, so one sent again is none either.
 */
import { timingSafeEqual } from "node:crypto";

export const heartbeatBytes = 40;
const magic = 0x54484347; // "GCHT"
const version = 1;
const tagOffset = 24;
const tagBytes = 16;

export interface Heartbeat {
  /** From 1 to 2^53 - 1. */
  readonly number: number;
  /** Modulo 2^32. */
  readonly turns: number;
  /** At most 2^32 - 1. */
  readonly stillMs: number;
}

export function encodeHeartbeat({ number, turns, stillMs }: Heartbeat, key: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(heartbeatBytes);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, magic, true);
  view.setUint32(4, version, true);
  view.setUint32(8, number % 2 ** 32, true);
  view.setUint32(12, Math.floor(number / 2 ** 32), true);
  view.setUint32(16, turns, true);
  view.setUint32(20, stillMs, true);
  bytes.set(tagOf(bytes, key), tagOffset);
  return bytes;
}

/** `bytes`: any datagram. null: not a heartbeat of this version and key. */
export function decodeHeartbeat(bytes: Uint8Array, key: Uint8Array): Heartbeat | null {
  if (bytes.byteLength !== heartbeatBytes) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint32(0, true) !== magic || view.getUint32(4, true) !== version) return null;
  if (!timingSafeEqual(bytes.subarray(tagOffset), tagOf(bytes, key))) return null;
  const number = view.getUint32(8, true) + view.getUint32(12, true) * 2 ** 32;
  if (!Number.isSafeInteger(number)) return null;
  return { number, turns: view.getUint32(16, true), stillMs: view.getUint32(20, true) };
}

function tagOf(bytes: Uint8Array, key: Uint8Array): Uint8Array {
  return new Bun.CryptoHasher("sha256", key).update(bytes.subarray(0, tagOffset)).digest().subarray(0, tagBytes);
}
