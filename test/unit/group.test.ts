import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Nvram } from "../../firmware/cache/nvram.ts";
import { cacheSlotsOf } from "../../firmware/log/recovery.ts";
import type { BlockError, BlockRequest } from "../../firmware/volume/block_request.ts";
import { Group } from "../../firmware/volume/group.ts";
import { newGroupDocument } from "../../firmware/volume/group_document.ts";
import { VolumeTarget } from "../../firmware/volume/volume_target.ts";
import type { PersistenceDomain } from "../../hal/api/write_cache.ts";
import { Prng } from "../../hal/mock/prng.ts";
import { mockDigests } from "../../hal/mock/runtime.ts";
import { ManualClock } from "./support/manual_clock.ts";
import { PlainCache } from "./support/plain_cache.ts";
import { PlainStore } from "./support/plain_store.ts";

const test = suite("group");

const groupId = "0123456789abcdef0123456789abcdef";
const cacheBytes = 4 * 1024 * 1024;
const volumeBytes = 1024 * 1024;
const sectors = volumeBytes / 512;
const logSlotBytes = 262144;

/** A group on plain hardware that can crash and come back. */
class Bench {
  readonly clock = new ManualClock();
  readonly prng: Prng;
  cache: PlainCache;
  store: PlainStore;
  group!: Group;
  nvram!: Nvram;
  target!: VolumeTarget;
  readonly events: string[] = [];

  constructor(seed: number, domain: PersistenceDomain) {
    this.prng = new Prng(seed, "group");
    this.cache = new PlainCache(this.clock, cacheBytes, domain);
    this.store = new PlainStore(this.clock, newGroupDocument("demo"), { id: groupId, logSlotBytes });
  }

  start(): void {
    this.nvram = new Nvram(this.cache, this.clock, mockDigests);
    const slots = cacheSlotsOf(this.nvram, mockDigests);
    this.nvram.setUsed(new Set(slots.get(groupId) ?? []));
    let opened: Group | null = null;
    const entropy = {
      fill: (bytes: Uint8Array) => {
        for (let at = 0; at < bytes.length; at++) bytes[at] = this.prng.below(256);
        return bytes;
      },
    };
    const events = { emit: (code: string, text: string) => void this.events.push(`${code}: ${text}`) };
    Group.open(
      {
        id: groupId,
        store: this.store,
        nvram: this.nvram,
        cacheTrusted: true,
        clock: this.clock,
        digests: mockDigests,
        entropy,
        events,
        shelfLogBytes: 1 << 20,
      },
      (error, group) => {
        assert.is(error, null);
        opened = group;
      },
    );
    this.until(() => opened !== null);
    this.group = opened!;
    let settled = false;
    this.nvram.persistAll(() => this.group.settle(() => (settled = true)));
    this.until(() => settled);
  }

  serve(): void {
    let writable = false;
    this.group.openForWriting(() => (writable = true));
    this.until(() => writable);
    this.group.setServing({ writable: true, why: null, readable: "head" });
    if (this.group.volumes().length === 0) {
      let created = false;
      const volume = { number: 1, uuid: "f".repeat(32), name: "demo-1", sizeBytes: volumeBytes };
      this.group.changeVolumes({ op: "create", volume }, () => (created = true));
      this.until(() => created);
    }
    this.target = new VolumeTarget(this.group, 1, "demo-1", false);
    this.group.addTarget(this.target);
  }

  crash(): void {
    this.group.close();
    this.clock.forget();
    this.store = this.store.afterCrash(this.clock);
    this.cache = new PlainCache(this.clock, cacheBytes, this.cache.domain, this.cache.content());
  }

  until(condition: () => boolean): void {
    for (let steps = 0; !condition(); steps++) {
      assert.ok(steps < 100000, `the condition comes about; events: ${this.events.join("; ")}`);
      this.clock.step();
    }
  }

  request(kind: BlockRequest["kind"], startLba: number, blockCount: number, payload: Uint8Array | null): Tracked {
    const tracked: Tracked = {
      done: false,
      error: null,
      target: new Uint8Array(kind === "read" ? blockCount * 512 : 0),
    };
    const cut = payload === null ? 0 : this.prng.below(payload.byteLength + 1);
    const slices = payload === null ? [] : [payload.subarray(0, cut), payload.subarray(cut)];
    this.target.submit({
      kind,
      startLba,
      blockCount,
      payload: slices,
      target: tracked.target,
      keepAllocated: false,
      extents: [],
      error: null,
      onDone: (request) => {
        tracked.done = true;
        tracked.error = request.error;
      },
    });
    return tracked;
  }
}

interface Tracked {
  done: boolean;
  error: BlockError | null;
  readonly target: Uint8Array;
}

/** What each sector may hold: the stamp of the newest acknowledged write, or of any undecided later one. */
function runRandomOperations(seed: number, domain: PersistenceDomain, rounds: number): void {
  const bench = new Bench(seed, domain);
  const { prng } = bench;
  const settled = new Array<Set<number>>(sectors).fill(new Set()).map(() => new Set([0]));
  let stamp = 0;
  const stampOf = (bytes: Uint8Array, sector: number) =>
    new DataView(bytes.buffer, bytes.byteOffset).getUint32(sector * 512, true);
  for (let round = 0; round < rounds; round++) {
    bench.start();
    bench.serve();
    const pending: { tracked: Tracked; startLba: number; blockCount: number; stamp: number }[] = [];
    const settle = () => {
      for (const write of [...pending]) {
        if (!write.tracked.done) continue;
        assert.is(write.tracked.error, null);
        pending.splice(pending.indexOf(write), 1);
        for (let at = 0; at < write.blockCount; at++) {
          const may = settled[write.startLba + at]!;
          for (const other of [...may]) if (other < write.stamp || (other === 0 && write.stamp > 0)) may.delete(other);
          may.add(write.stamp);
        }
      }
    };
    const operations = 30 + prng.below(60);
    for (let operation = 0; operation < operations; operation++) {
      const startLba = prng.chance(0.5) ? 8 * prng.below(sectors / 8) : prng.below(sectors);
      const longest = prng.chance(0.2) ? sectors : 24;
      const blockCount = 1 + prng.below(Math.min(longest, sectors - startLba));
      const kind = prng.below(10);
      const overlaps = pending.some(
        (one) => one.startLba < startLba + blockCount && startLba < one.startLba + one.blockCount,
      );
      if (kind < 7 && !overlaps) {
        const zero = kind === 6;
        const now = zero ? 0 : ++stamp;
        const payload = zero ? null : new Uint8Array(blockCount * 512);
        if (payload !== null)
          for (let at = 0; at < blockCount; at++) new DataView(payload.buffer).setUint32(at * 512, now, true);
        const tracked = bench.request(
          zero ? (prng.chance(0.5) ? "zero" : "unmap") : "write",
          startLba,
          blockCount,
          payload,
        );
        if (zero) {
          // Zeros carry no stamp to order by: waited for.
          bench.until(() => tracked.done);
          settle();
          for (let at = 0; at < blockCount; at++) settled[startLba + at] = new Set([0]);
        } else {
          for (let at = 0; at < blockCount; at++) settled[startLba + at]!.add(now);
          pending.push({ tracked, startLba, blockCount, stamp: now });
        }
      } else if (kind >= 7) {
        const tracked = bench.request("read", startLba, blockCount, null);
        bench.until(() => tracked.done);
        assert.is(tracked.error, null);
        for (let at = 0; at < blockCount; at++) {
          const found = stampOf(tracked.target, at);
          assert.ok(
            settled[startLba + at]!.has(found),
            `seed ${seed}: sector ${startLba + at} holds ${found}, may hold ${[...settled[startLba + at]!]}`,
          );
        }
      }
      for (let steps = prng.below(4); steps > 0; steps--) bench.clock.step();
      settle();
    }
    if (prng.chance(0.3)) bench.until(() => pending.every((one) => one.tracked.done));
    settle();
    bench.crash();
  }
  bench.start();
  bench.serve();
  const whole = bench.request("read", 0, sectors, null);
  bench.until(() => whole.done);
  for (let sector = 0; sector < sectors; sector++) {
    const found = stampOf(whole.target, sector);
    assert.ok(
      settled[sector]!.has(found),
      `seed ${seed}: at the end sector ${sector} holds ${found}, may hold ${[...settled[sector]!]}`,
    );
  }
}

for (const domain of ["battery", "flush"] as const) {
  test(`random operations and crashes, ${domain} domain -> every acknowledged write is there, nothing else`, () => {
    for (let seed = 1; seed <= 12; seed++) runRandomOperations(seed, domain, 6);
  });
}

test.run();
