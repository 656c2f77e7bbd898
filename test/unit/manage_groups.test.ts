import { suite } from "uvu";
import * as assert from "uvu/assert";
import { startAppliance } from "../../firmware/appliance.ts";
import type { Control, Result } from "../../firmware/manage/control.ts";
import { ExportRegistry } from "../../firmware/manage/exports.ts";
import type { GroupRegistry } from "../../firmware/manage/groups.ts";
import type { HostRegistry } from "../../firmware/manage/hosts.ts";
import { goldenDocument } from "../../firmware/mirror/document.ts";
import type { BlockError, BlockTarget } from "../../firmware/volume/block_request.ts";
import { VolumeTarget } from "../../firmware/volume/volume_target.ts";
import type { MockShelf } from "../../hal/mock/shelf.ts";
import { World } from "../../hal/mock/world.ts";

const test = suite("manage_groups");

const MiB = 1024 * 1024;

/** One appliance with a real pool and no peers, on simulated hardware. */
class Bench {
  readonly world: World;
  readonly events: string[] = [];
  control!: Control;
  groups!: GroupRegistry;
  readonly appliance;
  readonly shelf: MockShelf;

  constructor(seed: number) {
    this.world = new World({ seed });
    const shelf = this.world.addShelf({ name: "shelf0", slots: [100 * MiB] });
    this.shelf = shelf;
    this.appliance = this.world.addAppliance({
      name: "oak-a",
      cache: { sizeBytes: 4 * MiB + 65536, domain: "battery" },
      shelves: [shelf],
      hbaPorts: [{ name: "hba0", address: "oak-a:10809", protocol: "nbd" }],
      nics: [{ name: "nic0", address: "oak-a:7400" }],
    });
    this.start();
  }

  start(): void {
    let started = false;
    this.appliance.start((hal) => {
      const events = { emit: (code: string, text: string) => void this.events.push(`${code}: ${text}`) };
      const config = {
        array: { name: "oak", appliance: "oak-a" },
        peers: [],
        link: { heartbeatMs: 200, peerTimeoutMs: 1000 },
        store: { slabBytes: MiB, logSlotBytes: 262144, mapCacheBytes: MiB },
      };
      void startAppliance({ hal, config, events, version: "test" }).then((outcome) => {
        assert.ok(outcome.ok, outcome.ok ? "" : outcome.text);
        if (!outcome.ok) return;
        this.control = outcome.control;
        this.groups = outcome.groups;
        started = true;
      });
    });
    this.until(() => started);
  }

  until(condition: () => boolean, limitMs = 60_000): void {
    assert.ok(this.world.runUntil(condition, limitMs), `it comes about; events: ${this.events.join("; ")}`);
  }

  result<T>(command: Promise<Result<T>>): Result<T> {
    let result: Result<T> | null = null;
    void command.then((one) => (result = one));
    this.until(() => result !== null);
    return result!;
  }

  succeed<T>(command: Promise<Result<T>>): T {
    const result = this.result(command);
    assert.ok(result.ok, result.ok ? "" : result.error.text);
    return (result as { ok: true; value: T }).value;
  }

  volume(name: string): BlockTarget {
    this.succeed(this.control.volumes.create({ name, sizeBytes: 4 * MiB, group: null, pool: null }));
    return this.open(name);
  }

  open(name: string): BlockTarget {
    const { group, volume } = this.groups.findVolume(name)!;
    const target = new VolumeTarget(group, volume.number, name, false);
    group.addTarget(target);
    return target;
  }

  write(target: BlockTarget, startLba: number, blockCount: number, value: number): () => BlockError | null | undefined {
    let answer: BlockError | null | undefined;
    target.submit({
      kind: "write",
      startLba,
      blockCount,
      payload: [new Uint8Array(blockCount * 512).fill(value)],
      target: new Uint8Array(0),
      keepAllocated: false,
      atomic: false,
      miscompareOffset: 0,
      extents: [],
      error: null,
      onDone: (request) => (answer = request.error),
    });
    return () => answer;
  }

  read(target: BlockTarget, startLba: number): number {
    const bytes = new Uint8Array(4096);
    let done = false;
    target.submit({
      kind: "read",
      startLba,
      blockCount: 8,
      payload: [],
      target: bytes,
      keepAllocated: false,
      atomic: false,
      miscompareOffset: 0,
      extents: [],
      error: null,
      onDone: () => (done = true),
    });
    this.until(() => done);
    return bytes[0]!;
  }
}

test("the battery comes and goes at any moment, over several groups -> write-back only with a good battery, and all is there after", () => {
  for (let seed = 1; seed <= 6; seed++) {
    const bench = new Bench(seed);
    const prng = bench.world.prng("test");
    const names = ["one", "two", "three"];
    const targets = names.map((name) => bench.volume(name));
    const written = names.map(() => 0);
    for (let round = 1; round <= 20; round++) {
      if (prng.chance(0.5)) bench.appliance.nvram.failBattery();
      else bench.appliance.nvram.repairBattery();
      bench.world.runUntil(() => false, prng.below(4));
      const failed = bench.appliance.nvram.battery === "failed";
      for (const group of bench.groups.all()) {
        assert.ok(
          !failed || group.writeThrough.active,
          `seed ${seed}, round ${round}: ${group.name} is in write-through`,
        );
      }
      const at = prng.below(names.length);
      const answer = bench.write(targets[at]!, 0, 8, round);
      if (prng.chance(0.5)) bench.until(() => answer() !== undefined);
      if (answer() === null) written[at] = round;
    }
    bench.appliance.nvram.repairBattery();
    bench.until(() => bench.groups.cacheHealthy && bench.groups.all().every((group) => !group.writeThrough.active));
    names.forEach((name, at) => {
      assert.ok(bench.read(bench.open(name), 0) >= written[at]!);
    });
  }
});

test("a group is deleted while its writes go home -> it is gone, and the others' data is as it was", () => {
  for (let seed = 1; seed <= 6; seed++) {
    const bench = new Bench(seed);
    const keep = bench.volume("keep");
    const gone = bench.volume("gone");
    const prng = bench.world.prng("test");
    const kept = bench.write(keep, 0, 8, 5);
    if (prng.chance(0.5)) bench.appliance.nvram.failBattery();
    for (let at = 0; at < 6; at++) bench.write(gone, 512 * at, 512, 9);
    const entry = bench.groups.find("gone")!;
    entry.group.destager.kick();
    bench.world.runUntil(() => false, prng.below(3));
    bench.succeed(bench.groups.remove(entry));
    bench.until(() => kept() === null);
    const again = bench.volume("again");
    const answers = [0, 1, 2, 3].map((at) => bench.write(again, 512 * at, 512, 3));
    bench.until(() => answers.every((answer) => answer() !== undefined));
    assert.ok(answers.every((answer) => answer() === null));
    assert.is(bench.groups.find("gone"), null);
    bench.appliance.nvram.repairBattery();
    bench.appliance.crash();
    bench.start();
    assert.is(bench.read(bench.open("keep"), 0), 5);
    assert.is(bench.read(bench.open("again"), 0), 3);
    assert.is(bench.groups.find("gone"), null);
  }
});

test("a group's home takes nothing any more and its host goes on writing -> another group's writes are answered", () => {
  const bench = new Bench(11);
  const stuck = bench.volume("stuck");
  const well = bench.volume("well");
  bench.groups.find("stuck")!.group.destager.close();
  const held = Array.from({ length: 64 }, (_, at) => bench.write(stuck, (at % 16) * 512, 512, 1 + at));
  bench.world.runUntil(() => false, 5000);
  assert.ok(
    held.some((answer) => answer() === undefined),
    "the stuck group has filled all that it may borrow",
  );
  const { nvram, list } = bench.groups.find("well")!.group.log;
  assert.ok(list.segments.length + nvram.freeSegments >= 4, "half of the 16 segments is shared out to the two");
  for (let round = 1; round <= 40; round++) {
    const answer = bench.write(well, (round % 16) * 512, 512, round);
    bench.until(() => answer() !== undefined);
    assert.is(answer(), null);
  }
});

test("more groups than the cache has room for -> the next one is refused, and says why", () => {
  const bench = new Bench(12);
  const groupsMax = 4;
  for (let at = 0; at < groupsMax; at++) bench.succeed(bench.control.groups.create({ name: `group-${at}` }));
  const refused = bench.result(bench.control.groups.create({ name: "one-more" }));
  assert.match(refused.ok ? "" : refused.error.text, /write cache has room for 4 groups/);
});

test("a group's root is damaged -> the others serve, it is shown, kept as it is, and can be given up", () => {
  const bench = new Bench(13);
  const kept = bench.volume("kept");
  bench.volume("damaged");
  const { id } = bench.groups.find("damaged")!.group;
  const answer = bench.write(kept, 0, 8, 7);
  bench.until(() => answer() !== undefined);
  bench.appliance.crash();
  // Every page of metadata that knows the group by its name: both copies of its root.
  const { medium } = bench.shelf.disk(0);
  const page = new Uint8Array(4096);
  for (let at = 0; at < 8 * MiB; at += page.byteLength) {
    medium.read(at, page);
    if (Buffer.from(page).includes("damaged")) medium.write(at, page.fill(0x55), "test");
  }
  bench.start();
  assert.is(bench.groups.find("damaged"), null);
  const warnings = () => bench.control.status().warnings.filter(({ code }) => code === "group-damaged");
  assert.is(warnings().length, 1);
  assert.match(warnings()[0]!.text, new RegExp(`goldcopy group delete ${id}`));
  assert.is(bench.read(bench.open("kept"), 0), 7);
  bench.appliance.crash();
  bench.start();
  assert.is(warnings().length, 1);
  bench.succeed(bench.control.groups.delete(id));
  assert.is(warnings().length, 0);
  bench.appliance.crash();
  bench.start();
  assert.is(warnings().length, 0);
  assert.is(bench.read(bench.open("kept"), 0), 7);
});

test("a peer asks for a group that is just being deleted -> refused, and the appliance lives on", () => {
  const bench = new Bench(14);
  const target = bench.volume("gone");
  const entry = bench.groups.find("gone")!;
  for (let at = 0; at < 6; at++) bench.write(target, 512 * at, 512, 9);
  bench.until(() => entry.group.log.commitSeq > 0);
  entry.group.destager.kick();
  assert.not(entry.group.queue.idle, "its writes are on the way home");
  const golden = { id: entry.group.id, replication: goldenDocument("elm", "async") };
  const removing = bench.groups.remove(entry);
  bench.until(() => bench.groups.find("gone") === null);
  const meanwhile = bench.result(bench.groups.create("gone", golden));
  assert.is(meanwhile.ok ? null : meanwhile.error.code, "busy");
  bench.succeed(removing);
  const back = bench.succeed(bench.groups.create("gone", golden));
  assert.is(back.replication.status().role, "golden");
});

test("a peer's golden copy has a volume of the name of one that is served here -> hosts find the one that is served here", () => {
  const bench = new Bench(15);
  bench.succeed(bench.control.groups.create({ name: "zeta" }));
  bench.succeed(bench.control.volumes.create({ name: "db", sizeBytes: MiB, group: "zeta", pool: null }));
  const golden = { id: "ab".repeat(16), replication: goldenDocument("elm", "async") };
  const { group } = bench.succeed(bench.groups.create("alpha", golden));
  // What the peer's stream would bring.
  let created = false;
  group.log.commitAllDurable();
  group.admission.open();
  const volume = { number: 1, uuid: "f".repeat(32), name: "db", sizeBytes: MiB };
  group.changeVolumes({ op: "create", volume }, () => (created = true));
  bench.until(() => created);
  assert.is(bench.groups.findVolume("db")!.group.name, "zeta");
  const exportsTable = new ExportRegistry({
    groups: bench.groups,
    hosts: bench.control.hosts as HostRegistry,
    goldenAccess: "read-only",
    isReserved: () => false,
  });
  bench.succeed(bench.control.hosts.add({ name: "any", any: true, addresses: [], iqns: [], tlsNames: [] }));
  bench.succeed(bench.control.hosts.map("any", { volume: "db", lun: null, readOnly: false }));
  const listed = exportsTable.list({ remote: "h:1", iqn: null, tlsName: null });
  assert.equal(
    listed.map(({ description }) => description),
    ["volume of group zeta"],
  );
  assert.is(bench.groups.volumesByName().get("db")!.group.name, "zeta");
  let looks = 0;
  const findVolume = bench.groups.findVolume.bind(bench.groups);
  bench.groups.findVolume = (name) => {
    looks++;
    return findVolume(name);
  };
  assert.is(exportsTable.all().length, 1);
  assert.is(looks, 0, "thousands of volumes are not looked for one by one");
  assert.ok(bench.control.status().warnings.some(({ code, text }) => code === "volume-name-twice" && /db/.test(text)));
});

test("a block cannot be read and is written in part -> it stays a medium error until written whole, and the group goes on", () => {
  const bench = new Bench(16);
  const target = bench.volume("demo");
  const { group } = bench.groups.find("demo")!;
  const { log } = group;
  const home = () => bench.until(() => log.destagedSeq === log.headSeq && group.queue.idle);
  const answered = (write: () => BlockError | null | undefined) => {
    bench.until(() => write() !== undefined);
    assert.is(write(), null);
  };
  answered(bench.write(target, 0, 24, 0x5a));
  home();
  const { medium } = bench.shelf.disk(0);
  const page = new Uint8Array(4096);
  for (let at = 0, found = 0; at < 100 * MiB && found < 1; at += page.byteLength) {
    medium.read(at, page);
    if (page[0] !== 0x5a || page[4095] !== 0x5a) continue;
    page[77] = 0;
    medium.write(at, page, "test");
    found++;
  }
  answered(bench.write(target, 3, 1, 0x11));
  home();
  const errorAt = (lba: number) => {
    let answer: BlockError | null | undefined;
    const bytes = new Uint8Array(4096);
    target.submit({
      kind: "read",
      startLba: lba,
      blockCount: 8,
      payload: [],
      target: bytes,
      keepAllocated: false,
      atomic: false,
      miscompareOffset: 0,
      extents: [],
      error: null,
      onDone: ({ error }) => (answer = error),
    });
    bench.until(() => answer !== undefined);
    return answer;
  };
  assert.is(errorAt(0), "medium-error");
  assert.is(errorAt(8), null);
  assert.ok(bench.events.some((event) => event.startsWith("block-unreadable: ")));
  answered(bench.write(target, 0, 8, 0x22));
  home();
  assert.is(bench.read(target, 0), 0x22);
});

test("a volume goes with its group, or by a record of the log -> hosts keep no access to the name", () => {
  const bench = new Bench(14);
  bench.volume("first");
  bench.volume("second");
  bench.succeed(bench.control.hosts.add({ name: "any", any: true, addresses: [], iqns: [], tlsNames: [], chap: null }));
  for (const volume of ["first", "second"])
    bench.succeed(bench.control.hosts.map("any", { volume, lun: null, readOnly: false }));
  const mapped = () => bench.control.hosts.list().flatMap(({ mappings }) => mappings.map(({ volume }) => volume));
  assert.equal(mapped(), ["first", "second"]);
  bench.succeed(bench.groups.remove(bench.groups.find("first")!));
  bench.until(() => mapped().length === 1);
  const { group, volume } = bench.groups.findVolume("second")!;
  group.changeVolumes({ op: "delete", number: volume.number }, () => {});
  bench.until(() => mapped().length === 0);
});

test("one name is asked for twice at once -> one volume", () => {
  const bench = new Bench(9);
  bench.succeed(bench.control.groups.create({ name: "demo" }));
  const volume = { name: "twice", sizeBytes: MiB, group: "demo", pool: null };
  const first = bench.control.volumes.create(volume);
  const second = bench.control.volumes.create(volume);
  assert.ok(bench.result(first).ok);
  const refused = bench.result(second);
  assert.is(refused.ok ? null : refused.error.code, "exists");
  assert.is(bench.groups.find("demo")!.group.volumes().length, 1);
});

test.run();
