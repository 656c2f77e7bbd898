/** The newest copy of metadata is damaged, or the disk is an older image: what an older copy says is never taken for the present. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { VolumeTarget } from "../../firmware/volume/volume_target.ts";
import type { PersistenceDomain } from "../../hal/api/write_cache.ts";
import { ShelfBench } from "./support/shelf_bench.ts";

const test = suite("manage_stale_metadata");
const MiB = 1024 * 1024;
const slotMagic = 0x52534347;

class Bench extends ShelfBench {
  constructor(seed: number, domain: PersistenceDomain) {
    super(seed, [100 * MiB], domain);
  }

  volume(name: string): void {
    const { volumes } = this.control;
    assert.ok(this.answer(volumes.create({ name, sizeBytes: 4 * MiB, group: null, pool: null })).ok);
  }

  #request(volume: string, kind: "read" | "write", value: number, blockCount = 8): number {
    const found = this.groups.findVolume(volume)!;
    const target = new Uint8Array(kind === "read" ? 4096 : 0);
    let answered = false;
    new VolumeTarget(found.group, found.volume.number, volume, false).submit({
      kind,
      startLba: 0,
      blockCount,
      payload: kind === "write" ? [new Uint8Array(blockCount * 512).fill(value)] : [],
      target,
      keepAllocated: false,
      atomic: false,
      miscompareOffset: 0,
      extents: [],
      error: null,
      onDone: ({ error }) => {
        assert.is(error, null);
        answered = true;
      },
    });
    this.until(() => answered);
    return target[0] ?? 0;
  }

  /** Acknowledged, at home, and gone from the log. */
  writeHome(volume: string, value: number, blockCount = 8): void {
    this.#request(volume, "write", value, blockCount);
    const { group } = this.groups.findVolume(volume)!;
    const { log } = group;
    this.until(() => log.destagedSeq === log.commitSeq && group.queue.idle);
  }

  read(volume: string): number {
    return this.#request(volume, "read", 0);
  }

  /** Garbles the newest whole slot of this owner: 0 is the pool's document, others are groups in the order of their creation. */
  damageNewest(owner: number): void {
    const { medium } = this.shelf.disk(0);
    const page = new Uint8Array(4096);
    const view = new DataView(page.buffer);
    let newest = { at: -1, generation: -1 };
    for (let at = 0; at < 8 * MiB; at += page.byteLength) {
      medium.read(at, page);
      if (view.getUint32(4, true) !== slotMagic || view.getUint32(12, true) !== owner) continue;
      const generation = view.getUint32(24, true);
      if (generation > newest.generation) newest = { at, generation };
    }
    assert.ok(newest.at >= 0, "there is such a slot");
    medium.read(newest.at, page);
    view.setUint8(100, view.getUint8(100) ^ 0x40);
    medium.write(newest.at, page, "test");
  }
}

for (const domain of ["battery", "flush"] as const) {
  test(`the newest root of a group is damaged (${domain}) -> the group is never shown as it was before`, () => {
    const bench = new Bench(1, domain);
    assert.is(bench.start(), null);
    bench.volume("kept");
    bench.volume("demo");
    for (let value = 1; value <= 4; value++) bench.writeHome("demo", value, 7 * 512);
    bench.writeHome("kept", 7);
    bench.appliance.crash();
    bench.damageNewest(2);
    assert.is(bench.start(), null);
    const { group, replication } = bench.groups.find("demo")!;
    assert.is(group.serving().readable, null);
    assert.is(group.serving().writable, false);
    assert.is(replication.status().state, "inconsistent");
    assert.ok(bench.events.some((event) => event.startsWith("root-stale: group demo: its root on the shelf is older")));
    assert.is(bench.read("kept"), 7);
    bench.appliance.crash();
    assert.is(bench.start(), null);
    assert.is(bench.groups.find("demo")!.group.serving().readable, null, "a restart makes nothing of it good");
  });

  test(`the pool's newest document is damaged (${domain}) -> the start is refused: no group and no host disappears`, () => {
    const bench = new Bench(2, domain);
    assert.is(bench.start(), null);
    bench.volume("kept");
    bench.volume("demo");
    bench.writeHome("demo", 9);
    bench.appliance.crash();
    bench.damageNewest(0);
    assert.match(bench.start() ?? "", /older than what was last written/);
    bench.appliance.crash();
    assert.is(bench.start({ acceptCacheLoss: true }), null, "unless the operator believes it");
  });
}

test("nothing is damaged -> everything is served, over many deaths and starts", () => {
  const bench = new Bench(3, "battery");
  assert.is(bench.start(), null);
  bench.volume("demo");
  for (let value = 1; value <= 10; value++) {
    bench.writeHome("demo", value);
    bench.appliance.crash();
    assert.is(bench.start(), null);
    assert.is(bench.read("demo"), value);
  }
});

test.run();
