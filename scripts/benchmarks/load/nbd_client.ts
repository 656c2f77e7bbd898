/** NBD fixed newstyle, OPT_EXPORT_NAME, simple replies. */
import type { ClientShape, LoadClient, LoadEvents } from "./client.ts";
import { noise } from "./client.ts";
import { Output } from "./output.ts";
import type { Place } from "./plan.ts";

const requestBytes = 28;
const replyBytes = 16;
/** Greeting 18, then the export's size 8 and flags 2. */
const greetingBytes = 28;

export class NbdClient implements LoadClient {
  sizeBytes = 0;
  readonly #place: Place;
  readonly #shape: ClientShape;
  readonly #events: LoadEvents;
  readonly #output = new Output();
  readonly #request = new Uint8Array(requestBytes);
  readonly #requestView: DataView;
  readonly #payload: Uint8Array;
  readonly #isRead: Uint8Array;
  #greeting: number[] | null = [];
  #opened: () => void = () => {};
  readonly #head = new Uint8Array(replyBytes);
  #headFilled = 0;
  #payloadLeft = 0;
  #slot = 0;

  constructor(place: Place, shape: ClientShape, events: LoadEvents) {
    this.#place = place;
    this.#shape = shape;
    this.#events = events;
    this.#requestView = new DataView(this.#request.buffer);
    this.#requestView.setUint32(0, 0x25609513);
    this.#requestView.setUint32(24, shape.blockBytes);
    this.#payload = noise(shape.blockBytes);
    this.#isRead = new Uint8Array(shape.depth);
  }

  async open(): Promise<void> {
    const opened = new Promise<void>((resolve) => {
      this.#opened = resolve;
    });
    const socket = await Bun.connect({
      hostname: this.#place.host,
      port: this.#place.port,
      socket: {
        data: (_, chunk) => this.#data(chunk),
        drain: () => this.#output.push(),
        close: () => this.#events.failed(new Error("the server closed the connection")),
        error: (_, error) => this.#events.failed(error),
      },
    });
    this.#output.use(socket);
    const name = new TextEncoder().encode(this.#place.path);
    const hello = new Uint8Array(4 + 16 + name.byteLength);
    const view = new DataView(hello.buffer);
    // Fixed newstyle, no zeroes; then `IHAVEOPT`, option 1.
    view.setUint32(0, 3);
    view.setUint32(4, 0x49484156);
    view.setUint32(8, 0x454f5054);
    view.setUint32(12, 1);
    view.setUint32(16, name.byteLength);
    hello.set(name, 20);
    this.#output.append(hello);
    this.#output.push();
    await opened;
  }

  issue(slot: number, isWrite: boolean, offsetBytes: number): void {
    this.#isRead[slot] = isWrite ? 0 : 1;
    this.#request[7] = isWrite ? 1 : 0;
    const view = this.#requestView;
    view.setUint32(12, slot);
    view.setUint32(16, Math.floor(offsetBytes / 4294967296));
    view.setUint32(20, offsetBytes >>> 0);
    this.#output.append(this.#request);
    if (isWrite) this.#output.append(this.#payload);
  }

  push(): void {
    this.#output.push();
  }

  #greet(chunk: Uint8Array): void {
    const seen = this.#greeting!;
    for (const byte of chunk) seen.push(byte);
    if (seen.length < greetingBytes) return;
    this.sizeBytes = Number(new DataView(new Uint8Array(seen).buffer).getBigUint64(18));
    this.#greeting = null;
    this.#opened();
  }

  #data(chunk: Uint8Array): void {
    if (this.#greeting !== null) {
      this.#greet(chunk);
      return;
    }
    const head = this.#head;
    let at = 0;
    while (at < chunk.byteLength) {
      if (this.#payloadLeft === 0) {
        const take = Math.min(replyBytes - this.#headFilled, chunk.byteLength - at);
        for (let index = 0; index < take; index++) head[this.#headFilled + index] = chunk[at + index]!;
        this.#headFilled += take;
        at += take;
        if (this.#headFilled < replyBytes) break;
        this.#headFilled = 0;
        if ((head[4]! | head[5]! | head[6]! | head[7]!) !== 0)
          return this.#events.failed(new Error(`NBD error ${head[7]}`));
        this.#slot = (head[14]! << 8) | head[15]!;
        this.#payloadLeft = this.#isRead[this.#slot] === 1 ? this.#shape.blockBytes : 0;
      }
      const take = Math.min(this.#payloadLeft, chunk.byteLength - at);
      this.#payloadLeft -= take;
      at += take;
      if (this.#payloadLeft === 0) this.#events.completed(this.#slot);
    }
    this.#events.handled();
  }
}
