/** What judges the guest's files: it must see a record that is lost, cut short or changed, wherever that is. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { findRecords, recordOf } from "../../scripts/guest_image/agent/records.ts";

const test = suite("guest_records");
const fileOf = (file: number, numbers: readonly number[]) =>
  Buffer.concat(numbers.map((number) => recordOf(file, number)));

test("all there -> counted, nothing follows", () => {
  assert.equal(findRecords(1, fileOf(1, [1, 2, 3, 4])), { records: 4, fault: null });
  assert.equal(findRecords(1, new Uint8Array(0)), { records: 0, fault: null });
});

test("cut at any byte -> the whole records before it, and told", () => {
  const whole = fileOf(0, [1, 2]);
  const first = recordOf(0, 1).length;
  for (let length = 1; length < whole.length; length += 97) {
    const { records, fault } = findRecords(0, whole.subarray(0, length));
    assert.is(records, length < first ? 0 : 1);
    assert.is(fault === null, length === first, `${length}`);
  }
});

test("a byte changed, a record lost, of another file, or zeros in its place -> told where", () => {
  const numbers = [1, 2, 3];
  const secondAt = recordOf(0, 1).length;
  const changed = fileOf(0, numbers);
  changed[secondAt + 100]! ^= 1;
  assert.equal(findRecords(0, changed), {
    records: 1,
    fault: `record 2 is not as written from byte ${secondAt + 100} on`,
  });
  assert.is(findRecords(0, fileOf(0, [1, 3])).records, 1);
  assert.is(findRecords(0, Buffer.concat([recordOf(0, 1), recordOf(1, 2)])).records, 1);
  const zeros = fileOf(0, numbers);
  zeros.fill(0, secondAt);
  assert.equal(findRecords(0, zeros), { records: 1, fault: `record 2 is not as written from byte ${secondAt} on` });
});

test("the header carries the checksum of the payload", () => {
  const record = recordOf(2, 7);
  const header = new DataView(record.buffer);
  assert.equal(
    [0, 4, 8, 12].map((at) => header.getUint32(at, true)),
    [record.length, 2, 7, Bun.hash.crc32(record.subarray(16))],
  );
});

test.run();
