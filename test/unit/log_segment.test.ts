import { suite } from "uvu";
import * as assert from "uvu/assert";
import { logLimits } from "../../firmware/log/limits.ts";
import { regionOf } from "../../firmware/log/record.ts";
import { decodeCells, decodeSegmentHeader, encodeCell, encodeSegmentHeader } from "../../firmware/log/segment.ts";
import { mockDigests } from "../../hal/mock/runtime.ts";

const test = suite("log_segment");

const groupId = "0123456789abcdef0123456789abcdef";
const timeline = "f".repeat(32);
const base = 8192;

function segment() {
  const region = regionOf(new Uint8Array(base + logLimits.segmentHeaderBytes).fill(0xa5));
  encodeSegmentHeader(region, base, { groupId, ordinal: 77, firstSeq: 2 ** 40, durableSeq: 2 ** 39 }, 5, mockDigests);
  return region;
}

test("a segment's header -> comes back; any of its bytes changed -> there is none", () => {
  const region = segment();
  assert.equal(decodeSegmentHeader(region, base, mockDigests), {
    groupId,
    ordinal: 77,
    firstSeq: 2 ** 40,
    durableSeq: 2 ** 39,
  });
  for (let at = base; at < base + 64; at++) {
    region.bytes[at]! ^= 0x10;
    assert.is(decodeSegmentHeader(region, base, mockDigests), null, `byte ${at - base}`);
    region.bytes[at]! ^= 0x10;
  }
});

test("a fresh segment in a used slot -> the cells of before are gone", () => {
  const region = segment();
  encodeCell(region, base, 0, { commitSeq: 9, timeline, groupId }, mockDigests);
  encodeSegmentHeader(region, base, { groupId, ordinal: 78, firstSeq: 1, durableSeq: 0 }, 5, mockDigests);
  assert.is(decodeCells(region, base, groupId, mockDigests), null);
});

test("two cells, the newer one damaged at any byte -> the older one counts", () => {
  const region = segment();
  assert.is(decodeCells(region, base, groupId, mockDigests), null);
  encodeCell(region, base, 0, { commitSeq: 40, timeline, groupId }, mockDigests);
  const at = base + encodeCell(region, base, 1, { commitSeq: 41, timeline, groupId }, mockDigests);
  assert.equal(decodeCells(region, base, groupId, mockDigests), { commitSeq: 41, timeline });
  for (let byte = at; byte < at + 64; byte++) {
    region.bytes[byte]! ^= 0x01;
    assert.equal(decodeCells(region, base, groupId, mockDigests), { commitSeq: 40, timeline }, `byte ${byte - at}`);
    region.bytes[byte]! ^= 0x01;
  }
});

test("the cells of another group -> do not count", () => {
  const region = segment();
  encodeCell(region, base, 0, { commitSeq: 40, timeline, groupId: "9".repeat(32) }, mockDigests);
  assert.is(decodeCells(region, base, groupId, mockDigests), null);
});

test.run();
