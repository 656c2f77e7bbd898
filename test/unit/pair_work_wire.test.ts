/** Records between partners (`work_wire.ts`): whole whatever the messages' borders are, bounded, and judged. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { PayloadMemory } from "../../firmware/pair/interconnect.ts";
import { pairLimits } from "../../firmware/pair/limits.ts";
import { headerBytes, type WorkHead, WorkReader, WorkWriter, workKinds } from "../../firmware/pair/work_wire.ts";
import { ManualClock } from "./support/manual_clock.ts";

const test = suite("pair_work_wire");

interface Record {
  readonly head: WorkHead;
  readonly meta: Uint8Array;
  readonly data: Uint8Array;
}

function filled(bytes: number, seed: number): Uint8Array {
  return Uint8Array.from({ length: bytes }, (_, index) => (index * 7 + (index >> 8) + seed) & 0xff);
}

function record(id: number, metaBytes: number, dataBytes: number): Record {
  const head = {
    kind: workKinds.task,
    code: id % 5,
    channel: 3,
    id,
    first: id * 2,
    second: 2 ** 32 - 1,
    wide: 2 ** 50,
  };
  return { head, meta: filled(metaBytes, id), data: filled(dataBytes, id + 1) };
}

/** What `records` come to as messages; the data in pieces of `pieceBytes`. */
function written(records: readonly Record[], pieceBytes = 100_000): Uint8Array[] {
  const clock = new ManualClock();
  const messages: Uint8Array[] = [];
  const writer = new WorkWriter(clock, (parts) => messages.push(Buffer.concat(parts)));
  for (const { head, meta, data } of records) {
    const pieces: Uint8Array[] = [];
    for (let at = 0; at < data.byteLength; at += pieceBytes) pieces.push(data.subarray(at, at + pieceBytes));
    writer.put(head, [meta.subarray(0, 1), meta.subarray(1)], pieces);
  }
  clock.runDeferred();
  return messages;
}

function readAll(messages: readonly Uint8Array[]): { records: Record[]; fault: string | null } {
  const records: Record[] = [];
  const reader = new WorkReader((head, meta, data) =>
    records.push({ head: { ...head }, meta: meta.slice(), data: data.slice() }),
  );
  let fault: string | null = null;
  for (const message of messages) {
    const fed = Uint8Array.from(message);
    fault ??= reader.feed(fed);
    // It belongs to somebody else from here on.
    fed.fill(0xdb);
  }
  return { records, fault };
}

function assertSame(found: readonly Record[], expected: readonly Record[]): void {
  assert.is(found.length, expected.length);
  for (const [index, { head, meta, data }] of expected.entries()) {
    assert.equal(found[index]!.head, head);
    assert.is(Buffer.compare(found[index]!.meta, meta), 0, `meta ${index}`);
    assert.is(Buffer.compare(found[index]!.data, data), 0, `data ${index}`);
  }
}

test("records of every size → arrive as they were, in messages that are bounded", () => {
  const sizes = [0, 1, 4096, 16384, 16385, 131072, 1048576, 3 * 1048576 + 5];
  const records = sizes.map((bytes, index) => record(index, 24 + index, bytes));
  for (const pieceBytes of [1000, 16384, 16385, 262144, 4 * 1048576]) {
    const messages = written(records, pieceBytes);
    for (const message of messages) assert.ok(message.byteLength <= pairLimits.payloadBytesMax);
    assertSame(readAll(messages).records, records);
  }
});

test("many small ones in one turn → few messages", () => {
  const records = Array.from({ length: 300 }, (_, index) => record(index, 24, 4096));
  const messages = written(records);
  assert.ok(messages.length <= 300 / 11, String(messages.length));
  assertSame(readAll(messages).records, records);
});

test("much in one turn → the partner has a part of it before the turn ends", () => {
  const clock = new ManualClock();
  let messages = 0;
  const writer = new WorkWriter(clock, () => messages++);
  const put = (count: number): void => {
    for (let index = 0; index < count; index++) {
      const { head, meta, data } = record(index, 24, 4096);
      writer.put(head, [meta], [data]);
    }
  };
  put(6);
  assert.is(messages, 0);
  put(6);
  assert.is(messages, 1);
  put(1);
  assert.is(messages, 1);
  clock.runDeferred();
  assert.is(messages, 2);
});

test("the partner has every message soon → a few buffers serve for ever; it has not → what it lacks stays as it was", () => {
  const clock = new ManualClock();
  const sent: { parts: readonly Uint8Array[]; was: Buffer; release: () => void }[] = [];
  const writer = new WorkWriter(clock, (parts, { released }) =>
    sent.push({ parts, was: Buffer.concat(parts), release: released }),
  );
  const buffers = new Set<ArrayBufferLike>();
  const turn = (number: number): void => {
    for (let index = 0; index < 32; index++) {
      const { head, meta, data } = record(1000 * number + index, 24, 4096);
      writer.put(head, [meta], [data]);
    }
    clock.runDeferred();
    for (const { parts } of sent) for (const part of parts) buffers.add(part.buffer);
  };
  for (let number = 0; number < 50; number++) {
    turn(number);
    assert.is(sent.length, 3, "a turn goes as few messages");
    assertSame(
      readAll(sent.map(({ was }) => was)).records,
      Array.from({ length: 32 }, (_, index) => record(1000 * number + index, 24, 4096)),
    );
    for (const { release } of sent.splice(0)) release();
  }
  assert.ok(buffers.size <= 2, `${buffers.size} buffers`);
  for (let number = 100; number < 110; number++) turn(number);
  // Released in any order, while others are still needed.
  for (const at of [3, 5, 0]) sent.splice(at, 1)[0]!.release();
  for (let number = 200; number < 210; number++) turn(number);
  for (const { parts, was } of sent) assert.is(Buffer.compare(Buffer.concat(parts), was), 0);
});

test("heads are written in front of messages -> nothing that was gathered is touched, also when a message goes once more", () => {
  const clock = new ManualClock();
  const sent: { parts: readonly Uint8Array[]; was: Buffer; memory: PayloadMemory }[] = [];
  const writer = new WorkWriter(clock, (parts, memory) => sent.push({ parts, was: Buffer.concat(parts), memory }));
  let id = 0;
  let inFront = 0;
  for (let turn = 0; turn < 21; turn++) {
    for (let count = 1 + (turn % 7); count > 0; count--) {
      const { head, meta, data } = record(++id, id % 30, [0, 100, 4096, 20_000, 1_100_000][(turn + count) % 5]!);
      // A place that nothing comes into.
      if (id % 3 === 0) writer.placeForData(4096).fill(0xdb);
      writer.put(head, [meta], [data]);
    }
    clock.runDeferred();
    for (const { parts, memory } of sent) {
      if (memory.headroomBytes === 0) continue;
      const { buffer, byteOffset } = parts[0]!;
      assert.ok(byteOffset >= memory.headroomBytes);
      new Uint8Array(buffer, byteOffset - memory.headroomBytes, memory.headroomBytes).fill(turn);
      inFront++;
    }
    for (const { parts, was } of sent) assert.is(Buffer.compare(Buffer.concat(parts), was), 0);
    if (turn % 2 === 1) for (const { memory } of sent.splice(0, sent.length / 2)) memory.released();
  }
  assert.ok(inFront > 30, String(inFront));
});

test("data that is put into its place -> the same record as data that is copied; a place without a record is nothing", () => {
  const clock = new ManualClock();
  const messages: Uint8Array[] = [];
  const writer = new WorkWriter(clock, (parts) => messages.push(Buffer.concat(parts)));
  const records = Array.from({ length: 100 }, (_, index) => record(index, 0, index * 40));
  for (const [index, { head, data }] of records.entries()) {
    writer.placeForData(16384).fill(0xdb);
    if (index % 2 === 0) writer.put(head, [], [data]);
    else {
      // More room than what comes, as of a read that is cut.
      writer.placeForData(data.byteLength + 512).set(data);
      writer.putPlaced(head, data.byteLength);
    }
  }
  clock.runDeferred();
  assertSame(readAll(messages).records, records);
});

test("reads that cannot be served at once, for ever -> no buffer is used up by their places", () => {
  const buffers = new Set<ArrayBufferLike>();
  const writer = new WorkWriter(new ManualClock(), () => assert.unreachable("nothing to send"));
  for (let count = 0; count < 20_000; count++) buffers.add(writer.placeForData(4096).buffer);
  assert.is(buffers.size, 1);
});

test("messages cut anywhere → the same records", () => {
  const records = [record(1, 24, 70), record(2, 18, 0), record(3, 8, 5000), record(4, 0, 1)];
  const whole = Buffer.concat(written(records));
  for (let cut = 0; cut <= whole.byteLength; cut += cut < 300 ? 1 : 97)
    assertSame(readAll([whole.subarray(0, cut), whole.subarray(cut)]).records, records);
  assertSame(readAll([...whole].map((byte) => Uint8Array.of(byte))).records, records);
});

test("lengths that lie and kinds that are none → a fault, and nothing is given out", () => {
  const good = Buffer.concat(written([record(1, 24, 100)]));
  const lies: [string, (view: DataView) => void][] = [
    ["longer than a record may be", (view) => view.setUint32(0, pairLimits.workBytesMax + 2 * 4096, true)],
    ["shorter than its header", (view) => view.setUint32(0, headerBytes - 1, true)],
    ["shorter than its meta", (view) => view.setUint16(6, 500, true)],
    ["kind 0", (view) => view.setUint8(4, 0)],
    ["an unknown kind", (view) => view.setUint8(4, 99)],
  ];
  for (const [what, lie] of lies) {
    const bytes = Uint8Array.from(good);
    lie(new DataView(bytes.buffer));
    const { records, fault } = readAll([bytes]);
    assert.ok(fault !== null, what);
    assert.is(records.length, 0, what);
  }
});

test("a head that lies, in two messages → a fault, and what is fed then begins anew", () => {
  const lie = new Uint8Array(40).fill(0xff);
  const records: Record[] = [];
  const reader = new WorkReader((head, meta, data) =>
    records.push({ head: { ...head }, meta: meta.slice(), data: data.slice() }),
  );
  assert.is(reader.feed(lie.subarray(0, 20)), null);
  assert.ok(reader.feed(lie.subarray(20)) !== null);
  const mine = [record(1, 24, 100)];
  for (const message of written(mine)) assert.is(reader.feed(message), null);
  assertSame(records, mine);
});

test.run();
