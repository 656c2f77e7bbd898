/** Two builds of one tree, in folders of different names -> the same root hash, kernel, initrd and boot files. */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { imagePackages } from "../../images/recipe.ts";
import { clientEnvironment } from "../../scripts/clients.ts";
import { debianTree } from "../../scripts/debian/packages.ts";
import { makeEsp } from "../../scripts/image_build/boot_loader.ts";
import { defaultOut, imagePrograms } from "../../scripts/image_build/build.ts";
import { sha256Of } from "../../scripts/image_build/formats.ts";
import { releaseHere } from "../../scripts/image_build/release.ts";
import { makeSlot } from "../../scripts/image_build/slot.ts";
import { testWith } from "./support/clients.ts";

// The builder's tools lie where a plain user's PATH does not look.
process.env["PATH"] = clientEnvironment["PATH"];

const test = suite("image_build");

testWith(test, imagePrograms, "built twice -> the same slot and the same ESP", async () => {
  mkdirSync(defaultOut, { recursive: true });
  const tree = debianTree(defaultOut, imagePackages);
  const release = releaseHere();
  const dir = mkdtempSync(join(tmpdir(), "goldcopy-build-"));
  try {
    const built: string[][] = [];
    for (const name of ["first", "the-second-one"]) {
      const work = join(dir, name);
      mkdirSync(work);
      const slot = await makeSlot(work, tree, release);
      const esp = makeEsp(work, tree, slot, release.epoch);
      built.push([slot.rootHash, ...[slot.root, slot.kernel, slot.initrd, slot.config, esp].map(sha256Of)]);
    }
    assert.equal(built[0], built[1]);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
});

test.run();
