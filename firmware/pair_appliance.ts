/** One appliance of a pair: the partnership, its front ends, and the array's firmware whenever it owns the array. */
import type { Hal } from "../hal/api/hal.ts";
import { type ApplianceConfig, startAppliance } from "./appliance.ts";
import type { PairConfig } from "./manage/board_profile.ts";
import type { EventSink } from "./manage/events.ts";
import { iscsiTargetName } from "./manage/iscsi_name.ts";
import { HostFront } from "./pair/host_front.ts";
import { Partnership } from "./pair/partnership.ts";
import { portPlaceOf } from "./pair/port_groups.ts";

export interface PairApplianceOptions {
  readonly hal: Hal;
  readonly config: ApplianceConfig;
  readonly pair: PairConfig;
  readonly events: EventSink;
  readonly version: string;
  readonly diskProblems?: readonly string[];
  /** Starts the array's firmware; `startAppliance` unless given (a simulation looks on). */
  readonly start?: typeof startAppliance;
  /** The process is to end; the text says why, in one line. */
  end(text: string): void;
}

/** Not started yet. */
export function createPairAppliance(options: PairApplianceOptions): Partnership {
  const { hal, pair, events, version, diskProblems, start = startAppliance } = options;
  let { config } = options;
  const { name, appliance } = config.array;
  const front = new HostFront({
    hal,
    events,
    nbdTls: config.tls?.nbd ?? "off",
    targetName: config.iscsi?.targetName ?? iscsiTargetName(name),
    own: config.iscsi?.own ?? null,
    place: portPlaceOf(appliance, pair.partner),
    partnerPortals: () => partnership.partnerPortals(),
    isWorthWaiting: () => partnership.isWorthWaiting,
  });
  const partnership: Partnership = new Partnership({
    hal,
    array: name,
    appliance,
    pair,
    events,
    front,
    open: async (lent, port) => {
      const given = diskProblems === undefined ? {} : { diskProblems };
      const outcome = await start({ hal: lent, config, events, version, pair: port, ...given });
      // The operator's words are for one start, and a process of a pair may start the array many times.
      if (outcome.ok) config = { ...config, acceptCacheLoss: false, acceptStaleDisk: false };
      return outcome;
    },
    end: options.end,
  });
  return partnership;
}
