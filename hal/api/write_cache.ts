/**
 * NVRAM: a byte region that outlives the process, with a persist point.
 *
 * Domains: in `battery` every declared store survives the death of the process (on real NVDIMM with persist instructions also
 * power loss); in `flush` only what a completed `persist` covered survives power loss.
 *
 * Invariants:
 * - What `memory` holds when a boot gets it is durable in its domain.
 * - `memory` may be read at any time. A store into it is followed by `wrote` in the same event.
 * - `persist` covers every store declared before the call. A failed persist means that the cache has failed: it is never
 *   retried as clean.
 */
export interface WriteCache {
  readonly sizeBytes: number;
  readonly domain: PersistenceDomain;
  readonly memory: Uint8Array;
  battery(): BatteryState;
  /** One listener; called at every change of the battery's state. */
  onBattery(listener: (state: BatteryState) => void): void;
  /** Declares a store to `memory[offsetBytes, offsetBytes + lengthBytes)`. */
  wrote(offsetBytes: number, lengthBytes: number): void;
  /** May complete before it returns (domain `battery`). */
  persist(done: (outcome: "persisted" | "failed") => void): void;
}

export type PersistenceDomain = "battery" | "flush";
export type BatteryState = "good" | "failed";
