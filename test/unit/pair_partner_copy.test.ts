/** When the copy of the write cache at the partner is begun (`partner_copy.ts`). */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { CopyKeeper } from "../../firmware/pair/copy_keeper.ts";
import type { MirroredCache } from "../../firmware/pair/mirrored_cache.ts";
import { PartnerCopy } from "../../firmware/pair/partner_copy.ts";
import { fenceByPower, type PartnerFence } from "../../firmware/pair/partner_fence.ts";
import type { PowerPort } from "../../hal/api/power.ts";

const test = suite("pair_partner_copy");

const byPower = fenceByPower({ target: "oak-b" } as PowerPort);

class Bench {
  /** Copies that were begun. */
  begun = 0;
  /** Whether this appliance was fenced: asked, and not answered yet. */
  readonly asked: (() => void)[] = [];
  readonly copy: PartnerCopy;

  constructor(fence: PartnerFence = { ...byPower, stands: (done) => this.asked.push(done) }) {
    const attach = () => {
      this.begun++;
    };
    this.copy = new PartnerCopy({
      mirror: { state: "alone", attach, detach: () => {} } as unknown as MirroredCache,
      events: { emit: () => {} },
      partner: "oak-b",
      fence,
      send: () => {},
      met: () => true,
      role: () => "owner",
      partnerRole: () => "standby",
      nonce: () => null,
      changed: () => {},
    });
    this.copy.keptBy({ partnerIsFree: true, taken: () => {}, look: () => {} } as unknown as CopyKeeper);
  }
}

test("the partner is met -> its cache is written over when it is known that this appliance was not fenced, once for a session", () => {
  const bench = new Bench();
  bench.copy.met("");
  bench.copy.bring();
  bench.copy.bring();
  assert.is(bench.asked.length, 1);
  assert.is(bench.begun, 0, "an evicted owner has this for its last word");
  bench.asked[0]!();
  assert.is(bench.begun, 1);
  bench.copy.bring();
  assert.is(bench.asked.length, 1);
  assert.is(bench.begun, 2);
});

test("the answer comes in another session -> it says nothing of this one: the partner may have fenced this appliance in between", () => {
  const bench = new Bench();
  bench.copy.met("");
  bench.copy.bring();
  bench.copy.lost("oak-b is lost");
  bench.copy.met("");
  bench.copy.bring();
  bench.asked[0]!();
  assert.is(bench.begun, 0);
  bench.asked[1]!();
  assert.is(bench.begun, 1);
});

test("the partner is lost while it is asked -> whoever waits for the copy goes on without", async () => {
  const bench = new Bench();
  bench.copy.met("");
  const complete = bench.copy.complete();
  bench.copy.lost("oak-b is lost");
  await complete;
  assert.is(bench.begun, 0);
});

test("a fence that kills -> whoever runs was not fenced", () => {
  const bench = new Bench(byPower);
  bench.copy.met("");
  bench.copy.bring();
  assert.is(bench.begun, 1);
});

test.run();
