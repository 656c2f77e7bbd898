/**
 * What one appliance of a pair asks of the volumes that its partner serves, and the answers, as bytes: a stream of records in each
 * direction, carried by `ask` and `told` messages.
 *
 * A record is 32 bytes, little-endian, then `metaBytes` of its own kind, then data up to `totalBytes`:
 *
 *     u32 totalBytes | u8 kind | u8 code | u16 metaBytes | u32 channel | u32 id | u32 first | u32 second | f64 wide
 *
 *     asked     task    code: attribute       meta: LUN (8), CDB      first, second: most data in and out    data: data out
 *               manage  code: function        meta: LUN (8)           first: tag (the id of the task meant)
 *               block   code: kind, flags     -                       first: blocks   wide: LBA              data: payload
 *     answered  task    code: status          meta: sense             first, second: data in and out of the command
 *                       wide: 1 aborted                               data: data in
 *               manage  code: outcome
 *               block   code: error           -                       first: miscompare offset               data: read, or extents
 *               attention, ended (meta: why)
 *
 * Invariants:
 * - Records of a turn go as few messages of at most `payloadBytesMax`; only a record with more data than is copied goes over several.
 * - Memory that is gathered in is used again when the partner has every message of it: fresh pages cost more than the copying.
 * - What arrives is judged for shape here; whether a channel or an id is known is for whoever keeps them.
 */
import type { Clock } from "../../hal/api/clock.ts";
import { pairLimits } from "./limits.ts";

export const workKinds = { task: 1, manage: 2, block: 3, attention: 4, ended: 5 } as const;
const kindMax = 5;
export const headerBytes = 32;
/** Data of one record: what a host may send or ask for with one command, and room for its CDB. */
const recordBytesMax = pairLimits.workBytesMax + 4096;
/** Small things are gathered: 4 KiB reads at depth 32, with their heads, go as one message instead of 32 of two parts each. */
const gatherBytes = 144 * 1024;
/** Data up to this are copied by `put`, and belong to the caller again when it returns. */
export const copiedBytesMax = 16 * 1024;
const freeBuffersMax = 4;

export interface WorkHead {
  readonly kind: number;
  readonly code: number;
  readonly channel: number;
  readonly id: number;
  readonly first: number;
  readonly second: number;
  readonly wide: number;
}

class GatherBuffer {
  readonly bytes = new Uint8Array(gatherBytes);
  readonly view = new DataView(this.bytes.buffer);
  /** Messages from it that the partner may not have yet. */
  messages = 0;
}

/** Gathers the records of a turn. */
export class WorkWriter {
  readonly #clock: Clock;
  readonly #send: (payload: readonly Uint8Array[], release: () => void) => void;
  #buffer = new GatherBuffer();
  readonly #free: GatherBuffer[] = [];
  #start = 0;
  #end = 0;
  #parts: Uint8Array[] = [];
  #partBytes = 0;
  #isDue = false;

  constructor(clock: Clock, send: (payload: readonly Uint8Array[], release: () => void) => void) {
    this.#clock = clock;
    this.#send = send;
  }

  /** More data than `copiedBytesMax` are read when the message goes, at the end of the turn, and again when it has to be repeated. */
  put(head: WorkHead, meta: readonly Uint8Array[], data: readonly Uint8Array[]): void {
    let metaBytes = 0;
    for (const part of meta) metaBytes += part.byteLength;
    let dataBytes = 0;
    for (const part of data) dataBytes += part.byteLength;
    const isCopied = dataBytes <= copiedBytesMax;
    this.#makeRoom(headerBytes + metaBytes + (isCopied ? dataBytes : 0));
    const at = this.#reserve(headerBytes + metaBytes);
    const { bytes, view } = this.#buffer;
    view.setUint32(at, headerBytes + metaBytes + dataBytes, true);
    view.setUint8(at + 4, head.kind);
    view.setUint8(at + 5, head.code);
    view.setUint16(at + 6, metaBytes, true);
    view.setUint32(at + 8, head.channel, true);
    view.setUint32(at + 12, head.id, true);
    view.setUint32(at + 16, head.first, true);
    view.setUint32(at + 20, head.second, true);
    view.setFloat64(at + 24, head.wide, true);
    let to = at + headerBytes;
    for (const part of meta) {
      bytes.set(part, to);
      to += part.byteLength;
    }
    for (const part of data) {
      if (isCopied) bytes.set(part, this.#reserve(part.byteLength));
      else this.#putView(part);
    }
    if (this.#isDue) return;
    this.#isDue = true;
    this.#clock.defer(() => {
      this.#isDue = false;
      this.#flush();
    });
  }

  /** So many bytes go with the same message. */
  #makeRoom(bytes: number): void {
    if (this.#partBytes + (this.#end - this.#start) + bytes > pairLimits.payloadBytesMax) this.#flush();
    // A turn that begins in the second half of a buffer would not fit into the rest of it as one message.
    const isRest = this.#end > gatherBytes / 2 && this.#end === this.#start && this.#parts.length === 0;
    if (!isRest && this.#end + bytes <= gatherBytes) return;
    this.#flush();
    const former = this.#buffer;
    this.#buffer = this.#free.pop() ?? new GatherBuffer();
    this.#start = 0;
    this.#end = 0;
    this.#unused(former);
  }

  #unused(buffer: GatherBuffer): void {
    if (buffer === this.#buffer || buffer.messages > 0) return;
    if (this.#free.length < freeBuffersMax) this.#free.push(buffer);
  }

  /** After `#makeRoom`. */
  #reserve(bytes: number): number {
    const at = this.#end;
    this.#end += bytes;
    return at;
  }

  #putView(part: Uint8Array): void {
    for (let from = 0; from < part.byteLength; ) {
      const room = pairLimits.payloadBytesMax - this.#partBytes - (this.#end - this.#start);
      if (room === 0) {
        this.#flush();
        continue;
      }
      const piece = part.subarray(from, from + room);
      this.#closePart();
      this.#parts.push(piece);
      this.#partBytes += piece.byteLength;
      from += piece.byteLength;
    }
  }

  #closePart(): void {
    if (this.#end === this.#start) return;
    this.#parts.push(this.#buffer.bytes.subarray(this.#start, this.#end));
    this.#partBytes += this.#end - this.#start;
    this.#start = this.#end;
  }

  #flush(): void {
    this.#closePart();
    if (this.#parts.length === 0) return;
    const parts = this.#parts;
    this.#parts = [];
    this.#partBytes = 0;
    const buffer = this.#buffer;
    buffer.messages++;
    this.#send(parts, () => {
      buffer.messages--;
      this.#unused(buffer);
    });
  }
}

/** Takes records out of the messages' payloads, in order. */
export class WorkReader {
  readonly #onRecord: (head: WorkHead, meta: Uint8Array, data: Uint8Array) => void;
  #kept: Uint8Array[] = [];
  #keptBytes = 0;
  #wantedBytes = headerBytes;

  constructor(onRecord: (head: WorkHead, meta: Uint8Array, data: Uint8Array) => void) {
    this.#onRecord = onRecord;
  }

  /** The text says what is wrong; nothing after it can be understood. */
  feed(payload: Uint8Array): string | null {
    if (this.#keptBytes > 0) {
      this.#kept.push(payload);
      this.#keptBytes += payload.byteLength;
      if (this.#keptBytes < this.#wantedBytes) return null;
      payload = joined(this.#kept, this.#keptBytes);
      this.#kept = [];
      this.#keptBytes = 0;
    }
    this.#wantedBytes = headerBytes;
    let at = 0;
    const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
    while (payload.byteLength - at >= headerBytes) {
      const totalBytes = view.getUint32(at, true);
      const metaBytes = view.getUint16(at + 6, true);
      const kind = view.getUint8(at + 4);
      if (totalBytes > recordBytesMax || totalBytes < headerBytes + metaBytes || kind < 1 || kind > kindMax)
        return `a record of ${totalBytes} bytes and kind ${kind}`;
      if (payload.byteLength - at < totalBytes) {
        this.#wantedBytes = totalBytes;
        break;
      }
      const metaAt = at + headerBytes;
      const head = {
        kind,
        code: view.getUint8(at + 5),
        channel: view.getUint32(at + 8, true),
        id: view.getUint32(at + 12, true),
        first: view.getUint32(at + 16, true),
        second: view.getUint32(at + 20, true),
        wide: view.getFloat64(at + 24, true),
      };
      this.#onRecord(
        head,
        payload.subarray(metaAt, metaAt + metaBytes),
        payload.subarray(metaAt + metaBytes, at + totalBytes),
      );
      at += totalBytes;
    }
    if (at < payload.byteLength) {
      this.#kept = [payload.subarray(at)];
      this.#keptBytes = payload.byteLength - at;
    }
    return null;
  }
}

function joined(parts: readonly Uint8Array[], bytes: number): Uint8Array {
  const whole = new Uint8Array(bytes);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.byteLength;
  }
  return whole;
}
