/** What the shelf has to know before the partner's cache is written over (`copy_keeper.ts`), and what is said where it does not take it. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { CopyKeeper } from "../../firmware/pair/copy_keeper.ts";
import type { MirroredCache } from "../../firmware/pair/mirrored_cache.ts";
import { type PairFacts, pairWarnings } from "../../firmware/pair/pair_report.ts";
import type { StoreError } from "../../firmware/store/store.ts";
import { ManualClock } from "./support/manual_clock.ts";

const test = suite("pair_copy_keeper");

test("the shelf does not take it -> said once, and the status says what to do, until the shelf takes it", () => {
  const clock = new ManualClock();
  const mirror = { state: "alone", isTrusted: false } as unknown as MirroredCache;
  const events: string[] = [];
  let error: StoreError | null = { code: "disk-failed", text: "flush at 0: failed" };
  let tries = 0;
  const keeper = new CopyKeeper({
    mirror,
    clock,
    events: { emit: (code) => events.push(code) },
    allOnShelf: () => true,
    renounce: (done) => {
      tries++;
      done(error);
    },
    need: (done) => done(error),
    writesBackAlone: false,
    isCopyWanted: () => true,
  });
  const degraded = () => {
    const facts = {
      appliance: "oak-a",
      partner: "oak-b",
      role: "owner",
      theirs: null,
      met: true,
      everMet: true,
      nics: [],
    };
    const all = { ...facts, mirror, copyRefused: "", copyTrouble: keeper.trouble, powerPortIsWrong: false };
    return pairWarnings(all as unknown as PairFacts, null).find(({ code }) => code === "pair-degraded")!.text;
  };
  keeper.look();
  for (let round = 0; round < 3; round++) clock.step();
  assert.is(tries, 4);
  assert.equal(events, ["pair-copy-trouble"]);
  assert.match(degraded(), /flush at 0: failed.*restart oak-a/);
  error = null;
  clock.step();
  assert.is(keeper.trouble, null);
  assert.ok(keeper.partnerIsFree);
  assert.not.match(degraded(), /restart/);
});

test.run();
