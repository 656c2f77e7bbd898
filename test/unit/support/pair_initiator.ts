/** A SCSI host of a pair on the mock hardware: one session at a time, to whichever appliance the test wants. */
import { iscsiTargetName } from "../../../firmware/manage/iscsi_name.ts";
import type { ByteStream, StreamHandler } from "../../../hal/api/byte_stream.ts";
import { type Answer, concat, Initiator, type Wire } from "./iscsi_initiator.ts";
import type { PairBench, PairMachine } from "./pair_bench.ts";

export class PairInitiator {
  readonly #bench: PairBench;
  readonly #name: string;
  #initiator: Initiator | null = null;

  constructor(bench: PairBench, name: string) {
    this.#bench = bench;
    this.#name = name;
  }

  /** A new session; its first unit attentions (power on, and what has moved) are taken. */
  login(at: PairMachine): void {
    this.#initiator = null;
    let initiator: Initiator | null = null;
    let isOver = false;
    this.#bench.world.connectHost(
      `${at.name}:3260`,
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
    this.#bench.until(`a login at ${at.name}`, () => {
      answers.push(...(initiator?.answers() ?? []));
      return isOver || answers.length > 0;
    });
    if (initiator === null || answers[0]?.loginStatus !== 0) throw new Error(`no login at ${at.name}`);
    this.#initiator = initiator;
    while (this.run([0]).sense >> 16 === 6);
  }

  /** Runs one command to its end: status, and the sense key, ASC and ASCQ in one number. */
  run(cdb: readonly number[], data?: Uint8Array): { readonly status: number; readonly sense: number } {
    const initiator = this.#initiator!;
    const itt = initiator.command({ cdb, ...(data === undefined ? {} : { write: true, data }) });
    let answer: Answer | undefined;
    this.#bench.until("an answer", () => {
      answer = initiator.answers().find((one) => one.itt === itt && one.opcode === 0x21) ?? answer;
      return answer !== undefined;
    });
    const status = answer!.u8(3);
    return { status, sense: status === 2 ? answer!.sense : 0 };
  }
}

class StreamWire implements Wire, StreamHandler {
  received = new Uint8Array(0);
  readonly #stream: ByteStream;
  readonly #closed: () => void;
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
    if (this.#unsent.byteLength > 0) this.#unsent = this.#unsent.slice(this.#stream.write(this.#unsent));
  }

  onEnd(): void {
    this.#stream.end();
  }

  onClose(): void {
    this.#closed();
  }
}
