/** Life and limits of sessions: ends of all kinds, back-pressure, hostile input, bounded memory, many connections. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { defaultNbdLimits } from "../../firmware/frontend/nbd/limits.ts";
import { NbdServer } from "../../firmware/frontend/nbd/server.ts";
import { ManualClock } from "./support/manual_clock.ts";
import { MemoryExports } from "./support/memory_target.ts";
import { bytesOf, command, type HostStream, option, takeReplies, takeReply } from "./support/nbd_host.ts";
import { NbdBench, pattern, volumeBytes } from "./support/nbd_session.ts";

const test = suite("nbd_sessions");

const READ = 0;
const WRITE = 1;
const DISC = 2;
const FLUSH = 3;

function readOf(cookie: number, length: number, offset = 0): Uint8Array {
  return command({ command: READ, cookie: BigInt(cookie), offset, length });
}

/** Takes everything off a stream that lets `roomBytes` through at a time, until nothing more comes. */
function drainAll(bench: NbdBench, stream: HostStream, roomBytes: number): Uint8Array {
  const parts: Uint8Array[] = [];
  for (;;) {
    stream.drain(roomBytes);
    bench.clock.pass(1);
    const part = stream.takeAll();
    if (part.byteLength === 0) return Buffer.concat(parts);
    parts.push(part);
  }
}

test("DISC with requests in flight -> they complete, replies go out, then the stream ends; nothing stays", () => {
  const bench = new NbdBench();
  const stream = bench.open();
  bench.volume.gate = true;
  stream.send(readOf(1, 512), command({ command: DISC }), readOf(2, 512));
  assert.is(stream.state, "open");
  bench.volume.release();
  bench.clock.runDeferred();
  assert.is(stream.received.byteLength, 16 + 512);
  assert.is(stream.state, "ended");
  assert.is(bench.volume.submitted.length, 1, "what follows DISC is not looked at");
  stream.close();
  assert.is(bench.server.sessionCount, 0);
  assert.is(bench.volume.targets.size, 0);
  assert.is(bench.clock.timerCount, 0);
});

test("the host ends its half -> what it asked is answered, then the stream ends", () => {
  const bench = new NbdBench();
  const stream = bench.open();
  bench.volume.gate = true;
  stream.send(command({ command: WRITE, payload: pattern(512) }));
  stream.handler.onEnd();
  bench.clock.runDeferred();
  assert.is(stream.state, "open");
  bench.volume.release();
  bench.clock.runDeferred();
  assert.is(takeReply(stream).error, 0);
  assert.is(stream.state, "ended");
  assert.equal(bench.events, []);
});

test("the host ends in the middle of a payload -> the write never goes down, reported once", () => {
  const bench = new NbdBench();
  const stream = bench.open();
  stream.send(command({ command: WRITE, length: 4096 }), pattern(4095));
  stream.handler.onEnd();
  bench.clock.runDeferred();
  assert.is(stream.state, "ended");
  assert.equal(bench.codes(), ["nbd-truncated"]);
  assert.equal(bench.volume.submitted, []);
});

test("the stream closes with requests in flight -> completions are for nobody, memory comes back", () => {
  const bench = new NbdBench();
  for (let round = 0; round < 3; round++) {
    const stream = bench.open();
    bench.volume.gate = true;
    for (let index = 0; index < 8; index++) stream.send(readOf(index, volumeBytes / 2));
    stream.send(command({ command: WRITE, length: volumeBytes }), pattern(1000));
    stream.close();
    assert.is(bench.server.sessionCount, 0);
    bench.volume.release();
    bench.volume.gate = false;
    bench.clock.pass(1);
  }
  assert.is(bench.server.sharedBytes, 0);
  assert.is(bench.clock.timerCount, 0);
});

test("the target ends -> in flight completes, nothing new goes down, the stream ends", () => {
  const bench = new NbdBench();
  const stream = bench.open();
  bench.volume.gate = true;
  stream.send(readOf(1, 512), command({ command: WRITE, length: 1024 }), pattern(512));
  bench.volume.end("role change");
  stream.send(pattern(512), readOf(2, 512));
  assert.is(stream.state, "open");
  bench.volume.release();
  bench.clock.runDeferred();
  assert.is(stream.takeAll().byteLength, 528);
  assert.is(stream.state, "ended");
  assert.is(bench.volume.submitted.length, 1);
});

test("closeAll -> every session ends in order, new ones are refused", () => {
  const bench = new NbdBench();
  const open = bench.open();
  const haggling = bench.haggling();
  bench.server.closeAll();
  bench.clock.runDeferred();
  assert.is(open.state, "ended");
  assert.is(haggling.state, "ended");
  const late = bench.connect();
  assert.is(late.state, "aborted");
  assert.equal(bench.events, []);
});

test("a closing session whose host reads nothing -> closed at the time limit", () => {
  const bench = new NbdBench({ closingMs: 1000 });
  const stream = bench.open();
  stream.roomBytes = 0;
  stream.send(readOf(1, 512), command({ command: DISC }));
  bench.clock.pass(999);
  assert.is(stream.state, "open");
  bench.clock.pass(1);
  assert.is(stream.state, "aborted");
  assert.is(bench.server.sessionCount, 0);
});

test("a handshake that does not end -> closed at the time limit, reported; a session in transmission may idle", () => {
  const bench = new NbdBench({ handshakeMs: 1000 });
  const silent = bench.connect();
  const slow = bench.haggling();
  const idle = bench.open();
  for (const letter of "IHAVEOPT\0\0\0") {
    slow.send(bytesOf(letter));
    bench.clock.pass(100);
  }
  assert.is(silent.state, "aborted");
  assert.is(slow.state, "aborted");
  assert.equal(bench.codes(), ["nbd-handshake-timeout", "nbd-handshake-timeout"]);
  bench.clock.pass(86_400_000);
  idle.send(command({ command: FLUSH }));
  assert.is(takeReply(idle).error, 0);
});

test("garbage, commands before the end of the haggling, absurd lengths -> closed, reported once each, others undisturbed", () => {
  const bench = new NbdBench({ optionsMax: 20 });
  const other = bench.open();
  const cases: [string, HostStream, Uint8Array][] = [
    ["nbd-bad-option-magic", bench.haggling(), bytesOf("GET / HTTP/1.1\r\nHost: oak\r\n\r\n")],
    ["nbd-bad-option-magic", bench.haggling(), command({ command: READ, length: 512 })],
    ["nbd-option-too-long", bench.haggling(), option(7, bytesOf(""), 0xffffffff)],
    ["nbd-option-too-long", bench.haggling(), option(99, bytesOf(""), 33554433)],
    ["nbd-bad-export-name", bench.haggling(), option(1, new Uint8Array(4097).fill(97))],
    ["nbd-bad-export-name", bench.haggling(), option(1, new Uint8Array([0xff]))],
    ["nbd-too-many-options", bench.haggling(), Buffer.concat(Array.from({ length: 21 }, () => option(3)))],
    ["nbd-bad-magic", bench.open(), pattern(28)],
    ["nbd-bad-magic", bench.open(), Buffer.concat([command({ command: FLUSH }), bytesOf("XXXX")])],
    ["nbd-payload-too-long", bench.open(), command({ command: WRITE, length: 33554433 })],
    ["nbd-payload-too-long", bench.open(), command({ command: WRITE, length: 0xffffffff })],
  ];
  for (const [code, stream, bytes] of cases) {
    bench.events.length = 0;
    stream.send(bytes);
    stream.send(pattern(100));
    assert.equal(bench.codes(), [code]);
    assert.is(stream.state, "ended", code);
  }
  other.send(command({ command: FLUSH }));
  assert.is(takeReply(other).error, 0);
});

test("a host that reads nothing -> its input stops, its memory is bounded; reading again, it gets every reply", () => {
  const bench = new NbdBench({
    outputBacklogBytes: 65536,
    sessionBytesMax: 1048576,
    requestBytesMax: 1048576,
    sharedBytesMax: 1048576,
  });
  const stream = bench.open();
  stream.roomBytes = 0;
  const count = 2000;
  stream.send(Buffer.concat(Array.from({ length: count }, (_, index) => readOf(index, 512, (index % 100) * 512))));
  bench.clock.pass(10);
  assert.ok(stream.paused);
  assert.ok(bench.volume.tryReads < 200, `${bench.volume.tryReads} reads served into a full stream`);
  const answered = drainAll(bench, stream, 10_000);
  assert.is(answered.byteLength, count * 528);
  for (let index = 0; index < count; index++) {
    assert.is(new DataView(answered.buffer, answered.byteOffset + index * 528).getBigUint64(8), BigInt(index));
  }
  assert.not(stream.paused);
});

test("many hosts that ask for small answers and read none -> memory bounded by what is guaranteed and shared", () => {
  const limits = {
    guaranteedBytes: 4096,
    sharedBytesMax: 1048576,
    sessionBytesMax: 1048576,
    requestBytesMax: 65536,
    outputBacklogBytes: 262144,
  };
  const bench = new NbdBench(limits);
  const streams = Array.from({ length: 100 }, () => bench.open());
  const haggling = Array.from({ length: 100 }, () => bench.haggling());
  const bad = Buffer.concat(Array.from({ length: 1000 }, () => command({ command: 99 })));
  const lists = Buffer.concat(Array.from({ length: 200 }, () => option(3)));
  for (const stream of streams) {
    stream.roomBytes = 0;
    stream.send(bad);
    stream.send(bad);
  }
  for (const stream of haggling) {
    stream.roomBytes = 0;
    stream.send(lists);
  }
  bench.clock.pass(10);
  assert.ok(bench.server.sharedBytes <= 1048576 + 100 * 200, `${bench.server.sharedBytes} shared`);
  assert.ok(
    streams.some((stream) => stream.paused),
    "there is not enough for all",
  );
  assert.ok(haggling.every((stream) => stream.paused));
  for (const stream of streams) assert.is(drainAll(bench, stream, 100_000).byteLength, 2000 * 16);
  assert.is(bench.server.sharedBytes, 0);
});

test("short writes of every size -> the same bytes", () => {
  const bench = new NbdBench();
  bench.volume.bytes.set(pattern(volumeBytes));
  const script = Buffer.concat([
    readOf(1, 512),
    readOf(2, 300032),
    readOf(3, 4096, 512),
    command({ command: FLUSH }),
    readOf(4, 524288),
  ]);
  const whole = bench.open({ structured: true });
  whole.send(script);
  const expected = whole.takeAll();
  for (const roomBytes of [1000, 4095, 65537, 262144]) {
    const stream = bench.open({ structured: true });
    stream.roomBytes = 0;
    stream.send(script);
    assert.is(Buffer.compare(drainAll(bench, stream, roomBytes), expected), 0, `${roomBytes} at a time`);
  }
});

test("more requests than may be in flight -> the rest waits in the stream and is done later, each once", () => {
  const bench = new NbdBench({ requestsInFlightMax: 4 });
  const stream = bench.open();
  bench.volume.gate = true;
  stream.send(
    Buffer.concat(Array.from({ length: 10 }, (_, index) => command({ command: FLUSH, cookie: BigInt(index) }))),
  );
  stream.send(command({ command: FLUSH, cookie: 10n }));
  assert.is(bench.volume.waiting.length, 4);
  assert.ok(stream.paused);
  const cookies: bigint[] = [];
  for (let round = 0; round < 12; round++) {
    bench.volume.release(1);
    bench.clock.pass(1);
    for (const reply of takeReplies(stream)) cookies.push(reply.cookie);
  }
  assert.equal(
    cookies,
    Array.from({ length: 11 }, (_, index) => BigInt(index)),
  );
  assert.not(stream.paused);
});

test("large payloads in flight -> bounded per session; small requests of others go on", () => {
  const limits = {
    requestBytesMax: 262144,
    guaranteedBytes: 65536,
    sessionBytesMax: 524288,
    sharedBytesMax: 1048576,
    outputBacklogBytes: 65536,
  };
  const bench = new NbdBench(limits);
  bench.volume.gate = true;
  const greedy = Array.from({ length: 8 }, () => bench.open());
  for (const stream of greedy) {
    for (let index = 0; index < 8; index++)
      stream.send(command({ command: WRITE, cookie: BigInt(index), payload: pattern(262144) }));
  }
  const heldBytes = bench.volume.waiting.reduce((sum, request) => sum + request.blockCount * 512, 0);
  assert.ok(heldBytes <= 8 * 65536 + 1048576, `${heldBytes} bytes in flight`);
  assert.ok(bench.server.sharedBytes <= 1048576);
  const modest = bench.open();
  modest.send(command({ command: WRITE, cookie: 77n, payload: pattern(4096) }));
  assert.is(bench.volume.waiting.at(-1)?.blockCount, 8);
  // Everything is answered in the end, in spite of the waiting.
  for (let round = 0; round < 100; round++) {
    bench.volume.release();
    bench.clock.pass(1);
  }
  assert.is(takeReply(modest).error, 0);
  for (const stream of greedy) assert.is(takeReplies(stream).length, 8);
  assert.is(bench.server.sharedBytes, 0);
});

test("who keeps shared memory without moving while others wait -> closed, reported; the others go on", () => {
  const limits = {
    requestBytesMax: 262144,
    guaranteedBytes: 4096,
    sessionBytesMax: 262144,
    sharedBytesMax: 262144,
    outputBacklogBytes: 65536,
    stallMs: 1000,
  };
  const bench = new NbdBench(limits);
  const stalled = bench.open();
  stalled.send(command({ command: WRITE, length: 262144 }), pattern(1000));
  const moving = bench.open();
  moving.send(command({ command: WRITE, length: 262144 }), pattern(262144));
  assert.is(bench.volume.submitted.length, 0, "no memory for the second");
  bench.clock.pass(999);
  assert.is(stalled.state, "open");
  bench.clock.pass(2);
  assert.is(stalled.state, "aborted");
  assert.equal(bench.codes(), ["nbd-stalled"]);
  bench.clock.pass(1);
  assert.is(takeReply(moving).error, 0);
});

test("a slow host that holds memory nobody waits for -> left alone", () => {
  const bench = new NbdBench({ stallMs: 1000 });
  const stream = bench.open();
  stream.send(command({ command: WRITE, length: volumeBytes }), pattern(1000));
  bench.clock.pass(3_600_000);
  assert.is(stream.state, "open");
  stream.send(pattern(volumeBytes - 1000));
  assert.is(takeReply(stream).error, 0);
});

test("more sessions than allowed -> closed at once, reported once; a place that becomes free is taken", () => {
  const bench = new NbdBench({ sessionsMax: 1000 });
  const streams = Array.from({ length: 1000 }, () => bench.open());
  for (let index = 0; index < 5; index++) assert.is(bench.connect().state, "aborted");
  assert.equal(bench.codes(), ["nbd-too-many-sessions"]);
  assert.is(bench.server.sessionCount, 1000);
  streams[0]!.close();
  const next = bench.open();
  next.send(command({ command: FLUSH }));
  assert.is(takeReply(next).error, 0);
  for (const stream of streams.slice(1)) {
    stream.send(readOf(1, 512));
    assert.is(stream.takeAll().byteLength, 528);
  }
});

test("random damage to a valid session -> never an exception, the server goes on", () => {
  const bench = new NbdBench({ failedLoginsMax: 1_000_000 });
  const script = Buffer.concat([
    bytesOf({ u32: 3 }),
    option(8),
    option(7, bytesOf({ u32: 6 }, "demo-1", { u16: 0 })),
    command({ command: WRITE, payload: pattern(512) }),
    readOf(2, 1024),
    command({ command: 7, length: 4096 }),
    command({ command: DISC }),
  ]);
  const noise = pattern(20_000, 99);
  for (let round = 0; round < 2000; round++) {
    const damaged = Buffer.from(script);
    for (let flip = 0; flip <= round % 4; flip++) {
      const at =
        (noise[(round * 7 + flip * 3) % 20_000]! * 256 + noise[(round * 5 + flip) % 20_000]!) % damaged.byteLength;
      damaged[at] = noise[(round + flip) % 20_000]!;
    }
    const stream = bench.connect();
    stream.send(damaged.subarray(0, round % damaged.byteLength), damaged.subarray(round % damaged.byteLength));
    stream.handler.onEnd();
    bench.clock.runDeferred();
    stream.close();
  }
  assert.is(bench.server.sessionCount, 0);
  assert.is(bench.volume.targets.size, 0);
  const stream = bench.open();
  stream.send(command({ command: FLUSH }));
  assert.is(takeReply(stream).error, 0);
});

test("limits that contradict each other -> refused at start", () => {
  const make = (limits: object) => () =>
    new NbdServer({ clock: new ManualClock(), exports: new MemoryExports(), events: { emit() {} }, limits });
  make({})();
  assert.throws(make({ sessionBytesMax: defaultNbdLimits.requestBytesMax - 1 }), /one request fits/);
  assert.throws(make({ sharedBytesMax: 1 }), /one session fits/);
});

test.run();
