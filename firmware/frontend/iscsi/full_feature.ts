/**
 * The full feature phase of a session: requests in CmdSN order to tasks, tasks to responses (RFC 7143 4.2, 11).
 *
 * A command's life:
 *   header ─ in the window? ─▶ judged ─┬─ rejected ─────────────────────▶ (announced data dropped) ─▶ response
 *                                      └─ accepted ─▶ data (`DataOut`) ─▶ executed ─▶ response, or data (`DataIn`) with status
 *
 * Invariants:
 * - Commands reach the device server in the order of their CmdSN, immediate ones at once.
 * - An ITT is in flight once.
 * - A command whose data is here already waits with its input only while no other command of the session still collects: that
 *   data lies behind it. Otherwise it is told TASK SET FULL.
 * - After `stop` nothing new goes down and nothing is answered; the device server has been told (`Nexus.close`).
 * - Discovery sessions have no nexus: everything but text, NOP and logout is rejected.
 */
import { assert } from "../../codec/assert.ts";
import type { BufferPool } from "../buffer_pool.ts";
import type { BudgetWaiter, MemoryBudget } from "../memory_budget.ts";
import type { OutputQueue } from "../output_queue.ts";
import type { Nexus, TaskFunction, TaskFunctionOutcome } from "../scsi/device_server.ts";
import { ScsiStatus, TaskAttribute } from "../scsi/task.ts";
import { AheadQueue } from "./ahead_queue.ts";
import { type CommandWindow, serialDistance } from "./command_window.ts";
import {
  CommandFlag,
  finalBit,
  LogoutReason,
  LogoutResponse,
  noTag,
  RejectReason,
  RequestOp,
  ResponseOp,
} from "./constants.ts";
import { DataIn } from "./data_in.ts";
import { DataOut } from "./data_out.ts";
import { DataFault, type IscsiTask, type TaskPool } from "./iscsi_task.ts";
import type { SessionParameters } from "./key_negotiation.ts";
import type { IscsiLimits } from "./limits.ts";
import { type PayloadSink, type PduParser, Step } from "./pdu_parser.ts";
import type { PduWriter } from "./pdu_writer.ts";
import { extendedCdb, type RequestPdu } from "./request_pdu.ts";
import { answerTask } from "./scsi_response.ts";
import { SessionMemory } from "./session_memory.ts";
import { TaskManagement } from "./task_management.ts";
import { TextBuffer } from "./text_buffer.ts";
import { type Addressing, TextExchange } from "./text_exchange.ts";

/** What a session needs to know, and does. */
export interface FullFeatureHost {
  violated(code: string, text: string): void;
  /** The session has logged out: what is queued goes out, then the stream ends. */
  loggedOut(): void;
  coldReset(): void;
  workDone(): void;
  longReplyReady(): void;
}

export interface FullFeatureParts {
  readonly parser: PduParser;
  readonly writer: PduWriter;
  readonly window: CommandWindow;
  readonly output: OutputQueue;
  readonly buffers: BufferPool;
  readonly pool: TaskPool;
  readonly budget: MemoryBudget;
  readonly limits: IscsiLimits;
  readonly parameters: SessionParameters;
  readonly cid: number;
  readonly addressing: Addressing;
  /** Null in a discovery session. */
  readonly nexus: Nexus | null;
  readonly host: FullFeatureHost;
}

export type Pumped = "hungry" | "held" | "stopped";

export class FullFeature implements BudgetWaiter {
  readonly memory: SessionMemory;
  private readonly parts: FullFeatureParts;
  private readonly parser: PduParser;
  private readonly writer: PduWriter;
  private readonly window: CommandWindow;
  private readonly nexus: Nexus | null;
  private readonly tasks = new Map<number, IscsiTask>();
  private immediateTasks = 0;
  private readonly ahead: AheadQueue;
  private readonly dataOut: DataOut;
  private readonly dataIn: DataIn;
  private readonly management: TaskManagement;
  private readonly exchange: TextExchange;
  private readonly pingData: TextBuffer;

  /** Headers and data handled so far: tells whether a pump has moved anything. */
  steps = 0;
  private headerWaits = false;
  /** The command whose immediate data waits for memory. */
  private admitting: IscsiTask | null = null;
  /** The command whose immediate data is arriving. */
  private arriving: IscsiTask | null = null;
  /** The present PDU wants nothing more than to be skipped. */
  private dropping = false;
  private stopped = false;
  private closed = false;
  /** The TTT of a ping that was not answered; 0: none. */
  private pingTtt = 0;

  constructor(parts: FullFeatureParts) {
    this.parts = parts;
    const { parser, writer, window, output, limits, parameters, host } = parts;
    this.parser = parser;
    this.writer = writer;
    this.window = window;
    this.nexus = parts.nexus;
    this.memory = new SessionMemory(parts.budget, limits, output, this);
    const { memory } = this;
    this.dataOut = new DataOut(
      { writer, memory, parameters },
      {
        task: (itt) => this.tasks.get(itt),
        dataComplete: (task) => this.dataComplete(task),
        fault: (task, fault) => this.fault(task, fault),
      },
    );
    this.dataIn = new DataIn(
      { writer, output, memory, buffers: parts.buffers, pool: parts.pool, limits, parameters },
      {
        readOver: (task) => {
          this.nexus!.readDone(task, task.readError);
          this.allowMore(task);
        },
        finished: (task) => this.finish(task),
        answer: (task) => this.answer(task),
        workDone: () => host.workDone(),
        longReplyReady: () => host.longReplyReady(),
      },
    );
    const full = this;
    this.management = new TaskManagement(writer, {
      task: (itt) => this.tasks.get(itt),
      allTasks: () => this.tasks.values(),
      silence: (task) => this.finish(task),
      skip: (itt, cmdSn) => this.skip(itt, cmdSn),
      manage: (action, lun, tag, done) => this.manage(action, lun, tag, done),
      coldReset: () => host.coldReset(),
      workDone: () => host.workDone(),
      get ended() {
        return full.stopped;
      },
    });
    this.exchange = new TextExchange({
      writer,
      limits,
      parameters,
      addressing: parts.addressing,
    });
    this.ahead = new AheadQueue({ bytesMax: limits.guaranteedBytes, entriesMax: limits.tasksMax });
    this.pingData = new TextBuffer(limits.receiveSegmentBytesMax);
  }

  get tasksInFlight(): number {
    return this.tasks.size;
  }

  /** Waits for the host's side: data has been promised and not sent. */
  get receivesPayload(): boolean {
    return this.parser.receivesPayload || this.dataOut.collects;
  }

  /** Asks the initiator for a sign of life. */
  ping(): void {
    this.pingTtt = 1;
    this.writer.nopIn(this.pingTtt);
    this.parts.host.workDone();
  }

  /** Handles what has arrived, as far as there is room. */
  pump(): Pumped {
    const { parser } = this;
    while (!this.stopped) {
      if (this.admitting !== null && !this.admit()) return "held";
      if (!this.headerWaits) {
        const step = parser.next();
        if (step === Step.more) return "hungry";
        this.steps++;
        if (step === Step.payload) {
          this.payloadArrived();
          continue;
        }
        if (step !== Step.header) {
          const digest = step === Step.badHeaderDigest;
          this.parts.host.violated(
            digest ? "iscsi-header-digest" : "iscsi-format-error",
            digest ? "a header whose digest is wrong" : "a data segment longer than was declared",
          );
          return "stopped";
        }
      }
      // Replies beyond the backlog: reads wait at once the limit, everything at twice.
      this.headerWaits = this.parts.output.queuedBytes >= 2 * this.parts.limits.outputBacklogBytes;
      if (this.headerWaits) return "held";
      this.headerArrived();
    }
    return "stopped";
  }

  /** At the end of a batch: replies have left, what waited goes on, the window is told. */
  settle(): void {
    this.memory.settle();
    if (this.stopped) return;
    this.memory.waits = false;
    // What R2Ts ask for would lie behind the command that waits.
    if (this.admitting === null) this.dataOut.solicit();
    this.dataIn.resume();
    if (!this.memory.waits && this.admitting === null) this.parts.budget.forget(this);
    this.widen();
    this.memory.settle();
  }

  roomMade(): void {
    this.parts.host.workDone();
  }

  /** Nothing new goes down from here on, nothing is answered any more. */
  stop(): void {
    if (this.stopped) return;
    this.stopped = true;
    this.ahead.clear();
    this.admitting = null;
    this.parser.dropPayload();
    this.nexus?.close();
    this.parts.budget.forget(this);
    this.dataIn.close(this.tasks.values());
    for (const task of [...this.tasks.values()]) if (task.state === "collecting") this.finish(task);
  }

  /** The stream is gone: what is in flight completes for nobody. */
  close(): void {
    this.stop();
    this.closed = true;
    this.memory.settle();
  }

  // ------------------------------------------------------------------ requests

  private headerArrived(): void {
    const { parser, window } = this;
    this.dropping = false;
    if (parser.opcode === RequestOp.dataOut && this.nexus !== null && parser.ahsBytes === 0) {
      const sink = this.dataOut.begin(parser);
      if (sink !== null) parser.keepPayload(sink);
      return;
    }
    if (!isSequenced(parser.opcode)) {
      this.dropping = true;
      const reason = parser.opcode === RequestOp.snack ? RejectReason.snack : RejectReason.commandNotSupported;
      const isKnown = parser.opcode === RequestOp.dataOut || parser.opcode === RequestOp.login;
      this.writer.reject(isKnown ? RejectReason.protocolError : reason, parser.bytes);
      return;
    }
    if (!parser.immediate) {
      const cmdSn = parser.u32(24);
      const judged = window.judge(cmdSn);
      if (judged === "ignore") {
        this.dropping = true;
        return;
      }
      if (judged === "ahead") {
        this.dropping = !this.ahead.begin(parser);
        return;
      }
      window.advance();
    }
    const sink = this.begin(parser);
    if (sink !== null) parser.keepPayload(sink);
  }

  private payloadArrived(): void {
    const { parser } = this;
    if (this.dropping) {
      this.dropping = false;
      return;
    }
    if (this.ahead.complete(parser)) return;
    if (parser.opcode === RequestOp.dataOut) this.dataOut.complete(parser);
    else this.complete(parser);
    if (!this.ahead.isEmpty) this.replay();
  }

  /** Those whose turn has come. */
  private replay(): void {
    while (!this.stopped) {
      const stored = this.ahead.take(this.window.expCmdSn);
      if (stored === undefined) return;
      this.window.advance();
      if (stored === null) continue;
      const sink = this.begin(stored);
      // Its data is here: it cannot wait for memory.
      if (this.admitting !== null) this.setFull(this.admitting);
      for (const piece of stored.pieces) sink?.piece(piece);
      this.complete(stored);
    }
  }

  private skip(itt: number, cmdSn: number): boolean {
    if (this.ahead.endByTag(itt)) return true;
    return this.window.judge(cmdSn) !== "ignore" && this.ahead.endByNumber(cmdSn);
  }

  private begin(pdu: RequestPdu): PayloadSink | null {
    const { writer } = this;
    const isCommand = pdu.opcode === RequestOp.scsiCommand;
    if (!isCommand && pdu.ahsBytes > 0) return this.drop(pdu, RejectReason.protocolError);
    switch (pdu.opcode) {
      case RequestOp.scsiCommand:
        return this.nexus === null ? this.drop(pdu, RejectReason.protocolError) : this.beginCommand(pdu);
      case RequestOp.nopOut:
        this.pingData.take();
        return this.pingData;
      case RequestOp.text:
        return this.exchange.begin(pdu);
      default:
        if (pdu.dataBytes > 0) writer.reject(RejectReason.protocolError, pdu.bytes);
        this.dropping = pdu.dataBytes > 0;
        return null;
    }
  }

  private drop(pdu: RequestPdu, reason: number): null {
    this.dropping = true;
    this.writer.reject(reason, pdu.bytes);
    return null;
  }

  private complete(pdu: RequestPdu): void {
    if (this.dropping) {
      this.dropping = false;
      return;
    }
    if (pdu.opcode === RequestOp.scsiCommand) {
      this.commandArrived(pdu);
      return;
    }
    this.allowMore();
    switch (pdu.opcode) {
      case RequestOp.nopOut:
        this.pong(pdu);
        return;
      case RequestOp.text:
        this.exchange.complete(pdu);
        return;
      case RequestOp.taskManagement:
        if (this.nexus === null) this.writer.reject(RejectReason.protocolError, pdu.bytes);
        else this.management.request(pdu);
        return;
      case RequestOp.logout:
        this.logout(pdu);
        return;
      default:
        assert(false, "iscsi: a request without a meaning was begun");
    }
  }

  private pong(pdu: RequestPdu): void {
    const { writer } = this;
    const itt = pdu.u32(16);
    const data = this.pingData.take();
    if (!pdu.dataDigestRight) {
      writer.reject(RejectReason.dataDigest, pdu.bytes);
      return;
    }
    if (itt === noTag) {
      if (!pdu.immediate) writer.reject(RejectReason.protocolError, pdu.bytes);
      else if (pdu.u32(20) === this.pingTtt) this.pingTtt = 0;
      return;
    }
    const echo = data.subarray(0, this.parts.parameters.initiatorSegmentBytes);
    writer.open(ResponseOp.nopIn, finalBit, echo.byteLength);
    writer.field(8, pdu.bytes.subarray(8, 16));
    writer.sequence(itt, true);
    writer.u32(20, noTag);
    writer.data(echo);
    writer.close();
  }

  private logout(pdu: RequestPdu): void {
    const { writer, parts } = this;
    const reason = pdu.flags & 0x7f;
    if (reason > LogoutReason.removeForRecovery || pdu.u32(16) === noTag) {
      writer.reject(RejectReason.invalidField, pdu.bytes);
      return;
    }
    let response: number = LogoutResponse.closed;
    if (reason === LogoutReason.removeForRecovery) response = LogoutResponse.recoveryNotSupported;
    else if (reason === LogoutReason.closeConnection && pdu.u16(20) !== parts.cid)
      response = LogoutResponse.cidNotFound;
    if (response === LogoutResponse.closed) this.stop();
    writer.open(ResponseOp.logout, finalBit, 0);
    writer.u8(2, response);
    writer.sequence(pdu.u32(16), true);
    writer.u16(40, parts.parameters.time2WaitSeconds);
    writer.u16(42, parts.parameters.time2RetainSeconds);
    writer.close();
    if (response === LogoutResponse.closed) parts.host.loggedOut();
  }

  // ------------------------------------------------------------------ commands

  private beginCommand(pdu: RequestPdu): PayloadSink | null {
    const { limits, parameters, pool } = this.parts;
    const itt = pdu.u32(16);
    const isRead = (pdu.flags & CommandFlag.read) !== 0;
    const isWrite = (pdu.flags & CommandFlag.write) !== 0;
    const isFinal = (pdu.flags & finalBit) !== 0;
    const attribute = pdu.flags & CommandFlag.attribute;
    if (itt === noTag || attribute > TaskAttribute.aca) return this.drop(pdu, RejectReason.invalidField);
    if (this.tasks.has(itt)) return this.drop(pdu, RejectReason.taskInProgress);
    const extended = extendedCdb(pdu);
    if (extended === "bad" || (!isWrite && (pdu.dataBytes > 0 || !isFinal))) {
      return this.drop(pdu, RejectReason.protocolError);
    }
    if (pdu.immediate && this.immediateTasks >= limits.immediateTasksMax) {
      return this.drop(pdu, RejectReason.immediateCommand);
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
    if (this.nexus!.judge(task) === "rejected") {
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
  private admit(): boolean {
    const task = this.admitting!;
    if (!this.memory.admits(task.collectBytes)) {
      if (!this.dataOut.collects) return false;
      this.setFull(task);
      return true;
    }
    this.admitting = null;
    task.chargedBytes = task.collectBytes;
    this.memory.inFlightBytes += task.chargedBytes;
    return true;
  }

  private setFull(task: IscsiTask): void {
    this.admitting = null;
    this.nexus!.drop(task);
    task.refused = true;
    task.status = ScsiStatus.taskSetFull;
  }

  private commandArrived(pdu: RequestPdu): void {
    const task = this.arriving;
    this.arriving = null;
    if (!pdu.dataDigestRight) {
      this.writer.reject(RejectReason.dataDigest, pdu.bytes);
      if (task !== null && !task.refused) this.fault(task, DataFault.digest);
    }
    // It may have been aborted while its data came.
    if (task !== null) this.dataOut.advance(task);
    if (this.admitting === null && this.dataOut.waits) this.dataOut.solicit();
  }

  private fault(task: IscsiTask, fault: DataFault): void {
    this.nexus!.drop(task);
    task.refuse(fault);
  }

  private dataComplete(task: IscsiTask): void {
    if (task.refused) {
      this.answer(task);
      return;
    }
    task.state = "executing";
    const outcome = this.nexus!.execute(task);
    if (outcome === "done") this.answer(task);
    else if (outcome === "reads") this.dataIn.start(task);
  }

  /** From the device server, at any time: perhaps inside `execute`, perhaps after the stream has gone. */
  taskDone(task: IscsiTask): void {
    if (this.stopped) this.finish(task);
    else this.answer(task);
    this.parts.host.workDone();
  }

  private answer(task: IscsiTask): void {
    this.allowMore(task);
    const isSilent = task.aborted && task.status !== ScsiStatus.taskAborted;
    if (!isSilent && !this.stopped) answerTask(task, this.writer, this.parts.parameters);
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
    this.parser.dropPayloadFor(task);
    this.memory.inFlightBytes -= task.chargedBytes;
    this.parts.pool.release(task);
    if (this.closed) this.memory.settle();
  }

  private manage(
    action: TaskFunction,
    lun: Uint8Array,
    tag: number,
    done: (outcome: TaskFunctionOutcome) => void,
  ): void {
    this.nexus!.manage(action, lun, tag, done);
    if (!this.stopped) this.dataIn.sweep();
  }

  /**
   * Flow control: as many commands may come as there is room for; with its memory half full a session gets no more. `ending`: the
   * task whose answer is about to be written, so that it tells of the room that the task leaves.
   */
  private allowMore(ending: IscsiTask | null = null): void {
    const { limits } = this.parts;
    if (this.memory.heldBytes > limits.sessionBytesMax / 2) return;
    const inWindow = this.tasks.size - this.immediateTasks - (ending === null || ending.immediate ? 0 : 1);
    this.window.allow(limits.tasksMax - inWindow);
  }

  private widen(): void {
    const { window, writer } = this;
    this.allowMore();
    // Nothing else may come to tell an initiator that waits before a closed window (11.19).
    const closedForInitiator = serialDistance(window.expCmdSn, writer.toldMaxCmdSn) < 0;
    if (closedForInitiator && window.room > 0 && this.parts.output.queuedBytes === 0) {
      writer.nopIn(noTag);
      this.parts.host.workDone();
    }
  }
}

function isSequenced(opcode: number): boolean {
  return opcode <= RequestOp.text ? opcode !== RequestOp.login : opcode === RequestOp.logout;
}
