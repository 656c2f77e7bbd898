import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { GroupRegistry } from "../../firmware/manage/groups.ts";
import type { HostRegistry } from "../../firmware/manage/hosts.ts";
import { LunRegistry } from "../../firmware/manage/luns.ts";
import type { BlockTarget } from "../../firmware/volume/block_request.ts";

const test = suite("manage_luns");

const host = { remote: "192.0.2.7:4711", iqn: "iqn.x:1", tlsName: null };

/** One group; `mappings` are those of the host. */
class Bench {
  serving: { writable: boolean; why: string | null; readable: "head" | null } = {
    writable: true,
    why: null,
    readable: "head",
  };
  settled = true;
  volumes = [
    { number: 1, name: "data", uuid: "1".repeat(32), sizeBytes: 8192 },
    { number: 2, name: "logs", uuid: "2".repeat(32), sizeBytes: 4096 },
  ];
  mappings = [
    { volume: "logs", lun: 7, readOnly: true },
    { volume: "data", lun: 0, readOnly: false },
    { volume: "gone", lun: 1, readOnly: false },
  ];
  readonly opened: BlockTarget[] = [];

  table(goldenAccess: "none" | "read-only" = "read-only"): LunRegistry {
    const group = {
      serving: () => this.serving,
      addTarget: (target: BlockTarget) => this.opened.push(target),
      sizeOf: (number: number) => this.volumes.find((one) => one.number === number)?.sizeBytes ?? 0,
    };
    const findVolume = (name: string) => {
      const volume = this.volumes.find((one) => one.name === name);
      return volume === undefined ? null : { group, volume, replication: { settled: this.settled } };
    };
    return new LunRegistry({
      groups: { findVolume } as unknown as GroupRegistry,
      hosts: { lunMappings: () => this.mappings, onChanged: () => {} } as unknown as HostRegistry,
      goldenAccess,
    });
  }
}

test("mapped volumes -> listed ascending by LUN with their UUIDs; one that is gone is not", () => {
  const luns = new Bench().table().luns(host);
  assert.equal(luns, [
    { lun: 0, volume: "data", uuid: "1".repeat(32), readOnly: false, blockCount: 16 },
    { lun: 7, volume: "logs", uuid: "2".repeat(32), readOnly: true, blockCount: 8 },
  ]);
});

test("open -> a target of the volume's size, read-only as mapped, that ends with its group", () => {
  const bench = new Bench();
  const table = bench.table();
  const [data, logs] = table.luns(host).map((lun) => table.open(lun, host));
  if (typeof data !== "object" || typeof logs !== "object") throw new Error("not open");
  assert.equal([data.readOnly(), data.blockCount()], [false, 16]);
  assert.equal([logs.readOnly(), logs.blockCount()], [true, 8]);
  assert.equal(bench.opened, [data, logs]);
});

test("volume replaced by another of its name, or no longer mapped -> unknown", () => {
  const bench = new Bench();
  const table = bench.table();
  const [data] = table.luns(host);
  bench.volumes[0] = { ...bench.volumes[0]!, uuid: "3".repeat(32) };
  assert.is(table.open(data!, host), "unknown");
  bench.volumes[0] = { ...bench.volumes[0]!, uuid: "1".repeat(32) };
  bench.mappings = [];
  assert.is(table.open(data!, host), "unknown");
});

test("golden copy -> listed; read-only or not ready as the profile says; not ready without a consistent image", () => {
  const bench = new Bench();
  bench.serving = { writable: false, why: "golden", readable: "head" };
  const shown = bench.table("read-only");
  const [data] = shown.luns(host);
  const target = shown.open(data!, host);
  assert.is(typeof target === "object" && target.readOnly(), true);
  assert.is(bench.table("none").luns(host).length, 2);
  assert.is(bench.table("none").open(data!, host), "not-ready");
  bench.serving = { writable: false, why: "inconsistent", readable: null };
  assert.is(shown.open(data!, host), "not-ready");
});

test("hosts may not write yet and the role is being found out -> not ready, and no golden copy", () => {
  const bench = new Bench();
  bench.serving = { writable: false, why: "starting", readable: "head" };
  bench.settled = false;
  const table = bench.table("read-only");
  const [data] = table.luns(host);
  assert.is(table.open(data!, host), "not-ready");
  bench.settled = true;
  assert.is(typeof table.open(data!, host), "object");
  bench.settled = false;
  bench.serving = { ...bench.serving, writable: true };
  assert.is(typeof table.open(data!, host), "object");
});

test.run();
