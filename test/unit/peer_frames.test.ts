import { suite } from "uvu";
import * as assert from "uvu/assert";
import { FrameParser } from "../../firmware/codec/frame_parser.ts";
import type { Frame, Hello } from "../../firmware/peer/frame.ts";
import { encodeFrame } from "../../firmware/peer/frame_encode.ts";
import { linkLimits } from "../../firmware/peer/limits.ts";
import { peerCodec } from "../../firmware/peer/link.ts";
import { Prng } from "../../hal/mock/prng.ts";
import { goldcopy } from "../../proto/generated/peer.js";

const test = suite("peer_frames");

const id = (digit: string) => digit.repeat(32);
const big = linkLimits.numberMax;

const sampleHello: Hello = {
  kind: "hello",
  version: 1,
  versionMin: 1,
  features: 0,
  array: "oak",
  arrayId: id("1"),
  appliance: "oak-a",
  session: id("2"),
  groupId: id("3"),
  groupName: "demo",
  role: "golden",
  writable: false,
  primary: "elm",
  lineage: [
    { timeline: id("a"), firstSeq: 1 },
    { timeline: id("b"), firstSeq: 900 },
  ],
  headSeq: big,
  persistedSeq: big - 1,
  commitSeq: 1000,
  destagedSeq: 999,
  consistent: false,
  resync: { id: id("c"), begun: true, nextVolume: 3, nextBlock: 2 ** 40 },
  promotableSeq: 17,
  peers: [
    { array: "elm", mode: "sync" },
    { array: "ash", mode: "async" },
  ],
  grant: { id: id("d"), to: "ash", timeline: id("e"), seq: 5 },
  acceptedGrant: id("f"),
  whyStopped: "the stream was corrupt",
  wantsResync: true,
  completedResync: id("9"),
  recordPayloadBytes: 262144,
};

const frames: Frame[] = [
  sampleHello,
  {
    ...sampleHello,
    resync: null,
    grant: null,
    acceptedGrant: null,
    whyStopped: null,
    completedResync: null,
    primary: null,
  },
  { kind: "refuse", code: "not-a-peer", text: "no" },
  { kind: "bye", code: "diverged", text: "two records", seq: 12 },
  { kind: "heartbeat", commitSeq: big, lagMs: 5, inSync: true, isPrimary: true, verified: true },
  { kind: "heartbeat", commitSeq: 0, lagMs: 0, inSync: false, isPrimary: false, verified: false },
  { kind: "confirm", nonce: 0xffffffff },
  { kind: "confirmed", nonce: 0 },
  { kind: "start", fromSeq: 7, commitSeq: 8, mode: "sync", resyncId: null },
  { kind: "start", fromSeq: 0, commitSeq: 8, mode: "async", resyncId: id("4") },
  { kind: "records", frame: 1, lastSeq: 2 ** 45, commitSeq: 3 },
  { kind: "chunk", frame: 2, resyncId: id("5"), nextVolume: 1, nextBlock: 0, commitSeq: 4 },
  { kind: "ack", frames: 3, receivedSeq: 4, appliedSeq: 0 },
  { kind: "resyncStart", id: id("6"), lineage: sampleHello.lineage, seq: 950 },
  { kind: "resyncReady", id: id("6") },
  { kind: "resyncDone", id: id("6"), consistentSeq: 960 },
  { kind: "consistent", id: id("6"), seq: 960 },
  { kind: "verifyForked", id: id("7"), seq: 1, volumes: [{ number: 1, sizeBytes: 2 ** 44 }] },
  { kind: "verifyAsk", id: id("7"), ask: 1, volume: 1, firstMib: 2 ** 33, mibCount: 16 },
  { kind: "verifyDigests", id: id("7"), ask: 1, failed: false },
  { kind: "verifyEnd", id: id("7"), equal: true, finished: true },
  { kind: "grant", id: id("8"), timeline: id("a"), seq: 1 },
  { kind: "grantAnswer", id: id("8"), accepted: false, text: "busy", timeline: null },
  { kind: "grantAnswer", id: id("8"), accepted: true, text: "", timeline: id("b") },
  { kind: "migrateAsk", ask: 1, timeoutMs: 60000 },
  { kind: "migrateAnswer", ask: 1, ok: false, code: "not-drained", text: "no" },
  { kind: "peers", peers: [{ array: "elm", mode: "sync" }] },
  { kind: "closing", timeline: id("a"), seq: 9, binding: true },
];

interface Parsed {
  readonly frames: { readonly frame: Frame; readonly payload: Uint8Array }[];
  fault: string | null;
}

function parser(): { parsed: Parsed; feed: (chunk: Uint8Array) => void } {
  const parsed: Parsed = { frames: [], fault: null };
  const made = new FrameParser(peerCodec, {
    onFrame: (frame, payload) => {
      parsed.frames.push({ frame, payload: payload.slice() });
    },
    onMalformed: (text) => {
      assert.is(parsed.fault, null, "told once");
      parsed.fault = text;
    },
  });
  return { parsed, feed: (chunk) => made.feed(chunk) };
}

function wire(header: Uint8Array, payload = new Uint8Array(0)): Uint8Array {
  const bytes = new Uint8Array(8 + header.length + payload.length);
  new DataView(bytes.buffer).setUint32(0, header.length, true);
  new DataView(bytes.buffer).setUint32(4, payload.length, true);
  bytes.set(header, 8);
  bytes.set(payload, 8 + header.length);
  return bytes;
}

function join(parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

function faultOf(bytes: Uint8Array): string | null {
  const { parsed, feed } = parser();
  feed(bytes);
  return parsed.fault;
}

test("every kind of frame -> comes back as it was", () => {
  for (const frame of frames) {
    const { parsed, feed } = parser();
    feed(encodeFrame(frame, 0));
    assert.is(parsed.fault, null, frame.kind);
    assert.equal(parsed.frames[0]?.frame, frame, frame.kind);
  }
});

test("a stream fed one byte at a time, or in random pieces -> the same frames and payloads", () => {
  const prng = new Prng(1, "pieces");
  const payload = prng.fill(new Uint8Array(70_000));
  const parts: Uint8Array[] = [];
  for (const frame of frames) {
    const carries = frame.kind === "records" || frame.kind === "chunk";
    parts.push(encodeFrame(frame, carries ? payload.length : 0));
    if (carries) parts.push(payload);
  }
  const bytes = join(parts);
  for (const pieces of ["one", "random", "whole"]) {
    const { parsed, feed } = parser();
    for (let at = 0; at < bytes.length; ) {
      const length = pieces === "one" ? 1 : pieces === "random" ? 1 + prng.below(3000) : bytes.length;
      feed(bytes.slice(at, at + length));
      at += length;
    }
    assert.is(parsed.fault, null);
    assert.equal(
      parsed.frames.map(({ frame }) => frame),
      frames,
    );
    assert.equal(parsed.frames.find(({ frame }) => frame.kind === "records")?.payload, payload);
  }
});

test("a hello cut at every byte -> nothing comes out, nothing is told", () => {
  const bytes = encodeFrame(sampleHello, 0);
  for (let length = 0; length < bytes.length; length++) {
    const { parsed, feed } = parser();
    feed(bytes.subarray(0, length));
    assert.is(parsed.frames.length, 0);
    assert.is(parsed.fault, null);
  }
});

test("lengths of 1 GiB, or none -> refused before anything is kept", () => {
  for (const [headerBytes, payloadBytes] of [
    [1 << 30, 0],
    [0, 0],
    [linkLimits.headerBytesMax + 1, 0],
    [10, 1 << 30],
    [10, linkLimits.payloadBytesMax + 1],
    [0xffffffff, 0xffffffff],
  ] as const) {
    const prefix = new Uint8Array(8);
    new DataView(prefix.buffer).setUint32(0, headerBytes, true);
    new DataView(prefix.buffer).setUint32(4, payloadBytes, true);
    assert.ok(faultOf(prefix), `${headerBytes}/${payloadBytes}`);
  }
});

test("malformed headers -> one fault each, never an exception", () => {
  const { peer } = goldcopy;
  const encode = (frame: goldcopy.peer.IFrame) => peer.Frame.encode(frame).finish();
  const cases: [string, Uint8Array][] = [
    ["varint of 11 bytes", Uint8Array.of(0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1)],
    ["truncated submessage", Uint8Array.of(0x0a, 100, 1)],
    ["groups nested deep", new Uint8Array(60_000).fill(0x4b)],
    ["unknown kind", Uint8Array.of(0xf8, 0x07, 1)],
    ["two kinds", encode({ confirm: { nonce: 1 }, confirmed: { nonce: 1 } })],
    ["a seq above 2^53", Uint8Array.of(0x42, 11, 0x10, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1)],
    ["an id of 15 bytes", encode({ resyncReady: { id: new Uint8Array(15) } })],
    ["an unknown mode", encode({ start: { fromSeq: 1, mode: 9 } })],
    ["an unknown refusal", encode({ refuse: { code: 99 } })],
    ["a hello with nothing in it", encode({ hello: {} })],
    ["wrong wire type", Uint8Array.of(0x08, 1)],
    ["too many volumes", encode({ verifyForked: { id: new Uint8Array(16), volumes: Array(300).fill({ number: 1 }) } })],
  ];
  for (const [what, header] of cases) assert.ok(faultOf(wire(header)), what);
});

test("a hello whose numbers or names cannot be -> refused", () => {
  const bad: Partial<Hello>[] = [
    { persistedSeq: 10, commitSeq: 11 },
    { destagedSeq: 2000 },
    { lineage: [] },
    {
      lineage: [
        { timeline: id("a"), firstSeq: 5 },
        { timeline: id("b"), firstSeq: 5 },
      ],
    },
    { headSeq: 100, persistedSeq: 100, commitSeq: 100, destagedSeq: 0 },
    { array: "" },
    { array: "x".repeat(300) },
    { groupName: "bell\u0007" },
  ];
  for (const change of bad) assert.ok(faultOf(encodeFrame({ ...sampleHello, ...change }, 0)), JSON.stringify(change));
});

test("a payload where none belongs -> refused", () => {
  const header = encodeFrame({ kind: "confirm", nonce: 1 }, 0).subarray(8);
  assert.match(faultOf(wire(header, new Uint8Array(5))) ?? "", /payload/);
});

test("random bytes, and frames with a byte changed -> a frame or a fault, never an exception", () => {
  const prng = new Prng(7, "noise");
  for (let round = 0; round < 3000; round++) {
    const length = 1 + prng.below(200);
    faultOf(wire(prng.fill(new Uint8Array(length))));
    const bytes = encodeFrame(frames[prng.below(frames.length)]!, 0).slice();
    bytes[8 + prng.below(bytes.length - 8)] = prng.below(256);
    faultOf(bytes);
  }
  assert.ok(faultOf(wire(new Uint8Array(4).fill(0xff))));
});

test("after a fault -> nothing more is taken", () => {
  const { parsed, feed } = parser();
  feed(wire(Uint8Array.of(0xff)));
  assert.ok(parsed.fault);
  feed(encodeFrame({ kind: "confirm", nonce: 1 }, 0));
  assert.is(parsed.frames.length, 0);
});

test("a log that would begin where seqs end -> malformed: what follows it could not be counted", () => {
  for (const seq of [big + 1, Number.MAX_SAFE_INTEGER]) {
    const { parsed, feed } = parser();
    feed(encodeFrame({ kind: "resyncStart", id: id("6"), lineage: sampleHello.lineage, seq }, 0));
    assert.is(parsed.frames.length, 0);
    assert.match(parsed.fault ?? "", "resyncStart: seq is not a whole number up to 2^52");
  }
});

test.run();
