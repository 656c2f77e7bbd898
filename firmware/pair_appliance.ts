/** One appliance of a pair: the partnership, and the array's firmware whenever it owns the array. */
import type { Hal } from "../hal/api/hal.ts";
import { type ApplianceConfig, startAppliance } from "./appliance.ts";
import type { PairConfig } from "./manage/board_profile.ts";
import type { EventSink } from "./manage/events.ts";
import { Partnership } from "./pair/partnership.ts";

export interface PairApplianceOptions {
  readonly hal: Hal;
  readonly config: ApplianceConfig;
  readonly pair: PairConfig;
  readonly events: EventSink;
  readonly version: string;
  readonly diskProblems?: readonly string[];
  /** The process is to end; the text says why, in one line. */
  end(text: string): void;
}

/** Not started yet. */
export function createPairAppliance(options: PairApplianceOptions): Partnership {
  const { config, events, version, diskProblems } = options;
  const { name, appliance } = config.array;
  return new Partnership({
    hal: options.hal,
    array: name,
    appliance,
    pair: options.pair,
    events,
    open: (hal, pair) =>
      startAppliance({ hal, config, events, version, pair, ...(diskProblems === undefined ? {} : { diskProblems }) }),
    end: options.end,
  });
}
