/**
 * An open volume: what a front end's session reads and writes. Judges range, reservation, role and access; everything else is the
 * group's.
 */
import { physicalBlockBytes } from "../store/store.ts";
import { fail } from "./admission.ts";
import { mustBeOneRecord } from "./atomic_update.ts";
import type { BlockRequest, BlockTarget } from "./block_request.ts";
import type { Group } from "./group.ts";
import { submitWrittenZeroes } from "./written_zeroes.ts";

const blocksPerPhysical = physicalBlockBytes / 512;
/** One status answer covers at most this many physical blocks: 1 GiB, so that it is a matter of milliseconds. */
const statusBlocksMax = 262144;
const statusExtentsMax = 1024;

export class VolumeTarget implements BlockTarget {
  readonly name: string;
  readonly lendsReads = false;
  readonly #group: Group;
  readonly #volume: number;
  readonly #exportReadOnly: boolean;
  readonly #isReserved: ((changes: boolean) => boolean) | null;
  #ended: ((reason: string, isLost: boolean) => void) | null = null;
  #open = true;

  /** `isReserved`: whether a reservation forbids this host to read or change; null where the front end judges that itself. */
  constructor(
    group: Group,
    volume: number,
    name: string,
    exportReadOnly: boolean,
    isReserved: ((changes: boolean) => boolean) | null = null,
  ) {
    this.#group = group;
    this.#volume = volume;
    this.name = name;
    this.#exportReadOnly = exportReadOnly;
    this.#isReserved = isReserved;
  }

  get volumeNumber(): number {
    return this.#volume;
  }

  blockCount(): number {
    return this.#group.sizeOf(this.#volume) / 512;
  }

  readOnly(): boolean {
    return this.#exportReadOnly || !this.#group.serving().writable;
  }

  atomicBlocksMax(): number {
    return this.#group.log.recordPayloadBytes / 512;
  }

  tryRead(startLba: number, target: Uint8Array): boolean {
    if (!this.#open || startLba % blocksPerPhysical !== 0 || target.byteLength % physicalBlockBytes !== 0) return false;
    if (startLba + target.byteLength / 512 > this.blockCount()) return false;
    if (this.#isReserved?.(false)) return false;
    return this.#group.tryRead(this.#volume, startLba / blocksPerPhysical, target);
  }

  submit(request: BlockRequest): void {
    if (!this.#open) return fail(request, "closed");
    request.error = null;
    if (request.kind === "flush") {
      // Nothing of this host is under way where it cannot write; a golden copy's undecided records may stay so for long.
      if (this.readOnly()) return request.onDone(request);
      return this.#group.flush(request);
    }
    if (request.startLba < 0 || request.startLba + request.blockCount > this.blockCount()) {
      return fail(request, "out-of-range");
    }
    switch (request.kind) {
      case "read":
        if (this.#isReserved?.(false)) return fail(request, "reserved");
        return this.#read(request);
      case "status":
        if (this.#isReserved?.(false)) return fail(request, "reserved");
        return this.#status(request);
      case "write":
      case "compare-write":
      case "or-write":
      case "zero":
      case "unmap":
        if (this.readOnly()) return fail(request, "read-only");
        if (this.#isReserved?.(true)) return fail(request, "reserved");
        if (mustBeOneRecord(request) && request.blockCount > this.atomicBlocksMax()) return fail(request, "too-long");
        if (request.kind === "zero" && request.keepAllocated && request.blockCount > 0) {
          return submitWrittenZeroes(request, (part) => this.#submitPart(part));
        }
        return this.#group.submitWrite(request, this.#volume);
    }
  }

  onEnded(listener: (reason: string, isLost: boolean) => void): void {
    this.#ended = listener;
  }

  close(): void {
    this.#open = false;
    this.#group.targetClosed(this);
  }

  /** The group ends it: role change, deletion, stop, or, `isLost`, a move to the partner. */
  end(reason: string, isLost = false): void {
    if (!this.#open) return;
    this.#open = false;
    this.#group.targetClosed(this);
    this.#ended?.(reason, isLost);
  }

  /** Of a long request: the volume may have ended, been reserved, shrunk its access or changed its role since the part before. */
  #submitPart(part: BlockRequest): void {
    if (!this.#open) return fail(part, "closed");
    if (this.readOnly()) return fail(part, "read-only");
    if (this.#isReserved?.(true)) return fail(part, "reserved");
    this.#group.submitWrite(part, this.#volume);
  }

  #read(request: BlockRequest): void {
    const firstBlock = Math.floor(request.startLba / blocksPerPhysical);
    const endBlock = Math.ceil((request.startLba + request.blockCount) / blocksPerPhysical);
    const lead = (request.startLba % blocksPerPhysical) * 512;
    const whole = lead === 0 && request.target.byteLength === (endBlock - firstBlock) * physicalBlockBytes;
    const bytes = whole ? request.target : new Uint8Array((endBlock - firstBlock) * physicalBlockBytes);
    this.#group.read(this.#volume, firstBlock, bytes, (error) => {
      if (error !== null)
        return fail(request, error.code === "medium-error" || error.code === "disk-failed" ? "medium-error" : "closed");
      if (!whole) request.target.set(bytes.subarray(lead, lead + request.target.byteLength));
      request.onDone(request);
    });
  }

  #status(request: BlockRequest): void {
    const firstBlock = Math.floor(request.startLba / blocksPerPhysical);
    const endBlock = Math.ceil((request.startLba + request.blockCount) / blocksPerPhysical);
    const range = { firstBlock, blockCount: Math.min(endBlock - firstBlock, statusBlocksMax), limit: statusExtentsMax };
    this.#group.extents(this.#volume, range, (error, extents) => {
      if (error !== null) return fail(request, "medium-error");
      request.extents.length = 0;
      let lba = request.startLba;
      const end = request.startLba + request.blockCount;
      for (const extent of extents) {
        const stop = Math.min(end, (extent.firstBlock + extent.blockCount) * blocksPerPhysical);
        if (stop > lba) request.extents.push({ blockCount: stop - lba, hole: !extent.allocated });
        lba = Math.max(lba, stop);
      }
      request.onDone(request);
    });
  }
}
