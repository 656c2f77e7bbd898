/** The handshake as a host sees it. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { MemoryVolume } from "./support/memory_target.ts";
import { bytesOf, command, goData, metaData, option, takeOptionReplies, takeReply } from "./support/nbd_host.ts";
import { NbdBench, volumeBytes } from "./support/nbd_session.ts";

const test = suite("nbd_negotiation");

const unsup = 0x80000001;
const policy = 0x80000002;
const invalid = 0x80000003;
const unknown = 0x80000006;
const tooBig = 0x80000009;

function text(data: Uint8Array): string {
  return new TextDecoder().decode(data);
}

test("a connection -> the greeting, before the host has said anything", () => {
  const stream = new NbdBench().connect();
  assert.is(Buffer.from(stream.takeAll()).toString("hex"), "4e42444d4147494349484156454f50540003");
});

test("LIST -> every export with its description, then ACK", () => {
  const bench = new NbdBench();
  bench.exports.add(new MemoryVolume("demo-2", 512, null, "second"));
  const stream = bench.haggling();
  stream.send(option(3));
  const replies = takeOptionReplies(stream);
  assert.equal(
    replies.map((reply) => reply.type),
    [2, 2, 1],
  );
  assert.is(text(replies[0]!.data.subarray(4)), "demo-1first");
  assert.is(text(replies[1]!.data.subarray(4)), "demo-2second");
  assert.equal(bench.exports.hosts, ["192.0.2.7"]);
});

test("INFO -> what was asked for and the block sizes; the haggling goes on and nothing stays open", () => {
  const bench = new NbdBench();
  const stream = bench.haggling();
  stream.send(option(6, goData("demo-1", [1, 2, 3, 99])));
  const replies = takeOptionReplies(stream);
  assert.equal(
    replies.map((reply) => reply.type),
    [3, 3, 3, 3, 1],
  );
  const kinds = replies.slice(0, 4).map((reply) => new DataView(reply.data.buffer).getUint16(0));
  assert.equal(kinds, [0, 1, 2, 3]);
  assert.is(Number(new DataView(replies[0]!.data.buffer).getBigUint64(2)), volumeBytes);
  assert.is(text(replies[1]!.data.subarray(2)), "demo-1");
  assert.is(text(replies[2]!.data.subarray(2)), "first");
  assert.is(bench.volume.targets.size, 0);
  stream.send(option(3));
  assert.is(takeOptionReplies(stream).at(-1)?.type, 1);
});

test("GO -> transmission flags for a writable, a read-only and a structured session", () => {
  const bench = new NbdBench();
  const flags = (prepare: () => void, structured: boolean) => {
    prepare();
    const stream = bench.haggling();
    if (structured) stream.send(option(8));
    stream.send(option(7, goData("demo-1")));
    const info = takeOptionReplies(stream).find((reply) => reply.type === 3)!;
    return new DataView(info.data.buffer).getUint16(10);
  };
  const writable = 1 + 4 + 8 + 32 + 64 + 256 + 1024 + 2048;
  assert.is(
    flags(() => {}, false),
    writable,
  );
  assert.is(
    flags(() => {}, true),
    writable + 128,
  );
  assert.is(
    flags(() => {
      bench.volume.readOnly = true;
    }, false),
    1 + 2 + 4 + 8 + 256 + 1024,
  );
});

test("GO for an unknown export, one that is not ready -> an error each, then the right one opens", () => {
  const bench = new NbdBench();
  const stream = bench.haggling();
  stream.send(option(7, goData("nowhere")));
  bench.volume.ready = false;
  stream.send(option(7, goData("demo-1")));
  bench.volume.ready = true;
  stream.send(option(7, goData("demo-1")));
  const replies = takeOptionReplies(stream);
  assert.equal(
    replies.map((reply) => reply.type),
    [unknown, policy, 3, 3, 1],
  );
  stream.send(command({ command: 3 }));
  assert.is(takeReply(stream).error, 0);
});

test("the empty name -> the only export; with two exports unknown", () => {
  const bench = new NbdBench();
  const stream = bench.haggling();
  bench.exports.add(new MemoryVolume("demo-2", 512, null));
  stream.send(option(7, goData("")));
  assert.is(takeOptionReplies(stream)[0]?.type, unknown);
  bench.exports.volumes.delete("demo-2");
  stream.send(option(7, goData("")));
  assert.is(takeOptionReplies(stream).at(-1)?.type, 1);
});

test("EXPORT_NAME -> size and flags, with 124 zeroes unless waived; then commands", () => {
  const bench = new NbdBench();
  for (const [flags, length] of [
    [1, 134],
    [3, 10],
    [2, 10],
    [0, 134],
  ] as const) {
    const stream = bench.haggling(flags);
    stream.send(option(1, bytesOf("demo-1")));
    const answer = stream.takeAll();
    assert.is(answer.byteLength, length);
    assert.is(Number(new DataView(answer.buffer).getBigUint64(0)), volumeBytes);
    stream.send(command({ command: 3, cookie: 9n }));
    assert.equal(takeReply(stream), { cookie: 9n, error: 0, type: null, data: new Uint8Array(0) });
  }
});

test("EXPORT_NAME for an unknown export -> closed, reported once", () => {
  const bench = new NbdBench();
  const stream = bench.haggling();
  stream.send(option(1, bytesOf("nowhere")));
  assert.is(stream.received.byteLength, 0);
  assert.is(stream.state, "ended");
  assert.equal(bench.codes(), ["nbd-export-refused"]);
});

test("ABORT -> ACK and closed, nothing to report", () => {
  const bench = new NbdBench();
  const stream = bench.haggling();
  stream.send(option(2));
  assert.is(takeOptionReplies(stream)[0]?.type, 1);
  assert.is(stream.state, "ended");
  stream.close();
  assert.is(bench.server.sessionCount, 0);
  assert.is(bench.clock.timerCount, 0);
  assert.equal(bench.events, []);
});

test("unknown options, STARTTLS twice, the withdrawn ones -> an error each, and the next option works", () => {
  const stream = new NbdBench().haggling();
  for (const kind of [0, 4, 12, 12345, 0xffffffff]) stream.send(option(kind, bytesOf("whatever")));
  stream.send(option(5));
  stream.send(option(5));
  stream.send(option(3));
  const replies = takeOptionReplies(stream);
  assert.equal(
    replies.map((reply) => reply.type),
    [unsup, unsup, unsup, unsup, unsup, policy, policy, 2, 1],
  );
  assert.is(replies[4]!.option, 0xffffffff);
});

test("malformed option data -> ERR_INVALID each; too much -> ERR_TOO_BIG; the next option works", () => {
  const stream = new NbdBench({ optionDataBytesMax: 8192 }).haggling();
  stream.send(option(3, bytesOf("x")));
  stream.send(option(8, bytesOf("x")));
  stream.send(option(7, bytesOf({ u32: 0xffffffff }, "demo", { u16: 0 })));
  stream.send(option(6, bytesOf("")));
  stream.send(option(7, goData("x".repeat(4097))));
  stream.send(option(7, new Uint8Array(8193)));
  stream.send(option(8));
  assert.equal(
    takeOptionReplies(stream).map((reply) => reply.type),
    [invalid, invalid, invalid, invalid, invalid, tooBig, 1],
  );
});

test("a client without fixed newstyle sends another option -> closed", () => {
  const bench = new NbdBench();
  const stream = bench.haggling(0);
  stream.send(option(3));
  assert.is(stream.state, "ended");
  assert.equal(bench.codes(), ["nbd-option-without-fixed-newstyle"]);
});

test("unknown client flags -> closed", () => {
  const bench = new NbdBench();
  const stream = bench.haggling(4);
  assert.is(stream.state, "ended");
  assert.equal(bench.codes(), ["nbd-bad-client-flags"]);
});

test("LIST_META_CONTEXT -> all for no query, an empty one and the namespace; none for a foreign one", () => {
  const stream = new NbdBench().haggling();
  stream.send(option(9, metaData("demo-1", [])));
  assert.is(takeOptionReplies(stream)[0]?.type, invalid, "needs structured replies");
  stream.send(option(8));
  takeOptionReplies(stream);
  const listed = (queries: string[], name = "demo-1") => {
    stream.send(option(9, metaData(name, queries)));
    return takeOptionReplies(stream).map((reply) => (reply.type === 4 ? text(reply.data.subarray(4)) : reply.type));
  };
  assert.equal(listed([]), ["base:allocation", 1]);
  assert.equal(listed([""]), ["base:allocation", 1]);
  assert.equal(listed(["base:"]), ["base:allocation", 1]);
  assert.equal(listed(["qemu:x", "base:allocation"]), ["base:allocation", 1]);
  assert.equal(listed(["qemu:"]), [1]);
  assert.equal(listed(["base:alloc"]), [1]);
  assert.equal(listed([], "nowhere"), [unknown]);
});

test("SET_META_CONTEXT -> selects by its exact name only; a later one replaces it; another export drops it", () => {
  const bench = new NbdBench();
  bench.exports.add(new MemoryVolume("demo-2", 4096, null));
  const statusError = (options: Uint8Array[], name: string) => {
    const stream = bench.haggling();
    stream.send(option(8));
    for (const each of options) stream.send(each);
    stream.send(option(7, goData(name)));
    takeOptionReplies(stream);
    stream.send(command({ command: 7, length: 4096 }));
    return takeReply(stream).error;
  };
  const set = (name: string, queries: string[]) => option(10, metaData(name, queries));
  assert.is(statusError([set("demo-1", ["base:allocation"])], "demo-1"), 0);
  assert.is(statusError([set("demo-1", ["qemu:x", "base:allocation", "base:allocation"])], "demo-1"), 0);
  assert.is(statusError([set("demo-1", ["base:"])], "demo-1"), 22);
  assert.is(statusError([set("demo-1", [])], "demo-1"), 22);
  assert.is(statusError([set("demo-1", ["base:allocation"]), set("demo-1", [])], "demo-1"), 22);
  assert.is(statusError([set("demo-1", ["base:allocation"]), option(10, bytesOf("bad"))], "demo-1"), 22);
  assert.is(statusError([set("demo-1", ["base:allocation"])], "demo-2"), 22);
  assert.is(statusError([], "demo-1"), 22);
});

test.run();
