/**
 * A byte stream over one of Bun's native TCP sockets.
 *
 * Measured on Bun 1.4.5: `write` hands bytes to the kernel and keeps none back; `shutdown` sends a FIN and leaves the other
 * direction open, while `end` closes both; data arrives as buffers of exactly their size (512 KiB at most) that are never used
 * again; after `pause` neither a further buffer nor the FIN is reported, also from within a callback; TCP_NODELAY is on; an
 * exception in a callback goes to the `error` callback.
 *
 * Invariants:
 * - The handler is never called from inside a call of this stream.
 * - `onClose` comes last, exactly once.
 *
 *   open --end()--> ended --FIN of the other end, or the linger limit--> closed
 *   open --abort(), error, both FINs--> closed
 */
import type { ByteStream, StreamHandler } from "../api/byte_stream.ts";
import type { Clock, Timer } from "../api/clock.ts";
import { plainHost } from "./address.ts";

/** How long an ended stream waits for the other end's FIN before it is closed hard. */
const lingerMs = 10_000;

type NativeSocket = Bun.Socket<TcpStream | null>;

export class TcpStream implements ByteStream {
  readonly remote: string;
  /** Set as soon as the stream is handed out, before any event. */
  handler: StreamHandler | null = null;
  readonly #socket: NativeSocket;
  readonly #clock: Clock;
  #state: "open" | "ended" | "closed" = "open";
  #short = false;
  #paused = false;
  #linger: Timer | null = null;

  constructor(socket: NativeSocket, clock: Clock) {
    this.#socket = socket;
    this.#clock = clock;
    // undefined when the other end has reset the connection before it was accepted, whatever the type says.
    this.remote = plainHost((socket.remoteAddress as string | undefined) ?? "unknown");
  }

  write(bytes: Uint8Array): number {
    if (this.#state !== "open" || bytes.byteLength === 0) return 0;
    const taken = this.#socket.write(bytes as Uint8Array<ArrayBuffer>);
    // -1: the socket is closing; its close event follows.
    if (taken < 0) return 0;
    if (taken < bytes.byteLength) this.#short = true;
    return taken;
  }

  end(): void {
    if (this.#state !== "open") return;
    this.#state = "ended";
    this.#linger = this.#clock.after(lingerMs, () => this.abort());
    this.#socket.shutdown();
  }

  abort(): void {
    if (this.#state === "closed") return;
    this.#socket.terminate();
    this.closed();
  }

  pause(): void {
    if (this.#paused || this.#state === "closed") return;
    this.#paused = true;
    this.#socket.pause();
  }

  resume(): void {
    if (!this.#paused || this.#state === "closed") return;
    this.#paused = false;
    this.#socket.resume();
  }

  /** The runtime's callbacks. */
  data(chunk: Uint8Array): void {
    if (this.#state !== "closed") this.handler?.onData(chunk);
  }

  drained(): void {
    if (!this.#short || this.#state !== "open") return;
    this.#short = false;
    this.handler?.onDrain();
  }

  remoteEnded(): void {
    if (this.#state !== "closed") this.handler?.onEnd();
  }

  closed(): void {
    if (this.#state === "closed") return;
    this.#state = "closed";
    this.#linger?.cancel();
    this.#clock.defer(() => {
      const handler = this.handler;
      this.handler = null;
      handler?.onClose();
    });
  }
}

/** The callbacks of every socket of a port. `opened` sets the stream's handler before it returns. */
export function socketCallbacks(
  clock: Clock,
  opened: (stream: TcpStream) => void,
): Bun.SocketHandler<TcpStream | null> {
  return {
    // Plain arrays rather than Buffers; bun-types knows the option for UDP only, and a Buffer is a Uint8Array.
    binaryType: "uint8array" as "buffer",
    open(socket) {
      const stream = new TcpStream(socket, clock);
      socket.data = stream;
      opened(stream);
    },
    data(socket, chunk) {
      socket.data?.data(chunk);
    },
    drain(socket) {
      socket.data?.drained();
    },
    end(socket) {
      socket.data?.remoteEnded();
    },
    close(socket) {
      socket.data?.closed();
    },
    error(socket, error) {
      // System errors have a code and end the session. Anything else was thrown by the firmware in one of these callbacks: a
      // broken invariant, which must stop the appliance and not be taken for a network error.
      if ("code" in error && "errno" in error) socket.data?.abort();
      else queueMicrotask(() => rethrow(error));
    },
    connectError() {
      // Bun.connect's promise tells the same.
    },
  };
}

function rethrow(error: Error): never {
  throw error;
}
