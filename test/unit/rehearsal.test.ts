/** A start on paper: it comes to its end, and recovers what was written each time. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { rehearse } from "../../firmware/rehearsal.ts";
import { mockDigests } from "../../hal/mock/runtime.ts";
import { World } from "../../hal/mock/world.ts";

const test = suite("rehearsal");

test("a rehearsal -> seven starts, each in so many pieces that others have their turn", () => {
  const world = new World({ seed: 1 });
  const entropy = world.prng("rehearsal");
  let starts: number | null = null;
  const clock = world.hostClock;
  let turns = 0;
  const hal = {
    clock: {
      nowMs: () => clock.nowMs(),
      wallMs: () => clock.wallMs(),
      defer: (task: () => void) => clock.defer(task),
      after: (delayMs: number, fire: () => void) => {
        turns++;
        return clock.after(delayMs, fire);
      },
    },
    entropy: { fill: (target: Uint8Array) => entropy.fill(target) },
    digests: mockDigests,
  };
  rehearse(hal).then((count) => {
    starts = count;
  });
  world.runUntil(() => starts !== null, 60_000);
  assert.is(starts, 7);
  // A start alone asks the hardware some 20 times.
  assert.ok(turns > 7 * 100, `${turns} turns`);
});

test.run();
