/** The whole firmware on simulated hardware with a slow disk: a cold read waits alone, every other session is served meanwhile. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { IscsiBench, initiatorName, read10, write10 } from "./support/iscsi_bench.ts";
import { pattern } from "./support/nbd_session.ts";
import { SoloArray, type SoloHost } from "./support/solo_array.ts";

const test = suite("slow_disk");
const mebibyte = 1048576;
const blockBytes = 4096;
/** Far longer than anything else here takes. */
const slowReadMs = 60_000;
/** Pages of the map are read before the data, one after the other. */
const coldLimitMs = 20 * slowReadMs;
/** Of the other sessions, each: enough that whatever is bounded per session or in all would have run full. */
const requestsEach = 300;
const coldReads = 64;

/** A volume whose first MiB is on the disk only: written, destaged, and forgotten by a restart. */
function coldArray(seed: number): { array: SoloArray; content: Uint8Array } {
  const array = new SoloArray(seed);
  array.boot();
  array.addVolume("cold", 4 * mebibyte);
  array.addVolume("busy", 4 * mebibyte);
  const content = pattern(mebibyte, seed);
  const host = array.connect("cold");
  host.write(0, content);
  array.until("the write is acknowledged", () => host.answered === 1);
  array.until("it is at home", () => array.destaged());
  array.crash();
  array.boot();
  return { array, content };
}

/** Writes a block and reads it back, again and again; one request at a time. */
function keepBusy(host: SoloHost, rounds: number): void {
  let round = 0;
  const next = () => {
    if (round === rounds) return;
    const offset = ((round >> 1) % 64) * blockBytes;
    if (round % 2 === 0) host.write(offset, new Uint8Array(blockBytes).fill(1 + (round % 250)));
    else host.read(offset, blockBytes);
    round++;
  };
  host.onAnswer = next;
  next();
}

test("a cold read on a slow disk -> the requests of all other sessions are answered before it, those of its volume too", () => {
  const { array, content } = coldArray(1);
  array.disk.faults.readMs = slowReadMs;
  array.disk.faults.slowFactor = 1.001;
  array.disk.faults.spikeRate = 0;
  const cold = array.connect("cold");
  cold.read(0, 65536);
  array.runFor(100);
  const startedMs = array.nowMs;
  const others = [array.connect("cold"), array.connect("busy"), array.connect("busy")];
  // Beyond the cold part of the volume: what they read is what they have written.
  others[0]!.baseBytes = 2 * mebibyte;
  for (const host of others) keepBusy(host, requestsEach);
  array.until("the others are answered", () => others.every((host) => host.answered === requestsEach));
  assert.is(cold.answered, 0, "the cold read still waits");
  assert.ok(array.nowMs - startedMs < slowReadMs / 10, `${array.nowMs - startedMs} ms`);
  assert.equal(
    others.flatMap((host) => host.errors),
    [],
  );
  array.until("the cold read ends", () => cold.answered === 1, coldLimitMs);
  assert.equal(Buffer.from(cold.lastRead!), Buffer.from(content.subarray(0, 65536)));
});

test("many cold reads in one session -> warm reads and writes of the same session overtake them", () => {
  const { array, content } = coldArray(2);
  array.disk.faults.readMs = slowReadMs;
  array.disk.faults.slowFactor = 1.001;
  array.disk.faults.spikeRate = 0;
  const host = array.connect("cold");
  for (let index = 0; index < coldReads; index++) host.read(index * blockBytes, blockBytes);
  array.runFor(100);
  assert.is(host.answered, 0);
  for (let index = 0; index < coldReads; index++)
    host.write(2 * mebibyte + index * blockBytes, new Uint8Array(blockBytes).fill(1 + index));
  array.until("the writes are answered", () => host.answered === coldReads, slowReadMs / 10);
  for (let index = 0; index < coldReads; index++) host.read(2 * mebibyte + index * blockBytes, blockBytes);
  array.until("the warm reads are answered", () => host.answered === 2 * coldReads, slowReadMs / 10);
  assert.is(host.lastRead![0], coldReads);
  array.until("the cold reads end", () => host.answered === 3 * coldReads, coldLimitMs);
  assert.equal(host.errors, []);
  const reads = host.reads.filter(({ offsetBytes }) => offsetBytes < mebibyte);
  assert.is(reads.length, coldReads);
  for (const { offsetBytes, data } of reads)
    assert.equal(Buffer.from(data), Buffer.from(content.subarray(offsetBytes, offsetBytes + blockBytes)));
});

test("a disk that hangs under a cold read -> other sessions write and read what is in the cache; the read ends when it goes on", () => {
  const { array, content } = coldArray(3);
  const cold = array.connect("cold");
  const other = array.connect("busy");
  array.runFor(10);
  array.disk.hang();
  cold.read(0, blockBytes);
  keepBusy(other, requestsEach);
  array.until("the other is answered", () => other.answered === requestsEach);
  assert.is(cold.answered, 0);
  array.disk.unhang();
  array.until("the cold read ends", () => cold.answered === 1);
  assert.equal(Buffer.from(cold.lastRead!), Buffer.from(content.subarray(0, blockBytes)));
});

test("cold reads over iSCSI that fill a session's window -> the commands of every other session are answered meanwhile", () => {
  const bench = new IscsiBench({}, 8 * mebibyte);
  const content = pattern(4 * mebibyte, 4);
  bench.volume.bytes.set(content);
  const { initiator: cold } = bench.open({ InitiatorName: `${initiatorName}-cold` });
  bench.volume.gate = true;
  for (let index = 0; index < coldReads; index++)
    cold.command({ cdb: read10(index * 128, 128), read: true, expected: 65536 });
  bench.volume.gate = false;
  assert.ok(bench.volume.waiting.length >= coldReads);
  const others = ["a", "b", "c"].map((name) => bench.open({ InitiatorName: `${initiatorName}-${name}` }).initiator);
  for (let round = 0; round < requestsEach; round++) {
    for (const other of others) {
      const at = 4 * mebibyte + (round % 64) * blockBytes;
      const block = new Uint8Array(blockBytes).fill(1 + (round % 250));
      other.command({ cdb: write10(at / 512, 8), write: true, expected: blockBytes, data: block });
      assert.is(other.answer().u8(3), 0);
      other.command({ cdb: read10(at / 512, 8), read: true, expected: blockBytes });
      assert.equal(Buffer.from(other.answer().data), Buffer.from(block));
    }
  }
  assert.equal(cold.answers(), [], "the cold reads still wait");
  bench.volume.release();
  bench.clock.runDeferred();
  const answers = cold.answers();
  const bytes = answers.reduce((sum, { data }) => sum + data.byteLength, 0);
  assert.is(bytes, coldReads * 65536);
  assert.is(answers.filter(({ flags }) => (flags & 1) === 1).length, coldReads);
});

test.run();
