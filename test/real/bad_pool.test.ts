/**
 * A full pool, on a real appliance: hosts get ENOSPC for new space, nothing acknowledged is lost, what has space goes on, space comes
 * back when volumes are trimmed or deleted; said once, and shown while it lasts.
 */
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { PoolJson, StatusJson } from "../../firmware/manage/status_json.ts";
import { waitUntil } from "../../scripts/lab_site/wait.ts";
import { mebibyte, scratch, TestAppliance, wipe } from "./support/appliance.ts";
import { commandOf, errorOf, NbdHost } from "./support/raw_socket.ts";

interface Context {
  dir: string;
  oak: TestAppliance;
  big: NbdHost;
  small: NbdHost;
  /** Blocks of `big` that were acknowledged, from 0 on. */
  full: number;
}
const test = suite<Context>("bad_pool");
const blockBytes = 256 * 1024;
const blocksPerSlab = (64 * mebibyte) / blockBytes;
const limitMs = 30_000;

const contentOf = (block: number) => new Uint8Array(blockBytes).fill((block % 250) + 1);

async function open(oak: TestAppliance, volume: string): Promise<NbdHost> {
  const host = await NbdHost.open(oak.hba(), volume);
  assert.ok(host, `${volume} opens`);
  return host!;
}

/** Writes new blocks until one is refused; returns how many are there. */
async function fill(host: NbdHost, from = 0): Promise<number> {
  for (let block = from; ; block++) {
    assert.ok(block < 4096, "the pool is smaller than this");
    const error = await host.write(block * blockBytes, contentOf(block));
    if (error === 0) continue;
    assert.is(error, errorOf.noSpace);
    return block;
  }
}

async function allThere(host: NbdHost, count: number): Promise<void> {
  for (let block = 0; block < count; block++) {
    assert.equal(await host.read(block * blockBytes, blockBytes), Buffer.from(contentOf(block)), `block ${block}`);
  }
}

const freeBytes = async (oak: TestAppliance) => (await oak.demand<PoolJson[]>("GET", "/v1/pools"))[0]!.freeBytes;
const warnings = async (oak: TestAppliance) =>
  (await oak.demand<StatusJson>("GET", "/v1/status")).warnings.map(({ code }) => code);

test.before(async (context) => {
  context.dir = scratch();
  context.oak = await TestAppliance.make(join(context.dir, "oak"));
  const { oak } = context;
  await oak.start();
  await oak.addVolume("big", 4096 * mebibyte);
  await oak.addVolume("small", 64 * mebibyte);
  context.big = await open(oak, "big");
  context.small = await open(oak, "small");
});
test.after(async ({ dir, oak }) => {
  await oak.kill();
  wipe(dir);
});

test("the pool fills -> ENOSPC for new space only, one event, a warning; overwriting goes on", async (context) => {
  const { oak, big, small } = context;
  assert.is(await small.write(0, contentOf(0)), 0);
  context.full = await fill(big);
  assert.ok(context.full > 500, `${context.full} blocks before the pool was full`);
  for (let times = 0; times < 50; times++)
    assert.is(await big.write(context.full * blockBytes, contentOf(1)), errorOf.noSpace);
  for (let block = 0; block < 40; block++) assert.is(await big.write(block * blockBytes, contentOf(block + 9)), 0);
  for (let block = 0; block < 40; block++) assert.is(await big.write(block * blockBytes, contentOf(block)), 0);
  assert.is(await small.write(0, contentOf(7)), 0, "another volume's mapped space");
  assert.is(await big.ask(commandOf.flush, 0, 0), 0);
  assert.is(oak.eventsOf("pool-full").length, 1);
  assert.ok((await warnings(oak)).includes("pool-full"));
  assert.is((await oak.group("big")).writable, true);
});

test("full and killed -> starts, everything acknowledged is there, still full, still writable", async (context) => {
  const { oak } = context;
  await oak.kill();
  await oak.start();
  context.big = await open(oak, "big");
  context.small = await open(oak, "small");
  await allThere(context.big, context.full);
  assert.equal(await context.small.read(0, blockBytes), Buffer.from(contentOf(7)));
  // What is kept for the logs is found out anew at a start: a slab of it may be free for data, or not.
  const full = await fill(context.big, context.full);
  assert.ok(full - context.full <= blocksPerSlab, `${full - context.full} blocks more`);
  context.full = full;
  assert.is(await context.big.write(0, contentOf(0)), 0);
  assert.ok((await warnings(oak)).includes("pool-full"));
});

test("things that need space of their own -> refused in words, nothing half made", async ({ oak }) => {
  const refused = await oak.ask("POST", "/v1/volumes", { name: "more", sizeBytes: mebibyte });
  assert.is(refused.ok, false);
  assert.is(!refused.ok && refused.code, "no-space");
  assert.equal(
    (await oak.demand<{ name: string }[]>("GET", "/v1/groups")).map(({ name }) => name),
    ["big", "small"],
  );
});

test("trimmed -> writes succeed again", async (context) => {
  const { oak, big } = context;
  assert.is(await big.ask(commandOf.trim, 0, 64 * mebibyte), 0);
  const written = await waitUntil(limitMs, 20, async () =>
    (await big.write(context.full * blockBytes, contentOf(context.full))) === 0 ? true : null,
  );
  assert.ok(written);
  assert.equal(await big.read(0, blockBytes), Buffer.alloc(blockBytes));
  const trimmed = (64 * mebibyte) / blockBytes;
  assert.equal(await big.read(trimmed * blockBytes, blockBytes), Buffer.from(contentOf(trimmed)));
  assert.is(oak.eventsOf("pool-full").length, 2, "one per start");
});

test("a volume and its group deleted -> their space is free for others, which lost nothing", async (context) => {
  const { oak, small } = context;
  await oak.demand("DELETE", "/v1/volumes/big");
  await oak.demand("DELETE", "/v1/groups/big");
  assert.is(await context.big.read(0, 512), null, "its session has ended");
  const freed = await waitUntil(limitMs, 20, async () => ((await freeBytes(oak)) >= 192 * mebibyte ? true : null));
  assert.ok(freed, `${await freeBytes(oak)} bytes free`);
  await oak.addVolume("next", 1024 * mebibyte);
  const next = await open(oak, "next");
  for (let block = 0; block < 400; block++) assert.is(await next.write(block * blockBytes, contentOf(block)), 0);
  await allThere(next, 400);
  assert.equal(await small.read(0, blockBytes), Buffer.from(contentOf(7)));
  next.close();
});

test.run();
