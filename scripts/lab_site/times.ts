/** How long things take, and how often it is looked: an emulated processor is 15 to 30 times slower than a real one. */
import type { Lab } from "./site.ts";

export interface LabTimes {
  /** The whole of `up`, and of one `start` (as processes: exit 1 after 60 s). */
  readonly startLimitMs: number;
  /** An appliance that is starting takes orders after this at the latest. */
  readonly orderLimitMs: number;
  readonly askLimitMs: number;
  /** Between two questions to an appliance. */
  readonly pollMs: number;
}

const ofProcesses: LabTimes = { startLimitMs: 60_000, orderLimitMs: 10_000, askLimitMs: 2000, pollMs: 20 };
const ofMachines: LabTimes = { startLimitMs: 600_000, orderLimitMs: 300_000, askLimitMs: 20_000, pollMs: 500 };

export function timesOf({ site }: Lab): LabTimes {
  return site.machines === "vm" ? ofMachines : ofProcesses;
}
