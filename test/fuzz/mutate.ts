/**
 * Mutations of a session, protocol-blind but for a list of numbers that mean something.
 *
 * Invariant: what comes out is bounded, however often it has been mutated, and shares no memory that is written to.
 */
import type { Prng } from "../../hal/mock/prng.ts";
import type { Script } from "./target.ts";

const messagesMax = 64;
const scriptBytesMax = 262_144;
/** Where a message's header usually lies: most mutations go there. */
const headBytes = 40;

export interface Material {
  /** Sessions to take messages from. */
  readonly pool: readonly Script[];
  readonly numbers: readonly bigint[];
}

export function mutate(script: Script, prng: Prng, material: Material): Script {
  const messages = script.map((message) => message);
  let rounds = 1;
  while (rounds < 12 && prng.chance(0.5)) rounds++;
  for (let round = 0; round < rounds; round++) {
    if (messages.length === 0 || prng.chance(0.35)) changeOrder(messages, prng, material);
    else {
      const index = prng.below(messages.length);
      messages[index] = changeBytes(messages[index]!, prng, material);
    }
  }
  return bounded(messages);
}

function changeOrder(messages: Uint8Array[], prng: Prng, { pool }: Material): void {
  const other = pool[prng.below(pool.length)] ?? [];
  const at = prng.below(messages.length + 1);
  switch (prng.below(6)) {
    case 0:
      messages.splice(at, 1);
      return;
    case 1: {
      const twice = messages[at];
      if (twice !== undefined) messages.splice(at, 0, ...new Array<Uint8Array>(1 + prng.below(4)).fill(twice));
      return;
    }
    case 2: {
      const [moved] = messages.splice(at, 1);
      if (moved !== undefined) messages.splice(prng.below(messages.length + 1), 0, moved);
      return;
    }
    case 3: {
      const inserted = other[prng.below(other.length)];
      if (inserted !== undefined) messages.splice(at, 0, inserted);
      return;
    }
    case 4:
      messages.splice(at, messages.length, ...other.slice(prng.below(other.length + 1)));
      return;
    default:
      messages.length = at;
  }
}

function changeBytes(message: Uint8Array, prng: Prng, material: Material): Uint8Array {
  const bytes = message.slice();
  const reach = prng.chance(0.8) ? Math.min(headBytes, bytes.byteLength) : bytes.byteLength;
  const at = prng.below(reach);
  if (reach === 0) return new Uint8Array(prng.below(32));
  switch (prng.below(7)) {
    case 0:
      bytes[at]! ^= 1 << prng.below(8);
      return bytes;
    case 1:
      bytes[at] = prng.below(256);
      return bytes;
    case 2:
    case 3:
      return putNumber(bytes, at, prng, material.numbers);
    case 4:
      return bytes.subarray(0, prng.below(bytes.byteLength));
    case 5: {
      const removed = 1 + prng.below(8);
      return joined(bytes.subarray(0, at), bytes.subarray(Math.min(bytes.byteLength, at + removed)));
    }
    default: {
      const inserted = new Uint8Array(1 + prng.below(prng.chance(0.1) ? 4096 : 8)).fill(prng.below(256));
      return joined(bytes.subarray(0, at), inserted, bytes.subarray(at));
    }
  }
}

/** A number of the list, or beside one, over 1, 2, 4 or 8 bytes, big-endian. */
function putNumber(bytes: Uint8Array, at: number, prng: Prng, numbers: readonly bigint[]): Uint8Array {
  const sizeBytes = 1 << prng.below(4);
  // Fields lie where their size divides the offset, nearly always.
  const start = prng.chance(0.8) ? at - (at % sizeBytes) : at;
  const picked = (numbers[prng.below(numbers.length)] ?? 0n) + BigInt(prng.below(3) - 1);
  let rest = BigInt.asUintN(8 * sizeBytes, picked);
  for (let index = sizeBytes - 1; index >= 0; index--) {
    if (start + index < bytes.byteLength) bytes[start + index] = Number(rest & 255n);
    rest >>= 8n;
  }
  return bytes;
}

function joined(...parts: Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.byteLength, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.byteLength;
  }
  return whole;
}

function bounded(messages: readonly Uint8Array[]): Script {
  const kept: Uint8Array[] = [];
  let left = scriptBytesMax;
  for (const message of messages) {
    if (kept.length === messagesMax || message.byteLength > left) break;
    kept.push(message);
    left -= message.byteLength;
  }
  return kept;
}
