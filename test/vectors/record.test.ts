/** The formats that lie on media and travel on links: a change of a byte is a change of version. */
import { sha256 } from "@noble/hashes/sha2.js";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { toHex } from "../../firmware/codec/bytes.ts";
import {
  encodeAround,
  headerBytesFor,
  RecordKind,
  recordBytesFor,
  regionOf,
  timelineWords,
} from "../../firmware/log/record.ts";
import { mockDigests } from "../../hal/mock/runtime.ts";

const test = suite("record_vectors");

function encoded(
  kind: (typeof RecordKind)[keyof typeof RecordKind],
  startLba: number,
  payloadBytes: number,
): Uint8Array {
  const region = regionOf(new Uint8Array(recordBytesFor(kind, startLba, payloadBytes)));
  const at = headerBytesFor(kind, startLba, payloadBytes);
  for (let byte = 0; byte < payloadBytes; byte++) region.bytes[at + byte] = (byte * 31 + 7) & 0xff;
  const fields = {
    kind,
    volume: 3,
    timeline: timelineWords("00112233445566778899aabbccddeeff"),
    firstSeq: 4294967301,
    lastSeq: 4294967301,
    startLba,
    blockCount: payloadBytes / 512,
    wallMs: 1_767_225_600_123,
    asOfSeq: 0,
    commitSeq: 4294967299,
    parent: null,
    groupTag: 0xdeadbeef,
  };
  encodeAround(region, 0, fields, payloadBytes, mockDigests);
  return region.bytes;
}

test("a write of one block -> these bytes", () => {
  const bytes = encoded(RecordKind.write, 16, 4096);
  assert.is(bytes.byteLength, 192 + 4096);
  assert.is(toHex(bytes.subarray(0, 24)), "474352314777cd3a01010000c00000000010000003000000");
  assert.is(toHex(sha256(bytes)), "295eab0c6310ff63b7825ab632b7deadd026ff36720aa9358941f9f1e64e8059");
});

test("an unaligned write -> one checksum for each piece between multiples of 4,096 bytes", () => {
  const bytes = encoded(RecordKind.write, 5, 8192);
  assert.is(toHex(sha256(bytes)), "8269bf21a087ddf9141496d2ce66206a5009b0a0919af3b5260d421459c33d18");
});

test.run();
