/** The judge of what a host reads over two paths: it says lost, stale or wrong exactly when that is so. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { AnswerTimes } from "../../scripts/benchmarks/paths/answer_times.ts";
import { BlockNumbers } from "../../scripts/benchmarks/paths/block_numbers.ts";

const test = suite("path_numbers");

const blockBytes = 4096;
const none = { lostWrites: 0, staleReads: 0, wrongBytes: 0 };

function write(numbers: BlockNumbers, block: number): Uint8Array {
  const payload = new Uint8Array(blockBytes);
  numbers.send(block, payload);
  numbers.acknowledge(block);
  return payload;
}

test("the newest acknowledged write, or one that was sent since -> right", () => {
  const numbers = new BlockNumbers(4, blockBytes, 1);
  numbers.judge(2, new Uint8Array(blockBytes), numbers.floor(2), false);
  const first = write(numbers, 2);
  const floor = numbers.floor(2);
  numbers.judge(2, first, floor, false);
  const second = new Uint8Array(blockBytes);
  numbers.send(2, second);
  assert.ok(numbers.isWriting(2));
  numbers.judge(2, first, floor, false);
  // Half of a write that is under way.
  const torn = Uint8Array.from(first);
  torn.set(second.subarray(0, 2048));
  numbers.judge(2, torn, floor, false);
  numbers.judge(2, second, floor, true);
  assert.equal(numbers.violations, none);
});

test("older than acknowledged -> stale, and lost at the end", () => {
  const numbers = new BlockNumbers(4, blockBytes, 1);
  const first = write(numbers, 0);
  write(numbers, 0);
  numbers.judge(0, first, numbers.floor(0), false);
  assert.equal(numbers.violations, { ...none, staleReads: 1 });
  numbers.judge(0, first, numbers.floor(0), true);
  assert.equal(numbers.violations, { ...none, staleReads: 1, lostWrites: 1 });
  assert.is(numbers.told.length, 2);
});

test("never acknowledged, read once and gone again -> stale", () => {
  const numbers = new BlockNumbers(4, blockBytes, 1);
  const first = write(numbers, 0);
  const second = new Uint8Array(blockBytes);
  numbers.send(0, second);
  numbers.judge(0, second, numbers.floor(0), false);
  numbers.judge(0, first, numbers.floor(0), false);
  assert.equal(numbers.violations, { ...none, staleReads: 1 });
});

test("never sent, another block's, another load's, one bit changed -> wrong bytes", () => {
  const numbers = new BlockNumbers(4, blockBytes, 1);
  const ahead = new BlockNumbers(4, blockBytes, 1);
  write(ahead, 1);
  write(numbers, 1);
  const changed = Uint8Array.from(write(numbers, 2));
  changed[700]! ^= 1;
  for (const [block, bytes] of [
    [1, write(ahead, 1)],
    [1, write(new BlockNumbers(4, blockBytes, 1), 0)],
    [1, write(new BlockNumbers(4, blockBytes, 2), 1)],
    [2, changed],
  ] as const) {
    const before = numbers.wrongBytes;
    numbers.judge(block, bytes, 0, false);
    assert.is(numbers.wrongBytes, before + 1);
  }
});

test("the gap -> the longest wait since the mark, though answers trickle in behind it", () => {
  const times = new AnswerTimes(0);
  for (const at of [1, 90, 100]) times.answer(at);
  times.mark();
  for (const at of [101, 102, 152, 153]) times.answer(at);
  assert.equal(times.gap, { lastBeforeMs: 102, firstAfterMs: 152, ms: 50 });
  assert.is(times.longestGapMs, 89);
  assert.is(times.count, 7);
});

test.run();
