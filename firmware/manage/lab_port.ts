/**
 * The lab's way to the hardware: shapings of the virtual NICs, and faults that the HAL can pretend. Only an entry point that
 * knows its HAL can give the faults.
 */
import type { Nic, Shaping } from "../../hal/api/nic.ts";
import type { BatteryState } from "../../hal/api/write_cache.ts";
import { done, type LabPort, type LinkJson, type LinkShape, refused } from "./control.ts";
import type { EventSink } from "./events.ts";

/** What a HAL for the lab can be told. */
export interface PretendedFaults {
  setBattery(state: BatteryState): void;
  /** False: there is no such disk. */
  setDiskFault(place: string, on: boolean): boolean;
  setShelfFault(shelf: string, on: boolean): boolean;
  /** Blocks the main loop for so long, soon. */
  stallLoop(forMs: number): void;
}

export interface LabParts {
  readonly nics: readonly Nic[];
  readonly shelves: readonly {
    readonly name: string;
    readonly disks: readonly ({ readonly place: string } | null)[];
  }[];
  readonly faults: PretendedFaults;
  readonly events: EventSink;
}

export function createLabPort({ nics, shelves, faults, events }: LabParts): LabPort {
  const links = (): LinkJson[] =>
    nics.flatMap((nic) => [...nic.shapings()].map(([remote, shaping]) => ({ nic: nic.name, remote, ...shaping })));
  return {
    links,
    shape: ({ nic: name, remote, ...shaping }: LinkShape) => {
      const chosen = nics.filter((nic) => name === null || nic.name === name);
      if (chosen.length === 0) return refused("not-found", `there is no NIC ${name}`);
      for (const nic of chosen) nic.shape(remote, isPlain(shaping) ? null : shaping);
      const what = shaping.cut ? "cut" : isPlain(shaping) ? "plain" : "shaped";
      events.emit("link-shaped", `what is sent to ${remote} is ${what} now`, { remote, nic: name, ...shaping });
      return done(links());
    },
    fault: ({ kind, place, on }) => {
      const first = kind === "shelf" ? shelves[0]?.name : shelves[0]?.disks.find((disk) => disk !== null)?.place;
      const target = place ?? first ?? "";
      const known =
        kind === "battery" || (kind === "shelf" ? faults.setShelfFault(target, on) : faults.setDiskFault(target, on));
      if (!known) return refused("not-found", `there is no ${kind} ${target}`);
      if (kind === "battery") faults.setBattery(on ? "failed" : "good");
      const what = kind === "battery" ? "the battery" : `${kind} ${target}`;
      events.emit("fault-pretended", `${what} ${on ? "fails" : "is good again"}, as the lab was told`, { kind, on });
      return done({ kind, on });
    },
    stall: ({ forMs }) => {
      events.emit("loop-stalled", `the main loop stands still for ${forMs} ms, as the lab was told`, { forMs });
      faults.stallLoop(forMs);
      return done({ forMs });
    },
  };
}

function isPlain(shaping: Shaping): boolean {
  const { cut, latencyMs, jitterMs, rateBytesPerSecond, loss } = shaping;
  return !cut && latencyMs === 0 && jitterMs === 0 && rateBytesPerSecond === null && loss === 0;
}
