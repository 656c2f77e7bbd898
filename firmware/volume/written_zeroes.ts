/**
 * Zeroes that have to stay allocated (NBD_CMD_FLAG_NO_HOLE, WRITE SAME without UNMAP): they are written, part by part, so that the
 * range has its space afterwards. A mark in a map would be faster and would promise nothing.
 *
 * Invariants:
 * - One part at a time is under way; the first error ends the request, as a write that was cut short.
 * - All parts share one buffer of zeroes, which nobody changes: a request of any length takes the memory of one part.
 */
import type { BlockRequest } from "./block_request.ts";

/** A megabyte is one record of the log. */
const partBlocks = 2048;
const zeroPart = new Uint8Array(partBlocks * 512);

/** `submit` takes a write of at most one part; it may complete before it returns. */
export function submitWrittenZeroes(request: BlockRequest, submit: (part: BlockRequest) => void): void {
  let doneBlocks = 0;
  let submitting = false;
  let completed = false;
  const part: BlockRequest = {
    kind: "write",
    startLba: request.startLba,
    blockCount: 0,
    payload: [],
    target: new Uint8Array(0),
    keepAllocated: true,
    atomic: false,
    miscompareOffset: 0,
    extents: [],
    error: null,
    onDone: () => {
      completed = true;
      // A part that completes inside `submit` goes on in the loop below: no recursion however long the range.
      if (!submitting) goOn();
    },
  };
  const goOn = () => {
    while (completed) {
      completed = false;
      doneBlocks += part.blockCount;
      if (part.error !== null || doneBlocks === request.blockCount) {
        request.error = part.error;
        request.onDone(request);
        return;
      }
      part.startLba = request.startLba + doneBlocks;
      part.blockCount = Math.min(partBlocks, request.blockCount - doneBlocks);
      part.payload = [zeroPart.subarray(0, part.blockCount * 512)];
      submitting = true;
      submit(part);
      submitting = false;
    }
  };
  completed = true;
  goOn();
}
