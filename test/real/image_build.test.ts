/** Two builds of one tree, in folders of different names -> the same bytes; and what is in the Debian package runs from there. */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { imagePackages } from "../../images/recipe.ts";
import { clientEnvironment } from "../../scripts/clients.ts";
import { debianTree } from "../../scripts/debian/packages.ts";
import { makeEsp } from "../../scripts/image_build/boot_loader.ts";
import { defaultOut, imagePrograms } from "../../scripts/image_build/build.ts";
import { buildPackage } from "../../scripts/image_build/deb.ts";
import { sha256Of } from "../../scripts/image_build/formats.ts";
import { releaseHere } from "../../scripts/image_build/release.ts";
import { makeSlot } from "../../scripts/image_build/slot.ts";
import { run, runOk, testWith } from "./support/clients.ts";

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

testWith(
  test,
  ["dpkg-deb"],
  "the Debian package, built twice -> the same bytes; its programs run from where it puts them",
  async () => {
    const dir = mkdtempSync(join(tmpdir(), "goldcopy-deb-"));
    try {
      const paths: string[] = [];
      for (const name of ["first", "the-second-one"]) paths.push((await buildPackage(join(dir, name), () => {})).path);
      const [first, second] = paths as [string, string];
      assert.is(basename(first), basename(second));
      assert.is(sha256Of(first), sha256Of(second));

      const root = join(dir, "root");
      await runOk("dpkg-deb", ["-x", first, root]);
      const library = join(root, "usr/lib/goldcopy");
      const program = (name: string, words: readonly string[]) =>
        run(join(library, "bun"), [join(library, name), ...words], { cwd: root });
      assert.match((await runOk(join(library, "bun"), [join(library, "goldcopy.js"), "--help"])).stdout, "goldcopy");
      const started = await program("main.js", ["--profile", "/nowhere/profile.toml"]);
      assert.is(started.code, 2);
      assert.match(started.stderr, "/nowhere/profile.toml: cannot read the profile");
      // What the unit names is there.
      const unit = readFileSync(join(root, "lib/systemd/system/goldcopy.service"), "utf8");
      const named = [...unit.matchAll(/\/usr\/lib\/goldcopy\/[a-z.]+/g)].map(([path]) => path);
      assert.equal(
        named,
        ["appliance.env", "bun", "main.js"].map((name) => `/usr/lib/goldcopy/${name}`),
      );
      for (const path of named) assert.ok(existsSync(join(root, path)), path);
    } finally {
      rmSync(dir, { recursive: true, force: true });
    }
  },
);

test.run();
