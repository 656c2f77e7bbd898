/** Extended headers (NBD_OPT_EXTENDED_HEADERS): negotiation, 64-bit lengths, payload rules, extended replies, every cut. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  bytesOf,
  command as compactCommand,
  goData,
  type HostStream,
  metaData,
  option,
  takeOptionReplies,
  takeReplies,
  takeReply,
} from "./support/nbd_host.ts";
import { NbdBench, pattern, volumeBytes } from "./support/nbd_session.ts";

const test = suite("nbd_extended");

const [READ, WRITE, DISC, FLUSH, TRIM, CACHE, ZEROES, STATUS] = [0, 1, 2, 3, 4, 5, 6, 7] as const;
const [FUA, DF, REQ_ONE, PAYLOAD_LEN] = [1, 4, 8, 32] as const;
const [EINVAL, ENOSPC, EOVERFLOW] = [22, 28, 75] as const;
const [ack, invalid, extHeaderReqd] = [1, 0x80000003, 0x8000000a] as const;

function command(fields: Parameters<typeof compactCommand>[0]): Uint8Array {
  return compactCommand({ ...fields, extended: true });
}

function write(offset: number, payload: Uint8Array, cookie = 1n): Uint8Array {
  return command({ command: WRITE, cookie, offset, payload, flags: PAYLOAD_LEN });
}

function filter(length: number | bigint, ...ids: number[]): Uint8Array {
  return bytesOf({ u64: BigInt(length) }, ...ids.map((id) => ({ u32: id })));
}

function filtered(payload: Uint8Array, cookie = 1n): Uint8Array {
  return command({ command: STATUS, cookie, payload, flags: PAYLOAD_LEN });
}

function lastType(stream: HostStream): number | undefined {
  return takeOptionReplies(stream).at(-1)?.type;
}

test("EXTENDED_HEADERS before or after STRUCTURED_REPLY -> in force; STRUCTURED_REPLY afterwards is refused", () => {
  const bench = new NbdBench();
  for (const first of [[], [8]]) {
    const stream = bench.haggling();
    for (const kind of first) stream.send(option(kind));
    takeOptionReplies(stream);
    stream.send(option(11, bytesOf({ u8: 0 })));
    assert.is(lastType(stream), invalid, "it has no data");
    stream.send(option(11));
    assert.is(lastType(stream), ack);
    stream.send(option(8));
    assert.is(lastType(stream), extHeaderReqd);
    stream.send(option(10, metaData("demo-1", ["base:allocation"])));
    assert.is(lastType(stream), ack, "meta contexts need no STRUCTURED_REPLY beside it");
    stream.send(option(7, goData("demo-1")));
    takeOptionReplies(stream);
    stream.send(command({ command: FLUSH }));
    assert.is(takeReply(stream).type, 0);
  }
});

test("BLOCK_STATUS_PAYLOAD is advertised -> only with extended headers and a selected context", () => {
  const flags = (...options: Uint8Array[]) => {
    const stream = new NbdBench().haggling();
    for (const each of options) stream.send(each);
    stream.send(option(7, goData("demo-1")));
    const info = takeOptionReplies(stream).find((reply) => reply.type === 3)!;
    return new DataView(info.data.buffer).getUint16(10) & 0x1080;
  };
  const context = option(10, metaData("demo-1", ["base:allocation"]));
  assert.is(flags(), 0);
  assert.is(flags(option(8), context), 0x80);
  assert.is(flags(option(11)), 0x80);
  assert.is(flags(option(11), context), 0x1080);
});

test("every command -> one extended reply with its cookie and offset", () => {
  const bench = new NbdBench();
  const stream = bench.open({ extended: true, blockStatus: true });
  const data = pattern(8192);
  stream.send(
    write(4096, data, 0xffffffff_80000001n),
    command({ command: READ, cookie: 2n, offset: 4096, length: 8192, flags: DF }),
    command({ command: FLUSH, cookie: 3n }),
    command({ command: TRIM, cookie: 4n, offset: 512, length: 512, flags: FUA }),
    command({ command: CACHE, cookie: 5n, offset: 1024, length: 512 }),
    command({ command: ZEROES, cookie: 6n, offset: 65536, length: 4096 }),
  );
  const replies = takeReplies(stream);
  assert.equal(
    replies.map(({ cookie, error, type, offset }) => [cookie, error, type, offset]),
    [
      [0xffffffff_80000001n, 0, 0, 4096n],
      [2n, 0, 1, 4096n],
      [3n, 0, 0, 0n],
      [4n, 0, 0, 512n],
      [5n, 0, 0, 1024n],
      [6n, 0, 0, 65536n],
    ],
  );
  assert.is(new DataView(replies[1]!.data.buffer).getBigUint64(0), 4096n);
  assert.equal(replies[1]!.data.subarray(8), data);
});

test("reads of every size, at once and later -> the same bytes", () => {
  const bench = new NbdBench({ requestBytesMax: 1048576 });
  const stream = bench.open({ extended: true });
  bench.volume.bytes.set(pattern(volumeBytes, 5));
  for (const cold of [false, true]) {
    bench.volume.cold = cold;
    for (const length of [512, 4096, 32768, 33280, 262144 - 512, 262144, 1048576]) {
      stream.send(command({ command: READ, cookie: 2n, offset: volumeBytes - length, length }));
      const { data } = takeReply(stream);
      const expected = bench.volume.bytes.subarray(volumeBytes - length);
      assert.is(Buffer.compare(data.subarray(8), expected), 0, `${length}, cold ${cold}`);
    }
  }
});

test("reads of a target that lends its data -> the same bytes, though nothing is left of them when the request is done", () => {
  const bench = new NbdBench({ requestBytesMax: 1048576 });
  bench.volume.lendsReads = true;
  bench.volume.bytes.set(pattern(volumeBytes, 5));
  const stream = bench.open({ extended: true });
  for (const length of [512, 4096, 33280, 1048576]) {
    stream.send(command({ command: READ, cookie: 2n, offset: volumeBytes - length, length }));
    const { data } = takeReply(stream);
    const expected = bench.volume.bytes.subarray(volumeBytes - length);
    assert.is(Buffer.compare(data.subarray(8), expected), 0, String(length));
  }
  bench.volume.failing.set("read", "medium-error");
  stream.send(command({ command: READ, cookie: 3n, offset: 0, length: 4096 }));
  assert.is.not(takeReply(stream).error, 0);
});

test("lengths of 64 bits -> judged whole, never by their low half; the next command works", () => {
  const bench = new NbdBench();
  const stream = bench.open({ extended: true, blockStatus: true });
  const big = [0x1_0000_0200n, 0xffffffff_fffffe00n, 2n ** 63n, 2n ** 53n];
  for (const length of big) {
    for (const [kind, error] of [
      [READ, EINVAL],
      [TRIM, EINVAL],
      [CACHE, EINVAL],
      [ZEROES, ENOSPC],
      [STATUS, EINVAL],
    ] as const) {
      stream.send(command({ command: kind, cookie: 9n, offset: 0xffffffff_fffffe00n, length }));
      const reply = takeReply(stream);
      assert.equal([reply.cookie, reply.error, reply.offset], [9n, error, 0xffffffff_fffffe00n], `${kind} ${length}`);
      stream.send(command({ command: kind, length }));
      assert.is(takeReply(stream).error, error);
    }
    stream.send(command({ command: READ, length, flags: DF }));
    assert.is(takeReply(stream).error, EOVERFLOW);
  }
  assert.equal(bench.volume.submitted, []);
});

test("a trim and zeroes beyond 4 GiB on a volume that has them -> one request each", () => {
  const bench = new NbdBench();
  const blocks = 2 ** 40 / 512;
  const stream = bench.open({ extended: true, blockStatus: true });
  bench.volume.gate = true;
  bench.volume.blockCountTold = blocks;
  stream.send(
    command({ command: TRIM, offset: 512, length: 2n ** 40n - 512n }),
    command({ command: ZEROES, offset: 0, length: 2n ** 40n }),
    command({ command: STATUS, offset: 0, length: 2n ** 40n }),
  );
  assert.equal(
    bench.volume.waiting.map(({ kind, startLba, blockCount }) => [kind, startLba, blockCount]),
    [
      ["unmap", 1, blocks - 1],
      ["zero", 0, blocks],
      ["status", 0, blocks],
    ],
  );
  const status = bench.volume.waiting.pop()!;
  status.extents.push({ blockCount: blocks, hole: true });
  status.onDone(status);
  bench.clock.runDeferred();
  const { type, data } = takeReply(stream);
  const view = new DataView(data.buffer);
  assert.equal([type, view.getUint32(0), view.getUint32(4)], [6, 1, 1]);
  assert.equal([view.getBigUint64(8), view.getBigUint64(16)], [2n ** 40n, 3n]);
});

test("block status -> extended descriptors; filtered by a payload -> the same; REQ_ONE gives one", () => {
  const bench = new NbdBench();
  const stream = bench.open({ extended: true, blockStatus: true });
  stream.send(write(8192, pattern(8192)));
  takeReply(stream);
  const extents = () => {
    const { type, data } = takeReply(stream);
    assert.is(type, 6);
    const view = new DataView(data.buffer);
    assert.equal([view.getUint32(0), data.byteLength], [1, 8 + 16 * view.getUint32(4)]);
    const found: [bigint, bigint][] = [];
    for (let at = 8; at < data.byteLength; at += 16) found.push([view.getBigUint64(at), view.getBigUint64(at + 8)]);
    return found;
  };
  const expected: [bigint, bigint][] = [
    [8192n, 3n],
    [8192n, 0n],
    [49152n, 3n],
  ];
  stream.send(command({ command: STATUS, length: 65536 }));
  assert.equal(extents(), expected);
  stream.send(filtered(filter(65536, 1)));
  assert.equal(extents(), expected);
  stream.sendInPieces(filtered(filter(65536, 1)), 1);
  assert.equal(extents(), expected);
  const one = command({ command: STATUS, payload: filter(65536, 1), flags: PAYLOAD_LEN | REQ_ONE });
  stream.send(one);
  assert.equal(extents(), expected.slice(0, 1));
});

test("a filter with no, an unknown, two or half an id, a length out of range -> EINVAL, consumed; the next command works", () => {
  const bench = new NbdBench();
  const stream = bench.open({ extended: true, blockStatus: true });
  const bad = [
    filter(4096),
    filter(4096, 0),
    filter(4096, 2),
    filter(4096, 1, 1),
    filter(4096, 1, 2),
    filter(4096, 1).subarray(0, 10),
    bytesOf({ u8: 0 }),
    filter(0, 1),
    filter(100, 1),
    filter(volumeBytes + 512, 1),
    filter(0xffffffff_fffffe00n, 1),
    new Uint8Array(100_000),
  ];
  for (const payload of bad) {
    stream.send(filtered(payload, 3n), command({ command: FLUSH, cookie: 4n }));
    assert.equal(
      takeReplies(stream).map(({ cookie, error }) => [cookie, error]),
      [
        [3n, EINVAL],
        [4n, 0],
      ],
      `${payload.byteLength} bytes`,
    );
  }
  const without = bench.open({ extended: true });
  without.send(filtered(filter(4096, 1)), command({ command: FLUSH }));
  assert.equal(
    takeReplies(without).map(({ error }) => error),
    [EINVAL, 0],
    "no context was selected",
  );
});

test("PAYLOAD_LEN with a command that has no payload -> EINVAL after the payload, the next command works", () => {
  const bench = new NbdBench();
  const stream = bench.open({ extended: true });
  for (const kind of [READ, FLUSH, TRIM, CACHE, ZEROES, 8, 65535]) {
    stream.send(
      command({ command: kind, cookie: 3n, payload: pattern(1000), flags: PAYLOAD_LEN }),
      command({ command: FLUSH, cookie: 4n }),
    );
    assert.equal(
      takeReplies(stream).map(({ cookie, error }) => [cookie, error]),
      [
        [3n, EINVAL],
        [4n, 0],
      ],
      `command ${kind}`,
    );
  }
  const compact = bench.open({ structured: true });
  compact.send(compactCommand({ command: READ, length: 512, flags: PAYLOAD_LEN }));
  assert.is(takeReply(compact).error, EINVAL, "the flag means nothing in a compact header");
});

test("a WRITE without PAYLOAD_LEN, or a payload beyond the limit -> the session ends: its data is never taken for commands", () => {
  for (const bad of [
    command({ command: WRITE, payload: pattern(512) }),
    command({ command: WRITE, length: 33554432 + 512, flags: PAYLOAD_LEN }),
    command({ command: READ, length: 2n ** 63n, flags: PAYLOAD_LEN }),
  ]) {
    const bench = new NbdBench();
    const stream = bench.open({ extended: true });
    stream.send(bad);
    assert.is(stream.state, "ended");
    assert.is(bench.events.length, 1);
    assert.equal(bench.volume.submitted, []);
  }
});

test("DISC with a payload (found by the fuzzer) -> goodbye all the same, its payload is not looked at", () => {
  for (const payload of [pattern(12), pattern(4096)]) {
    const bench = new NbdBench();
    const stream = bench.open({ extended: true, blockStatus: true });
    stream.send(command({ command: DISC, payload, flags: PAYLOAD_LEN }), command({ command: FLUSH }));
    assert.equal([stream.state, stream.received.byteLength, bench.volume.submitted], ["ended", 0, []]);
  }
});

test("the other kind of header than negotiated -> bad magic, the session ends", () => {
  const bench = new NbdBench();
  const extended = bench.open({ extended: true });
  extended.send(compactCommand({ command: FLUSH }));
  const compact = bench.open({ structured: true });
  compact.send(command({ command: FLUSH }));
  assert.equal([extended.state, compact.state], ["ended", "ended"]);
  assert.equal(bench.codes(), ["nbd-bad-magic", "nbd-bad-magic"]);
});

test("a whole extended session, cut at every byte and byte by byte -> the same replies", () => {
  const script = Buffer.concat([
    bytesOf({ u32: 3 }),
    option(11),
    option(10, metaData("demo-1", ["base:allocation"])),
    option(7, goData("demo-1")),
    write(512, pattern(512)),
    command({ command: READ, cookie: 2n, offset: 0, length: 1024 }),
    write(1, pattern(60)),
    filtered(filter(65536, 1)),
    command({ command: TRIM, cookie: 5n, length: 2n ** 40n }),
    command({ command: DISC }),
  ]);
  const run = (send: (stream: HostStream) => void) => {
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
