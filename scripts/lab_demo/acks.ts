/** Which acknowledged writes an image holds. */
import { closeSync, openSync, readSync } from "node:fs";
import { expectedBlock, loadBlockBytes } from "./hosts.ts";

export interface Found {
  readonly acknowledged: number;
  readonly present: number;
  /** Present are exactly the first `present` of them. */
  readonly isPrefix: boolean;
  /** Offsets that are not there. */
  readonly missing: readonly number[];
}

/** Looks for every write of `offsets` (in the order of acknowledgement) in the image of a whole volume. */
export function findAcks(imagePath: string, round: number, offsets: readonly number[]): Found {
  const fd = openSync(imagePath, "r");
  const block = Buffer.alloc(loadBlockBytes);
  const missing: number[] = [];
  let firstMissing = offsets.length;
  let lastPresent = -1;
  try {
    for (const [index, offset] of offsets.entries()) {
      const isThere =
        readSync(fd, block, 0, loadBlockBytes, offset) === loadBlockBytes && block.equals(expectedBlock(round, offset));
      if (isThere) {
        lastPresent = index;
      } else {
        missing.push(offset);
        firstMissing = Math.min(firstMissing, index);
      }
    }
  } finally {
    closeSync(fd);
  }
  return {
    acknowledged: offsets.length,
    present: offsets.length - missing.length,
    isPrefix: lastPresent < firstMissing,
    missing,
  };
}
