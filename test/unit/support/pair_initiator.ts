/** A SCSI host of a pair on the mock hardware: one session at a time, to whichever appliance the test wants. */
import { iscsiTargetName } from "../../../firmware/manage/iscsi_name.ts";
import type { ByteStream, StreamHandler } from "../../../hal/api/byte_stream.ts";
import { type Answer, concat, Initiator, type Wire } from "./iscsi_initiator.ts";
import type { PairBench, PairMachine } from "./pair_bench.ts";

export class PairInitiator {
  readonly #bench: PairBench;
  readonly #name: string;
  #initiator: Initiator | null = null;
  readonly #commands = new Map<number, Command>();
  /** How often it was told to look at everything. */
  attentions = 0;
  readonly #managing = new Map<number, Management>();

  constructor(bench: PairBench, name: string) {
    this.#bench = bench;
    this.#name = name;
  }

  /** A new session; its first unit attentions (power on, and what has moved) are taken. */
  login(at: PairMachine): void {
    this.loginAt(`${at.name}:3260`);
  }

  /** As `login`, at a port that may be anybody's. */
  loginAt(address: string): void {
    this.#initiator = null;
    let initiator: Initiator | null = null;
    let isOver = false;
    this.#bench.world.connectHost(
      address,
      (stream) => {
        const wire = new StreamWire(stream, () => {
          isOver = true;
        });
        initiator = new Initiator(wire);
        const keys = { InitiatorName: `iqn.2026-11.test.host:${this.#name}`, TargetName: iscsiTargetName("oak") };
        wire.send(initiator.loginPdu(keys));
        return wire;
      },
      () => {
        isOver = true;
      },
    );
    const answers: Answer[] = [];
    this.#bench.until(`a login at ${address}`, () => {
      answers.push(...(initiator?.answers() ?? []));
      return isOver || answers.length > 0;
    });
    if (initiator === null || answers[0]?.loginStatus !== 0)
      throw new Error(`no login at ${address}: ${answers[0]?.loginStatus}`);
    this.#initiator = initiator;
    while (this.run([0]).sense >> 16 === 6);
  }

  /** Whether the session that was logged in is still there. */
  get isOpen(): boolean {
    return this.#initiator !== null && !(this.#initiator.wire as StreamWire).isClosed;
  }

  /** Sends a command and does not wait. */
  begin(cdb: readonly number[], options: CommandOptions = {}): Command {
    const initiator = this.#initiator!;
    const { data, readBytes, lun = 0 } = options;
    const immediate = data?.subarray(0, immediateBytes);
    const itt = initiator.command({
      cdb,
      lun,
      ...(data === undefined ? {} : { write: true, data: immediate!, expected: data.byteLength }),
      ...(readBytes === undefined ? {} : { read: true, expected: readBytes }),
    });
    const command: Command = { itt, data, received: new Uint8Array(readBytes ?? 0), status: null, sense: 0 };
    this.#commands.set(itt, command);
    return command;
  }

  /** Hears what has come; to be called until a command has its status. */
  hear(): void {
    for (const answer of this.#initiator!.answers()) {
      if (answer.opcode === opcodes.managed) {
        const asked = this.#managing.get(answer.itt);
        if (asked !== undefined) asked.response = answer.u8(2);
        continue;
      }
      if (answer.opcode === opcodes.asyncMessage) this.attentions++;
      const command = this.#commands.get(answer.itt);
      if (command === undefined) continue;
      if (answer.opcode === opcodes.r2t) {
        const [offset, length] = [answer.u32(40), answer.u32(44)];
        const data = command.data!.subarray(offset, offset + length);
        this.#initiator!.dataOut({ itt: command.itt, ttt: answer.ttt, offset, data, final: true });
      } else if (answer.opcode === opcodes.dataIn) {
        command.received.set(answer.data, answer.u32(40));
        if ((answer.flags & 1) !== 0) command.status = answer.u8(3);
      } else if (answer.opcode === opcodes.response) {
        command.status = answer.u8(3);
        if (command.status === 2) command.sense = answer.sense;
      }
      if (command.status !== null) this.#commands.delete(command.itt);
    }
  }

  /** Whether the host reads what comes. */
  set reads(reads: boolean) {
    (this.#initiator!.wire as StreamWire).reads = reads;
  }

  /** Sends what `act` sends in one piece, and the end of the session behind it. */
  logoutBehind(act: () => void): void {
    const initiator = this.#initiator!;
    const wire = initiator.wire as StreamWire;
    wire.isHeld = true;
    act();
    initiator.logout();
    wire.isHeld = false;
    wire.send();
    this.#bench.until("the session has ended", () => !this.isOpen);
  }

  /** Waits a little, as a host does that is told to come again. */
  rest(): void {
    this.#bench.runFor(100);
  }

  /** Task management on LUN 0: its response (RFC 7143 11.6.1). */
  manage(action: number, tag?: number): number {
    const asked = this.beginManage(action, tag);
    this.#bench.until("a task management response", () => {
      this.hear();
      return asked.response !== null;
    });
    return asked.response!;
  }

  /** Asks for task management on LUN 0, and does not wait. */
  beginManage(action: number, tag?: number): Management {
    const itt = this.#initiator!.manage(tag === undefined ? { action } : { action, tag });
    const asked: Management = { response: null };
    this.#managing.set(itt, asked);
    return asked;
  }

  /** Runs one command to its end: status, and the sense key, ASC and ASCQ in one number. */
  run(cdb: readonly number[], data?: Uint8Array, lun = 0): { readonly status: number; readonly sense: number } {
    return this.end(this.begin(cdb, data === undefined ? { lun } : { data, lun }));
  }

  read(cdb: readonly number[], readBytes: number, lun = 0): Uint8Array | null {
    const command = this.begin(cdb, { readBytes, lun });
    return this.end(command).status === 0 ? command.received : null;
  }

  end(command: Command): { readonly status: number; readonly sense: number } {
    this.#bench.until("an answer", () => {
      this.hear();
      return command.status !== null || !this.isOpen;
    });
    if (command.status === null) throw new Error("the session has ended");
    return { status: command.status, sense: command.sense };
  }
}

interface CommandOptions {
  readonly data?: Uint8Array;
  readonly readBytes?: number;
  readonly lun?: number;
}

export interface Command {
  readonly itt: number;
  readonly data: Uint8Array | undefined;
  readonly received: Uint8Array;
  /** null: not answered yet. */
  status: number | null;
  sense: number;
}

export interface Management {
  /** null: not answered yet. */
  response: number | null;
}

const opcodes = { response: 0x21, managed: 0x22, asyncMessage: 0x32, dataIn: 0x25, r2t: 0x31 };
const immediateBytes = 4096;

class StreamWire implements Wire, StreamHandler {
  received = new Uint8Array(0);
  readonly #stream: ByteStream;
  readonly #closed: () => void;
  isClosed = false;
  isHeld = false;
  #unsent = new Uint8Array(0);

  constructor(stream: ByteStream, closed: () => void) {
    this.#stream = stream;
    this.#closed = closed;
  }

  send(...pieces: Uint8Array[]): void {
    this.#unsent = concat([this.#unsent, ...pieces]) as Uint8Array<ArrayBuffer>;
    this.onDrain();
  }

  onData(chunk: Uint8Array): void {
    this.received = concat([this.received, chunk]) as Uint8Array<ArrayBuffer>;
  }

  onDrain(): void {
    if (this.#unsent.byteLength > 0 && !this.isHeld)
      this.#unsent = this.#unsent.slice(this.#stream.write(this.#unsent));
  }

  set reads(reads: boolean) {
    if (reads) this.#stream.resume();
    else this.#stream.pause();
  }

  onEnd(): void {
    this.#stream.end();
  }

  onClose(): void {
    this.isClosed = true;
    this.#closed();
  }
}
