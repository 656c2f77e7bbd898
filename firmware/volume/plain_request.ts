/** A block request with every field in its place, for front ends that pool objects of their own kind. */
import type { BlockError, BlockExtent, BlockKind, BlockRequest } from "./block_request.ts";

export const noBytes = new Uint8Array(0);

export class PlainRequest implements BlockRequest {
  kind: BlockKind = "flush";
  startLba = 0;
  blockCount = 0;
  payload: readonly Uint8Array[] = [];
  target: Uint8Array = noBytes;
  keepAllocated = false;
  atomic = false;
  miscompareOffset = 0;
  extents: BlockExtent[] = [];
  error: BlockError | null = null;
  onDone: (request: BlockRequest) => void;

  /** `onDone`: one function for all requests of a kind, so that none needs a closure. */
  constructor(onDone: (request: BlockRequest) => void) {
    this.onDone = onDone;
  }
}
