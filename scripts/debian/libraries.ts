/** Which shared libraries a program needs, and where the packages have put them. */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { BuildError } from "./build_error.ts";

/** Directories where Debian's dynamic linker looks without a cache. */
const libraryFolders = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu", "lib"];
export const linker = "lib64/ld-linux-x86-64.so.2";

/** Paths in `tree`; what the tree's dynamic linker would load. */
export function librariesOf(executable: string, tree: string): string[] {
  const folders = libraryFolders.map((folder) => join(tree, folder)).join(":");
  const run = spawnSync(join(tree, linker), ["--library-path", folders, "--list", executable], { encoding: "utf8" });
  if (run.status !== 0 || run.stdout.includes("not found"))
    throw new BuildError(`${executable} needs libraries that no package brings:\n${run.stdout}${run.stderr}`);
  const found = [...run.stdout.matchAll(/ => (\S+) \(/g)].map(([, path]) => path ?? "");
  return found
    .filter((path) => path.startsWith(`${tree}/lib/`) || path.startsWith(`${tree}/usr/`))
    .map((path) => path.slice(tree.length + 1));
}
