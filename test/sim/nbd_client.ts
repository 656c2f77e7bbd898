/**
 * A host's end of an NBD session: real protocol bytes over a stream of the simulated network
 * (https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md; fixed newstyle, OPT_GO, simple or structured replies).
 *
 *     connecting ──▶ greeting ──▶ [structured replies asked for] ──▶ GO ──▶ ready ──▶ closed
 *
 * Invariant: what an appliance may not send is reported through `broken`, once, and the session ends.
 */

import {
  Cmd,
  Errno,
  HandshakeFlag,
  Info,
  Magic,
  Option,
  Rep,
  ReplyFlag,
  ReplyType,
  TransmissionFlag,
} from "../../firmware/frontend/nbd/constants.ts";
import type { ByteStream, StreamHandler } from "../../hal/api/byte_stream.ts";

export interface ExportFacts {
  readonly sizeBytes: number;
  readonly readOnly: boolean;
}

export interface NbdClientEvents {
  ready(facts: ExportFacts): void;
  /** `errno` 0: done. `data`: a read's bytes, the receiver's own. */
  reply(cookie: number, errno: number, data: Uint8Array | null): void;
  /** Last call. `ready` need not have come. */
  closed(why: string): void;
  /** The appliance broke the protocol. */
  broken(what: string): void;
}

export type NbdCommand = "read" | "write" | "trim" | "zero" | "flush";

const commandCodes: Record<NbdCommand, number> = {
  read: Cmd.read,
  write: Cmd.write,
  trim: Cmd.trim,
  zero: Cmd.writeZeroes,
  flush: Cmd.flush,
};

/** ReplyType.offsetHole and .errorOffset, which the appliance need not use. */
const offsetHole = 2;
const errorOffset = 32770;

interface PendingRead {
  readonly data: Uint8Array;
  readonly startBytes: number;
  filledBytes: number;
}

export class NbdClient implements StreamHandler {
  readonly #stream: ByteStream;
  readonly #exportName: string;
  readonly #wantsStructured: boolean;
  readonly #events: NbdClientEvents;
  #structured = false;
  #phase: "greeting" | "structured" | "go" | "ready" | "closed" = "greeting";
  #in = Buffer.alloc(65536);
  #inFrom = 0;
  #inTo = 0;
  #out: Uint8Array[] = [];
  #facts: ExportFacts | null = null;
  readonly #reads = new Map<number, PendingRead>();
  readonly #errors = new Map<number, number>();
  readonly #open = new Set<number>();
  #endReason = "the connection was closed";

  constructor(stream: ByteStream, exportName: string, structured: boolean, events: NbdClientEvents) {
    this.#stream = stream;
    this.#exportName = exportName;
    this.#wantsStructured = structured;
    this.#events = events;
  }

  get openCommands(): number {
    return this.#open.size;
  }

  /** `cookie` is not in use. `payload`: a write's data. */
  send(kind: NbdCommand, cookie: number, startBytes: number, lengthBytes: number, payload: Uint8Array | null): void {
    const header = Buffer.alloc(28);
    header.writeUInt32BE(Magic.request, 0);
    header.writeUInt16BE(0, 4);
    header.writeUInt16BE(commandCodes[kind], 6);
    header.writeUInt32BE(0, 8);
    header.writeUInt32BE(cookie, 12);
    header.writeBigUInt64BE(BigInt(startBytes), 16);
    header.writeUInt32BE(lengthBytes, 24);
    this.#open.add(cookie);
    if (kind === "read") this.#reads.set(cookie, { data: new Uint8Array(lengthBytes), startBytes, filledBytes: 0 });
    this.#write(header);
    if (payload !== null) this.#write(payload);
  }

  disconnect(): void {
    this.#endReason = "the host disconnected";
    this.#stream.abort();
  }

  onData(chunk: Uint8Array): void {
    if (this.#phase === "closed") return;
    this.#append(chunk);
    try {
      while (this.#step()) if (this.#inFrom === this.#inTo) this.#inFrom = this.#inTo = 0;
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.#events.broken(error.message);
      this.#endReason = error.message;
      this.#stream.abort();
    }
  }

  onDrain(): void {
    while (this.#out.length > 0) {
      const first = this.#out[0]!;
      const taken = this.#stream.write(first);
      if (taken < first.byteLength) {
        this.#out[0] = first.subarray(taken);
        return;
      }
      this.#out.shift();
    }
  }

  onEnd(): void {
    this.#endReason = "the appliance ended the session";
    this.#stream.end();
  }

  onClose(): void {
    if (this.#phase === "closed") return;
    this.#phase = "closed";
    this.#events.closed(this.#endReason);
  }

  #write(bytes: Uint8Array): void {
    if (this.#out.length > 0) {
      this.#out.push(bytes);
      return;
    }
    const taken = this.#stream.write(bytes);
    if (taken < bytes.byteLength) this.#out.push(bytes.subarray(taken));
  }

  #append(chunk: Uint8Array): void {
    const held = this.#inTo - this.#inFrom;
    if (this.#inTo + chunk.byteLength > this.#in.byteLength) {
      const needed = held + chunk.byteLength;
      const next = needed > this.#in.byteLength ? Buffer.alloc(2 * needed) : this.#in;
      this.#in.copy(next, 0, this.#inFrom, this.#inTo);
      this.#in = next;
      this.#inFrom = 0;
      this.#inTo = held;
    }
    this.#in.set(chunk, this.#inTo);
    this.#inTo += chunk.byteLength;
  }

  /** Handles one message if it is there. */
  #step(): boolean {
    switch (this.#phase) {
      case "greeting":
        return this.#greeting();
      case "structured":
      case "go":
        return this.#optionReply();
      case "ready":
        return this.#reply();
      case "closed":
        return false;
    }
  }

  #greeting(): boolean {
    const message = this.#take(18);
    if (message === null) return false;
    const good = message.readUInt32BE(0) === Magic.initHigh && message.readUInt32BE(4) === Magic.initLow;
    const option = message.readUInt32BE(8) === Magic.optionHigh && message.readUInt32BE(12) === Magic.optionLow;
    demand(good && option, "a greeting that is not fixed newstyle");
    const flags = message.readUInt16BE(16);
    demand((flags & HandshakeFlag.fixedNewstyle) !== 0, "fixed newstyle is not offered");
    const answer = Buffer.alloc(4);
    answer.writeUInt32BE(HandshakeFlag.fixedNewstyle | HandshakeFlag.noZeroes, 0);
    this.#write(answer);
    if (this.#wantsStructured) {
      this.#phase = "structured";
      this.#option(Option.structuredReply, Buffer.alloc(0));
    } else this.#go();
    return true;
  }

  #go(): void {
    this.#phase = "go";
    const name = Buffer.from(this.#exportName);
    const data = Buffer.alloc(4 + name.byteLength + 2);
    data.writeUInt32BE(name.byteLength, 0);
    name.copy(data, 4);
    this.#option(Option.go, data);
  }

  #option(option: number, data: Buffer): void {
    const header = Buffer.alloc(16);
    header.writeUInt32BE(Magic.optionHigh, 0);
    header.writeUInt32BE(Magic.optionLow, 4);
    header.writeUInt32BE(option, 8);
    header.writeUInt32BE(data.byteLength, 12);
    this.#write(header);
    if (data.byteLength > 0) this.#write(data);
  }

  #optionReply(): boolean {
    const header = this.#peek(20);
    if (header === null) return false;
    demand(header.readUInt32BE(0) === Magic.optionReplyHigh, "an option reply without its magic");
    const type = header.readUInt32BE(12);
    const lengthBytes = header.readUInt32BE(16);
    const message = this.#take(20 + lengthBytes);
    if (message === null) return false;
    if (this.#phase === "structured") {
      this.#structured = type === Rep.ack;
      this.#go();
      return true;
    }
    if (type === Rep.info) {
      if (message.readUInt16BE(20) === Info.export) {
        const flags = message.readUInt16BE(30);
        const readOnly = (flags & TransmissionFlag.readOnly) !== 0;
        this.#facts = { sizeBytes: Number(message.readBigUInt64BE(22)), readOnly };
      }
      return true;
    }
    if (type === Rep.ack) {
      demand(this.#facts !== null, "GO was acknowledged without the export's facts");
      this.#phase = "ready";
      this.#events.ready(this.#facts!);
      return true;
    }
    this.#endReason = `the export was refused (0x${type.toString(16)})`;
    this.#stream.abort();
    return false;
  }

  #reply(): boolean {
    const header = this.#peek(16);
    if (header === null) return false;
    if (header.readUInt32BE(0) === Magic.simpleReply) return this.#simpleReply(header);
    demand(header.readUInt32BE(0) === Magic.structuredReply && this.#structured, "a reply without a known magic");
    return this.#structuredReply();
  }

  #simpleReply(header: Buffer): boolean {
    const errno = header.readUInt32BE(4);
    const cookie = header.readUInt32BE(12);
    demand(this.#open.has(cookie), `a reply to command ${cookie}, which is not open`);
    const read = this.#reads.get(cookie);
    const payloadBytes = read !== undefined && errno === 0 ? read.data.byteLength : 0;
    const message = this.#take(16 + payloadBytes);
    if (message === null) return false;
    demand(!this.#structured || read === undefined, "a simple reply to a read of a session with structured replies");
    if (payloadBytes > 0) read!.data.set(message.subarray(16));
    this.#finish(cookie, errno);
    return true;
  }

  #structuredReply(): boolean {
    const header = this.#peek(20);
    if (header === null) return false;
    const lengthBytes = header.readUInt32BE(16);
    demand(lengthBytes <= 64 * 1024 * 1024, `a chunk of ${lengthBytes} bytes`);
    const message = this.#take(20 + lengthBytes);
    if (message === null) return false;
    const flags = message.readUInt16BE(4);
    const type = message.readUInt16BE(6);
    const cookie = message.readUInt32BE(12);
    demand(this.#open.has(cookie), `a chunk for command ${cookie}, which is not open`);
    const read = this.#reads.get(cookie);
    if (type === ReplyType.error || type === errorOffset) {
      this.#errors.set(cookie, message.readUInt32BE(20) || Errno.io);
    } else if (type === ReplyType.offsetData || type === offsetHole) {
      demand(read !== undefined, "data for a command that reads nothing");
      const at = Number(message.readBigUInt64BE(20)) - read!.startBytes;
      const dataBytes = type === offsetHole ? message.readUInt32BE(28) : lengthBytes - 8;
      demand(at >= 0 && at + dataBytes <= read!.data.byteLength, "data outside the range that was read");
      if (type === ReplyType.offsetData) read!.data.set(message.subarray(28), at);
      read!.filledBytes += dataBytes;
    } else demand(type === ReplyType.none, `a chunk of type ${type}`);
    if ((flags & ReplyFlag.done) === 0) return true;
    const errno = this.#errors.get(cookie) ?? 0;
    this.#errors.delete(cookie);
    demand(errno !== 0 || read === undefined || read.filledBytes === read.data.byteLength, "a read with a gap");
    this.#finish(cookie, errno);
    return true;
  }

  #finish(cookie: number, errno: number): void {
    const read = this.#reads.get(cookie);
    this.#reads.delete(cookie);
    this.#open.delete(cookie);
    this.#events.reply(cookie, errno, errno === 0 && read !== undefined ? read.data : null);
  }

  #peek(byteCount: number): Buffer | null {
    if (this.#inTo - this.#inFrom < byteCount) return null;
    return this.#in.subarray(this.#inFrom, this.#inFrom + byteCount);
  }

  #take(byteCount: number): Buffer | null {
    const message = this.#peek(byteCount);
    if (message !== null) this.#inFrom += byteCount;
    return message;
  }
}

class ProtocolError extends Error {}

function demand(condition: boolean, what: string): void {
  if (!condition) throw new ProtocolError(what);
}
