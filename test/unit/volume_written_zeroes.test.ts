import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { BlockError, BlockExtent, BlockKind } from "../../firmware/volume/block_request.ts";
import { GroupBench, sectors } from "./support/group_bench.ts";

const test = suite("volume_written_zeroes");

function ask(bench: GroupBench, kind: BlockKind, range: { startLba: number; blockCount: number; keep?: boolean }) {
  const { startLba, blockCount } = range;
  const answer: { times: number; error: BlockError | null; extents: BlockExtent[] } = {
    times: 0,
    error: null,
    extents: [],
  };
  bench.target.submit({
    kind,
    startLba,
    blockCount,
    payload: kind === "write" ? [new Uint8Array(blockCount * 512).fill(7)] : [],
    target: new Uint8Array(0),
    keepAllocated: range.keep === true,
    atomic: false,
    miscompareOffset: 0,
    extents: [],
    error: null,
    onDone: (request) => {
      answer.times++;
      answer.error = request.error;
      answer.extents = request.extents.map((extent) => ({ ...extent }));
    },
  });
  return answer;
}

function done(bench: GroupBench, kind: BlockKind, range: { startLba: number; blockCount: number; keep?: boolean }) {
  const answer = ask(bench, kind, range);
  bench.until(() => answer.times > 0);
  assert.is(answer.error, null);
  return answer;
}

test("zeroes that stay allocated -> allocated and zero, before and after they are home; plain zeroes -> a hole", () => {
  const bench = new GroupBench(1, "battery");
  bench.start();
  bench.serve();
  const all = { startLba: 0, blockCount: sectors };
  done(bench, "write", all);
  done(bench, "zero", { startLba: 0, blockCount: sectors / 2 });
  done(bench, "zero", { startLba: sectors / 2, blockCount: sectors / 2, keep: true });
  const expected = [true, false];
  const holes = () => done(bench, "status", all).extents.map((extent) => extent.hole);
  assert.equal(holes(), expected);
  let home = false;
  bench.group.drainToHome(() => {
    home = true;
  });
  bench.until(() => home);
  assert.equal(holes(), expected);
  const read = bench.request("read", 0, sectors, null);
  bench.until(() => read.done);
  assert.ok(read.target.every((byte) => byte === 0));
});

test("the role ends in the middle of a long one -> an error, once", () => {
  const bench = new GroupBench(1, "flush");
  bench.start();
  bench.serve();
  const answer = ask(bench, "zero", { startLba: 0, blockCount: sectors, keep: true });
  bench.group.setServing({ writable: false, why: "another is primary", readable: "head" });
  bench.until(() => answer.times > 0);
  for (let steps = 0; steps < 20; steps++) bench.clock.step();
  assert.is(answer.times, 1);
});

test.run();
