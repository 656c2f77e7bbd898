/** What one appliance of a pair tells of the slots that it finds empty (`empty_slots.ts`), and what the other one makes of it. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { emptySlots, missedDisks } from "../../firmware/pair/empty_slots.ts";
import type { DiskReport } from "../../firmware/store/store.ts";
import type { Shelf } from "../../hal/api/shelf.ts";

const test = suite("pair_empty_slots");

/** Shelves with disks in those slots alone. */
function shelves(slots: Readonly<Record<string, readonly number[]>>): Shelf[] {
  return Object.entries(slots).map(([name, taken]) => {
    const disks = Array.from({ length: Math.max(-1, ...taken) + 1 }, (_, slot) => (taken.includes(slot) ? {} : null));
    return { name, disks } as unknown as Shelf;
  });
}

function pool(...places: string[]): DiskReport[] {
  return places.map((place) => ({ place, state: "in-use" }) as DiskReport);
}

test("slots that are empty -> ranges, to the last that a shelf can have", () => {
  assert.equal(emptySlots(shelves({ s0: [0, 1, 3, 7], "s-1": [] })), ["s0/2", "s0/4-6", "s0/8-255", "s-1/0-255"]);
  const all = Array.from({ length: 256 }, (_, slot) => slot);
  assert.equal(emptySlots(shelves({ s0: all, s1: all.slice(0, 255) })), ["s1/255"]);
});

test("disks far behind many gaps, and at the end of a shelf -> each that the partner lacks is found, and no other", () => {
  const everySecond = Array.from({ length: 120 }, (_, index) => 2 * index);
  const theirs = emptySlots(shelves({ s0: everySecond, s1: [200], s2: [0, 1] }));
  const missed = ["s0/1", "s0/239", "s1/0", "s1/199", "s1/201", "s2/2", "s2/255"];
  const found = ["s0/0", "s0/2", "s0/238", "s1/200", "s2/0", "s2/1", "s3/0"];
  assert.equal(missedDisks(pool(...missed, ...found), theirs), missed);
  const blank = { place: "s2/2", state: "blank" } as DiskReport;
  assert.equal(missedDisks([blank], theirs), [], "not of the pool");
  assert.equal(missedDisks(pool("s0/0"), []), [], "it has said nothing");
  assert.equal(
    missedDisks(pool("s0/0"), ["", "/", "s0/", "s0/-", "s0/x", "s0/1-x", "s0/5-2"]),
    [],
    "it makes no sense",
  );
});

test.run();
