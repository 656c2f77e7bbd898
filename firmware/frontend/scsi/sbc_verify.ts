/**
 * VERIFY in all sizes (SBC-4 5.36 to 5.38): the medium is read, so that its checksums are looked at, and compared with data when the
 * initiator asks for that: BYTCHK 01b all of it, 11b every block with the one that was sent.
 *
 * Invariant: memory for one part of the range at a time, whatever its length, lent to it by the device (`part_buffers.ts`).
 */
import { logicalBlockBytes } from "../../volume/block_request.ts";
import { joined } from "./cdb.ts";
import { badField, type Command, end, fail, failWith, goOn, good, mayGoOn, type Outcome } from "./command.ts";
import { scsiLimits } from "./limits.ts";
import { blocksOf, lbaOf, takeRange, takesProtect, wholeBlocks } from "./sbc_range.ts";
import { Asc, SenseKey } from "./sense.ts";
import type { Standing } from "./standing.ts";

const ByteCheck = { none: 0, all: 1, reserved: 2, sameBlock: 3 } as const;

function byteCheckOf(standing: Standing): number {
  return (standing.task.cdb[1]! >> 1) & 0x03;
}

function judgeVerify(standing: Standing): boolean {
  const { task } = standing;
  const { cdbBytes } = standing.command;
  if (!takesProtect(standing)) return false;
  const check = byteCheckOf(standing);
  if (check === ByteCheck.reserved) return badField(standing, 1, 2);
  const blockCount = blocksOf(task.cdb, cdbBytes);
  const blocksMax = check === ByteCheck.all ? scsiLimits.transferBlocksMax : Number.POSITIVE_INFINITY;
  if (!takeRange(standing, lbaOf(task.cdb, cdbBytes), blockCount, blocksMax)) return false;
  if (check === ByteCheck.all) task.dataOutBytes = blockCount * logicalBlockBytes;
  if (check === ByteCheck.sameBlock && blockCount > 0) task.dataOutBytes = logicalBlockBytes;
  return true;
}

/** What a verification that runs in parts has still to do. */
interface Verification {
  readonly startLba: number;
  readonly blockCount: number;
  readonly check: number;
  readonly expected: Uint8Array;
  doneBlocks: number;
}

function runVerify(standing: Standing): Outcome {
  const check = byteCheckOf(standing);
  const blockCount = check === ByteCheck.all ? wholeBlocks(standing) : standing.blockCount;
  if (blockCount === 0) return good(standing);
  const expected = joined(standing.task.dataOut);
  if (check === ByteCheck.sameBlock && expected.byteLength < logicalBlockBytes) return good(standing);
  standing.notes = { startLba: standing.startLba, blockCount, check, expected, doneBlocks: 0 } satisfies Verification;
  readPart(standing);
  return "pending";
}

function readPart(standing: Standing): void {
  standing.nexus.owner.parts.take((buffer) => readInto(standing, buffer));
}

function readInto(standing: Standing, buffer: Uint8Array): void {
  const { parts } = standing.nexus.owner;
  // It may have waited for the buffer.
  if (!mayGoOn(standing)) {
    parts.give(buffer);
    return end(standing);
  }
  const notes = standing.notes as Verification;
  const blocks = Math.min(scsiLimits.readPartBlocks, notes.blockCount - notes.doneBlocks);
  standing.kind = "read";
  standing.startLba = notes.startLba + notes.doneBlocks;
  standing.blockCount = blocks;
  standing.target = buffer.subarray(0, blocks * logicalBlockBytes);
  standing.submit((read, error) => {
    const at = error === null ? firstDifference(notes, read.target) : -1;
    parts.give(buffer);
    if (error !== null) {
      failWith(read, error);
      return end(read);
    }
    if (at >= 0) {
      fail(read, SenseKey.miscompare, Asc.miscompareDuringVerify, { information: at });
      return end(read);
    }
    notes.doneBlocks += blocks;
    if (notes.doneBlocks === notes.blockCount) {
      good(read);
      return end(read);
    }
    goOn(read, readPart);
  });
}

/** The offset of the first byte that differs, from the range's beginning; -1: none. */
function firstDifference(notes: Verification, present: Uint8Array): number {
  const from = notes.doneBlocks * logicalBlockBytes;
  if (notes.check === ByteCheck.none) return -1;
  for (let at = 0; at < present.byteLength; at++) {
    const expected = notes.check === ByteCheck.all ? notes.expected[from + at] : notes.expected[at % logicalBlockBytes];
    if (present[at] !== expected) return from + at;
  }
  return -1;
}

const verify = { access: "look", medium: true, judge: judgeVerify, run: runVerify } as const;

export const blockVerifyCommands: readonly Command[] = [
  {
    name: "VERIFY(10)",
    opcode: 0x2f,
    serviceAction: null,
    cdbBytes: 10,
    usage: [0x2f, 0xf6, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0],
    ...verify,
  },
  {
    name: "VERIFY(12)",
    opcode: 0xaf,
    serviceAction: null,
    cdbBytes: 12,
    usage: [0xaf, 0xf6, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0],
    ...verify,
  },
  {
    name: "VERIFY(16)",
    opcode: 0x8f,
    serviceAction: null,
    cdbBytes: 16,
    usage: [0x8f, 0xf6, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0],
    ...verify,
  },
];
