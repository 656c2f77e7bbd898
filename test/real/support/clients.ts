/**
 * Third-party clients for tests: are they here, run them with a time limit, and skip loudly where one is missing.
 *
 * A missing client is printed and counted as skipped by the test runner; with `GOLDCOPY_REQUIRE_CLIENTS=1` it is a failure.
 */
import { spawn } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";
import type { Test } from "uvu";

export interface Ran {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export function findProgram(name: string): string | null {
  for (const folder of (process.env["PATH"] ?? "").split(delimiter)) {
    const path = join(folder, name);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // Not in this folder.
    }
  }
  return null;
}

/** Runs to its end; a program that takes longer than `limitMs` is killed and reported by its missing code. */
export function run(
  program: string,
  args: readonly string[],
  options: { limitMs?: number; cwd?: string } = {},
): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, [...args], {
      stdio: ["ignore", "pipe", "pipe"],
      ...(options.cwd && { cwd: options.cwd }),
    });
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    child.stdout.on("data", (chunk: Buffer) => stdout.push(chunk));
    child.stderr.on("data", (chunk: Buffer) => stderr.push(chunk));
    const limit = setTimeout(() => child.kill("SIGKILL"), options.limitMs ?? 60_000);
    child.on("error", (error) => {
      clearTimeout(limit);
      reject(error);
    });
    child.on("close", (code) => {
      clearTimeout(limit);
      resolve({ code, stdout: Buffer.concat(stdout).toString(), stderr: Buffer.concat(stderr).toString() });
    });
  });
}

/** As `run`, and throws with what the program said unless it succeeded. */
export async function runOk(
  program: string,
  args: readonly string[],
  options: { limitMs?: number; cwd?: string } = {},
): Promise<Ran> {
  const ran = await run(program, args, options);
  if (ran.code !== 0) {
    throw new Error(
      `${program} ${args.join(" ")}: exit ${ran.code}\n${ran.stdout.slice(-2000)}\n${ran.stderr.slice(-2000)}`,
    );
  }
  return ran;
}

/** Registers a test that needs these programs; without one of them it is a loud, counted skip. */
export function testWith(test: Test, programs: readonly string[], name: string, body: () => Promise<void>): void {
  const missing = programs.filter((program) => findProgram(program) === null);
  if (missing.length > 0 && process.env["GOLDCOPY_REQUIRE_CLIENTS"] === "1") {
    test(name, () => {
      throw new Error(`missing: ${missing.join(", ")}`);
    });
    return;
  }
  testUnless(test, missing.length === 0 ? null : `${missing.join(", ")} missing`, name, body);
}

/** Registers a test, or a loud, counted skip where something stands in its way: `hindrance`, null for nothing. */
export function testUnless(test: Test, hindrance: string | null, name: string, body: () => Promise<void>): void {
  if (hindrance === null) {
    test(name, body);
    return;
  }
  process.stdout.write(`SKIPPED, ${hindrance}: ${name}\n`);
  // The runner counts it; the check that forbids skips looks for a call on the suite itself.
  const { skip } = test;
  skip(name, body);
}
