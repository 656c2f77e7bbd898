/** Runs what an image is built with. Nothing that it writes depends on the day, the time zone or the language. */
import { spawnSync } from "node:child_process";
import { clientEnvironment } from "../clients.ts";
import { BuildError } from "../debian/build_error.ts";

/** Seconds since 1970: the date of the commit, which every file of the image gets. */
export type Epoch = number;

/** What it printed; throws with its words unless it succeeded. */
export function runProgram(
  program: string,
  args: readonly string[],
  epoch: Epoch,
  options: { input?: string; environment?: Record<string, string> } = {},
): string {
  const env = {
    ...clientEnvironment,
    LC_ALL: "C",
    TZ: "UTC",
    SOURCE_DATE_EPOCH: String(epoch),
    ...options.environment,
  };
  const run = spawnSync(program, [...args], { env, encoding: "utf8", maxBuffer: 1 << 26, input: options.input ?? "" });
  if (run.error !== undefined) throw new BuildError(`${program}: ${run.error.message}`);
  if (run.status !== 0)
    throw new BuildError(`${[program, ...args].join(" ")}: exit ${run.status}\n${run.stdout}${run.stderr}`.trimEnd());
  return run.stdout;
}
