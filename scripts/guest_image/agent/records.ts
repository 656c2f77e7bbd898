/**
 * What the guest's writers write: records that are appended, numbered from 1. A record is a header of 16 bytes (length, file, number, CRC-32 of
 * the payload) and a payload that follows from file and number, so that a reader knows every byte of it.
 */

const headerBytes = 16;
const payloadBytesMin = 400;
/** Records lie across blocks and pages at every offset. */
const payloadBytesSpread = 9001;

function payloadBytesOf(file: number, number: number): number {
  return payloadBytesMin + ((number * 7919 + file * 104_729) % payloadBytesSpread);
}

export function recordOf(file: number, number: number): Uint8Array {
  const record = new Uint8Array(headerBytes + payloadBytesOf(file, number));
  const payload = record.subarray(headerBytes);
  // xorshift32: no two records share much, and no byte of a lost one looks right by chance.
  let state = (Math.imul(number, 0x9e3779b1) ^ Math.imul(file + 1, 0x85ebca6b)) >>> 0 || 1;
  for (let at = 0; at < payload.length; at++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    payload[at] = state;
  }
  const header = new DataView(record.buffer);
  header.setUint32(0, record.length, true);
  header.setUint32(4, file, true);
  header.setUint32(8, number, true);
  header.setUint32(12, Bun.hash.crc32(payload), true);
  return record;
}

/** How many whole records `bytes` begins with, each as it was written; and what is wrong with what follows. */
export function findRecords(file: number, bytes: Uint8Array): { records: number; fault: string | null } {
  let records = 0;
  let at = 0;
  while (at < bytes.length) {
    const expected = recordOf(file, records + 1);
    const there = bytes.subarray(at, at + expected.length);
    const wrongAt = there.findIndex((byte, index) => byte !== expected[index]);
    if (wrongAt !== -1)
      return { records, fault: `record ${records + 1} is not as written from byte ${at + wrongAt} on` };
    if (there.length < expected.length)
      return { records, fault: `record ${records + 1} ends after ${there.length} bytes` };
    at += expected.length;
    records++;
  }
  return { records, fault: null };
}
