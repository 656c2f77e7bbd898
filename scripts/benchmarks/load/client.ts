/** One connection to a volume, as a load generator needs it: no verification, nothing kept of what is read. */

export interface LoadEvents {
  /** The request in `slot` has been answered, without an error. */
  completed(slot: number): void;
  /** All that has arrived has been handled: what is due now can go out together. */
  handled(): void;
  failed(error: Error): void;
}

export interface LoadClient {
  /** Of the volume; known when `open` has resolved. */
  readonly sizeBytes: number;
  open(): Promise<void>;
  /** Goes out with the next `push`. The slot is free. */
  issue(slot: number, isWrite: boolean, offsetBytes: number): void;
  push(): void;
}

export interface ClientShape {
  readonly blockBytes: number;
  readonly depth: number;
  /** Which of the connections of this load, from 0. */
  readonly index: number;
}

/** What is written: nothing that a server could take for zeros. */
export function noise(bytes: number): Uint8Array {
  const out = new Uint8Array(bytes);
  let state = 0x9e3779b9;
  for (let at = 0; at < bytes; at++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    out[at] = state >>> 24;
  }
  return out;
}
