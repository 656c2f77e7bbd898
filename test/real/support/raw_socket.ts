/** A plain TCP connection that sends whatever bytes it is told to, and an NBD host made of it. */
import { connect, type Socket } from "node:net";
import { bytesOf, command, goData, option } from "../../unit/support/nbd_host.ts";

export class RawSocket {
  readonly socket: Socket;
  #received: Buffer[] = [];
  #receivedBytes = 0;
  #wake: () => void = () => {};
  /** The other end has closed or reset, or nobody was there. */
  closed = false;

  /** `at`: HOST:PORT; `localAddress`: from where, null: from anywhere. */
  constructor(at: string, localAddress: string | null = null) {
    const colon = at.lastIndexOf(":");
    this.socket = connect({
      host: at.slice(0, colon),
      port: Number(at.slice(colon + 1)),
      allowHalfOpen: true,
      ...(localAddress !== null && { localAddress }),
    });
    this.socket.on("data", (chunk: Buffer) => {
      this.#received.push(chunk);
      this.#receivedBytes += chunk.byteLength;
      this.#wake();
    });
    const end = () => {
      this.closed = true;
      this.#wake();
    };
    for (const event of ["end", "close", "error"]) this.socket.on(event, end);
  }

  send(...pieces: Uint8Array[]): void {
    for (const piece of pieces) this.socket.write(piece);
  }

  /** Fewer bytes only when the other end has ended the stream. */
  async read(bytes: number): Promise<Buffer> {
    while (this.#receivedBytes < bytes && !this.closed) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const all = Buffer.concat(this.#received);
    this.#received = [all.subarray(bytes)];
    this.#receivedBytes = Math.max(0, all.byteLength - bytes);
    return all.subarray(0, bytes);
  }

  /** What has come and has not been read, as text. */
  receivedText(): string {
    return Buffer.concat(this.#received).toString("latin1");
  }

  /** Everything until the other end closes. */
  async ended(): Promise<Buffer> {
    return await this.read(Number.POSITIVE_INFINITY);
  }

  destroy(): void {
    this.socket.destroy();
  }
}

/** Greeting 18, INFO_EXPORT 32, INFO_BLOCK_SIZE 34, ACK 20. */
export const handshakeReplyBytes = 18 + 32 + 34 + 20;

export const commandOf = { read: 0, write: 1, disconnect: 2, flush: 3, trim: 4, zero: 6 } as const;
export const errorOf = { none: 0, permission: 1, io: 5, invalid: 22, noSpace: 28, overflow: 75 } as const;

/** One request at a time, simple replies. */
export class NbdHost {
  readonly raw: RawSocket;
  #cookie = 0n;

  constructor(raw: RawSocket) {
    this.raw = raw;
  }

  /** null: refused or closed. */
  static async open(at: string, volume: string): Promise<NbdHost | null> {
    const raw = new RawSocket(at);
    raw.send(bytesOf({ u32: 3 }), option(7, goData(volume)));
    await raw.read(18);
    for (;;) {
      const header = await raw.read(20);
      const type = header.byteLength < 20 ? 2 ** 31 : header.readUInt32BE(12);
      if (type >= 2 ** 31) break;
      await raw.read(header.readUInt32BE(16));
      if (type === 1) return new NbdHost(raw);
    }
    raw.destroy();
    return null;
  }

  /** The reply's error; null: the session has ended. */
  async ask(kind: number, offset: number, length: number, payload?: Uint8Array): Promise<number | null> {
    const cookie = ++this.#cookie;
    this.raw.send(
      payload === undefined
        ? command({ command: kind, cookie, offset, length })
        : command({ command: kind, cookie, offset, payload }),
    );
    const reply = await this.raw.read(16);
    if (reply.byteLength < 16) return null;
    if (reply.readBigUInt64BE(8) !== cookie) throw new Error("a reply to another request");
    return reply.readUInt32BE(4);
  }

  write(offset: number, payload: Uint8Array): Promise<number | null> {
    return this.ask(commandOf.write, offset, payload.byteLength, payload);
  }

  async read(offset: number, length: number): Promise<Buffer | number | null> {
    const error = await this.ask(commandOf.read, offset, length);
    return error === 0 ? await this.raw.read(length) : error;
  }

  close(): void {
    this.raw.send(command({ command: commandOf.disconnect }));
    this.raw.socket.end();
  }
}
