/**
 * A byte stream over one of Bun's native TCP sockets, which may go on in TLS as its server.
 *
 * Measured on Bun 1.4.5: `write` hands bytes to the kernel and keeps none back; `shutdown` sends a FIN and leaves the other
 * direction open, while `end` closes both; data arrives as buffers of exactly their size (512 KiB at most) that are never used
 * again, and that `ArrayBuffer.transfer(0)` frees at once (4,000 page faults per GB received before, 400 with it); after `pause` neither a further buffer nor the FIN is reported, also from within a callback; TCP_NODELAY is on; an
 * exception in a callback goes to the `error` callback. After `upgradeTLS` the plain socket's callbacks repeat the ciphertext and
 * are not listened to; a client certificate that is missing or of another CA ends the handshake without success (40 of 40 times),
 * and is judged here once more.
 *
 * Invariants:
 * - The handler is never called from inside a call of this stream.
 * - `onClose` comes last, exactly once.
 *
 *   open --end()--> ended --FIN of the other end, or the linger limit--> closed
 *   open --abort(), error, both FINs--> closed
 */
import type { StreamHandler } from "../api/byte_stream.ts";
import type { Clock, Timer } from "../api/clock.ts";
import type { HostStream, TlsOutcome } from "../api/hba.ts";
import { plainHost } from "./address.ts";
import type { TlsCredentials } from "./tls_files.ts";

/**
 * Chunks from this size on are worth giving back: their memory is freed at once, and the next chunk lies in it, instead of in pages
 * that have to be faulted in. At 4 KiB reads forwarded by a partner that was 18 % of its main thread.
 */
const givenBackBytesMin = 4096;

/** How long an ended stream waits for the other end's FIN before it is closed hard. */
const lingerMs = 10_000;

type NativeSocket = Bun.Socket<TcpStream | null>;

export class TcpStream implements HostStream {
  readonly remote: string;
  /** Set as soon as the stream is handed out, before any event. */
  handler: StreamHandler | null = null;
  /** What `startTls` works with. */
  tls: TlsCredentials | null = null;
  #socket: NativeSocket;
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

  giveBack(chunk: Uint8Array): void {
    const { buffer } = chunk;
    // A part of a chunk is not ours to free.
    if (chunk.byteLength < givenBackBytesMin || chunk.byteLength !== buffer.byteLength) return;
    (buffer as ArrayBuffer).transfer(0);
  }

  startTls(done: (outcome: TlsOutcome) => void): void {
    if (this.#state !== "open") return;
    const credentials = this.tls;
    if (credentials === null) {
      this.#clock.defer(() => done({ ok: false, reason: "this port has no certificate" }));
      return;
    }
    let judged = false;
    const plain = this.#socket;
    plain.data = null;
    this.#short = false;
    const [, secure] = plain.upgradeTLS<TcpStream | null>({
      data: this,
      tls: tlsOptions(credentials),
      socket: {
        ...socketCallbacks(this.#clock, () => {}),
        open() {},
        data: (_socket, chunk) => {
          // Nothing counts as the host's word before the handshake has told who it is.
          if (judged) this.data(chunk);
        },
        handshake: (socket, success, error) => {
          if (judged || this.#state !== "open") return;
          judged = true;
          done(judge(socket, { success, error, verified: credentials.caPem !== null }));
        },
      },
    });
    this.#socket = secure;
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

/** Everything that decides who gets in is said, whatever the defaults are. */
function tlsOptions(credentials: TlsCredentials): Bun.TLSOptions {
  const verifies = credentials.caPem !== null;
  return {
    cert: credentials.certificatePem,
    key: credentials.keyPem,
    ...(credentials.caPem !== null && { ca: credentials.caPem }),
    requestCert: verifies,
    rejectUnauthorized: verifies,
  };
}

function judge(
  socket: NativeSocket,
  handshake: { readonly success: boolean; readonly error: Error | null; readonly verified: boolean },
): TlsOutcome {
  const { success, error, verified } = handshake;
  const trouble = error ?? (verified ? socket.getAuthorizationError() : null);
  if (!success) return { ok: false, reason: trouble === null ? "the TLS handshake failed" : textOf(trouble) };
  if (!verified) return { ok: true, clientName: null };
  if (!socket.authorized || trouble !== null) {
    return { ok: false, reason: `client certificate refused: ${trouble === null ? "not verified" : textOf(trouble)}` };
  }
  const name: unknown = socket.getPeerCertificate().subject?.CN;
  if (typeof name !== "string" || name === "") {
    return { ok: false, reason: "client certificate refused: it has not exactly one common name" };
  }
  return { ok: true, clientName: name };
}

function textOf(error: Error): string {
  const code = "code" in error ? `${String(error.code)}: ` : "";
  return `${code}${error.message}`.replaceAll(/\s+/g, " ").slice(0, 200);
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
