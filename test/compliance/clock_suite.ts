/** hal/api/clock.ts, entropy.ts, digests.ts. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type HalBench, pattern } from "./bench.ts";

export function clockSuite(name: string, newBench: () => Promise<HalBench>): void {
  const test = suite(`${name}: clock`);
  let bench: HalBench;
  test.before.each(async () => {
    bench = await newBench();
  });
  test.after.each(async () => {
    await bench.close();
  });
  const openHal = async () => (await bench.open({ appliance: "oak-a", persistence: "battery" })).hal;

  test("timers of several delays -> each fires once, never early, in the order of their times", async () => {
    const { clock } = await openHal();
    const fired: number[] = [];
    const startMs = clock.nowMs();
    for (const delayMs of [20, 0, 7.5, 60]) {
      clock.after(delayMs, () => {
        assert.ok(clock.nowMs() >= startMs + delayMs, `${delayMs} ms fired after ${clock.nowMs() - startMs}`);
        fired.push(delayMs);
      });
    }
    assert.equal(fired, []);
    await bench.until("the last timer", () => fired.includes(60));
    assert.equal(fired, [0, 7.5, 20, 60]);
  });

  test("a timer is cancelled, also a second time and after it fired -> it does not fire, nothing else happens", async () => {
    const { clock } = await openHal();
    const fired: string[] = [];
    const cancelled = clock.after(5, () => fired.push("cancelled"));
    const early = clock.after(1, () => fired.push("early"));
    clock.after(30, () => fired.push("late"));
    cancelled.cancel();
    cancelled.cancel();
    await bench.until("the late timer", () => fired.includes("late"));
    early.cancel();
    assert.equal(fired, ["early", "late"]);
  });

  test("tasks are deferred in an event, one of them by a task -> they run after it, in order, before the next event", async () => {
    const { clock } = await openHal();
    const log: string[] = [];
    clock.after(1, () => {
      clock.after(0, () => log.push("next event"));
      clock.defer(() => {
        log.push("first");
        clock.defer(() => log.push("of first"));
      });
      clock.defer(() => log.push("second"));
      log.push("event");
    });
    await bench.until("the next event", () => log.includes("next event"));
    assert.equal(log, ["event", "first", "second", "of first", "next event"]);
  });

  test("the time is read again and again -> it never goes back, and goes on", async () => {
    const { clock } = await openHal();
    const firstMs = clock.nowMs();
    let lastMs = firstMs;
    for (let round = 0; round < 20; round++) {
      let fired = false;
      clock.after(1, () => {
        fired = true;
      });
      await bench.until("a timer", () => fired);
      assert.ok(clock.nowMs() >= lastMs);
      lastMs = clock.nowMs();
    }
    assert.ok(lastMs >= firstMs + 20);
    assert.ok(Number.isFinite(clock.wallMs()));
  });

  test("random bytes of any length are drawn -> the whole target is filled, differently each time", async () => {
    const { entropy } = await openHal();
    const first = entropy.fill(new Uint8Array(200_000));
    const second = entropy.fill(new Uint8Array(200_000));
    assert.not.equal(first.subarray(0, 32), second.subarray(0, 32));
    assert.ok(first.subarray(199_000).some((byte) => byte !== 0));
    assert.is(entropy.fill(new Uint8Array(0)).byteLength, 0);
  });

  test("digests of known texts -> the published values, also of a part of a larger buffer", async () => {
    const { digests } = await openHal();
    const text = new TextEncoder().encode("..123456789..").subarray(2, 11);
    assert.is(digests.crc32(text), 0xcbf43926);
    assert.is(digests.crc32(new Uint8Array(0)), 0);
    const abc = digests.sha256(new TextEncoder().encode("abc"));
    assert.is(Buffer.from(abc).toString("hex"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert.is(digests.sha256(pattern(4096, 1)).byteLength, 32);
  });

  test.run();
}
