/**
 * PDUs to the initiator, written straight into the output queue (RFC 7143 11.2 and the formats behind it).
 *
 * Invariants:
 * - `open` to `close` is one PDU; nothing is part of the queue before `close`.
 * - StatSN goes on by one with every PDU that carries a status, and by nothing else (4.2.2.2).
 * - ExpCmdSN and MaxCmdSN of every PDU are those of its moment.
 */
import type { PooledBuffer } from "../buffer_pool.ts";
import { headroomBytes } from "../buffer_pool.ts";
import type { OutputQueue } from "../output_queue.ts";
import type { CommandWindow } from "./command_window.ts";
import { digestBytes, finalBit, headerBytes, noTag, ResponseOp } from "./constants.ts";
import type { IscsiDigests } from "./ports.ts";

/** Where the data lies in a buffer of its own: the trailing digest of a full buffer still fits behind it. */
export const ownDataAt = headroomBytes - digestBytes;

export class PduWriter {
  headerDigest = false;
  dataDigest = false;
  statSn = 0;
  /** What the initiator knows of the window. */
  toldMaxCmdSn = 0;
  private readonly output: OutputQueue;
  private readonly window: CommandWindow;
  private readonly digests: IscsiDigests;
  private buffer: PooledBuffer | null = null;
  private owned = false;
  private at = 0;
  private dataBytes = 0;

  constructor(output: OutputQueue, window: CommandWindow, digests: IscsiDigests) {
    this.output = output;
    this.window = window;
    this.digests = digests;
  }

  /** Of header and trailer, beside the data itself. */
  overheadBytes(dataBytes: number): number {
    const digests = (this.headerDigest ? digestBytes : 0) + (this.dataDigest && dataBytes > 0 ? digestBytes : 0);
    return headerBytes + digests + (-dataBytes & 3);
  }

  /** The place for `dataBytes` of data in the queue's tail; the PDU itself is begun by `open` with as many bytes. */
  placeForData(dataBytes: number): Uint8Array {
    const buffer = this.output.reserve(dataBytes + this.overheadBytes(dataBytes));
    const start = buffer.end + headerBytes + (this.headerDigest ? digestBytes : 0);
    return buffer.bytes.subarray(start, start + dataBytes);
  }

  open(opcode: number, flags: number, dataBytes: number): void {
    const buffer = this.output.reserve(dataBytes + this.overheadBytes(dataBytes));
    this.owned = false;
    this.begin(buffer, buffer.end, opcode, flags, dataBytes);
  }

  /** The PDU around data that lies at `ownDataAt` of a buffer; `close` hands the buffer over. */
  openOwned(buffer: PooledBuffer, opcode: number, flags: number, dataBytes: number): void {
    this.owned = true;
    const at = ownDataAt - headerBytes - (this.headerDigest ? digestBytes : 0);
    buffer.start = at;
    this.begin(buffer, at, opcode, flags, dataBytes);
  }

  private begin(buffer: PooledBuffer, at: number, opcode: number, flags: number, dataBytes: number): void {
    this.buffer = buffer;
    this.at = at;
    this.dataBytes = dataBytes;
    const { view } = buffer;
    view.setUint32(at, ((opcode << 24) | (flags << 16)) >>> 0);
    view.setUint32(at + 4, dataBytes);
    for (let offset = 8; offset < headerBytes; offset += 4) view.setUint32(at + offset, 0);
  }

  u8(offset: number, value: number): void {
    this.buffer!.bytes[this.at + offset] = value;
  }

  u16(offset: number, value: number): void {
    this.buffer!.view.setUint16(this.at + offset, value);
  }

  u32(offset: number, value: number): void {
    this.buffer!.view.setUint32(this.at + offset, value);
  }

  field(offset: number, bytes: Uint8Array): void {
    this.buffer!.bytes.set(bytes, this.at + offset);
  }

  data(bytes: Uint8Array, offset = 0): void {
    this.buffer!.bytes.set(bytes, this.at + headerBytes + (this.headerDigest ? digestBytes : 0) + offset);
  }

  /** ITT, and the sequence numbers; `counts`: the PDU carries a status. */
  sequence(itt: number, counts: boolean): void {
    const { view } = this.buffer!;
    const { at, window } = this;
    view.setUint32(at + 16, itt);
    view.setUint32(at + 24, this.statSn);
    view.setUint32(at + 28, window.expCmdSn);
    view.setUint32(at + 32, window.maxCmdSn);
    this.toldMaxCmdSn = window.maxCmdSn;
    if (counts) this.statSn = (this.statSn + 1) >>> 0;
  }

  /** For PDUs without a StatSN (Data-In without status). */
  sequenceWithoutStatus(itt: number): void {
    this.sequence(itt, false);
    this.buffer!.view.setUint32(this.at + 24, 0);
  }

  close(): void {
    const { at, dataBytes } = this;
    const buffer = this.buffer!;
    this.buffer = null;
    const { bytes, view } = buffer;
    let end = at + headerBytes;
    if (this.headerDigest) {
      view.setUint32(end, this.digests.crc32c(bytes.subarray(at, end)), true);
      end += digestBytes;
    }
    const dataAt = end;
    end += dataBytes;
    for (let padding = -dataBytes & 3; padding > 0; padding--) bytes[end++] = 0;
    if (this.dataDigest && dataBytes > 0) {
      view.setUint32(end, this.digests.crc32c(bytes.subarray(dataAt, end)), true);
      end += digestBytes;
    }
    if (this.owned) {
      buffer.end = end;
      this.output.append(buffer);
    } else this.output.commit(end - at);
  }

  /** A PDU of ours that answers no request: NOP-In, a ping unless `ttt` is the reserved value (11.19). */
  nopIn(ttt: number): void {
    this.open(ResponseOp.nopIn, finalBit, 0);
    this.sequence(noTag, false);
    this.u32(20, ttt);
    this.close();
  }

  /** 11.17: the header of what was rejected goes back. */
  reject(reason: number, header: Uint8Array): void {
    this.open(ResponseOp.reject, finalBit, headerBytes);
    this.u8(2, reason);
    this.sequence(noTag, true);
    this.data(header.subarray(0, headerBytes));
    this.close();
  }

  /** 11.9. `seconds`: Time2Wait of a drop, or the time to log out. */
  asyncMessage(event: number, parameters: { first: number; second: number; third: number }, data: Uint8Array): void {
    this.open(ResponseOp.async, finalBit, data.byteLength);
    this.sequence(noTag, true);
    this.u8(36, event);
    this.u16(38, parameters.first);
    this.u16(40, parameters.second);
    this.u16(42, parameters.third);
    this.data(data);
    this.close();
  }
}
