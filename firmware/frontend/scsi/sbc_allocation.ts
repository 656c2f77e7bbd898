/** UNMAP (SBC-4 5.35) and GET LBA STATUS(16) (SBC-4 5.6). */

import type { BlockExtent } from "../../volume/block_request.ts";
import { joined, putU32, putU64, u16, u32, u64 } from "./cdb.ts";
import {
  answer,
  badField,
  badParameter,
  type Command,
  end,
  fail,
  failWith,
  goOn,
  good,
  type Outcome,
  refuse,
} from "./command.ts";
import { scsiLimits } from "./limits.ts";
import { mayWrite, takeRange } from "./sbc_range.ts";
import { Asc, SenseKey } from "./sense.ts";
import type { Standing } from "./standing.ts";

const headerBytes = 8;
const descriptorBytes = 16;

function judgeUnmap(standing: Standing): boolean {
  const { task } = standing;
  // ANCHOR: there are no anchored blocks here.
  if ((task.cdb[1]! & 0x01) !== 0) return badField(standing, 1, 0);
  if (!mayWrite(standing)) return false;
  task.dataOutBytes = u16(task.cdb, 7);
  // A list that is too short for its header, but is there, is an error (SBC-4 5.35.2).
  if (task.dataOutBytes > 0 && task.dataOutBytes < headerBytes)
    return refuse(standing, SenseKey.illegalRequest, Asc.parameterListLengthError);
  return true;
}

interface Extent {
  readonly startLba: number;
  readonly blockCount: number;
}

function runUnmap(standing: Standing): Outcome {
  const { task } = standing;
  if (task.dataOutBytes === 0) return good(standing);
  const list = joined(task.dataOut);
  if (list.byteLength < headerBytes) return fail(standing, SenseKey.illegalRequest, Asc.parameterListLengthError);
  // What the list claims beyond what came is not there; a last descriptor that is not whole is ignored (SBC-4 5.35.2).
  const claimed = Math.min(u16(list, 2), list.byteLength - headerBytes);
  const count = Math.floor(claimed / descriptorBytes);
  if (count > scsiLimits.unmapDescriptorsMax) return badParameter(standing, 2);
  const extents: Extent[] = [];
  let total = 0;
  for (let index = 0; index < count; index++) {
    const at = headerBytes + index * descriptorBytes;
    const startLba = u64(list, at);
    const blockCount = u32(list, at + 8);
    if (!(startLba + blockCount <= standing.volume.blockCount()))
      return fail(standing, SenseKey.illegalRequest, Asc.lbaOutOfRange);
    total += blockCount;
    if (blockCount > 0) extents.push({ startLba, blockCount });
  }
  if (total > scsiLimits.unmapBlocksMax) return badParameter(standing, headerBytes + 8);
  standing.notes = extents.values();
  unmapNext(standing);
  return "pending";
}

function unmapNext(standing: Standing): void {
  const next = (standing.notes as IterableIterator<Extent>).next();
  if (next.done === true) {
    good(standing);
    return end(standing);
  }
  standing.kind = "unmap";
  standing.startLba = next.value.startLba;
  standing.blockCount = next.value.blockCount;
  standing.submit((unmapped, error) => {
    if (error === null) return goOn(unmapped, unmapNext);
    failWith(unmapped, error);
    end(unmapped);
  });
}

const statusDescriptorBytes = 16;
const provisioning = { mapped: 0, deallocated: 1 } as const;

function judgeLbaStatus(standing: Standing): boolean {
  const { cdb } = standing.task;
  const startLba = u64(cdb, 2);
  const blocks = standing.volume.blockCount();
  if (!(startLba < blocks)) return refuse(standing, SenseKey.illegalRequest, Asc.lbaOutOfRange);
  return takeRange(standing, startLba, blocks - startLba, Number.POSITIVE_INFINITY);
}

function runLbaStatus(standing: Standing): Outcome {
  const allocationBytes = u32(standing.task.cdb, 10);
  standing.kind = "status";
  standing.submit((found, error) => {
    if (error !== null) {
      failWith(found, error);
      return end(found);
    }
    // As many as fit, at least one; the rest is asked for by the next command.
    const room = Math.max(1, Math.floor((allocationBytes - headerBytes) / statusDescriptorBytes));
    const extents = merged(found.extents).slice(0, room);
    const bytes = new Uint8Array(headerBytes + extents.length * statusDescriptorBytes);
    putU32(bytes, 0, bytes.byteLength - 4);
    let lba = found.startLba;
    for (const [index, extent] of extents.entries()) {
      const at = headerBytes + index * statusDescriptorBytes;
      putU64(bytes, at, lba);
      putU32(bytes, at + 8, extent.blockCount);
      bytes[at + 12] = extent.hole ? provisioning.deallocated : provisioning.mapped;
      lba += extent.blockCount;
    }
    answer(found, bytes, allocationBytes);
    end(found);
  });
  return "pending";
}

/** Adjoining extents of one kind are one. */
function merged(extents: readonly BlockExtent[]): BlockExtent[] {
  const result: BlockExtent[] = [];
  for (const extent of extents) {
    const last = result.at(-1);
    if (last?.hole === extent.hole) last.blockCount += extent.blockCount;
    else result.push({ ...extent });
  }
  return result;
}

export const blockAllocationCommands: readonly Command[] = [
  {
    name: "UNMAP",
    opcode: 0x42,
    serviceAction: null,
    cdbBytes: 10,
    usage: [0x42, 0x01, 0, 0, 0, 0, 0, 0xff, 0xff, 0],
    access: "change",
    medium: true,
    judge: judgeUnmap,
    run: runUnmap,
  },
  {
    name: "GET LBA STATUS(16)",
    opcode: 0x9e,
    serviceAction: 0x12,
    cdbBytes: 16,
    usage: [0x9e, 0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0],
    access: "look",
    medium: true,
    judge: judgeLbaStatus,
    run: runLbaStatus,
  },
];
