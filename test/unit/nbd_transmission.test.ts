/** Commands and replies as a host sees them: meaning, errors, order, bytes. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { BlockError } from "../../firmware/volume/block_request.ts";
import { bytesOf, command, goData, metaData, option, takeReplies, takeReply } from "./support/nbd_host.ts";
import { NbdBench, pattern, volumeBytes } from "./support/nbd_session.ts";

const test = suite("nbd_transmission");

const READ = 0;
const WRITE = 1;
const DISC = 2;
const FLUSH = 3;
const TRIM = 4;
const CACHE = 5;
const ZEROES = 6;
const STATUS = 7;
const [FUA, NO_HOLE, DF, REQ_ONE, FAST] = [1, 2, 4, 8, 16] as const;
const [EPERM, EIO, EINVAL, ENOSPC, EOVERFLOW, ENOTSUP, ESHUTDOWN] = [1, 5, 22, 28, 75, 95, 108] as const;

for (const structured of [false, true]) {
  const kind = structured ? "structured" : "simple";

  test(`write, then read, ${kind} -> the same bytes, cookies as sent`, () => {
    const bench = new NbdBench();
    const stream = bench.open({ structured });
    const data = pattern(8192);
    stream.send(command({ command: WRITE, cookie: 0xffffffff_80000001n, offset: 4096, payload: data, flags: FUA }));
    assert.equal(takeReply(stream), { cookie: 0xffffffff_80000001n, error: 0, type: null, data: new Uint8Array(0) });
    stream.send(command({ command: READ, cookie: 2n, offset: 4096, length: 8192 }));
    const reply = takeReply(stream, new Map([[2n, 8192]]));
    assert.is(reply.type, structured ? 1 : null);
    const bytes = structured ? reply.data.subarray(8) : reply.data;
    if (structured) assert.is(new DataView(reply.data.buffer).getBigUint64(0), 4096n);
    assert.equal(bytes, data);
    assert.is(stream.received.byteLength, 0);
  });

  test(`reads that are not served at once, of every size, ${kind} -> the same bytes`, () => {
    const bench = new NbdBench({ requestBytesMax: 1048576 });
    const stream = bench.open({ structured });
    bench.volume.bytes.set(pattern(volumeBytes, 5));
    for (const cold of [false, true]) {
      bench.volume.cold = cold;
      for (const length of [512, 4096, 32768, 33280, 65536, 262144 - 512, 262144, 1048576]) {
        stream.send(command({ command: READ, cookie: 2n, offset: volumeBytes - length, length }));
        const reply = takeReply(stream, new Map([[2n, length]]));
        const bytes = structured ? reply.data.subarray(8) : reply.data;
        assert.is(
          Buffer.compare(bytes, bench.volume.bytes.subarray(volumeBytes - length)),
          0,
          `${length}, cold ${cold}`,
        );
      }
    }
  });
}

test("every block error -> the protocol's error, as a structured chunk with a text", () => {
  const bench = new NbdBench();
  const cases: [BlockError, number][] = [
    ["read-only", EPERM],
    ["not-ready", ESHUTDOWN],
    ["unaligned", EINVAL],
    ["no-space", ENOSPC],
    ["medium-error", EIO],
    ["closed", ESHUTDOWN],
    ["out-of-range", ENOSPC],
  ];
  for (const structured of [false, true]) {
    const stream = bench.open({ structured });
    for (const [error, errno] of cases) {
      bench.volume.failing.set("write", error);
      stream.send(command({ command: WRITE, cookie: 7n, payload: pattern(512) }));
      const reply = takeReply(stream);
      assert.equal([reply.cookie, reply.error], [7n, errno], error);
      if (!structured) continue;
      assert.is(reply.type, 32769);
      const messageBytes = new DataView(reply.data.buffer).getUint16(4);
      assert.is(messageBytes, reply.data.byteLength - 6);
      assert.ok(messageBytes > 5);
    }
    bench.volume.failing.clear();
    bench.volume.failing.set("read", "medium-error");
    stream.send(command({ command: READ, cookie: 8n, length: 512 }));
    assert.equal([takeReply(stream).error, stream.received.byteLength], [EIO, 0]);
    bench.volume.failing.clear();
  }
});

test("what a command must not ask -> its error, nothing goes down, the next command works", () => {
  const bench = new NbdBench();
  const stream = bench.open({ structured: true, blockStatus: true });
  const end = volumeBytes;
  const cases: [Parameters<typeof command>[0], number][] = [
    [{ command: READ, length: 0 }, EINVAL],
    [{ command: READ, offset: end, length: 512 }, EINVAL],
    [{ command: READ, offset: end - 512, length: 1024 }, EINVAL],
    [{ command: READ, offset: 0xffffffff_fffffe00n, length: 1024 }, EINVAL],
    [{ command: READ, offset: 0x7fffffff_fffffe00n, length: 512 }, EINVAL],
    [{ command: READ, offset: 1, length: 512 }, EINVAL],
    [{ command: READ, length: 511 }, EINVAL],
    [{ command: READ, length: 33554432 + 512 }, EINVAL],
    [{ command: READ, length: 0xffffffff }, EINVAL],
    [{ command: READ, length: 33554432 + 512, flags: DF }, EOVERFLOW],
    [{ command: READ, length: 512, flags: NO_HOLE }, EINVAL],
    [{ command: READ, length: 512, flags: 0x8000 }, EINVAL],
    [{ command: WRITE, offset: end, payload: pattern(512) }, ENOSPC],
    [{ command: WRITE, offset: end - 512, payload: pattern(1024) }, ENOSPC],
    [{ command: WRITE, offset: 0xffffffff_fffffe00n, payload: pattern(1024) }, ENOSPC],
    [{ command: WRITE, offset: 100, payload: pattern(512) }, EINVAL],
    [{ command: WRITE, payload: pattern(100) }, EINVAL],
    [{ command: WRITE, length: 0 }, EINVAL],
    [{ command: WRITE, flags: DF, payload: pattern(512) }, EINVAL],
    [{ command: FLUSH, offset: 512 }, EINVAL],
    [{ command: FLUSH, length: 512 }, EINVAL],
    [{ command: TRIM, length: 0 }, EINVAL],
    [{ command: TRIM, offset: 0, length: end + 512 }, EINVAL],
    [{ command: TRIM, offset: 3, length: 512 }, EINVAL],
    [{ command: ZEROES, offset: end, length: 512 }, ENOSPC],
    [{ command: ZEROES, length: 512, flags: REQ_ONE }, EINVAL],
    [{ command: ZEROES, length: 512, flags: FAST | NO_HOLE }, ENOTSUP],
    [{ command: CACHE, offset: end, length: 512 }, EINVAL],
    [{ command: STATUS, offset: end, length: 512 }, EINVAL],
    [{ command: STATUS, length: 0 }, EINVAL],
    [{ command: STATUS, length: 0xfffffe00 }, EINVAL],
    [{ command: 8, length: 512 }, EINVAL],
    [{ command: 65535 }, EINVAL],
  ];
  for (const [fields, errno] of cases) {
    stream.send(command({ ...fields, cookie: 5n }));
    const reply = takeReply(stream);
    assert.equal(
      [reply.cookie, reply.error],
      [5n, errno],
      JSON.stringify(fields, (_, v) => (typeof v === "bigint" ? `${v}` : v)),
    );
    stream.send(command({ command: FLUSH, cookie: 6n }));
    assert.equal([takeReply(stream).cookie, stream.received.byteLength], [6n, 0]);
  }
  assert.ok(bench.volume.submitted.every((request) => request.kind === "flush"));
  assert.equal(bench.events, []);
});

test("without structured replies -> no DF, no block status", () => {
  const stream = new NbdBench().open();
  stream.send(command({ command: READ, length: 512, flags: DF }), command({ command: STATUS, length: 512 }));
  assert.equal(
    takeReplies(stream).map((reply) => [reply.error, reply.type]),
    [
      [EINVAL, null],
      [EINVAL, null],
    ],
  );
});

test("a read-only export -> EPERM for what changes it, also when it becomes read-only later; reads work", () => {
  const bench = new NbdBench();
  const stream = bench.open();
  bench.volume.readOnly = true;
  stream.send(
    command({ command: WRITE, payload: pattern(512) }),
    command({ command: TRIM, length: 512 }),
    command({ command: ZEROES, length: 512 }),
    command({ command: FLUSH }),
    command({ command: READ, cookie: 9n, length: 512 }),
  );
  assert.equal(
    takeReplies(stream, new Map([[9n, 512]])).map((reply) => reply.error),
    [EPERM, EPERM, EPERM, 0, 0],
  );
});

test("flush, trim, zeroes, cache -> one request each with its range and meaning", () => {
  const bench = new NbdBench();
  const stream = bench.open();
  bench.volume.bytes.fill(255);
  stream.send(
    command({ command: FLUSH }),
    command({ command: TRIM, offset: 512, length: 1024, flags: FUA }),
    command({ command: ZEROES, offset: 4096, length: 8192, flags: FAST }),
    command({ command: ZEROES, offset: 65536, length: 512, flags: NO_HOLE }),
    command({ command: CACHE, length: 4096 }),
    command({ command: ZEROES, offset: 0, length: volumeBytes }),
  );
  assert.equal(
    takeReplies(stream).map((reply) => reply.error),
    [0, 0, 0, 0, 0, 0],
  );
  assert.equal(bench.volume.submitted, [
    { kind: "flush", startLba: 0, blockCount: 0, keepAllocated: false },
    { kind: "unmap", startLba: 1, blockCount: 2, keepAllocated: false },
    { kind: "zero", startLba: 8, blockCount: 16, keepAllocated: false },
    { kind: "zero", startLba: 128, blockCount: 1, keepAllocated: true },
    { kind: "zero", startLba: 0, blockCount: volumeBytes / 512, keepAllocated: false },
  ]);
});

test("block status -> merged extents within the range; REQ_ONE gives one; bounded in number", () => {
  const bench = new NbdBench({ extentsMax: 4 });
  const stream = bench.open({ blockStatus: true });
  const status = (offset: number, length: number, flags = 0) => {
    stream.send(command({ command: STATUS, offset, length, flags }));
    const reply = takeReply(stream);
    assert.is(reply.type, 5);
    const view = new DataView(reply.data.buffer);
    assert.is(view.getUint32(0), 1);
    const extents: [number, number][] = [];
    for (let at = 4; at < reply.data.byteLength; at += 8) extents.push([view.getUint32(at), view.getUint32(at + 4)]);
    return extents;
  };
  assert.equal(status(0, volumeBytes), [[volumeBytes, 3]]);
  stream.send(command({ command: WRITE, offset: 8192, payload: pattern(8192) }));
  takeReply(stream);
  assert.equal(status(0, 65536), [
    [8192, 3],
    [8192, 0],
    [49152, 3],
  ]);
  assert.equal(status(0, 65536, REQ_ONE), [[8192, 3]]);
  assert.equal(status(8704, 512), [[512, 0]]);
  for (let offset = 32768; offset < 65536; offset += 8192) {
    stream.send(command({ command: WRITE, offset, payload: pattern(4096) }));
    takeReply(stream);
  }
  assert.is(status(0, volumeBytes).length, 4);
});

test("a target that answers more extents than asked for -> clipped to the request", () => {
  const bench = new NbdBench();
  bench.volume.gate = true;
  const stream = bench.open({ blockStatus: true });
  stream.send(command({ command: STATUS, offset: 0, length: 1024 }));
  const request = bench.volume.waiting.shift()!;
  request.extents.push({ blockCount: 1, hole: false }, { blockCount: 100, hole: true }, { blockCount: 5, hole: false });
  request.onDone(request);
  bench.clock.runDeferred();
  const view = new DataView(takeReply(stream).data.buffer);
  assert.equal([view.byteLength, view.getUint32(4), view.getUint32(12)], [20, 512, 512]);
});

test("all requests of one chunk -> all replies in one write", () => {
  const bench = new NbdBench();
  const stream = bench.open();
  const requests = Array.from({ length: 32 }, (_, index) =>
    command({ command: READ, cookie: BigInt(index), offset: index * 4096, length: 4096 }),
  );
  stream.writes = 0;
  stream.send(Buffer.concat(requests));
  assert.is(stream.writes, 1);
  assert.is(stream.received.byteLength, 32 * (16 + 4096));
});

test("completions out of order, duplicate cookies -> each answered as it completes", () => {
  const bench = new NbdBench();
  const stream = bench.open();
  bench.volume.bytes.set(pattern(4096));
  bench.volume.gate = true;
  stream.send(
    command({ command: READ, cookie: 4n, offset: 0, length: 512 }),
    command({ command: READ, cookie: 4n, offset: 512, length: 512 }),
    command({ command: FLUSH, cookie: 5n }),
  );
  assert.is(stream.received.byteLength, 0);
  bench.volume.waiting.reverse();
  bench.volume.release();
  bench.clock.runDeferred();
  const replies = takeReplies(stream, new Map([[4n, 512]]));
  assert.equal(
    replies.map((reply) => reply.cookie),
    [5n, 4n, 4n],
  );
  assert.equal(replies[1]!.data, pattern(4096).subarray(512, 1024));
  assert.equal(replies[2]!.data, pattern(4096).subarray(0, 512));
});

test("a write's payload in any pieces -> goes down whole, once, as received", () => {
  for (const pieceBytes of [1, 7, 512, 5000]) {
    const bench = new NbdBench();
    const stream = bench.open();
    const data = pattern(16384, pieceBytes);
    stream.sendInPieces(command({ command: WRITE, offset: 512, payload: data }), pieceBytes);
    assert.is(takeReply(stream).error, 0);
    assert.is(bench.volume.submitted.length, 1);
    assert.equal(bench.volume.bytes.slice(512, 512 + data.byteLength), data);
  }
});

test("writes that wait while their host sends more -> their own bytes; a chunk goes back when all in it are through", () => {
  const bench = new NbdBench();
  const stream = bench.open();
  const givenBefore = stream.givenBackBytes;
  bench.volume.gate = true;
  const writes = [1, 2, 3].map((seed) =>
    command({ command: WRITE, cookie: BigInt(seed), offset: seed * 16384, payload: pattern(16384, seed) }),
  );
  // The first two share a chunk; the third one comes in three.
  stream.send(Buffer.concat([writes[0]!, writes[1]!]));
  stream.sendInPieces(writes[2]!, 7000);
  assert.is(stream.givenBackBytes, givenBefore);
  bench.volume.release(1);
  assert.is(stream.givenBackBytes, givenBefore);
  bench.volume.release(1);
  assert.is(stream.givenBackBytes - givenBefore, writes[0]!.byteLength + writes[1]!.byteLength);
  bench.volume.release(1);
  assert.is(stream.givenBackBytes - givenBefore, 3 * writes[0]!.byteLength);
  for (const seed of [1, 2, 3])
    assert.equal(bench.volume.bytes.slice(seed * 16384, (seed + 1) * 16384), pattern(16384, seed));
});

test("a write that waits when its host goes -> its bytes are left alone until it is through", () => {
  const bench = new NbdBench();
  const stream = bench.open();
  bench.volume.gate = true;
  stream.send(command({ command: WRITE, offset: 0, payload: pattern(8192) }));
  stream.close();
  bench.volume.release();
  assert.equal(bench.volume.bytes.slice(0, 8192), pattern(8192));
});

test("a volume that grows -> the new end counts at once", () => {
  const bench = new NbdBench();
  const stream = bench.open();
  stream.send(command({ command: READ, offset: volumeBytes, length: 512 }));
  assert.is(takeReply(stream).error, EINVAL);
  bench.volume.grow(volumeBytes * 2);
  stream.send(command({ command: READ, cookie: 2n, offset: volumeBytes, length: 512 }));
  assert.is(takeReply(stream, new Map([[2n, 512]])).error, 0);
});

test("a whole session, cut at every byte and byte by byte -> the same replies", () => {
  const script = Buffer.concat([
    bytesOf({ u32: 3 }),
    option(3),
    option(8),
    option(10, metaData("demo-1", ["base:allocation"])),
    option(7, goData("demo-1", [1, 2, 3])),
    command({ command: WRITE, cookie: 1n, offset: 512, payload: pattern(512) }),
    command({ command: READ, cookie: 2n, offset: 0, length: 1024 }),
    command({ command: WRITE, cookie: 3n, offset: 1, payload: pattern(60) }),
    command({ command: STATUS, cookie: 4n, offset: 0, length: 65536 }),
    command({ command: DISC }),
  ]);
  const run = (send: (stream: ReturnType<NbdBench["connect"]>) => void) => {
    const bench = new NbdBench();
    const stream = bench.connect();
    send(stream);
    assert.is(stream.state, "ended");
    assert.equal(bench.events, []);
    return stream.takeAll();
  };
  const whole = run((stream) => stream.send(script));
  assert.ok(whole.byteLength > 1024);
  for (let cut = 1; cut < script.byteLength; cut++) {
    const replies = run((stream) => stream.send(script.subarray(0, cut), script.subarray(cut)));
    assert.is(Buffer.compare(replies, whole), 0, `cut at ${cut}`);
  }
  assert.is(
    Buffer.compare(
      run((stream) => stream.sendInPieces(script, 1)),
      whole,
    ),
    0,
  );
});

test.run();
