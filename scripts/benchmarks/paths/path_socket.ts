/** The TCP connection of a path: what is common to all protocols, and an end that is told once. */
import { Output } from "../load/output.ts";
import type { Place } from "../load/plan.ts";

export class PathSocket {
  readonly output = new Output();
  readonly #onData: (chunk: Uint8Array) => void;
  readonly #onBroken: (why: string) => void;
  #socket: Bun.Socket<undefined> | null = null;
  #onDropped: (() => void) | null = null;
  #isOver = false;

  constructor(onData: (chunk: Uint8Array) => void, onBroken: (why: string) => void) {
    this.#onData = onData;
    this.#onBroken = onBroken;
  }

  /** Rejects when it is dropped meanwhile: in a network an attempt may stay without an answer for minutes. */
  connect(place: Place): Promise<void> {
    return new Promise((resolve, reject) => {
      const givenUp = () => reject(new Error("given up while it was connected"));
      this.#onDropped = givenUp;
      Bun.connect({
        hostname: place.host,
        port: place.port,
        socket: {
          data: (_, chunk) => {
            if (!this.#isOver) this.#onData(chunk);
          },
          drain: () => this.push(),
          close: () => this.end("closed"),
          error: (_, error) => this.end(error.message),
        },
      }).then((socket) => {
        this.#socket = socket;
        this.#onDropped = null;
        if (this.#isOver) {
          socket.terminate();
          return givenUp();
        }
        this.output.use(socket);
        resolve();
      }, reject);
    });
  }

  push(): void {
    if (!this.#isOver && this.#socket !== null) this.output.push();
  }

  /** Tells of the end, unless it is over already. */
  end(why: string): void {
    if (this.#isOver) return;
    this.drop();
    this.#onBroken(why);
  }

  drop(): void {
    this.#isOver = true;
    this.#onDropped?.();
    this.#socket?.terminate();
  }
}
