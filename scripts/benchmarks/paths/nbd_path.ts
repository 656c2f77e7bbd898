/** A path over NBD: fixed newstyle, OPT_EXPORT_NAME, simple replies. */
import type { PathClient, PathEvents, PathShape } from "./path_client.ts";
import { PathSocket } from "./path_socket.ts";

const requestBytes = 28;
const replyBytes = 16;
/** Greeting 18, then the export's size 8 and flags 2. */
const greetingBytes = 28;
const command = { read: 0, write: 1 } as const;
/** The server goes away, or the volume does: the path is over, not the volume. */
const shutdown = 108;

export class NbdPath implements PathClient {
  readonly #shape: PathShape;
  readonly #events: PathEvents;
  readonly #socket: PathSocket;
  readonly #request = new Uint8Array(requestBytes);
  readonly #requestView: DataView;
  readonly #isRead: Uint8Array;
  /** What a slot has read. */
  readonly #data: Uint8Array[];
  /** null: the server has said all of it. */
  #greeting: number[] | null = [];
  #opened: (sizeBytes: number) => void = () => {};
  #refused: (error: Error) => void = () => {};
  readonly #head = new Uint8Array(replyBytes);
  readonly #headView: DataView;
  #headFilled = 0;
  #slot = 0;
  #payloadLeft = 0;

  constructor(shape: PathShape, events: PathEvents) {
    this.#shape = shape;
    this.#events = events;
    this.#socket = new PathSocket(
      (chunk) => this.#received(chunk),
      (why) => this.#broken(why),
    );
    this.#requestView = new DataView(this.#request.buffer);
    this.#requestView.setUint32(0, 0x25609513);
    this.#requestView.setUint32(24, shape.blockBytes);
    this.#headView = new DataView(this.#head.buffer);
    this.#isRead = new Uint8Array(shape.depth);
    this.#data = Array.from({ length: shape.depth }, () => new Uint8Array(shape.blockBytes));
  }

  async open(): Promise<number> {
    const opened = new Promise<number>((resolve, reject) => {
      this.#opened = resolve;
      this.#refused = reject;
    });
    // Heard of below, also when the connection ends before anybody waits for it.
    opened.catch(() => {});
    await this.#socket.connect(this.#shape.place);
    const name = new TextEncoder().encode(this.#shape.place.path);
    const hello = new Uint8Array(4 + 16 + name.byteLength);
    const view = new DataView(hello.buffer);
    // Fixed newstyle, no zeroes; then `IHAVEOPT`, option 1.
    view.setUint32(0, 3);
    view.setUint32(4, 0x49484156);
    view.setUint32(8, 0x454f5054);
    view.setUint32(12, 1);
    view.setUint32(16, name.byteLength);
    hello.set(name, 20);
    this.#socket.output.append(hello);
    this.#socket.push();
    return await opened;
  }

  read(slot: number, offsetBytes: number): void {
    this.#isRead[slot] = 1;
    this.#issue(command.read, slot, offsetBytes);
  }

  write(slot: number, offsetBytes: number, payload: Uint8Array): void {
    this.#isRead[slot] = 0;
    this.#issue(command.write, slot, offsetBytes);
    this.#socket.output.append(payload);
  }

  push(): void {
    this.#socket.push();
  }

  drop(): void {
    this.#socket.drop();
    this.#refused(new Error("given up"));
  }

  #issue(what: number, slot: number, offsetBytes: number): void {
    this.#request[7] = what;
    const view = this.#requestView;
    view.setUint32(12, slot);
    view.setUint32(16, Math.floor(offsetBytes / 4294967296));
    view.setUint32(20, offsetBytes >>> 0);
    this.#socket.output.append(this.#request);
  }

  #broken(why: string): void {
    if (this.#greeting !== null) this.#refused(new Error(why));
    else this.#events.broken(why);
  }

  #greet(chunk: Uint8Array): void {
    const seen = this.#greeting!;
    for (const byte of chunk) seen.push(byte);
    if (seen.length < greetingBytes) return;
    this.#greeting = null;
    this.#opened(Number(new DataView(new Uint8Array(seen).buffer).getBigUint64(18)));
  }

  #received(chunk: Uint8Array): void {
    if (this.#greeting !== null) return this.#greet(chunk);
    const head = this.#head;
    let at = 0;
    while (at < chunk.byteLength) {
      if (this.#payloadLeft === 0) {
        const take = Math.min(replyBytes - this.#headFilled, chunk.byteLength - at);
        head.set(chunk.subarray(at, at + take), this.#headFilled);
        this.#headFilled += take;
        at += take;
        if (this.#headFilled < replyBytes) break;
        this.#headFilled = 0;
        const slot = this.#headView.getUint32(12);
        if (this.#headView.getUint32(0) !== 0x67446698 || slot >= this.#shape.depth)
          return this.#socket.end("what came is no reply to a request");
        const error = this.#headView.getUint32(4);
        if (error === shutdown) return this.#socket.end("the server says that it shuts down");
        if (error !== 0) {
          this.#events.refused(slot, "error", `NBD error ${error}`);
          continue;
        }
        this.#slot = slot;
        if (this.#isRead[slot] === 0) {
          this.#events.answered(slot, null);
          continue;
        }
        this.#payloadLeft = this.#shape.blockBytes;
      }
      const take = Math.min(this.#payloadLeft, chunk.byteLength - at);
      const data = this.#data[this.#slot]!;
      data.set(chunk.subarray(at, at + take), data.byteLength - this.#payloadLeft);
      this.#payloadLeft -= take;
      at += take;
      if (this.#payloadLeft === 0) this.#events.answered(this.#slot, data);
    }
    this.#events.handled();
  }
}
