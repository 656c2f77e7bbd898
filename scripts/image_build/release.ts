/** Which firmware an image holds: the version, and the commit that it was built from. */
import { spawnSync } from "node:child_process";
import packageJson from "../../package.json" with { type: "json" };
import { repositoryRoot } from "../tools.ts";
import type { Epoch } from "./program.ts";

export interface Release {
  readonly version: string;
  /** `-changed` behind it: there was more than the commit. `unknown`: not built from a git repository. */
  readonly commit: string;
  readonly epoch: Epoch;
  /** How many commits led here: an update with a lower one is older. 0: not built from a git repository. */
  readonly counter: number;
  /** For people. */
  readonly name: string;
}

export function releaseHere(): Release {
  const { version } = packageJson;
  const git = (...args: string[]): string | null => {
    const run = spawnSync("git", args, { cwd: repositoryRoot, encoding: "utf8" });
    return run.status === 0 ? run.stdout.trim() : null;
  };
  const head = git("rev-parse", "HEAD");
  if (head === null) return { version, commit: "unknown", epoch: 0, counter: 0, name: version };
  const changed = git("status", "--porcelain") === "" ? "" : "-changed";
  const epoch = Number(git("show", "--no-patch", "--format=%ct", "HEAD"));
  const counter = Number(git("rev-list", "--count", "HEAD"));
  return { version, commit: head + changed, epoch, counter, name: `${version} (${head.slice(0, 12)}${changed})` };
}
