/** Space from one half for the other (`space_balance.ts`), between two real halves of a pool. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { ApiAnswer } from "../../firmware/manage/api.ts";
import { Tenure } from "../../firmware/manage/tenure.ts";
import { HalfCalls } from "../../firmware/pair/half_calls.ts";
import type { HostFront } from "../../firmware/pair/host_front.ts";
import type { Engine } from "../../firmware/pair/partnership_options.ts";
import { SpaceBalance } from "../../firmware/pair/space_balance.ts";
import type { Half } from "../../firmware/store/geometry.ts";
import type { LogSlot } from "../../firmware/store/store.ts";
import { bothHalves, HalvesBench } from "./support/halves_bench.ts";
import { mebibyte } from "./support/store_bench.ts";

const test = suite("pair_space_balance");

/** What `SpaceBalance` and `HalfCalls` have of the firmware of a half. */
function engineOf(bench: HalvesBench, half: Half): Engine {
  return { pool: bench.pool(half) } as unknown as Engine;
}

interface Traffic {
  readonly balance: SpaceBalance;
  /** What the other half's owner asks of this one. */
  readonly calls: HalfCalls;
}

type Ask = (path: string, body: object) => Promise<ApiAnswer>;
/** What carries a question; null: the other half is not reached. */
type Way = (ask: Ask) => (...question: Parameters<Ask>) => Promise<ApiAnswer> | null;

/** Both halves' traffic; `onWay[h]` carries what half h asks. */
function traffic(bench: HalvesBench, onWay: readonly [Way, Way]): [Traffic, Traffic] {
  const both = bothHalves.map((half): Traffic => {
    const engine = engineOf(bench, half);
    const askOther = onWay[half]((path, body) => both[1 - half]!.calls.answer(path, JSON.stringify(body)));
    const balance = new SpaceBalance({
      tenure: new Tenure(),
      half,
      events: { emit: (code, text) => assert.unreachable(`${code}: ${text}`) },
      engine: () => engine,
      askOther,
    });
    const calls = new HalfCalls({
      half,
      tenure: new Tenure(),
      engine: () => engine,
      isAsking: () => balance.isAsking,
      hasCeded: () => balance.searchAgain(),
      front: {} as HostFront,
      move: () => Promise.reject(),
      ready: async () => {},
    });
    return { balance, calls };
  });
  return both as [Traffic, Traffic];
}

const asIs = (ask: Ask): Ask => ask;
const lost: ApiAnswer = { status: 503, body: { error: { code: "starting", text: "lost" } } };

/** Half 0, with a group that has reserved everything there; half 1 is empty. */
function fullHalf(seed: number) {
  const bench = new HalvesBench({ seed }).create();
  const group = bench.createGroup(0, "a".repeat(32));
  group.createVolume({ number: 1, sizeBytes: 64 * mebibyte });
  bench.done((done) => group.commit(0, done));
  while (group.reserveChunks(1));
  const [{ balance }] = traffic(bench, [asIs, asIs]);
  return { bench, group, balance };
}

/** What is under way between the halves goes on only while the world does. */
async function ended<T>(bench: HalvesBench, work: Promise<T>): Promise<T> {
  let isOver = false;
  const result = work.finally(() => {
    isOver = true;
  });
  while (!isOver) {
    bench.world.runUntil(() => false, 1);
    await Promise.resolve();
  }
  return await result;
}

test("all that is free in a half is promised to data, as much as the other half has free -> its log gets a slab from there", async () => {
  const { bench, group, balance } = fullHalf(1);
  const allocate = () => bench.wait<LogSlot | null>((done) => group.allocateLogSlot(done));
  const theirs = bench.pool(1).usage().freeBytes;
  assert.ok(theirs - bench.pool(0).usage().freeBytes < 4 * mebibyte);
  assert.not.ok(allocate());
  assert.ok(await ended(bench, balance.more()));
  assert.ok(allocate());
  bench.checkSlabs();
});

test("a half has much that is free and promised -> it asks for more by itself, and gets half of what the other one has", async () => {
  const { bench, balance } = fullHalf(2);
  const theirs = bench.pool(1).usage().freeBytes;
  await ended(bench, balance.look());
  const left = bench.pool(1).usage().freeBytes;
  assert.ok(left >= theirs / 2 - mebibyte && left <= theirs / 2, `${left} of ${theirs}`);
  assert.is(bench.pool(0).usage().spareBytes, theirs - left);
  bench.checkSlabs();
});

/** Half 1 has less than half 0, and asks for some. */
function unequalHalves(seed: number): HalvesBench {
  const bench = new HalvesBench({ seed }).create();
  bench.cede(1, 16);
  return bench;
}

test("slabs go to the other half while its claims are under way -> they are its, whatever those say", async () => {
  const bench = unequalHalves(3);
  const halves = traffic(bench, [
    (ask) => async (path, body) => {
      const answer = await ask(path, body);
      // The answer takes longer than all that half 1 asks, receives and confirms.
      if (path === "/half/claims") await halves[1].balance.more();
      return answer;
    },
    asIs,
  ]);
  const before = bench.pool(1).usage().freeBytes;
  await ended(bench, halves[0].balance.look());
  assert.ok(bench.pool(1).usage().freeBytes > before, "half 1 got some");
  bench.checkSlabs();
});

test("slabs come and go back while the other half's claims are under way -> they are its", async () => {
  const bench = new HalvesBench({ seed: 6 }).create();
  bench.cede(0, 16);
  let between: ApiAnswer | null = null;
  let isFirst = true;
  const halves = traffic(bench, [
    (ask) => async (path, body) => {
      const isSearch = path === "/half/claims" && isFirst;
      isFirst = false;
      const answer = await ask(path, body);
      if (path === "/half/cede") between = await ask("/half/claims", {});
      if (!isSearch) return answer;
      await halves[0].balance.more();
      const all = await new Promise<readonly number[]>((done) => bench.pool(0).cede(1000, (_, slabs) => done(slabs)));
      await new Promise((done) => bench.pool(1).receive(all, done));
      // What half 1 would have said when it had ceded them.
      return { status: 200, body: { ...(between!.body as object), isAsking: false } };
    },
    asIs,
  ]);
  await ended(bench, halves[0].balance.look());
  bench.checkSlabs();
});

test("the answer with what was ceded comes late, or never -> not taken back before that is known, and then at once", async () => {
  for (const isLost of [false, true]) {
    const bench = unequalHalves(4);
    let arrive = () => {};
    const halves = traffic(bench, [
      asIs,
      (ask) => async (path, body) => {
        const answer = await ask(path, body);
        if (path !== "/half/cede") return answer;
        await new Promise<void>((resolve) => {
          arrive = resolve;
        });
        return isLost ? lost : answer;
      },
    ]);
    const total = bench.spaceOf("totalBytes");
    await ended(bench, halves[0].balance.look());
    const asking = halves[1].balance.more();
    bench.world.runUntil(() => false, 100);
    for (let turn = 0; turn < 100; turn++) await Promise.resolve();
    bench.world.runUntil(() => false, 100);
    for (let turn = 0; turn < 100; turn++) await Promise.resolve();
    assert.ok(bench.spaceOf("totalBytes") < total, "some are on their way");
    await ended(bench, halves[0].balance.look());
    assert.ok(bench.spaceOf("totalBytes") < total, "they still are");
    arrive();
    assert.is(await ended(bench, asking), !isLost);
    await ended(bench, halves[0].balance.look());
    assert.is(bench.spaceOf("totalBytes"), total);
    bench.checkSlabs();
  }
});

test("slabs are nobody's, and the other half is not reached -> looked for when it is, and then no more", async () => {
  const bench = new HalvesBench({ seed: 7 }).create();
  const total = bench.spaceOf("totalBytes");
  bench.waitPair<readonly number[]>((done) => bench.pool(1).cede(3, done));
  let isReached = false;
  let asked = 0;
  const [{ balance }] = traffic(bench, [
    (ask) => (path, body) => {
      asked += 1;
      return isReached ? ask(path, body) : null;
    },
    asIs,
  ]);
  for (const reached of [false, false, true, true]) {
    isReached = reached;
    await ended(bench, balance.look());
  }
  assert.is(asked, 3);
  assert.is(bench.spaceOf("totalBytes"), total);
  bench.checkSlabs();
});

test("the answer to what half 0 has asked for is lost -> it finds the slabs by itself", async () => {
  const bench = new HalvesBench({ seed: 5 }).create();
  bench.cede(0, 16);
  let isLost = true;
  const [{ balance }] = traffic(bench, [
    (ask) => async (path, body) => {
      const answer = await ask(path, body);
      return path === "/half/cede" && isLost ? lost : answer;
    },
    asIs,
  ]);
  const total = bench.spaceOf("totalBytes");
  await ended(bench, balance.look());
  assert.not.ok(await ended(bench, balance.more()));
  assert.ok(bench.spaceOf("totalBytes") < total);
  isLost = false;
  await ended(bench, balance.look());
  assert.is(bench.spaceOf("totalBytes"), total);
  bench.checkSlabs();
});

test.run();
