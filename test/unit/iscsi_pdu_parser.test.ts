/** The byte-fed PDU parser: digest vectors, every cut, lengths that lie. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { PduParser, Step } from "../../firmware/frontend/iscsi/pdu_parser.ts";
import { concat, crc32c, pdu } from "./support/iscsi_initiator.ts";
import { pattern } from "./support/nbd_session.ts";

const test = suite("iscsi_pdu_parser");

/** Feeds chunks and writes down every step with its fields and data. */
function transcript(chunks: readonly Uint8Array[], choice: { digests?: boolean; discard?: boolean } = {}): string[] {
  const parser = new PduParser({ crc32c }, 4096);
  parser.headerDigest = choice.digests ?? false;
  parser.dataDigest = choice.digests ?? false;
  const lines: string[] = [];
  let pieces: Uint8Array[] = [];
  for (const chunk of chunks) {
    parser.push(chunk);
    for (let step = parser.next(); step !== Step.more; step = parser.next()) {
      if (step === Step.tooLong) return [...lines, `too long ${parser.dataBytes}`];
      if (step === Step.badHeaderDigest) return [...lines, "bad header digest"];
      if (step === Step.payload) {
        lines.push(`${Buffer.concat(pieces).toString("hex")} ${parser.dataDigestRight}`);
        pieces = [];
        continue;
      }
      const { opcode, immediate, flags, ahsBytes, dataBytes } = parser;
      const ahs = Buffer.from(parser.bytes.subarray(48, 48 + ahsBytes)).toString("hex");
      lines.push(`${opcode} ${immediate} ${flags} ${parser.u32(16)} ahs ${ahs} ${dataBytes}`);
      if (choice.discard !== true) parser.keepPayload({ piece: (bytes) => pieces.push(bytes) });
    }
  }
  return lines;
}

function script(digests: boolean): Uint8Array {
  const digest = digests ? ("good" as const) : ("none" as const);
  const both = { headerDigest: digest, dataDigest: digest };
  return concat([
    pdu({ opcode: 0, immediate: true, itt: 1, ...both }),
    pdu({ opcode: 1, flags: 0xa1, itt: 2, data: pattern(13), ...both }),
    pdu({ opcode: 1, flags: 0xc1, itt: 3, ahs: pattern(8, 5), data: pattern(4, 2), ...both }),
    pdu({ opcode: 0x3f, itt: 0xffffffff, ...both }),
  ]);
}

const expected = [
  "0 true 128 1 ahs  0",
  " true",
  "1 false 161 2 ahs  13",
  `${Buffer.from(pattern(13)).toString("hex")} true`,
  `1 false 193 3 ahs ${Buffer.from(pattern(8, 5)).toString("hex")} 4`,
  `${Buffer.from(pattern(4, 2)).toString("hex")} true`,
  "63 false 128 4294967295 ahs  0",
  " true",
];

test("the digest is that of RFC 7143's examples (RFC 3720 B.4)", () => {
  const bytes = (crc: number) => [crc & 255, (crc >>> 8) & 255, (crc >>> 16) & 255, crc >>> 24];
  const up = Uint8Array.from({ length: 32 }, (_, index) => index);
  assert.equal(bytes(crc32c(new Uint8Array(32))), [0xaa, 0x36, 0x91, 0x8a]);
  assert.equal(bytes(crc32c(new Uint8Array(32).fill(255))), [0x43, 0xab, 0xa8, 0x62]);
  assert.equal(bytes(crc32c(up)), [0x4e, 0x79, 0xdd, 0x46]);
  assert.equal(bytes(crc32c(up.slice().reverse())), [0x5c, 0xdb, 0x3f, 0x11]);
  const read10 = new Uint8Array(48);
  read10.set([0x01, 0xc0]);
  read10.set([0x14, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0x14, 0, 0, 0, 0x18, 0x28], 16);
  read10[40] = 2;
  assert.equal(bytes(crc32c(read10)), [0x56, 0x3a, 0x96, 0xd9]);
  assert.is(crc32c(up.subarray(7), crc32c(up.subarray(0, 7))), crc32c(up));
});

for (const digests of [false, true]) {
  const bytes = script(digests);
  const name = digests ? "with digests" : "without digests";

  test(`PDUs cut at every byte, ${name} → the same steps`, () => {
    assert.equal(transcript([bytes], { digests }), expected);
    for (let cut = 1; cut < bytes.byteLength; cut++) {
      assert.equal(transcript([bytes.subarray(0, cut), bytes.subarray(cut)], { digests }), expected, `cut at ${cut}`);
    }
  });

  test(`PDUs fed one byte at a time, ${name} → the same steps`, () => {
    const chunks = Array.from(bytes, (_, at) => bytes.subarray(at, at + 1));
    assert.equal(transcript(chunks, { digests }), expected);
    const discarded = transcript(chunks, { digests, discard: true });
    assert.equal(
      discarded.filter((line) => line.endsWith("true")),
      [" true", " true", " true", " true"],
    );
  });
}

test("a bit flipped anywhere under digests → told by the header, or at the end of the data", () => {
  const bytes = pdu({ opcode: 1, itt: 9, data: pattern(10), headerDigest: "good", dataDigest: "good" });
  for (let at = 0; at < bytes.byteLength; at++) {
    const bad = bytes.slice();
    bad[at]! ^= 0x10;
    const lines = transcript([bad], { digests: true });
    // A flipped TotalAHSLength makes the parser wait for more.
    if (at === 4) assert.equal(lines, []);
    else if (at < 52) assert.equal(lines, ["bad header digest"], `byte ${at}`);
    else assert.ok(lines[1]?.endsWith(" false"), `byte ${at}`);
  }
});

test("a data segment above the limit → told by the header, before any of it has come", () => {
  assert.equal(transcript([pdu({ opcode: 1, dataBytes: 4097 })]), ["too long 4097"]);
  assert.equal(transcript([pdu({ opcode: 1, dataBytes: 0xffffff })]), ["too long 16777215"]);
  assert.equal(transcript([pdu({ opcode: 1, dataBytes: 4096 })]).length, 1);
});

test("additional headers of the greatest length → taken; shorter than they claim → what follows is taken for them", () => {
  const ahs = pattern(1020);
  assert.is(transcript([pdu({ opcode: 1, ahs })])[0], `1 false 128 0 ahs ${Buffer.from(ahs).toString("hex")} 0`);
  assert.equal(transcript([pdu({ opcode: 1, ahsWords: 255 })]), []);
});

test.run();
