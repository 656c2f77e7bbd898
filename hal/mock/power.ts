/**
 * The port that switches the partner off.
 *
 * Fault model: it takes its time; it is broken and says so, having killed the target or not.
 */
import type { PowerPort } from "../api/power.ts";
import { eventKind } from "./event_heap.ts";
import type { Kernel } from "./kernel.ts";
import type { Lifetime } from "./lifetime.ts";

/** May be changed at any time. */
export interface PowerFaults {
  killMs: number;
  /** `dead-unproven`: the target dies and the port does not know it. `always-dead`: it is the port of something else that is off. */
  broken: "no" | "dead-unproven" | "alive" | "always-dead";
}

export class MockPowerPort implements PowerPort {
  readonly target: string;
  readonly #kernel: Kernel;
  readonly #lifetime: Lifetime;
  readonly #faults: PowerFaults;
  readonly #kill: () => void;
  readonly #isUp: () => boolean;

  constructor(
    kernel: Kernel,
    lifetime: Lifetime,
    options: { target: string; faults: PowerFaults; isUp: () => boolean; kill: () => void },
  ) {
    this.#kernel = kernel;
    this.#lifetime = lifetime;
    this.target = options.target;
    this.#faults = options.faults;
    this.#kill = options.kill;
    this.#isUp = options.isUp;
  }

  isDead(): boolean {
    if (this.#faults.broken === "always-dead") return true;
    return this.#faults.broken === "no" && !this.#isUp();
  }

  kill(done: (doubt: string | null) => void): void {
    if (!this.#lifetime.effect()) return;
    this.#kernel.schedule(this.#faults.killMs, eventKind.power, null, () => {
      const { broken } = this.#faults;
      if (broken === "no" || broken === "dead-unproven") this.#kill();
      const dead = broken === "no" || broken === "always-dead";
      const doubt = dead ? null : "the port is broken";
      this.#kernel.schedule(0, eventKind.power, this.#lifetime, () => done(doubt));
    });
  }
}
