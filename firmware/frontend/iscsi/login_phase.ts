/**
 * The login phase of a connection on the wire: login requests out of the parser to `Login`, its answers into the output
 * (RFC 7143 6.3, 11.12, 11.13).
 *
 * Invariants:
 * - The first request sets the session's CmdSN and StatSN.
 * - Digests and the declared MaxRecvDataSegmentLength hold from the first PDU behind the last login response.
 * - A rejection is answered with its status, unless what came is not even a login request: its fields mean something else.
 */
import type { OutputQueue } from "../output_queue.ts";
import type { CommandWindow } from "./command_window.ts";
import { continueBit, finalBit, LoginStatus, loginSegmentBytes, RequestOp, ResponseOp, Stage } from "./constants.ts";
import type { IscsiLimits } from "./limits.ts";
import type { Login, LoginStep } from "./login.ts";
import { type PduParser, Step } from "./pdu_parser.ts";
import type { PduWriter } from "./pdu_writer.ts";
import { TextBuffer } from "./text_buffer.ts";

export interface LoginPhaseHost {
  /** The session begins, before its last login response is written; returns its TSIH. */
  loggedIn(): number;
  /** The login is over, and with it the connection. */
  rejected(reason: string, status: LoginStatus): void;
  workDone(): void;
}

export interface LoginPhaseParts {
  readonly login: Login;
  readonly parser: PduParser;
  readonly writer: PduWriter;
  readonly window: CommandWindow;
  readonly output: OutputQueue;
  readonly limits: IscsiLimits;
  readonly host: LoginPhaseHost;
}

const empty = new Uint8Array(0);

export class LoginPhase {
  private readonly parts: LoginPhaseParts;
  private readonly text = new TextBuffer(loginSegmentBytes);
  private begun = false;
  private over = false;
  private tsih = 0;

  constructor(parts: LoginPhaseParts) {
    this.parts = parts;
  }

  /** Handles what has arrived; "over": logged in, or rejected. */
  pump(): "hungry" | "held" | "over" {
    const { parser, output, limits } = this.parts;
    while (!this.over) {
      // A login gets no more than what every session is guaranteed.
      if (output.queuedBytes >= limits.guaranteedBytes) return "held";
      const step = parser.next();
      if (step === Step.more) return "hungry";
      if (step === Step.payload) this.request();
      else this.header(step);
    }
    return "over";
  }

  private header(step: Step): void {
    const { parser } = this.parts;
    if (step === Step.tooLong) {
      this.reject(LoginStatus.initiatorError, `a data segment of ${parser.dataBytes} bytes during login`);
    } else if (parser.opcode !== RequestOp.login) {
      const status = this.begun ? LoginStatus.invalidDuringLogin : LoginStatus.initiatorError;
      this.reject(status, `a PDU of opcode 0x${parser.opcode.toString(16)} before the login was over`);
    } else if (parser.ahsBytes > 0) {
      this.reject(LoginStatus.initiatorError, "additional header segments in a login request");
    } else {
      this.text.take();
      parser.keepPayload(this.text);
    }
  }

  private request(): void {
    const { parser, writer, window, login, limits } = this.parts;
    if (!this.begun) {
      this.begun = true;
      window.begin(parser.u32(24), limits.tasksMax);
      writer.statSn = parser.u32(28);
    }
    const step = login.request(
      {
        flags: parser.flags,
        versionMin: parser.bytes[3]!,
        isid: Array.from(parser.bytes.subarray(8, 14), (byte) => byte.toString(16).padStart(2, "0")).join(""),
        tsih: parser.u16(14),
        cid: parser.u16(20),
      },
      this.text.take(),
    );
    if (step.kind === "rejected") this.reject(step.status, step.reason);
    else this.reply(step);
  }

  private reply(step: Extract<LoginStep, { kind: "reply" }>): void {
    const { parser, writer, login, host } = this.parts;
    const entersFullFeature = step.transit && step.nextStage === Stage.fullFeature;
    if (entersFullFeature) {
      this.over = true;
      this.tsih = host.loggedIn();
    }
    let flags = (step.stage << 2) | step.nextStage;
    if (step.transit) flags |= finalBit;
    if (step.continues) flags |= continueBit;
    this.respond(flags, LoginStatus.success, step.text);
    if (!entersFullFeature) return;
    const { headerDigest, dataDigest } = login.negotiation.parameters;
    parser.headerDigest = headerDigest;
    parser.dataDigest = dataDigest;
    writer.headerDigest = headerDigest;
    writer.dataDigest = dataDigest;
    parser.dataBytesMax = login.receiveSegmentBytes;
  }

  private respond(flags: number, status: LoginStatus, text: Uint8Array): void {
    const { parser, writer, host } = this.parts;
    writer.open(ResponseOp.login, flags, text.byteLength);
    writer.field(8, parser.bytes.subarray(8, 14));
    writer.u16(14, this.tsih !== 0 ? this.tsih : parser.u16(14));
    writer.sequence(parser.u32(16), true);
    writer.u16(36, status);
    writer.data(text);
    writer.close();
    host.workDone();
  }

  private reject(status: LoginStatus, reason: string): void {
    this.over = true;
    if (this.parts.parser.opcode === RequestOp.login || this.begun) this.respond(0, status, empty);
    this.parts.host.rejected(reason, status);
  }
}
