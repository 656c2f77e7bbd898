/** The root of a group has 128 KiB for everything: what grows in it never keeps acknowledged data from going home. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { startAppliance } from "../../firmware/appliance.ts";
import type { StoreError } from "../../firmware/store/store.ts";
import type { Group } from "../../firmware/volume/group.ts";
import { VolumeTarget } from "../../firmware/volume/volume_target.ts";
import { World } from "../../hal/mock/world.ts";

const test = suite("volume_root_room");
const MiB = 1024 * 1024;

/** One appliance with a group and a volume, all real but for the hardware. */
function bench(seed: number) {
  const world = new World({ seed });
  const appliance = world.addAppliance({
    name: "oak-a",
    cache: { sizeBytes: 4 * MiB + 65536, domain: "battery" },
    shelves: [world.addShelf({ name: "shelf0", slots: [100 * MiB] })],
    hbaPorts: [],
    nics: [],
  });
  const found: { group: Group | null } = { group: null };
  const until = (condition: () => boolean) => assert.ok(world.runUntil(condition, 60_000), "it comes about");
  appliance.start((hal) => {
    const config = {
      array: { name: "oak", appliance: "oak-a" },
      peers: [],
      link: { heartbeatMs: 200, peerTimeoutMs: 1000 },
      store: { slabBytes: MiB, logSlotBytes: 262144, mapCacheBytes: MiB },
    };
    void startAppliance({ hal, config, events: { emit: () => {} }, version: "test" }).then(async (outcome) => {
      assert.ok(outcome.ok);
      if (!outcome.ok) return;
      await outcome.control.volumes.create({ name: "demo", sizeBytes: 4 * MiB, group: null, pool: null });
      found.group = outcome.groups.find("demo")!.group;
    });
  });
  until(() => found.group !== null);
  const group = found.group!;
  const forkHere = (id: string): StoreError | null => {
    let answer: StoreError | null | undefined;
    group.forkHere(id, (error) => (answer = error));
    until(() => answer !== undefined);
    return answer!;
  };
  const writeHome = () => {
    let answer: string | null | undefined;
    new VolumeTarget(group, 1, "demo", false).submit({
      kind: "write",
      startLba: 0,
      blockCount: 8,
      payload: [new Uint8Array(4096).fill(5)],
      target: new Uint8Array(0),
      keepAllocated: false,
      atomic: false,
      miscompareOffset: 0,
      extents: [],
      error: null,
      onDone: ({ error }) => (answer = error),
    });
    until(() => answer !== undefined);
    assert.is(answer, null);
    until(() => group.log.destagedSeq === group.log.headSeq && group.queue.idle);
  };
  const openings = (count: number) => {
    for (let opening = 0; opening < count; opening++) {
      let opened = false;
      group.openForWriting((error) => {
        assert.is(error, null);
        opened = true;
      });
      until(() => opened);
    }
  };
  return { group, openings, forkHere, writeHome };
}

test("hundreds of openings -> forks are still taken, and writes go home", () => {
  const { openings, forkHere, writeHome } = bench(1);
  openings(500);
  for (const id of ["kept", "salvage-1", "salvage-2", "verify-1"]) assert.is(forkHere(id), null);
  writeHome();
});

test("forks without end -> one is refused, changes nothing, and writes go home as before", () => {
  const { group, openings, forkHere, writeHome } = bench(2);
  openings(40);
  let refused: StoreError | null = null;
  for (let count = 0; refused === null; count++) {
    assert.ok(count < 4000, "there is an end");
    refused = forkHere(`salvage-${count}`);
    if (refused !== null) assert.ok(count >= 16, `after ${count}`);
  }
  assert.is(refused.code, "no-space");
  const { length } = group.forks();
  writeHome();
  assert.is(group.forks().length, length);
});

test.run();
