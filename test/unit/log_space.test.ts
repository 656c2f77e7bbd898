/** What a group's data and its log have of one pool: the group on the real store. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Nvram } from "../../firmware/cache/nvram.ts";
import { Group } from "../../firmware/volume/group.ts";
import { newGroupDocument } from "../../firmware/volume/group_document.ts";
import { VolumeTarget } from "../../firmware/volume/volume_target.ts";
import { mebibyte, StoreBench } from "./support/store_bench.ts";

const test = suite("log_space");
const volumeBytes = 2 * mebibyte;

class Bench extends StoreBench {
  readonly events: string[] = [];
  group!: Group;
  nvram!: Nvram;
  target!: VolumeTarget;

  /** A pool of about `slabCount` slabs of 1 MiB, and a cache of 16 segments of 256 KiB. */
  constructor(seed: number, slabCount: number) {
    super({ seed, slots: [(slabCount + 2) * mebibyte], cacheBytes: 4 * mebibyte + 65536 });
  }

  serve(): void {
    const store = this.create(newGroupDocument("demo"));
    const { cache, clock, digests, entropy } = this.hal!;
    this.nvram = new Nvram(cache, clock, digests);
    this.nvram.setUsed(new Map());
    this.nvram.credits.join(store.id);
    const events = { emit: (code: string, text: string) => void this.events.push(`${code}: ${text}`) };
    const own = { id: store.id, store, nvram: this.nvram, cacheTrusted: true, clock, digests, entropy, events };
    const options = { ...own, shelfLogBytes: mebibyte, moreSpace: (done: (hasCome: boolean) => void) => done(false) };
    const [error, group] = this.waitPair<unknown, Group>((done) => Group.open(options, done));
    assert.is(error, null);
    this.group = group!;
    this.wait<unknown>((done) => this.group.settle(done));
    this.group.room.thaw();
    this.wait<unknown>((done) => this.group.openForWriting(done));
    this.group.setServing({ writable: true, why: null, readable: "head" });
    const volume = { number: 1, uuid: "f".repeat(32), name: "demo-1", sizeBytes: volumeBytes };
    this.wait<unknown>((done) => this.group.changeVolumes({ op: "create", volume }, done));
    this.target = new VolumeTarget(this.group, 1, "demo-1", false);
    this.group.addTarget(this.target);
  }

  write(block: number, answered: (error: unknown) => void): void {
    this.target.submit({
      kind: "write",
      startLba: block * 8,
      blockCount: 8,
      payload: [new Uint8Array(4096).fill(block)],
      target: new Uint8Array(0),
      keepAllocated: false,
      atomic: false,
      miscompareOffset: 0,
      extents: [],
      error: null,
      onDone: ({ error }) => answered(error),
    });
  }
}

test("undecided records have taken every promise that the pool gives, and the cache fails -> the shelf has all of them", () => {
  for (const slabCount of [6, 10, 16, 24]) {
    const bench = new Bench(slabCount, slabCount);
    bench.serve();
    const { log, admission, writeThrough } = bench.group;
    // As for a golden copy before it hears of a commit: nothing can go home.
    log.require("elm", log.commitSeq);
    const answers: unknown[] = [];
    let count = 0;
    while (admission.queuedRequests === 0) {
      assert.ok(count < 1000, "the pool runs short");
      bench.write(count++ % (volumeBytes / 4096), (error) => answers.push(error));
    }
    assert.ok(bench.nvram.freeSegmentsFor(bench.group.id) > 0, "of space, not of cache");
    writeThrough.begin();
    bench.world.runUntil(() => writeThrough.holdsAll, 10_000);
    assert.ok(writeThrough.holdsAll, `${slabCount} slabs, ${count} writes: ${bench.events.join("; ")}`);
    log.require("elm", null);
    bench.world.runUntil(() => answers.length === count, 10_000);
    assert.equal(
      answers,
      answers.map(() => null),
    );
    assert.is(answers.length, count);
  }
});

test.run();
