/**
 * Whether the version that runs works: hosts are served, every group's role has settled, and the pair is mirrored. Until then the boot
 * loader takes the next start for a failed one.
 */
import type { MachineFacts } from "../../hal/api/appliance_image.ts";
import type { StatusJson } from "../manage/status_json.ts";
import { updateLimits } from "./limits.ts";

export type Verdict =
  | { readonly kind: "good" }
  | { readonly kind: "waiting"; readonly why: string }
  /** It is not going to work: what ran before is started again. */
  | { readonly kind: "failed"; readonly why: string };

/** What one look found. */
export interface TrialLook {
  readonly machine: MachineFacts;
  /** null: the firmware does not answer. */
  readonly status: StatusJson | null;
}

export class Trial {
  readonly #canFallBack: boolean;
  #healthyLooks = 0;
  #degradedLooks = 0;

  /** `canFallBack`: the other slot is known to work. Without it there is nothing that waiting could cost. */
  constructor(canFallBack: boolean) {
    this.#canFallBack = canFallBack;
  }

  look({ machine, status }: TrialLook): Verdict {
    this.#degradedLooks = machine.degraded === null ? 0 : this.#degradedLooks + 1;
    if (this.#degradedLooks >= updateLimits.degradedLooks) return this.#failed(machine.degraded!, machine.degraded!);
    const why = trouble(machine, status);
    if (why === null) {
      this.#healthyLooks++;
      if (this.#healthyLooks >= updateLimits.steadyLooks) return { kind: "good" };
      return { kind: "waiting", why: `healthy, looked at ${this.#healthyLooks} of ${updateLimits.steadyLooks} times` };
    }
    this.#healthyLooks = 0;
    if (machine.upMs < updateLimits.trialLimitMs) return { kind: "waiting", why };
    return this.#failed(`not good ${Math.round(machine.upMs / 60_000)} minutes after its start: ${why}`, why);
  }

  #failed(why: string, waiting: string): Verdict {
    this.#healthyLooks = 0;
    return this.#canFallBack ? { kind: "failed", why } : { kind: "waiting", why: waiting };
  }
}

/** What keeps it from being called healthy, a sentence; null: nothing. Of other arrays nothing is asked. */
export function trouble(machine: MachineFacts, status: StatusJson | null): string | null {
  if (machine.degraded !== null) return machine.degraded;
  if (!machine.serving) return "the firmware does not serve hosts yet";
  if (status === null) return "the firmware does not answer";
  const own = status.appliances.find(({ name }) => name === status.appliance);
  if (own?.state !== "up") return `appliance ${status.appliance} is ${own?.state ?? "not known to itself"}`;
  for (const { name, role, settled, writable, why } of status.groups) {
    if (!settled) return `group ${name} has not found its role yet`;
    if (role === "primary" && !writable) return `group ${name} is not writable: ${why ?? "no reason is known"}`;
  }
  if (status.pair !== null && status.pair.state !== "mirrored")
    return `the pair is ${status.pair.state}: ${status.pair.partner} has no whole copy of the write cache`;
  const refusedPart = status.warnings.find(({ code }) => code === "half-refused" || code === "group-damaged");
  return refusedPart?.text ?? null;
}
