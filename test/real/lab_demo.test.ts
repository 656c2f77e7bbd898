/** The demo is the main job on real input with third-party clients: each of its claims is a check. */
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";

const root = join(import.meta.dir, "../..");
const test = suite("lab_demo");

test("demo -> every check passes, nothing is left", async () => {
  const dir = mkdtempSync(join(tmpdir(), "goldcopy-demo-test-"));
  try {
    const lab = join(dir, "lab");
    const child = Bun.spawn([join(root, "scripts", "lab"), "demo", "--json", "--dir", lab], {
      stdout: "pipe",
      stderr: "pipe",
    });
    const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
    const code = await child.exited;
    const { checks } = JSON.parse(out) as { checks: { what: string; passed: boolean }[] };
    assert.equal(
      checks.filter((check) => !check.passed).map((check) => check.what),
      [],
      err,
    );
    assert.ok(checks.length >= 25, `${checks.length} checks`);
    assert.is(code, 0);
    assert.not(existsSync(lab));
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
});

test.run();
