/** What several scripts need: where the repository is, and how its development tools are run. */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";

export const repositoryRoot = dirname(import.meta.dir);

/** Runs a program of node_modules/.bin; throws with its output when it fails. */
export function runTool(name: string, args: readonly string[]): string {
  const program = join(repositoryRoot, "node_modules", ".bin", name);
  if (!existsSync(program)) throw new Error(`${name} is not installed: run npm install in ${repositoryRoot}`);
  const run = spawnSync(program, args, { cwd: repositoryRoot, encoding: "utf8", maxBuffer: 1 << 26 });
  if (run.error !== undefined) throw new Error(`${name}: ${run.error.message}`);
  if (run.status !== 0) throw new Error(`${name} failed:\n${run.stdout}${run.stderr}`.trimEnd());
  return run.stdout;
}
