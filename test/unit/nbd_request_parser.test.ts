/** The byte-fed parser of transmission requests: vectors, every cut, payload pieces. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type PayloadKeeper, RequestParser, Step } from "../../firmware/frontend/nbd/request_parser.ts";
import { ReceivedChunk } from "../../firmware/frontend/received_chunk.ts";
import { ManualClock } from "./support/manual_clock.ts";
import { command, HostStream } from "./support/nbd_host.ts";
import { pattern } from "./support/nbd_session.ts";

const test = suite("nbd_request_parser");

const received = (bytes: Uint8Array) => new ReceivedChunk(bytes, null);
const nothingKept = (): PayloadKeeper => ({ payload: [], chunks: [] });

/** Feeds chunks and writes down every step with its fields and payload. */
function transcript(chunks: Uint8Array[], discard = false): string[] {
  const parser = new RequestParser(false);
  const lines: string[] = [];
  let kept = nothingKept();
  for (const chunk of chunks) {
    parser.push(received(chunk));
    for (let step = parser.next(); step !== Step.more; step = parser.next()) {
      if (step === Step.badMagic) return [...lines, "bad magic"];
      if (step === Step.payload) {
        lines.push(`payload ${Buffer.concat(kept.payload).toString("hex")}`);
        kept = nothingKept();
        continue;
      }
      const { flags, command, cookieHigh, cookieLow, offset, length } = parser;
      lines.push(`${command} f${flags} c${cookieHigh >>> 0}:${cookieLow >>> 0} ${offset}+${length}`);
      if (!discard) parser.keepPayload(kept);
    }
  }
  return lines;
}

const script = Buffer.concat([
  command({ command: 0, cookie: 0xfedcba9876543210n, offset: 4096, length: 512 }),
  command({ command: 1, flags: 1, cookie: 2n, offset: 0x1fffff_fffffe00n, payload: pattern(70) }),
  command({ command: 3, cookie: 3n }),
  command({ command: 1, cookie: 4n, offset: 0, payload: pattern(9, 7) }),
  command({ command: 65535, flags: 65535, cookie: 5n, offset: 0xffffffff_ffffffffn, length: 0xffffffff }),
]);

const expected = [
  "0 f0 c4275878552:1985229328 4096+512",
  `1 f1 c0:2 ${2 ** 53 - 512}+70`,
  `payload ${Buffer.from(pattern(70)).toString("hex")}`,
  "3 f0 c0:3 0+0",
  "1 f0 c0:4 0+9",
  `payload ${Buffer.from(pattern(9, 7)).toString("hex")}`,
  "65535 f65535 c0:5 Infinity+4294967295",
];

test("a stream in one chunk -> each header with its fields, each payload whole", () => {
  assert.equal(transcript([script]), expected);
});

test("a stream cut at every byte -> the same steps", () => {
  for (let cut = 0; cut <= script.byteLength; cut++) {
    assert.equal(transcript([script.subarray(0, cut), script.subarray(cut)]), expected, `cut at ${cut}`);
  }
});

test("one byte at a time -> the same steps", () => {
  assert.equal(transcript([...script].map((byte) => new Uint8Array([byte]))), expected);
});

test("a payload that is not kept -> skipped, the next header is found", () => {
  const lines = transcript([script], true);
  assert.equal(
    lines.filter((line) => !line.startsWith("payload")),
    expected.filter((line) => !line.startsWith("payload")),
  );
  assert.equal(lines.filter((line) => line === "payload ").length, 2);
});

test("a wrong magic -> told at its fourth byte, wherever the cut", () => {
  assert.equal(transcript([Buffer.from("GET / HTTP/1.1\r\n\r\n0123456789abcdef")]), ["bad magic"]);
  assert.equal(transcript([Buffer.from("GET ")]), ["bad magic"]);
  assert.equal(transcript([...Buffer.from("GET ")].map((byte) => new Uint8Array([byte]))), ["bad magic"]);
  assert.equal(transcript([Buffer.from("GET")]), []);
});

test("a payload within a chunk -> the chunk's own memory, not a copy", () => {
  const parser = new RequestParser(false);
  const chunk = new Uint8Array(command({ command: 1, payload: pattern(4096) }));
  const kept = nothingKept();
  parser.push(received(chunk));
  parser.next();
  parser.keepPayload(kept);
  assert.is(parser.next(), Step.payload);
  assert.is(kept.payload.length, 1);
  assert.is(kept.payload[0]!.buffer, chunk.buffer);
});

test("a payload in tiny pieces -> few pieces, the same bytes", () => {
  const parser = new RequestParser(false);
  const payload = pattern(32768, 3);
  const kept = nothingKept();
  const pieces = kept.payload;
  parser.push(received(command({ command: 1, length: payload.byteLength })));
  assert.is(parser.next(), Step.request);
  parser.keepPayload(kept);
  assert.is(parser.next(), Step.more);
  assert.ok(parser.midway);
  for (let at = 0; at < payload.byteLength; at++) {
    parser.push(received(payload.slice(at, at + 1)));
    assert.is(parser.next(), at === payload.byteLength - 1 ? Step.payload : Step.more);
  }
  assert.ok(pieces.length <= 65, `${pieces.length} pieces`);
  assert.equal(Buffer.concat(pieces), Buffer.from(payload));
  assert.not(parser.midway);
});

test("a chunk in which two payloads lie -> goes back once, when it is used up and both are through, in any order", () => {
  const whole = Buffer.concat([
    command({ command: 1, cookie: 1n, payload: pattern(4096) }),
    command({ command: 1, cookie: 2n, payload: pattern(4096, 2) }),
  ]);
  const parser = new RequestParser(false);
  const stream = new HostStream(new ManualClock());
  const kept = [nothingKept(), nothingKept()];
  parser.push(new ReceivedChunk(new Uint8Array(whole), stream));
  for (const keeper of kept) {
    assert.is(parser.next(), Step.request);
    parser.keepPayload(keeper);
    assert.is(parser.next(), Step.payload);
  }
  const release = (keeper: PayloadKeeper) => {
    for (const chunk of keeper.chunks) chunk.release();
  };
  release(kept[1]!);
  assert.is(parser.next(), Step.more);
  assert.is(stream.givenBackBytes, 0);
  assert.equal(Buffer.concat(kept[0]!.payload), Buffer.from(pattern(4096)));
  release(kept[0]!);
  assert.is(stream.givenBackBytes, whole.byteLength);
});

test.run();
