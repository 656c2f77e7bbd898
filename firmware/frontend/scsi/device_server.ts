/**
 * What a transport sees of SCSI: an I_T nexus that judges and executes tasks. The transport knows connections, sequence numbers
 * and data movement; the device server knows what a command means. Neither knows the other's inside.
 */
import type { BlockError } from "../../volume/block_request.ts";
import type { HostIdentity } from "../../volume/host_access.ts";
import type { ScsiTask } from "./task.ts";

/** SAM-5 7, as far as a transport may ask for it. */
export const TaskFunction = {
  abortTask: 1,
  abortTaskSet: 2,
  clearAca: 3,
  clearTaskSet: 4,
  lunReset: 5,
  targetReset: 6,
} as const;
export type TaskFunction = (typeof TaskFunction)[keyof typeof TaskFunction];

export type TaskFunctionOutcome = "complete" | "task-not-there" | "lun-not-there" | "not-supported" | "rejected";

/** The initiator port and the target port of a nexus (SAM-5 4.8). */
export interface NexusIdentity {
  /** Who the host is, for masking and reservations; its `iqn` is the SCSI device name of the initiator. */
  readonly host: HostIdentity;
  /** iSCSI: `IQN,i,0xISID` (RFC 7143 appendix on SCSI ports): the initiator port's name and TransportID. */
  readonly initiatorPort: string;
  /** iSCSI: the target portal group tag (RFC 7143 4.2.7), from 1. */
  readonly portalGroup: number;
  /** The relative target port identifier (SPC-5 4.3.4), 1 to 65535; its target port group is the device server's to know. */
  readonly relativePort: number;
  /** The nexus has existed before, and its logical units have come to be served here (a failover inside a pair). */
  readonly isContinued?: boolean;
}

export interface Nexus {
  /**
   * Looks at the header alone: LUN, unit attentions, reservations, CDB. "accepted": `dataOutBytes` is set, the task stands in its task
   * set. "rejected": `status` and `sense` are set, the task has ended; data that comes all the same is the transport's to drop.
   */
  judge(task: ScsiTask): "accepted" | "rejected";
  /**
   * All of the data has landed. "done": ended, as set in the task. "reads": the transport fills its reply from `task.medium` and then
   * calls `readDone`. "pending": `task.onDone` comes, perhaps before `execute` returns, or `task.onReads`.
   */
  execute(task: ScsiTask): "done" | "reads" | "pending";
  /**
   * The medium read of a task is over. Sets `status` and `sense`; the task has ended. Without an error the status is good: the
   * transport has sent it with the last of the data.
   */
  readDone(task: ScsiTask, error: BlockError | null): void;
  /** The transport gives a task up between `judge` and `execute` (data that never came, a connection that ended). It has ended. */
  drop(task: ScsiTask): void;
  /** Task management; `tag` for abortTask. `done` comes when every affected task has ended. */
  manage(action: TaskFunction, lun: Uint8Array, tag: number, done: (outcome: TaskFunctionOutcome) => void): void;
  /**
   * The session is over: its tasks are given up (what was admitted completes for nobody), what depends on the nexus is released.
   * A pending task still gets its `onDone` with `aborted` set, when nothing uses its buffers any more; a task that "reads" gets its
   * `readDone` from the transport; a task before `execute` has ended with this call. Nothing else may be called afterwards.
   */
  close(): void;
}

/** What the device server tells the transport of a nexus. */
export interface NexusHost {
  /** Nothing may be served any more under this nexus (a role has changed, a volume is gone): the session closes. */
  nexusEnded(reason: string): void;
  /** A TARGET RESET or a mapping change by another nexus: the initiator should look (RFC 7143 11.9, SCSI asynchronous event). */
  attention(): void;
}

export interface DeviceServer {
  attach(identity: NexusIdentity, host: NexusHost): Nexus;
}
