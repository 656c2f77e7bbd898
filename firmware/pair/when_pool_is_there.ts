/** The second half of a pool is made together with the first, by whoever owns that: until then there is nothing to open. */
import type { Hal } from "../../hal/api/hal.ts";
import { findDisks } from "../store/disk_finder.ts";
import { pairLimits } from "./limits.ts";

export function whenPoolIsThere({ shelves, digests, clock }: Hal, array: string): Promise<void> {
  return new Promise((resolve) => {
    const look = (): void =>
      findDisks(shelves, digests, (found) => {
        const isThere = found.some(({ superblock }) => superblock?.ready === true && superblock.arrayName === array);
        // What lies there and is somebody else's is judged by the start.
        const isBlank = found.length > 0 && found.every(({ state }) => state === "blank");
        if (isThere || !isBlank) return resolve();
        clock.after(pairLimits.poolLookMs, look);
      });
    look();
  });
}
