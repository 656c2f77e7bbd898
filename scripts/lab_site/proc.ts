/**
 * Processes as the kernel shows them: known by their id and their start time (proc(5), stat field 22), so that a reused id is never taken
 * for the former process.
 */
import { readFileSync } from "node:fs";

export interface NamedProcess {
  readonly pid: number;
  readonly startTicks: number;
}

export interface LivingProcess extends NamedProcess {
  /** As in ps(1): `S`, `T`, ... */
  readonly state: string;
}

/**
 * null: there is none (one that has ended and was not collected is none). One whose first thread has ended while others are on their way
 * out still has its files and ports, and writes under way.
 */
export function livingProcess(pid: number): LivingProcess | null {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The second field is the program's name in parentheses and may hold anything.
    const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
    const state = fields[0] ?? "";
    const threads = Number(fields[17]);
    const hasEnded = (state === "Z" || state === "X") && threads <= 1;
    return hasEnded ? null : { pid, startTicks: Number(fields[19]), state };
  } catch {
    return null;
  }
}

/** The same process, if it still lives. */
export function stillLiving({ pid, startTicks }: NamedProcess): LivingProcess | null {
  const living = livingProcess(pid);
  return living?.startTicks === startTicks ? living : null;
}
