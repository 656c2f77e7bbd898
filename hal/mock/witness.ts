/**
 * The third place, one per world, and each appliance's access to it.
 *
 * Fault model: the witness is down (`isUp`); an appliance cannot reach it, or does not hear its answers (`cut`); answers are late;
 * it forgets everything (`forget`, a restart without its state) only if a test asks for that.
 */
import type { Witness } from "../api/witness.ts";
import { eventKind } from "./event_heap.ts";
import type { Kernel } from "./kernel.ts";
import type { Lifetime } from "./lifetime.ts";
import type { Prng } from "./prng.ts";

export class MockWitness {
  isUp = true;
  latencyMs = 2;
  /** After this long without an answer the caller gets null. */
  timeoutMs = 1000;
  readonly #kernel: Kernel;
  readonly #prng: Prng;
  readonly #grants = new Map<string, { holder: string; untilMs: number }>();
  readonly #cut = new Map<string, "requests" | "answers">();

  constructor(kernel: Kernel) {
    this.#kernel = kernel;
    this.#prng = kernel.prng("witness");
  }

  /** Cuts an appliance off: its requests do not arrive, or only the answers get lost. */
  cut(appliance: string, what: "requests" | "answers" = "requests"): void {
    this.#cut.set(appliance, what);
  }

  join(appliance: string): void {
    this.#cut.delete(appliance);
  }

  forget(): void {
    this.#grants.clear();
  }

  /** Who holds the grant now. */
  holder(key: string): string | null {
    const grant = this.#grants.get(key);
    return grant !== undefined && grant.untilMs > this.#kernel.nowMs ? grant.holder : null;
  }

  /** For the appliance. */
  attach(lifetime: Lifetime): Witness {
    return {
      acquire: (key, holder, ttlMs, done) => {
        if (lifetime.effect()) this.#acquire(lifetime, { key, holder, ttlMs }, done);
      },
    };
  }

  #acquire(
    lifetime: Lifetime,
    request: { key: string; holder: string; ttlMs: number },
    done: (holder: string | null) => void,
  ): void {
    const kernel = this.#kernel;
    let answered = false;
    const answer = (holder: string | null): void => {
      if (answered) return;
      answered = true;
      done(holder);
    };
    kernel.schedule(this.timeoutMs, eventKind.witness, lifetime, () => answer(null));
    kernel.schedule(this.#delayMs(), eventKind.witness, null, () => {
      if (!this.isUp || this.#cut.get(lifetime.name) === "requests") return;
      const inForce = this.holder(request.key) ?? request.holder;
      if (inForce === request.holder) {
        // Counted from its arrival here, so it ends later than the holder believes, and never earlier.
        this.#grants.set(request.key, { holder: inForce, untilMs: kernel.nowMs + request.ttlMs });
      }
      if (this.#cut.get(lifetime.name) === "answers") return;
      kernel.schedule(this.#delayMs(), eventKind.witness, lifetime, () => answer(inForce));
    });
  }

  #delayMs(): number {
    return this.latencyMs * this.#prng.between(0.5, 1.5);
  }
}
