/**
 * What is done before a half is handed over, so that hosts need not wait for it: the partner gets ready (`readiness.ts`), and the shelf takes
 * what the partner would have to read in its copy of the cache. Without it the hand-over takes longer, and that is all.
 */
import type { Clock } from "../../hal/api/clock.ts";
import type { Calls } from "./calls.ts";
import { pairLimits } from "./limits.ts";

/** The second time it is what has come meanwhile. */
const bringHomeRounds = 2;

/** Resolves within `prepareMs` and `breathMs`. `bringHome`: resolves when everything that is committed now is at home, or cannot get there. */
export async function prepareHandOver(clock: Clock, calls: Calls, bringHome: () => Promise<void>): Promise<void> {
  const passed = (ms: number) => new Promise<void>((resolve) => clock.after(ms, resolve));
  const prepare = async (): Promise<void> => {
    // A partner of another version may know nothing of it.
    await calls.ask("POST", "/half/prepare", "{}");
    for (let round = 0; round < bringHomeRounds; round++) await bringHome();
  };
  await Promise.race([prepare(), passed(pairLimits.prepareMs)]);
  await passed(pairLimits.breathMs);
}
