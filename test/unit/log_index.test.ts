import { suite } from "uvu";
import * as assert from "uvu/assert";
import { LogIndex, zeros } from "../../firmware/log/log_index.ts";
import { bitCount, sectorMask } from "../../firmware/log/record_blocks.ts";
import { Prng } from "../../hal/mock/prng.ts";

const test = suite("log_index");

/** Per sector what was put there, oldest first. */
class Oracle {
  readonly sectors = new Map<string, { record: number; value: number }[]>();

  put(volume: number, block: number, sector: number, record: number, value: number): void {
    const key = `${volume}/${block}/${sector}`;
    const list = this.sectors.get(key) ?? [];
    list.push({ record, value });
    this.sectors.set(key, list);
  }

  forget(volume: number, block: number, record: number): void {
    for (let sector = 0; sector < 8; sector++) {
      const key = `${volume}/${block}/${sector}`;
      this.sectors.set(
        key,
        (this.sectors.get(key) ?? []).filter((one) => one.record > record),
      );
    }
  }

  newest(volume: number, block: number, sector: number): number | null {
    return this.sectors.get(`${volume}/${block}/${sector}`)?.at(-1)?.value ?? null;
  }
}

/** What the index holds of a sector: the place, `zeros`, or null; hidden nodes (older than a zeroed range) do not count. */
function found(index: LogIndex, volume: number, block: number, sector: number): number | null {
  const above = index.zeroRecord(volume, block);
  for (let node = index.newest(volume, block); node >= 0; node = index.olderOf(node)) {
    if (index.recordOf(node) <= above) break;
    const mask = index.maskOf(node);
    if ((mask & (1 << sector)) === 0) continue;
    const where = index.whereOf(node);
    return where === zeros ? zeros : where + 8 * bitCount(mask & ((1 << sector) - 1));
  }
  return above >= 0 ? zeros : null;
}

test("random puts, zeroed ranges and forgetting -> the newest of every sector, as a plain list has it", () => {
  for (let seed = 1; seed <= 3; seed++) {
    const prng = new Prng(seed, "index");
    const index = new LogIndex();
    const oracle = new Oracle();
    // Few volumes far apart and many blocks: collisions, growth and removal all happen.
    const volumes = [1, 2, 1_048_575];
    const blocks = 1500;
    let forgotten = -1;
    const extents: { volume: number; firstBlock: number; blockCount: number; record: number }[] = [];
    for (let record = 0; record < 6000; record++) {
      const volume = volumes[prng.below(volumes.length)]!;
      const block = prng.chance(0.3) ? prng.below(8) : prng.below(blocks);
      if (prng.chance(0.01)) {
        const extent = { volume, firstBlock: block, blockCount: 1 + prng.below(200), record };
        extents.push(extent);
        index.putExtent(extent);
        for (let each = block; each < block + extent.blockCount; each++)
          for (let sector = 0; sector < 8; sector++) oracle.put(volume, each, sector, record, zeros);
      } else {
        const from = prng.chance(0.5) ? 0 : prng.below(8);
        const to = from === 0 && prng.chance(0.6) ? 8 : from + 1 + prng.below(8 - from);
        const where = prng.chance(0.1) ? zeros : record * 64;
        index.put(volume, block, where, sectorMask(from, to), record, 0);
        for (let sector = from; sector < to; sector++)
          oracle.put(volume, block, sector, record, where === zeros ? zeros : where + 8 * (sector - from));
      }
      if (prng.chance(0.002)) {
        const upTo = record - prng.below(400);
        if (upTo <= forgotten) continue;
        for (const each of volumes)
          for (let one = 0; one < blocks + 200; one++) {
            index.forget(each, one, upTo);
            oracle.forget(each, one, upTo);
          }
        index.forgetExtents(upTo);
        forgotten = upTo;
      }
    }
    for (const volume of volumes)
      for (let block = 0; block < blocks + 200; block++)
        for (let sector = 0; sector < 8; sector++)
          assert.is(
            found(index, volume, block, sector),
            oracle.newest(volume, block, sector),
            `seed ${seed}: volume ${volume}, block ${block}, sector ${sector}`,
          );
  }
});

test("one block is written in part again and again -> its chain stays short", () => {
  const prng = new Prng(1, "chain");
  const index = new LogIndex();
  for (let record = 0; record < 20_000; record++) {
    const from = prng.below(8);
    index.put(1, 5, record, sectorMask(from, from + 1 + prng.below(8 - from)), record, 0);
    let length = 0;
    for (let node = index.newest(1, 5); node >= 0; node = index.olderOf(node)) length++;
    assert.ok(length <= 36, `${length} nodes`);
  }
});

test("everything is forgotten -> the index is empty, and its nodes serve again", () => {
  const index = new LogIndex();
  for (let round = 0; round < 3; round++) {
    for (let block = 0; block < 5000; block++) index.put(1, block, block, block % 2 === 0 ? 0xff : 3, block, 0);
    for (let block = 0; block < 5000; block++) index.forget(1, block, 5000);
    assert.is(index.blockCount, 0);
    assert.is(index.newest(1, 17), -1);
  }
});

test.run();
