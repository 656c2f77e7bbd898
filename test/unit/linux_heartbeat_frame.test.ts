/** Heartbeats on the wire: what counts as one, and that none can be made up, changed or sent twice. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { decodeHeartbeat, encodeHeartbeat, heartbeatBytes } from "../../hal/linux/heartbeat_frame.ts";

const test = suite("linux_heartbeat_frame");
const key = new Uint8Array(32).fill(7);
const beat = { number: 2 ** 40 + 5, turns: 4_000_000_000, stillMs: 123_456 };

test("a beat -> the same comes back", () => {
  const bytes = encodeHeartbeat(beat, key);
  assert.is(bytes.byteLength, heartbeatBytes);
  assert.equal(decodeHeartbeat(bytes, key), beat);
});

test("its bytes, as documented -> the tag is HMAC-SHA256 of what stands before it", () => {
  const bytes = encodeHeartbeat({ number: 1, turns: 2, stillMs: 3 }, key);
  const head = "474348540100000001000000000000000200000003000000";
  assert.is(Buffer.from(bytes.subarray(0, 24)).toString("hex"), head);
  const tag = new Bun.CryptoHasher("sha256", key).update(Buffer.from(head, "hex")).digest("hex");
  assert.is(Buffer.from(bytes.subarray(24)).toString("hex"), tag.slice(0, 32));
});

test("any bit is changed, it is cut or longer, or the key is another -> none", () => {
  const bytes = encodeHeartbeat(beat, key);
  for (let bit = 0; bit < bytes.byteLength * 8; bit++) {
    const changed = Uint8Array.from(bytes);
    changed[bit >> 3]! ^= 1 << (bit & 7);
    assert.is(decodeHeartbeat(changed, key), null, `bit ${bit}`);
  }
  for (let length = 0; length < bytes.byteLength; length++)
    assert.is(decodeHeartbeat(bytes.subarray(0, length), key), null);
  assert.is(decodeHeartbeat(Buffer.concat([bytes, Uint8Array.of(0)]), key), null);
  assert.is(decodeHeartbeat(bytes, new Uint8Array(32).fill(8)), null);
});

test("a number that is no safe integer, rightly signed -> none", () => {
  assert.is(decodeHeartbeat(encodeHeartbeat({ ...beat, number: 2 ** 53 }, key), key), null);
  assert.is(decodeHeartbeat(encodeHeartbeat({ ...beat, number: 2 ** 53 - 1 }, key), key)?.number, 2 ** 53 - 1);
});

test.run();
