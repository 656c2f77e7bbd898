/**
 * Write caches that an appliance must not believe: an older copy, another array's, another size, damaged, empty. Refused with one
 * line and not overwritten; with the right one put back, every acknowledged write is there.
 */
import { closeSync, openSync, renameSync, rmSync, truncateSync, writeSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { StatusJson } from "../../firmware/manage/status_json.ts";
import { copyFile, digests, isOneLine, mebibyte, scratch, TestAppliance, wipe } from "./support/appliance.ts";
import { NbdHost } from "./support/raw_socket.ts";

interface Context {
  dir: string;
  oak: TestAppliance;
  elm: TestAppliance;
}
const volume = "v";
const blockBytes = 65536;

function block(fill: number): Uint8Array {
  return new Uint8Array(blockBytes).fill(fill);
}

/** The oldest copy of the cache, from before the writes. */
const olderPath = (one: TestAppliance) => `${one.cachePath}.older.log`;
/** Cache and disk after the writes and a SIGKILL. */
const keptPath = (path: string) => `${path}.kept.log`;

async function makeArray(appliance: TestAppliance): Promise<void> {
  await appliance.start();
  await appliance.addVolume(volume, 64 * mebibyte);
  // In order: the volume itself goes home.
  await appliance.stop();
  await appliance.start();
  await appliance.kill();
  copyFile(appliance.cachePath, olderPath(appliance));
  await appliance.start();
  const host = await NbdHost.open(appliance.hba(), volume);
  for (let at = 0; at < 20; at++) assert.is(await host?.write(at * blockBytes, block(at + 1)), 0);
  await appliance.kill();
  host?.raw.destroy();
  for (const path of [appliance.cachePath, appliance.diskPath(0)]) copyFile(path, keptPath(path));
}

function restore(appliance: TestAppliance): void {
  for (const path of [appliance.cachePath, appliance.diskPath(0)]) copyFile(keptPath(path), path);
}

async function everythingIsThere(appliance: TestAppliance): Promise<void> {
  await appliance.start();
  const host = await NbdHost.open(appliance.hba(), volume);
  for (let at = 0; at < 20; at++) {
    assert.equal(await host?.read(at * blockBytes, blockBytes), Buffer.from(block(at + 1)), `block ${at}`);
  }
  host?.raw.destroy();
}

async function mustRefuse(appliance: TestAppliance, matches: RegExp, args: readonly string[] = []): Promise<void> {
  const before = digests(appliance.dir);
  const refusals = appliance.eventsOf("start-refused").length;
  const { code, err } = await appliance.refusal({ args });
  assert.is(code, 1, err);
  assert.ok(isOneLine(err), err);
  assert.match(err, matches);
  assert.equal(digests(appliance.dir), before, err);
  assert.is(appliance.eventsOf("start-refused").length, refusals + 1, "one event");
}

function overwrite(path: string, offset: number, bytes: Uint8Array): void {
  const fd = openSync(path, "r+");
  writeSync(fd, bytes, 0, bytes.byteLength, offset);
  closeSync(fd);
}

for (const persistence of ["battery", "flush"] as const) {
  const test = suite<Context>(`bad_cache, ${persistence}`);

  test.before(async (context) => {
    context.dir = scratch();
    const shape = { persistence, cacheBytes: 8 * mebibyte, diskBytes: [256 * mebibyte] };
    context.oak = await TestAppliance.make(join(context.dir, "oak"), shape);
    context.elm = await TestAppliance.make(join(context.dir, "elm"), { ...shape, array: "elm", name: "elm-a" });
    await Promise.all([makeArray(context.oak), makeArray(context.elm)]);
  });
  test.before.each(({ oak }) => restore(oak));
  test.after.each(async ({ oak }) => {
    await oak.kill();
  });
  test.after(async ({ dir, oak, elm }) => {
    await Promise.all([oak.kill(), elm.kill()]);
    wipe(dir);
  });

  test("an older copy of the cache -> refused as foreign; the right one back -> every acknowledged write", async ({
    oak,
  }) => {
    copyFile(olderPath(oak), oak.cachePath);
    await mustRefuse(
      oak,
      /a foreign nonce: an older image.*not overwritten; put the right cache back, or start once with/,
    );
    restore(oak);
    await everythingIsThere(oak);
  });

  test("an older copy and --accept-cache-loss -> starts, not writable, inconsistent, says so until the operator has spoken", async ({
    oak,
  }) => {
    copyFile(olderPath(oak), oak.cachePath);
    const status = await oak.start({ args: ["--accept-cache-loss"] });
    const told = (one: StatusJson) => one.warnings.map(({ code }) => code);
    assert.is(status.groups[0]?.state, "inconsistent");
    assert.is(status.groups[0]?.writable, false);
    assert.match(status.groups[0]?.why ?? "", /the write cache was lost .*serve v --alone/);
    assert.ok(told(status).includes("cache-lost"));
    await oak.kill();
    // Without the word, and with what is now the right cache: the loss is not forgotten.
    const again = await oak.start();
    assert.is(again.groups[0]?.state, "inconsistent");
    assert.ok(told(again).includes("cache-lost"));
    const served = await oak.ask("POST", "/v1/groups/v/serve", { alone: true, timeoutMs: 20_000 });
    assert.ok(served.ok);
    const host = await NbdHost.open(oak.hba(), volume);
    assert.is(await host?.write(0, block(99)), 0);
    host?.raw.destroy();
    await oak.kill();
    const after = await oak.start();
    assert.is(after.groups[0]?.writable, true);
    assert.not(told(after).includes("cache-lost"));
  });

  test("the cache of another array -> refused, even with --accept-cache-loss: it is not ours to give up", async ({
    oak,
    elm,
  }) => {
    copyFile(elm.cachePath, oak.cachePath);
    await mustRefuse(oak, /the write cache belongs to another array .*not overwritten; correct \[cache\] path/);
    await mustRefuse(oak, /belongs to another array/, ["--accept-cache-loss"]);
    restore(oak);
    await everythingIsThere(oak);
  });

  test("another size in the profile, a truncated file -> refused, the file keeps its size", async ({ oak }) => {
    const { shape } = oak;
    oak.shape = { ...shape, cacheBytes: 16 * mebibyte };
    try {
      await mustRefuse(oak, /nvram: it has 8388608 bytes, the profile says 16777216; put the old \[cache\] size back/);
    } finally {
      oak.shape = shape;
    }
    truncateSync(oak.cachePath, 4 * mebibyte);
    await mustRefuse(oak, /nvram: it has 4194304 bytes, the profile says 8388608/);
    await mustRefuse(oak, /nvram: it has 4194304 bytes/, ["--accept-cache-loss"]);
  });

  test("damaged headers -> one copy: serves; both: refused, not overwritten", async ({ oak }) => {
    for (const at of [0, 4096]) {
      restore(oak);
      overwrite(oak.cachePath, at + 40, block(0x55).subarray(0, 16));
      // Either it was the older header, or it was the newest and the other's nonce is not the shelf's any more.
      const { code } = await Promise.race([oak.launch(), everythingUp(oak).then(() => ({ code: null, err: "" }))]);
      await oak.kill();
      if (code === null) continue;
      assert.is(code, 1);
      assert.match(oak.events().at(-1)?.text ?? "", /foreign nonce/);
    }
    restore(oak);
    overwrite(oak.cachePath, 0, block(0x55).subarray(0, 8192));
    await mustRefuse(oak, /header is damaged; .*not overwritten; put the right cache back/);
    restore(oak);
    await everythingIsThere(oak);
  });

  test("no cache file, an empty one -> refused while writes may be missing; put back -> every acknowledged write", async ({
    oak,
  }) => {
    for (const empty of [() => rmSync(oak.cachePath), () => truncateSync(oak.cachePath, 0)]) {
      restore(oak);
      renameSync(oak.cachePath, `${oak.cachePath}.away.log`);
      copyFile(`${oak.cachePath}.away.log`, oak.cachePath);
      empty();
      const { code, err } = await oak.refusal();
      assert.is(code, 1, err);
      assert.ok(isOneLine(err), err);
      assert.match(err, /the write cache is empty, and v had writes that only the former one holds: put that one back/);
      copyFile(`${oak.cachePath}.away.log`, oak.cachePath);
      await everythingIsThere(oak);
      await oak.kill();
    }
  });

  test("no cache file after an orderly stop -> serves: everything had gone home", async ({ oak }) => {
    await everythingIsThere(oak);
    await oak.stop();
    rmSync(oak.cachePath);
    await everythingIsThere(oak);
    assert.is((await oak.group(volume)).state, "in-sync");
  });

  test.run();
}

async function everythingUp(appliance: TestAppliance): Promise<void> {
  for (;;) {
    const answer = await appliance.ask("GET", "/v1/status");
    if (answer.ok && (answer.value as StatusJson).appliances[0]?.state === "up") return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
