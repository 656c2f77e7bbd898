/** What the kernel leaves in struct sg_io_hdr, and sense data of every form and length. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { decodeOutcome, decodeSense, type ScsiOutcome } from "../../hal/linux/scsi_generic.ts";

const test = suite("scsi_generic");

interface Answered {
  readonly status?: number;
  readonly host?: number;
  readonly driver?: number;
  readonly dataBytes?: number;
  readonly leftBytes?: number;
  readonly senseBytes?: number;
  readonly direction?: number;
}

const fromDevice = -3;
const fixed = Uint8Array.of(0x70, 0, 0x06, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x2a, 0x05, 0, 0, 0, 0);

function decoded(answered: Answered, sense: Uint8Array = new Uint8Array(96)): ScsiOutcome {
  const header = new DataView(new ArrayBuffer(88));
  header.setInt32(4, answered.direction ?? fromDevice, true);
  header.setUint32(12, answered.dataBytes ?? 8, true);
  header.setUint8(64, answered.status ?? 0);
  header.setUint8(67, answered.senseBytes ?? 0);
  header.setUint16(68, answered.host ?? 0, true);
  header.setUint16(70, answered.driver ?? 0, true);
  header.setInt32(72, answered.leftBytes ?? 0, true);
  return decodeOutcome(header, sense, Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8));
}

function dataOf(answered: Answered): number[] {
  const outcome = decoded(answered);
  assert.is(outcome.kind, "answered");
  return outcome.kind === "answered" ? [...outcome.data] : [];
}

test("data -> what came of it and no more, whatever the header claims", () => {
  assert.equal(dataOf({}), [1, 2, 3, 4, 5, 6, 7, 8]);
  assert.equal(dataOf({ leftBytes: 3 }), [1, 2, 3, 4, 5]);
  assert.equal(dataOf({ leftBytes: 8 }), []);
  assert.equal(dataOf({ leftBytes: 1000 }), []);
  assert.equal(dataOf({ leftBytes: -5 }), [1, 2, 3, 4, 5, 6, 7, 8]);
  assert.equal(dataOf({ dataBytes: 4000 }), [1, 2, 3, 4, 5, 6, 7, 8]);
  assert.equal(dataOf({ direction: -2 }), [], "what was sent is no answer");
});

test("status and sense -> as the device says, also where the kernel has an opinion of it", () => {
  for (const host of [0, 0x11]) {
    const outcome = decoded({ status: 0x18, host });
    assert.is(outcome.kind === "answered" && outcome.status, 0x18);
  }
  const attention = decoded({ status: 2, senseBytes: 18, driver: 8 }, fixed);
  assert.equal(attention.kind === "answered" && attention.sense, { key: 6, code: 0x2a05 });
  const bare = decoded({ status: 2 });
  assert.is(bare.kind === "answered" && bare.sense, null);
});

test("no answer -> timeout, absent or failed, by what the kernel says", () => {
  assert.is(decoded({ host: 3 }).kind, "timeout");
  assert.is(decoded({ host: 1 }).kind, "absent");
  assert.is(decoded({ host: 4 }).kind, "absent");
  assert.is(decoded({ host: 7 }).kind, "failed");
  assert.is(decoded({ driver: 6 }).kind, "failed");
});

test("sense of both forms, cut anywhere, or of none -> the same, less of it, or nothing", () => {
  assert.equal(decodeSense(fixed), { key: 6, code: 0x2a05 });
  assert.equal(decodeSense(Uint8Array.of(0x72, 0x05, 0x20, 0x00, 0, 0, 0, 0)), { key: 5, code: 0x2000 });
  assert.equal(decodeSense(Uint8Array.of(0xf1, 0, 0xe3)), { key: 3, code: 0 });
  for (let length = 0; length <= 2; length++) assert.is(decodeSense(fixed.subarray(0, length)), null);
  for (const form of [0x00, 0x6f, 0x74, 0x7f]) assert.is(decodeSense(fixed.with(0, form)), null);
});

test.run();
