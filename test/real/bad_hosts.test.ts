/**
 * Hosts that misbehave against a real appliance: the protocol's own error or a closed session, one event, other sessions
 * undisturbed, memory bounded. What the front end alone does is in nbd_hostile.test.ts.
 */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { waitUntil } from "../../scripts/lab_site/wait.ts";
import { bytesOf, command, goData, option } from "../unit/support/nbd_host.ts";
import { pattern } from "../unit/support/nbd_session.ts";
import { mebibyte, scratch, TestAppliance, wipe } from "./support/appliance.ts";
import { commandOf, errorOf, handshakeReplyBytes, NbdHost, RawSocket } from "./support/raw_socket.ts";

interface Context {
  dir: string;
  oak: TestAppliance;
  /** A session that must not notice anything. */
  good: NbdHost;
  round: number;
}
const test = suite<Context>("bad_hosts");
const volume = "v";
const volumeBytes = 64 * mebibyte;

test.before(async (context) => {
  context.dir = scratch();
  context.oak = await TestAppliance.make(join(context.dir, "oak"));
  context.round = 0;
  await context.oak.start();
  await context.oak.addVolume(volume, volumeBytes);
  context.good = (await NbdHost.open(context.oak.hba(1), volume))!;
});
test.after.each(async (context) => {
  await undisturbed(context);
});
test.after(async ({ dir, oak, good }) => {
  good.close();
  await oak.kill();
  wipe(dir);
});

/** The good session writes, reads back, flushes; the process is the one that was started. */
async function undisturbed(context: Context): Promise<void> {
  const fill = pattern(8192 + context.round++).subarray(0, 8192);
  assert.is(await context.good.write(volumeBytes - 8192, fill), 0);
  assert.is(await context.good.ask(commandOf.flush, 0, 0), 0);
  assert.equal(await context.good.read(volumeBytes - 8192, 8192), Buffer.from(fill));
  assert.ok(context.oak.alive);
}

/** Events that speak of hosts. */
const hostEvents = (oak: TestAppliance) => oak.events().filter(({ code }) => code.startsWith("nbd-"));

async function eventsReach(oak: TestAppliance, count: number): Promise<void> {
  const reached = await waitUntil(10_000, 10, () => (hostEvents(oak).length >= count ? true : null));
  assert.ok(reached, `${hostEvents(oak).length} of ${count} events`);
}

const flags = bytesOf({ u32: 3 });

test("what is not NBD, or breaks its rules beyond repair -> closed, one event each", async ({ oak }) => {
  const go = option(7, goData(volume));
  const broken: [string, Uint8Array[]][] = [
    ["HTTP", [flags, bytesOf("GET / HTTP/1.1\r\nHost: x\r\n\r\n")]],
    ["unknown client flags", [bytesOf({ u32: 0x80000000 }), go]],
    ["an option that claims 4 GiB", [flags, option(7, bytesOf(""), 0xffffffff)]],
    ["an export name of 5,000 bytes", [flags, option(1, pattern(5000))]],
    ["an export that is not there", [flags, option(1, bytesOf("nowhere"))]],
    ["commands before the negotiation ends", [flags, command({ command: commandOf.read, length: 4096 })]],
    ["bad request magic", [flags, go, bytesOf({ u32: 0x25609514 }), new Uint8Array(24)]],
    ["a write of 4 GiB", [flags, go, command({ command: commandOf.write, length: 0xffffffff })]],
    ["a write of 33 MiB", [flags, go, command({ command: commandOf.write, length: 33 * mebibyte })]],
  ];
  for (const [what, pieces] of broken) {
    const before = hostEvents(oak).length;
    const raw = new RawSocket(oak.hba());
    raw.send(...pieces);
    await raw.ended();
    raw.destroy();
    await eventsReach(oak, before + 1);
    assert.is(hostEvents(oak).length, before + 1, `${what}: ${JSON.stringify(hostEvents(oak).slice(before))}`);
  }
});

test("options that are wrong or unknown -> the protocol's own error, the handshake goes on, no event", async ({
  oak,
}) => {
  const before = hostEvents(oak).length;
  const errors: [Uint8Array, number][] = [
    [option(0x7777), 0x80000001],
    [option(5), 0x80000002],
    [option(5), 0x80000002],
    [option(7, bytesOf({ u32: 0xffffffff })), 0x80000003],
    [option(7, goData("nowhere")), 0x80000006],
    [option(3, bytesOf("x")), 0x80000003],
    [option(10, bytesOf({ u32: 4 }, "demo")), 0x80000003],
    [option(6, new Uint8Array(100_000)), 0x80000009],
  ];
  const raw = new RawSocket(oak.hba());
  raw.send(flags);
  await raw.read(18);
  for (const [bytes, error] of errors) {
    raw.send(bytes);
    const reply = await raw.read(20);
    assert.is(reply.readUInt32BE(12), error, `option ${reply.readUInt32BE(8)}`);
    await raw.read(reply.readUInt32BE(16));
  }
  raw.send(option(7, goData(volume)));
  assert.is((await raw.read(handshakeReplyBytes - 18)).byteLength, handshakeReplyBytes - 18);
  raw.destroy();
  assert.is(hostEvents(oak).length, before);
});

test("requests that cannot be done -> EINVAL or ENOSPC each, the session goes on, nothing is changed", async (context) => {
  const { oak, good } = context;
  const host = (await NbdHost.open(oak.hba(), volume))!;
  assert.is(await host.write(0, pattern(4096)), 0);
  const before = hostEvents(oak).length;
  const beyond = [errorOf.invalid, errorOf.noSpace, errorOf.overflow] as readonly number[];
  const { raw } = host;
  const asks: [string, Parameters<typeof command>[0], readonly number[]][] = [
    ["an unaligned offset", { command: 0, offset: 1, length: 512 }, [errorOf.invalid]],
    ["an unaligned length", { command: 0, offset: 0, length: 511 }, [errorOf.invalid]],
    ["a read beyond the end", { command: 0, offset: volumeBytes, length: 4096 }, [errorOf.invalid]],
    ["a read across the end", { command: 0, offset: volumeBytes - 4096, length: 8192 }, [errorOf.invalid]],
    ["an offset that wraps", { command: 0, offset: 2n ** 64n - 4096n, length: 8192 }, [errorOf.invalid]],
    ["an offset of 2^63", { command: 0, offset: 2n ** 63n, length: 4096 }, [errorOf.invalid]],
    ["a read of 4 GiB", { command: 0, offset: 0, length: 0xfffffe00 }, [errorOf.invalid, errorOf.overflow]],
    ["a write beyond the end", { command: 1, offset: volumeBytes, payload: pattern(512) }, beyond],
    ["a write across the end", { command: 1, offset: volumeBytes - 512, payload: pattern(1024) }, beyond],
    ["zeroes beyond the end", { command: 6, offset: volumeBytes - 512, length: 1024 }, beyond],
    ["a trim of 4 GiB", { command: 4, offset: 0, length: 0xfffffe00 }, [...beyond]],
    ["an unknown command", { command: 99, length: 0 }, [errorOf.invalid]],
    ["unknown flags", { command: 0, length: 512, flags: 0x8000 }, [errorOf.invalid]],
    ["block status without a context", { command: 7, length: 4096 }, [errorOf.invalid]],
  ];
  for (const [what, fields, errors] of asks) {
    raw.send(command({ ...fields, cookie: 500n }));
    const reply = await raw.read(16);
    assert.is(reply.readBigUInt64BE(8), 500n, what);
    assert.ok(errors.includes(reply.readUInt32BE(4)), `${what}: error ${reply.readUInt32BE(4)}`);
  }
  // Two at once under one cookie: both are answered.
  raw.send(command({ command: 0, cookie: 9n, length: 512 }), command({ command: 0, cookie: 9n, length: 512 }));
  assert.is((await raw.read(2 * (16 + 512))).byteLength, 2 * (16 + 512));
  assert.equal(await good.read(0, 4096), Buffer.from(pattern(4096)));
  host.close();
  assert.is(hostEvents(oak).length, before);
});

test("1,000 connections, idle or greeted -> all open; beyond the limit closed with one event; memory bounded", async ({
  oak,
}) => {
  const before = oak.residentBytes();
  const told = oak.eventsOf("nbd-too-many-sessions").length;
  const hosts = await Promise.all(Array.from({ length: 1000 }, (_, at) => NbdHost.open(oak.hba(at % 2), volume)));
  assert.ok(hosts.every((host) => host !== null));
  const errors = await Promise.all(hosts.map((host, at) => host!.ask(commandOf.read, at * 4096, 4096)));
  assert.ok(errors.every((error) => error === 0));
  // Each port counts its own: 1,024 on either.
  const more = Array.from({ length: 1100 }, () => new RawSocket(oak.hba(0)));
  const greeted = await Promise.all(more.map(async (raw) => (await raw.read(18)).byteLength === 18));
  assert.is(greeted.filter((one) => one).length, 1024 - 500);
  assert.is(oak.eventsOf("nbd-too-many-sessions").length - told, 1);
  const grown = oak.residentBytes() - before;
  assert.ok(grown < 200 * mebibyte, `${Math.round(grown / mebibyte)} MiB more`);
  for (const host of hosts) host!.raw.destroy();
  for (const raw of more) raw.destroy();
  const next = await waitUntil(10_000, 20, () => NbdHost.open(oak.hba(0), volume));
  assert.ok(next);
  next.close();
});

test("hosts that die in the middle of writes -> those writes are all or nothing, nobody else waits", async (context) => {
  const { oak, good } = context;
  const old = new Uint8Array(mebibyte).fill(0x11);
  assert.is(await good.write(8 * mebibyte, old), 0);
  const dying = await Promise.all(Array.from({ length: 50 }, () => NbdHost.open(oak.hba(), volume)));
  for (const [at, host] of dying.entries()) {
    const whole = command({
      command: commandOf.write,
      offset: 8 * mebibyte,
      payload: new Uint8Array(mebibyte).fill(0x22),
    });
    // Never the last byte: no write is complete.
    host!.raw.send(whole.subarray(0, Math.floor((whole.byteLength * (at + 1)) / 51)));
  }
  await undisturbed(context);
  for (const host of dying) host!.raw.socket.resetAndDestroy();
  assert.equal(await good.read(8 * mebibyte, mebibyte), Buffer.from(old));
});

test("hosts that ask for gigabytes and read nothing -> memory bounded, others are served", async (context) => {
  const { oak } = context;
  const before = oak.residentBytes();
  const greedy = await Promise.all(Array.from({ length: 30 }, () => NbdHost.open(oak.hba(), volume)));
  for (const host of greedy) {
    host!.raw.socket.pause();
    for (let at = 0; at < 100; at++)
      host!.raw.send(command({ command: commandOf.read, cookie: BigInt(at), length: 32 * mebibyte }));
  }
  for (let at = 0; at < 20; at++) await undisturbed(context);
  const grown = oak.residentBytes() - before;
  assert.ok(grown < 480 * mebibyte, `${Math.round(grown / mebibyte)} MiB more`);
  for (const host of greedy) host!.raw.destroy();
});

test("descriptors: after all that none is left open", async ({ oak }) => {
  const open = () => readdirSync(`/proc/${oak.pid}/fd`).length;
  const few = await waitUntil(20_000, 50, () => (open() < 100 ? true : null));
  assert.ok(few, `${open()} descriptors`);
});

test.run();
