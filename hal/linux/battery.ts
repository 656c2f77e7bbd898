/** The cache's battery: good until the lab says otherwise. */
import type { BatteryState } from "../api/write_cache.ts";

export class Battery {
  #state: BatteryState = "good";
  #listener: ((state: BatteryState) => void) | null = null;

  state(): BatteryState {
    return this.#state;
  }

  onChange(listener: (state: BatteryState) => void): void {
    this.#listener = listener;
  }

  set(state: BatteryState): void {
    if (state === this.#state) return;
    this.#state = state;
    this.#listener?.(state);
  }
}
