/** Slots of the shelves in which an appliance has no disk. Both of a pair name them alike. */
import type { Shelf } from "../../hal/api/shelf.ts";
import type { DiskReport } from "../store/store.ts";
import { pairLimits } from "./limits.ts";

/** Places like `shelf0/2`; of many the first ones. */
export function emptySlots(shelves: readonly Shelf[]): string[] {
  const places = shelves.flatMap(({ name, disks }) =>
    disks.flatMap((disk, slot) => (disk === null ? [`${name}/${slot}`] : [])),
  );
  return places.slice(0, pairLimits.emptySlotsMax);
}

const ofPool: readonly DiskReport["state"][] = ["in-use", "misplaced", "stale"];

/** Where the partner, with those empty slots, lacks a disk of the pool: it cannot open it without. `own`: of the pool as it is open here. */
export function missedDisks(own: readonly DiskReport[], theirs: readonly string[]): string[] {
  return own.filter(({ place, state }) => ofPool.includes(state) && theirs.includes(place)).map(({ place }) => place);
}
