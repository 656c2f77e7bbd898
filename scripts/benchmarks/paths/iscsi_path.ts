/**
 * A path over iSCSI (RFC 7143, ErrorRecoveryLevel 0, no digests): READ(10) and WRITE(10) of one block, whose data goes out with the
 * command. Sense data is read, so that a unit attention is not taken for an error.
 */
import { bhsBytes, blockBytes, IscsiLogin, lunBytes, type SessionShape } from "../load/iscsi_login.ts";
import type { PathClient, PathEvents, PathShape } from "./path_client.ts";
import { PathSocket } from "./path_socket.ts";

const Opcode = { nopIn: 0x20, response: 0x21, dataIn: 0x25, async: 0x32, reject: 0x3f } as const;
const Status = { good: 0, check: 2, busy: 8, taskSetFull: 0x28 } as const;
/** RFC 7143, 11.9.1: an asynchronous message that leaves the session as it is. */
const scsiEvent = 0;
const notReady = 2;
const unitAttention = 6;
const abortedCommand = 0xb;
/** SPC-5: logical unit not accessible, asymmetric access state transition. */
const stateTransition = { asc: 0x04, ascq: 0x0a } as const;
const noTag = 0xffffffff;

interface Waiting {
  readonly slot: number;
  readonly offsetBytes: number;
  /** null: a read. The slot's own copy, for as long as it waits. */
  readonly payload: Uint8Array | null;
}

export class IscsiPath implements PathClient {
  readonly #shape: PathShape;
  readonly #events: PathEvents;
  readonly #socket: PathSocket;
  readonly #login: IscsiLogin;
  readonly #command = new Uint8Array(bhsBytes);
  readonly #commandView: DataView;
  readonly #data: Uint8Array[];
  #session: SessionShape | null = null;
  #cmdSn = 0;
  #maxCmdSn = 0;
  #expStatSn = 0;
  /** Commands beyond the target's window. */
  #waiting: Waiting[] = [];
  readonly #head = new Uint8Array(bhsBytes);
  readonly #headView: DataView;
  #headFilled = 0;
  /** Of the PDU's data segment, with its padding. */
  #segment = new Uint8Array(0);
  #segmentFilled = 0;

  constructor(shape: PathShape, events: PathEvents) {
    this.#shape = shape;
    this.#events = events;
    this.#socket = new PathSocket(
      (chunk) => (this.#session === null ? this.#login.data(chunk) : this.#received(chunk)),
      (why) => this.#broken(why),
    );
    this.#login = new IscsiLogin(this.#socket.output, shape.place.path, shape.index);
    this.#commandView = new DataView(this.#command.buffer);
    this.#headView = new DataView(this.#head.buffer);
    this.#data = Array.from({ length: shape.depth }, () => new Uint8Array(shape.blockBytes));
  }

  async open(): Promise<number> {
    await this.#socket.connect(this.#shape.place);
    const session = await this.#login.run();
    const { targetSegmentBytesMax, firstBurstBytes, immediateData } = session;
    if (!immediateData || Math.min(targetSegmentBytesMax, firstBurstBytes) < this.#shape.blockBytes)
      throw new Error("the target does not take a block with its command");
    this.#cmdSn = session.cmdSn;
    this.#maxCmdSn = session.maxCmdSn;
    this.#expStatSn = session.expStatSn;
    const { path } = this.#shape.place;
    this.#command[0] = 0x01;
    this.#command.set(lunBytes(Number(path.slice(path.lastIndexOf("/") + 1))), 8);
    this.#commandView.setUint32(20, this.#shape.blockBytes);
    this.#session = session;
    return session.volumeBytes;
  }

  read(slot: number, offsetBytes: number): void {
    this.#issue(slot, offsetBytes, null);
  }

  write(slot: number, offsetBytes: number, payload: Uint8Array): void {
    this.#issue(slot, offsetBytes, payload);
  }

  push(): void {
    this.#socket.push();
  }

  drop(): void {
    this.#socket.drop();
    this.#login.close();
  }

  #broken(why: string): void {
    if (this.#session === null) this.#login.close();
    else this.#events.broken(why);
  }

  #issue(slot: number, offsetBytes: number, payload: Uint8Array | null): void {
    // Serial numbers (RFC 1982): the window is open while the next one is not beyond its end.
    if (((this.#maxCmdSn - this.#cmdSn) | 0) < 0) {
      this.#waiting.push({ slot, offsetBytes, payload: payload === null ? null : Uint8Array.from(payload) });
      return;
    }
    const { blockBytes: bytes } = this.#shape;
    const header = this.#command;
    const view = this.#commandView;
    const immediate = payload === null ? 0 : bytes;
    // F, R or W; a simple task.
    header[1] = 0x80 | (payload === null ? 0x40 : 0x20) | 1;
    header[5] = immediate >>> 16;
    header[6] = immediate >>> 8;
    header[7] = immediate;
    view.setUint32(16, slot);
    view.setUint32(24, this.#cmdSn);
    view.setUint32(28, this.#expStatSn);
    this.#cmdSn = (this.#cmdSn + 1) >>> 0;
    header[32] = payload === null ? 0x28 : 0x2a;
    view.setUint32(34, offsetBytes / blockBytes);
    view.setUint16(39, bytes / blockBytes);
    this.#socket.output.append(header);
    if (payload !== null) this.#socket.output.append(payload);
  }

  #received(chunk: Uint8Array): void {
    let at = 0;
    while (at < chunk.byteLength) {
      if (this.#headFilled < bhsBytes) {
        const take = Math.min(bhsBytes - this.#headFilled, chunk.byteLength - at);
        this.#head.set(chunk.subarray(at, at + take), this.#headFilled);
        this.#headFilled += take;
        at += take;
        if (this.#headFilled < bhsBytes) break;
        this.#beginSegment();
      }
      const take = Math.min(this.#segment.byteLength - this.#segmentFilled, chunk.byteLength - at);
      this.#segment.set(chunk.subarray(at, at + take), this.#segmentFilled);
      this.#segmentFilled += take;
      at += take;
      if (this.#segmentFilled < this.#segment.byteLength) break;
      this.#headFilled = 0;
      if (!this.#onPdu()) return;
    }
    this.#events.handled();
  }

  #beginSegment(): void {
    const head = this.#head;
    const bytes = (head[5]! << 16) | (head[6]! << 8) | head[7]!;
    this.#segment = new Uint8Array((bytes + 3) & ~3);
    this.#segmentFilled = 0;
  }

  /** The header in `#head` and its data are complete. False: the path has ended. */
  #onPdu(): boolean {
    const head = this.#head;
    const view = this.#headView;
    const opcode = head[0]! & 0x3f;
    const hasStatus = opcode === Opcode.response || (opcode === Opcode.dataIn && (head[1]! & 1) !== 0);
    const slot = view.getUint32(16);
    if ((hasStatus || opcode === Opcode.dataIn) && slot >= this.#shape.depth) {
      this.#socket.end("what came is no answer to a command");
      return false;
    }
    if (opcode === Opcode.dataIn) this.#data[slot]!.set(this.#dataOf(), view.getUint32(40));
    if (opcode !== Opcode.dataIn || hasStatus) this.#openWindow(view.getUint32(32));
    if (hasStatus) {
      this.#expStatSn = (view.getUint32(24) + 1) >>> 0;
      this.#judge(slot, opcode);
    } else if (opcode === Opcode.async && head[36] === scsiEvent) {
      // There is news of the target's volumes: nothing that this one looks at.
      this.#expStatSn = (view.getUint32(24) + 1) >>> 0;
    } else if (opcode === Opcode.nopIn) {
      if (view.getUint32(20) !== noTag) this.#answerPing();
    } else if (opcode !== Opcode.dataIn) {
      const what = opcode === Opcode.async ? "says that it ends the session" : `sent a PDU with opcode ${opcode}`;
      this.#socket.end(`the target ${what}`);
      return false;
    }
    return true;
  }

  #dataOf(): Uint8Array {
    const head = this.#head;
    return this.#segment.subarray(0, (head[5]! << 16) | (head[6]! << 8) | head[7]!);
  }

  #judge(slot: number, opcode: number): void {
    const response = opcode === Opcode.response ? this.#head[2]! : 0;
    const status = this.#head[3]!;
    if (response === 0 && status === Status.good) {
      return this.#events.answered(slot, opcode === Opcode.dataIn ? this.#data[slot]! : null);
    }
    // Two bytes of length, then the sense data: fixed format has the key in byte 2, descriptor format in byte 1.
    const sense = this.#segment.subarray(2);
    const isFixed = (sense[0] ?? 0) % 128 < 0x72;
    const key = (sense[isFixed ? 2 : 1] ?? 0) & 0xf;
    const asc = sense[isFixed ? 12 : 2] ?? 0;
    const ascq = sense[isFixed ? 13 : 3] ?? 0;
    const isBusy = status === Status.busy || status === Status.taskSetFull;
    // What hosts wait out and send again by themselves (Linux: a delayed retry).
    const isTransition = key === notReady && asc === stateTransition.asc && ascq === stateTransition.ascq;
    const isAgain =
      isBusy || (status === Status.check && (key === unitAttention || key === abortedCommand || isTransition));
    const text = `iSCSI response ${response}, SCSI status ${status}, sense key ${key}, ASC ${asc}, ASCQ ${ascq}`;
    this.#events.refused(slot, isAgain ? "again" : "error", text);
  }

  #openWindow(maxCmdSn: number): void {
    if (((maxCmdSn - this.#maxCmdSn) | 0) <= 0) return;
    this.#maxCmdSn = maxCmdSn;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const { slot, offsetBytes, payload } of waiting) this.#issue(slot, offsetBytes, payload);
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
    this.#socket.output.append(header);
  }
}
