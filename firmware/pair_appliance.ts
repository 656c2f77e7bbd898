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
  const { events, version, diskProblems } = options;
  let { config } = options;
  const { name, appliance } = config.array;
  return new Partnership({
    hal: options.hal,
    array: name,
    appliance,
    pair: options.pair,
    events,
    open: async (hal, pair) => {
      const given = diskProblems === undefined ? {} : { diskProblems };
      const outcome = await startAppliance({ hal, config, events, version, pair, ...given });
      // The operator's words are for one start, and a process of a pair may start the array many times.
      if (outcome.ok) config = { ...config, acceptCacheLoss: false, acceptStaleDisk: false };
      return outcome;
    },
    end: options.end,
  });
}
