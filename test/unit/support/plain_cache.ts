/** A WriteCache over plain memory: `battery` keeps every store, `flush` keeps what a completed persist covered. */
import type { Clock } from "../../../hal/api/clock.ts";
import type { BatteryState, PersistenceDomain, WriteCache } from "../../../hal/api/write_cache.ts";

export class PlainCache implements WriteCache {
  readonly sizeBytes: number;
  readonly domain: PersistenceDomain;
  readonly memory: Uint8Array;
  readonly #durable: Uint8Array;
  readonly #clock: Clock;
  #battery: BatteryState = "good";
  #listener: (state: BatteryState) => void = () => {};
  failPersist = false;

  constructor(clock: Clock, sizeBytes: number, domain: PersistenceDomain, content?: Uint8Array) {
    this.#clock = clock;
    this.sizeBytes = sizeBytes;
    this.domain = domain;
    this.memory = content?.slice() ?? new Uint8Array(sizeBytes);
    this.#durable = this.memory.slice();
  }

  /** What a restart finds. */
  content(): Uint8Array {
    return this.domain === "battery" ? this.memory : this.#durable;
  }

  battery(): BatteryState {
    return this.#battery;
  }

  onBattery(listener: (state: BatteryState) => void): void {
    this.#listener = listener;
  }

  setBattery(state: BatteryState): void {
    this.#battery = state;
    this.#listener(state);
  }

  wrote(): void {}

  persist(done: (outcome: "persisted" | "failed") => void): void {
    if (this.failPersist) return done("failed");
    if (this.domain === "battery") return done("persisted");
    const image = this.memory.slice();
    this.#clock.after(0.2, () => {
      this.#durable.set(image);
      done("persisted");
    });
  }
}
