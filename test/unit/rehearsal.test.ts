/** A start on paper: it comes to its end, and recovers what was written each time. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { rehearse } from "../../firmware/rehearsal.ts";
import { mockDigests } from "../../hal/mock/runtime.ts";
import { World } from "../../hal/mock/world.ts";

const test = suite("rehearsal");

test("a rehearsal -> one start that writes, and six that recover", () => {
  const world = new World({ seed: 1 });
  const entropy = world.prng("rehearsal");
  let starts: number | null = null;
  const hal = {
    clock: world.hostClock,
    entropy: { fill: (target: Uint8Array) => entropy.fill(target) },
    digests: mockDigests,
  };
  rehearse(hal).then((count) => {
    starts = count;
  });
  world.runUntil(() => starts !== null, 60_000);
  assert.is(starts, 7);
});

test.run();
