/** compare-write, or-write and atomic writes on a group: against a model, with races, crashes and a small cache. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { BlockError, BlockKind } from "../../firmware/volume/block_request.ts";
import { Prng } from "../../hal/mock/prng.ts";
import { GroupBench, sectors } from "./support/group_bench.ts";

const test = suite("volume_atomic");

interface Asked {
  answered: boolean;
  error: BlockError | null;
  miscompareOffset: number;
}

function ask(
  bench: GroupBench,
  kind: BlockKind,
  startLba: number,
  payload: readonly Uint8Array[],
  atomic = false,
): Asked {
  const bytes = payload.reduce((sum, piece) => sum + piece.byteLength, 0);
  const asked: Asked = { answered: false, error: null, miscompareOffset: -1 };
  bench.target.submit({
    kind,
    startLba,
    blockCount: bytes / 512 / (kind === "compare-write" ? 2 : 1),
    payload,
    target: new Uint8Array(0),
    keepAllocated: false,
    atomic,
    miscompareOffset: 0,
    extents: [],
    error: null,
    onDone: (request) => {
      assert.not(asked.answered, "answered once");
      asked.answered = true;
      asked.error = request.error;
      asked.miscompareOffset = request.miscompareOffset;
    },
  });
  return asked;
}

function started(seed: number | string, domain: "battery" | "flush"): GroupBench {
  const bench = new GroupBench(seed, domain);
  bench.start();
  bench.serve();
  return bench;
}

function readBack(bench: GroupBench, startLba: number, blockCount: number): Uint8Array {
  const read = bench.request("read", startLba, blockCount, null);
  bench.until(() => read.done);
  assert.is(read.error, null);
  return read.target;
}

const blocksOf = (count: number, value: number) => new Uint8Array(count * 512).fill(value);

test("the range holds what is expected -> the new data; else the first byte that differs, and nothing written", () => {
  const bench = started(1, "battery");
  ask(bench, "write", 3, [blocksOf(2, 5)]);
  const right = ask(bench, "compare-write", 3, [blocksOf(2, 5), blocksOf(2, 6)]);
  bench.until(() => right.answered);
  assert.is(right.error, null);
  assert.equal(readBack(bench, 3, 2), blocksOf(2, 6));
  const expected = blocksOf(2, 6);
  expected[700] = 9;
  const wrong = ask(bench, "compare-write", 3, [expected, blocksOf(2, 7)]);
  bench.until(() => wrong.answered);
  assert.is(wrong.error, "miscompare");
  assert.is(wrong.miscompareOffset, 700);
  assert.equal(readBack(bench, 3, 2), blocksOf(2, 6));
});

test("a write is admitted and not committed yet -> a comparison sees it", () => {
  const bench = started(2, "flush");
  const write = ask(bench, "write", 8, [blocksOf(8, 1)]);
  const swap = ask(bench, "compare-write", 8, [blocksOf(8, 1), blocksOf(8, 2)]);
  const later = ask(bench, "write", 8, [blocksOf(1, 3)]);
  assert.not(write.answered);
  bench.until(() => swap.answered && later.answered);
  assert.is(swap.error, null);
  const now = readBack(bench, 8, 8);
  assert.is(now[0], 3);
  assert.is(now[512], 2);
});

test("many hosts swap the same block -> exactly one wins each round", () => {
  const bench = started(3, "flush");
  for (let round = 0; round < 10; round++) {
    const rivals = Array.from({ length: 20 }, () =>
      ask(bench, "compare-write", 16, [blocksOf(1, round), blocksOf(1, round + 1)]),
    );
    bench.until(() => rivals.every((rival) => rival.answered));
    assert.is(rivals.filter((rival) => rival.error === null).length, 1);
    assert.is(rivals.filter((rival) => rival.error === "miscompare").length, 19);
  }
});

test("more than one record holds -> too long, for each kind that must be whole", () => {
  const bench = started(4, "battery");
  const max = bench.target.atomicBlocksMax();
  for (const [kind, factor] of [
    ["write", 1],
    ["or-write", 1],
    ["compare-write", 2],
  ] as const) {
    const asked = ask(bench, kind, 0, [blocksOf((max + 1) * factor, 1)], kind === "write");
    assert.is(asked.error, "too-long");
  }
  const whole = ask(bench, "write", 1, [blocksOf(max, 1)], true);
  bench.until(() => whole.answered);
  assert.is(whole.error, null);
});

test("an atomic write anywhere -> one record; plain ones are cut at fixed places", () => {
  const bench = started(5, "battery");
  const max = bench.target.atomicBlocksMax();
  const records = (atomic: boolean) => {
    const before = bench.group.log.appendedRecords;
    const asked = ask(bench, "write", 5, [blocksOf(max, 2)], atomic);
    bench.until(() => asked.answered);
    return bench.group.log.appendedRecords - before;
  };
  assert.is(records(true), 1);
  assert.is(records(false), 2);
});

test("writing ends while a comparison waits -> it is refused, later ones too, and none of them wrote", () => {
  const bench = started(6, "flush");
  ask(bench, "write", 0, [blocksOf(1, 1)]);
  const swap = ask(bench, "compare-write", 0, [blocksOf(1, 1), blocksOf(1, 2)]);
  const later = ask(bench, "or-write", 0, [blocksOf(1, 4)]);
  bench.group.setServing({ writable: false, why: "test", readable: "head" });
  bench.until(() => swap.answered && later.answered);
  assert.is(swap.error, "not-ready");
  assert.is(later.error, "not-ready");
  bench.openTarget();
  bench.until(() => bench.group.log.commitSeq === bench.group.log.headSeq);
  assert.equal(readBack(bench, 0, 1), blocksOf(1, 1));
});

test("random swaps, ORs, atomic and plain writes with crashes -> as a model says, each whole or not there", () => {
  for (let seed = 1; seed <= 12; seed++) {
    const prng = new Prng(seed, "atomic");
    const bench = started(`atomic-${seed}`, prng.chance(0.5) ? "battery" : "flush");
    const max = bench.target.atomicBlocksMax();
    const model = new Uint8Array(sectors * 512);
    for (let step = 0; step < 120; step++) {
      const blockCount = 1 + prng.below(prng.chance(0.1) ? max : 20);
      const startLba = prng.below(sectors - blockCount);
      const range = model.subarray(startLba * 512, (startLba + blockCount) * 512);
      const fresh = blocksOf(blockCount, 1 + prng.below(255));
      const roll = prng.below(4);
      let asked: Asked;
      let after = fresh;
      if (roll === 0) {
        const expected = Uint8Array.from(range);
        const differs = prng.chance(0.3) ? prng.below(expected.byteLength) : -1;
        if (differs >= 0) expected[differs]! ^= 0xff;
        asked = ask(bench, "compare-write", startLba, [expected, fresh]);
        bench.until(() => asked.answered);
        assert.is(asked.error, differs >= 0 ? "miscompare" : null, `seed ${seed}, step ${step}`);
        if (differs >= 0) {
          assert.is(asked.miscompareOffset, differs);
          continue;
        }
      } else if (roll === 1) {
        after = Uint8Array.from(range, (byte, at) => byte | fresh[at]!);
        asked = ask(bench, "or-write", startLba, [fresh]);
      } else asked = ask(bench, "write", startLba, [fresh], roll === 2);
      if (prng.chance(0.05)) {
        const isAcknowledged = asked.answered && asked.error === null;
        bench.crash();
        bench.start();
        bench.serve();
        const now = readBack(bench, startLba, blockCount);
        const isNew = Buffer.compare(now, after) === 0;
        const isOld = Buffer.compare(now, range) === 0;
        assert.ok(isNew || (!isAcknowledged && (isOld || roll === 3)), `seed ${seed}, step ${step}: a mixture`);
        model.set(now, startLba * 512);
        continue;
      }
      bench.until(() => asked.answered);
      assert.is(asked.error, null);
      model.set(after, startLba * 512);
      if (prng.chance(0.1)) bench.group.destager.kick();
    }
    assert.ok(Buffer.compare(readBack(bench, 0, sectors), model) === 0, `seed ${seed}`);
  }
});

test.run();
