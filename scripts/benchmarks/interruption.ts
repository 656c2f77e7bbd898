/** What a benchmark that is stopped half-way (^C, SIGTERM) takes down before it ends: nothing of it stays behind. */
import { constants } from "node:os";

const open = new Set<() => void>();

/** `takeDown` is called, synchronously, when the benchmark is stopped from outside before the returned function has been called. */
export function ifInterrupted(takeDown: () => void): () => void {
  open.add(takeDown);
  return () => open.delete(takeDown);
}

/** From now on SIGINT and SIGTERM take down what is open, the newest first, and end the process as the signal would. */
export function heedInterruptions(say: (text: string) => void): void {
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.once(signal, () => {
      say(`${signal}: taking down what was started`);
      for (const takeDown of [...open].reverse()) takeDown();
      process.exit(128 + constants.signals[signal]);
    });
  }
}
