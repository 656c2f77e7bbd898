/**
 * WRITE in all sizes (SBC-4 5.40 to 5.44), WRITE AND VERIFY (5.46 to 5.48), WRITE ATOMIC(16) (5.49), COMPARE AND WRITE (5.3), ORWRITE(16)
 * (5.9), SYNCHRONIZE CACHE (5.32, 5.33).
 *
 * Everything acknowledged is durable (WCE = 0), so FUA asks for nothing more; data is checksummed on admission and its checksum
 * verified at each read, which is what WRITE AND VERIFY's medium verification asks for.
 */
import { logicalBlockBytes } from "../../volume/block_request.ts";
import { u16 } from "./cdb.ts";
import { badField, type Command, endWith, good, type Outcome } from "./command.ts";
import { scsiLimits } from "./limits.ts";
import { blocksOf, lbaOf, mayWrite, takeRange, takesProtect, wholeBlocks } from "./sbc_range.ts";
import type { Standing } from "./standing.ts";

function takesWrite(standing: Standing, blockCount: number, blocksMax: number): boolean {
  const { cdb } = standing.task;
  const { cdbBytes } = standing.command;
  if (cdbBytes !== 6 && !takesProtect(standing)) return false;
  if (!takeRange(standing, lbaOf(cdb, cdbBytes), blockCount, blocksMax)) return false;
  if (!mayWrite(standing)) return false;
  standing.task.dataOutBytes = blockCount * logicalBlockBytes;
  return true;
}

function judgeWrite(standing: Standing): boolean {
  const { cdb } = standing.task;
  return takesWrite(standing, blocksOf(cdb, standing.command.cdbBytes), scsiLimits.transferBlocksMax);
}

/** An initiator that announced less data than its command takes writes the blocks for which it has sent all (RFC 7143 11.4.5.1). */
function runWrite(standing: Standing): Outcome {
  const blockCount = wholeBlocks(standing);
  if (blockCount === 0) return good(standing);
  standing.kind = "write";
  standing.blockCount = blockCount;
  const { dataOut } = standing.task;
  standing.payload = standing.task.dataOutBytesMax < standing.task.dataOutBytes ? cut(dataOut, blockCount) : dataOut;
  standing.submit(endWith);
  return "pending";
}

/** Without the block of which only a part has come. */
function cut(pieces: readonly Uint8Array[], blockCount: number): readonly Uint8Array[] {
  const kept: Uint8Array[] = [];
  let left = blockCount * logicalBlockBytes;
  for (const piece of pieces) {
    if (left === 0) break;
    const part = piece.subarray(0, left);
    kept.push(part);
    left -= part.byteLength;
  }
  return kept;
}

function judgeWriteAndVerify(standing: Standing): boolean {
  // BYTCHK 10b is reserved for these commands (SBC-4 5.46).
  if ((standing.task.cdb[1]! & 0x06) === 0x04) return badField(standing, 1, 2);
  return judgeWrite(standing);
}

function judgeAtomic(standing: Standing): boolean {
  const { cdb } = standing.task;
  // ATOMIC BOUNDARY must be zero: no boundaries are offered (block limits page).
  if (u16(cdb, 10) !== 0) return badField(standing, 10, 7);
  if (!takesWrite(standing, u16(cdb, 12), standing.volume.atomicBlocksMax())) return false;
  if (standing.startLba % scsiLimits.atomicBlocks !== 0) return badField(standing, 2, 7);
  return standing.blockCount % scsiLimits.atomicBlocks === 0 || badField(standing, 12, 7);
}

function runAtomic(standing: Standing): Outcome {
  standing.atomic = true;
  return runWrite(standing);
}

function judgeCompareAndWrite(standing: Standing): boolean {
  const blockCount = standing.task.cdb[13]!;
  const blocksMax = Math.min(scsiLimits.compareBlocksMax, standing.volume.atomicBlocksMax());
  if (!takesWrite(standing, blockCount, blocksMax)) return false;
  return takesExactly(standing, 2 * blockCount * logicalBlockBytes);
}

/** What must happen whole is not done with more or less data than its command says. */
function takesExactly(standing: Standing, dataBytes: number): boolean {
  if (standing.task.dataOutBytesMax !== dataBytes) return badField(standing, 13);
  standing.task.dataOutBytes = dataBytes;
  return true;
}

function runCompareAndWrite(standing: Standing): Outcome {
  return runUpdate(standing, "compare-write");
}

function judgeOrWrite(standing: Standing): boolean {
  const { cdb } = standing.task;
  const blockCount = blocksOf(cdb, 16);
  if (!takesWrite(standing, blockCount, standing.volume.atomicBlocksMax())) return false;
  return takesExactly(standing, blockCount * logicalBlockBytes);
}

function runOrWrite(standing: Standing): Outcome {
  return runUpdate(standing, "or-write");
}

function runUpdate(standing: Standing, kind: "compare-write" | "or-write"): Outcome {
  if (standing.blockCount === 0) return good(standing);
  standing.kind = kind;
  standing.payload = standing.task.dataOut;
  standing.submit(endWith);
  return "pending";
}

function judgeSynchronize(standing: Standing): boolean {
  const { cdb } = standing.task;
  const { cdbBytes } = standing.command;
  return takeRange(standing, lbaOf(cdb, cdbBytes), blocksOf(cdb, cdbBytes), Number.POSITIVE_INFINITY);
}

/** Also with IMMED the status waits: it is never long, and the medium is in order when it comes. */
function runSynchronize(standing: Standing): Outcome {
  standing.kind = "flush";
  standing.submit(endWith);
  return "pending";
}

const writing = { access: "change", medium: true } as const;
const write = { ...writing, judge: judgeWrite, run: runWrite } as const;
const writeAndVerify = { ...writing, judge: judgeWriteAndVerify, run: runWrite } as const;
const synchronize = { ...writing, judge: judgeSynchronize, run: runSynchronize } as const;
const lba64 = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];

export const blockWriteCommands: readonly Command[] = [
  {
    name: "WRITE(6)",
    opcode: 0x0a,
    serviceAction: null,
    cdbBytes: 6,
    usage: [0x0a, 0x1f, 0xff, 0xff, 0xff, 0],
    ...write,
  },
  {
    name: "WRITE(10)",
    opcode: 0x2a,
    serviceAction: null,
    cdbBytes: 10,
    usage: [0x2a, 0xfa, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0],
    ...write,
  },
  {
    name: "WRITE(12)",
    opcode: 0xaa,
    serviceAction: null,
    cdbBytes: 12,
    usage: [0xaa, 0xfa, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0],
    ...write,
  },
  {
    name: "WRITE(16)",
    opcode: 0x8a,
    serviceAction: null,
    cdbBytes: 16,
    usage: [0x8a, 0xfa, ...lba64, 0xff, 0xff, 0xff, 0xff, 0, 0],
    ...write,
  },
  {
    name: "WRITE AND VERIFY(10)",
    opcode: 0x2e,
    serviceAction: null,
    cdbBytes: 10,
    usage: [0x2e, 0xf6, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0],
    ...writeAndVerify,
  },
  {
    name: "WRITE AND VERIFY(12)",
    opcode: 0xae,
    serviceAction: null,
    cdbBytes: 12,
    usage: [0xae, 0xf6, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0],
    ...writeAndVerify,
  },
  {
    name: "WRITE AND VERIFY(16)",
    opcode: 0x8e,
    serviceAction: null,
    cdbBytes: 16,
    usage: [0x8e, 0xf6, ...lba64, 0xff, 0xff, 0xff, 0xff, 0, 0],
    ...writeAndVerify,
  },
  {
    name: "WRITE ATOMIC(16)",
    opcode: 0x9c,
    serviceAction: null,
    cdbBytes: 16,
    usage: [0x9c, 0xfa, ...lba64, 0xff, 0xff, 0xff, 0xff, 0, 0],
    ...writing,
    judge: judgeAtomic,
    run: runAtomic,
  },
  {
    name: "COMPARE AND WRITE",
    opcode: 0x89,
    serviceAction: null,
    cdbBytes: 16,
    usage: [0x89, 0xfa, ...lba64, 0, 0, 0, 0xff, 0, 0],
    ...writing,
    judge: judgeCompareAndWrite,
    run: runCompareAndWrite,
  },
  {
    name: "ORWRITE(16)",
    opcode: 0x8b,
    serviceAction: null,
    cdbBytes: 16,
    usage: [0x8b, 0xfa, ...lba64, 0xff, 0xff, 0xff, 0xff, 0, 0],
    ...writing,
    judge: judgeOrWrite,
    run: runOrWrite,
  },
  {
    name: "SYNCHRONIZE CACHE(10)",
    opcode: 0x35,
    serviceAction: null,
    cdbBytes: 10,
    usage: [0x35, 0x02, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0],
    ...synchronize,
  },
  {
    name: "SYNCHRONIZE CACHE(16)",
    opcode: 0x91,
    serviceAction: null,
    cdbBytes: 16,
    usage: [0x91, 0x02, ...lba64, 0xff, 0xff, 0xff, 0xff, 0, 0],
    ...synchronize,
  },
];
