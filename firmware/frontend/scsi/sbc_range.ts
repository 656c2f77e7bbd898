/** The range of a medium access command, and what is checked of it before data is accepted (SBC-4 4.3, 5.x). */
import { logicalBlockBytes } from "../../volume/block_request.ts";
import { u16, u24, u32, u64 } from "./cdb.ts";
import { badField, refuse } from "./command.ts";
import { Asc, SenseKey } from "./sense.ts";
import type { Standing } from "./standing.ts";

/** Where a command of 6, 10, 12 or 16 bytes has its LBA. */
export function lbaOf(cdb: Uint8Array, cdbBytes: number): number {
  if (cdbBytes === 6) return u24(cdb, 1) & 0x1fffff;
  return cdbBytes === 16 ? u64(cdb, 2) : u32(cdb, 2);
}

/** The number of logical blocks; for 6 bytes 0 means 256 (SBC-4 5.17). */
export function blocksOf(cdb: Uint8Array, cdbBytes: number): number {
  if (cdbBytes === 6) return cdb[4] === 0 ? 256 : cdb[4]!;
  if (cdbBytes === 10) return u16(cdb, 7);
  return u32(cdb, cdbBytes === 12 ? 6 : 10);
}

/** Puts the range into the block request; false when it lies beyond the volume, or is longer than `blocksMax`. */
export function takeRange(standing: Standing, startLba: number, blockCount: number, blocksMax: number): boolean {
  // Infinity, for what no number holds, fails here too.
  if (!(startLba + blockCount <= standing.volume.blockCount()))
    return refuse(standing, SenseKey.illegalRequest, Asc.lbaOutOfRange);
  if (blockCount > blocksMax) return badField(standing, standing.command.cdbBytes === 10 ? 7 : 10);
  standing.startLba = startLba;
  standing.blockCount = blockCount;
  return true;
}

/** The unit has no protection information: RDPROTECT, WRPROTECT and VRPROTECT must be zero (SBC-4 4.21). */
export function takesProtect(standing: Standing): boolean {
  if ((standing.task.cdb[1]! & 0xe0) === 0) return true;
  return badField(standing, 1, 7);
}

/** Whether this initiator may write here; a golden copy and a read-only mapping may not be written (27h/00h). */
export function mayWrite(standing: Standing): boolean {
  if (standing.access!.readOnly) return refuse(standing, SenseKey.dataProtect, Asc.writeProtected);
  if (standing.unit.parameters.softwareWriteProtect)
    return refuse(standing, SenseKey.dataProtect, Asc.softwareWriteProtected);
  return true;
}

/** The whole blocks among the data that came: an initiator may have announced less than its command takes. */
export function wholeBlocks(standing: Standing): number {
  const { task } = standing;
  return Math.floor(Math.min(task.dataOutBytes, task.dataOutBytesMax) / logicalBlockBytes);
}
