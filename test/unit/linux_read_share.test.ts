/** Reads of a disk never hold more of the thread pool than their share. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type ReadLine, ReadShare } from "../../hal/linux/read_share.ts";

const test = suite("linux_read_share");

/** Enters so many reads; returns the numbers of those that have started, growing. */
function enter(line: ReadLine, count: number): number[] {
  const started: number[] = [];
  for (let index = 0; index < count; index++) line.enter(() => started.push(index));
  return started;
}

test("one disk -> half of the pool, the rest in order as others leave", () => {
  const line = new ReadShare(16).line();
  const started = enter(line, 20);
  assert.is(started.length, 8);
  line.left();
  assert.equal(started.slice(8), [8]);
  for (let index = 0; index < 19; index++) line.left();
  assert.equal(started, [...Array(20).keys()]);
  assert.is(enter(line, 20).length, 8, "nothing is held any more");
});

test("a disk that never answers -> the other disks keep their shares", () => {
  const share = new ReadShare(16);
  const lines = [share.line(), share.line()];
  assert.is(enter(lines[0]!, 20).length, 4);
  assert.is(enter(lines[1]!, 20).length, 4);
});

test("more disks than threads -> one read each", () => {
  const share = new ReadShare(2);
  const lines = Array.from({ length: 5 }, () => share.line());
  assert.equal(
    lines.map((line) => enter(line, 3).length),
    [1, 1, 1, 1, 1],
  );
});

test.run();
