/** A task as a seat has it, in place of the transport's own: `front_nexus.ts`. Pooled. */

import type { Nexus, TaskFunctionOutcome } from "../frontend/scsi/device_server.ts";
import { type MediumRead, ScsiStatus, type ScsiTask, TaskAttribute } from "../frontend/scsi/task.ts";
import type { BlockTarget } from "../volume/block_request.ts";
import type { FrontNexus } from "./front_nexus.ts";

export type RelayPhase =
  | "free"
  | "collecting" // a seat has judged it, or nobody has yet
  | "ready" // its data is here, and it waits for a seat
  | "running"
  | "reading"; // the transport reads its medium

/** Task management that a seat has not answered yet. */
export interface Asked {
  readonly part: number;
  done(outcome: TaskFunctionOutcome): void;
}

const noBytes = new Uint8Array(0);
const noTarget = null as unknown as BlockTarget;

function relayDone(task: ScsiTask): void {
  const relay = task as RelayTask;
  relay.front?.ended(relay);
}

function relayReads(task: ScsiTask): void {
  const relay = task as RelayTask;
  relay.front?.reads(relay);
}

export class RelayTask implements ScsiTask {
  /** null: free, or its seat is gone and says nothing that counts. */
  front: FrontNexus | null = null;
  outer: ScsiTask | null = null;
  /** Which part of the array it is for. */
  part = 0;
  /** Who has judged it; null: it waits for a seat. */
  nexus: Nexus | null = null;
  phase: RelayPhase = "free";
  /** What is to end it, whether its seat has heard of that or not. */
  asked: Asked | null = null;

  lun: Uint8Array = noBytes;
  cdb: Uint8Array = noBytes;
  attribute: TaskAttribute = TaskAttribute.untagged;
  tag = 0;
  dataOutBytesMax = 0;
  dataInBytesMax = 0;
  dataOutBytes = 0;
  dataOut: Uint8Array[] = [];
  status: ScsiStatus = ScsiStatus.good;
  sense: Uint8Array = noBytes;
  dataIn: Uint8Array = noBytes;
  dataInBytes = 0;
  medium: MediumRead = { target: noTarget, startLba: 0, blockCount: 0 };
  standing: unknown = null;
  onDone: (task: ScsiTask) => void = relayDone;
  onReads: (task: ScsiTask) => void = relayReads;
  #aborted = false;

  get aborted(): boolean {
    return this.#aborted;
  }

  /** The transport looks at its own task. */
  set aborted(aborted: boolean) {
    this.#aborted = aborted;
    if (this.front !== null && this.outer !== null) this.outer.aborted = aborted;
  }

  take(front: FrontNexus, outer: ScsiTask, part: number): void {
    this.front = front;
    this.outer = outer;
    this.part = part;
    this.nexus = null;
    this.phase = "collecting";
    this.asked = null;
    this.lun = outer.lun;
    this.cdb = outer.cdb;
    this.attribute = outer.attribute;
    this.tag = outer.tag;
    this.dataOutBytesMax = outer.dataOutBytesMax;
    this.dataInBytesMax = outer.dataInBytesMax;
    this.aborted = false;
  }

  /** What it came to, for the transport. */
  tell(outer: ScsiTask): void {
    outer.status = this.status;
    outer.sense = this.sense;
    outer.dataIn = this.dataIn;
    outer.dataInBytes = this.dataInBytes;
    outer.dataOutBytes = this.dataOutBytes;
    outer.aborted = this.#aborted;
    outer.standing = null;
  }

  clear(): void {
    this.front = null;
    this.outer = null;
    this.nexus = null;
    this.phase = "free";
    this.asked = null;
    this.lun = noBytes;
    this.cdb = noBytes;
    this.dataOutBytes = 0;
    if (this.dataOut.length > 0) this.dataOut = [];
    this.status = ScsiStatus.good;
    this.sense = noBytes;
    this.dataIn = noBytes;
    this.dataInBytes = 0;
    this.medium.target = noTarget;
    this.standing = null;
    this.#aborted = false;
  }
}

/** Kept at most: 4,096 objects of about 250 bytes. */
const keptMax = 4096;
const kept: RelayTask[] = [];

export function acquireRelay(): RelayTask {
  return kept.pop() ?? new RelayTask();
}

export function releaseRelay(relay: RelayTask): void {
  relay.clear();
  if (kept.length < keptMax) kept.push(relay);
}
