/**
 * Slots of the shelves in which an appliance has no disk; both of a pair name the shelves alike. They are told as ranges, like `shelf0/2` or
 * `shelf0/5-255`, to the last slot that a shelf can have: there are no more of them than disks and shelves together.
 */
import type { Shelf } from "../../hal/api/shelf.ts";
import type { DiskReport } from "../store/store.ts";
import { pairLimits } from "./limits.ts";

export function emptySlots(shelves: readonly Shelf[]): string[] {
  const ranges: string[] = [];
  for (const { name, disks } of shelves) {
    const isEmpty = (slot: number) => slot < pairLimits.slotsMax && (disks[slot] ?? null) === null;
    for (let slot = 0; slot < pairLimits.slotsMax; slot++) {
      if (!isEmpty(slot)) continue;
      const first = slot;
      while (isEmpty(slot + 1)) slot++;
      ranges.push(first === slot ? `${name}/${slot}` : `${name}/${first}-${slot}`);
    }
  }
  return ranges.slice(0, pairLimits.emptySlotsMax);
}

/** What cannot be used from here: those, and the places of disks that take nothing. */
export function unreached(shelves: readonly Shelf[], failing: readonly string[]): string[] {
  return [...failing, ...emptySlots(shelves)].slice(0, pairLimits.emptySlotsMax);
}

const ofPool: readonly DiskReport["state"][] = ["in-use", "misplaced", "stale"];

/** Where the partner, which does not reach those, lacks a disk of the pool: it cannot open it without. `own`: of the pool as it is open here. */
export function missedDisks(own: readonly DiskReport[], theirs: readonly string[]): string[] {
  const isMissed = (place: string) => theirs.some((range) => isIn(place, range));
  return own.filter(({ place, state }) => ofPool.includes(state) && isMissed(place)).map(({ place }) => place);
}

function isIn(place: string, range: string): boolean {
  const [shelf, slot] = halvesOf(place);
  const [ofShelf, slots] = halvesOf(range);
  const [first, last = first] = slots.split("-").map((text) => Number.parseInt(text, 10));
  return shelf === ofShelf && Number(slot) >= first! && Number(slot) <= last!;
}

function halvesOf(place: string): [string, string] {
  const at = place.lastIndexOf("/");
  return [place.slice(0, at), place.slice(at + 1)];
}
