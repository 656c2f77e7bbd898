/**
 * What the device server knows of a task while it stands in its task set, and the block request that the task makes. Pooled: a READ
 * or WRITE allocates nothing.
 *
 *   judged ──▶ collecting ──execute──▶ running ──▶ (ended)
 *                  │                     ▲
 *                  └──▶ waiting (an ORDERED task before it, or it is one) ──┘
 */
import { assert } from "../../codec/assert.ts";
import type { BlockError, BlockRequest, BlockTarget } from "../../volume/block_request.ts";
import { noBytes, PlainRequest } from "../../volume/plain_request.ts";
import type { Command } from "./command.ts";
import type { LogicalUnit } from "./logical_unit.ts";
import type { ScsiNexus } from "./nexus.ts";
import type { ScsiTask } from "./task.ts";
import type { UnitAccess } from "./unit_access.ts";

export type Phase = "free" | "collecting" | "waiting" | "running";

/** Shared by all requests: no closure per request. */
function requestDone(request: BlockRequest): void {
  const standing = request as Standing;
  const next = standing.next;
  assert(next !== null, "scsi: a block request completes once");
  standing.next = null;
  next(standing, standing.error);
}

export class Standing extends PlainRequest {
  phase: Phase = "free";
  task!: ScsiTask;
  nexus!: ScsiNexus;
  /** null: the LUN is none; only a few commands go on without one. */
  access: UnitAccess | null = null;
  command!: Command;
  /** Goes on when the block request is done. */
  next: ((standing: Standing, error: BlockError | null) => void) | null = null;
  /** A command's own notes while it runs in parts. */
  notes: unknown = null;
  /** Ends a running task at once, when its work goes on without it (SANITIZE). */
  abandon: (() => void) | null = null;
  /** Called when the task has ended: task management waits for it. */
  endListeners: (() => void)[] = [];
  /** Another nexus has aborted it, and its initiator wants to be told by TASK ABORTED. */
  tellsByStatus = false;

  constructor() {
    super(requestDone);
  }

  get unit(): LogicalUnit {
    return this.access!.unit;
  }

  /** The open volume; `judge` has seen to it that there is one. */
  get volume(): BlockTarget {
    return this.access!.target!;
  }

  /** Hands the block request down; `next` may be called before this returns. */
  submit(next: (standing: Standing, error: BlockError | null) => void): void {
    this.submitTo(this.volume, next);
  }

  /** Third-party copies also use another unit's volume. */
  submitTo(volume: BlockTarget, next: (standing: Standing, error: BlockError | null) => void): void {
    this.error = null;
    this.next = next;
    volume.submit(this);
  }

  clear(): void {
    this.phase = "free";
    this.access = null;
    this.payload = [];
    this.target = noBytes;
    this.keepAllocated = false;
    this.atomic = false;
    this.error = null;
    this.next = null;
    this.notes = null;
    this.abandon = null;
    this.tellsByStatus = false;
    if (this.extents.length > 0) this.extents.length = 0;
    if (this.endListeners.length > 0) this.endListeners = [];
  }
}

/** Kept at most: 4,096 objects of about 250 bytes. */
const keptMax = 4096;

export class StandingPool {
  readonly #free: Standing[] = [];

  acquire(): Standing {
    return this.#free.pop() ?? new Standing();
  }

  release(standing: Standing): void {
    standing.clear();
    if (this.#free.length < keptMax) this.#free.push(standing);
  }
}
