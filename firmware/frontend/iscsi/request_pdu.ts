/** A request as the full feature phase sees it: in the parser, or kept because those before it have not come yet. */
import { headerBytes } from "./constants.ts";
import type { PduParser } from "./pdu_parser.ts";

export interface RequestPdu {
  /** BHS and AHS. */
  readonly bytes: Uint8Array;
  readonly opcode: number;
  readonly immediate: boolean;
  readonly flags: number;
  readonly ahsBytes: number;
  readonly dataBytes: number;
  readonly dataDigestRight: boolean;
  u32(offset: number): number;
  u16(offset: number): number;
}

/** A whole PDU, kept until its turn. */
export class StoredPdu implements RequestPdu {
  readonly bytes: Uint8Array;
  readonly opcode: number;
  readonly immediate: boolean;
  readonly flags: number;
  readonly ahsBytes: number;
  readonly dataBytes: number;
  dataDigestRight = true;
  readonly pieces: Uint8Array[] = [];
  private readonly view: DataView;

  constructor(pdu: PduParser) {
    this.bytes = pdu.bytes.slice(0, headerBytes + pdu.ahsBytes);
    this.view = new DataView(this.bytes.buffer);
    this.opcode = pdu.opcode;
    this.immediate = pdu.immediate;
    this.flags = pdu.flags;
    this.ahsBytes = pdu.ahsBytes;
    this.dataBytes = pdu.dataBytes;
  }

  /** A copy: what it came in would be kept with it, for as long as its turn does not come. */
  piece(bytes: Uint8Array): void {
    this.pieces.push(bytes.slice());
  }

  u32(offset: number): number {
    return this.view.getUint32(offset);
  }

  u16(offset: number): number {
    return this.view.getUint16(offset);
  }
}

/**
 * The extended CDB of a SCSI Command (11.2.2.3), without the first 16 bytes; empty without one. "bad": segments that lie about
 * their length, of an unknown type, or twice.
 */
export function extendedCdb(pdu: RequestPdu): Uint8Array | "bad" {
  const end = headerBytes + pdu.ahsBytes;
  let extended: Uint8Array = new Uint8Array(0);
  let at = headerBytes;
  while (at < end) {
    const length = pdu.u16(at);
    const type = pdu.bytes[at + 2]! & 0x3f;
    const paddedBytes = 3 + length + (-(3 + length) & 3);
    // Type 2, the read length of a bidirectional command, comes only with a command that is refused anyway.
    if (length < 1 || at + paddedBytes > end || (type !== 1 && type !== 2)) return "bad";
    if (type === 1) {
      if (extended.byteLength > 0 || length < 2) return "bad";
      extended = pdu.bytes.subarray(at + 4, at + 3 + length);
    }
    at += paddedBytes;
  }
  return extended;
}
