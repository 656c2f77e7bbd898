/** Connections of a NIC that the two halves of an array share: by mark on the interconnect, by group for peer arrays. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { halfOfCopy, type KnownGroups, lanesByGroup } from "../../firmware/pair/peer_lanes.ts";
import { lanesByMark, SharedNic } from "../../firmware/pair/shared_nic.ts";
import type { Hello } from "../../firmware/peer/frame.ts";
import { peerCodec } from "../../firmware/peer/link.ts";
import type { ByteStream, StreamHandler } from "../../hal/api/byte_stream.ts";
import type { Nic } from "../../hal/api/nic.ts";
import { ManualClock } from "./support/manual_clock.ts";

const test = suite("pair_lanes");

class FakeStream implements ByteStream {
  readonly remote = "elm-a";
  readonly written: number[] = [];
  state = "open";
  write(bytes: Uint8Array): number {
    this.written.push(...bytes);
    return bytes.byteLength;
  }
  end(): void {
    this.state = "ended";
  }
  abort(): void {
    this.state = "aborted";
  }
  pause(): void {}
  resume(): void {}
  giveBack(): void {}
}

class FakeNic implements Nic {
  readonly name = "nic0";
  readonly address = "192.0.2.1:7400";
  accept: ((stream: ByteStream) => StreamHandler) | null = null;
  connected: ((stream: ByteStream) => StreamHandler) | null = null;
  listens = 0;
  listen(accept: (stream: ByteStream) => StreamHandler, done: (error: string | null) => void): void {
    this.listens++;
    this.accept = accept;
    done(null);
  }
  close(): void {
    this.accept = null;
  }
  connect(_address: string, connected: (stream: ByteStream) => StreamHandler): void {
    this.connected = connected;
  }
  shape(): void {}
  shapings(): ReturnType<Nic["shapings"]> {
    return new Map();
  }
}

function recorder(heard: string[], name: string): StreamHandler {
  return {
    onData: (chunk) => heard.push(`${name} ${[...chunk].join(".")}`),
    onDrain: () => heard.push(`${name} drain`),
    onEnd: () => heard.push(`${name} end`),
    onClose: () => heard.push(`${name} close`),
  };
}

function bench() {
  const clock = new ManualClock();
  const nic = new FakeNic();
  const shared = new SharedNic(nic, 2, clock, lanesByMark);
  const heard: string[] = [];
  for (const [index, lane] of shared.lanes.entries())
    lane.listen(
      () => recorder(heard, `lane${index}`),
      () => {},
    );
  return { clock, nic, shared, heard };
}

test("a connection -> goes to the lane of its first byte, with everything behind that", async () => {
  const { nic, heard } = bench();
  await Promise.resolve();
  assert.is(nic.listens, 1);
  const handler = nic.accept!(new FakeStream());
  handler.onData(Uint8Array.of(1, 7, 8));
  handler.onData(Uint8Array.of(9));
  handler.onEnd();
  handler.onClose();
  assert.equal(heard, ["lane1 7.8", "lane1 9", "lane1 end", "lane1 close"]);
});

test("whoever connects for a lane -> sends its mark before anything else", () => {
  const { clock, nic, shared } = bench();
  shared.lanes[1]!.connect(
    "192.0.2.2:7400",
    (stream) => {
      clock.defer(() => stream.write(Uint8Array.of(5, 6)));
      return recorder([], "");
    },
    () => {},
  );
  const stream = new FakeStream();
  nic.connected!(stream);
  clock.runDeferred();
  assert.equal(stream.written, [1, 5, 6]);
});

test("a mark of nobody, a stream that says nothing, a lane that has closed -> the stream is closed", () => {
  const { clock, nic, shared, heard } = bench();
  const unknown = new FakeStream();
  nic.accept!(unknown).onData(Uint8Array.of(9, 1));
  assert.is(unknown.state, "ended");
  const silent = new FakeStream();
  nic.accept!(silent);
  while (clock.timerCount > 0) clock.step();
  assert.is(silent.state, "aborted");
  shared.lanes[0]!.close();
  const late = new FakeStream();
  nic.accept!(late).onData(Uint8Array.of(0, 1));
  assert.is(late.state, "ended");
  assert.equal(heard, []);
});

const id = (digit: string) => digit.repeat(32);
const hello: Hello = {
  kind: "hello",
  version: 1,
  versionMin: 1,
  features: 0,
  array: "elm",
  arrayId: id("a"),
  appliance: "elm-a",
  session: id("b"),
  groupId: id("c"),
  groupName: "demo",
  role: "primary",
  writable: true,
  primary: "elm",
  lineage: [{ timeline: id("d"), firstSeq: 1 }],
  headSeq: 1,
  persistedSeq: 1,
  commitSeq: 1,
  destagedSeq: 1,
  consistent: true,
  resync: null,
  promotableSeq: 1,
  peers: [{ array: "oak", mode: "async" }],
  grant: null,
  acceptedGrant: null,
  whyStopped: null,
  wantsResync: false,
  completedResync: null,
  recordPayloadBytes: 65536,
};

function laneOf(known: KnownGroups): string {
  const bytes = peerCodec.encode(hello, 0);
  const rule = lanesByGroup(() => known);
  for (let length = 0; length < bytes.byteLength; length++)
    assert.is(rule.choose(bytes.subarray(0, length)).kind, "more", `${length} bytes`);
  const choice = rule.choose(bytes);
  return choice.kind === "lane" ? `lane ${choice.lane}` : choice.kind;
}

const half = (number: number, isHere: boolean, isKnown: boolean, has: boolean) => ({
  half: number,
  isHere,
  isKnown,
  has: () => has,
});

test("a caller of a peer array -> goes to the half that has its group, when that is here", () => {
  assert.is(laneOf([half(0, true, true, false), half(1, true, true, true)]), "lane 1");
  assert.is(
    laneOf([half(0, true, true, true), half(1, false, false, false)]),
    "lane 0",
    "what the other has is not known",
  );
  assert.is(laneOf([half(0, true, true, false), half(1, false, true, true)]), "nobody", "the partner has it");
});

test("a group that no half has -> is made in one half by its name, and by nobody while a half is not known", () => {
  const own = halfOfCopy("demo");
  const at = (isHere: boolean, isKnown: boolean) =>
    [0, 1].map((number) => half(number, number === own ? isHere : true, isKnown, false));
  assert.is(laneOf(at(true, true)), `lane ${own}`);
  assert.is(laneOf(at(false, true)), "nobody");
  assert.is(laneOf(at(true, false)), "nobody");
});

test("what is no hello -> goes to the first half, which says so", () => {
  const choice = lanesByGroup(() => []).choose(new TextEncoder().encode("GET / HTTP/1.1\r\n\r\n"));
  assert.equal(choice, { kind: "lane", lane: 0, skipBytes: 0 });
});

test.run();
