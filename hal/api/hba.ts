import type { ByteStream, StreamHandler } from "./byte_stream.ts";

/** A host-facing port: it accepts sessions of hosts on one address. */
export interface HbaPort {
  readonly name: string;
  /** `HOST:PORT` as hosts reach it; the real port once listening. */
  readonly address: string;
  /** What is served here, from the board profile: for example `nbd`. */
  readonly protocol: string;
  /** Its address is a service address (`service_address.ts`): it can listen only while that is held. */
  readonly movesWithOwner: boolean;
  /**
   * Starts accepting. `accept` is called for each new session and returns its handler.
   * `done(error)` tells whether the address could be taken; the text names the address and the cause.
   */
  listen(accept: (stream: HostStream) => StreamHandler, done: (error: string | null) => void): void;
  /** Stops accepting; open sessions stay. */
  close(): void;
}

/** A host's session: a byte stream that can go on in TLS, for protocols that change over in mid-session (STARTTLS). */
export interface HostStream extends ByteStream {
  /**
   * From here on the stream is TLS and this end its server, with the port's own certificate. Called at most once, when every
   * byte written before has been taken and the stream is not paused; until `done` nothing is written and `onData` is not called.
   * `done` is called once, after this call has returned, unless the stream closes first. After a failure the stream is of no use
   * and its owner aborts it. What the host had sent in plain beyond this point is no TLS, and fails.
   */
  startTls(done: (outcome: TlsOutcome) => void): void;
}

export type TlsOutcome =
  /** `clientName`: the common name in the host's certificate, verified against the port's CA; null where there is no CA. */
  { readonly ok: true; readonly clientName: string | null } | { readonly ok: false; readonly reason: string };
