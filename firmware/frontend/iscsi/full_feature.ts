/**
 * The full feature phase of a session: requests in CmdSN order to what answers them (RFC 7143 4.2.2, 11).
 *
 *   header ─ in the window? ─┬─ next ──▶ begun ──data has come──▶ completed
 *                            ├─ ahead ─▶ kept whole until its turn
 *                            └─ else ──▶ ignored, with its data
 *
 * Invariants:
 * - Non-immediate requests are begun in the order of their CmdSN, immediate ones at once.
 * - A command that waits for memory holds all input behind it, and so do replies beyond twice the backlog.
 * - After `stop` nothing new goes down and nothing is answered; the device server has been told (`Nexus.close`).
 * - Discovery sessions have no nexus: everything but text, NOP and logout is rejected.
 */
import { assert } from "../../codec/assert.ts";
import type { BufferPool } from "../buffer_pool.ts";
import type { BudgetWaiter, MemoryBudget } from "../memory_budget.ts";
import type { OutputQueue } from "../output_queue.ts";
import type { Nexus } from "../scsi/device_server.ts";
import { AheadQueue } from "./ahead_queue.ts";
import { type CommandWindow, serialDistance } from "./command_window.ts";
import { Commands } from "./commands.ts";
import { finalBit, LogoutReason, LogoutResponse, noTag, RejectReason, RequestOp, ResponseOp } from "./constants.ts";
import type { TaskPool } from "./iscsi_task.ts";
import type { SessionParameters } from "./key_negotiation.ts";
import type { IscsiLimits } from "./limits.ts";
import { type PayloadSink, type PduParser, Step } from "./pdu_parser.ts";
import type { PduWriter } from "./pdu_writer.ts";
import type { RequestPdu } from "./request_pdu.ts";
import { SessionMemory } from "./session_memory.ts";
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
  /** Null in a discovery session. */
  private readonly commands: Commands | null;
  private readonly ahead: AheadQueue;
  private readonly exchange: TextExchange;
  private readonly pingData: TextBuffer;

  /** Headers and data handled so far: tells whether a pump has moved anything. */
  steps = 0;
  private headerWaits = false;
  /** The present PDU wants nothing more than to be skipped. */
  private dropping = false;
  private stopped = false;
  /** The TTT of a ping that was not answered; 0: none. */
  private pingTtt = 0;

  constructor(parts: FullFeatureParts) {
    this.parts = parts;
    const { parser, writer, window, output, limits, parameters, host } = parts;
    this.parser = parser;
    this.writer = writer;
    this.window = window;
    this.memory = new SessionMemory(parts.budget, limits, output, this);
    const { memory } = this;
    const { nexus, buffers, pool } = parts;
    this.commands =
      nexus === null
        ? null
        : new Commands({
            ...{ parser, writer, window, output, buffers, pool, limits, parameters, memory, nexus },
            host: {
              workDone: () => host.workDone(),
              longReplyReady: () => host.longReplyReady(),
              coldReset: () => host.coldReset(),
              skip: (itt, cmdSn) => this.skip(itt, cmdSn),
            },
          });
    this.exchange = new TextExchange({
      writer,
      limits,
      parameters,
      addressing: parts.addressing,
    });
    this.ahead = new AheadQueue({ bytesMax: limits.aheadBytesMax, entriesMax: limits.tasksMax });
    this.pingData = new TextBuffer(limits.pingBytesMax);
  }

  /** Waits for the host's side: data has been promised and not sent. */
  get receivesPayload(): boolean {
    return this.parser.receivesPayload || this.commands?.dataOut.collects === true;
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
      if (this.commands?.admit() === false) return "held";
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
    this.commands?.resume();
    if (!this.memory.waits && this.commands?.waits !== true) this.parts.budget.forget(this);
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
    this.parser.dropPayload();
    this.commands?.stop();
    this.parts.budget.forget(this);
  }

  /** The stream is gone: what is in flight completes for nobody. */
  close(): void {
    this.stop();
    this.commands?.close();
    this.memory.settle();
  }

  // ------------------------------------------------------------------ requests

  private headerArrived(): void {
    const { parser, window } = this;
    this.dropping = false;
    if (parser.opcode === RequestOp.dataOut && this.commands !== null && parser.ahsBytes === 0) {
      const sink = this.commands.dataOut.begin(parser);
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
    if (parser.opcode === RequestOp.dataOut) this.commands?.dataOut.complete(parser);
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
      this.commands?.refuseFull();
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
      case RequestOp.scsiCommand: {
        const begun = this.commands?.begin(pdu) ?? RejectReason.protocolError;
        return typeof begun === "number" ? this.drop(pdu, begun) : begun;
      }
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
      this.commands?.arrived(pdu);
      return;
    }
    this.commands?.allowMore();
    switch (pdu.opcode) {
      case RequestOp.nopOut:
        this.pong(pdu);
        return;
      case RequestOp.text:
        this.exchange.complete(pdu);
        return;
      case RequestOp.taskManagement:
        if (this.commands === null) this.writer.reject(RejectReason.protocolError, pdu.bytes);
        else this.commands.management.request(pdu);
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
    const isTooLong = this.pingData.overflow;
    const data = this.pingData.take();
    if (!pdu.dataDigestRight || isTooLong) {
      writer.reject(isTooLong ? RejectReason.invalidField : RejectReason.dataDigest, pdu.bytes);
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

  private widen(): void {
    const { window, writer } = this;
    this.commands?.allowMore();
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
