/**
 * Processes as the kernel shows them. A process is known by its id and its start time (proc(5), stat field 22), so that a reused id is
 * never taken for the former process.
 */
import { readFileSync } from "node:fs";

export interface ProcessName {
  readonly pid: number;
  readonly startTicks: number;
}

/** null: there is no such process. */
export function processOf(pid: number): ProcessName | null {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The second field is the program's name in parentheses and may hold anything.
    const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
    const startTicks = Number(fields[19]);
    return Number.isSafeInteger(startTicks) ? { pid, startTicks } : null;
  } catch {
    return null;
  }
}
