/**
 * INQUIRY (SPC-5 6.7) with the vital product data pages that hosts read (SPC-5 7.7, SBC-4 6.6), and REPORT LUNS (SPC-5 6.33).
 */
import { putText, putU16, putU32, putU64, u16, u32 } from "./cdb.ts";
import { answer, badField, type Command, type Outcome } from "./command.ts";
import { scsiLimits } from "./limits.ts";
import { encodeLun } from "./lun.ts";
import { naaOf } from "./naa.ts";
import { Asc } from "./sense.ts";
import type { Standing } from "./standing.ts";

/** T10 vendor identification, eight characters. */
export const vendor = "GOLDCOPY";
const product = "VIRTUAL DISK";
const revision = "0001";

/** Qualifier 011b, type 1Fh: no unit can be here (SPC-5 6.7.2). */
const noUnit = 0x7f;
const directAccess = 0x00;
/** Qualifier 001b, type 00h: the unit cannot be reached this way now (SPC-4 5.16.2.4.5). */
const outOfReach = 0x20;

function peripheralOf(standing: Standing): number {
  const { access, nexus } = standing;
  if (access === null) return noUnit;
  return nexus.owner.portGroups.isUnavailable(nexus.identity.relativePort) ? outOfReach : directAccess;
}

const standardBytes = 96;
/** SPC-5 table 144: SAM-5, iSCSI, SPC-4, SBC-3, all without a version claimed. */
const versionDescriptors = [0x00a0, 0x0960, 0x0460, 0x04c0];

function standardInquiry(standing: Standing): Uint8Array {
  const bytes = new Uint8Array(standardBytes);
  bytes[0] = peripheralOf(standing);
  // SPC-4.
  bytes[2] = 0x06;
  // HISUP; response data format 2.
  bytes[3] = 0x12;
  bytes[4] = standardBytes - 5;
  // TPGS 01b: implicit asymmetric access alone (SPC-4 table 178); 3PC: third-party copy.
  bytes[5] = 0x18;
  // MULTIP.
  bytes[6] = 0x10;
  // CMDQUE.
  bytes[7] = 0x02;
  putText(bytes, 8, 8, vendor);
  putText(bytes, 16, 16, product);
  putText(bytes, 32, 4, revision);
  for (const [index, version] of versionDescriptors.entries()) putU16(bytes, 58 + 2 * index, version);
  return bytes;
}

type Page = (standing: Standing) => Uint8Array;

function unitSerial(standing: Standing): Uint8Array {
  return new TextEncoder().encode(standing.unit.uuid);
}

const codeSet = { binary: 1, ascii: 2, utf8: 3 } as const;
const association = { unit: 0x00, port: 0x10, device: 0x20 } as const;
const iscsiProtocol = 0x50;
const protocolValid = 0x80;

function designator(set: number, typeAndAssociation: number, value: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(4 + value.byteLength);
  bytes[0] = set;
  bytes[1] = typeAndAssociation;
  bytes[3] = value.byteLength;
  bytes.set(value, 4);
  return bytes;
}

/** Null-terminated and padded to a multiple of four (SPC-5 7.7.6.11). */
function nameString(text: string): Uint8Array {
  const encoded = new TextEncoder().encode(text);
  const bytes = new Uint8Array(Math.ceil((encoded.byteLength + 1) / 4) * 4);
  bytes.set(encoded);
  return bytes;
}

/** Two reserved bytes, two of value (SPC-5 7.7.6.8, 7.7.6.9). */
function inFourBytes(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  putU16(bytes, 2, value);
  return bytes;
}

function deviceIdentification(standing: Standing): Uint8Array {
  const { identity, owner } = standing.nexus;
  const { uuid } = standing.unit;
  const t10 = new Uint8Array(8 + uuid.length);
  putText(t10, 0, 8, vendor);
  putText(t10, 8, uuid.length, uuid);
  // Of the port that the command came in by (SPC-4 5.16.2.7).
  const ofPort = (type: number, value: number): Uint8Array =>
    designator(iscsiProtocol | codeSet.binary, protocolValid | association.port | type, inFourBytes(value));
  const group = owner.portGroups.of(identity.relativePort);
  const targetPort = `${owner.targetName},t,0x${identity.portalGroup.toString(16).padStart(4, "0")}`;
  return concat([
    designator(codeSet.binary, association.unit | 0x03, naaOf(uuid)),
    designator(codeSet.ascii, association.unit | 0x01, t10),
    ofPort(0x04, identity.relativePort),
    ...(group === null ? [] : [ofPort(0x05, group.id)]),
    designator(iscsiProtocol | codeSet.utf8, protocolValid | association.port | 0x08, nameString(targetPort)),
    designator(iscsiProtocol | codeSet.utf8, protocolValid | association.device | 0x08, nameString(owner.targetName)),
  ]);
}

/** SPC-5 7.7.7. */
function extendedInquiry(): Uint8Array {
  const bytes = new Uint8Array(60);
  // SIMPSUP, ORDSUP, HEADSUP.
  bytes[1] = 0x07;
  // Extended self-test minutes and the rest: nothing of that.
  return bytes;
}

/** SBC-4 6.6.4. */
function blockLimits(standing: Standing): Uint8Array {
  const bytes = new Uint8Array(60);
  const atomicBlocks = standing.access?.target?.atomicBlocksMax() ?? 0;
  bytes[1] = Math.min(scsiLimits.compareBlocksMax, atomicBlocks);
  // Optimal transfer granularity: a physical block.
  putU16(bytes, 2, 8);
  putU32(bytes, 4, scsiLimits.transferBlocksMax);
  // Optimal transfer length: one record of the log.
  putU32(bytes, 8, atomicBlocks);
  putU32(bytes, 16, scsiLimits.unmapBlocksMax);
  putU32(bytes, 20, scsiLimits.unmapDescriptorsMax);
  // Optimal unmap granularity: a physical block, aligned at 0 (UGAVALID).
  putU32(bytes, 24, 8);
  bytes[28] = 0x80;
  putU64(bytes, 32, scsiLimits.writeSameBlocksMax);
  putU32(bytes, 40, atomicBlocks);
  putU32(bytes, 44, scsiLimits.atomicBlocks);
  putU32(bytes, 48, scsiLimits.atomicBlocks);
  // Atomic boundary: none.
  return bytes;
}

/** SBC-4 6.6.2. */
function blockCharacteristics(): Uint8Array {
  const bytes = new Uint8Array(60);
  // A non-rotating medium.
  putU16(bytes, 0, 1);
  // WABEREQ 01b: after BLOCK ERASE a read is GOOD, and returns zeros. FUAB 0, VBULS 0.
  bytes[3] = 0x40;
  return bytes;
}

/** SBC-4 6.6.7. */
function provisioningPage(): Uint8Array {
  const bytes = new Uint8Array(4);
  // LBPU, LBPWS, LBPWS10, LBPRZ 001b; no anchors, no descriptor.
  bytes[1] = 0xe4;
  // Thin.
  bytes[2] = 0x02;
  return bytes;
}

/**
 * SPC-5 7.7.18: which commands of third-party copy there are, in a Supported Commands descriptor (type 0001h), and which descriptors an
 * EXTENDED COPY may hold (type 0008h).
 */
function thirdPartyCopy(): Uint8Array {
  const commands = [0x83, 1, 0x00, 0x84, 3, 0x00, 0x03, 0x04];
  const descriptors = [0x02, 0xe4];
  return concat([thirdPartyDescriptor(0x0001, commands), thirdPartyDescriptor(0x0008, descriptors)]);
}

/** A list with its length in one byte, padded to a multiple of four. */
function thirdPartyDescriptor(type: number, list: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(Math.ceil((5 + list.length) / 4) * 4);
  putU16(bytes, 0, type);
  putU16(bytes, 2, bytes.byteLength - 4);
  bytes[4] = list.length;
  bytes.set(list, 5);
  return bytes;
}

const pages: ReadonlyMap<number, Page> = new Map<number, Page>([
  [0x00, () => Uint8Array.from([...pages.keys()].sort((a, b) => a - b))],
  [0x80, unitSerial],
  [0x83, deviceIdentification],
  [0x86, extendedInquiry],
  [0x8f, thirdPartyCopy],
  [0xb0, blockLimits],
  [0xb1, blockCharacteristics],
  [0xb2, provisioningPage],
]);

function runInquiry(standing: Standing): Outcome {
  const { cdb } = standing.task;
  const isVital = (cdb[1]! & 0x01) !== 0;
  const allocationBytes = u16(cdb, 3);
  // CMDDT is obsolete.
  if ((cdb[1]! & 0x02) !== 0) {
    badField(standing, 1, 1);
    return "done";
  }
  if (!isVital) {
    if (cdb[2] === 0) return answer(standing, standardInquiry(standing), allocationBytes);
    badField(standing, 2, 7);
    return "done";
  }
  const code = cdb[2]!;
  const page = standing.access === null ? undefined : pages.get(code);
  if (page === undefined) {
    badField(standing, 2, 7);
    return "done";
  }
  // The limits of an open volume; a unit that cannot be opened now answers all the same.
  const { access, nexus } = standing;
  if (access !== null && access.target === null) nexus.owner.open(nexus, access);
  const body = page(standing);
  const bytes = new Uint8Array(4 + body.byteLength);
  bytes[0] = peripheralOf(standing);
  bytes[1] = code;
  putU16(bytes, 2, body.byteLength);
  bytes.set(body, 4);
  return answer(standing, bytes, allocationBytes);
}

/** SPC-5 6.33, SELECT REPORT. */
const selects = {
  addressable: 0x00,
  wellKnown: 0x01,
  all: 0x02,
  administrative: 0x10,
  conglomerates: 0x11,
  subsidiary: 0x12,
};
const reportLunsBytesMin = 16;

function judgeReportLuns(standing: Standing): boolean {
  const { cdb } = standing.task;
  if (u32(cdb, 6) < reportLunsBytesMin) return badField(standing, 6, 7);
  const known = Object.values(selects).includes(cdb[2]!);
  return known || badField(standing, 2, 7);
}

export const reportLunsOpcode = 0xa0;

/** The parameter data of REPORT LUNS for a judged CDB. */
export function lunList(cdb: Uint8Array, units: readonly number[]): Uint8Array {
  const withUnits = cdb[2] === selects.addressable || cdb[2] === selects.all;
  const luns = withUnits ? [...units].sort((a, b) => a - b) : [];
  const bytes = new Uint8Array(8 + 8 * luns.length);
  putU32(bytes, 0, 8 * luns.length);
  for (const [index, lun] of luns.entries()) encodeLun(lun, bytes, 8 + 8 * index);
  return bytes;
}

function runReportLuns(standing: Standing): Outcome {
  const { cdb } = standing.task;
  const { nexus } = standing;
  const bytes = lunList(
    cdb,
    [...nexus.accesses].map(({ lun }) => lun),
  );
  for (const access of nexus.accesses) access.forgetAttention(Asc.reportedLunsDataHasChanged);
  return answer(standing, bytes, u32(cdb, 6));
}

function concat(parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.byteLength, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.byteLength;
  }
  return bytes;
}

export const inquiryCommands: readonly Command[] = [
  {
    name: "INQUIRY",
    worstPort: "unavailable",
    opcode: 0x12,
    serviceAction: null,
    cdbBytes: 6,
    usage: [0x12, 0x01, 0xff, 0xff, 0xff, 0],
    access: "free",
    medium: false,
    ignoresAttention: true,
    withoutUnit: true,
    run: runInquiry,
  },
  {
    name: "REPORT LUNS",
    worstPort: "unavailable",
    opcode: reportLunsOpcode,
    serviceAction: null,
    cdbBytes: 12,
    usage: [0xa0, 0, 0xff, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0],
    access: "free",
    medium: false,
    ignoresAttention: true,
    withoutUnit: true,
    judge: judgeReportLuns,
    run: runReportLuns,
  },
];
