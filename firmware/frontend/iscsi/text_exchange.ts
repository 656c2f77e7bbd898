/**
 * Text requests of the full feature phase: SendTargets, and declarations (RFC 7143 11.10, 11.11, appendix C).
 *
 * Invariants:
 * - One exchange at a time; a request with the reserved TTT begins a new one and forgets the old.
 * - Text in and text out are bounded; an answer longer than the initiator takes at once is fetched piece by piece.
 */
import { continueBit, finalBit, noTag, RejectReason, ResponseOp } from "./constants.ts";
import { KeyNegotiation, type SessionParameters } from "./key_negotiation.ts";
import type { IscsiLimits } from "./limits.ts";
import type { PayloadSink } from "./pdu_parser.ts";
import type { PduWriter } from "./pdu_writer.ts";
import type { RequestPdu } from "./request_pdu.ts";
import { TextBuffer } from "./text_buffer.ts";
import { encodeText, parseText, type TextPair } from "./text_keys.ts";

export interface Portal {
  /** `HOST:PORT`. */
  readonly address: string;
  /** The tag of its target portal group, from 1. */
  readonly portalGroup: number;
}

export interface Addressing {
  readonly targetName: string;
  /** Of the portal where the session has come in. */
  readonly portalGroupTag: number;
  /** Every portal of the target. */
  portals(): readonly Portal[];
}

export interface TextExchangeParts {
  readonly writer: PduWriter;
  readonly limits: IscsiLimits;
  readonly parameters: SessionParameters;
  readonly addressing: Addressing;
}

const empty = new Uint8Array(0);

export class TextExchange {
  private readonly parts: TextExchangeParts;
  private readonly text: TextBuffer;
  private outbox: Uint8Array = empty;
  private itt = noTag;
  private ttt = noTag;
  private lastTtt = 0;
  private rejected = false;

  constructor(parts: TextExchangeParts) {
    this.parts = parts;
    this.text = new TextBuffer(parts.limits.textBytesMax);
  }

  begin(pdu: RequestPdu): PayloadSink | null {
    const itt = pdu.u32(16);
    const ttt = pdu.u32(20);
    this.rejected = false;
    const wrongFlags = (pdu.flags & finalBit) !== 0 && (pdu.flags & continueBit) !== 0;
    const unknown = ttt !== noTag && (ttt !== this.ttt || itt !== this.itt);
    if (itt === noTag || wrongFlags || unknown) {
      this.rejected = true;
      this.parts.writer.reject(wrongFlags ? RejectReason.protocolError : RejectReason.invalidField, pdu.bytes);
      return null;
    }
    if (ttt === noTag) this.reset();
    this.itt = itt;
    return this.text;
  }

  complete(pdu: RequestPdu): void {
    if (this.rejected) return;
    const { writer, limits } = this.parts;
    if (!pdu.dataDigestRight) {
      this.reset();
      writer.reject(RejectReason.dataDigest, pdu.bytes);
      return;
    }
    if (this.text.overflow) {
      this.reset();
      writer.reject(RejectReason.protocolError, pdu.bytes);
      return;
    }
    if ((pdu.flags & continueBit) !== 0) {
      this.respond(pdu, { text: empty, continues: false, final: false });
      return;
    }
    const text = this.text.take();
    if (this.outbox.byteLength > 0) {
      this.sendNext(pdu);
      return;
    }
    const parsed = parseText(text, limits.keysMax);
    if ("error" in parsed) {
      this.reset();
      writer.reject(RejectReason.protocolError, pdu.bytes);
      return;
    }
    this.outbox = encodeText(this.answer(parsed.pairs));
    this.sendNext(pdu);
  }

  private sendNext(pdu: RequestPdu): void {
    const text = this.outbox.subarray(0, this.parts.parameters.initiatorSegmentBytes);
    this.outbox = this.outbox.subarray(text.byteLength);
    const continues = this.outbox.byteLength > 0;
    this.respond(pdu, { text, continues, final: !continues && (pdu.flags & finalBit) !== 0 });
  }

  private respond(pdu: RequestPdu, reply: { text: Uint8Array; continues: boolean; final: boolean }): void {
    const { writer } = this.parts;
    if (reply.final) this.reset();
    else {
      this.lastTtt = (this.lastTtt + 1) & 0x7fffffff;
      this.ttt = this.lastTtt;
    }
    const flags = (reply.final ? finalBit : 0) | (reply.continues ? continueBit : 0);
    writer.open(ResponseOp.text, flags, reply.text.byteLength);
    writer.field(8, pdu.bytes.subarray(8, 16));
    writer.sequence(pdu.u32(16), true);
    writer.u32(20, this.ttt);
    writer.data(reply.text);
    writer.close();
  }

  private reset(): void {
    this.text.take();
    this.outbox = empty;
    this.itt = noTag;
    this.ttt = noTag;
  }

  private answer(pairs: readonly TextPair[]): TextPair[] {
    const { parameters, limits } = this.parts;
    const seen = new Set<string>();
    const answers: TextPair[] = [];
    for (const { key, value } of pairs) {
      if (seen.has(key)) answers.push({ key, value: "Reject" });
      else if (key === "SendTargets") answers.push(...this.sendTargets(value));
      else if (key === "MaxRecvDataSegmentLength") {
        // Declared anew: the only key of section 13 besides SendTargets that both phases know.
        const negotiation = new KeyNegotiation(limits);
        answers.push(...negotiation.answer([{ key, value }]));
        if (answers.at(-1)?.key !== key) {
          parameters.initiatorSegmentBytes = negotiation.parameters.initiatorSegmentBytes;
        }
      } else {
        const understood = new KeyNegotiation(limits).answer([{ key, value }])[0]?.value !== "NotUnderstood";
        answers.push({ key, value: understood ? "Reject" : "NotUnderstood" });
      }
      seen.add(key);
    }
    return answers;
  }

  private sendTargets(value: string): TextPair[] {
    const { addressing, parameters } = this.parts;
    const all = value === "All" && parameters.discovery;
    const own = value === "" && !parameters.discovery;
    const named = value.toLowerCase() === addressing.targetName;
    if (!all && !own && !named) {
      // A name that is not here is answered with nothing (appendix C); the rest may not be asked.
      return value === "All" || value === "" ? [{ key: "SendTargets", value: "Reject" }] : [];
    }
    const pairs: TextPair[] = [{ key: "TargetName", value: addressing.targetName }];
    for (const { address, portalGroup } of addressing.portals()) {
      pairs.push({ key: "TargetAddress", value: `${address},${portalGroup}` });
    }
    return pairs;
  }
}
