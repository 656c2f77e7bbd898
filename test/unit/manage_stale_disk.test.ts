/** A disk has missed writes: it is never used unasked; on the operator's word it is, and what it has missed is never served as data. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { startAppliance } from "../../firmware/appliance.ts";
import type { Control } from "../../firmware/manage/control.ts";
import type { GroupRegistry } from "../../firmware/manage/groups.ts";
import type { BlockError } from "../../firmware/volume/block_request.ts";
import { VolumeTarget } from "../../firmware/volume/volume_target.ts";
import type { MediumImage } from "../../hal/mock/sparse_medium.ts";
import { World } from "../../hal/mock/world.ts";

const test = suite("manage_stale_disk");
const MiB = 1024 * 1024;
const diskBytes = 20 * MiB;
const volumeBytes = 8 * MiB;
const stepBytes = 256 * 1024;

class Bench {
  readonly world: World;
  readonly shelf;
  readonly appliance;
  readonly events: string[] = [];
  control!: Control;
  groups!: GroupRegistry;

  constructor(seed: number) {
    this.world = new World({ seed });
    this.shelf = this.world.addShelf({ name: "shelf0", slots: [diskBytes, diskBytes, diskBytes] });
    this.appliance = this.world.addAppliance({
      name: "oak-a",
      cache: { sizeBytes: 4 * MiB + 65536, domain: "battery" },
      shelves: [this.shelf],
      hbaPorts: [],
      nics: [{ name: "nic0", address: "oak-a:7400" }],
    });
  }

  /** null, or why it does not start; "died" when `dieAfterMs` came first. */
  start(acceptStaleDisk = false, dieAfterMs = Number.POSITIVE_INFINITY): string | null {
    let answer: string | null | undefined;
    this.appliance.start((hal) => {
      const config = {
        array: { name: "oak", appliance: "oak-a" },
        peers: [],
        link: { heartbeatMs: 200, peerTimeoutMs: 1000 },
        store: { slabBytes: MiB, logSlotBytes: 262144, mapCacheBytes: MiB },
        acceptStaleDisk,
      };
      const events = { emit: (code: string, text: string) => void this.events.push(`${code}: ${text}`) };
      void startAppliance({ hal, config, events, version: "test" }).then((outcome) => {
        answer = outcome.ok ? null : outcome.text;
        if (!outcome.ok) return;
        this.control = outcome.control;
        this.groups = outcome.groups;
      });
    });
    if (dieAfterMs !== Number.POSITIVE_INFINITY) {
      this.world.hostClock.after(dieAfterMs, () => {
        this.appliance.crash();
        answer ??= "died";
      });
    }
    this.until(() => answer !== undefined);
    if (answer !== null && this.appliance.isUp) this.appliance.crash();
    return answer!;
  }

  until(condition: () => boolean): void {
    assert.ok(this.world.runUntil(condition, 60_000), "it comes about");
  }

  answer<T>(promise: Promise<T>): T {
    const got: T[] = [];
    void promise.then((value) => got.push(value));
    this.until(() => got.length > 0);
    return got[0]!;
  }

  #request(kind: "read" | "write", at: number, value: number): { error: BlockError | null; found: number } {
    const { group, volume } = this.groups.findVolume("demo")!;
    const target = new Uint8Array(kind === "read" ? 4096 : 0);
    const answers: (BlockError | null)[] = [];
    new VolumeTarget(group, volume.number, "demo", false).submit({
      kind,
      startLba: at / 512,
      blockCount: kind === "read" ? 8 : stepBytes / 512,
      payload: kind === "write" ? [new Uint8Array(stepBytes).fill(value)] : [],
      target,
      keepAllocated: false,
      atomic: false,
      miscompareOffset: 0,
      extents: [],
      error: null,
      onDone: ({ error }) => void answers.push(error),
    });
    this.until(() => answers.length > 0);
    return { error: answers[0]!, found: target[0]! };
  }

  /** The whole volume, acknowledged and at home. */
  fill(value: number): void {
    for (let at = 0; at < volumeBytes; at += stepBytes) assert.is(this.#request("write", at, value).error, null);
    const { group } = this.groups.findVolume("demo")!;
    const { log } = group;
    this.until(() => log.destagedSeq === log.commitSeq && group.queue.idle);
  }

  /** Of one block in 64 KiB: what it holds, or -1 for a medium error. */
  values(): Set<number> {
    const found = new Set<number>();
    for (let at = 0; at < volumeBytes; at += 65536) {
      const read = this.#request("read", at, 0);
      if (read.error !== null) assert.is(read.error, "medium-error");
      found.add(read.error === null ? read.found : -1);
    }
    return found;
  }

  image(slot: number): MediumImage {
    return this.shelf.disk(slot).medium.image();
  }

  /** `demo` was full of 1, and is full of 2; the disks in `slots` are as they were in between. */
  static withStale(seed: number, slots: readonly number[]): Bench {
    const bench = new Bench(seed);
    assert.is(bench.start(), null);
    const made = bench.answer(
      bench.control.volumes.create({ name: "demo", sizeBytes: volumeBytes, group: null, pool: null }),
    );
    assert.ok(made.ok);
    bench.fill(1);
    bench.appliance.crash();
    const images = slots.map((slot) => bench.image(slot));
    assert.is(bench.start(), null);
    bench.fill(2);
    bench.appliance.crash();
    for (const [index, slot] of slots.entries()) bench.shelf.disk(slot).medium.restore(images[index]!);
    return bench;
  }
}

test("a stale disk, and no word of the operator -> refused as often as it is started, with the command; nothing is changed", () => {
  const bench = Bench.withStale(1, [2]);
  const before = [0, 1, 2].map((slot) => bench.image(slot));
  for (let round = 0; round < 3; round++) {
    const text = bench.start() ?? "";
    assert.match(text, /shelf0\/2 is stale \(last used at opening \d+, the pool is at \d+\)/);
    assert.match(text, /start once with --accept-stale-disk/);
  }
  // A page's buffer is never changed: a write makes another one.
  for (const [slot, { pages }] of before.entries())
    for (const [page, bytes] of bench.image(slot).pages)
      assert.ok(pages.get(page) === bytes, `page ${page} of ${slot}`);
});

test("on the operator's word -> started; nothing is shown until he goes on without what is missing, which is a medium error", () => {
  const bench = Bench.withStale(2, [2]);
  assert.is(bench.start(true), null);
  assert.ok(bench.events.some((event) => event.startsWith("disk-stale: shelf0/2: ")));
  const status = () => bench.groups.find("demo")!.replication.status();
  assert.is(bench.groups.find("demo")!.group.serving().readable, null);
  assert.is(status().state, "inconsistent");
  bench.appliance.crash();
  assert.is(bench.start(), null, "the word is needed once");
  assert.is(status().state, "inconsistent", "a restart makes nothing of it good");
  const served = bench.answer(bench.control.groups.serveAlone("demo", { timeoutMs: 10_000 }));
  assert.ok(served.ok, served.ok ? "" : served.error.text);
  assert.equal([...bench.values()].sort(), [-1, 2], "never what it was before");
  bench.fill(3);
  assert.equal([...bench.values()], [3]);
});

test("the appliance dies at any point of that start -> the disk is stale as before, or the image is known to lack something", () => {
  for (let round = 0; round < 16; round++) {
    const bench = Bench.withStale(3 + round, [2]);
    const outcome = bench.start(true, 2 + round * 0.6);
    if (outcome === null) continue;
    assert.is(outcome, "died");
    const again = bench.start();
    if (again !== null) assert.match(again, /--accept-stale-disk/);
    else assert.is(bench.groups.find("demo")!.replication.status().state, "inconsistent");
  }
});

test("all disks with the pool's metadata are stale -> refused, whatever the word", () => {
  const bench = Bench.withStale(50, [0, 1]);
  for (const word of [false, true]) assert.match(bench.start(word) ?? "", /up to date/);
});

test("a group's bitmaps were on the stale disk -> it alone is left out, and can be given up for what its peer has", () => {
  const bench = Bench.withStale(60, [0]);
  assert.is(bench.start(true), null);
  const damaged = () => bench.groups.damaged;
  assert.is(damaged().length, 1);
  assert.is(bench.groups.find("demo"), null);
  const text = bench.control.status().warnings.find(({ code }) => code === "group-damaged")?.text ?? "";
  assert.match(text, /goldcopy group delete [0-9a-f]{32}$/);
  bench.appliance.crash();
  assert.is(bench.start(), null, "the word is needed once");
  assert.is(damaged().length, 1);
  assert.ok(bench.answer(bench.control.groups.delete(damaged()[0]!.id)).ok);
  const made = bench.answer(
    bench.control.volumes.create({ name: "demo", sizeBytes: volumeBytes, group: null, pool: null }),
  );
  assert.ok(made.ok, "the name is free again");
  bench.fill(4);
  assert.equal([...bench.values()], [4]);
});

test.run();
