/** Waits for what nobody tells of. */
import type { Clock } from "../../hal/api/clock.ts";

/** Resolves when it is so, at once where it is already; looked at every `everyMs`. */
export async function whenSo(clock: Clock, everyMs: number, isSo: () => boolean): Promise<void> {
  while (!isSo()) await new Promise<void>((resolve) => clock.after(everyMs, resolve));
}
