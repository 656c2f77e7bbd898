/**
 * What an initiator is to hear of logical units that come to be served elsewhere, and that their next device server cannot know: it has
 * seen neither what the initiator knew, nor what its former one had still to tell (SAM-5 5.14).
 *
 * - The size is another than the initiator knows: CAPACITY DATA HAS CHANGED.
 * - RESERVE (SPC-2 5.5.1) of this initiator has ended with its former nexus: I_T NEXUS LOSS OCCURRED.
 */
import { Asc } from "../frontend/scsi/sense.ts";
import { ScsiStatus, type ScsiTask } from "../frontend/scsi/task.ts";
import type { LunInfo } from "../volume/host_access.ts";

/** INQUIRY, REPORT LUNS and REQUEST SENSE are executed whatever waits to be told. */
const ignoreAttention = new Set([0x12, 0xa0, 0x03]);
const readCapacity = new Set([0x25, 0x9e]);
const reserve = new Set([0x16, 0x56]);
const release = new Set([0x17, 0x57]);
const telling = new Set([...readCapacity, ...reserve, ...release]);

interface Known {
  readonly uuid: string;
  /** The size that the initiator knows of, in blocks. */
  blockCount: number;
  isReserved: boolean;
  /** Not told yet. */
  readonly owed: Set<number>;
}

export class UnitNews {
  readonly #units = new Map<number, Known>();
  /** Asked for each command. */
  #owes = false;

  /** A seat serves these from now on; `isContinued`: the initiator has been served by another one before. */
  served(luns: readonly LunInfo[], isContinued: boolean): void {
    for (const { lun, uuid, blockCount } of luns) {
      if (blockCount === undefined) continue;
      const known = this.#units.get(lun);
      if (!isContinued || known?.uuid !== uuid) {
        this.#units.set(lun, { uuid, blockCount, isReserved: false, owed: new Set() });
        continue;
      }
      if (known.blockCount !== blockCount) known.owed.add(Asc.capacityDataHasChanged);
      if (known.isReserved) known.owed.add(Asc.nexusLoss);
      if (known.owed.size > 0) this.#owes = true;
      known.blockCount = blockCount;
      known.isReserved = false;
    }
  }

  /** What a command is to be answered with instead; null: nothing. */
  take(lun: number, opcode: number): number | null {
    if (!this.#owes) return null;
    const owed = this.#units.get(lun)?.owed;
    if (owed === undefined || owed.size === 0 || ignoreAttention.has(opcode)) return null;
    const [asc] = owed;
    owed.delete(asc!);
    this.#owes = [...this.#units.values()].some((unit) => unit.owed.size > 0);
    return asc!;
  }

  /** Whether the answer may say something that is to be known: most do not. */
  isTelling({ cdb, status }: ScsiTask): boolean {
    return status === ScsiStatus.good ? telling.has(cdb[0]!) : status === ScsiStatus.checkCondition;
  }

  /** A command has been answered. `now`: the unit as it is. */
  answered(lun: number, { cdb, status, sense }: ScsiTask, now: () => LunInfo | undefined): void {
    const opcode = cdb[0]!;
    const asc = status === ScsiStatus.checkCondition ? ascIn(sense) : 0;
    const isReset = asc >> 8 === Asc.powerOnOrReset >> 8;
    const isGood = status === ScsiStatus.good;
    const tellsSize = isReset || asc === Asc.capacityDataHasChanged || (isGood && readCapacity.has(opcode));
    const changesReserve = isGood && (reserve.has(opcode) || release.has(opcode));
    if (!tellsSize && !changesReserve) return;
    const known = this.#units.get(lun);
    if (known === undefined) return;
    if (tellsSize) known.blockCount = now()?.blockCount ?? known.blockCount;
    if (changesReserve || isReset) known.isReserved = isGood && reserve.has(opcode);
  }
}

/** ASC and ASCQ; fixed or descriptor format (SPC-5 4.4). */
function ascIn(sense: Uint8Array): number {
  const at = (sense[0]! & 0x7f) >= 0x72 ? 2 : 12;
  return sense.byteLength < at + 2 ? 0 : (sense[at]! << 8) | sense[at + 1]!;
}
