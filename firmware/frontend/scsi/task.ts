/**
 * One SCSI command (SAM-5: task) between a transport and the device server: the only thing that the two share.
 *
 *   transport: filled ──judge──▶ judged ──(all of dataOutBytes landed)──execute──▶ pending ──onDone──▶ answered
 *                                   │                                     │
 *                                   └─ rejected: status is set            ├─ "done": status is set
 *                                                                         └─ "reads", onReads: the transport reads `medium`
 *                                                                            into its reply
 *
 * Invariants:
 * - A task belongs to its transport until `judge`, to the device server until `onDone` (or "done"), then to its transport again.
 * - Between `judge` and its end it stands in its logical unit's task set, so that task management finds it; a task that was aborted
 *   still ends exactly once, with `aborted` set.
 * - `dataIn` and `sense` are read-only for the transport and valid until the task is released; when it ends by `onDone`, until that
 *   returns.
 */
import type { BlockTarget } from "../../volume/block_request.ts";

/** SAM-5 5.3.1, table 48. */
export const ScsiStatus = {
  good: 0x00,
  checkCondition: 0x02,
  conditionMet: 0x04,
  busy: 0x08,
  reservationConflict: 0x18,
  taskSetFull: 0x28,
  acaActive: 0x30,
  taskAborted: 0x40,
} as const;
export type ScsiStatus = (typeof ScsiStatus)[keyof typeof ScsiStatus];

/** SAM-5 8.9; the values are those of iSCSI's ATTR field (RFC 7143 11.3.1). */
export const TaskAttribute = { untagged: 0, simple: 1, ordered: 2, headOfQueue: 3, aca: 4 } as const;
export type TaskAttribute = (typeof TaskAttribute)[keyof typeof TaskAttribute];

/** What to read from the medium as the command's data: a part of an open volume. */
export interface MediumRead {
  target: BlockTarget;
  /** In logical blocks. */
  startLba: number;
  blockCount: number;
}

export interface ScsiTask {
  // ------------------------------------------------ set by the transport before `judge`
  /** SAM-5 4.7: eight bytes as they came. */
  lun: Uint8Array;
  /** As it came, padded with zeros to at least 16 bytes; longer with an additional header segment. */
  cdb: Uint8Array;
  attribute: TaskAttribute;
  /** Unique among the tasks of a nexus while in flight (iSCSI: ITT). */
  tag: number;
  /** The data that the initiator is ready to send; a command that wants more gets only this much. */
  dataOutBytesMax: number;
  /** The data that the initiator is ready to take. */
  dataInBytesMax: number;

  // ------------------------------------------------ set by `judge`
  /** How much data the command takes from the initiator; the transport collects `min(dataOutBytes, dataOutBytesMax)`. */
  dataOutBytes: number;

  // ------------------------------------------------ set by the transport before `execute`
  /** The collected data, in order. A write's payload goes down as it is, uncopied. */
  dataOut: Uint8Array[];

  // ------------------------------------------------ set by the device server before the task ends
  status: ScsiStatus;
  /** SPC-5 4.4, fixed or descriptor format; empty unless status is checkCondition. */
  sense: Uint8Array;
  /** The command's data to the initiator, whole; the transport cuts it to `dataInBytesMax` and tells the residual. Empty for "reads". */
  dataIn: Uint8Array;
  /** How much data the command itself means to transfer to the initiator: `dataIn.byteLength`, or the medium read's length. */
  dataInBytes: number;
  medium: MediumRead;
  /** Ended by task management: no response is sent, unless `status` is taskAborted (SAM-5 5.6). */
  aborted: boolean;

  /** For the device server's use between `judge` and the task's end; null otherwise. */
  standing: unknown;
  /** Called once, for a task whose `execute` gave "pending", or that was aborted before `execute`. */
  onDone: (task: ScsiTask) => void;
  /** In place of `onDone`: a pending task had to wait for its turn, and goes on as if `execute` had given "reads" only now. */
  onReads: (task: ScsiTask) => void;
}
