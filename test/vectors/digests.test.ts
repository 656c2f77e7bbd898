import { md5, sha1 } from "@noble/hashes/legacy.js";
import { sha256 } from "@noble/hashes/sha2.js";
import { sha3_256 } from "@noble/hashes/sha3.js";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { toHex } from "../../firmware/codec/bytes.ts";
import { linuxDigests } from "../../hal/linux/digests.ts";
import { mockDigests } from "../../hal/mock/runtime.ts";

const test = suite("digests");

const text = (value: string) => new TextEncoder().encode(value);

for (const [name, digests] of [
  ["linux", linuxDigests],
  ["mock", mockDigests],
] as const) {
  test(`${name}: the check value of CRC-32 (IEEE 802.3) -> cbf43926`, () => {
    assert.is(digests.crc32(text("123456789")), 0xcbf43926);
    assert.is(digests.crc32(new Uint8Array(0)), 0);
  });

  test(`${name}: FIPS 180-4's examples of SHA-256 -> their digests`, () => {
    assert.is(toHex(digests.sha256(text("abc"))), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert.is(
      toHex(digests.sha256(text("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"))),
      "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
    );
  });

  test(`${name}: every length around SHA-256's block -> the same as an independent implementation`, () => {
    const bytes = new Uint8Array(300).map((_, at) => (at * 167 + 13) & 0xff);
    for (let length = 0; length <= bytes.byteLength; length++) {
      const part = bytes.subarray(length === 0 ? 0 : 1, length);
      assert.is(toHex(digests.sha256(part)), toHex(sha256(part)), `length ${part.byteLength}`);
    }
  });

  test(`${name}: the examples of CRC-32C (RFC 3720 B.4) -> their values`, () => {
    const up = new Uint8Array(32).map((_, at) => at);
    // A SCSI Read (10) command PDU.
    const read = new Uint8Array(48);
    read.set([0x01, 0xc0], 0);
    read.set([0x14, 0, 0, 0, 0, 0, 0x04, 0, 0, 0, 0, 0x14, 0, 0, 0, 0x18, 0x28], 16);
    read[40] = 0x02;
    assert.is(digests.crc32c(new Uint8Array(32)), 0x8a9136aa);
    assert.is(digests.crc32c(new Uint8Array(32).fill(0xff)), 0x62a8ab43);
    assert.is(digests.crc32c(up), 0x46dd794e);
    assert.is(digests.crc32c(up.toReversed()), 0x113fdb5c);
    assert.is(digests.crc32c(read), 0xd9963a56);
    assert.is(digests.crc32c(text("123456789")), 0xe3069283);
    assert.is(digests.crc32c(new Uint8Array(0)), 0);
  });

  test(`${name}: every length around the change to native code, at any alignment, in pieces -> the CRC-32C by its definition`, () => {
    const bytes = new Uint8Array(2100).map((_, at) => (at * 167 + (at >> 8)) & 0xff);
    for (let length = 0; length <= 1100; length++) {
      const part = bytes.subarray(length & 7, (length & 7) + length);
      const expected = crc32cByDefinition(part);
      assert.is(digests.crc32c(part), expected, `length ${length}`);
      const cut = (length * 7) % (length + 1);
      const inPieces = digests.crc32c(part.subarray(cut), digests.crc32c(part.subarray(0, cut)));
      assert.is(inPieces, expected, `length ${length}, cut at ${cut}`);
    }
  });

  test(`${name}: the hashes of CHAP over several parts -> the same as an independent implementation over the whole`, () => {
    const parts = [text("\u0007"), text("a secret of some length"), new Uint8Array(0), text("and a challenge")];
    const whole = new Uint8Array(Buffer.concat(parts));
    for (const [algorithm, independent] of [
      ["md5", md5],
      ["sha1", sha1],
      ["sha256", sha256],
      ["sha3-256", sha3_256],
    ] as const) {
      assert.is(toHex(digests.hash(algorithm, parts)), toHex(independent(whole)), algorithm);
    }
  });
}

/** Bit by bit (RFC 7143 13.1). */
function crc32cByDefinition(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc & 1) === 0 ? crc >>> 1 : (crc >>> 1) ^ 0x82f63b78;
  }
  return ~crc >>> 0;
}

test.run();
