/**
 * What the compliance suite needs from a HAL under test, and the suite's own tools.
 *
 * A machine has two HBA ports (`hba0`, `hba1`), two NICs (`nic0`, `nic1`), a write cache of 1 MiB and the shelf `shelf0` with
 * disks of 16 MiB in slots 0 and 1; slot 2 is there and empty. Port addresses are free ones.
 */
import * as assert from "uvu/assert";
import type { ByteStream, StreamHandler } from "../../hal/api/byte_stream.ts";
import type { Hal } from "../../hal/api/hal.ts";
import type { Nic } from "../../hal/api/nic.ts";
import type { BatteryState } from "../../hal/api/write_cache.ts";

export const cacheBytes = 1024 * 1024;
export const diskBytes = 16 * 1024 * 1024;

export interface HalBench {
  open(options: MachineOptions): Promise<Machine>;
  /** A host's session to an HBA port, from the machine's network. */
  connectHost(
    address: string,
    connected: (stream: ByteStream) => StreamHandler,
    failed: (reason: string) => void,
  ): void;
  /** Lets the world go on until `condition` holds; fails, naming `what`, when it does not within a generous limit. */
  until(what: string, condition: () => boolean): Promise<void>;
  /** Ends everything that was opened. */
  close(): Promise<void>;
}

export interface MachineOptions {
  readonly appliance: string;
  readonly persistence: "battery" | "flush";
}

export interface Machine {
  /** Of the present start. */
  readonly hal: Hal;
  setBattery(state: BatteryState): void;
  failCache(): void;
  setDiskFault(place: string, on: boolean): void;
  /** The process dies and starts again on the same hardware. */
  restart(): Promise<void>;
}

/** Bytes that repeat nowhere near, so that a lost, doubled or moved piece shows. */
export function pattern(lengthBytes: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(lengthBytes);
  let state = (seed * 2654435761) >>> 0 || 1;
  for (let index = 0; index < lengthBytes; index++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[index] = state >>> 24;
  }
  return bytes;
}

export function sameBytes(actual: Uint8Array, expected: Uint8Array, what: string): void {
  assert.is(actual.byteLength, expected.byteLength, `${what}: length`);
  const at = actual.findIndex((byte, index) => byte !== expected[index]);
  assert.is(at, -1, `${what}: first difference at byte ${at}`);
}

/** One end of a stream as a test sees it: it records the events and keeps every chunk. */
export class StreamEar implements StreamHandler {
  readonly stream: ByteStream;
  readonly chunks: Uint8Array[] = [];
  readonly violations: string[] = [];
  receivedBytes = 0;
  drainCount = 0;
  endCount = 0;
  closeCount = 0;
  /** Called after each chunk. */
  onChunk: (() => void) | null = null;
  #inCall = false;

  constructor(stream: ByteStream) {
    this.stream = stream;
  }

  onData(chunk: Uint8Array): void {
    this.#event("onData");
    if (this.endCount > 0) this.violations.push("onData after onEnd");
    this.chunks.push(chunk);
    this.receivedBytes += chunk.byteLength;
    this.onChunk?.();
  }

  onDrain(): void {
    this.#event("onDrain");
    this.drainCount++;
  }

  onEnd(): void {
    this.#event("onEnd");
    this.endCount++;
  }

  onClose(): void {
    this.#event("onClose");
    this.closeCount++;
  }

  #event(name: string): void {
    if (this.#inCall) this.violations.push(`${name} from inside a call`);
    if (this.closeCount > 0) this.violations.push(`${name} after onClose`);
  }

  /** Calls the stream; a callback from inside is a violation. */
  call<T>(action: (stream: ByteStream) => T): T {
    this.#inCall = true;
    try {
      return action(this.stream);
    } finally {
      this.#inCall = false;
    }
  }

  received(): Uint8Array {
    const all = new Uint8Array(this.receivedBytes);
    let offset = 0;
    for (const chunk of this.chunks) {
      all.set(chunk, offset);
      offset += chunk.byteLength;
    }
    return all;
  }

  /** Sends everything, waiting for room where a write comes short. */
  async send(bench: HalBench, bytes: Uint8Array): Promise<void> {
    for (let offset = 0; offset < bytes.byteLength; ) {
      const drains = this.drainCount;
      const taken = this.call((stream) => stream.write(bytes.subarray(offset)));
      assert.ok(taken >= 0 && taken <= bytes.byteLength - offset, `write took ${taken}`);
      offset += taken;
      if (offset < bytes.byteLength) await bench.until("room after a short write", () => this.drainCount > drains);
    }
  }

  /** Writes until a write comes short; how many bytes were taken. Fails when `limitBytes` were taken. */
  fill(bytes: Uint8Array, limitBytes: number): number {
    let total = 0;
    for (;;) {
      const taken = this.call((stream) => stream.write(bytes));
      total += taken;
      if (taken < bytes.byteLength) return total;
      assert.ok(total < limitBytes, `the stream takes ${limitBytes} bytes and more though nobody reads`);
    }
  }
}

export interface Pair {
  readonly dialer: StreamEar;
  readonly acceptor: StreamEar;
}

/** A link from `from` to `to`, where `to` is listening already with `listenForEars`. */
export async function dial(bench: HalBench, from: Nic, to: Nic, accepted: StreamEar[]): Promise<Pair> {
  const before = accepted.length;
  let dialer: StreamEar | null = null;
  let failure: string | null = null;
  from.connect(
    to.address,
    (stream) => {
      dialer = new StreamEar(stream);
      return dialer;
    },
    (reason) => {
      failure = reason;
    },
  );
  await bench.until("both ends of a link", () => failure !== null || (dialer !== null && accepted.length > before));
  assert.is(failure, null);
  const acceptor = accepted[before];
  if (dialer === null || acceptor === undefined) throw new Error("no link");
  return { dialer, acceptor };
}

/** A host's session on a port that listens already with `listenForEars`. */
export async function dialHost(bench: HalBench, address: string, accepted: StreamEar[]): Promise<Pair> {
  const before = accepted.length;
  let dialer: StreamEar | null = null;
  let failure: string | null = null;
  bench.connectHost(
    address,
    (stream) => {
      dialer = new StreamEar(stream);
      return dialer;
    },
    (reason) => {
      failure = reason;
    },
  );
  await bench.until("both ends of a session", () => failure !== null || (dialer !== null && accepted.length > before));
  assert.is(failure, null);
  const acceptor = accepted[before];
  if (dialer === null || acceptor === undefined) throw new Error("no session");
  return { dialer, acceptor };
}

interface Listening {
  listen(accept: (stream: ByteStream) => StreamHandler, done: (error: string | null) => void): void;
}

/** Listens; the ends accepted so far are in the array returned. */
export async function listenForEars(bench: HalBench, port: Listening): Promise<StreamEar[]> {
  const accepted: StreamEar[] = [];
  assert.is(await listenOutcome(bench, port, accepted), null);
  return accepted;
}

export async function listenOutcome(bench: HalBench, port: Listening, accepted: StreamEar[]): Promise<string | null> {
  let outcome: { error: string | null } | null = null;
  port.listen(
    (stream) => {
      const ear = new StreamEar(stream);
      accepted.push(ear);
      return ear;
    },
    (error) => {
      assert.is(outcome, null, "done is called once");
      outcome = { error };
    },
  );
  await bench.until("the outcome of listen", () => outcome !== null);
  return (outcome as { error: string | null } | null)?.error ?? null;
}

/** The outcome of an operation that ends with `done(outcome)`; also checks that it does so once. */
export async function outcomeOf<T>(
  bench: Pick<HalBench, "until">,
  what: string,
  start: (done: (outcome: T) => void) => void,
): Promise<T> {
  const outcomes: T[] = [];
  start((outcome) => outcomes.push(outcome));
  await bench.until(what, () => outcomes.length > 0);
  assert.is(outcomes.length, 1, `${what}: done is called once`);
  return outcomes[0] as T;
}
