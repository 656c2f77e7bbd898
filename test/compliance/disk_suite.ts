/** hal/api/shelf.ts. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { Disk, DiskError } from "../../hal/api/shelf.ts";
import { diskBytes, type HalBench, type Machine, outcomeOf, pattern, sameBytes } from "./bench.ts";

export function diskSuite(name: string, newBench: () => Promise<HalBench>): void {
  const test = suite(`${name}: shelf`);
  let bench: HalBench;
  let machine: Machine;
  test.before.each(async () => {
    bench = await newBench();
    machine = await bench.open({ appliance: "oak-a", persistence: "battery" });
  });
  test.after.each(async () => {
    await bench.close();
  });

  const disk = (slot = 0): Disk => machine.hal.shelves[0]!.disks[slot]!;
  const outcome = (what: string, start: (done: (error: DiskError | null) => void) => void) =>
    outcomeOf<DiskError | null>(bench, what, (done) => {
      let isInCall = true;
      start((error) => {
        assert.not(isInCall, `${what}: done from inside the call`);
        done(error);
      });
      isInCall = false;
    });
  const write = (offset: number, ...sources: Uint8Array[]) =>
    outcome("write", (done) => disk().write(offset, sources, done));
  const flush = () => outcome("flush", (done) => disk().flush(done));
  const read = async (offset: number, length: number, from = disk()) => {
    const target = new Uint8Array(length).fill(0xee);
    assert.is(await outcome("read", (done) => from.read(offset, target, done)), null);
    return target;
  };

  test("a shelf is opened -> its name, its disks by slot with place and size, null where there is none", () => {
    const shelf = machine.hal.shelves[0]!;
    assert.is(shelf.name, "shelf0");
    assert.is(shelf.disks.length, 3);
    assert.is(disk(0).place, "shelf0/0");
    assert.is(disk(1).place, "shelf0/1");
    assert.is(disk(0).sizeBytes, diskBytes);
    assert.is(shelf.disks[2], null);
    assert.ok(["atomic", "power", "none"].includes(shelf.fencing));
  });

  test("a new disk -> reads as zeros to its end", async () => {
    assert.not((await read(0, 65536)).some((byte) => byte !== 0));
    assert.not((await read(diskBytes - 4096, 4096)).some((byte) => byte !== 0));
  });

  test("blocks are written -> they are read back, from this disk alone, also at its end", async () => {
    const data = pattern(40_960, 1);
    assert.is(await write(8192, data), null);
    assert.is(await write(diskBytes - 4096, data.subarray(0, 4096)), null);
    sameBytes(await read(8192, 40_960), data, "the whole");
    sameBytes(await read(12_288, 4096), data.subarray(4096, 8192), "a part");
    sameBytes(await read(diskBytes - 4096, 4096), data.subarray(0, 4096), "the last block");
    assert.not((await read(8192, 40_960, disk(1))).some((byte) => byte !== 0));
  });

  test("many sources of odd lengths -> written one behind the other", async () => {
    const data = pattern(2 * 1024 * 1024, 2);
    const sources: Uint8Array[] = [];
    for (let offset = 0, length = 1; offset < data.byteLength; length = ((length * 31) % 2003) + 1) {
      sources.push(data.subarray(offset, Math.min(offset + length, data.byteLength)));
      offset += length;
    }
    assert.ok(sources.length > 1100, "more than one system call takes");
    assert.is(await write(4096, ...sources), null);
    sameBytes(await read(4096, data.byteLength), data, "what was written");
  });

  test("many operations at once -> each ends once, each block has its own bytes", async () => {
    const count = 64;
    const errors: (DiskError | null)[] = [];
    for (let index = 0; index < count; index++) {
      disk().write(index * 8192, [pattern(8192, index + 1)], (error) => errors.push(error));
    }
    await bench.until("all writes", () => errors.length >= count);
    assert.equal(errors, new Array(count).fill(null));
    const targets = Array.from({ length: count }, () => new Uint8Array(8192));
    let readCount = 0;
    for (const [index, target] of targets.entries()) {
      disk().read(index * 8192, target, (error) => {
        assert.is(error, null);
        readCount++;
      });
    }
    await bench.until("all reads", () => readCount >= count);
    for (const [index, target] of targets.entries()) sameBytes(target, pattern(8192, index + 1), `block ${index}`);
  });

  test("written and flushed, the process dies -> all is there", async () => {
    const data = pattern(1024 * 1024, 3);
    assert.is(await write(1024 * 1024, data), null);
    assert.is(await flush(), null);
    await machine.restart();
    sameBytes(await read(1024 * 1024, data.byteLength), data, "after the restart");
  });

  test("written but not flushed, the process alone dies -> all is there", async () => {
    const data = pattern(65_536, 4);
    assert.is(await write(0, data), null);
    await machine.restart();
    sameBytes(await read(0, data.byteLength), data, "after the restart");
  });

  test("flushes are called together, and within each other's done -> each is done once", async () => {
    const done: string[] = [];
    disk().write(0, [pattern(4096, 5)], () => {});
    disk().flush((error) => {
      assert.is(error, null);
      done.push("first");
      disk().flush(() => done.push("inner"));
    });
    disk().flush(() => done.push("second"));
    await bench.until("all", () => done.length >= 3);
    assert.equal([...done].sort(), ["first", "inner", "second"]);
  });

  test("tryRead -> either false, or exactly the bytes that read gives", async () => {
    const data = pattern(65_536, 6);
    assert.is(await write(0, data), null);
    for (const [offset, length] of [
      [0, 4096],
      [4096, 16_384],
      [0, 65_536],
      [diskBytes - 4096, 4096],
    ] as const) {
      const target = new Uint8Array(length);
      if (disk().tryRead(offset, target)) sameBytes(target, await read(offset, length), `${length} at ${offset}`);
    }
  });

  test("a range is discarded -> done; its neighbours stay, and it can be written again", async () => {
    const data = pattern(3 * 65_536, 7);
    assert.is(await write(0, data), null);
    assert.is(await outcome("discard", (done) => disk().discard(65_536, 65_536, done)), null);
    sameBytes(await read(0, 65_536), data.subarray(0, 65_536), "before");
    sameBytes(await read(131_072, 65_536), data.subarray(131_072), "behind");
    assert.is(await write(65_536, data.subarray(0, 65_536)), null);
    sameBytes(await read(65_536, 65_536), data.subarray(0, 65_536), "written again");
  });

  test("a disk is pulled -> every operation fails, tryRead gives nothing, other disks go on; put back -> it reads", async () => {
    const data = pattern(4096, 8);
    assert.is(await write(0, data), null);
    machine.setDiskFault("shelf0/0", true);
    const target = new Uint8Array(4096);
    for (const error of [
      await write(4096, data),
      await outcome("read", (done) => disk().read(0, target, done)),
      await outcome("flush", (done) => disk().flush(done)),
      await outcome("discard", (done) => disk().discard(0, 4096, done)),
    ]) {
      assert.is(error?.code, "absent");
      assert.ok(error?.text.includes("shelf0/0"), error?.text);
    }
    assert.not(disk().tryRead(0, target));
    await read(0, 4096, disk(1));
    machine.setDiskFault("shelf0/0", false);
    sameBytes(await read(0, 4096), data, "put back");
    assert.is.not(await flush(), null, "a failed flush is never retried as clean");
  });

  test.run();
}
