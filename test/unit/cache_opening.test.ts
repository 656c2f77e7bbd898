import { suite } from "uvu";
import * as assert from "uvu/assert";
import { judgeCache, renewNonce } from "../../firmware/cache/cache_opening.ts";
import { Nvram, type NvramClient } from "../../firmware/cache/nvram.ts";
import { regionOf } from "../../firmware/log/record.ts";
import { decodeSegmentHeader, encodeSegmentHeader } from "../../firmware/log/segment.ts";
import type { CacheEntry } from "../../firmware/manage/array_document.ts";
import type { WriteCache } from "../../hal/api/write_cache.ts";
import { Prng } from "../../hal/mock/prng.ts";
import { mockDigests } from "../../hal/mock/runtime.ts";
import { ManualClock } from "./support/manual_clock.ts";
import { PlainCache } from "./support/plain_cache.ts";

const test = suite("cache_opening");

const arrayId = "a".repeat(32);
const cacheBytes = 4 * 1024 * 1024;
const prng = new Prng(1, "nonces");
const entropy = {
  fill: (bytes: Uint8Array) => {
    for (let at = 0; at < bytes.length; at++) bytes[at] = prng.below(256);
    return bytes;
  },
};

/** A cache and what the shelf says of it. */
interface Machine {
  memory: Uint8Array;
  entry: CacheEntry | undefined;
}

function nvramOf(memory: Uint8Array, clock = new ManualClock()): Nvram {
  const cache: WriteCache = new PlainCache(clock, memory.byteLength, "battery", memory);
  return new Nvram(cache, clock, mockDigests);
}

function verdictOf(machine: Machine): ReturnType<typeof judgeCache> {
  const caches = machine.entry === undefined ? [] : [machine.entry];
  return judgeCache(nvramOf(machine.memory).readHeader(), { id: arrayId, appliance: "oak-a", partner: null, caches });
}

/** One start that dies after `steps` of: shelf says next, cache has it, shelf says current. */
function startDyingAfter(machine: Machine, steps: number): void {
  const nvram = nvramOf(machine.memory);
  let left = steps;
  renewNonce(
    {
      nvram,
      entropy,
      arrayId,
      appliance: "oak-a",
      entry: machine.entry,
      needless: false,
    },
    (entry, done) => {
      if (left-- === 0) return;
      machine.entry = entry;
      // The step on the cache, should the process live so long.
      if (left-- === 0) return;
      done(null);
      machine.memory = nvram.region.bytes.slice();
    },
    () => {},
  );
}

test("starts that die anywhere in the renewal, one after the other -> the cache is accepted by the next", () => {
  for (let first = 0; first <= 4; first++) {
    for (let second = 0; second <= 4; second++) {
      const machine: Machine = { memory: new Uint8Array(cacheBytes), entry: undefined };
      startDyingAfter(machine, 100);
      assert.is(verdictOf(machine).kind, "trusted");
      startDyingAfter(machine, first);
      assert.is(verdictOf(machine).kind, "trusted", `after ${first} steps`);
      startDyingAfter(machine, second);
      assert.is(verdictOf(machine).kind, "trusted", `after ${first} and ${second} steps`);
    }
  }
});

test("no cache is needed, and a start dies in the renewal -> the partner may still start without one", () => {
  const machine: Machine = { memory: new Uint8Array(cacheBytes), entry: undefined };
  startDyingAfter(machine, 100);
  machine.entry = { ...machine.entry!, needless: true };
  for (const steps of [1, 2]) {
    startDyingAfter(machine, steps);
    const names = { id: arrayId, appliance: "oak-b", partner: "oak-a", caches: [machine.entry] };
    assert.is(judgeCache({ kind: "blank" }, names).kind, "blank", `${steps} steps`);
  }
  startDyingAfter(machine, 100);
  const names = { id: arrayId, appliance: "oak-b", partner: "oak-a", caches: [machine.entry] };
  assert.is(judgeCache({ kind: "blank" }, names).kind, "refused");
});

test("an older image of the cache -> refused", () => {
  const machine: Machine = { memory: new Uint8Array(cacheBytes), entry: undefined };
  startDyingAfter(machine, 100);
  const old = machine.memory.slice();
  startDyingAfter(machine, 100);
  startDyingAfter(machine, 100);
  assert.is(verdictOf(machine).kind, "trusted");
  machine.memory = old;
  assert.is(verdictOf(machine).kind, "refused");
});

test("of a pair the last owner's own cache is an older image, or a new one -> the partner is to be started, and nobody has gone on without it", () => {
  const machine: Machine = { memory: new Uint8Array(cacheBytes), entry: undefined };
  startDyingAfter(machine, 100);
  const old = nvramOf(machine.memory.slice()).readHeader();
  startDyingAfter(machine, 100);
  startDyingAfter(machine, 100);
  const names = { id: arrayId, appliance: "oak-a", partner: "oak-b", caches: [machine.entry!] };
  for (const header of [old, { kind: "blank" } as const]) {
    const verdict = judgeCache(header, names);
    assert.is(verdict.kind, "refused");
    const text = verdict.kind === "refused" ? verdict.text : "";
    assert.match(text, /start oak-b/);
    assert.not.match(text, /oak-a/);
  }
  const theirs = judgeCache(old, { ...names, appliance: "oak-b", partner: "oak-a" });
  assert.match(theirs.kind === "refused" ? theirs.text : "", /oak-a has gone on without it.*start oak-a/);
});

test("any byte of the newest header changed -> the header before it, or none: never a nonce that was not written", () => {
  const machine: Machine = { memory: new Uint8Array(cacheBytes), entry: undefined };
  const known = new Set<string>();
  for (let round = 0; round < 2; round++) {
    startDyingAfter(machine, 100);
    const header = nvramOf(machine.memory).readHeader();
    assert.is(header.kind, "formatted");
    if (header.kind === "formatted") known.add(header.nonce);
  }
  for (const base of [0, 4096]) {
    for (let at = base; at < base + 128; at++) {
      machine.memory[at]! ^= 4;
      const header = nvramOf(machine.memory).readHeader();
      assert.ok(header.kind === "formatted" && known.has(header.nonce), `byte ${at}`);
      machine.memory[at]! ^= 4;
    }
  }
});

test("a pair's cache whose header was damaged -> blank where the shelf has everything, refused where it is needed", () => {
  const header = { kind: "damaged" } as const;
  const names = { id: arrayId, appliance: "oak-b", partner: "oak-a" };
  const entry = { appliance: "oak-a", current: "1".repeat(32), next: null };
  assert.is(judgeCache(header, { ...names, caches: [{ ...entry, needless: true }] }).kind, "blank");
  assert.is(judgeCache(header, { ...names, caches: [{ ...entry, needless: false }] }).kind, "refused");
});

test("another array's cache, and one of another size -> refused", () => {
  const machine: Machine = { memory: new Uint8Array(cacheBytes), entry: undefined };
  startDyingAfter(machine, 100);
  const caches = machine.entry === undefined ? [] : [machine.entry];
  const header = nvramOf(machine.memory).readHeader();
  assert.is(judgeCache(header, { id: "b".repeat(32), appliance: "oak-a", partner: null, caches }).kind, "refused");
  const larger = new Uint8Array(2 * cacheBytes);
  larger.set(machine.memory);
  assert.is(nvramOf(larger).readHeader().kind, "refused");
});

test("a segment of a group that is no more -> no later start finds it", () => {
  const clock = new ManualClock();
  const nvram = nvramOf(new Uint8Array(cacheBytes), clock);
  const header = { groupId: "c".repeat(32), ordinal: 1, firstSeq: 1, durableSeq: 0 };
  encodeSegmentHeader(nvram.region, nvram.baseOf(3), header, 1, mockDigests);
  nvram.setUsed(new Map());
  assert.is(decodeSegmentHeader(regionOf(nvram.region.bytes), nvram.baseOf(3), mockDigests), null);
  assert.is(nvram.freeSegments, nvram.segmentCount);
});

test("a persist has failed -> a later one that seems to succeed counts for nobody", () => {
  const clock = new ManualClock();
  const outcomes: ((outcome: "persisted" | "failed") => void)[] = [];
  const plain = new PlainCache(clock, cacheBytes, "battery");
  const cache: WriteCache = Object.assign(plain, {
    persist: (done: (outcome: "persisted" | "failed") => void) => void outcomes.push(done),
  });
  const nvram = new Nvram(cache, clock, mockDigests);
  const told: string[] = [];
  const client = (name: string): NvramClient => ({
    persisted: () => void told.push(`${name} persisted`),
    cacheFailed: () => void told.push(`${name} failed`),
  });
  nvram.wantPersist(client("first"), 1);
  clock.runDeferred();
  nvram.wantPersist(client("second"), 1);
  clock.runDeferred();
  outcomes[0]?.("failed");
  outcomes[1]?.("persisted");
  assert.equal(told, ["first failed", "second failed"]);
  assert.ok(nvram.failed);
});

test.run();
