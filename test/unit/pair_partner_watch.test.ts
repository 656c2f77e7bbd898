/** What is heard of a partner behind the proof of its death (`partner_watch.ts`). */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { PartnerFence } from "../../firmware/pair/partner_fence.ts";
import { PartnerWatch } from "../../firmware/pair/partner_watch.ts";
import type { LastWord, ShelfHeart } from "../../firmware/pair/shelf_heart.ts";
import { ManualClock } from "./support/manual_clock.ts";

const test = suite("pair_partner_watch");
const limitMs = 1000;

class Bench {
  readonly clock = new ManualClock();
  isWatching = true;
  isDead = false;
  readonly gone: LastWord[] = [];
  /** Looks at the partner's pages that no disk has answered. */
  readonly looks: ((last: LastWord) => void)[] = [];
  readonly fencings: ((doubt: string | null) => void)[] = [];
  readonly watch: PartnerWatch;

  constructor() {
    const words = { doing: "", done: "was switched off", failed: "", help: "" };
    const fence = {
      ...{ target: "oak-b", kills: true, words, met: () => {} },
      isHarmless: () => this.isDead,
      fence: (done: (doubt: string | null) => void) => this.fencings.push(done),
    };
    const lookAnew = (done: (last: LastWord) => void) => this.looks.push(done);
    this.watch = new PartnerWatch({
      clock: this.clock,
      fence: fence as unknown as PartnerFence,
      heart: { silentMs: 60_000, movedMs: null, lookAnew } as unknown as ShelfHeart,
      events: { emit: () => {} },
      times: { heartbeatMs: 100, limitMs, hungMs: 2 * limitMs },
      fencesFirst: true,
      isWatching: () => this.isWatching,
      gone: (_how, last) => this.gone.push(last),
    });
    this.watch.met();
  }
}

test("the disks answer -> gone, with what they say; they do not within the limit -> gone, and nothing is known", () => {
  for (const last of [{ owns: true, serving: ["demo"] }, "unknown"] as const) {
    const bench = new Bench();
    bench.isDead = true;
    bench.watch.lost();
    assert.equal(bench.gone, []);
    if (last === "unknown") bench.clock.pass(limitMs);
    else bench.looks[0]!(last);
    assert.equal(bench.gone, [last]);
  }
});

test("a disk answers when the partner has come back and is lost again -> that says nothing of its new life", () => {
  const bench = new Bench();
  bench.isDead = true;
  bench.watch.lost();
  // It comes back before a disk has answered.
  bench.isWatching = false;
  bench.isDead = false;
  bench.clock.pass(limitMs);
  bench.isWatching = true;
  bench.watch.lost();
  assert.is(bench.fencings.length, 1, "it is silent, and not proven dead");
  bench.looks[0]!({ owns: true, serving: ["demo"] });
  assert.equal(bench.gone, []);
  bench.fencings[0]!(null);
  bench.looks[1]!({ owns: true, serving: [] });
  assert.equal(bench.gone, [{ owns: true, serving: [] }]);
});

test.run();
