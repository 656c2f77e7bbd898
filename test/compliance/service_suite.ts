/** hal/api/service_address.ts. A bench is two appliances on one network, and two addresses that either may have. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { ServiceAddress } from "../../hal/api/service_address.ts";
import { type HalBench, outcomeOf } from "./bench.ts";

export interface ServiceBench extends Pick<HalBench, "until" | "close"> {
  /** The appliance's process starts; the one before, if there was one, has died as it was. One for each of `addresses`. */
  start(appliance: string): readonly ServiceAddress[];
  /** Who has the address, by its index; null: nobody. */
  holder(index: number): string | null;
}

const forLong = { forMs: 600_000, announce: true };
const forShort = { forMs: 1000, announce: true };

export function serviceSuite(name: string, newBench: () => Promise<ServiceBench>): void {
  const test = suite(`${name}: service addresses`);
  let bench: ServiceBench;
  test.before.each(async () => {
    bench = await newBench();
  });
  test.after.each(async () => {
    await bench.close();
  });
  const hold = async (address: ServiceAddress, wish = forLong) => {
    let isInCall = true;
    const error = await outcomeOf<string | null>(bench, "the outcome of a hold", (done) => {
      address.hold(wish, (outcome) => {
        assert.not(isInCall, "done came within the call");
        done(outcome);
      });
      isInCall = false;
    });
    assert.is(error, null);
  };

  test("held -> it is there; released, and once more -> it is not", async () => {
    const [address] = bench.start("oak-a");
    assert.is(bench.holder(0), null);
    await hold(address!);
    assert.equal([bench.holder(0), bench.holder(1)], ["oak-a", null]);
    address!.release();
    assert.is(bench.holder(0), null);
    address!.release();
    await hold(address!, { ...forLong, announce: false });
    assert.is(bench.holder(0), "oak-a");
  });

  test("held for a second -> it ends by itself; held again before -> it does not, and may be again after", async () => {
    const [left, kept] = bench.start("oak-a");
    await hold(left!, forShort);
    await hold(kept!, forShort);
    await hold(kept!);
    await bench.until("the end of a hold", () => bench.holder(0) === null);
    assert.is(bench.holder(1), "oak-a");
    await hold(left!);
    assert.is(bench.holder(0), "oak-a");
  });

  test("its process dies -> it stays for its time; that one starts again -> it is gone", async () => {
    const [address] = bench.start("oak-a");
    await hold(address!);
    assert.is(bench.holder(0), "oak-a");
    bench.start("oak-a");
    assert.is(bench.holder(0), null);
  });

  test("its process dies, and the partner holds it -> it stays the partner's when that one starts again", async () => {
    const [former] = bench.start("oak-a");
    await hold(former!);
    const [address] = bench.start("oak-b");
    assert.is(bench.holder(0), "oak-a");
    await hold(address!);
    assert.is(bench.holder(0), "oak-b");
    bench.start("oak-a");
    assert.is(bench.holder(0), "oak-b");
    await hold(address!);
    assert.is(bench.holder(0), "oak-b");
  });

  test.run();
}
