/**
 * iSCSI (RFC 7143, ErrorRecoveryLevel 0, no digests): READ(10) and WRITE(10) as fast as the agreed keys allow: immediate data and
 * unsolicited bursts where the target takes them, R2T where it asks.
 */
import type { ClientShape, LoadClient, LoadEvents } from "./client.ts";
import { noise } from "./client.ts";
import { bhsBytes, blockBytes, IscsiLogin, lunBytes, type SessionShape } from "./iscsi_login.ts";
import { Output } from "./output.ts";
import type { Place } from "./plan.ts";

const Opcode = { nopIn: 0x20, response: 0x21, dataIn: 0x25, r2t: 0x31 } as const;
const noTag = 0xffffffff;

interface Waiting {
  readonly slot: number;
  readonly isWrite: boolean;
  readonly offsetBytes: number;
}

export class IscsiClient implements LoadClient {
  sizeBytes = 0;
  readonly #place: Place;
  readonly #shape: ClientShape;
  readonly #events: LoadEvents;
  readonly #output = new Output();
  readonly #login: IscsiLogin;
  readonly #payload: Uint8Array;
  readonly #command = new Uint8Array(bhsBytes);
  readonly #commandView: DataView;
  readonly #dataOut = new Uint8Array(bhsBytes);
  readonly #dataOutView: DataView;
  #session: SessionShape | null = null;
  #cmdSn = 0;
  #maxCmdSn = 0;
  #expStatSn = 0;
  /** Commands beyond the target's window. */
  readonly #waiting: Waiting[] = [];
  readonly #head = new Uint8Array(bhsBytes);
  readonly #headView: DataView;
  #headFilled = 0;
  #dataLeft = 0;

  constructor(place: Place, shape: ClientShape, events: LoadEvents) {
    this.#place = place;
    this.#shape = shape;
    this.#events = events;
    this.#payload = noise(shape.blockBytes);
    this.#commandView = new DataView(this.#command.buffer);
    this.#dataOutView = new DataView(this.#dataOut.buffer);
    this.#headView = new DataView(this.#head.buffer);
    this.#login = new IscsiLogin(this.#output, place.path, shape.index);
  }

  async open(): Promise<void> {
    const socket = await Bun.connect({
      hostname: this.#place.host,
      port: this.#place.port,
      socket: {
        data: (_, chunk) => (this.#session === null ? this.#login.data(chunk) : this.#data(chunk)),
        drain: () => this.#output.push(),
        close: () => {
          if (this.#session === null) this.#login.close();
          else this.#events.failed(new Error("the target closed the connection"));
        },
        error: (_, error) => this.#events.failed(error),
      },
    });
    this.#output.use(socket);
    const session = await this.#login.run();
    this.#cmdSn = session.cmdSn;
    this.#maxCmdSn = session.maxCmdSn;
    this.#expStatSn = session.expStatSn;
    this.sizeBytes = session.volumeBytes;
    const lun = lunBytes(Number(this.#place.path.slice(this.#place.path.lastIndexOf("/") + 1)));
    this.#command[0] = 0x01;
    this.#command.set(lun, 8);
    this.#commandView.setUint32(20, this.#shape.blockBytes);
    this.#dataOut[0] = 0x05;
    this.#dataOut.set(lun, 8);
    this.#session = session;
  }

  issue(slot: number, isWrite: boolean, offsetBytes: number): void {
    // Serial numbers (RFC 1982): the window is open while the next one is not beyond its end.
    if (this.#waiting.length > 0 || ((this.#maxCmdSn - this.#cmdSn) | 0) < 0) {
      this.#waiting.push({ slot, isWrite, offsetBytes });
      return;
    }
    const { targetSegmentBytesMax, firstBurstBytes, immediateData, initialR2t } = this.#session!;
    const { blockBytes: bytes } = this.#shape;
    const unsolicited = isWrite ? Math.min(bytes, firstBurstBytes) : 0;
    const immediate = immediateData ? Math.min(unsolicited, targetSegmentBytesMax) : 0;
    const hasMore = !initialR2t && immediate < unsolicited;
    const header = this.#command;
    const view = this.#commandView;
    // F, R, W; a simple task.
    header[1] = (hasMore ? 0 : 0x80) | (isWrite ? 0x20 : 0x40) | 1;
    header[5] = immediate >>> 16;
    header[6] = immediate >>> 8;
    header[7] = immediate;
    view.setUint32(16, slot);
    view.setUint32(24, this.#cmdSn);
    view.setUint32(28, this.#expStatSn);
    this.#cmdSn = (this.#cmdSn + 1) >>> 0;
    header[32] = isWrite ? 0x2a : 0x28;
    view.setUint32(34, offsetBytes / blockBytes);
    view.setUint16(39, bytes / blockBytes);
    this.#output.append(header);
    if (immediate > 0) this.#append(0, immediate);
    if (hasMore) this.#sendData(slot, noTag, immediate, unsolicited - immediate);
  }

  push(): void {
    this.#output.push();
  }

  /** A part of the payload; blocks are multiples of four bytes, so no padding. */
  #append(start: number, bytes: number): void {
    const whole = start === 0 && bytes === this.#payload.byteLength;
    this.#output.append(whole ? this.#payload : this.#payload.subarray(start, start + bytes));
  }

  #sendData(slot: number, transferTag: number, startBytes: number, lengthBytes: number): void {
    const header = this.#dataOut;
    const view = this.#dataOutView;
    const segmentBytesMax = this.#session!.targetSegmentBytesMax;
    view.setUint32(16, slot);
    view.setUint32(20, transferTag);
    view.setUint32(28, this.#expStatSn);
    for (let done = 0, dataSn = 0; done < lengthBytes; dataSn++) {
      const bytes = Math.min(segmentBytesMax, lengthBytes - done);
      header[1] = done + bytes === lengthBytes ? 0x80 : 0;
      header[5] = bytes >>> 16;
      header[6] = bytes >>> 8;
      header[7] = bytes;
      view.setUint32(36, dataSn);
      view.setUint32(40, startBytes + done);
      this.#output.append(header);
      this.#append(startBytes + done, bytes);
      done += bytes;
    }
  }

  #data(chunk: Uint8Array): void {
    const head = this.#head;
    let at = 0;
    while (at < chunk.byteLength) {
      if (this.#dataLeft > 0) {
        const take = Math.min(this.#dataLeft, chunk.byteLength - at);
        this.#dataLeft -= take;
        at += take;
        if (this.#dataLeft === 0) this.#received();
        continue;
      }
      const take = Math.min(bhsBytes - this.#headFilled, chunk.byteLength - at);
      for (let index = 0; index < take; index++) head[this.#headFilled + index] = chunk[at + index]!;
      this.#headFilled += take;
      at += take;
      if (this.#headFilled < bhsBytes) break;
      this.#headFilled = 0;
      const data = (head[5]! << 16) | (head[6]! << 8) | head[7]!;
      this.#dataLeft = (data + 3) & ~3;
      if (this.#dataLeft === 0) this.#received();
    }
    this.#events.handled();
  }

  /** The header in `#head` and its data are complete. */
  #received(): void {
    const head = this.#head;
    const view = this.#headView;
    const opcode = head[0]! & 0x3f;
    if (opcode !== Opcode.dataIn || (head[1]! & 1) !== 0) this.#openWindow(view.getUint32(32));
    if (opcode === Opcode.r2t) {
      this.#sendData(view.getUint32(16), view.getUint32(20), view.getUint32(40), view.getUint32(44));
    } else if (opcode === Opcode.response || opcode === Opcode.dataIn) {
      if (opcode === Opcode.dataIn && (head[1]! & 1) === 0) return;
      if (head[3] !== 0 || (opcode === Opcode.response && head[2] !== 0))
        return this.#events.failed(new Error(`SCSI status ${head[3]}, iSCSI response ${head[2]}`));
      this.#expStatSn = (view.getUint32(24) + 1) >>> 0;
      this.#events.completed(view.getUint32(16));
    } else if (opcode === Opcode.nopIn) {
      if (view.getUint32(20) !== noTag) this.#answerPing();
    } else {
      this.#events.failed(new Error(`a PDU with opcode ${opcode} has come`));
    }
  }

  #openWindow(maxCmdSn: number): void {
    if (((maxCmdSn - this.#maxCmdSn) | 0) <= 0) return;
    this.#maxCmdSn = maxCmdSn;
    if (this.#waiting.length === 0) return;
    const waiting = this.#waiting.splice(0);
    for (const { slot, isWrite, offsetBytes } of waiting) this.issue(slot, isWrite, offsetBytes);
  }

  #answerPing(): void {
    const header = new Uint8Array(bhsBytes);
    const view = new DataView(header.buffer);
    header[0] = 0x40;
    header[1] = 0x80;
    header.set(this.#head.subarray(8, 16), 8);
    view.setUint32(16, noTag);
    view.setUint32(20, this.#headView.getUint32(20));
    view.setUint32(24, this.#cmdSn);
    view.setUint32(28, this.#expStatSn);
    this.#output.append(header);
  }
}
