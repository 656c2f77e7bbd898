/** Who opens the pool when the partners meet and neither owns it: one rule, the same on both sides. */
import type { PairState } from "./frame.ts";

export interface Candidate {
  readonly appliance: string;
  readonly state: Pick<PairState, "role" | "preferred">;
}

/**
 * `own`: this one opens the pool. `partner`: the other one does. `nobody`: both have refused. `wait`: the partner is in the midst of
 * something that will be told.
 */
export function elect(own: Candidate, theirs: Candidate): "own" | "partner" | "nobody" | "wait" {
  const mayLead = (role: PairState["role"]) => role === "free";
  if (theirs.state.role === "starting" || theirs.state.role === "owner") return "partner";
  // It follows this appliance already.
  if (theirs.state.role === "standby") return own.state.role === "refused" ? "nobody" : "own";
  if (theirs.state.role === "stopping") return "wait";
  if (!mayLead(own.state.role)) return mayLead(theirs.state.role) ? "partner" : "nobody";
  if (!mayLead(theirs.state.role)) return "own";
  if (own.state.preferred !== theirs.state.preferred) return own.state.preferred ? "own" : "partner";
  return own.appliance < theirs.appliance ? "own" : "partner";
}
