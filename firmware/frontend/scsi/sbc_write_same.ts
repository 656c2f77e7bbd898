/**
 * WRITE SAME(10) and (16) (SBC-4 5.51, 5.52). Zeros become one zero record, UNMAP one unmap record, whatever their length; a pattern is
 * written out in parts.
 *
 * With UNMAP the range is unmapped and reads as zeros (LBPRZ) whatever the data says, as initiators and their conformance suites expect.
 *
 * Invariant: a pattern's parts share one block of data, so memory does not grow with the range.
 */
import { logicalBlockBytes } from "../../volume/block_request.ts";
import { joined } from "./cdb.ts";
import { badField, type Command, end, endWith, failWith, goOn, good, type Outcome } from "./command.ts";
import { scsiLimits } from "./limits.ts";
import { blocksOf, lbaOf, mayWrite, takeRange, takesProtect } from "./sbc_range.ts";
import type { Standing } from "./standing.ts";

const unmapBit = 0x08;
const anchorBit = 0x10;
const noDataBit = 0x01;

function hasNoData(standing: Standing): boolean {
  return standing.command.cdbBytes === 16 && (standing.task.cdb[1]! & noDataBit) !== 0;
}

function judgeWriteSame(standing: Standing): boolean {
  const { task } = standing;
  const { cdbBytes } = standing.command;
  if (!takesProtect(standing)) return false;
  // There are no anchored blocks here (logical block provisioning page, ANC_SUP 000b).
  if ((task.cdb[1]! & anchorBit) !== 0) return badField(standing, 1, 4);
  // LBDATA and PBDATA are obsolete (SBC-2).
  if (cdbBytes === 10 && (task.cdb[1]! & 0x06) !== 0) return badField(standing, 1, 2);
  if (cdbBytes === 16 && (task.cdb[1]! & 0x06) !== 0) return badField(standing, 1, 2);
  const startLba = lbaOf(task.cdb, cdbBytes);
  const asked = blocksOf(task.cdb, cdbBytes);
  // 0: to the end of the medium (block limits page, WSNZ 0).
  const blockCount = asked === 0 ? Math.max(0, standing.volume.blockCount() - startLba) : asked;
  if (!takeRange(standing, startLba, blockCount, scsiLimits.writeSameBlocksMax)) return false;
  if (!mayWrite(standing)) return false;
  if (hasNoData(standing)) return true;
  // One logical block, neither more nor less.
  if (task.dataOutBytesMax !== logicalBlockBytes) return badField(standing, cdbBytes === 10 ? 7 : 10);
  task.dataOutBytes = logicalBlockBytes;
  return true;
}

function runWriteSame(standing: Standing): Outcome {
  const { task, blockCount } = standing;
  if (blockCount === 0) return good(standing);
  const block = hasNoData(standing) ? null : joined(task.dataOut);
  if ((task.cdb[1]! & unmapBit) !== 0) {
    standing.kind = "unmap";
    standing.submit(endWith);
    return "pending";
  }
  if (block === null || block.every((byte) => byte === 0)) {
    standing.kind = "zero";
    standing.submit(endWith);
    return "pending";
  }
  const part = Array<Uint8Array>(Math.min(blockCount, scsiLimits.writeSamePartBlocks)).fill(block);
  standing.notes = { startLba: standing.startLba, left: blockCount, part } satisfies Pattern;
  writePart(standing);
  return "pending";
}

interface Pattern {
  startLba: number;
  left: number;
  readonly part: readonly Uint8Array[];
}

function writePart(standing: Standing): void {
  const notes = standing.notes as Pattern;
  const blocks = Math.min(notes.left, notes.part.length);
  standing.kind = "write";
  standing.startLba = notes.startLba;
  standing.blockCount = blocks;
  standing.payload = blocks === notes.part.length ? notes.part : notes.part.slice(0, blocks);
  standing.submit((written, error) => {
    notes.startLba += blocks;
    notes.left -= blocks;
    if (error !== null) failWith(written, error);
    else good(written);
    if (error !== null || notes.left === 0) return end(written);
    goOn(written, writePart);
  });
}

const writeSame = {
  access: "change",
  medium: true,
  timeouts: { nominalS: 0, recommendedS: 120 },
  judge: judgeWriteSame,
  run: runWriteSame,
} as const;

export const writeSameCommands: readonly Command[] = [
  {
    name: "WRITE SAME(10)",
    opcode: 0x41,
    serviceAction: null,
    cdbBytes: 10,
    usage: [0x41, 0xf8, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0],
    ...writeSame,
  },
  {
    name: "WRITE SAME(16)",
    opcode: 0x93,
    serviceAction: null,
    cdbBytes: 16,
    usage: [0x93, 0xf9, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0],
    ...writeSame,
  },
];
