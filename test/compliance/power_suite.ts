/** hal/api/power.ts. A bench's power bench is two appliances that can switch each other off. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { PowerPort } from "../../hal/api/power.ts";
import { type HalBench, outcomeOf } from "./bench.ts";

export interface PowerBench extends Pick<HalBench, "until" | "close"> {
  readonly port: PowerPort;
  /** False: the port has to ask, so `isDead` is never true. */
  readonly knowsAtOnce: boolean;
  /** Starts the target (anew); resolves when it runs. */
  startTarget(): Promise<void>;
  /** The target's process is stopped, as by a debugger or a long stall. */
  stallTarget(): void | Promise<void>;
  targetRuns(): boolean;
}

export function powerSuite(name: string, newBench: () => Promise<PowerBench>): void {
  const test = suite(`${name}: power`);
  let bench: PowerBench;
  test.before.each(async () => {
    bench = await newBench();
  });
  test.after.each(async () => {
    await bench.close();
  });
  const kill = () => outcomeOf<string | null>(bench, "the outcome of a kill", (done) => bench.port.kill(done));

  test("the target has never run -> it is dead, and a kill says so", async () => {
    assert.is(bench.port.isDead(), bench.knowsAtOnce);
    assert.is(await kill(), null);
  });

  test("the target runs -> it is not dead; killed, it is, and the proof came after its death", async () => {
    await bench.startTarget();
    assert.is(bench.targetRuns(), true);
    assert.is(bench.port.isDead(), false);
    let runsAtProof = true;
    const doubt = await outcomeOf<string | null>(bench, "the outcome of a kill", (done) =>
      bench.port.kill((outcome) => {
        runsAtProof = bench.targetRuns();
        done(outcome);
      }),
    );
    assert.is(doubt, null);
    assert.is(runsAtProof, false);
    assert.is(bench.port.isDead(), bench.knowsAtOnce);
  });

  test("the target is stalled -> not dead until it is killed", async () => {
    await bench.startTarget();
    await bench.stallTarget();
    assert.is(bench.port.isDead(), false);
    assert.is(await kill(), null);
    assert.is(bench.targetRuns(), false);
  });

  test("the target is started again after its death -> the new one is alive, and can be killed too", async () => {
    await bench.startTarget();
    assert.is(await kill(), null);
    await bench.startTarget();
    assert.is(bench.port.isDead(), false);
    assert.is(await kill(), null);
    assert.is(bench.targetRuns(), false);
  });

  test.run();
}
