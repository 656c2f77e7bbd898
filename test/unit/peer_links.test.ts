import { suite } from "uvu";
import * as assert from "uvu/assert";
import { FrameParser } from "../../firmware/codec/frame_parser.ts";
import type { Frame, Hello } from "../../firmware/peer/frame.ts";
import { encodeFrame } from "../../firmware/peer/frame_encode.ts";
import { defaultSettings } from "../../firmware/peer/limits.ts";
import { Link, peerCodec } from "../../firmware/peer/link.ts";
import type { ByteStream } from "../../hal/api/byte_stream.ts";
import { ManualClock } from "./support/manual_clock.ts";
import { groupId, Lab } from "./support/replication_site.ts";

const test = suite("peer_links");

const stranger: Hello = {
  kind: "hello",
  version: 1,
  versionMin: 1,
  features: 0,
  array: "elm",
  arrayId: "e".repeat(32),
  appliance: "elm-a",
  session: "5".repeat(32),
  groupId,
  groupName: "demo",
  role: "golden",
  writable: false,
  primary: "oak",
  lineage: [],
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
  recordPayloadBytes: 1 << 20,
};

/** A hand-made caller of a site's first NIC. */
class Caller {
  readonly frames: Frame[] = [];
  stream: ByteStream | null = null;
  closed = false;
  readonly #unsent: Uint8Array[] = [];

  constructor(lab: Lab, address: string) {
    const parser = new FrameParser(peerCodec, { onFrame: (frame) => this.frames.push(frame), onMalformed: () => {} });
    lab.world.connectHost(
      address,
      (stream) => {
        this.stream = stream;
        return {
          onData: (chunk) => parser.feed(chunk),
          onDrain: () => this.#flush(),
          onEnd: () => {},
          onClose: () => {
            this.closed = true;
          },
        };
      },
      () => {
        this.closed = true;
      },
    );
    lab.until("connected", () => this.stream !== null);
  }

  say(frame: Frame): void {
    this.send(encodeFrame(frame, 0));
  }

  send(bytes: Uint8Array): void {
    this.#unsent.push(bytes);
    if (this.#unsent.length === 1) this.#flush();
  }

  #flush(): void {
    for (let bytes = this.#unsent[0]; bytes !== undefined; bytes = this.#unsent[0]) {
      const taken = this.stream!.write(bytes);
      if (taken < bytes.length) {
        this.#unsent[0] = bytes.subarray(taken);
        return;
      }
      this.#unsent.shift();
    }
  }

  get refusal(): string | null {
    const refuse = this.frames.find((frame) => frame.kind === "refuse");
    return refuse?.kind === "refuse" ? refuse.code : null;
  }
}

test("the stream takes nothing for a while -> payloads arrive as they were when they were sent", () => {
  const arrived: number[][] = [];
  const parser = new FrameParser(peerCodec, {
    onFrame: (_frame, payload) => arrived.push([payload.byteLength, ...new Set(payload)]),
    onMalformed: (text) => assert.unreachable(text),
  });
  let room = 50_000;
  const stream: ByteStream = {
    remote: "elm-a",
    write(bytes) {
      const taken = Math.min(room, bytes.byteLength);
      room -= taken;
      parser.feed(bytes.slice(0, taken));
      return taken;
    },
    end: () => {},
    abort: () => {},
    pause: () => {},
    resume: () => {},
    giveBack: () => {},
  };
  const clock = new ManualClock();
  const link = new Link(stream, true, clock, defaultSettings);
  // A segment of the log that is sent from twice and is then used for something else: small parts, and large ones.
  const memory = new Uint8Array(100_000).fill(1);
  const send = (frame: number, bytes: number) =>
    link.send({ kind: "records", frame, lastSeq: frame, commitSeq: frame }, [memory.subarray(0, bytes)]);
  send(1, 100_000);
  memory.fill(2);
  send(2, 100_000);
  memory.fill(3);
  send(3, 1000);
  memory.fill(4);
  room = 1_000_000;
  clock.runDeferred();
  link.handler.onDrain();
  assert.equal(arrived, [
    [100_000, 1],
    [100_000, 2],
    [1000, 3],
  ]);
  link.abort();
});

test("a caller with another version, an unknown name, our own name -> refused with a reason, told once", () => {
  const lab = Lab.pair(1);
  const oak = lab.site("oak");
  const cases: [Partial<Hello>, string][] = [
    [{ version: 3, versionMin: 2 }, "version"],
    [{ version: 0, versionMin: 0 }, "version"],
    [{ array: "ash" }, "unknown-array"],
    [{ array: "oak" }, "self"],
    [{ groupId: "9".repeat(32) }, "unknown-group"],
  ];
  for (const [change, expected] of cases) {
    for (let times = 0; times < 3; times++) {
      const caller = new Caller(lab, "oak-a:7400");
      caller.say({ ...stranger, ...change });
      lab.until("closed", () => caller.closed);
      assert.is(caller.refusal, expected);
    }
    const told = oak.events.filter((event) => event.startsWith("peer-caller-refused")).length;
    assert.ok(told <= cases.length, `told once each, ${told}`);
  }
  lab.until("the pair is undisturbed", () => oak.peer("elm").state === "in-sync");
});

test("a version one higher that still speaks ours -> accepted", () => {
  const lab = Lab.pair(2);
  lab.site("elm").crash();
  const oak = lab.site("oak");
  const caller = new Caller(lab, "oak-a:7400");
  caller.say({ ...stranger, version: 2, versionMin: 1 });
  lab.until("answered", () => caller.frames.some((frame) => frame.kind === "hello"));
  assert.is(caller.refusal, null);
  lab.until("oak sends", () => caller.frames.some((frame) => frame.kind === "start" || frame.kind === "resyncStart"));
  assert.is(oak.status.writable, true);
});

test("garbage, silence, a frame before the hello -> the connection is closed, the pair is undisturbed", () => {
  const lab = Lab.pair(3);
  const oak = lab.site("oak");
  const garbage = new Caller(lab, "oak-a:7400");
  garbage.send(new Uint8Array(500).fill(0xee));
  lab.until("closed", () => garbage.closed);
  const early = new Caller(lab, "oak-a:7400");
  early.say({ kind: "ack", frames: 1, receivedSeq: 1, appliedSeq: 1 });
  lab.until("closed", () => early.closed);
  const silent = Array.from({ length: 100 }, () => new Caller(lab, "oak-a:7400"));
  lab.until("closed in time", () => silent.every((caller) => caller.closed), 5000);
  oak.write(1, 1);
  assert.is(oak.peer("elm").state === "in-sync" || oak.peer("elm").state === "catching-up", true);
});

test("a peer that lies in its acknowledgements -> its link ends with an event, hosts go on", () => {
  const lab = Lab.pair(4);
  const oak = lab.site("oak");
  lab.site("elm").crash();
  lab.until("noticed", () => !oak.peer("elm").state.startsWith("in-sync"));
  for (const lie of [
    { frames: 99, receivedSeq: 1, appliedSeq: 0 },
    { frames: 0, receivedSeq: 1_000_000, appliedSeq: 0 },
    { frames: 0, receivedSeq: 1, appliedSeq: 2 },
  ]) {
    const caller = new Caller(lab, "oak-a:7400");
    caller.say(stranger);
    lab.until("a stream", () => caller.frames.some((frame) => frame.kind === "start"));
    caller.say({ kind: "ack", ...lie });
    lab.until("closed", () => caller.closed);
    assert.ok(caller.frames.some((frame) => frame.kind === "bye" && frame.code === "protocol"));
  }
  assert.ok(oak.saw("peer-protocol"));
  oak.write(1, 1);
});

test("one NIC is cut -> the link comes back over the other one", () => {
  const lab = Lab.pair(5);
  const oak = lab.site("oak");
  for (const nic of ["nic0", "nic1"]) {
    lab.world.shape("oak-a", "elm-a", { cut: true }, nic);
    lab.world.shape("elm-a", "oak-a", { cut: true }, nic);
    lab.until("in sync over the other one", () => {
      oak.submit(1, lab.world.nowMs & 255);
      lab.world.runFor(100);
      return oak.peer("elm").state === "in-sync" && oak.peer("elm").lagSeqs === 0;
    });
    lab.world.shape("oak-a", "elm-a", null, nic);
    lab.world.shape("elm-a", "oak-a", null, nic);
  }
});

test("one direction is cut -> both sides notice, and meet again afterwards", () => {
  const lab = Lab.pair(6);
  const oak = lab.site("oak");
  const elm = lab.site("elm");
  lab.world.cut("oak-a", "elm-a", true);
  lab.until("both notice", () => oak.peer("elm").state === "disconnected" && elm.status.state === "consistent");
  oak.write(1, 1);
  lab.join("oak", "elm");
  lab.until("in sync", () => oak.peer("elm").state === "in-sync");
});

test("a primary is paused and goes on -> what waits in its sockets is heard before a link is given up", () => {
  const lab = Lab.pair(7);
  const oak = lab.site("oak");
  const elm = lab.site("elm");
  oak.machine.pause();
  lab.world.runFor(400);
  oak.machine.resume();
  lab.world.runFor(2000);
  assert.not(elm.saw("peer-lost"), "a short stall is not a loss");
  assert.is(oak.peer("elm").state, "in-sync");
});

test("both sides call each other at once -> one connection stays", () => {
  for (let seed = 0; seed < 10; seed++) {
    const lab = Lab.pair(100 + seed);
    const oak = lab.site("oak");
    const elm = lab.site("elm");
    oak.write(1, 1);
    lab.cut("oak", "elm");
    oak.crash();
    lab.done("takeover", elm.commands.takeover({ force: false, fork: false, timeoutMs: 5000 }));
    lab.join("oak", "elm");
    oak.start();
    lab.until(
      "met",
      () => oak.replication!.channel("elm")?.connected === true && elm.replication!.channel("oak")?.connected === true,
    );
    lab.world.runFor(3000);
    const lost = [...oak.events, ...elm.events].filter((event) => event.startsWith("peer-lost")).length;
    assert.ok(lost <= 4, `no flapping: ${lost}`);
    assert.ok(oak.replication!.channel("elm")!.connected);
  }
});

test("three arrays -> both golden copies follow; after a migrate the third follows the new primary", () => {
  const lab = new Lab(8, ["oak", "elm", "ash"]);
  const oak = lab.site("oak");
  const elm = lab.site("elm");
  const ash = lab.site("ash");
  oak.create();
  for (const site of [oak, elm, ash]) site.start();
  lab.until("oak serves", () => oak.replication?.status().writable === true);
  oak.addVolume();
  lab.done("elm", oak.commands.addPeer("elm", "sync"));
  lab.done("ash", oak.commands.addPeer("ash", "async"));
  lab.until("both", () => oak.peer("elm").state === "in-sync" && oak.peer("ash").state === "in-sync");
  for (let block = 0; block < 20; block++) oak.write(block, 1 + block);
  lab.done("migrate", oak.commands.migrate("elm", 10_000));
  elm.write(30, 30);
  lab.until("both follow elm", () => elm.peer("oak").state === "in-sync" && elm.peer("ash").state === "in-sync");
  lab.until("ash shows it", () => ash.log.commitSeq === elm.log.commitSeq);
  assert.is(ash.status.primary, "elm");
  assert.equal(ash.image(), elm.image());
  assert.is(elm.peer("oak").mode, "sync");
});

test.run();
