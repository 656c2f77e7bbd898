/**
 * The role of this copy at run time. The durable word is in the document (`role`, `grant`); this says how far it is in force.
 *
 *   starting ─▶ unconfirmed ──confirmed, alone, no peers──▶ opening ──new timeline──▶ serving
 *      │             ▲ ▲                                       ▲  ▲                     │ │
 *      │             │ └──superseded by a newer timeline───────┼──┼─────────────────────┘ │
 *      │             │                                         │  └──declined, alone──┐   ▼ grant durable
 *      │             └─────────────────────────────────────────┼──────────────────── granting ──accepted──▶ following
 *      └─▶ following ──takeover, grant accepted──▶ promoting ──┘         unconfirmed ──resync from the new primary──▶ following
 *
 *   any ──▶ failed (the shelf), stopped
 *
 * Invariant: hosts write only in `serving`.
 */
import { assert } from "../codec/assert.ts";

export type RoleState =
  | "starting"
  | "unconfirmed"
  | "opening"
  | "serving"
  | "granting"
  | "following"
  | "promoting"
  | "failed"
  | "stopped";

const transitions: Readonly<Record<RoleState, readonly RoleState[]>> = {
  starting: ["unconfirmed", "opening", "granting", "following", "promoting"],
  unconfirmed: ["opening", "following"],
  opening: ["serving"],
  serving: ["unconfirmed", "granting", "following"],
  granting: ["opening", "following", "unconfirmed"],
  following: ["promoting"],
  promoting: ["opening", "following"],
  failed: [],
  stopped: [],
};

export class RoleMachine {
  #state: RoleState = "starting";
  readonly #changed: () => void;

  constructor(changed: () => void) {
    this.#changed = changed;
  }

  get state(): RoleState {
    return this.#state;
  }

  is(...states: readonly RoleState[]): boolean {
    return states.includes(this.#state);
  }

  /** Failed and stopped are final: later steps of operations under way change nothing. */
  to(next: RoleState): boolean {
    if (this.is("failed", "stopped")) return false;
    const allowed = next === "failed" || next === "stopped" || transitions[this.#state].includes(next);
    assert(allowed, `the role goes from ${this.#state} to ${next}`);
    this.#state = next;
    this.#changed();
    return true;
  }
}
