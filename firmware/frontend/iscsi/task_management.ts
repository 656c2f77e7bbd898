/**
 * Task management of one session (RFC 7143 4.2.3, 11.5, 11.6): each function is answered when every affected task has ended.
 *
 * A task that is refused (its data still comes, the device server is done with it) ends here without a response.
 */
import { TaskFunction, type TaskFunctionOutcome } from "../scsi/device_server.ts";
import { serialDistance } from "./command_window.ts";
import { finalBit, ManagementFunction, ManagementResponse, noTag, RejectReason, ResponseOp } from "./constants.ts";
import type { IscsiTask } from "./iscsi_task.ts";
import type { PduWriter } from "./pdu_writer.ts";
import type { RequestPdu } from "./request_pdu.ts";

export interface TaskManagementHost {
  task(itt: number): IscsiTask | undefined;
  /** The tasks in flight, also those that are refused. */
  allTasks(): Iterable<IscsiTask>;
  /** Ends a refused task without a response. */
  silence(task: IscsiTask): void;
  /** A command that has not come yet, or not in its turn, is not to be executed when it comes; false when the window is past it. */
  skip(itt: number, cmdSn: number): boolean;
  manage(action: TaskFunction, lun: Uint8Array, tag: number, done: (outcome: TaskFunctionOutcome) => void): void;
  /** TARGET COLD RESET has been answered: all sessions end. */
  coldReset(): void;
  workDone(): void;
  readonly ended: boolean;
}

const actions: Readonly<Record<number, TaskFunction>> = {
  [ManagementFunction.abortTask]: TaskFunction.abortTask,
  [ManagementFunction.abortTaskSet]: TaskFunction.abortTaskSet,
  [ManagementFunction.clearAca]: TaskFunction.clearAca,
  [ManagementFunction.clearTaskSet]: TaskFunction.clearTaskSet,
  [ManagementFunction.logicalUnitReset]: TaskFunction.lunReset,
  [ManagementFunction.targetWarmReset]: TaskFunction.targetReset,
  [ManagementFunction.targetColdReset]: TaskFunction.targetReset,
};

const responses: Readonly<Record<TaskFunctionOutcome, number>> = {
  complete: ManagementResponse.complete,
  "task-not-there": ManagementResponse.taskDoesNotExist,
  "lun-not-there": ManagementResponse.lunDoesNotExist,
  "not-supported": ManagementResponse.notSupported,
  rejected: ManagementResponse.rejected,
};

export class TaskManagement {
  private readonly writer: PduWriter;
  private readonly host: TaskManagementHost;
  /** Functions under way. */
  pending = 0;

  constructor(writer: PduWriter, host: TaskManagementHost) {
    this.writer = writer;
    this.host = host;
  }

  request(pdu: RequestPdu): void {
    const itt = pdu.u32(16);
    if (itt === noTag || (pdu.flags & finalBit) === 0 || pdu.dataBytes > 0) {
      this.writer.reject(RejectReason.protocolError, pdu.bytes);
      return;
    }
    const code = pdu.flags & 0x7f;
    const action = actions[code];
    if (action === undefined) {
      const isReassign = code === ManagementFunction.taskReassign;
      this.respond(itt, isReassign ? ManagementResponse.reassignmentNotSupported : ManagementResponse.notSupported);
      return;
    }
    const tag = pdu.u32(20);
    const lun = pdu.bytes.slice(8, 16);
    if (code === ManagementFunction.abortTask) {
      const task = this.host.task(tag);
      if (task === undefined) {
        // RefCmdSN tells where the command would have stood, before this request (4.2.2.1).
        const isBefore = serialDistance(pdu.u32(32), pdu.u32(24)) > 0;
        const skipped = isBefore && this.host.skip(tag, pdu.u32(32));
        this.respond(itt, skipped ? ManagementResponse.complete : ManagementResponse.taskDoesNotExist);
        return;
      }
      if (task.refused) {
        this.host.silence(task);
        this.respond(itt, ManagementResponse.complete);
        return;
      }
    } else if (action !== TaskFunction.clearAca) this.silenceRefused(action, lun);
    this.pending++;
    this.host.manage(action, lun, tag, (outcome) => {
      this.pending--;
      if (this.host.ended) return;
      this.respond(itt, responses[outcome]);
      if (code === ManagementFunction.targetColdReset && outcome === "complete") this.host.coldReset();
      this.host.workDone();
    });
  }

  private silenceRefused(action: TaskFunction, lun: Uint8Array): void {
    for (const task of [...this.host.allTasks()]) {
      if (!task.refused) continue;
      const isAffected = action === TaskFunction.targetReset || task.lun.every((byte, index) => byte === lun[index]);
      if (isAffected) this.host.silence(task);
    }
  }

  private respond(itt: number, response: number): void {
    const { writer } = this;
    writer.open(ResponseOp.taskManagement, finalBit, 0);
    writer.u8(2, response);
    writer.sequence(itt, true);
    writer.close();
  }
}
