import type { ByteStream, StreamHandler } from "./byte_stream.ts";

/**
 * A port towards other appliances. Every NIC can be shaped, per remote appliance, at run time; a cut holds bytes back as a
 * pulled cable does (nothing is delivered, nobody is told), so only the protocol's own timeouts notice it.
 */
export interface Nic {
  readonly name: string;
  readonly address: string;
  listen(accept: (stream: ByteStream) => StreamHandler, done: (error: string | null) => void): void;
  /**
   * Connects to another appliance's NIC. `connected(stream)` returns the handler; `failed(reason)` is called instead when no
   * connection came about. Exactly one of the two is called.
   */
  connect(address: string, connected: (stream: ByteStream) => StreamHandler, failed: (reason: string) => void): void;
  /** Shapes what this NIC sends to `remote` (an appliance's name); null restores the plain link. */
  shape(remote: string, shaping: Shaping | null): void;
  /** The shapings in force, by remote appliance. */
  shapings(): ReadonlyMap<string, Shaping>;
  close(): void;
}

/** Applies to one direction: what the shaped NIC sends. */
export interface Shaping {
  /** Nothing passes while true. */
  readonly cut: boolean;
  readonly latencyMs: number;
  /** Uniform, plus or minus; never reorders (a stream stays a stream). */
  readonly jitterMs: number;
  /** null: not limited. */
  readonly rateBytesPerSecond: number | null;
  /** 0 to 1: the share of packets that would be lost; a stream feels each as a retransmission delay. */
  readonly loss: number;
}
