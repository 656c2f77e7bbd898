/**
 * The SCSI commands of one session: from a SCSI Command PDU over its data to its response (RFC 7143 4.2.5, 11.3, 11.4).
 *
 *   begun ─┬─ rejected by its header ────────────────▶ (announced data dropped) ─▶ response
 *          └─ accepted ─▶ data collected (`DataOut`) ─▶ executed ─▶ response, or data (`DataIn`) with status
 *
 * Invariants:
 * - An ITT is in flight once.
 * - A command whose data is here already waits for memory, with the session's input, only while no other command collects: that
 *   data lies behind it. Otherwise it is told TASK SET FULL.
 * - After `stop` nothing goes down and nothing is answered; what the device server still has, it gives back in time.
 */
import { assert } from "../../codec/assert.ts";
import type { BufferPool } from "../buffer_pool.ts";
import type { OutputQueue } from "../output_queue.ts";
import type { Nexus } from "../scsi/device_server.ts";
import { ScsiStatus, TaskAttribute } from "../scsi/task.ts";
import type { CommandWindow } from "./command_window.ts";
import { CommandFlag, finalBit, noTag, RejectReason } from "./constants.ts";
import { DataIn } from "./data_in.ts";
import { DataOut } from "./data_out.ts";
import { DataFault, type IscsiTask, type TaskOwner, type TaskPool } from "./iscsi_task.ts";
import type { SessionParameters } from "./key_negotiation.ts";
import type { IscsiLimits } from "./limits.ts";
import type { PayloadSink, PduParser } from "./pdu_parser.ts";
import type { PduWriter } from "./pdu_writer.ts";
import { extendedCdb, type RequestPdu } from "./request_pdu.ts";
import { answerTask } from "./scsi_response.ts";
import type { SessionMemory } from "./session_memory.ts";
import { TaskManagement } from "./task_management.ts";

export interface CommandsHost {
  workDone(): void;
  longReplyReady(): void;
  coldReset(): void;
  /** A command that has not come yet is not to be executed when it comes. */
  skip(itt: number, cmdSn: number): boolean;
}

export interface CommandsParts {
  readonly parser: PduParser;
  readonly writer: PduWriter;
  readonly window: CommandWindow;
  readonly output: OutputQueue;
  readonly buffers: BufferPool;
  readonly pool: TaskPool;
  readonly limits: IscsiLimits;
  readonly parameters: SessionParameters;
  readonly memory: SessionMemory;
  readonly nexus: Nexus;
  readonly host: CommandsHost;
}

export class Commands implements TaskOwner {
  readonly dataOut: DataOut;
  readonly management: TaskManagement;
  private readonly parts: CommandsParts;
  private readonly memory: SessionMemory;
  private readonly nexus: Nexus;
  private readonly dataIn: DataIn;
  private readonly tasks = new Map<number, IscsiTask>();
  private immediateTasks = 0;
  /** The command whose immediate data waits for memory. */
  private admitting: IscsiTask | null = null;
  /** The command whose immediate data is arriving. */
  private arriving: IscsiTask | null = null;
  private stopped = false;
  private closed = false;

  constructor(parts: CommandsParts) {
    this.parts = parts;
    this.memory = parts.memory;
    this.nexus = parts.nexus;
    const { writer, output, memory, buffers, pool, limits, parameters, host } = parts;
    this.dataOut = new DataOut(
      { writer, memory, parameters },
      {
        task: (itt) => this.tasks.get(itt),
        dataComplete: (task) => this.dataComplete(task),
        fault: (task, fault) => this.fault(task, fault),
      },
    );
    this.dataIn = new DataIn(
      { writer, output, memory, buffers, pool, limits, parameters },
      {
        readOver: (task) => {
          this.nexus.readDone(task, task.readError);
          this.allowMore(task);
        },
        finished: (task) => this.finish(task),
        answer: (task) => this.answer(task),
        workDone: () => host.workDone(),
        longReplyReady: () => host.longReplyReady(),
      },
    );
    const commands = this;
    this.management = new TaskManagement(writer, {
      task: (itt) => this.tasks.get(itt),
      allTasks: () => this.tasks.values(),
      silence: (task) => this.finish(task),
      skip: (itt, cmdSn) => host.skip(itt, cmdSn),
      manage: (action, lun, tag, done) => this.nexus.manage(action, lun, tag, done),
      coldReset: () => host.coldReset(),
      workDone: () => host.workDone(),
      get ended() {
        return commands.stopped;
      },
    });
  }

  /** A command waits for memory, and all input behind it. */
  get waits(): boolean {
    return this.admitting !== null;
  }

  /** A SCSI Command's header: where its immediate data goes, or the reason why it is rejected. */
  begin(pdu: RequestPdu): PayloadSink | number {
    const { limits, parameters, pool } = this.parts;
    const itt = pdu.u32(16);
    const isRead = (pdu.flags & CommandFlag.read) !== 0;
    const isWrite = (pdu.flags & CommandFlag.write) !== 0;
    const isFinal = (pdu.flags & finalBit) !== 0;
    const attribute = pdu.flags & CommandFlag.attribute;
    if (itt === noTag || attribute > TaskAttribute.aca) return RejectReason.invalidField;
    if (this.tasks.has(itt)) return RejectReason.taskInProgress;
    const extended = extendedCdb(pdu);
    if (extended === "bad" || (!isWrite && (pdu.dataBytes > 0 || !isFinal))) {
      return RejectReason.protocolError;
    }
    if (pdu.immediate && this.immediateTasks >= limits.immediateTasksMax) {
      return RejectReason.immediateCommand;
    }
    const task = pool.acquire(this);
    task.state = "collecting";
    task.tag = itt;
    for (let index = 0; index < 8; index++) task.lun[index] = pdu.bytes[8 + index]!;
    task.setCdb(pdu.bytes, extended);
    task.attribute = attribute as TaskAttribute;
    task.immediate = pdu.immediate;
    const expectedBytes = pdu.u32(20);
    task.expectedBytes = expectedBytes;
    task.dataOutBytesMax = isWrite ? expectedBytes : 0;
    task.dataInBytesMax = isRead && !isWrite ? expectedBytes : 0;
    task.nextOffset = pdu.dataBytes;
    this.tasks.set(itt, task);
    this.dataOut.reuse(itt);
    if (pdu.immediate) this.immediateTasks++;
    this.arriving = task;
    const unsolicited =
      (pdu.dataBytes > 0 && !parameters.immediateData) ||
      (!isFinal && parameters.initialR2t) ||
      pdu.dataBytes > Math.min(expectedBytes, parameters.firstBurstBytes);
    if (unsolicited) task.refuse(DataFault.unexpectedUnsolicited);
    else if (isRead && isWrite) task.refuse(DataFault.refused);
    else this.judge(task, pdu.dataBytes > 0 || !isFinal);
    if (!isFinal && !parameters.initialR2t) this.dataOut.openFirstBurst(task);
    return task;
  }

  private judge(task: IscsiTask, withData: boolean): void {
    if (this.nexus.judge(task) === "rejected") {
      task.refused = true;
      return;
    }
    task.collectBytes = Math.min(task.dataOutBytes, task.dataOutBytesMax);
    if (task.collectBytes > this.parts.limits.writeBytesMax) this.fault(task, DataFault.refused);
    else if (withData && task.collectBytes > 0) {
      this.admitting = task;
      this.admit();
    }
  }

  /** Memory for a command whose data is coming; false: it waits. */
  admit(): boolean {
    const task = this.admitting;
    if (task === null) return true;
    if (!this.memory.admits(task.collectBytes)) {
      if (!this.dataOut.collects) return false;
      this.refuseFull();
      return true;
    }
    this.admitting = null;
    task.chargedBytes = task.collectBytes;
    this.memory.inFlightBytes += task.chargedBytes;
    return true;
  }

  /** The command that waits for memory may not. */
  refuseFull(): void {
    const task = this.admitting;
    if (task === null) return;
    this.admitting = null;
    this.nexus.drop(task);
    task.refused = true;
    task.status = ScsiStatus.taskSetFull;
  }

  /** All of its immediate data has come. */
  arrived(pdu: RequestPdu): void {
    const task = this.arriving;
    this.arriving = null;
    if (!pdu.dataDigestRight) {
      this.parts.writer.reject(RejectReason.dataDigest, pdu.bytes);
      if (task !== null && !task.refused) this.fault(task, DataFault.digest);
    }
    // It may have been aborted while its data came.
    if (task !== null) this.dataOut.advance(task);
    if (this.admitting === null && this.dataOut.waits) this.dataOut.solicit();
  }

  /** What waited for memory goes on, as far as there is any. */
  resume(): void {
    // What R2Ts ask for would lie behind the command that waits.
    if (this.admitting === null) this.dataOut.solicit();
    this.dataIn.resume();
  }

  stop(): void {
    this.stopped = true;
    this.admitting = null;
    this.nexus.close();
    this.dataIn.close(this.tasks.values());
    for (const task of [...this.tasks.values()]) if (task.state === "collecting") this.finish(task);
  }

  /** The stream is gone: memory is given back as the last tasks end. */
  close(): void {
    this.closed = true;
  }

  private fault(task: IscsiTask, fault: DataFault): void {
    this.nexus.drop(task);
    task.refuse(fault);
  }

  private dataComplete(task: IscsiTask): void {
    if (task.refused) {
      this.answer(task);
      return;
    }
    task.state = "executing";
    const outcome = this.nexus.execute(task);
    if (outcome === "done") this.answer(task);
    else if (outcome === "reads") this.dataIn.start(task);
  }

  /** From the device server, at any time: perhaps inside `execute`, perhaps after the stream has gone. */
  taskDone(task: IscsiTask): void {
    if (this.stopped) this.finish(task);
    else this.answer(task);
    this.parts.host.workDone();
  }

  /** As `taskDone`: at any time; the device server ends what waits when the session closes. */
  taskReads(task: IscsiTask): void {
    this.dataIn.start(task);
    this.parts.host.workDone();
  }

  private answer(task: IscsiTask): void {
    this.allowMore(task);
    const isSilent = task.aborted && task.status !== ScsiStatus.taskAborted;
    if (!isSilent && !this.stopped) answerTask(task, this.parts.writer, this.parts.parameters);
    this.finish(task);
  }

  private finish(task: IscsiTask): void {
    assert(this.tasks.get(task.tag) === task, "iscsi: a task ends once");
    this.tasks.delete(task.tag);
    if (task.immediate) this.immediateTasks--;
    this.dataOut.forget(task);
    if (this.arriving === task || this.admitting === task) {
      // A refused command may be ended by task management while its immediate data still comes.
      this.arriving = null;
      this.admitting = null;
    }
    this.parts.parser.dropPayloadFor(task);
    this.memory.inFlightBytes -= task.chargedBytes;
    this.parts.pool.release(task);
    if (this.closed) this.memory.settle();
  }

  /**
   * Flow control: as many commands may come as there is room for; with its memory half full a session gets no more. `ending`: the
   * task whose answer is about to be written, so that it tells of the room that the task leaves.
   */
  allowMore(ending: IscsiTask | null = null): void {
    const { limits } = this.parts;
    if (this.memory.heldBytes > limits.sessionBytesMax / 2) return;
    const inWindow = this.tasks.size - this.immediateTasks - (ending === null || ending.immediate ? 0 : 1);
    this.parts.window.allow(limits.tasksMax - inWindow);
  }
}
