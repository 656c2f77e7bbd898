/** The codes of `work_wire.ts`, both ways; a code that is none is null. */
import type { TaskFunctionOutcome } from "../frontend/scsi/device_server.ts";
import type { BlockError, BlockExtent, BlockKind } from "../volume/block_request.ts";

const blockKinds = [
  "read",
  "write",
  "compare-write",
  "or-write",
  "zero",
  "unmap",
  "flush",
  "status",
] as const satisfies readonly BlockKind[];

const blockErrors = [
  "read-only",
  "not-ready",
  "reserved",
  "out-of-range",
  "unaligned",
  "no-space",
  "miscompare",
  "too-long",
  "medium-error",
  "closed",
] as const satisfies readonly BlockError[];

const outcomes = [
  "complete",
  "task-not-there",
  "lun-not-there",
  "not-supported",
  "rejected",
] as const satisfies readonly TaskFunctionOutcome[];

const keepAllocatedBit = 0x40;
const atomicBit = 0x80;

export interface BlockCode {
  readonly kind: BlockKind;
  readonly keepAllocated: boolean;
  readonly atomic: boolean;
}

export function blockCode({ kind, keepAllocated, atomic }: BlockCode): number {
  return blockKinds.indexOf(kind) | (keepAllocated ? keepAllocatedBit : 0) | (atomic ? atomicBit : 0);
}

export function blockOf(code: number): BlockCode | null {
  const kind = blockKinds[code & 0x3f];
  if (kind === undefined) return null;
  return { kind, keepAllocated: (code & keepAllocatedBit) !== 0, atomic: (code & atomicBit) !== 0 };
}

/** 0: no error. */
export function errorCode(error: BlockError | null): number {
  return error === null ? 0 : blockErrors.indexOf(error) + 1;
}

/** Unknown codes are of a newer release: to a host the volume is closed. */
export function errorOf(code: number): BlockError | null {
  return code === 0 ? null : (blockErrors[code - 1] ?? "closed");
}

export function outcomeCode(outcome: TaskFunctionOutcome): number {
  return outcomes.indexOf(outcome);
}

export function outcomeOf(code: number): TaskFunctionOutcome {
  return outcomes[code] ?? "rejected";
}

const extentBytes = 8;

export function encodeExtents(extents: readonly BlockExtent[]): Uint8Array {
  const bytes = new Uint8Array(extents.length * extentBytes);
  const view = new DataView(bytes.buffer);
  for (const [index, { blockCount, hole }] of extents.entries()) {
    view.setUint32(index * extentBytes, blockCount, true);
    view.setUint32(index * extentBytes + 4, hole ? 1 : 0, true);
  }
  return bytes;
}

export function decodeExtents(bytes: Uint8Array): BlockExtent[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Array.from({ length: Math.floor(bytes.byteLength / extentBytes) }, (_, index) => ({
    blockCount: view.getUint32(index * extentBytes, true),
    hole: view.getUint32(index * extentBytes + 4, true) === 1,
  }));
}
