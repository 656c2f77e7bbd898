/**
 * Memory for commands that read what no host asked to be sent (VERIFY, EXTENDED COPY): a part at a time, each in a buffer that is
 * lent to it. However many such commands there are, there are no more buffers than `partBuffersMax`; who comes later waits in line.
 *
 *   take ──(one is free)──▶ lent ──give──▶ free, or lent to the next in line
 *
 * Invariant: a buffer is lent to one at a time, and given back by each that took it.
 */
import { assert } from "../../codec/assert.ts";
import { logicalBlockBytes } from "../../volume/block_request.ts";
import { scsiLimits } from "./limits.ts";

export class PartBuffers {
  readonly #free: Uint8Array[] = [];
  readonly #waiting: ((buffer: Uint8Array) => void)[] = [];
  readonly #defer: (task: () => void) => void;
  #made = 0;

  constructor(defer: (task: () => void) => void) {
    this.#defer = defer;
  }

  /** How many are lent now. */
  get lent(): number {
    return this.#made - this.#free.length;
  }

  /** `use` may be called before this returns. Its buffer has room for `readPartBlocks`. */
  take(use: (buffer: Uint8Array) => void): void {
    const free = this.#free.pop();
    if (free !== undefined) return use(free);
    if (this.#made === scsiLimits.partBuffersMax) {
      this.#waiting.push(use);
      return;
    }
    this.#made++;
    use(new Uint8Array(scsiLimits.readPartBlocks * logicalBlockBytes));
  }

  give(buffer: Uint8Array): void {
    assert(this.lent > 0, "scsi: a part buffer is given back once");
    const next = this.#waiting.shift();
    if (next === undefined) this.#free.push(buffer);
    // From the event loop: reads that are served at once do not pile up on the stack.
    else this.#defer(() => next(buffer));
  }
}
