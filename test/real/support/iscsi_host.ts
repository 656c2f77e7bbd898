/** An iSCSI host on a socket that sends SCSI commands of its own, several at a time: for what third-party initiators do not show. */
import { createConnection, type Socket } from "node:net";
import { type Answer, Initiator } from "../../unit/support/iscsi_initiator.ts";

const Opcode = { nopIn: 0x20, scsiResponse: 0x21, dataIn: 0x25 } as const;
const statusIsHere = 0x01;
const noTag = 0xffffffff;

export interface Outcome {
  readonly status: number;
  /** `0xKKAAQQ`; 0 without sense. */
  readonly sense: number;
  readonly data: Uint8Array;
}

interface Waiting {
  data: Uint8Array;
  resolve(outcome: Outcome): void;
  reject(error: Error): void;
}

export class IscsiHost {
  readonly #socket: Socket;
  readonly #initiator: Initiator;
  readonly #waiting = new Map<number, Waiting>();
  #loggedIn: ((answer: Answer) => void) | null = null;
  #refused: ((error: Error) => void) | null = null;

  private constructor(socket: Socket) {
    this.#socket = socket;
    const wire = {
      send: (...pieces: Uint8Array[]) => {
        for (const piece of pieces) if (!socket.destroyed) socket.write(piece);
      },
      received: new Uint8Array(0),
    };
    this.#initiator = new Initiator(wire);
    socket.setNoDelay(true);
    socket.on("data", (chunk: Buffer) => {
      wire.received = new Uint8Array(Buffer.concat([wire.received, chunk]));
      for (const answer of this.#initiator.answers()) this.#take(answer);
    });
    // A session that is lost: "close" follows and tells whoever waits.
    socket.on("error", () => {});
    socket.on("close", () => {
      const error = new Error("the session is lost");
      this.#refused?.(error);
      for (const waiting of this.#waiting.values()) waiting.reject(error);
      this.#waiting.clear();
    });
  }

  /** Logs in without CHAP; a refusal throws with the login's status. */
  static async login(portal: string, names: { initiator: string; target: string }): Promise<IscsiHost> {
    const [host, port] = portal.split(":");
    const socket = createConnection({ host: host!, port: Number(port) });
    const session = new IscsiHost(socket);
    const answer = await new Promise<Answer>((resolve, reject) => {
      session.#loggedIn = resolve;
      session.#refused = reject;
      socket.on("connect", () => {
        const keys = { InitiatorName: names.initiator, TargetName: names.target, SessionType: "Normal" };
        session.#initiator.wire.send(session.#initiator.loginPdu(keys));
      });
    });
    session.#refused = null;
    if (answer.loginStatus !== 0) throw new Error(`login refused: 0x${answer.loginStatus.toString(16)}`);
    session.#initiator.expStatSn = answer.statSn + 1;
    return session;
  }

  /** Data for the target goes with the command: at most 8 KiB, the default of what it takes at once. */
  command(
    cdb: readonly number[],
    options: { lun?: number; data?: Uint8Array; readBytes?: number } = {},
  ): Promise<Outcome> {
    const { lun = 0, data = null, readBytes = 0 } = options;
    return new Promise((resolve, reject) => {
      const itt = this.#initiator.itt;
      this.#waiting.set(itt, { data: new Uint8Array(readBytes), resolve, reject });
      this.#initiator.command({
        lun,
        cdb,
        read: readBytes > 0,
        write: data !== null,
        expected: data?.byteLength ?? readBytes,
        ...(data === null ? {} : { data }),
      });
    });
  }

  /** Until no unit attention stands any more. */
  async ready(lun = 0): Promise<void> {
    for (let tries = 0; tries < 8; tries++) {
      const { status } = await this.command([0], { lun });
      if (status === 0) return;
    }
    throw new Error("the unit does not get ready");
  }

  close(): void {
    this.#socket.destroy();
  }

  #take(answer: Answer): void {
    if (this.#loggedIn !== null) {
      const loggedIn = this.#loggedIn;
      this.#loggedIn = null;
      return loggedIn(answer);
    }
    if (answer.opcode === Opcode.nopIn) {
      if (answer.ttt !== noTag) this.#initiator.nop("", { itt: noTag, ttt: answer.ttt, immediate: true });
      return;
    }
    const waiting = this.#waiting.get(answer.itt);
    if (waiting === undefined) return;
    if (answer.opcode === Opcode.dataIn) waiting.data.set(answer.data, answer.u32(40));
    const isLast = answer.opcode === Opcode.scsiResponse || (answer.flags & statusIsHere) !== 0;
    if (!isLast) return;
    this.#initiator.expStatSn = answer.statSn + 1;
    this.#waiting.delete(answer.itt);
    const hasSense = answer.opcode === Opcode.scsiResponse && answer.data.byteLength > 2;
    waiting.resolve({ status: answer.u8(3), sense: hasSense ? answer.sense : 0, data: waiting.data });
  }
}

export const cdbOf = {
  read10: (lba: number, blocks: number) => [0x28, 0, ...be32(lba), 0, blocks >> 8, blocks & 255, 0],
  write10: (lba: number, blocks: number) => [0x2a, 0, ...be32(lba), 0, blocks >> 8, blocks & 255, 0],
  readCapacity16: () => [0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0],
  reportLuns: () => [0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0],
  reserveOut: (action: number, type: number) => [0x5f, action, type, 0, 0, 0, 0, 0, 24, 0],
} as const;

/** PERSISTENT RESERVE OUT's parameter list: two keys, APTPL in the last flags. */
export function reserveList(key: number, newKey: number, aptpl: boolean): Uint8Array {
  const list = new Uint8Array(24);
  list[7] = key;
  list[15] = newKey;
  list[20] = aptpl ? 1 : 0;
  return list;
}

function be32(value: number): number[] {
  return [(value >>> 24) & 255, (value >>> 16) & 255, (value >>> 8) & 255, value & 255];
}
