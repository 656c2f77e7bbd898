/** What the image's root carries of the firmware: a worker that is missing there is missed only when it is first needed. */
import { readdirSync } from "node:fs";
import { basename, join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { bundles } from "../../scripts/image_build/root.ts";

const test = suite("image_bundles");

test("every worker of hal/linux is bundled, under the name by which it is looked for", () => {
  const workers = readdirSync(join(import.meta.dir, "../../hal/linux")).filter((name) => name.endsWith("_worker.ts"));
  assert.ok(workers.length >= 2, workers.join());
  for (const worker of workers) {
    const bundle = bundles.find(({ source }) => source === `hal/linux/${worker}`);
    assert.is(bundle?.name, basename(worker));
  }
});

test.run();
