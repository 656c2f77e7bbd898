/**
 * EXTENDED COPY(LID1) (SPC-4 6.17), block device to block device, between units that the initiator has mapped; RECEIVE COPY RESULTS(LID1)
 * (SPC-4 6.18 to 6.21): copy status, operating parameters, failed segment details.
 *
 *   list judged ──▶ segments checked ──▶ segment after segment, part after part: read ──▶ write ──▶ GOOD, or COPY ABORTED
 *
 * Invariants:
 * - A copy reads and writes through the same doors as the initiator's own commands: masking, reservations, read-only.
 * - What a segment copies is what its source held before it, also where source and destination overlap.
 * - One part is in memory at a time, lent to it by the device (`part_buffers.ts`); between two parts others have their turn, and task management ends the copy.
 */
import { type BlockError, logicalBlockBytes } from "../../volume/block_request.ts";
import { joined, putU16, putU32, u16, u32, u64 } from "./cdb.ts";
import { answer, badField, badParameter, type Command, end, fail, good, type Outcome } from "./command.ts";
import { copyLimits, scsiLimits } from "./limits.ts";
import { naaOf } from "./naa.ts";
import { Asc, SenseKey } from "./sense.ts";
import type { Standing } from "./standing.ts";
import { ScsiStatus } from "./task.ts";
import type { UnitAccess } from "./unit_access.ts";

const headerBytes = 16;
const targetBytes = 32;
const segmentBytes = 28;
const identificationDescriptor = 0xe4;
const blockToBlock = 0x02;
const blockDevice = 0x00;
const naaDesignator = 3;

interface Segment {
  readonly source: UnitAccess;
  readonly destination: UnitAccess;
  readonly sourceLba: number;
  readonly destinationLba: number;
  readonly blockCount: number;
}

/** One copy of a nexus, as RECEIVE COPY RESULTS tells of it. */
export interface CopyRecord {
  readonly listId: number;
  status: "running" | "done" | "failed";
  segmentsDone: number;
  bytesDone: number;
  sense: Uint8Array;
}

/** What the nexus still knows of its copies; the oldest are forgotten. */
export class CopyRecords {
  readonly #records: CopyRecord[] = [];

  find(listId: number): CopyRecord | null {
    return this.#records.find((record) => record.listId === listId) ?? null;
  }

  begin(listId: number): CopyRecord {
    const before = this.#records.findIndex((record) => record.listId === listId);
    if (before >= 0) this.#records.splice(before, 1);
    if (this.#records.length >= copyLimits.recordsMax) this.#records.shift();
    const record: CopyRecord = {
      listId,
      status: "running",
      segmentsDone: 0,
      bytesDone: 0,
      sense: new Uint8Array(0),
    };
    this.#records.push(record);
    return record;
  }

  forget(record: CopyRecord): void {
    const at = this.#records.indexOf(record);
    if (at >= 0) this.#records.splice(at, 1);
  }
}

function judgeCopy(standing: Standing): boolean {
  const { task } = standing;
  const listBytes = u32(task.cdb, 10);
  if (listBytes > headerBytes + copyLimits.descriptorListBytesMax + 1024) {
    fail(standing, SenseKey.illegalRequest, Asc.parameterListLengthError);
    return false;
  }
  task.dataOutBytes = listBytes;
  return true;
}

interface Copy {
  readonly record: CopyRecord;
  readonly segments: readonly Segment[];
  /** LIST ID USAGE 11b: nothing of it is kept (SPC-4 6.17.2). */
  readonly discard: boolean;
  segment: number;
  doneBlocks: number;
}

const listIdUsageDiscard = 0x03;

function runCopy(standing: Standing): Outcome {
  if (standing.task.dataOutBytes === 0) return good(standing);
  const list = joined(standing.task.dataOut);
  const tooShort = () => fail(standing, SenseKey.illegalRequest, Asc.parameterListLengthError);
  if (list.byteLength < headerBytes) return tooShort();
  const targetListBytes = u16(list, 2);
  const segmentListBytes = u32(list, 8);
  if (u32(list, 12) > 0) return fail(standing, SenseKey.illegalRequest, Asc.inlineDataLengthExceeded);
  if (targetListBytes + segmentListBytes > copyLimits.descriptorListBytesMax) return tooShort();
  if (targetListBytes % targetBytes !== 0 || headerBytes + targetListBytes + segmentListBytes > list.byteLength)
    return tooShort();
  if (targetListBytes / targetBytes > copyLimits.targetsMax)
    return fail(standing, SenseKey.illegalRequest, Asc.tooManyTargetDescriptors);
  const segmentsAt = headerBytes + targetListBytes;
  if (Math.ceil(segmentListBytes / segmentBytes) > copyLimits.segmentsMax)
    return fail(standing, SenseKey.illegalRequest, Asc.tooManySegmentDescriptors);
  const targets: (UnitAccess | null)[] = [];
  for (let at = headerBytes; at < segmentsAt; at += targetBytes) {
    if (list[at] !== identificationDescriptor)
      return fail(standing, SenseKey.illegalRequest, Asc.unsupportedTargetDescriptorType);
    // LU ID TYPE and NUL are obsolete (SPC-4 6.17.6.1): not looked at.
    const isBlockDevice = (list[at + 1]! & 0x1f) === blockDevice;
    targets.push(!isBlockDevice ? null : unitNamed(standing, list.subarray(at + 4, at + 28)));
  }
  const segments: Segment[] = [];
  for (let at = segmentsAt; at < segmentsAt + segmentListBytes; at += segmentBytes) {
    if (list[at] !== blockToBlock) return fail(standing, SenseKey.illegalRequest, Asc.unsupportedSegmentDescriptorType);
    if (at + segmentBytes > segmentsAt + segmentListBytes) return tooShort();
    if (u16(list, at + 2) !== segmentBytes - 4) return badParameter(standing, at + 2);
    const source = targets[u16(list, at + 4)] ?? null;
    const destination = targets[u16(list, at + 6)] ?? null;
    if (source === null || destination === null) return aborted(standing, Asc.copyTargetUnreachable);
    const segment = {
      source,
      destination,
      blockCount: u16(list, at + 10),
      sourceLba: u64(list, at + 12),
      destinationLba: u64(list, at + 20),
    };
    const refusal = whyNot(standing, segment);
    if (refusal !== null) return refusal;
    if (isSanitized(segment)) return aborted(standing, Asc.copyTargetUnreachable);
    segments.push(segment);
  }
  const discard = ((list[1]! >> 3) & 0x03) === listIdUsageDiscard;
  const record = standing.nexus.copies.begin(list[0]!);
  standing.notes = { record, segments, discard, segment: 0, doneBlocks: 0 } satisfies Copy;
  copyPart(standing);
  return "pending";
}

/** SPC-4 6.17.6.2: the designator of a unit that this initiator has mapped, open; null: there is none. */
function unitNamed(standing: Standing, descriptor: Uint8Array): UnitAccess | null {
  const { nexus } = standing;
  const type = descriptor[1]! & 0x0f;
  const designator = descriptor.subarray(4, 4 + Math.min(descriptor[3]!, 20));
  for (const access of nexus.accesses) {
    const naa = naaOf(access.unit.uuid);
    if (type !== naaDesignator || !sameBytes(naa, designator)) continue;
    if (access.target === null && nexus.owner.open(nexus, access) !== "open") return null;
    return access;
  }
  return null;
}

function sameBytes(one: Uint8Array, other: Uint8Array): boolean {
  return one.byteLength === other.byteLength && one.every((byte, index) => byte === other[index]);
}

/** Ends the command; null: the segment may be copied. */
function whyNot(standing: Standing, segment: Segment): "done" | null {
  const { source, destination, sourceLba, destinationLba, blockCount } = segment;
  const fits = (access: UnitAccess, lba: number) => lba + blockCount <= access.target!.blockCount();
  if (!fits(source, sourceLba) || !fits(destination, destinationLba)) return aborted(standing, Asc.none);
  const { nexus } = standing;
  if (source.unit.reservations.conflicts(nexus, "look") || destination.unit.reservations.conflicts(nexus, "change")) {
    standing.task.status = ScsiStatus.reservationConflict;
    return "done";
  }
  const isProtected = destination.readOnly || destination.unit.parameters.softwareWriteProtect;
  return isProtected ? fail(standing, SenseKey.dataProtect, Asc.writeProtected) : null;
}

/** A unit that is being sanitized, or whose sanitizing failed, is read and written by nobody. */
function isSanitized({ source, destination }: Segment): boolean {
  return source.unit.sanitize !== null || destination.unit.sanitize !== null;
}

function aborted(standing: Standing, asc: number): "done" {
  return fail(standing, SenseKey.copyAborted, asc);
}

function copyPart(standing: Standing): void {
  const copy = standing.notes as Copy;
  const segment = copy.segments[copy.segment];
  if (segment === undefined) return finish(standing, true);
  if (copy.doneBlocks === segment.blockCount) {
    copy.segment++;
    copy.doneBlocks = 0;
    copy.record.segmentsDone++;
    return standing.nexus.owner.defer(() => copyPart(standing));
  }
  standing.nexus.owner.parts.take((buffer) => readPart(standing, segment, buffer));
}

function readPart(standing: Standing, segment: Segment, buffer: Uint8Array): void {
  const copy = standing.notes as Copy;
  const { parts } = standing.nexus.owner;
  const blocks = Math.min(scsiLimits.readPartBlocks, segment.blockCount - copy.doneBlocks);
  const at = isBackward(segment) ? segment.blockCount - copy.doneBlocks - blocks : copy.doneBlocks;
  const bytes = buffer.subarray(0, blocks * logicalBlockBytes);
  const over = (how: () => void): void => {
    parts.give(buffer);
    how();
  };
  // It may have waited for the buffer, and a mapping may have gone since the part before.
  if (standing.task.aborted) return over(() => finish(standing, true));
  const from = segment.source.target;
  if (isSanitized(segment) || from === null || standing.access!.target === null)
    return over(() => unreachable(standing));
  standing.kind = "read";
  standing.startLba = segment.sourceLba + at;
  standing.blockCount = blocks;
  standing.target = bytes;
  standing.submitTo(from, (read, error) => {
    if (error !== null) return over(() => broken(read, error));
    const to = segment.destination.target;
    if (isSanitized(segment) || to === null) return over(() => unreachable(read));
    read.kind = "write";
    read.startLba = segment.destinationLba + at;
    read.payload = [bytes];
    read.submitTo(to, (written, writeError) => {
      if (writeError !== null) return over(() => broken(written, writeError));
      copy.doneBlocks += blocks;
      copy.record.bytesDone += bytes.byteLength;
      over(() => written.nexus.owner.defer(() => copyPart(written)));
    });
  });
}

function broken(standing: Standing, error: BlockError): void {
  if (error === "no-space") fail(standing, SenseKey.dataProtect, Asc.spaceAllocationFailedWriteProtect);
  else aborted(standing, Asc.thirdPartyDeviceFailure);
  finish(standing, false);
}

/** The source's end is overwritten by the destination's beginning: from the end on, it is read before that. */
function isBackward({ source, destination, sourceLba, destinationLba }: Segment): boolean {
  return source.unit === destination.unit && destinationLba > sourceLba;
}

function unreachable(standing: Standing): void {
  aborted(standing, Asc.copyTargetUnreachable);
  finish(standing, false);
}

function finish(standing: Standing, isGood: boolean): void {
  const { record, discard } = standing.notes as Copy;
  if (isGood) good(standing);
  record.status = isGood ? "done" : "failed";
  record.sense = standing.task.sense;
  if (discard) standing.nexus.copies.forget(record);
  end(standing);
}

// -------------------------------------------------------------------- RECEIVE COPY RESULTS

const copyStatus = { running: 0, done: 1, failed: 2 } as const;

function runCopyStatus(standing: Standing): Outcome {
  const record = standing.nexus.copies.find(standing.task.cdb[2]!);
  if (record === null) {
    badField(standing, 2, 7);
    return "done";
  }
  const bytes = new Uint8Array(12);
  putU32(bytes, 0, 8);
  bytes[4] = copyStatus[record.status];
  putU16(bytes, 5, record.segmentsDone);
  // TRANSFER COUNT UNITS 1: kibibytes.
  bytes[7] = 1;
  putU32(bytes, 8, Math.floor(record.bytesDone / 1024));
  return answer(standing, bytes, u32(standing.task.cdb, 10));
}

function runFailedSegment(standing: Standing): Outcome {
  const record = standing.nexus.copies.find(standing.task.cdb[2]!);
  if (record === null || record.status === "running") {
    badField(standing, 2, 7);
    return "done";
  }
  const sense = record.status === "failed" ? record.sense : new Uint8Array(0);
  const bytes = new Uint8Array(60 + sense.byteLength);
  putU32(bytes, 0, bytes.byteLength - 4);
  bytes[56] = record.status === "failed" ? ScsiStatus.checkCondition : ScsiStatus.good;
  putU16(bytes, 58, sense.byteLength);
  bytes.set(sense, 60);
  return answer(standing, bytes, u32(standing.task.cdb, 10));
}

const implementedDescriptors = [blockToBlock, identificationDescriptor];

function runOperatingParameters(standing: Standing): Outcome {
  const bytes = new Uint8Array(44 + implementedDescriptors.length);
  putU32(bytes, 0, bytes.byteLength - 4);
  putU16(bytes, 8, copyLimits.targetsMax);
  putU16(bytes, 10, copyLimits.segmentsMax);
  putU32(bytes, 12, copyLimits.descriptorListBytesMax);
  putU32(bytes, 16, copyLimits.segmentBlocksMax * logicalBlockBytes);
  putU16(bytes, 34, copyLimits.recordsMax);
  bytes[36] = copyLimits.recordsMax;
  // DATA SEGMENT GRANULARITY: 2^9, one block.
  bytes[37] = 9;
  bytes[43] = implementedDescriptors.length;
  bytes.set(implementedDescriptors, 44);
  return answer(standing, bytes, u32(standing.task.cdb, 10));
}

const receive = { opcode: 0x84, cdbBytes: 16, access: "free", medium: false } as const;
const usageReceive = (action: number, listId: number) => [
  0x84,
  action,
  listId,
  ...new Array<number>(7).fill(0),
  0xff,
  0xff,
  0xff,
  0xff,
  0,
  0,
];

export const copyCommands: readonly Command[] = [
  {
    name: "EXTENDED COPY(LID1)",
    opcode: 0x83,
    serviceAction: 0x00,
    cdbBytes: 16,
    usage: [0x83, 0x00, ...new Array<number>(8).fill(0), 0xff, 0xff, 0xff, 0xff, 0, 0],
    access: "change",
    medium: true,
    timeouts: { nominalS: 0, recommendedS: 120 },
    judge: judgeCopy,
    run: runCopy,
  },
  {
    ...receive,
    name: "RECEIVE COPY STATUS(LID1)",
    serviceAction: 0x00,
    usage: usageReceive(0x00, 0xff),
    run: runCopyStatus,
  },
  {
    ...receive,
    name: "RECEIVE COPY OPERATING PARAMETERS",
    serviceAction: 0x03,
    usage: usageReceive(0x03, 0),
    run: runOperatingParameters,
  },
  {
    ...receive,
    name: "RECEIVE COPY FAILURE DETAILS(LID1)",
    serviceAction: 0x04,
    usage: usageReceive(0x04, 0xff),
    run: runFailedSegment,
  },
];
