/** What makes a lost partner harmless, and proves it: only then is its half opened here (L1). */
import type { PowerPort } from "../../hal/api/power.ts";

export interface PartnerFence {
  readonly target: string;
  /**
   * Proof means that the partner is dead. Otherwise it means that the partner changes nothing on the shelf any more: what it knows it may
   * tell hosts until its lease is over (`read_lease.ts`).
   */
  readonly kills: boolean;
  /** For messages: what is done to a silent partner, what has been done then, how that has failed, and what is to be done about it. */
  readonly words: { readonly doing: string; readonly done: string; readonly failed: string; readonly help: string };
  /** Proven now, at once and without doing anything. */
  isHarmless(): boolean;
  /** Calls `done(null)` only with the proof, after the call has returned; otherwise with what stands in its way. */
  fence(done: (doubt: string | null) => void): void;
  /** The partner answers: what was proven of its last life is not about this one. */
  met(): void;
  /** Finds out whether it is this appliance that was fenced; if so it ends. */
  look(): void;
  /** Calls `done` when it is known that this appliance had not been fenced at the time of the call; never when it had. */
  stands(done: () => void): void;
}

export function fenceByPower(port: PowerPort): PartnerFence {
  const { target } = port;
  return {
    target,
    kills: true,
    words: {
      doing: "it is switched off",
      done: "was switched off",
      failed: "could not be proven dead",
      help: "switch it off by hand",
    },
    isHarmless: () => port.isDead(),
    fence: (done) => port.kill(done),
    met: () => {},
    look: () => {},
    // Whoever is fenced is dead.
    stands: (done) => done(),
  };
}
