/** The simulated world's event loop: order, deferral, promises, time, death. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { VirtualClock, WallClock } from "../../hal/mock/clock.ts";
import { eventKind } from "../../hal/mock/event_heap.ts";
import { Kernel } from "../../hal/mock/kernel.ts";
import { Prng } from "../../hal/mock/prng.ts";

const test = suite("mock_kernel");

test("events at different and equal times -> earliest first, then in the order of scheduling", () => {
  const kernel = new Kernel(1);
  const prng = kernel.prng("test");
  const planned = Array.from({ length: 500 }, (_, index) => ({ atMs: prng.below(20), index }));
  const fired: { atMs: number; index: number }[] = [];
  for (const plan of planned) kernel.schedule(plan.atMs, eventKind.host, null, () => fired.push(plan));
  kernel.run(100);
  assert.equal(
    fired,
    planned.toSorted((a, b) => a.atMs - b.atMs || a.index - b.index),
  );
  assert.is(kernel.nowMs, 100);
});

test("many cancelled events -> the rest fire in order, the cancelled never", () => {
  const kernel = new Kernel(2);
  const prng = kernel.prng("test");
  const fired: number[] = [];
  const events = Array.from({ length: 20_000 }, () => {
    const atMs = prng.unit() * 1000;
    return kernel.schedule(atMs, eventKind.host, null, () => fired.push(atMs));
  });
  for (const [index, event] of events.entries()) if (index % 10 !== 0) event.cancel();
  kernel.run(1000);
  assert.is(fired.length, 2000);
  assert.equal(
    fired,
    fired.toSorted((a, b) => a - b),
  );
});

test("deferred tasks and promises -> all complete before the next event, tasks in order", () => {
  const kernel = new Kernel(3);
  const seen: string[] = [];
  kernel.schedule(1, eventKind.host, null, () => {
    kernel.defer(null, () => {
      seen.push("task 1");
      kernel.defer(null, () => seen.push("task 3"));
    });
    kernel.defer(null, () => seen.push("task 2"));
    void (async () => {
      for (let turn = 0; turn < 4; turn++) await null;
      seen.push("promise");
      kernel.defer(null, () => seen.push("task of the promise"));
    })();
    seen.push("event");
  });
  kernel.schedule(1, eventKind.host, null, () => seen.push("next event"));
  kernel.run(1);
  assert.is(seen[0], "event");
  assert.is(seen.at(-1), "next event");
  assert.is(seen.length, 7);
  assert.equal(
    seen.filter((line) => /^task \d/.test(line)),
    ["task 1", "task 2", "task 3"],
  );
});

test("a dead lifetime -> its events and tasks are skipped; a paused one's are held in order", () => {
  const kernel = new Kernel(4);
  const dead = kernel.lifetime("oak-a");
  const paused = kernel.lifetime("elm-a");
  const seen: string[] = [];
  kernel.schedule(1, eventKind.timer, dead, () => seen.push("dead"));
  kernel.schedule(1, eventKind.timer, paused, () => seen.push("first"));
  kernel.schedule(2, eventKind.timer, paused, () => seen.push("second"));
  dead.alive = false;
  paused.paused = true;
  kernel.run(10);
  assert.equal(seen, []);
  paused.paused = false;
  kernel.releaseHeld(paused);
  kernel.run(20);
  assert.equal(seen, ["first", "second"]);
});

test("a firmware error -> ends the run, or goes to onPanic", () => {
  const kernel = new Kernel(5);
  const lifetime = kernel.lifetime("oak-a");
  const fail = () => {
    throw new Error("broken invariant");
  };
  kernel.schedule(1, eventKind.timer, lifetime, fail);
  assert.throws(() => kernel.run(1), /broken invariant/);
  const panics: unknown[] = [];
  lifetime.onPanic = (error) => panics.push(error);
  kernel.schedule(1, eventKind.timer, lifetime, fail);
  kernel.run(3);
  assert.is(panics.length, 1);
});

test("a clock that runs too slow -> no timer fires early by that clock", () => {
  const kernel = new Kernel(6);
  const prng = kernel.prng("timers");
  const clock = new VirtualClock(kernel, null, new WallClock(kernel), prng, {
    startMs: 123456.789,
    rate: 0.9997,
    latenessMsMax: 0.3,
  });
  let early = 0;
  let fired = 0;
  const again = () => {
    const delayMs = prng.unit() * 50;
    const dueMs = clock.nowMs() + delayMs;
    clock.after(delayMs, () => {
      if (clock.nowMs() < dueMs) early++;
      if (++fired < 1000) again();
    });
  };
  again();
  kernel.runUntil(() => fired === 1000, 1e6);
  assert.is(fired, 1000);
  assert.is(early, 0);
});

test("runUntil -> stops at the condition, or at the limit", () => {
  const kernel = new Kernel(7);
  let count = 0;
  const tick = () => {
    count++;
    kernel.schedule(1, eventKind.host, null, tick);
  };
  tick();
  assert.is(
    kernel.runUntil(() => count === 5, 100),
    true,
  );
  assert.is(kernel.nowMs, 4);
  assert.is(
    kernel.runUntil(() => count === 1000, 10),
    false,
  );
});

test("random streams -> the same for the same seed and purpose, different otherwise, evenly spread", () => {
  const draw = (seed: number, purpose: string) => {
    const prng = new Prng(seed, purpose);
    return Array.from({ length: 8 }, () => prng.next32());
  };
  assert.equal(draw(1, "a"), draw(1, "a"));
  assert.is.not(String(draw(1, "a")), String(draw(1, "b")));
  assert.is.not(String(draw(1, "a")), String(draw(2, "a")));
  const prng = new Prng(9, "spread");
  const counts = new Array<number>(16).fill(0);
  for (let index = 0; index < 16_000; index++) counts[prng.below(16)]!++;
  for (const count of counts) assert.ok(count > 850 && count < 1150, `a count of ${count}, 1000 expected`);
});

test("fingerprints -> equal for equal runs, different when one event moves", () => {
  const run = (seed: number, shiftMs: number) => {
    const kernel = new Kernel(seed);
    const prng = kernel.prng("test");
    for (let index = 0; index < 100; index++) kernel.schedule(prng.unit() * 10, eventKind.host, null, () => {});
    kernel.schedule(5 + shiftMs, eventKind.host, null, () => {});
    kernel.run(20);
    return kernel.fingerprint();
  };
  assert.is(run(1, 0), run(1, 0));
  assert.is.not(run(1, 0), run(2, 0));
  assert.is.not(run(1, 0), run(1, 1e-9));
});

test.run();
