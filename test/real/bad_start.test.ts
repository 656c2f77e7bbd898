/**
 * Starts that must be refused: exit 1, one line that says what and what to do, one event, and not a byte changed of what was there.
 * Each case bends a copy of an array that was killed with an acknowledged write in its cache.
 */
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { superblockOffset } from "../../firmware/store/geometry.ts";
import { copyFile, digests, isOneLine, mebibyte, scratch, TestAppliance, wipe } from "./support/appliance.ts";
import { NbdHost } from "./support/raw_socket.ts";

interface Context {
  dir: string;
  /** Two disks. */
  oak: TestAppliance;
  /** One disk. */
  elm: TestAppliance;
}
const test = suite<Context>("bad_start");
const written = new Uint8Array(65536).fill(7);
const volume = "v";

const filesOf = (one: TestAppliance) => [one.cachePath, ...one.shape.diskBytes.map((_, slot) => one.diskPath(slot))];
const keptOf = (path: string) => `${path}.kept.log`;

async function makeArray(appliance: TestAppliance): Promise<void> {
  await appliance.start();
  await appliance.addVolume(volume, 64 * mebibyte);
  const host = await NbdHost.open(appliance.hba(), volume);
  assert.is(await host?.write(0, written), 0);
  await appliance.kill();
  host?.raw.destroy();
  for (const path of filesOf(appliance)) copyFile(path, keptOf(path));
}

function restore(appliance: TestAppliance): void {
  for (const path of filesOf(appliance)) copyFile(keptOf(path), path);
}

test.before(async (context) => {
  context.dir = scratch();
  const small = { cacheBytes: 8 * mebibyte };
  context.oak = await TestAppliance.make(join(context.dir, "oak"), {
    ...small,
    diskBytes: [256 * mebibyte, 256 * mebibyte],
  });
  context.elm = await TestAppliance.make(join(context.dir, "elm"), {
    ...small,
    array: "elm",
    name: "elm-a",
    diskBytes: [256 * mebibyte],
  });
  await Promise.all([makeArray(context.oak), makeArray(context.elm)]);
});
test.before.each(({ oak, elm }) => {
  restore(oak);
  restore(elm);
});
test.after.each(async ({ oak, elm }) => {
  await Promise.all([oak.kill(), elm.kill()]);
});
test.after(({ dir }) => wipe(dir));

interface Expected {
  readonly matches: RegExp;
  readonly profile?: string;
  readonly args?: readonly string[];
}

/** It is refused, says so once, changes nothing; undone, everything acknowledged is there. */
async function mustRefuse(appliance: TestAppliance, { matches, ...options }: Expected): Promise<void> {
  const before = digests(appliance.dir);
  const refusals = appliance.eventsOf("start-refused").length;
  const { code, err } = await appliance.refusal(options);
  assert.is(code, 1, err);
  assert.ok(isOneLine(err), err);
  assert.match(err, matches);
  assert.equal(digests(appliance.dir), before, err);
  assert.is(appliance.eventsOf("start-refused").length, refusals + 1, "one event");
}

async function mustServe(appliance: TestAppliance): Promise<void> {
  await appliance.start();
  const host = await NbdHost.open(appliance.hba(), volume);
  assert.equal(await host?.read(0, written.byteLength), Buffer.from(written));
  host?.raw.destroy();
}

function overwrite(path: string, offset: number, bytes: Uint8Array): void {
  const fd = openSync(path, "r+");
  writeSync(fd, bytes, 0, bytes.byteLength, offset);
  closeSync(fd);
}

function readAt(path: string, offset: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  const fd = openSync(path, "r");
  readSync(fd, bytes, 0, length, offset);
  closeSync(fd);
  return bytes;
}

/** Changes both superblocks of a disk; the seal is renewed when `sealed`. */
function bendSuperblocks(path: string, sealed: boolean, bend: (page: Uint8Array) => void): void {
  for (const copy of [0, 1]) {
    const page = readAt(path, superblockOffset(copy), 4096);
    bend(page);
    const seal = Bun.hash.crc32(page.subarray(4)) >>> 0;
    if (sealed) new DataView(page.buffer).setUint32(0, seal, true);
    overwrite(path, superblockOffset(copy), page);
  }
}

test("port taken, on either side of the appliance -> refused, nothing changed; free again -> serves", async ({
  oak,
}) => {
  for (const port of [oak.shape.hbaPorts[1]!, oak.shape.nicPorts[0]!]) {
    const squatter = createServer();
    await new Promise<void>((resolve) => squatter.listen(port, "127.0.0.1", resolve));
    try {
      await mustRefuse(oak, { matches: new RegExp(`(hba1|nic0): cannot listen on 127.0.0.1:${port}.*in use.*; stop`) });
    } finally {
      await new Promise((resolve) => squatter.close(resolve));
    }
  }
  await mustRefuse(oak, {
    matches: /hba0: cannot listen on 192\.0\.2\.1:\d+: this machine has no such address/,
    profile: oak.profile().replace("127.0.0.1", "192.0.2.1"),
  });
  await mustServe(oak);
});

test("the same profile twice -> the second is refused, the first goes on", async ({ oak }) => {
  await oak.start();
  const host = await NbdHost.open(oak.hba(), volume);
  const second = await TestAppliance.make(oak.dir, oak.shape);
  const { code, err } = await second.refusal();
  assert.is(code, 1);
  assert.match(err, /another appliance serves .*manage\.sock: stop it, or give this profile another \[manage\] socket/);
  assert.ok(isOneLine(err), err);
  assert.is(await host?.write(0, written), 0, "the session of the first");
  assert.ok(existsSync(oak.socket));
  // Cache and disks are guarded each on its own.
  const asideSocket = oak.profile().replace(oak.socket, `${oak.socket}2`);
  const byCache = await second.refusal({ profile: asideSocket });
  assert.is(byCache.code, 1);
  assert.match(byCache.err, /cache .*nvram: another process uses it; stop that one first/);
  const asideCache = asideSocket.replace(oak.cachePath, `${oak.cachePath}2`);
  const freePort = oak.profile().match(/listen = "127.0.0.1:\d+"/g)!;
  const asidePorts = freePort.reduce((text, line) => text.replace(line, 'listen = "127.0.0.1:0"'), asideCache);
  const byDisk = await second.refusal({ profile: asidePorts });
  assert.is(byDisk.code, 1);
  assert.match(byDisk.err, /shelf0\/0: .*another process uses it; stop that one first/);
  rmSync(`${oak.cachePath}2`);
  assert.is(await host?.write(0, written), 0);
  host?.raw.destroy();
});

test("a socket that a killed appliance left behind -> taken over; one of another program -> refused", async ({
  oak,
}) => {
  await oak.start();
  await oak.kill();
  assert.ok(existsSync(oak.socket), "SIGKILL leaves it");
  await mustServe(oak);
  await oak.kill();
  rmSync(oak.socket);
  const silent = createServer(() => {});
  await new Promise<void>((resolve) => silent.listen(oak.socket, resolve));
  restore(oak);
  await mustRefuse(oak, { matches: /another appliance serves/ });
  silent.close();
});

test("places that cannot be written -> refused, each names itself and its field", async ({ oak }) => {
  const blocker = join(oak.dir, "a-file.log");
  writeFileSync(blocker, "");
  const rows: [string, RegExp][] = [
    [oak.logPath, /a-file\.log\/x: cannot write events: .*; give the profile another \[log\] file/],
    [oak.socket, /socket .*a-file\.log\/x: .*; correct \[manage\] socket/],
    [oak.cachePath, /cache .*a-file\.log\/x: cannot open: .*; .*\[cache\] path/],
    [oak.diskPath(1), /the pool lacks a disk: shelf0\/1: .*a-file\.log\/x: cannot open: .*; put back/],
  ];
  for (const [path, matches] of rows) {
    const before = digests(oak.dir);
    const { code, err } = await oak.refusal({ profile: oak.profile().replace(`"${path}"`, `"${blocker}/x"`) });
    assert.is(code, 1, err);
    assert.ok(isOneLine(err), err);
    assert.match(err, matches);
    assert.equal(digests(oak.dir), before, path);
  }
});

test("a disk is missing, or the whole shelf -> refused by name, no new one is made; put back -> serves", async ({
  oak,
}) => {
  for (const slot of [0, 1]) {
    const away = `${oak.diskPath(slot)}.away`;
    renameSync(oak.diskPath(slot), away);
    await mustRefuse(oak, {
      matches: new RegExp(`the pool lacks a disk: shelf0/${slot}: .*no such file.*; put back what was there`),
    });
    assert.not(existsSync(oak.diskPath(slot)));
    renameSync(away, oak.diskPath(slot));
  }
  for (const slot of [0, 1]) renameSync(oak.diskPath(slot), `${oak.diskPath(slot)}.away`);
  await mustRefuse(oak, { matches: /shelf0\/0: .*no such file.*shelf0\/1: .*no such file.*; put back/ });
  for (const slot of [0, 1]) renameSync(`${oak.diskPath(slot)}.away`, oak.diskPath(slot));
  await mustServe(oak);
});

test("blank disks where the pool was -> refused, still blank: the cache shows that there was one", async ({
  oak,
  elm,
}) => {
  for (const [appliance, slots] of [
    [oak, [1]],
    [oak, [0, 1]],
    [elm, [0]],
  ] as const) {
    restore(appliance);
    for (const slot of slots) {
      rmSync(appliance.diskPath(slot));
      writeFileSync(appliance.diskPath(slot), "");
      truncateSync(appliance.diskPath(slot), 256 * mebibyte);
    }
    const isAll = slots.length === appliance.shape.diskBytes.length;
    await mustRefuse(appliance, {
      matches: isAll ? /all disks are blank, but the write cache has been in use/ : /what lies in shelf0\/1 is blank/,
    });
    for (const slot of slots) assert.is(statSync(appliance.diskPath(slot)).blocks, 0);
  }
});

test("swapped disks -> it serves and says so, once", async ({ oak }) => {
  renameSync(oak.diskPath(0), `${oak.diskPath(0)}.away`);
  renameSync(oak.diskPath(1), oak.diskPath(0));
  renameSync(`${oak.diskPath(0)}.away`, oak.diskPath(1));
  const told = oak.eventsOf("disk-misplaced").length;
  await mustServe(oak);
  assert.is(oak.eventsOf("disk-misplaced").length - told, 2, "one per disk");
  const disks = await oak.demand<{ state: string; text: string }[]>("GET", "/v1/disks");
  assert.equal(
    disks.map(({ state, text }) => [state, text]),
    [
      ["misplaced", "was in shelf0/1"],
      ["misplaced", "was in shelf0/0"],
    ],
  );
});

test("a disk of another array -> refused whether alone or among ours; it stays what it was", async ({ oak, elm }) => {
  rmSync(oak.diskPath(1));
  copyFile(elm.diskPath(0), oak.diskPath(1));
  await mustRefuse(oak, { matches: /what lies in shelf0\/1 is foreign \(belongs to array elm/ });
  rmSync(elm.diskPath(0));
  copyFile(keptOf(oak.diskPath(0)), elm.diskPath(0));
  await mustRefuse(elm, {
    matches: /shelf0\/0: belongs to array oak.*; correct \[array\] name.* or take the disk out/,
  });
});

test("the profile names another array or appliance -> refused", async ({ oak }) => {
  await mustRefuse(oak, {
    matches: /belongs to array oak; .*correct \[array\] name/,
    profile: oak.profile().replace('name = "oak"', 'name = "ash"'),
  });
  await mustRefuse(oak, {
    matches: /the write cache is that of appliance oak-a, and the profile says oak-c/,
    profile: oak.profile().replace('appliance = "oak-a"', 'appliance = "oak-c"'),
  });
});

test("superblocks: one copy damaged -> serves; both -> refused, not overwritten", async ({ oak, elm }) => {
  for (const copy of [0, 1]) {
    restore(elm);
    overwrite(elm.diskPath(0), superblockOffset(copy) + 200, new Uint8Array(100).fill(0x55));
    await mustServe(elm);
    await elm.kill();
  }
  const garble = (page: Uint8Array) => page.fill(0x55, 200, 300);
  restore(elm);
  bendSuperblocks(elm.diskPath(0), false, garble);
  await mustRefuse(elm, { matches: /shelf0\/0: neither superblock is whole.*; .*not overwritten.*let the peer/ });
  bendSuperblocks(oak.diskPath(1), false, garble);
  await mustRefuse(oak, { matches: /what lies in shelf0\/1 is corrupt \(neither superblock is whole/ });
});

test("a newer on-disk version, an unknown feature -> refused, not overwritten", async ({ oak, elm }) => {
  const newer = (page: Uint8Array) => new DataView(page.buffer).setUint16(8, 2, true);
  const feature = (page: Uint8Array) => new DataView(page.buffer).setUint32(72, 0x80000000, true);
  bendSuperblocks(elm.diskPath(0), true, newer);
  await mustRefuse(elm, { matches: /on-disk version 2, this release knows 1; .*start the firmware that wrote it/ });
  restore(elm);
  bendSuperblocks(elm.diskPath(0), true, feature);
  await mustRefuse(elm, { matches: /unknown feature flags 0x80000000; .*start the firmware that wrote it/ });
  bendSuperblocks(oak.diskPath(0), true, newer);
  await mustRefuse(oak, { matches: /what lies in shelf0\/0 is newer-version \(on-disk version 2/ });
});

test("a truncated disk, a stale one -> refused; a grown device file -> refused by size", async ({ oak, elm }) => {
  truncateSync(elm.diskPath(0), 120 * mebibyte);
  await mustRefuse(elm, { matches: /it has 125829120 bytes, the profile says 268435456/ });
  await mustRefuse(elm, {
    matches: /smaller than it was when the pool was made/,
    profile: elm.profile().replace(String(256 * mebibyte), String(120 * mebibyte)),
  });
  // One disk as it was two openings ago.
  await mustServe(oak);
  await oak.kill();
  await oak.start();
  await oak.kill();
  copyFile(keptOf(oak.diskPath(1)), oak.diskPath(1));
  await mustRefuse(oak, { matches: /the pool lacks a disk: shelf0\/1 is stale \(last used at opening \d+/ });
});

test("pool metadata damaged in every copy -> refused as corrupt", async ({ elm }) => {
  // The pool's document: 256 KiB from 128 KiB on.
  overwrite(elm.diskPath(0), 131072, new Uint8Array(262144).fill(0x55));
  const { code, err } = await elm.refusal();
  assert.is(code, 1, err);
  assert.match(err, /pool document: no slot is whole; .*let the peer fill it again/);
  assert.ok(isOneLine(err), err);
});

test("a first start with a disk that cannot be used -> no pool is made of the others", async ({ dir }) => {
  const ash = await TestAppliance.make(join(dir, "ash"), {
    array: "ash",
    name: "ash-a",
    diskBytes: [128 * mebibyte, 128 * mebibyte],
  });
  mkdirSync(ash.diskPath(1));
  const { code, err } = await ash.refusal();
  assert.is(code, 1, err);
  assert.match(err, /no new pool is made while disks of the profile cannot be used: shelf0\/1: /);
  assert.ok(isOneLine(err), err);
  assert.is(statSync(ash.diskPath(0)).blocks, 0, "still blank");
  rmSync(ash.diskPath(1), { recursive: true });
  await ash.start();
  await ash.stop();
});

test("killed at any moment of a first start -> the next one makes the array", async ({ dir }) => {
  const pine = await TestAppliance.make(join(dir, "pine"), { array: "pine", name: "pine-a" });
  for (const path of [pine.logPath, pine.cachePath, pine.diskPath(0)]) {
    const ended = pine.launch();
    while (pine.alive && !existsSync(path)) await new Promise((resolve) => setImmediate(resolve));
    await pine.kill();
    await ended;
  }
  await pine.start();
  await pine.addVolume(volume, 8 * mebibyte);
  await pine.stop();
});

test("SIGTERM while it starts -> it ends, the next start is good", async ({ oak }) => {
  const ended = oak.launch();
  while (oak.alive && !existsSync(oak.socket)) await new Promise((resolve) => setImmediate(resolve));
  await oak.stop();
  await ended;
  await mustServe(oak);
});

test("a first start that was killed before its disk had a size -> the next one finishes it", async ({ dir }) => {
  const birch = await TestAppliance.make(join(dir, "birch"), { array: "birch", name: "birch-a" });
  writeFileSync(birch.diskPath(0), "");
  await birch.start();
  await birch.addVolume(volume, 8 * mebibyte);
  await birch.stop();
});

test.run();
