import { suite } from "uvu";
import * as assert from "uvu/assert";
import { appendBlock } from "../../firmware/codec/crc32_run.ts";
import { linuxDigests } from "../../hal/linux/digests.ts";
import { Prng } from "../../hal/mock/prng.ts";

const test = suite("codec: the checksum of a run of blocks");

test("is that of all its bytes, whatever its length, and changes with any block and with their order", () => {
  const prng = new Prng(7, "blocks");
  const bytes = new Uint8Array(64 * 4096);
  for (let at = 0; at < bytes.length; at++) bytes[at] = prng.next32() & 255;
  bytes.fill(0, 3 * 4096, 6 * 4096);
  const each = Array.from({ length: 64 }, (_, block) => crc(bytes.subarray(block * 4096, (block + 1) * 4096)));
  for (let blocks = 1; blocks <= 64; blocks++) {
    assert.is(each.slice(0, blocks).reduce(appendBlock), crc(bytes.subarray(0, blocks * 4096)), `${blocks} blocks`);
  }
  const whole = each.reduce(appendBlock);
  for (let block = 0; block < 64; block++) {
    const other = each.map((one, at) => (at === block ? one ^ (1 << (block % 32)) : one));
    assert.is.not(other.reduce(appendBlock), whole, `block ${block} damaged`);
  }
  assert.is.not([...each.slice(1), each[0]!].reduce(appendBlock), whole, "blocks in another order");
});

function crc(bytes: Uint8Array): number {
  return linuxDigests.crc32(bytes);
}

test.run();
