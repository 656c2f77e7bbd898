/** hal/api/heartbeats.ts: who hears whom, how silence and standstill are told. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { Hal } from "../../hal/api/hal.ts";
import type { HeartbeatChannel } from "../../hal/api/heartbeats.ts";
import type { Shaping } from "../../hal/api/nic.ts";
import { type HalBench, listenForEars, pattern } from "./bench.ts";

const cut: Shaping = { cut: true, latencyMs: 0, jitterMs: 0, rateBytesPerSecond: null, loss: 0 };
const intervalMs = 20;
/** Far more than a beat takes. */
const silenceMs = 10 * intervalMs;
const keyA = pattern(32, 1);
const keyB = pattern(32, 2);

export function heartbeatSuite(name: string, newBench: () => Promise<HalBench>): void {
  const test = suite(`${name}: heartbeats`);
  let bench: HalBench;
  let oak: Hal;
  let ash: Hal;

  test.before.each(async () => {
    bench = await newBench();
    oak = (await bench.open({ appliance: "oak-a", persistence: "battery" })).hal;
    ash = (await bench.open({ appliance: "ash-a", persistence: "battery" })).hal;
    // Addresses are known then.
    for (const hal of [oak, ash]) for (const nic of hal.nics) await listenForEars(bench, nic);
  });
  test.after.each(async () => {
    await bench.close();
  });

  const open = (from: Hal, to: Hal, sendKey: Uint8Array, hearKey: Uint8Array, nic = 0): HeartbeatChannel =>
    from.heartbeats!.open({
      nic: from.nics[nic]!.name,
      address: to.nics[nic]!.address,
      remote: to === oak ? "oak-a" : "ash-a",
      intervalMs,
      sendKey,
      hearKey,
    });
  /** How many of the other end's turns have been heard of: nothing else says that beats come. */
  const heardTurns = async (hal: Hal, channel: HeartbeatChannel, more: number): Promise<void> => {
    const target = channel.heard().turns + more;
    await bench.until(`${more} more turns`, () => {
      hal.heartbeats!.turned();
      return channel.heard().turns >= target;
    });
  };
  const silent = (channel: HeartbeatChannel) =>
    bench.until("silence", () => channel.heard().silentMs >= silenceMs && channel.heard().silentMs > 0);

  test("both ends open -> each hears the other's turns, and no silence", async () => {
    const [here, there] = [open(oak, ash, keyA, keyB), open(ash, oak, keyB, keyA)];
    await heardTurns(ash, here, 3);
    await heardTurns(oak, there, 3);
    assert.is(here.heard().trouble, null);
    here.close();
    there.close();
  });

  test("one end opens alone -> silence since the opening; the other end comes -> heard; it closes -> silence", async () => {
    const here = open(oak, ash, keyA, keyB);
    await silent(here);
    const there = open(ash, oak, keyB, keyA);
    await heardTurns(ash, here, 3);
    await bench.until("no silence", () => here.heard().silentMs < silenceMs);
    there.close();
    await silent(here);
    here.close();
  });

  test("the main loop does not turn -> the beats go on and say for how long; it turns -> they say so", async () => {
    const [here, there] = [open(oak, ash, keyA, keyB), open(ash, oak, keyB, keyA)];
    await heardTurns(ash, here, 1);
    await bench.until("it stands", () => here.heard().stillMs >= silenceMs && here.heard().silentMs < silenceMs);
    ash.heartbeats!.turned();
    await bench.until("it has turned", () => here.heard().stillMs < silenceMs);
    here.close();
    there.close();
  });

  test("beats of another key, and one's own -> not heard", async () => {
    const here = open(oak, ash, keyA, keyB);
    const wrong = open(ash, oak, pattern(32, 3), keyA);
    await silent(here);
    await heardTurns(oak, wrong, 1);
    const mirrored = open(ash, oak, keyA, keyB);
    await silent(mirrored);
    assert.is(here.heard().turns, 0);
    for (const channel of [here, wrong, mirrored]) channel.close();
  });

  test("two channels on one NIC, and one on the other -> each hears its own", async () => {
    const keys = [1, 2, 3].map((seed) => [pattern(32, 2 * seed), pattern(32, 2 * seed + 1)] as const);
    const nicOf = (index: number) => (index === 2 ? 1 : 0);
    const here = keys.map(([a, b], index) => open(oak, ash, a, b, nicOf(index)));
    const there = keys.map(([a, b], index) => open(ash, oak, b, a, nicOf(index)));
    for (const channel of here) await heardTurns(ash, channel, 2);
    there[1]!.close();
    await silent(here[1]!);
    for (const index of [0, 2]) await heardTurns(ash, here[index]!, 2);
    for (const channel of [...here, ...there]) channel.close();
  });

  test("a NIC is cut towards the other end -> that end hears nothing, its own beats arrive; joined -> heard again", async () => {
    const [here, there] = [open(oak, ash, keyA, keyB), open(ash, oak, keyB, keyA)];
    await heardTurns(oak, there, 1);
    oak.nics[0]!.shape("ash-a", cut);
    await silent(there);
    const { turns } = there.heard();
    await heardTurns(ash, here, 2);
    oak.heartbeats!.turned();
    await silent(there);
    assert.is(there.heard().turns, turns);
    oak.nics[0]!.shape("ash-a", null);
    await heardTurns(oak, there, 1);
    oak.nics[0]!.shape("elm-a", cut);
    await heardTurns(oak, there, 1);
    oak.nics[0]!.shape("elm-a", null);
    // In force from the first beat on.
    oak.nics[1]!.shape("ash-a", cut);
    const [late, deaf] = [open(oak, ash, keyA, keyB, 1), open(ash, oak, keyB, keyA, 1)];
    await heardTurns(ash, late, 2);
    await silent(deaf);
    assert.is(deaf.heard().turns, 0);
    oak.nics[1]!.shape("ash-a", null);
    for (const channel of [here, there, late, deaf]) channel.close();
  });

  test.run();
}
