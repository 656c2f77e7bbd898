/** The partners' language: what is sent arrives as it was, and what is no frame of it is a sentence. */
import protobuf from "protobufjs/minimal.js";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { FrameParser, framePrefixBytes } from "../../firmware/codec/frame_parser.ts";
import type { PairFrame, PairMessage } from "../../firmware/pair/frame.ts";
import { pairCodec } from "../../firmware/pair/frame_codec.ts";
import { pairLimits } from "../../firmware/pair/limits.ts";
import { Prng } from "../../hal/mock/prng.ts";
import { goldcopy } from "../../proto/generated/pair.js";

const test = suite("pair_frames");

const id = "0123456789abcdef".repeat(2);
const hello: PairFrame = {
  kind: "hello",
  version: 1,
  versionMin: 1,
  array: "oak",
  appliance: "oak-a",
  session: id,
  theirs: null,
  portals: [{ protocol: "iscsi", address: "192.0.2.10:3260" }],
  cacheBytes: 2 ** 40,
  domain: "flush",
};
const messages: readonly PairMessage[] = [
  {
    kind: "state",
    role: "owner",
    nonce: id,
    batteryGood: true,
    text: "why",
    preferred: true,
    copy: "whole",
    serving: [id, "f".repeat(32)],
    emptySlots: Array(pairLimits.emptySlotsMax).fill("shelf-0123456789/100-255"),
  },
  { kind: "lead" },
  { kind: "follow" },
  { kind: "handOver" },
  { kind: "attach", nonce: null },
  { kind: "attached", refusal: "" },
  { kind: "compare", offset: 4194304, pageBytes: pairLimits.comparePageBytes },
  { kind: "differs", offset: 4194304, pages: [0, 3, 63] },
  { kind: "mirror", frame: 2 ** 40, offsets: [0, 4294963200], lengths: [64, 4096] },
  { kind: "mirrored", frame: 2 ** 40 },
  { kind: "mirrorFailed", text: "broken" },
  { kind: "directory", more: true },
  {
    kind: "openNexus",
    channel: 7,
    initiatorPort: "iqn.2026-11.test.host:one,i,0x800000010000",
    portalGroup: 2,
    relativePort: 17,
    isContinued: true,
    host: { remote: "192.0.2.1:999", iqn: "iqn.2026-11.test.host:one", tlsName: "" },
  },
  {
    kind: "openVolume",
    channel: 8,
    name: "demo-1",
    image: "head",
    host: { remote: "192.0.2.1:999", iqn: "", tlsName: "host" },
  },
  { kind: "ask" },
  { kind: "told" },
  { kind: "close", channel: 7 },
  { kind: "call", id: 9, method: "GET", path: "/v1/status", more: false },
  { kind: "answer", id: 9, status: 200 },
];
const frames: readonly PairFrame[] = [
  hello,
  { ...hello, theirs: id, portals: [] },
  { kind: "refuse", text: "no" },
  { kind: "beat", received: 2 ** 50 },
  ...messages.map((message, index): PairFrame => ({ kind: "message", number: index + 1, received: index, message })),
];

function received(bytes: Uint8Array): { frames: PairFrame[]; faults: string[] } {
  const result = { frames: [] as PairFrame[], faults: [] as string[] };
  const parser = new FrameParser(pairCodec, {
    onFrame: (frame) => result.frames.push(frame),
    onMalformed: (text) => result.faults.push(text),
  });
  parser.feed(bytes);
  return result;
}

function withHeader(message: goldcopy.pair.IFrame, payloadBytes = 0): Uint8Array {
  const header = goldcopy.pair.Frame.encode(message, protobuf.Writer.create()).finish();
  const bytes = new Uint8Array(framePrefixBytes + header.byteLength + payloadBytes);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, header.byteLength, true);
  view.setUint32(4, payloadBytes, true);
  bytes.set(header, framePrefixBytes);
  return bytes;
}

test("every frame -> arrives as it was", () => {
  for (const frame of frames) assert.equal(received(pairCodec.encode(frame, 0)), { frames: [frame], faults: [] });
});

/** Frames with payloads that are lent and that are not, as bytes; `contents`: what each payload holds. */
function stream(prng: Prng): { bytes: Uint8Array; sent: { kind: string; payload: Uint8Array }[] } {
  const carried: readonly PairMessage[] = [
    { kind: "told" },
    { kind: "mirror", frame: 1, offsets: [0], lengths: [1] },
    { kind: "ask" },
    { kind: "answer", id: 1, status: 200 },
  ];
  const pieces: Uint8Array[] = [];
  const sent: { kind: string; payload: Uint8Array }[] = [];
  for (let number = 1; number <= 12; number++) {
    const message = prng.pick(carried);
    const payload = new Uint8Array(prng.pick([0, 1, 100, 5000, 300_000])).fill(number);
    pieces.push(pairCodec.encode({ kind: "message", number, received: 0, message }, payload.byteLength), payload);
    sent.push({ kind: message.kind, payload });
  }
  return { bytes: Buffer.concat(pieces), sent };
}

test("a chunk is free once it has been fed -> whoever has a payload that is not lent still has it; lent ones were whole", () => {
  const prng = new Prng(3, "lending");
  let freed = 0;
  let kept = 0;
  for (let round = 0; round < 300; round++) {
    const { bytes, sent } = stream(prng);
    const held: { index: number; payload: Uint8Array }[] = [];
    let count = 0;
    const parser = new FrameParser(pairCodec, {
      onFrame: (frame, payload) => {
        const expected = sent[count]!;
        assert.is(frame.kind === "message" && frame.message.kind, expected.kind);
        assert.is(Buffer.compare(payload, expected.payload), 0, "as it was sent");
        if (!pairCodec.lendsPayload(frame)) held.push({ index: count, payload });
        count++;
      },
      onMalformed: (text) => assert.unreachable(text),
    });
    for (let at = 0; at < bytes.byteLength; ) {
      const end = Math.min(bytes.byteLength, at + 1 + prng.below(prng.pick([10, 2000, 400_000])));
      const chunk = bytes.slice(at, end);
      if (parser.feed(chunk)) {
        chunk.fill(0xdb);
        freed++;
      } else kept++;
      at = end;
    }
    assert.is(count, sent.length);
    for (const { index, payload } of held) assert.is(Buffer.compare(payload, sent[index]!.payload), 0, "as it was");
  }
  assert.ok(freed > 100 && kept > 100, `${freed} free, ${kept} not`);
});

test("lent payloads over several chunks -> assembled in one memory; others in memory of their own", () => {
  const memoryOf = (message: PairMessage, payloadBytes: number): number => {
    const buffers = new Set<ArrayBufferLike>();
    const parser = new FrameParser(pairCodec, {
      onFrame: (_, payload) => buffers.add(payload.buffer),
      onMalformed: (text) => assert.unreachable(text),
    });
    for (let number = 1; number <= 20; number++) {
      const head = pairCodec.encode({ kind: "message", number, received: 0, message }, payloadBytes);
      assert.ok(parser.feed(Buffer.concat([head, new Uint8Array(60_000)])));
      assert.ok(parser.feed(new Uint8Array(payloadBytes - 60_000)));
    }
    return buffers.size;
  };
  for (const payloadBytes of [100_000, pairLimits.payloadBytesMax]) {
    assert.is(memoryOf({ kind: "told" }, payloadBytes), 1);
    assert.is(memoryOf({ kind: "ask" }, payloadBytes), 20);
  }
});

test("headers that break a promise -> malformed, with the reason", () => {
  const session = new Uint8Array(16);
  const good = { magic: 0x47435052, version: 1, versionMin: 1, array: "oak", appliance: "oak-a", session, domain: 1 };
  const cases: readonly [goldcopy.pair.IFrame, RegExp][] = [
    [{ number: 5 }, /no known kind/],
    [{ hello: { ...good, magic: 1 } }, /magic/],
    [{ hello: { ...good, session: new Uint8Array(15) } }, /session/],
    [{ hello: { ...good, domain: 3 } }, /domain/],
    [{ hello: { ...good, appliance: "a\nb" } }, /appliance/],
    [{ hello: { ...good, portals: new Array(33).fill({ protocol: "nbd", address: "x" }) } }, /portals/],
    [{ number: 0, lead: {} }, /number/],
    [{ number: 1, state: { role: 9, copy: 1 } }, /role/],
    [{ number: 1, state: { role: 1, copy: 9 } }, /copy/],
    [{ number: 1, state: { role: 1, copy: 1, serving: new Array(65).fill(session) } }, /serving/],
    [{ number: 1, state: { role: 1, copy: 1, emptySlots: new Array(1001).fill("s/0") } }, /empty slots/],
    [{ number: 1, mirror: { frame: 1, offsets: [1], lengths: [] } }, /lengths/],
    [
      { number: 1, mirror: { frame: 1, offsets: new Array(1025).fill(0), lengths: new Array(1025).fill(0) } },
      /offsets/,
    ],
    [{ number: 1, compare: { offset: 0, pageBytes: 512 } }, /64 KiB/],
    [{ number: 1, differs: { offset: 0, pages: [3, 3] } }, /in order/],
    [{ number: 1, differs: { offset: 0, pages: [64] } }, /in order/],
  ];
  for (const [message, reason] of cases) {
    const { frames: none, faults } = received(withHeader(message));
    assert.is(none.length, 0, JSON.stringify(message));
    assert.match(faults[0] ?? "", reason);
  }
  assert.match(received(withHeader({ number: 1, lead: {} }, 8)).faults[0]!, /payload/);
});

test("bytes that were changed at random -> a frame or a sentence, never an exception", () => {
  const prng = new Prng(1, "mutations");
  for (let round = 0; round < 20_000; round++) {
    const bytes = pairCodec.encode(prng.pick(frames), 0).slice();
    for (let change = prng.below(4); change >= 0; change--)
      bytes[framePrefixBytes + prng.below(bytes.byteLength - framePrefixBytes)] = prng.below(256);
    const { frames: some, faults } = received(bytes);
    assert.ok(some.length + faults.length <= 1);
  }
});

test.run();
