/**
 * What a read may find. Every block's writes are numbered, one at a time in flight, and stamped with their numbers sector by sector.
 *
 * A read finds at least the newest write that was acknowledged, and at least the newest that was read, when it was asked; at most
 * the newest that was sent when it was answered.
 */
import { asBuffer, sectorBytes, stampAt, stampSectors } from "../../../test/sim/stamp.ts";

export interface Violations {
  /** Acknowledged, and not there at the end. */
  readonly lostWrites: number;
  /** Older than what was acknowledged or read before. */
  readonly staleReads: number;
  /** Never written to this place. */
  readonly wrongBytes: number;
}

/** So many violations are told in words. */
const toldMax = 20;

export class BlockNumbers {
  lostWrites = 0;
  staleReads = 0;
  wrongBytes = 0;
  readonly told: string[] = [];
  readonly #sectors: number;
  /** The same in every stamp of this load: what another one has left is not taken for its own. */
  readonly #load: number;
  readonly #sent: Uint32Array;
  readonly #acked: Uint32Array;
  readonly #read: Uint32Array;
  readonly #isWriting: Uint8Array;

  constructor(blocks: number, blockBytes: number, load: number) {
    this.#sectors = blockBytes / sectorBytes;
    this.#load = load;
    this.#sent = new Uint32Array(blocks);
    this.#acked = new Uint32Array(blocks);
    this.#read = new Uint32Array(blocks);
    this.#isWriting = new Uint8Array(blocks);
  }

  get violations(): Violations {
    return { lostWrites: this.lostWrites, staleReads: this.staleReads, wrongBytes: this.wrongBytes };
  }

  isWriting(block: number): boolean {
    return this.#isWriting[block] === 1;
  }

  /** Fills `payload` with the block's next write. */
  send(block: number, payload: Uint8Array): void {
    this.#isWriting[block] = 1;
    this.#sent[block]!++;
    stampSectors(payload, this.#sent[block]!, this.#load, block * this.#sectors);
  }

  acknowledge(block: number): void {
    this.#isWriting[block] = 0;
    this.#acked[block] = this.#sent[block]!;
  }

  /** What a read that is asked now has to find at least. */
  floor(block: number): number {
    return Math.max(this.#acked[block]!, this.#read[block]!);
  }

  /** `isFinal`: what is missing now is lost. */
  judge(block: number, data: Uint8Array, floor: number, isFinal: boolean): void {
    const bytes = asBuffer(data);
    let oldest = Number.POSITIVE_INFINITY;
    let newest = -1;
    for (let sector = 0; sector < this.#sectors; sector++) {
      const found = stampAt(bytes, sector * sectorBytes, this.#load, block * this.#sectors + sector);
      oldest = Math.min(oldest, found);
      newest = Math.max(newest, found);
    }
    const acked = this.#acked[block]!;
    if (oldest < 0 || newest > this.#sent[block]!) {
      this.wrongBytes++;
      this.#tell(`block ${block} holds what was never written there (${bytes.subarray(0, 16).toString("hex")})`);
    } else if (isFinal && oldest < acked) {
      this.lostWrites++;
      this.#tell(`block ${block} holds write ${oldest} at the end; write ${acked} was acknowledged`);
    } else if (oldest < floor) {
      this.staleReads++;
      this.#tell(`block ${block} held write ${oldest}; write ${floor} had been acknowledged or read before`);
    }
    if (oldest > this.#read[block]!) this.#read[block] = oldest;
  }

  #tell(text: string): void {
    if (this.told.length < toldMax) this.told.push(text);
  }
}
