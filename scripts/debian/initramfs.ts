/** A folder as an initramfs: the same bytes whenever and by whomever it is packed. */
import { spawnSync } from "node:child_process";
import { renameSync, rmSync } from "node:fs";
import { BuildError } from "./build_error.ts";

const script = `
find . -exec touch --no-dereference --date=@0 {} +
find . -mindepth 1 | LC_ALL=C sort | cpio --quiet --create --reproducible --format=newc --owner=0:0 >"$1"`;

/** Not compressed. */
export function packInitramfs(root: string, path: string): void {
  const fresh = `${path}.${process.pid}`;
  const run = spawnSync("sh", ["-ec", script, "sh", fresh], { cwd: root, encoding: "utf8" });
  if (run.status !== 0) {
    rmSync(fresh, { force: true });
    throw new BuildError(`the initramfs ${path} cannot be packed: ${(run.stderr ?? "").trim()}`);
  }
  renameSync(fresh, path);
}
