/**
 * PDUs that came ahead of their CmdSN's turn, whole, until those before them have come (RFC 7143 4.2.2.1).
 *
 * Invariants: at most the window's number of entries, at most `bytesMax` of data; a CmdSN is kept once, the first one counts.
 */
import type { PduParser } from "./pdu_parser.ts";
import { StoredPdu } from "./request_pdu.ts";

export class AheadQueue {
  private readonly bytesMax: number;
  private readonly entriesMax: number;
  /** By CmdSN; null: task management has ended the command before its turn. */
  private readonly entries = new Map<number, StoredPdu | null>();
  private storing: StoredPdu | null = null;

  constructor(limits: { bytesMax: number; entriesMax: number }) {
    this.bytesMax = limits.bytesMax;
    this.entriesMax = limits.entriesMax;
  }

  get isEmpty(): boolean {
    return this.entries.size === 0;
  }

  /** Begins to keep the parser's PDU; false: it is to be dropped, as if it had been lost. */
  begin(parser: PduParser): boolean {
    let keptBytes = parser.dataBytes;
    for (const entry of this.entries.values()) keptBytes += entry?.dataBytes ?? 0;
    if (this.entries.has(parser.u32(24)) || keptBytes > this.bytesMax || this.entries.size >= this.entriesMax) {
      return false;
    }
    this.storing = new StoredPdu(parser);
    parser.keepPayload(this.storing);
    return true;
  }

  /** All data of the PDU has come; false when none was being kept. */
  complete(parser: PduParser): boolean {
    const { storing } = this;
    if (storing === null) return false;
    storing.dataDigestRight = parser.dataDigestRight;
    this.entries.set(storing.u32(24), storing);
    this.storing = null;
    return true;
  }

  /** The entry whose turn it is, taken out; undefined: it has not come. */
  take(cmdSn: number): StoredPdu | null | undefined {
    const entry = this.entries.get(cmdSn);
    if (entry !== undefined) this.entries.delete(cmdSn);
    return entry;
  }

  /** Ends a kept command; false when it is not here. */
  endByTag(itt: number): boolean {
    for (const [cmdSn, entry] of this.entries) {
      if (entry === null || entry.u32(16) !== itt) continue;
      this.entries.set(cmdSn, null);
      return true;
    }
    return false;
  }

  /** Ends a command that has not come. */
  endByNumber(cmdSn: number): boolean {
    if (this.entries.size >= this.entriesMax) return false;
    this.entries.set(cmdSn, null);
    return true;
  }

  clear(): void {
    this.entries.clear();
    this.storing = null;
  }
}
