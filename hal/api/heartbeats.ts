/**
 * Heartbeats between the two appliances of a pair, sent and heard beside the main loop: a pause of that loop (garbage collection, a long
 * batch) delays none and misses none. What they carry tells the partner whether the loop turns.
 *
 * Invariants:
 * - They go on while the main loop is busy, and end with the process: stopped with it (SIGSTOP), dead with it.
 * - Only a beat that was sent with the key of this very channel is heard, each once, and none that was sent before one already heard.
 * - The NIC's shaping towards `remote` holds for them: a cut lets none through, and is in force when `Nic.shape` returns.
 * - Time in which this process was stopped itself counts neither as silence of the other end nor as standstill of the own loop, but for
 *   two intervals.
 */
export interface Heartbeats {
  /** The main loop has come round; it calls this itself, at least once in `intervalMs` while it is well. */
  turned(): void;
  /** Sends from the NIC `path.nic`, and listens there, until the channel is closed. */
  open(path: HeartbeatPath): HeartbeatChannel;
}

export interface HeartbeatPath {
  /** The name of the NIC here. */
  readonly nic: string;
  /** Of the NIC at the other end, as `Nic.connect` takes it. */
  readonly address: string;
  /** The other appliance's name: shaping goes by it. */
  readonly remote: string;
  /** Between two beats; milliseconds, at least 1. */
  readonly intervalMs: number;
  /** Known to the two ends alone; the other end hears with it. */
  readonly sendKey: Uint8Array;
  /** What the other end sends with. */
  readonly hearKey: Uint8Array;
}

export interface HeartbeatChannel {
  /** Never waits. */
  heard(): Heard;
  /** Nothing is sent any more. */
  close(): void;
}

export interface Heard {
  /** For how long no beat has come, since the opening at most. */
  readonly silentMs: number;
  /** For how long the other end's main loop had not turned when it sent its last beat; 0 before the first one. */
  readonly stillMs: number;
  /** Its turns at that time, modulo 2^32. */
  readonly turns: number;
  /** Why nothing can be sent or heard here, one line; null: nothing is known to be wrong. It is tried again by itself. */
  readonly trouble: string | null;
}
