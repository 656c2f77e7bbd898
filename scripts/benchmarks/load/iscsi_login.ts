/**
 * The way of an initiator to its LUN (RFC 7143): login without authentication, unit attentions cleared, the capacity read. Plain and
 * unhurried: what is measured begins afterwards.
 */
import type { Output } from "./output.ts";

export const bhsBytes = 48;
export const blockBytes = 512;

/** What was agreed on, as far as it changes what the initiator sends. */
export interface SessionShape {
  readonly targetSegmentBytesMax: number;
  readonly firstBurstBytes: number;
  readonly immediateData: boolean;
  readonly initialR2t: boolean;
  readonly volumeBytes: number;
  /** Of the next command, and the last one that the target takes. */
  readonly cmdSn: number;
  readonly maxCmdSn: number;
  readonly expStatSn: number;
}

/** What is offered, with open-iscsi's values. */
const offered = {
  HeaderDigest: "None",
  DataDigest: "None",
  MaxRecvDataSegmentLength: "262144",
  FirstBurstLength: "262144",
  MaxBurstLength: "1048576",
  InitialR2T: "No",
  ImmediateData: "Yes",
  MaxOutstandingR2T: "1",
  MaxConnections: "1",
  ErrorRecoveryLevel: "0",
  DefaultTime2Wait: "2",
  DefaultTime2Retain: "0",
  DataPDUInOrder: "Yes",
  DataSequenceInOrder: "Yes",
} as const;

interface Pdu {
  readonly header: Uint8Array;
  readonly view: DataView;
  readonly data: Uint8Array;
}

/** A flat LUN in peripheral addressing (SAM-5 4.7). */
export function lunBytes(lun: number): Uint8Array {
  return Uint8Array.from([0, lun, 0, 0, 0, 0, 0, 0]);
}

export class IscsiLogin {
  readonly #output: Output;
  readonly #iqn: string;
  readonly #lun: Uint8Array;
  readonly #index: number;
  #received = new Uint8Array(0);
  #wake: () => void = () => {};
  #closed = false;
  #cmdSn = 1;
  #maxCmdSn = 0;
  #expStatSn = 0;

  constructor(output: Output, path: string, index: number) {
    const match = /^(.+)\/(\d+)$/.exec(path);
    if (match === null) throw new Error(`IQN/LUN expected: ${path}`);
    this.#output = output;
    this.#iqn = match[1]!;
    this.#lun = lunBytes(Number(match[2]));
    this.#index = index;
  }

  data(chunk: Uint8Array): void {
    const all = new Uint8Array(this.#received.byteLength + chunk.byteLength);
    all.set(this.#received);
    all.set(chunk, this.#received.byteLength);
    this.#received = all;
    this.#wake();
  }

  close(): void {
    this.#closed = true;
    this.#wake();
  }

  async run(): Promise<SessionShape> {
    const agreed = await this.#login();
    await this.#untilReady();
    const capacity = await this.#command([0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0], 32);
    const view = new DataView(capacity.data.buffer, capacity.data.byteOffset);
    if (capacity.data.byteLength < 12 || view.getUint32(8) !== blockBytes)
      throw new Error("blocks of 512 bytes expected");
    const number = (key: string, fallback: number) => Number(agreed.get(key) ?? fallback);
    return {
      targetSegmentBytesMax: number("MaxRecvDataSegmentLength", 8192),
      firstBurstBytes: number("FirstBurstLength", 65536),
      immediateData: agreed.get("ImmediateData") !== "No",
      initialR2t: agreed.get("InitialR2T") !== "No",
      volumeBytes: (Number(view.getBigUint64(0)) + 1) * blockBytes,
      cmdSn: this.#cmdSn,
      maxCmdSn: this.#maxCmdSn,
      expStatSn: this.#expStatSn,
    };
  }

  async #login(): Promise<Map<string, string>> {
    const agreed = new Map<string, string>();
    const first = {
      InitiatorName: `iqn.2026-11.bench:load-${process.pid}`,
      TargetName: this.#iqn,
      SessionType: "Normal",
      AuthMethod: "None",
    };
    let stage = 0;
    let text: Readonly<Record<string, string>> = first;
    for (let round = 0; round < 8; round++) {
      const next = stage === 0 ? 1 : 3;
      const reply = await this.#loginStep(stage, next, text);
      for (const pair of new TextDecoder().decode(reply.data).split("\0")) {
        const at = pair.indexOf("=");
        if (at > 0) agreed.set(pair.slice(0, at), pair.slice(at + 1));
      }
      const isTransit = (reply.header[1]! & 0x80) !== 0;
      text = {};
      if (!isTransit) continue;
      if (next === 3) return agreed;
      stage = 1;
      text = offered;
    }
    throw new Error("the login does not end");
  }

  async #loginStep(stage: number, next: number, text: Readonly<Record<string, string>>): Promise<Pdu> {
    const header = new Uint8Array(bhsBytes);
    const view = new DataView(header.buffer);
    header[0] = 0x43;
    header[1] = 0x80 | (stage << 2) | next;
    // A random ISID (RFC 7143 11.12.5), one for each connection: each is a session of its own.
    header[8] = 0x80;
    view.setUint32(9, (process.pid << 8) >>> 0);
    header[13] = this.#index;
    view.setUint32(24, this.#cmdSn);
    view.setUint32(28, this.#expStatSn);
    const words = Object.entries(text).map(([key, value]) => `${key}=${value}\0`);
    const reply = await this.#exchange(header, new TextEncoder().encode(words.join("")));
    if (reply.header[0] !== 0x23 || reply.header[36] !== 0)
      throw new Error(`login refused: ${reply.header[36]}/${reply.header[37]}`);
    return reply;
  }

  /** The first commands of a nexus get its unit attentions. */
  async #untilReady(): Promise<void> {
    for (let round = 0; round < 8; round++) {
      const reply = await this.#command([0], 0, true);
      if (reply.header[0] === 0x21 && reply.header[3] === 0) return;
    }
    throw new Error("the LUN does not become ready");
  }

  /** The data that came, or the response. */
  async #command(cdb: readonly number[], dataInBytes: number, mayFail = false): Promise<Pdu> {
    const header = new Uint8Array(bhsBytes);
    const view = new DataView(header.buffer);
    header[0] = 0x01;
    header[1] = 0x80 | (dataInBytes > 0 ? 0x40 : 0) | 1;
    header.set(this.#lun, 8);
    view.setUint32(16, 0xfffe);
    view.setUint32(20, dataInBytes);
    view.setUint32(24, this.#cmdSn++);
    view.setUint32(28, this.#expStatSn);
    header.set(cdb, 32);
    let reply = await this.#exchange(header, new Uint8Array(0));
    const data = reply;
    // Without a status in it, the response follows.
    if (reply.header[0] === 0x25 && (reply.header[1]! & 1) === 0) reply = await this.#next();
    if (reply.header[3] !== 0 && !mayFail) throw new Error(`SCSI status ${reply.header[3]} for ${cdb[0]}`);
    return data;
  }

  async #exchange(header: Uint8Array, data: Uint8Array): Promise<Pdu> {
    header[5] = data.byteLength >>> 16;
    header[6] = data.byteLength >>> 8;
    header[7] = data.byteLength;
    this.#output.append(header);
    if (data.byteLength > 0) this.#output.append(padded(data));
    this.#output.push();
    return await this.#next();
  }

  /** A PDU other than a ping that wants no answer. */
  async #next(): Promise<Pdu> {
    for (;;) {
      const all = this.#received;
      const data = all.byteLength < bhsBytes ? 0 : (all[5]! << 16) | (all[6]! << 8) | all[7]!;
      const end = bhsBytes + ((data + 3) & ~3);
      if (all.byteLength >= end) {
        this.#received = all.subarray(end);
        const header = all.subarray(0, bhsBytes);
        const view = new DataView(header.buffer, header.byteOffset, bhsBytes);
        this.#maxCmdSn = view.getUint32(32);
        this.#expStatSn = (view.getUint32(24) + 1) >>> 0;
        if (header[0] !== 0x20) return { header, view, data: all.subarray(bhsBytes, bhsBytes + data) };
        continue;
      }
      if (this.#closed) throw new Error("the target closed the connection");
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}

function padded(data: Uint8Array): Uint8Array {
  const out = new Uint8Array((data.byteLength + 3) & ~3);
  out.set(data);
  return out;
}
