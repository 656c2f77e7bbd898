import type { ByteStream, StreamHandler } from "./byte_stream.ts";

/** A host-facing port: it accepts sessions of hosts on one address. */
export interface HbaPort {
  readonly name: string;
  /** `HOST:PORT` as hosts reach it; the real port once listening. */
  readonly address: string;
  /** What is served here, from the board profile: for example `nbd`. */
  readonly protocol: string;
  /**
   * Starts accepting. `accept` is called for each new session and returns its handler.
   * `done(error)` tells whether the address could be taken; the text names the address and the cause.
   */
  listen(accept: (stream: ByteStream) => StreamHandler, done: (error: string | null) => void): void;
  /** Stops accepting; open sessions stay. */
  close(): void;
}
