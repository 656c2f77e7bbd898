/**
 * The NBD part of the list of hostile inputs, line by line: each was a real vulnerability or outage somewhere. After each the session
 * has the protocol's own error or has ended, and a quiet session beside it is served.
 */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  bytesOf,
  command,
  goData,
  type HostStream,
  metaData,
  option,
  takeOptionReplies,
  takeReplies,
  takeReply,
} from "./support/nbd_host.ts";
import { NbdBench, pattern, volumeBytes } from "./support/nbd_session.ts";

const test = suite("hostile_nbd");

const [READ, WRITE, FLUSH, TRIM, CACHE, ZEROES, STATUS] = [0, 1, 3, 4, 5, 6, 7] as const;
const [EINVAL, ENOSPC] = [22, 28] as const;
const [ack, unsup, invalid, tlsReqd, tooBig] = [1, 0x80000001, 0x80000003, 0x80000005, 0x80000009] as const;

function types(stream: HostStream): number[] {
  return takeOptionReplies(stream).map((reply) => reply.type);
}

/** Runs the attack beside a quiet session, which must notice nothing. */
function beside(bench: NbdBench, attack: () => void): void {
  const quiet = bench.open();
  attack();
  const payload = pattern(512, 9);
  quiet.send(command({ command: WRITE, cookie: 1n, offset: 0, payload }));
  assert.is(takeReply(quiet).error, 0);
  quiet.send(command({ command: READ, cookie: 2n, offset: 0, length: 512 }));
  assert.equal(takeReply(quiet, new Map([[2n, 512]])).data, payload);
}

test("NBD: name length 0xffffffff or over the buffer -> ERR_INVALID, the next option works", () => {
  const bench = new NbdBench();
  beside(bench, () => {
    const stream = bench.haggling();
    stream.send(option(8));
    assert.equal(types(stream), [ack]);
    for (const kind of [6, 7, 9, 10]) {
      for (const claimed of [0xffffffff, 0x80000000, 7, 4097]) {
        stream.send(option(kind, bytesOf({ u32: claimed }, "demo", { u16: 0 })));
        assert.equal(types(stream), [invalid], `option ${kind}, name of ${claimed}`);
      }
    }
    for (const kind of [9, 10]) {
      stream.send(option(kind, bytesOf({ u32: 6 }, "demo-1", { u32: 0xffffffff })));
      stream.send(option(kind, bytesOf({ u32: 6 }, "demo-1", { u32: 1 }, { u32: 0xffffffff }, "x")));
      assert.equal(types(stream), [invalid, invalid], "the same of queries and their count");
    }
    stream.send(option(3));
    assert.equal(types(stream), [2, ack]);
  });
});

test("NBD: option data over 32 MiB -> the session ends; below it is skipped and refused", () => {
  const bench = new NbdBench();
  beside(bench, () => {
    for (const length of [32 * 1024 * 1024 + 1, 0x80000000, 0xffffffff]) {
      const stream = bench.haggling();
      stream.send(option(7, new Uint8Array(0), length));
      assert.equal([stream.state, stream.received.byteLength], ["ended", 0]);
    }
    assert.equal(bench.codes(), new Array(3).fill("nbd-option-too-long"));
    const stream = bench.haggling();
    stream.send(option(7, new Uint8Array(1024 * 1024)), option(3));
    assert.equal(types(stream), [tooBig, 2, ack]);
  });
});

test("NBD: unknown option, then the next one parsed -> ERR_UNSUP, then its answer, at every cut", () => {
  const bench = new NbdBench();
  beside(bench, () => {
    const script = Buffer.concat([option(0x12345678, pattern(100)), option(3)]);
    for (let cut = 0; cut <= script.byteLength; cut++) {
      const stream = bench.haggling();
      stream.send(script.subarray(0, cut), script.subarray(cut));
      assert.equal(types(stream), [unsup, 2, ack], `cut at ${cut}`);
      stream.close();
    }
  });
});

test("NBD: STARTTLS twice -> ERR_INVALID the second time", () => {
  const bench = new NbdBench({}, volumeBytes, "optional");
  beside(bench, () => {
    const stream = bench.haggling();
    stream.send(option(5));
    stream.secured({ ok: true, clientName: "db-1" });
    stream.send(option(5));
    assert.equal(types(stream), [ack, invalid]);
  });
});

test("NBD: bytes pipelined behind STARTTLS -> never taken for what came through TLS: the session ends", () => {
  for (const behind of [option(3), option(7, goData("demo-1")), bytesOf({ u8: 0x16 }), command({ command: FLUSH })]) {
    const bench = new NbdBench({}, volumeBytes, "optional");
    beside(bench, () => {
      const stream = bench.haggling();
      stream.send(Buffer.concat([option(5), behind]));
      assert.equal([stream.state, stream.handshake, stream.received.byteLength], ["ended", null, 0]);
    });
  }
});

test("NBD: every option before TLS when TLS is required -> ERR_TLS_REQD", () => {
  const bench = new NbdBench({}, volumeBytes, "required");
  const stream = bench.haggling();
  for (let kind = 3; kind < 32; kind++) {
    if (kind === 5) continue;
    stream.send(option(kind, goData("demo-1")));
    assert.equal(types(stream), [tlsReqd], `option ${kind}`);
  }
  assert.equal(bench.exports.hosts, []);
});

test("NBD: commands before negotiation ends -> not an option: the session ends, nothing goes down", () => {
  const bench = new NbdBench();
  beside(bench, () => {
    for (const early of [[], [bytesOf({ u32: 3 })], [bytesOf({ u32: 3 }), option(8)]]) {
      const stream = bench.connect();
      stream.send(...early, command({ command: WRITE, payload: pattern(512) }));
      assert.is(stream.state, "ended");
      assert.equal(bench.volume.submitted, []);
    }
  });
});

for (const extended of [false, true]) {
  test(`NBD: unaligned, past the end, wrapping offset, zero length -> an error each, nothing goes down, extended ${extended}`, () => {
    const bench = new NbdBench();
    beside(bench, () => {
      const stream = bench.open(extended ? { extended, blockStatus: true } : { blockStatus: true });
      const ranges: [number | bigint, number][] = [
        [1, 512],
        [0, 511],
        [511, 513],
        [volumeBytes, 512],
        [volumeBytes - 512, 1024],
        [2n ** 64n - 512n, 512],
        [2n ** 64n - 512n, 1024],
        [2n ** 63n, 512],
        [2n ** 53n, 512],
        [0, 0],
      ];
      for (const kind of [READ, WRITE, TRIM, CACHE, ZEROES, STATUS]) {
        for (const [offset, length] of ranges) {
          const payload = kind === WRITE ? { payload: pattern(length) } : {};
          const flags = extended && kind === WRITE && length > 0 ? 32 : 0;
          stream.send(command({ command: kind, cookie: 5n, offset, length, flags, extended, ...payload }));
          const { cookie, error } = takeReply(stream);
          const beyond = BigInt(offset) + BigInt(length) > BigInt(volumeBytes);
          const noSpace = beyond && length > 0 && (kind === WRITE || kind === ZEROES);
          assert.equal([cookie, error], [5n, noSpace ? ENOSPC : EINVAL], `command ${kind}, ${offset}+${length}`);
        }
      }
      assert.equal(bench.volume.submitted, []);
    });
  });
}

test("NBD: bad magic, of an option and of a request -> the session ends with one event", () => {
  const bench = new NbdBench();
  beside(bench, () => {
    const haggling = bench.haggling();
    haggling.send(bytesOf("IHAVENOT", { u32: 3 }, { u32: 0 }));
    const transmission = bench.open();
    transmission.send(bytesOf({ u32: 0x25609512 }), new Uint8Array(24));
    assert.equal([haggling.state, transmission.state], ["ended", "ended"]);
    assert.equal(bench.codes(), ["nbd-bad-option-magic", "nbd-bad-magic"]);
  });
});

test("NBD: duplicate cookie -> each command is answered once, with its own data", () => {
  const bench = new NbdBench();
  bench.volume.bytes.set(pattern(2048));
  beside(bench, () => {
    const stream = bench.open({ structured: true });
    bench.volume.gate = true;
    for (const offset of [0, 512, 1024]) stream.send(command({ command: READ, cookie: 7n, offset, length: 512 }));
    bench.volume.waiting.reverse();
    bench.volume.gate = false;
    bench.volume.release();
    bench.clock.runDeferred();
    const replies = takeReplies(stream);
    assert.equal(
      replies.map(({ cookie, data }) => [cookie, new DataView(data.buffer).getBigUint64(0)]),
      [
        [7n, 1024n],
        [7n, 512n],
        [7n, 0n],
      ],
    );
    assert.equal(replies[0]!.data.subarray(8), pattern(2048).subarray(1024, 1536));
  });
});

test("NBD: metadata queries of unknown namespaces, wildcards, none, the same twice -> ignored or answered as the specification says", () => {
  const bench = new NbdBench();
  beside(bench, () => {
    const stream = bench.haggling();
    stream.send(option(8));
    takeOptionReplies(stream);
    const found = (kind: number, queries: string[]) => {
      stream.send(option(kind, metaData("demo-1", queries)));
      return types(stream);
    };
    const [list, set] = [9, 10];
    assert.equal(found(list, []), [4, ack]);
    assert.equal(found(list, ["base:"]), [4, ack]);
    assert.equal(found(list, ["qemu:", "x-y:z", "base:nothing"]), [ack]);
    assert.equal(found(set, []), [ack]);
    assert.equal(found(set, ["base:"]), [ack], "no wildcard when selecting");
    assert.equal(found(set, ["qemu:dirty-bitmap:a", "base:allocation", "base:allocation"]), [4, ack]);
    assert.equal(found(set, ["base:allocation\0"]), [invalid]);
    assert.equal(found(set, ["x".repeat(4097)]), [invalid]);
    assert.equal(found(set, new Array(1000).fill("base:allocation")), [4, ack]);
    stream.send(option(10, metaData("nowhere", ["base:allocation"])));
    assert.is(types(stream).length, 1);
    stream.send(option(7, goData("demo-1")), command({ command: STATUS, length: 4096 }));
    const replies = takeOptionRepliesThen(stream);
    assert.is(replies.error, EINVAL, "the failed selection has unselected what was selected before");
  });
});

test("handshakes that keep failing -> their address is let in once a second, others at once; one event for a row", () => {
  const bench = new NbdBench({ failedLoginsMax: 3 });
  const fails = (remote: string) => {
    const stream = bench.connect(remote);
    if (stream.state !== "open") return "refused";
    stream.send(bytesOf({ u32: 3 }), bytesOf("GET / HTTP/1.1\r\n\r\n"));
    stream.close();
    return "let in";
  };
  const row = (count: number, remote: string) => Array.from({ length: count }, () => fails(remote));
  assert.equal(row(6, "192.0.2.9:1000"), ["let in", "let in", "let in", "refused", "refused", "refused"]);
  assert.is(fails("192.0.2.9:1001"), "refused", "another port is the same address");
  assert.is(bench.connect("192.0.2.10:1000").state, "open");
  assert.is(bench.codes().filter((code) => code === "nbd-too-many-failures").length, 1);
  bench.clock.pass(1000);
  assert.equal(row(2, "192.0.2.9:1002"), ["let in", "refused"]);
  bench.clock.pass(60_000);
  assert.is(fails("192.0.2.9:1003"), "let in");
});

test("an export that is not ready asked for by EXPORT_NAME, again and again -> its host is not kept out", () => {
  const bench = new NbdBench({ failedLoginsMax: 3 });
  bench.volume.ready = false;
  for (let index = 0; index < 10; index++) {
    const stream = bench.haggling();
    stream.send(option(1, bytesOf("demo-1")));
    assert.is(stream.state, "ended");
    stream.close();
  }
  bench.volume.ready = true;
  assert.is(bench.open().state, "open");
});

/** Past the replies of GO. */
function takeOptionRepliesThen(stream: HostStream): { error: number } {
  while (new DataView(stream.received.buffer, stream.received.byteOffset).getUint32(0) === 0x0003e889) {
    const length = new DataView(stream.received.buffer, stream.received.byteOffset).getUint32(16);
    stream.take(20 + length);
  }
  return takeReply(stream);
}

test.run();
