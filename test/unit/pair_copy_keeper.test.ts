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
    ownFailed: () => false,
    needNoMore: (done) => done(error),
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
      disks: [],
      watch: { portIsWrong: false, doubt: null },
      fence: { isHarmless: () => false },
      heart: { movedMs: null, silentMs: null, partnerOwns: false, partnerLimitMs: 0, failing: [] },
      pair: { preferred: true, limitMs: 1000 },
    };
    const all = { ...facts, mirror, copyRefused: "", copyTrouble: keeper.trouble };
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

test("the own cache has failed -> the shelf learns that no cache is needed, once; the partner's former copy stays, and stays good", () => {
  const mirror = { state: "alone", isTrusted: false } as unknown as MirroredCache;
  let isOnShelf = false;
  let words = 0;
  const keeper = new CopyKeeper({
    mirror,
    clock: new ManualClock(),
    events: { emit: () => {} },
    allOnShelf: () => isOnShelf,
    ownFailed: () => true,
    renounce: () => assert.unreachable("a nonce that the failed cache does not keep shuts the partner out"),
    needNoMore: (done) => {
      words++;
      done(null);
    },
    need: () => assert.unreachable("what is acknowledged goes to the shelf"),
    writesBackAlone: true,
    isCopyWanted: () => false,
  });
  keeper.look();
  assert.is(words, 0, "the caches are needed as long as the shelf has not everything");
  isOnShelf = true;
  keeper.look();
  keeper.look();
  assert.is(words, 1);
  assert.not.ok(keeper.partnerIsFree);
});

test.run();
