/** The layout on disk of a pool with one half: exactly what it was before there were halves. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { mockDigests } from "../../hal/mock/runtime.ts";
import { dataStep, mebibyte, StoreBench, zeroStep } from "./support/store_bench.ts";

const test = suite("store_layout");

/** Of all disks of a pool that was made, used, closed by a death and opened again; taken from the release before halves. */
const imagesBefore = "3c03542c80ed5240 57b1711e707a9994 20c3eb50761ea7f7";

test("a pool that is not asked for halves -> byte for byte the image that the release before halves makes", () => {
  const bench = new StoreBench({ seed: 4711, slots: [32 * mebibyte, 24 * mebibyte, 16 * mebibyte] });
  const group = bench.create("first");
  group.createVolume({ number: 1, sizeBytes: 8 * mebibyte });
  bench.apply(group, [dataStep(1, 0, [1, 2, 3]), dataStep(1, 800, [4])]);
  bench.commit(group, "second");
  group.fork("f", 7);
  bench.apply(group, [dataStep(1, 1, [5]), zeroStep(1, 2, 700)]);
  bench.commit(group, "third");
  bench.allocateLogSlot(group);
  bench.createGroup("ffeeddccbbaa99887766554433221100", "other");
  assert.is(
    bench.wait((done) => bench.pool!.saveArrayDocument({ named: "oak" }, done)),
    null,
  );
  bench.crash();
  bench.commit(bench.reopen(), "fourth");
  const digests = [0, 1, 2].map((slot) => {
    const { medium } = bench.shelf.disk(slot);
    const bytes = new Uint8Array(medium.sizeBytes);
    medium.read(0, bytes);
    return Buffer.from(mockDigests.sha256(bytes)).toString("hex").slice(0, 16);
  });
  assert.is(digests.join(" "), imagesBefore);
});

test.run();
