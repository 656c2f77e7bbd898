/** The mirrored cache and its copy: whatever is stored, in whatever order things happen, the copy holds what a persist has promised. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { headerAreaBytes } from "../../firmware/cache/nvram.ts";
import { CopyTarget } from "../../firmware/pair/copy_target.ts";
import type { PairMessage } from "../../firmware/pair/frame.ts";
import { pairLimits } from "../../firmware/pair/limits.ts";
import { MirroredCache } from "../../firmware/pair/mirrored_cache.ts";
import { StoreRanges } from "../../firmware/pair/store_ranges.ts";
import { Prng } from "../../hal/mock/prng.ts";
import { mockDigests } from "../../hal/mock/runtime.ts";
import { ManualClock } from "./support/manual_clock.ts";
import { PlainCache } from "./support/plain_cache.ts";

const test = suite("pair_copy");

const cacheBytes = 2 * 1024 * 1024;
type Sent = { readonly message: PairMessage; readonly payload: Uint8Array };

/** Two caches and what is under way between them, delivered by hand. */
class Copying {
  readonly clock = new ManualClock();
  readonly own = new PlainCache(this.clock, cacheBytes, "battery");
  readonly theirs: PlainCache;
  readonly mirror = new MirroredCache(this.own, this.clock, mockDigests);
  readonly there: Sent[] = [];
  readonly back: PairMessage[] = [];
  broken = "";
  theirNonce: string | null = null;
  readonly target: CopyTarget;

  /** `domain`: of the partner's module. */
  constructor(domain: "battery" | "flush" = "battery") {
    this.theirs = new PlainCache(this.clock, cacheBytes, domain);
    this.target = new CopyTarget({
      cache: this.theirs,
      digests: mockDigests,
      nonce: () => this.theirNonce,
      send: (message) => this.back.push(message),
      broken: (text) => {
        this.broken = text;
      },
    });
  }

  attach(nonce: string | null): void {
    this.mirror.attach(nonce, (message, parts) => {
      this.there.push({ message, payload: Buffer.concat(parts) });
    });
  }

  /** One message arrives, in either direction; false: nothing is under way. */
  deliver(prng: Prng): boolean {
    const forth = this.there.length > 0 && (this.back.length === 0 || prng.chance(0.5));
    if (forth) {
      const { message, payload } = this.there.shift()!;
      this.target.onMessage(message, payload);
    } else if (this.back.length > 0) this.mirror.onMessage(this.back.shift()!);
    else return false;
    this.clock.runDeferred();
    return true;
  }

  deliverAll(prng: Prng): void {
    while (this.deliver(prng)) if (this.mirror.state === "complete") this.mirror.rely();
  }

  store(prng: Prng): void {
    const length = 1 + prng.below(prng.chance(0.1) ? 100_000 : 600);
    const offset = prng.below(cacheBytes - length);
    for (let at = offset; at < offset + length; at++) this.own.memory[at] = prng.below(256);
    this.mirror.wrote(offset, length);
  }

  alike(): boolean {
    return Buffer.compare(this.own.memory, this.theirs.memory) === 0;
  }
}

test("stores before, during and after the copying -> alike to the byte; every persist waits for the copy once it counts", () => {
  for (let seed = 1; seed <= 8; seed++) {
    const prng = new Prng(seed, "copy");
    const copying = new Copying();
    for (let store = 0; store < 50; store++) copying.store(prng);
    copying.attach("a".repeat(32));
    let promised = 0;
    let done = 0;
    for (let step = 0; step < 3000; step++) {
      if (prng.chance(0.3)) copying.store(prng);
      if (prng.chance(0.2)) {
        promised++;
        const counts = copying.mirror.state === "mirrored";
        const snapshot = counts ? copying.own.memory.slice() : null;
        copying.mirror.persist((outcome) => {
          done++;
          assert.is(outcome, "persisted");
          if (snapshot === null) return;
          // What was stored by then is there, or something newer is.
          for (let at = 0; at < cacheBytes; at += 997) {
            const byte = copying.theirs.memory[at];
            assert.ok(byte === snapshot[at] || byte === copying.own.memory[at], `seed ${seed}, byte ${at}`);
          }
        });
      }
      copying.deliver(prng);
      if (copying.mirror.state === "complete") copying.mirror.rely();
    }
    copying.mirror.persist(() => {});
    copying.deliverAll(prng);
    assert.is(copying.mirror.state, "mirrored", `seed ${seed}`);
    assert.is(done, promised);
    assert.ok(copying.alike(), `seed ${seed}`);
    assert.is(copying.broken, "");
  }
});

test("a copy with another nonce -> its header is gone from the beginning to the very end", () => {
  const prng = new Prng(7, "header");
  const copying = new Copying();
  copying.own.memory.fill(1, 0, headerAreaBytes);
  copying.theirs.memory.fill(2, 0, headerAreaBytes);
  copying.theirNonce = "b".repeat(32);
  copying.attach("a".repeat(32));
  assert.is(copying.theirs.memory[0], 2, "not before it knows");
  while (copying.mirror.state !== "complete") {
    assert.ok(copying.deliver(prng));
    if (copying.mirror.state === "copying") copying.store(prng);
    const header = copying.theirs.memory.subarray(0, headerAreaBytes);
    const last = copying.there.length === 0 && copying.back.length > 0;
    if (!last && copying.mirror.state === "copying") assert.ok(header.every((byte) => byte === 0));
  }
  assert.is(copying.theirs.memory[0], copying.own.memory[0]);
});

test("another nonce, and a medium that takes its time -> the header comes when every page is durable", () => {
  const prng = new Prng(11, "torn");
  const copying = new Copying("flush");
  for (const [cache, byte] of [
    [copying.own, 1],
    [copying.theirs, 2],
  ] as const)
    cache.memory.fill(byte);
  copying.theirNonce = "b".repeat(32);
  copying.attach("a".repeat(32));
  const goOn = () => copying.deliver(prng) || copying.clock.step();
  while (copying.theirs.memory[0] !== 1) goOn();
  const pages = copying.theirs.content().subarray(headerAreaBytes);
  assert.ok(pages.every((byte) => byte === 1));
  while (copying.mirror.state !== "complete") goOn();
  assert.is(copying.theirs.content()[0], 1);
});

test("the same nonce -> nothing is wiped: the copy stays a good one throughout", () => {
  const prng = new Prng(8, "same");
  const copying = new Copying();
  for (const cache of [copying.own, copying.theirs]) cache.memory.fill(3, 0, headerAreaBytes);
  copying.own.memory.fill(9, 100_000, 300_000);
  copying.theirNonce = "a".repeat(32);
  copying.attach("a".repeat(32));
  while (copying.deliver(prng)) assert.is(copying.theirs.memory[0], 3);
  assert.ok(copying.alike());
});

test("the partner is lost with persists under way -> they are done, after the cache was said to be unsafe", () => {
  const prng = new Prng(9, "lost");
  const copying = new Copying();
  copying.attach(null);
  copying.deliverAll(prng);
  assert.is(copying.mirror.battery(), "good");
  const order: string[] = [];
  copying.mirror.onBattery((state) => order.push(state));
  copying.store(prng);
  copying.mirror.persist(() => order.push("persisted"));
  copying.clock.runDeferred();
  assert.equal(order, [], "the partner has not answered");
  copying.mirror.detach("lost");
  copying.clock.runDeferred();
  assert.equal(order, ["failed", "persisted"]);
});

test("the partner's cache fails -> the copy is given up, and nobody waits for it", () => {
  const prng = new Prng(10, "failed");
  const copying = new Copying();
  copying.attach(null);
  copying.deliverAll(prng);
  copying.theirs.failPersist = true;
  copying.store(prng);
  let outcome = "";
  copying.mirror.persist((result) => {
    outcome = result;
  });
  copying.deliverAll(prng);
  copying.clock.runDeferred();
  assert.is(copying.mirror.state, "alone");
  assert.is(outcome, "persisted");
});

test("messages that do not fit the cache -> refused, nothing stored", () => {
  const copying = new Copying();
  copying.attach(null);
  copying.target.onMessage(copying.there.shift()!.message, new Uint8Array(0));
  const before = copying.theirs.memory.slice();
  for (const [offsets, lengths, bytes] of [
    [[cacheBytes - 4], [8], 8],
    [[0], [8], 4],
    [[0, 16], [8, 8], 8],
  ] as const) {
    copying.target.adopt();
    copying.broken = "";
    copying.target.onMessage({ kind: "mirror", frame: 1, offsets, lengths }, new Uint8Array(bytes).fill(255));
    assert.is.not(copying.broken, "");
  }
  copying.target.adopt();
  copying.target.onMessage({ kind: "compare", offset: cacheBytes, pageBytes: 65536 }, new Uint8Array(8));
  assert.match(copying.broken, /digests/);
  assert.is(Buffer.compare(before, copying.theirs.memory), 0);
});

test("a persist of the former session ends in the next one -> nothing is said of the new one's frames", () => {
  const copying = new Copying();
  copying.theirNonce = "a".repeat(32);
  const outcomes: ((outcome: "persisted" | "failed") => void)[] = [];
  copying.theirs.persist = (done) => void outcomes.push(done);
  const mirror: PairMessage = { kind: "mirror", frame: 5000, offsets: [65536], lengths: [4096] };
  copying.target.onMessage({ kind: "attach", nonce: copying.theirNonce }, new Uint8Array(0));
  copying.target.onMessage(mirror, new Uint8Array(4096));
  copying.target.close();
  copying.target.onMessage({ kind: "attach", nonce: copying.theirNonce }, new Uint8Array(0));
  copying.target.onMessage({ ...mirror, frame: 1 }, new Uint8Array(4096));
  copying.back.length = 0;
  outcomes[0]!("persisted");
  assert.equal(copying.back, []);
  outcomes[1]!("persisted");
  assert.equal(copying.back, [{ kind: "mirrored", frame: 1 }]);
});

test("an attach that is still being prepared when the session ends -> it accepts nothing later", () => {
  const copying = new Copying();
  const outcomes: ((outcome: "persisted" | "failed") => void)[] = [];
  copying.theirs.persist = (done) => void outcomes.push(done);
  copying.target.onMessage({ kind: "attach", nonce: "a".repeat(32) }, new Uint8Array(0));
  copying.target.close();
  outcomes[0]!("persisted");
  assert.equal(copying.back, []);
});

test("stores without a persist, as in write-through -> they go nevertheless, and do not gather", () => {
  const prng = new Prng(1, "no persist");
  const copying = new Copying();
  copying.attach("a".repeat(32));
  copying.deliverAll(prng);
  assert.is(copying.mirror.state, "mirrored");
  for (let store = 0; store < 3 * pairLimits.rangesMax; store++) {
    copying.own.memory[8 * store + headerAreaBytes] = 1;
    copying.mirror.wrote(8 * store + headerAreaBytes, 1);
    copying.clock.runDeferred();
  }
  copying.deliverAll(prng);
  assert.ok(copying.alike());
});

test("ranges of stores -> joined where one continues the other, cut to portions, in order", () => {
  const ranges = new StoreRanges();
  ranges.add(0, 10);
  ranges.add(10, 10);
  ranges.add(5, 3);
  ranges.add(100, 5);
  ranges.add(0, 1);
  const portions: [number[], number[]][] = [];
  ranges.take(2, 16, (offsets, lengths) => portions.push([offsets, lengths]));
  assert.equal(portions, [
    [[0], [16]],
    [
      [16, 100],
      [4, 5],
    ],
    [[0], [1]],
  ]);
  assert.is(ranges.count, 0);
});

test.run();
