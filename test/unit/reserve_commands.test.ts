/** PERSISTENT RESERVE as it goes to a disk and comes back: bytes of SPC-5 6.16 and 6.17, and answers that are cut short or lie. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  decodeCapabilities,
  decodeKeys,
  decodeReservation,
  preemptAndAbort,
  readKeys,
  readReservation,
  registerAndIgnoreExistingKey,
  reportCapabilities,
  reserve,
} from "../../hal/linux/reserve_commands.ts";

const test = suite("reserve_commands");

const keyA = "0102030405060708";
const keyB = "a1a2a3a4a5a6a7a8";
const bytesA = [1, 2, 3, 4, 5, 6, 7, 8];
const bytesB = [0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8];
const none = [0, 0, 0, 0, 0, 0, 0, 0];

const bytesOf = ({ cdb, dataOut }: { cdb: Uint8Array; dataOut: Uint8Array }): number[][] => [[...cdb], [...dataOut]];

test("PERSISTENT RESERVE OUT -> action, scope and type, 24 bytes of parameters: the own key, the action's key, APTPL", () => {
  assert.equal(bytesOf(registerAndIgnoreExistingKey(keyA)), [
    [0x5f, 0x06, 0x00, 0, 0, 0, 0, 0, 24, 0],
    [...none, ...bytesA, 0, 0, 0, 0, 0x01, 0, 0, 0],
  ]);
  assert.equal(bytesOf(reserve(keyA)), [
    [0x5f, 0x01, 0x07, 0, 0, 0, 0, 0, 24, 0],
    [...bytesA, ...none, 0, 0, 0, 0, 0, 0, 0, 0],
  ]);
  assert.equal(bytesOf(preemptAndAbort(keyA, keyB)), [
    [0x5f, 0x05, 0x07, 0, 0, 0, 0, 0, 24, 0],
    [...bytesA, ...bytesB, 0, 0, 0, 0, 0, 0, 0, 0],
  ]);
});

test("PERSISTENT RESERVE IN -> action and allocation length", () => {
  assert.equal([...readKeys.cdb], [0x5e, 0x00, 0, 0, 0, 0, 0, 0x10, 0x08, 0]);
  assert.is(readKeys.dataInBytesMax, 0x1008);
  assert.equal([...readReservation.cdb], [0x5e, 0x01, 0, 0, 0, 0, 0, 0, 24, 0]);
  assert.equal([...reportCapabilities.cdb], [0x5e, 0x02, 0, 0, 0, 0, 0, 0, 8, 0]);
});

test("READ KEYS -> every key; cut anywhere -> the whole ones, and that there are more, or nothing", () => {
  const whole = Uint8Array.from([0, 0, 0, 9, 0, 0, 0, 16, ...bytesA, ...bytesB]);
  assert.equal(decodeKeys(whole), { keys: [keyA, keyB], isAll: true });
  assert.equal(decodeKeys(Uint8Array.of(0, 0, 0, 9, 0, 0, 0, 0)), { keys: [], isAll: true });
  for (let length = 0; length < whole.byteLength; length++) {
    const found = decodeKeys(whole.subarray(0, length));
    if (length < 8) assert.is(found, null);
    else assert.equal(found, { keys: [keyA, keyB].slice(0, Math.floor((length - 8) / 8)), isAll: false });
  }
});

test("READ KEYS with a length that is none -> nothing; with one beyond what came -> there are more", () => {
  assert.is(decodeKeys(Uint8Array.from([0, 0, 0, 9, 0, 0, 0, 15, ...bytesA, ...bytesB])), null);
  const lying = Uint8Array.from([0, 0, 0, 9, 0xff, 0xff, 0xff, 0xf8, ...bytesA]);
  assert.equal(decodeKeys(lying), { keys: [keyA], isAll: false });
  const quiet = Uint8Array.from([0, 0, 0, 9, 0, 0, 0, 8, ...bytesA, ...bytesB]);
  assert.equal(decodeKeys(quiet), { keys: [keyA], isAll: true });
});

test("READ RESERVATION -> its type, or that there is none; of another scope, cut or too long -> nothing", () => {
  const held = [0, 0, 0, 9, 0, 0, 0, 16, ...none, 0, 0, 0, 0, 0, 0x07, 0, 0];
  assert.equal(decodeReservation(Uint8Array.from(held)), { type: 7 });
  assert.is(decodeReservation(Uint8Array.of(0, 0, 0, 9, 0, 0, 0, 0)), "none");
  for (let length = 0; length < held.length; length++)
    assert.is(decodeReservation(Uint8Array.from(held.slice(0, length))), null);
  assert.is(decodeReservation(Uint8Array.from(held.with(21, 0x17))), null);
  assert.is(decodeReservation(Uint8Array.from(held.with(7, 17))), null);
});

test("REPORT CAPABILITIES -> PTPL_C, PTPL_A, and the type where the mask is valid; cut -> nothing", () => {
  const all = [0, 8, 0x0d, 0x81, 0xea, 0x01, 0, 0];
  const can = { canPersist: true, persists: true, hasWriteExclusiveAllRegistrants: true };
  assert.equal(decodeCapabilities(Uint8Array.from(all)), can);
  assert.equal(decodeCapabilities(Uint8Array.from(all.with(2, 0x0c))), { ...can, canPersist: false });
  assert.equal(decodeCapabilities(Uint8Array.from(all.with(3, 0x80))), { ...can, persists: false });
  for (const without of [all.with(3, 0x01), all.with(4, 0x6a)]) {
    const found = decodeCapabilities(Uint8Array.from(without));
    assert.equal(found, { ...can, hasWriteExclusiveAllRegistrants: false });
  }
  for (let length = 0; length < all.length; length++)
    assert.is(decodeCapabilities(Uint8Array.from(all.slice(0, length))), null);
  assert.is(decodeCapabilities(Uint8Array.from(all.with(1, 7))), null);
});

test.run();
