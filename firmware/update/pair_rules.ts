/** On a pair one appliance is updated at a time, and only while the other one could take everything. */
import type { MachineFacts } from "../../hal/api/appliance_image.ts";
import type { PairStatusJson, TrialJson } from "../manage/status_json.ts";
import { refused, type UpdateRefusal } from "./refusal.ts";

type Answer<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly code: string; readonly text: string };

export interface PairAnswers {
  readonly pair: Answer<PairStatusJson>;
  /** Of the partner. */
  readonly trial: Answer<TrialJson>;
}

/** Nothing serves here, and there is nobody to hand over to: an array of one, or a firmware that cannot be started. */
export function isAlone(pair: Answer<PairStatusJson>, machine: MachineFacts): boolean {
  if (pair.ok) return false;
  return pair.code === "not-found" || (pair.code === "unreachable" && machine.degraded !== null);
}

export function pairTrouble({ pair, trial }: PairAnswers, machine: MachineFacts): UpdateRefusal | null {
  if (isAlone(pair, machine)) return null;
  if (!pair.ok) return refused("unreachable", `it is not known whether a partner could take over: ${pair.text}`);
  const { state, partner } = pair.value;
  if (state !== "mirrored")
    return refused(
      "pair-not-mirrored",
      `the pair is ${state}, so ${partner} could not take over everything: wait until goldcopy pair status says mirrored`,
    );
  // A partner that does not know the question is older than updates, and cannot be on trial.
  const isOld = !trial.ok && trial.code === "not-found";
  if (!trial.ok && !isOld)
    return refused("unreachable", `it is not known whether ${partner} is on trial itself: ${trial.text}`);
  if (trial.ok && trial.value.trial !== null)
    return refused(
      "partner-on-trial",
      `${partner} runs a version that is not known to work yet (${trial.value.trial}): one appliance of a pair at a time; wait until it is good`,
    );
  return null;
}
