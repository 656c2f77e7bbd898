/** Counts one run of a test file: what uvu says at its end, or the exit code alone. */

export interface Totals {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  /** Why it failed when no test says so; null otherwise. */
  readonly why: string | null;
}

export interface RunEnd {
  readonly counted: "totals" | "one";
  readonly text: string;
  /** null when a signal ended it. */
  readonly code: number | null;
  /** Why the run ended otherwise than by itself; null when it did. */
  readonly cause: string | null;
}

/** uvu ends with `Total: N`, `Passed: N`, `Skipped: N`, one per line. */
export function readTotals({ counted, text, code, cause }: RunEnd): Totals {
  const failure = cause ?? (code === 0 ? null : `exit code ${code}`);
  if (counted === "one") {
    return { passed: failure === null ? 1 : 0, failed: failure === null ? 0 : 1, skipped: 0, why: failure };
  }
  const total = lastNumber(text, "Total");
  const passed = lastNumber(text, "Passed");
  const skipped = lastNumber(text, "Skipped");
  if (total === null || passed === null || skipped === null) {
    return { passed: 0, failed: 1, skipped: 0, why: failure ?? "it printed no totals" };
  }
  // uvu does not count skipped tests in its total.
  const failed = Math.max(0, total - passed);
  if (total + skipped === 0) return { passed, failed: 1, skipped, why: "it has no tests" };
  if (failed === 0 && failure !== null) return { passed, failed: 1, skipped, why: failure };
  return { passed, failed, skipped, why: failed > 0 ? null : failure };
}

function lastNumber(text: string, label: string): number | null {
  const found = [...text.matchAll(new RegExp(`^ {2}${label}: +(\\d+)$`, "gm"))].at(-1);
  return found === undefined ? null : Number(found[1]);
}
