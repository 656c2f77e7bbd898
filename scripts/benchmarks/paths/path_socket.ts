/** The TCP connection of a path: what is common to all protocols, and an end that is told once. */
import { Output } from "../load/output.ts";
import type { Place } from "../load/plan.ts";

export class PathSocket {
  readonly output = new Output();
  readonly #onData: (chunk: Uint8Array) => void;
  readonly #onBroken: (why: string) => void;
  #socket: Bun.Socket<undefined> | null = null;
  #isOver = false;

  constructor(onData: (chunk: Uint8Array) => void, onBroken: (why: string) => void) {
    this.#onData = onData;
    this.#onBroken = onBroken;
  }

  async connect(place: Place): Promise<void> {
    const socket = await Bun.connect({
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
    });
    this.#socket = socket;
    if (this.#isOver) {
      socket.terminate();
      throw new Error("given up while it was connected");
    }
    this.output.use(socket);
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
    this.#socket?.terminate();
  }
}
