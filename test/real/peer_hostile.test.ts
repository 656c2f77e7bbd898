/**
 * Strangers at the peer ports of two real appliances that replicate: closed, one event each, memory bounded, and replication goes
 * on as if nobody had called.
 */
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { GroupJson } from "../../firmware/manage/status_json.ts";
import type { Hello } from "../../firmware/peer/frame.ts";
import { encodeFrame } from "../../firmware/peer/frame_encode.ts";
import { encodePreamble, preambleBytes, preambleStep } from "../../hal/linux/nic_preamble.ts";
import { waitUntil } from "../../scripts/lab_site/wait.ts";
import { bytesOf } from "../unit/support/nbd_host.ts";
import { pattern } from "../unit/support/nbd_session.ts";
import { freePorts, mebibyte, scratch, TestAppliance, wipe } from "./support/appliance.ts";
import { NbdHost, RawSocket } from "./support/raw_socket.ts";

interface Context {
  dir: string;
  oak: TestAppliance;
  elm: TestAppliance;
  host: NbdHost;
  group: GroupJson & { id: string };
  round: number;
  /** Silent from the first test to the last. */
  silent: RawSocket[];
}
const test = suite<Context>("peer_hostile");
const volume = "v";
const limitMs = 30_000;
const id = (digit: string) => digit.repeat(32);

test.before(async (context) => {
  context.dir = scratch();
  const [oakPorts, elmPorts] = [await freePorts(2), await freePorts(2)];
  context.oak = await TestAppliance.make(join(context.dir, "oak"), {
    nicPorts: oakPorts,
    peers: [{ array: "elm", name: "elm-a", nicPorts: elmPorts }],
  });
  context.elm = await TestAppliance.make(join(context.dir, "elm"), {
    array: "elm",
    name: "elm-a",
    nicPorts: elmPorts,
    peers: [{ array: "oak", name: "oak-a", nicPorts: oakPorts }],
  });
  const { oak, elm } = context;
  await Promise.all([oak.start(), elm.start()]);
  await oak.addVolume(volume, 64 * mebibyte);
  await oak.demand("POST", `/v1/groups/${volume}/add-peer`, { array: "elm", mode: "async", cycleMs: null });
  context.host = (await NbdHost.open(oak.hba(), volume))!;
  context.round = 0;
  context.silent = [];
  await replicates(context);
  context.group = await oak.demand("GET", `/v1/groups/${volume}`);
});
test.after.each((context) => replicates(context));
test.after(async ({ dir, oak, elm, host, silent }) => {
  host.close();
  for (const raw of silent) raw.destroy();
  await Promise.all([oak.kill(), elm.kill()]);
  wipe(dir);
});

/** A write at oak arrives at elm over the link that was there all the time. */
async function replicates(context: Context): Promise<void> {
  const { oak, elm, host } = context;
  assert.is(await host.write(context.round++ * 4096, pattern(4096)), 0);
  const inSync = await waitUntil(limitMs, 10, async () => {
    const group = await oak.group(volume);
    return group.peers[0]?.state === "in-sync" && group.peers[0].receivedSeq === group.commitSeq ? group : null;
  });
  assert.ok(inSync, JSON.stringify((await oak.group(volume)).peers));
  assert.ok(oak.alive && elm.alive);
  for (const one of [oak, elm]) assert.is(one.eventsOf("peer-lost").length, 0, `${one.shape.name} kept its link`);
}

/** Events about strangers and callers. */
const told = (one: TestAppliance) =>
  one
    .events()
    .filter(({ code }) =>
      ["nic-stranger", "peer-malformed", "peer-strangers", "peer-caller-refused", "peer-protocol"].includes(code),
    );

async function toldExactly(one: TestAppliance, count: number, what: string): Promise<void> {
  const reached = await waitUntil(limitMs, 10, () => (told(one).length >= count ? true : null));
  const texts = told(one).map(({ code, text }) => `${code}: ${text}`);
  assert.ok(reached, `${what}: ${texts.length} events of ${count}`);
  assert.is(texts.length, count, `${what}: ${texts.join(" | ")}`);
}

/** A connection that has introduced itself as the NIC of `appliance`. */
async function introduced(at: string, appliance: string): Promise<RawSocket> {
  const raw = new RawSocket(at);
  raw.send(encodePreamble(preambleStep.hello, appliance, "nic0"));
  assert.is((await raw.read(preambleBytes)).byteLength, preambleBytes, "answered");
  raw.send(encodePreamble(preambleStep.confirm, appliance, "nic0"));
  return raw;
}

const lengths = (header: number, payload: number): Uint8Array => {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setUint32(0, header, true);
  new DataView(bytes.buffer).setUint32(4, payload, true);
  return bytes;
};
const framed = (header: Uint8Array, payload = 0) => Buffer.concat([lengths(header.byteLength, payload), header]);

function helloOf({ group }: Context, changes: Partial<Hello>): Hello {
  return {
    kind: "hello",
    version: 1,
    versionMin: 1,
    features: 0,
    array: "elm",
    arrayId: id("e"),
    appliance: "elm-a",
    session: id("5"),
    groupId: group.id,
    groupName: volume,
    role: "golden",
    writable: false,
    primary: "oak",
    lineage: group.peers.length > 0 ? [{ timeline: group.timeline, firstSeq: 1 }] : [],
    headSeq: 0,
    persistedSeq: 0,
    commitSeq: 0,
    destagedSeq: 0,
    consistent: true,
    resync: null,
    promotableSeq: 0,
    peers: [],
    grant: null,
    acceptedGrant: null,
    whyStopped: null,
    wantsResync: false,
    completedResync: null,
    recordPayloadBytes: 65536,
    ...changes,
  };
}

test("200 connections that say nothing, and one that says a byte now and then -> nobody else notices", async (context) => {
  const { oak, elm, silent } = context;
  for (let count = 0; count < 100; count++) silent.push(new RawSocket(oak.nic(count % 2)), new RawSocket(elm.nic(0)));
  const loris = new RawSocket(oak.nic());
  silent.push(loris);
  const whole = encodePreamble(preambleStep.hello, "loris-a", "nic0");
  for (const byte of whole.subarray(0, 20)) {
    loris.send(new Uint8Array([byte]));
    await new Promise((resolve) => setImmediate(resolve));
  }
  await replicates(context);
  assert.is(told(oak).length, 0);
});

test("more silent connections than there are places -> the oldest go, a real appliance still gets in", async (context) => {
  const { oak } = context;
  const crowd = Array.from({ length: 300 }, () => new RawSocket(oak.nic(1)));
  await waitUntil(limitMs, 10, () =>
    crowd.some((raw) => raw.closed) || context.silent.some((raw) => raw.closed) ? true : null,
  );
  const late = await introduced(oak.nic(1), "late-a");
  assert.not(late.closed);
  late.destroy();
  await toldExactly(oak, 1, "crowd");
  assert.match(told(oak)[0]?.text ?? "", /has not named itself, and 256 others wait/);
  for (const raw of crowd) raw.destroy();
  // Those that go by themselves are one event as well.
  await toldExactly(oak, 2, "crowd gone");
});

test("what is no appliance -> closed before anything is kept, one event for each kind", async (context) => {
  const { oak } = context;
  const wrongVersion = encodePreamble(preambleStep.hello, "oak-z", "nic0");
  wrongVersion[4] = 9;
  const start = told(oak).length;
  for (const bytes of [
    bytesOf(`GET / HTTP/1.1\r\nHost: ${"x".repeat(60)}\r\n\r\n`),
    pattern(100_000),
    wrongVersion,
    new Uint8Array(64),
  ]) {
    for (let times = 0; times < 10; times++) {
      const raw = new RawSocket(oak.nic());
      raw.send(bytes);
      await raw.ended();
      raw.destroy();
    }
  }
  await toldExactly(oak, start + 1, "garbage");
  const outOfOrder = new RawSocket(oak.nic());
  outOfOrder.send(encodePreamble(preambleStep.confirm, "oak-z", "nic0"));
  await outOfOrder.ended();
  await toldExactly(oak, start + 2, "a confirmation first");
});

test("frames that are none -> closed, one event each however often, no memory for lengths that lie", async (context) => {
  const { oak } = context;
  const depthBomb = new Uint8Array(60_000).fill(0x0b);
  const varint = new Uint8Array(30).fill(0xff);
  const kinds: [string, Uint8Array][] = [
    ["1 GiB of header", lengths(2 ** 30, 0)],
    ["1 GiB of payload", lengths(100, 2 ** 30)],
    ["4 GiB of both", lengths(0xffffffff, 0xffffffff)],
    ["no header", lengths(0, 0)],
    ["garbage as header", framed(pattern(300))],
    ["a header of nested groups", framed(depthBomb)],
    ["a varint without end", framed(varint)],
    ["an empty message", framed(new Uint8Array([0x7a, 0]))],
    ["a payload on a hello", framed(encodeFrame(helloOf(context, {}), 0).subarray(8), 5000)],
    ["records before hello", encodeFrame({ kind: "records", frame: 1, lastSeq: 1, commitSeq: 1 }, 0)],
    ["a grant before hello", encodeFrame({ kind: "grant", id: id("9"), timeline: id("a"), seq: 1 }, 0)],
  ];
  const residentBytes = oak.residentBytes();
  for (const [index, [what, bytes]] of kinds.entries()) {
    const start = told(oak).length;
    for (let times = 0; times < 5; times++) {
      const raw = await introduced(oak.nic(), `bad${index}-a`);
      raw.send(bytes, new Uint8Array(65536));
      await raw.ended();
      raw.destroy();
    }
    await toldExactly(oak, start + 1, what);
  }
  const grown = oak.residentBytes() - residentBytes;
  assert.ok(grown < 64 * mebibyte, `${Math.round(grown / mebibyte)} MiB more`);
});

test("a hello cut short, or none at all -> closed after the peer timeout, no event for silence", async (context) => {
  const { elm } = context;
  const start = told(elm).length;
  const whole = encodeFrame(helloOf(context, { array: "oak", arrayId: id("0") }), 0);
  const cut = await introduced(elm.nic(), "cut-a");
  cut.send(whole.subarray(0, whole.byteLength - 3));
  const mute = await introduced(elm.nic(), "mute-a");
  await Promise.all([cut.ended(), mute.ended()]);
  const gone = await introduced(elm.nic(), "gone-a");
  gone.send(whole.subarray(0, 11));
  gone.socket.end();
  await gone.ended();
  assert.is(told(elm).length, start);
});

test("100 callers without a hello -> the oldest go, the next peer gets in, one event", async (context) => {
  const { elm } = context;
  const start = told(elm).length;
  const callers = await Promise.all(Array.from({ length: 100 }, (_, at) => introduced(elm.nic(), `caller${at}-a`)));
  await Promise.all(callers.map((raw) => raw.ended()));
  await toldExactly(elm, start + 1, "callers");
  assert.is(told(elm).at(-1)?.code, "peer-strangers");
});

test("hellos of whom we do not know, of ourselves, of other versions -> refused with a reason, one event each", async (context) => {
  const { oak } = context;
  const rows: [string, Partial<Hello>, RegExp][] = [
    ["an unknown array", { array: "ash" }, /ash is not a peer of oak; add it to the board profile/],
    ["ourselves", { array: "oak" }, /oak has called itself; check the peer's addresses/],
    ["a later version", { version: 9, versionMin: 8 }, /elm speaks versions 8 to 9, oak 1 to 1/],
    ["a group that is not here", { groupId: id("7"), groupName: "other" }, /oak has no group other/],
  ];
  for (const [what, changes, text] of rows) {
    const start = told(oak).length;
    for (let times = 0; times < 5; times++) {
      const raw = await introduced(oak.nic(), "caller-a");
      raw.send(encodeFrame(helloOf(context, changes), 0));
      assert.ok((await raw.ended()).byteLength > 8, `${what}: a refusal is sent`);
      raw.destroy();
    }
    await toldExactly(oak, start + 1, what);
    assert.match(told(oak).at(-1)?.text ?? "", text);
  }
});

test("the silent ones -> closed in the end, one event for all", async ({ oak, elm, silent }) => {
  const closed = await waitUntil(limitMs, 50, () => (silent.every((raw) => raw.closed) ? true : null));
  assert.ok(closed, `${silent.filter((raw) => !raw.closed).length} are open still`);
  const ofSilence = (one: TestAppliance) =>
    one.eventsOf("nic-stranger").filter(({ text }) => text.includes("nothing useful came"));
  assert.is(ofSilence(elm).length, 1);
  // Of both NICs, one each.
  assert.ok(ofSilence(oak).length >= 1 && ofSilence(oak).length <= 2);
});

test.run();
