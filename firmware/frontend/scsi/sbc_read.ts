/** READ and PRE-FETCH in all sizes (SBC-4 5.14 to 5.21), READ CAPACITY (5.22, 5.23), READ DEFECT DATA (5.24, 5.25). */
import { logicalBlockBytes } from "../../volume/block_request.ts";
import { putU32, putU64, u16, u32 } from "./cdb.ts";
import { answer, badField, type Command, good, type Outcome, refuse } from "./command.ts";
import { scsiLimits } from "./limits.ts";
import { blocksOf, lbaOf, takeRange, takesProtect } from "./sbc_range.ts";
import { Asc, SenseKey } from "./sense.ts";
import type { Standing } from "./standing.ts";
import { ScsiStatus } from "./task.ts";

function judgeRead(standing: Standing): boolean {
  const { cdb } = standing.task;
  const { cdbBytes } = standing.command;
  if (cdbBytes !== 6 && !takesProtect(standing)) return false;
  return takeRange(standing, lbaOf(cdb, cdbBytes), blocksOf(cdb, cdbBytes), scsiLimits.transferBlocksMax);
}

function runRead(standing: Standing): Outcome {
  const { task, blockCount } = standing;
  if (blockCount === 0) return good(standing);
  const { medium } = task;
  medium.target = standing.volume;
  medium.startLba = standing.startLba;
  medium.blockCount = blockCount;
  task.dataInBytes = blockCount * logicalBlockBytes;
  return "reads";
}

function judgePreFetch(standing: Standing): boolean {
  const { cdb } = standing.task;
  const { cdbBytes } = standing.command;
  // Nothing is transferred, so no length is too long.
  return takeRange(standing, lbaOf(cdb, cdbBytes), blocksOf(cdb, cdbBytes), Number.POSITIVE_INFINITY);
}

/** The array's caches are its own matter: all of it counts as fitting (SBC-4 5.10: CONDITION MET). */
function runPreFetch(standing: Standing): Outcome {
  good(standing);
  standing.task.status = ScsiStatus.conditionMet;
  return "done";
}

function runReadCapacity10(standing: Standing): Outcome {
  const { cdb } = standing.task;
  const isPartial = (cdb[8]! & 1) !== 0;
  // Without PMI the LBA must be zero (SBC-3 5.16.1).
  if (!isPartial && u32(cdb, 2) !== 0) {
    badField(standing, 2, 7);
    return "done";
  }
  const bytes = new Uint8Array(8);
  const blocks = standing.volume.blockCount();
  standing.access!.toldBlocks = blocks;
  putU32(bytes, 0, Math.min(blocks - 1, 0xffffffff));
  putU32(bytes, 4, logicalBlockBytes);
  return answer(standing, bytes, bytes.byteLength);
}

/** 4 KiB physical blocks: 2^3 logical ones (SBC-4 5.23.2). */
const physicalExponent = 3;

function runReadCapacity16(standing: Standing): Outcome {
  const { cdb } = standing.task;
  const isPartial = (cdb[14]! & 1) !== 0;
  if (!isPartial && (u32(cdb, 2) !== 0 || u32(cdb, 6) !== 0)) {
    badField(standing, 2, 7);
    return "done";
  }
  const bytes = new Uint8Array(32);
  const blocks = standing.volume.blockCount();
  standing.access!.toldBlocks = blocks;
  putU64(bytes, 0, blocks - 1);
  putU32(bytes, 8, logicalBlockBytes);
  bytes[13] = physicalExponent;
  // LBPME and LBPRZ: thin, and unmapped blocks read as zeros.
  bytes[14] = 0xc0;
  return answer(standing, bytes, u32(cdb, 10));
}

function runReadDefectData10(standing: Standing): Outcome {
  const { cdb } = standing.task;
  const bytes = new Uint8Array(4);
  // No list of either kind: neither PLISTV nor GLISTV, in the format that was asked for.
  bytes[1] = cdb[2]! & 0x07;
  return answer(standing, bytes, u16(cdb, 7));
}

function runReadDefectData12(standing: Standing): Outcome {
  const { cdb } = standing.task;
  const bytes = new Uint8Array(8);
  bytes[1] = cdb[1]! & 0x07;
  return answer(standing, bytes, u32(cdb, 6));
}

function judgeReadOnlyMedium(standing: Standing): boolean {
  return standing.volume.blockCount() > 0 || refuse(standing, SenseKey.notReady, Asc.notReadyCause);
}

const read = { access: "look", medium: true, judge: judgeRead, run: runRead } as const;
const preFetch = { access: "look", medium: true, judge: judgePreFetch, run: runPreFetch } as const;

export const blockReadCommands: readonly Command[] = [
  {
    name: "READ(6)",
    opcode: 0x08,
    serviceAction: null,
    cdbBytes: 6,
    usage: [0x08, 0x1f, 0xff, 0xff, 0xff, 0],
    ...read,
  },
  {
    name: "READ(10)",
    opcode: 0x28,
    serviceAction: null,
    cdbBytes: 10,
    usage: [0x28, 0xfa, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0],
    ...read,
  },
  {
    name: "READ(12)",
    opcode: 0xa8,
    serviceAction: null,
    cdbBytes: 12,
    usage: [0xa8, 0xfa, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0],
    ...read,
  },
  {
    name: "READ(16)",
    opcode: 0x88,
    serviceAction: null,
    cdbBytes: 16,
    usage: [0x88, 0xfa, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0],
    ...read,
  },
  {
    name: "PRE-FETCH(10)",
    opcode: 0x34,
    serviceAction: null,
    cdbBytes: 10,
    usage: [0x34, 0x02, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0],
    ...preFetch,
  },
  {
    name: "PRE-FETCH(16)",
    opcode: 0x90,
    serviceAction: null,
    cdbBytes: 16,
    usage: [0x90, 0x02, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0],
    ...preFetch,
  },
  {
    name: "READ CAPACITY(10)",
    opcode: 0x25,
    serviceAction: null,
    cdbBytes: 10,
    usage: [0x25, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0x01, 0],
    access: "free",
    medium: true,
    judge: judgeReadOnlyMedium,
    run: runReadCapacity10,
  },
  {
    name: "READ CAPACITY(16)",
    opcode: 0x9e,
    serviceAction: 0x10,
    cdbBytes: 16,
    usage: [0x9e, 0x10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0],
    access: "free",
    medium: true,
    judge: judgeReadOnlyMedium,
    run: runReadCapacity16,
  },
  {
    name: "READ DEFECT DATA(10)",
    opcode: 0x37,
    serviceAction: null,
    cdbBytes: 10,
    usage: [0x37, 0, 0x1f, 0, 0, 0, 0, 0xff, 0xff, 0],
    access: "free",
    medium: true,
    run: runReadDefectData10,
  },
  {
    name: "READ DEFECT DATA(12)",
    opcode: 0xb7,
    serviceAction: null,
    cdbBytes: 12,
    usage: [0xb7, 0x1f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0],
    access: "free",
    medium: true,
    run: runReadDefectData12,
  },
];
