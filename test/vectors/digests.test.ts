import { sha256 } from "@noble/hashes/sha2.js";
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
}

test.run();
