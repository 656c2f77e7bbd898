/** NBD_OPT_STARTTLS in the session: what is refused before it, what it forgets, who the host is afterwards. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { NbdServer } from "../../firmware/frontend/nbd/server.ts";
import type { HostIdentity } from "../../firmware/volume/host_access.ts";
import { ManualClock } from "./support/manual_clock.ts";
import { MemoryExports, MemoryVolume } from "./support/memory_target.ts";
import {
  bytesOf,
  command,
  goData,
  HostStream,
  metaData,
  option,
  takeOptionReplies,
  takeReply,
} from "./support/nbd_host.ts";

const test = suite("nbd_starttls");

const ack = 1;
const policy = 0x80000002;
const invalid = 0x80000003;
const tlsReqd = 0x80000005;
const STARTTLS = option(5);

class Bench {
  readonly clock = new ManualClock();
  readonly exports = new MemoryExports();
  readonly identities: HostIdentity[] = [];
  readonly events: string[] = [];
  readonly server: NbdServer;

  constructor(tls: "off" | "optional" | "required") {
    this.exports.add(new MemoryVolume("demo-1", 65536, null, "first"));
    const open = this.exports.open.bind(this.exports);
    this.exports.open = (name, host) => {
      this.identities.push(host);
      return open(name, host);
    };
    const events = { emit: (code: string) => void this.events.push(code) };
    this.server = new NbdServer({ clock: this.clock, exports: this.exports, events, tls });
  }

  haggling(flags = 3): HostStream {
    const stream = new HostStream(this.clock);
    stream.handler = this.server.accept(stream);
    this.clock.runDeferred();
    stream.take(18);
    stream.send(bytesOf({ u32: flags }));
    return stream;
  }
}

function types(stream: HostStream): number[] {
  return takeOptionReplies(stream).map((reply) => reply.type);
}

test("TLS required -> before it every option but STARTTLS and ABORT gets ERR_TLS_REQD, whatever its data", () => {
  const bench = new Bench("required");
  const stream = bench.haggling();
  for (const kind of [3, 4, 6, 7, 8, 9, 10, 11, 12, 999]) {
    for (const data of [new Uint8Array(0), goData("demo-1"), new Uint8Array(70_000)]) {
      stream.send(option(kind, data));
      assert.equal(types(stream), [tlsReqd], `option ${kind} of ${data.byteLength} bytes`);
    }
  }
  assert.equal([bench.identities, bench.exports.hosts], [[], []], "nobody was asked for an export");
  stream.send(option(2));
  assert.equal([types(stream), stream.state], [[ack], "ended"]);
});

test("TLS required -> EXPORT_NAME ends the session, also of a client without fixed newstyle", () => {
  for (const flags of [0, 1, 3]) {
    const bench = new Bench("required");
    const stream = bench.haggling(flags);
    stream.send(option(1, bytesOf("demo-1")));
    assert.equal([stream.received.byteLength, stream.state, bench.events], [0, "ended", ["nbd-tls-required"]]);
  }
});

test("STARTTLS with data -> ERR_INVALID; where TLS is off -> ERR_POLICY; the haggling goes on", () => {
  for (const tls of ["optional", "required"] as const) {
    const stream = new Bench(tls).haggling();
    stream.send(option(5, bytesOf("x")));
    stream.send(option(5, new Uint8Array(70_000)));
    const [first, second] = types(stream);
    assert.is(first, invalid);
    assert.ok(second! >= 2 ** 31);
    stream.send(STARTTLS);
    assert.equal(types(stream), [ack]);
  }
  const off = new Bench("off").haggling();
  off.send(STARTTLS);
  off.send(option(3));
  assert.equal(types(off), [policy, 2, ack]);
});

test("STARTTLS -> negotiated state is forgotten, the client flags stay, the host has the certificate's name", () => {
  const bench = new Bench("optional");
  const stream = bench.haggling();
  stream.send(option(8));
  stream.send(option(10, metaData("demo-1", ["base:allocation"])));
  takeOptionReplies(stream);
  stream.send(STARTTLS);
  assert.equal(types(stream), [ack]);
  assert.ok(stream.handshake !== null);
  stream.secured({ ok: true, clientName: "db-1" });
  stream.send(STARTTLS);
  assert.equal(types(stream), [invalid], "twice");
  stream.send(option(10, metaData("demo-1", ["base:allocation"])));
  assert.equal(types(stream), [invalid], "structured replies are to be negotiated again");
  stream.send(option(1, bytesOf("demo-1")));
  assert.is(stream.take(10).byteLength, 10, "no zeroes, as the client's flags said");
  stream.send(command({ command: 0, cookie: 2n, length: 512 }));
  const reply = takeReply(stream, new Map([[2n, 512]]));
  assert.equal([reply.type, reply.error], [null, 0]);
  const names = bench.identities.map((identity) => identity.tlsName);
  assert.equal([names[0], names.at(-1)], [null, "db-1"]);
});

test("bytes behind STARTTLS in plain, in one chunk or before the handshake has begun -> the session ends", () => {
  const together = new Bench("required");
  const stream = together.haggling();
  stream.send(Buffer.concat([STARTTLS, option(3)]));
  assert.equal([stream.received.byteLength, stream.handshake, stream.state], [0, null, "ended"]);
  const later = new Bench("required");
  const slow = later.haggling();
  slow.roomBytes = 7;
  slow.send(STARTTLS);
  assert.is(slow.handshake, null, "the ACK has not left yet");
  slow.send(option(3));
  slow.drain(1000);
  assert.equal([slow.handshake, slow.state], [null, "ended"]);
  for (const bench of [together, later]) assert.equal(bench.events, ["nbd-plain-after-starttls"]);
});

test("a slow reader of the ACK -> TLS begins only when all of it has left", () => {
  const bench = new Bench("required");
  const stream = bench.haggling();
  stream.roomBytes = 7;
  stream.send(STARTTLS);
  assert.is(stream.handshake, null);
  stream.drain(1000);
  assert.ok(stream.handshake !== null);
  assert.equal(types(stream), [ack]);
});

test("the handshake fails, takes too long, or the host goes -> the session is gone, nothing stays", () => {
  const failed = new Bench("required");
  const first = failed.haggling();
  first.send(STARTTLS);
  first.secured({ ok: false, reason: "client certificate refused" });
  assert.equal([first.state, failed.events], ["aborted", ["nbd-tls-failed"]]);
  const slow = new Bench("required");
  const second = slow.haggling();
  second.send(STARTTLS);
  slow.clock.pass(15_001);
  assert.equal([second.state, slow.events], ["aborted", ["nbd-handshake-timeout"]]);
  const gone = new Bench("required");
  const third = gone.haggling();
  third.send(STARTTLS);
  third.close();
  for (const bench of [failed, slow, gone]) {
    bench.clock.runDeferred();
    assert.equal([bench.server.sessionCount, bench.clock.timerCount], [0, 0]);
  }
});

test("the server closes during the handshake -> the session ends, a late outcome changes nothing", () => {
  const bench = new Bench("required");
  const stream = bench.haggling();
  stream.send(STARTTLS);
  bench.server.closeAll();
  bench.clock.runDeferred();
  assert.is(stream.state, "ended");
  stream.secured({ ok: true, clientName: "db-1" });
  stream.send(option(3));
  assert.equal(types(stream), [ack], "only the ACK of STARTTLS");
});

test.run();
