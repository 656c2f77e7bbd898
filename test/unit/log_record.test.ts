import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  decodeHeader,
  emptyHeader,
  encodeAround,
  headerBytesFor,
  headerTimeline,
  maxVolumeNumber,
  payloadIsIntact,
  type RecordFields,
  RecordKind,
  type Region,
  recordBytesFor,
  regionOf,
  timelineWords,
} from "../../firmware/log/record.ts";
import { Prng } from "../../hal/mock/prng.ts";
import { mockDigests } from "../../hal/mock/runtime.ts";

const test = suite("log_record");

const groupTag = 0xcafe0001;
const timeline = "00112233445566778899aabbccddeeff";

function fieldsOf(kind: RecordKind, startLba: number, blockCount: number): RecordFields {
  return {
    kind,
    volume: kind === RecordKind.control ? 0 : 7,
    timeline: timelineWords(timeline),
    firstSeq: 41,
    lastSeq: 41,
    startLba,
    blockCount,
    wallMs: 1_767_225_600_000,
    asOfSeq: 0,
    commitSeq: 40,
    parent: null,
    groupTag,
  };
}

/** A record whose payload is `payloadBytes` random bytes. */
function encoded(fields: RecordFields, payloadBytes: number): Region {
  const prng = new Prng(payloadBytes, "record");
  const region = regionOf(new Uint8Array(recordBytesFor(fields.kind, fields.startLba, payloadBytes)));
  const payloadAt = headerBytesFor(fields.kind, fields.startLba, payloadBytes);
  for (let at = 0; at < payloadBytes; at++) region.bytes[payloadAt + at] = prng.below(256);
  assert.is(encodeAround(region, 0, fields, payloadBytes, mockDigests), region.bytes.byteLength);
  return region;
}

function isValid(region: Region, limit = region.bytes.byteLength): boolean {
  const header = emptyHeader();
  return (
    decodeHeader(region, 0, limit, groupTag, mockDigests, header) && payloadIsIntact(region, 0, header, mockDigests)
  );
}

const samples: readonly { readonly name: string; readonly fields: RecordFields; readonly payloadBytes: number }[] = [
  { name: "a whole block", fields: fieldsOf(RecordKind.write, 16, 8), payloadBytes: 4096 },
  { name: "parts of three blocks", fields: fieldsOf(RecordKind.write, 13, 17), payloadBytes: 17 * 512 },
  { name: "a zeroed range", fields: fieldsOf(RecordKind.zero, 3, 100_000), payloadBytes: 0 },
  { name: "a control record", fields: fieldsOf(RecordKind.control, 0, 0), payloadBytes: 77 },
];

for (const { name, fields, payloadBytes } of samples) {
  test(`${name} -> comes back as it was`, () => {
    const region = encoded(fields, payloadBytes);
    const header = emptyHeader();
    assert.ok(decodeHeader(region, 0, region.bytes.byteLength, groupTag, mockDigests, header));
    assert.ok(payloadIsIntact(region, 0, header, mockDigests));
    assert.is(headerTimeline(header), timeline);
    for (const key of [
      "kind",
      "volume",
      "firstSeq",
      "lastSeq",
      "startLba",
      "blockCount",
      "wallMs",
      "commitSeq",
    ] as const)
      assert.is(header[key], fields[key], key);
    assert.is(header.payloadBytes, payloadBytes);
  });

  test(`${name}, any byte of it changed -> not a record`, () => {
    const region = encoded(fields, payloadBytes);
    const end = headerBytesFor(fields.kind, fields.startLba, payloadBytes) + payloadBytes;
    for (let at = 0; at < end; at++) {
      region.bytes[at]! ^= 1 << (at % 8);
      assert.not(isValid(region), `byte ${at}`);
      region.bytes[at]! ^= 1 << (at % 8);
    }
    assert.ok(isValid(region));
  });

  test(`${name}, cut anywhere -> not a record`, () => {
    const region = encoded(fields, payloadBytes);
    for (let limit = 0; limit < region.bytes.byteLength; limit++) assert.not(isValid(region, limit), `at ${limit}`);
  });
}

test("a record of another group -> not a record", () => {
  const region = encoded({ ...fieldsOf(RecordKind.write, 0, 1), groupTag: groupTag + 1 }, 512);
  assert.not(isValid(region));
});

test("blocks of a volume that cannot be -> not a record", () => {
  for (const volume of [0, maxVolumeNumber + 1, 0xffffffff]) {
    assert.not(isValid(encoded({ ...fieldsOf(RecordKind.write, 0, 1), volume }, 512)), `${volume}`);
    assert.not(isValid(encoded({ ...fieldsOf(RecordKind.unmap, 0, 1), volume }, 0)), `${volume}`);
  }
});

test("a length that wraps, lies about the blocks, or reaches beyond the largest volume -> not a record", () => {
  assert.not(isValid(encoded({ ...fieldsOf(RecordKind.write, 0, 2) }, 512)));
  assert.not(isValid(encoded({ ...fieldsOf(RecordKind.zero, 2 ** 35, 1) }, 0)));
  assert.not(isValid(encoded({ ...fieldsOf(RecordKind.zero, 2 ** 53 - 1, 2 ** 53 - 1) }, 0)));
  assert.not(isValid(encoded({ ...fieldsOf(RecordKind.zero, 0, 1), lastSeq: 40 }, 0)));
  const region = encoded(fieldsOf(RecordKind.write, 0, 1), 512);
  region.view.setUint32(16, 0xffffffff, true);
  assert.not(isValid(region));
});

test.run();
