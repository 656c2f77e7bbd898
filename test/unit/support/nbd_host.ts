/**
 * A host's end of an NBD session in memory: builds messages, feeds them in any pieces, takes the replies apart.
 *
 * Fault model of the stream: takes only so many bytes per write (`roomBytes`), ends half (`handler.onEnd`), closes at once.
 */
import type { StreamHandler } from "../../../hal/api/byte_stream.ts";
import type { HostStream as ServedStream, TlsOutcome } from "../../../hal/api/hba.ts";
import type { ManualClock } from "./manual_clock.ts";

export class HostStream implements ServedStream {
  readonly remote: string;
  handler!: StreamHandler;
  /** Everything the server has sent and the test has not taken. */
  received = new Uint8Array(0);
  /** How much the stream takes before it is full. */
  roomBytes = Number.POSITIVE_INFINITY;
  writes = 0;
  paused = false;
  pauses = 0;
  givenBackBytes = 0;
  state: "open" | "ended" | "aborted" = "open";
  /** The server has called for TLS and waits; `secured` ends the handshake. */
  handshake: ((outcome: TlsOutcome) => void) | null = null;
  private pending: Uint8Array[] = [];
  private readonly clock: ManualClock;
  private closeTold = false;

  constructor(clock: ManualClock, remote = "192.0.2.7") {
    this.clock = clock;
    this.remote = remote;
  }

  write(bytes: Uint8Array): number {
    if (this.state !== "open") return 0;
    this.writes++;
    const taken = Math.min(bytes.byteLength, this.roomBytes);
    this.roomBytes -= taken;
    const joined = new Uint8Array(this.received.byteLength + taken);
    joined.set(this.received);
    joined.set(bytes.subarray(0, taken), this.received.byteLength);
    this.received = joined;
    return taken;
  }

  startTls(done: (outcome: TlsOutcome) => void): void {
    this.handshake = done;
  }

  secured(outcome: TlsOutcome): void {
    const done = this.handshake;
    if (done === null) throw new Error("the server has not called for TLS");
    this.handshake = null;
    done(outcome);
    this.clock.runDeferred();
  }

  end(): void {
    if (this.state === "open") this.state = "ended";
  }

  abort(): void {
    if (this.state === "aborted") return;
    this.state = "aborted";
    this.clock.defer(() => this.close());
  }

  /** The stream is gone. */
  close(): void {
    if (this.closeTold) return;
    this.closeTold = true;
    this.handler.onClose();
  }

  /** Whoever still reads it reads nonsense. */
  giveBack(chunk: Uint8Array): void {
    chunk.fill(0xdd);
    this.givenBackBytes += chunk.byteLength;
  }

  pause(): void {
    this.paused = true;
    this.pauses++;
  }

  resume(): void {
    this.paused = false;
    this.clock.defer(() => this.deliver());
  }

  /** The host sends; a paused stream keeps it. Each piece is memory of its own, as the contract says. */
  send(...pieces: Uint8Array[]): void {
    for (const piece of pieces) this.pending.push(new Uint8Array(piece));
    this.deliver();
    this.clock.runDeferred();
  }

  sendInPieces(bytes: Uint8Array, pieceBytes: number): void {
    for (let at = 0; at < bytes.byteLength; at += pieceBytes) this.send(bytes.subarray(at, at + pieceBytes));
  }

  get unread(): number {
    return this.pending.reduce((sum, piece) => sum + piece.byteLength, 0);
  }

  /** Makes room for `bytes` more and says so. */
  drain(bytes: number): void {
    this.roomBytes = bytes;
    this.handler.onDrain();
    this.clock.runDeferred();
  }

  take(bytes: number): Uint8Array {
    if (bytes > this.received.byteLength)
      throw new Error(`${bytes} bytes wanted, ${this.received.byteLength} received`);
    const taken = this.received.slice(0, bytes);
    this.received = this.received.slice(bytes);
    return taken;
  }

  takeAll(): Uint8Array {
    return this.take(this.received.byteLength);
  }

  private deliver(): void {
    while (!this.paused && this.pending.length > 0) this.handler.onData(this.pending.shift()!);
  }
}

export function bytesOf(...parts: (string | Uint8Array | { u8?: number; u16?: number; u32?: number; u64?: bigint })[]) {
  const out: number[] = [];
  for (const part of parts) {
    if (typeof part === "string") out.push(...new TextEncoder().encode(part));
    else if (part instanceof Uint8Array) for (const byte of part) out.push(byte);
    else {
      if (part.u8 !== undefined) out.push(part.u8);
      if (part.u16 !== undefined) out.push((part.u16 >> 8) & 255, part.u16 & 255);
      if (part.u32 !== undefined) for (let shift = 24; shift >= 0; shift -= 8) out.push((part.u32 >>> shift) & 255);
      if (part.u64 !== undefined)
        for (let shift = 56n; shift >= 0n; shift -= 8n) out.push(Number((part.u64 >> shift) & 255n));
    }
  }
  return new Uint8Array(out);
}

export function option(kind: number, data: Uint8Array = new Uint8Array(0), length = data.byteLength): Uint8Array {
  return bytesOf("IHAVEOPT", { u32: kind }, { u32: length }, data);
}

export function goData(name: string, infos: number[] = []): Uint8Array {
  const nameBytes = bytesOf(name);
  return bytesOf(
    { u32: nameBytes.byteLength },
    nameBytes,
    { u16: infos.length },
    ...infos.map((info) => ({ u16: info })),
  );
}

export function metaData(name: string, queries: string[]): Uint8Array {
  const nameBytes = bytesOf(name);
  const parts = queries.map((query) => bytesOf({ u32: bytesOf(query).byteLength }, query));
  return bytesOf({ u32: nameBytes.byteLength }, nameBytes, { u32: queries.length }, ...parts);
}

export function command(fields: {
  command: number;
  cookie?: bigint;
  offset?: number | bigint;
  length?: number | bigint;
  flags?: number;
  payload?: Uint8Array;
  /** An extended header; PAYLOAD_LEN is the caller's. */
  extended?: boolean;
}): Uint8Array {
  const length = fields.length ?? fields.payload?.byteLength ?? 0;
  const extended = fields.extended === true;
  const header = bytesOf(
    { u32: extended ? 0x21e41c71 : 0x25609513 },
    { u16: fields.flags ?? 0 },
    { u16: fields.command },
    { u64: fields.cookie ?? 1n },
    { u64: BigInt(fields.offset ?? 0) },
    extended ? { u64: BigInt(length) } : { u32: Number(length) },
  );
  if (fields.payload === undefined) return header;
  const whole = new Uint8Array(header.byteLength + fields.payload.byteLength);
  whole.set(header);
  whole.set(fields.payload, header.byteLength);
  return whole;
}

export interface OptionReply {
  option: number;
  type: number;
  data: Uint8Array;
}

export function takeOptionReply(stream: HostStream): OptionReply {
  const header = stream.take(20);
  const view = new DataView(header.buffer);
  if (view.getBigUint64(0) !== 0x3e889045565a9n) throw new Error("not an option reply");
  return { option: view.getUint32(8), type: view.getUint32(12), data: stream.take(view.getUint32(16)) };
}

export function takeOptionReplies(stream: HostStream): OptionReply[] {
  const replies: OptionReply[] = [];
  while (stream.received.byteLength > 0) replies.push(takeOptionReply(stream));
  return replies;
}

export interface Reply {
  cookie: bigint;
  error: number;
  /** Structured and extended chunks only. */
  type: number | null;
  data: Uint8Array;
  /** Extended chunks only: the command's offset. */
  offset?: bigint;
}

/** `readLengths`: by cookie, how much data a successful simple reply carries. */
export function takeReply(stream: HostStream, readLengths: Map<bigint, number> = new Map()): Reply {
  const magic = new DataView(stream.received.buffer, stream.received.byteOffset).getUint32(0);
  if (magic === 0x67446698) {
    const view = new DataView(stream.take(16).buffer);
    const cookie = view.getBigUint64(8);
    const error = view.getUint32(4);
    return { cookie, error, type: null, data: stream.take(error === 0 ? (readLengths.get(cookie) ?? 0) : 0) };
  }
  if (magic === 0x6e8a278c) {
    const view = new DataView(stream.take(32).buffer);
    const type = view.getUint16(6);
    const data = stream.take(Number(view.getBigUint64(24)));
    const error = type >= 32768 ? new DataView(data.buffer).getUint32(0) : 0;
    if (view.getUint16(4) !== 1) throw new Error("every chunk of this server is the last of its reply");
    return { cookie: view.getBigUint64(8), error, type, data, offset: view.getBigUint64(16) };
  }
  if (magic !== 0x668e33ef) throw new Error(`not a reply: 0x${magic.toString(16)}`);
  const view = new DataView(stream.take(20).buffer);
  const type = view.getUint16(6);
  const data = stream.take(view.getUint32(16));
  const error = type >= 32768 ? new DataView(data.buffer).getUint32(0) : 0;
  if (view.getUint16(4) !== 1) throw new Error("every chunk of this server is the last of its reply");
  return { cookie: view.getBigUint64(8), error, type, data };
}

export function takeReplies(stream: HostStream, readLengths?: Map<bigint, number>): Reply[] {
  const replies: Reply[] = [];
  while (stream.received.byteLength > 0) replies.push(takeReply(stream, readLengths));
  return replies;
}
