/** A fork's volume as a read-only export: a salvage set, `VOLUME@ID`. */
import { physicalBlockBytes, type Version } from "../store/store.ts";
import { fail } from "./admission.ts";
import type { BlockRequest, BlockTarget } from "./block_request.ts";
import type { Group } from "./group.ts";

const blocksPerPhysical = physicalBlockBytes / 512;
const extentsMax = 1024;

export class ForkTarget implements BlockTarget {
  readonly name: string;
  readonly lendsReads = false;
  readonly #group: Group;
  readonly #fork: Version;
  readonly #volume: number;
  readonly #sizeBytes: number;
  #open = true;

  constructor(
    group: Group,
    fork: Version,
    volume: { readonly number: number; readonly sizeBytes: number },
    name: string,
  ) {
    this.#group = group;
    this.#fork = fork;
    this.#volume = volume.number;
    this.#sizeBytes = volume.sizeBytes;
    this.name = name;
  }

  blockCount(): number {
    return this.#sizeBytes / 512;
  }

  readOnly(): boolean {
    return true;
  }

  atomicBlocksMax(): number {
    return 0;
  }

  tryRead(startLba: number, target: Uint8Array): boolean {
    if (!this.#open || startLba % blocksPerPhysical !== 0 || target.byteLength % physicalBlockBytes !== 0) return false;
    if (startLba + target.byteLength / 512 > this.blockCount()) return false;
    return this.#group.store.tryRead(this.#fork, this.#volume, startLba / blocksPerPhysical, target);
  }

  submit(request: BlockRequest): void {
    if (!this.#open) return fail(request, "closed");
    request.error = null;
    if (request.kind === "flush") return request.onDone(request);
    if (request.kind !== "read" && request.kind !== "status") return fail(request, "read-only");
    if (request.startLba < 0 || request.startLba + request.blockCount > this.blockCount())
      return fail(request, "out-of-range");
    const firstBlock = Math.floor(request.startLba / blocksPerPhysical);
    const endBlock = Math.ceil((request.startLba + request.blockCount) / blocksPerPhysical);
    if (request.kind === "status") return this.#status(request, firstBlock, endBlock - firstBlock);
    const bytes = new Uint8Array((endBlock - firstBlock) * physicalBlockBytes);
    this.#group.readFork(this.#fork, this.#volume, firstBlock, bytes, (error) => {
      if (error !== null) return fail(request, "medium-error");
      const lead = (request.startLba - firstBlock * blocksPerPhysical) * 512;
      request.target.set(bytes.subarray(lead, lead + request.target.byteLength));
      request.onDone(request);
    });
  }

  onEnded(): void {
    // A fork changes for nobody: its export ends with the appliance.
  }

  close(): void {
    this.#open = false;
  }

  #status(request: BlockRequest, firstBlock: number, blockCount: number): void {
    const range = { firstBlock, blockCount, limit: extentsMax };
    this.#group.store.extents(this.#fork, this.#volume, range, (error, extents) => {
      if (error !== null) return fail(request, "medium-error");
      request.extents.length = 0;
      let lba = request.startLba;
      for (const extent of extents) {
        const stop = Math.min(
          request.startLba + request.blockCount,
          (extent.firstBlock + extent.blockCount) * blocksPerPhysical,
        );
        if (stop > lba) request.extents.push({ blockCount: stop - lba, hole: !extent.allocated });
        lba = Math.max(lba, stop);
      }
      request.onDone(request);
    });
  }
}
