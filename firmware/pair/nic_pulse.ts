/**
 * What one interconnect NIC tells of the partner. Two things come over it: heartbeats, from a sender beside the partner's main loop (they say
 * for how long that has not turned), and the connection's bytes, from the loop itself.
 *
 *   heartbeats         its loop                connection            judged
 *   come               turns                   bytes come            well
 *   come               stands, < hungMs        nothing comes         well: it is late (garbage collection, a long batch)
 *   come               stands, >= hungMs       (any)                 hung: the partner is lost
 *   come               turns                   nothing for limitMs   silent: the connection is stuck, another NIC may do
 *   none for limitMs   (not known)             bytes come            well, and a warning: its heartbeats do not get through
 *   none for limitMs   (not known)             nothing for limitMs   silent; on every NIC: the partner is lost
 *
 * Invariant: silence counts only as far as this side could hear. Its own pause counts as two heartbeats: by the next look, what had arrived
 * meanwhile has been read.
 */
import type { Heard } from "../../hal/api/heartbeats.ts";
import type { PairTimes } from "./limits.ts";

export type PulseVerdict =
  | { readonly kind: "well" }
  | { readonly kind: "silent"; readonly text: string }
  | { readonly kind: "hung"; readonly text: string };

const well: PulseVerdict = { kind: "well" };

export class NicPulse {
  readonly #times: PairTimes;
  #lookedMs: number;
  #lastByteMs = 0;
  #quietMs = 0;
  /** The same, as far as the partner's loop turned meanwhile. */
  #stuckMs = 0;

  constructor(times: PairTimes, nowMs: number) {
    this.#times = times;
    this.#lookedMs = nowMs;
  }

  /** Nothing has come over the connection for so long, as far as was looked. */
  get quietMs(): number {
    return this.#quietMs;
  }

  /**
   * Called at every heartbeat of this side. `lastByteMs`: when the connection's last byte came, on the clock of `nowMs`; null: there is no
   * connection now.
   */
  look(nowMs: number, lastByteMs: number | null, heard: Heard): PulseVerdict {
    const { heartbeatMs, limitMs, hungMs } = this.#times;
    const sinceMs = Math.min(nowMs - this.#lookedMs, 2 * heartbeatMs);
    this.#lookedMs = nowMs;
    const turns = heard.silentMs < 2 * heartbeatMs && heard.stillMs < 2 * heartbeatMs;
    if (lastByteMs === null || lastByteMs !== this.#lastByteMs) {
      this.#lastByteMs = lastByteMs ?? 0;
      this.#quietMs = 0;
      this.#stuckMs = 0;
    } else {
      this.#quietMs += sinceMs;
      if (turns) this.#stuckMs += sinceMs;
    }
    if (heard.silentMs < limitMs && heard.stillMs >= hungMs)
      return { kind: "hung", text: `its main loop has not turned for ${Math.round(heard.stillMs)} ms` };
    const silentMs = Math.max(Math.min(this.#quietMs, heard.silentMs), this.#stuckMs);
    if (silentMs < limitMs) return well;
    return { kind: "silent", text: `nothing was heard for ${Math.round(silentMs)} ms` };
  }
}
