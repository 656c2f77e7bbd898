/**
 * One LUN of one nexus: the mapping, the volume when it is open, and the unit attentions that wait for this initiator (SAM-5 5.14).
 *
 * Invariants:
 * - The volume is opened once, at the first command that needs it, and closed with the nexus or the mapping.
 * - One attention per cause waits, in the order in which they came about; the oldest is told first.
 */
import type { BlockTarget } from "../../volume/block_request.ts";
import type { LunInfo } from "../../volume/host_access.ts";
import { scsiLimits } from "./limits.ts";
import type { LogicalUnit } from "./logical_unit.ts";
import type { ScsiNexus } from "./nexus.ts";
import { Asc } from "./sense.ts";

export class UnitAccess {
  info: LunInfo;
  readonly unit: LogicalUnit;
  readonly nexus: ScsiNexus;
  /** null: not open, or not any more. */
  target: BlockTarget | null = null;
  /** The size that this initiator knows of, in blocks: at the opening, by READ CAPACITY, or by a unit attention. */
  toldBlocks = 0;
  readonly #attentions: number[] = [];

  constructor(info: LunInfo, unit: LogicalUnit, nexus: ScsiNexus) {
    this.info = info;
    this.unit = unit;
    this.nexus = nexus;
  }

  /** The mapping or the nexus is gone: nothing more goes down through it. */
  close(): void {
    this.unit.accesses.delete(this);
    this.target?.close();
    this.target = null;
  }

  get lun(): number {
    return this.info.lun;
  }

  /** Whether this initiator may not write here, for whatever reason. */
  get readOnly(): boolean {
    return this.info.readOnly || this.target?.readOnly() === true;
  }

  get hasAttention(): boolean {
    return this.#attentions.length > 0;
  }

  establish(asc: number): void {
    if (this.#attentions.includes(asc)) return;
    // What tells of a reset makes everything before it superfluous (SAM-5 5.14.2).
    if (asc === Asc.powerOnOrReset || asc === Asc.logicalUnitReset) this.#attentions.length = 0;
    if (this.#attentions.length === scsiLimits.attentionsMax) this.#attentions.shift();
    this.#attentions.push(asc);
  }

  /** The oldest attention, which has been told with this; null: none waits. */
  takeAttention(): number | null {
    return this.#attentions.shift() ?? null;
  }

  /** REPORT LUNS has told (SPC-5 6.33). */
  forgetAttention(asc: number): void {
    const at = this.#attentions.indexOf(asc);
    if (at >= 0) this.#attentions.splice(at, 1);
  }
}
