/**
 * The request that every front end hands down and gets back: one way down (`BlockTarget.submit`), one way up (`onDone`).
 *
 * A request object may be pooled by its front end; it belongs to the target from `submit` until `onDone`.
 */
import type { HostIdentity } from "./host_access.ts";

/** The logical block, bytes: the unit of `startLba` and `blockCount`. */
export const logicalBlockBytes = 512;

/**
 * `compare-write` writes the second half of its payload if the range holds the first half; `or-write` writes the OR of its payload and
 * what the range holds. Both see the newest admitted data, and happen as one, with no other write in between.
 */
export type BlockKind = "read" | "write" | "compare-write" | "or-write" | "zero" | "unmap" | "flush" | "status";

/** Why a request was not done. Front ends translate it into their protocol's own error. */
export type BlockError =
  | "read-only" // the volume is a golden copy, or the export is read-only
  | "not-ready" // no role yet, or the group is not writable now
  | "reserved" // a SCSI host has reserved the volume, and this one comes without SCSI
  | "out-of-range"
  | "unaligned"
  | "no-space" // the pool cannot take more; nothing was written
  | "miscompare" // the range holds something else than the first half of the payload; nothing was written
  | "too-long" // more than one record holds, and the request must be atomic
  | "medium-error" // the data is lost on its medium; it is never served wrong
  | "closed"; // the volume or the appliance is going away

export interface BlockRequest {
  kind: BlockKind;
  /** In logical blocks of 512 bytes. */
  startLba: number;
  blockCount: number;
  /** Write: the payload as it arrived, in order; read-only until `onDone`. Empty otherwise. */
  payload: readonly Uint8Array[];
  /**
   * Read: where the data goes, exactly `blockCount * 512` bytes, provided by the front end. Of a target that `lendsReads`: where the
   * data lies, provided by the target, and to be read until `onDone` returns.
   */
  target: Uint8Array;
  /** Zero: the range must stay allocated (NBD_CMD_FLAG_NO_HOLE). */
  keepAllocated: boolean;
  /** Write: all of it or nothing survives whatever happens; at most `BlockTarget.atomicBlocksMax()`. */
  atomic: boolean;
  /** Set with the error "miscompare": the first byte that differs, from the range's beginning. */
  miscompareOffset: number;
  /** Status: the answer, in order, covering a prefix of the range, at least one extent. */
  extents: BlockExtent[];
  /** Set by the target before `onDone`; null means done. */
  error: BlockError | null;
  onDone: (request: BlockRequest) => void;
}

export interface BlockExtent {
  blockCount: number;
  /** Takes no space and reads as zeros. */
  hole: boolean;
}

/** An open volume as a front end sees it. */
export interface BlockTarget {
  readonly name: string;
  /** A read that is submitted needs no memory of the front end's. */
  readonly lendsReads: boolean;
  /** In logical blocks; may grow while open. */
  blockCount(): number;
  readOnly(): boolean;
  /** The longest write that is atomic, in logical blocks; compare-write and or-write are bounded by it too. */
  atomicBlocksMax(): number;
  /**
   * Serves a read at once from memory or from a medium that cannot block, into `target`, and returns true; otherwise returns
   * false, has done nothing that counts, and the caller submits the read instead.
   */
  tryRead(startLba: number, target: Uint8Array): boolean;
  /** May call `onDone` before it returns. A write is acknowledged by `onDone` only when it is committed. */
  submit(request: BlockRequest): void;
  /**
   * At most one; called when the target ends: role change, deletion, stop. The session closes. `isLost`: who served it is gone, and
   * what is in flight is decided by nobody here: the session breaks off without an answer, so that the host asks anew.
   */
  onEnded(listener: (reason: string, isLost: boolean) => void): void;
  /** The front end is done with it. Requests in flight still complete. */
  close(): void;
}

export interface ExportInfo {
  readonly name: string;
  readonly description: string;
  readonly blockCount: number;
  readonly readOnly: boolean;
}

/** What front ends may offer to a host, already filtered by access rules. */
export interface ExportTable {
  list(host: HostIdentity): ExportInfo[];
  /** Returns the open target, or why it cannot be opened. */
  open(name: string, host: HostIdentity): BlockTarget | "unknown" | "not-ready";
}
