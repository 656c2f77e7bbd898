import { suite } from "uvu";
import * as assert from "uvu/assert";
import { emptyHeader, type RecordHeader, RecordKind } from "../../firmware/log/record.ts";
import type { GroupStore } from "../../firmware/store/store.ts";
import { ChunkLedger } from "../../firmware/volume/space_ledger.ts";
import { Prng } from "../../hal/mock/prng.ts";

const test = suite("space_ledger");

/** A pool of `left` chunks that stands on every chunk given back having been reserved. */
function poolOf(left: number) {
  const pool = { left, reserved: 0 };
  const store = {
    reserveChunks(count: number): boolean {
      if (pool.left < count) return false;
      pool.left -= count;
      pool.reserved += count;
      return true;
    },
    releaseChunks(count: number): void {
      assert.ok(count > 0 && count <= pool.reserved, `${count} given back of ${pool.reserved}`);
      pool.left += count;
      pool.reserved -= count;
    },
  } as unknown as GroupStore;
  return { pool, store };
}

const kinds = [RecordKind.write, RecordKind.zero, RecordKind.unmap, RecordKind.chunk, RecordKind.control];

function randomHeader(prng: Prng, seq: number): RecordHeader {
  const kind = kinds[prng.below(kinds.length)]!;
  const blockCount = kind === RecordKind.control ? 0 : 1 + prng.below(400);
  return { ...emptyHeader(), kind, startLba: prng.below(10_000), blockCount, firstSeq: seq, lastSeq: seq };
}

test("records taken, some exactly, then all released -> nothing is reserved any more", () => {
  const prng = new Prng(1, "ledger");
  const { pool, store } = poolOf(500);
  const ledger = new ChunkLedger(store);
  const held: RecordHeader[] = [];
  for (let seq = 1; seq < 3000; seq++) {
    const header = randomHeader(prng, seq);
    if (ledger.take(header.kind, header.startLba, header.blockCount, seq)) held.push(header);
    else {
      const exact = prng.below(3);
      if (exact === 0 || store.reserveChunks(exact)) {
        ledger.takeExactly(exact);
        if (prng.chance(0.5)) {
          assert.ok(ledger.take(header.kind, header.startLba, header.blockCount, seq));
          held.push(header);
        }
        ledger.cancelExact();
      }
    }
    while (held.length > 0 && prng.chance(0.4)) ledger.release(held.shift()!);
  }
  for (const header of held) ledger.release(header);
  assert.equal(pool, { left: 500, reserved: 0 });
});

test("after a start the pool cannot confirm every record, as-of records among them -> no more is given back than was taken", () => {
  for (let seed = 1; seed <= 20; seed++) {
    const prng = new Prng(seed, "retake");
    const { pool, store } = poolOf(30);
    const ledger = new ChunkLedger(store);
    const held: RecordHeader[] = [];
    let seq = 1;
    for (let count = 0; count < 60; count++) {
      const header = randomHeader(prng, seq);
      // An as-of record carries the seq of the record before it.
      if (header.kind !== RecordKind.chunk) seq++;
      ledger.retake(header);
      held.push(header);
    }
    for (const header of held) ledger.release(header);
    assert.equal(pool, { left: 30, reserved: 0 });
  }
});

test.run();
