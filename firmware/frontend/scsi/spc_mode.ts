/**
 * MODE SENSE(6), (10) and MODE SELECT(6), (10) (SPC-5 6.12 to 6.15) with the pages that a disk has (SPC-5 7.5, SBC-4 6.5). What may be
 * changed stands in `ModeParameters`; nothing is saved.
 */
import { logicalBlockBytes } from "../../volume/block_request.ts";
import { joined, putU32, putU64, u16, u32 } from "./cdb.ts";
import { answer, badField, badParameter, type Command, fail, good, type Outcome, refuse } from "./command.ts";
import { ModeParameters } from "./mode_parameters.ts";
import { Asc, SenseKey } from "./sense.ts";
import type { Standing } from "./standing.ts";
import type { TargetPortGroups } from "./target_port_groups.ts";

const pageControl = { current: 0, changeable: 1, default: 2, saved: 3 } as const;
const allPages = 0x3f;
const allSubpages = 0xff;

interface ModePage {
  readonly code: number;
  /** null: a page in page_0 format. */
  readonly subpage: number | null;
  /** The parameters behind the page's header, as they are. */
  readonly current: (parameters: ModeParameters, portGroups: TargetPortGroups) => readonly number[];
  /** Which bits MODE SELECT may change. */
  readonly changeable: readonly number[];
  /** `values`: the new parameters; bits that may not be changed are as they were. */
  readonly take?: (parameters: ModeParameters, values: Uint8Array) => void;
}

const zeros = (count: number): readonly number[] => new Array<number>(count).fill(0);

/** SPC-5 7.5.8. */
const control = {
  descriptorSense: 0x04,
  queueAlgorithmUnrestricted: 0x10,
  softwareWriteProtect: 0x08,
  tas: 0x40,
} as const;

function controlPage(parameters: ModeParameters): number[] {
  return [
    parameters.descriptorSense ? control.descriptorSense : 0,
    control.queueAlgorithmUnrestricted,
    parameters.softwareWriteProtect ? control.softwareWriteProtect : 0,
    parameters.taskAbortedStatus ? control.tas : 0,
    0,
    0,
    // BUSY TIMEOUT PERIOD: unlimited. EXTENDED SELF-TEST COMPLETION TIME: none.
    0xff,
    0xff,
    0,
    0,
  ];
}

const pages: readonly ModePage[] = [
  // Read-write error recovery (SBC-4 6.5.10): AWRE, ARRE: the array repairs by itself where it can.
  { code: 0x01, subpage: null, current: () => [0xc0, ...zeros(9)], changeable: zeros(10) },
  // Disconnect-reconnect (SPC-5 7.5.12).
  { code: 0x02, subpage: null, current: () => zeros(14), changeable: zeros(14) },
  // Caching (SBC-4 6.5.6): WCE 0, every acknowledgement is durable; RCD 0.
  { code: 0x08, subpage: null, current: () => zeros(18), changeable: zeros(18) },
  {
    code: 0x0a,
    subpage: null,
    current: controlPage,
    changeable: [control.descriptorSense, 0, control.softwareWriteProtect, control.tas, 0, 0, 0, 0, 0, 0],
    take: (parameters, values) => {
      parameters.descriptorSense = (values[0]! & control.descriptorSense) !== 0;
      parameters.softwareWriteProtect = (values[2]! & control.softwareWriteProtect) !== 0;
      parameters.taskAbortedStatus = (values[3]! & control.tas) !== 0;
    },
  },
  // Control extension (SPC-5 7.5.9): no time stamp, IALUAE where the states of ports may change, the maximum sense data length 252.
  {
    code: 0x0a,
    subpage: 0x01,
    current: (_, { isAsymmetric }) => [isAsymmetric ? 0x01 : 0, 0, 252, ...zeros(25)],
    changeable: zeros(28),
  },
  // Informational exceptions control (SPC-5 7.5.14): MRIE 0, none are reported this way.
  { code: 0x1c, subpage: null, current: () => zeros(10), changeable: zeros(10) },
];

function encodePage(page: ModePage, values: readonly number[]): Uint8Array {
  const headerBytes = page.subpage === null ? 2 : 4;
  const bytes = new Uint8Array(headerBytes + values.length);
  bytes[0] = page.code | (page.subpage === null ? 0 : 0x40);
  if (page.subpage === null) bytes[1] = values.length;
  else {
    bytes[1] = page.subpage;
    bytes[2] = values.length >> 8;
    bytes[3] = values.length & 0xff;
  }
  bytes.set(values, headerBytes);
  return bytes;
}

function valuesOf(page: ModePage, standing: Standing, what: number): readonly number[] {
  if (what === pageControl.changeable) return page.changeable;
  const { unit, nexus } = standing;
  return page.current(what === pageControl.default ? defaults : unit.parameters, nexus.owner.portGroups);
}

function chosenPages(code: number, subpage: number): readonly ModePage[] {
  return pages.filter((page) => {
    if (code !== allPages && page.code !== code) return false;
    if (subpage === allSubpages) return true;
    return (page.subpage ?? 0) === subpage;
  });
}

const writeProtected = 0x80;
const dpoFua = 0x10;
const disableBlockDescriptors = 0x08;
const longLba = 0x10;

const defaults = new ModeParameters();

function runModeSense(standing: Standing): Outcome {
  const { cdb } = standing.task;
  const isLong = standing.command.cdbBytes === 10;
  const allocationBytes = isLong ? u16(cdb, 7) : cdb[4]!;
  const what = cdb[2]! >> 6;
  if (what === pageControl.saved) return fail(standing, SenseKey.illegalRequest, Asc.savingParametersNotSupported);
  const code = cdb[2]! & 0x3f;
  const chosen = chosenPages(code, cdb[3]!);
  if (chosen.length === 0) {
    badField(standing, code === allPages ? 3 : 2, 5);
    return "done";
  }
  const { access, unit } = standing;
  const descriptor =
    (cdb[1]! & disableBlockDescriptors) !== 0
      ? new Uint8Array(0)
      : blockDescriptor(standing.volume.blockCount(), isLong && (cdb[1]! & longLba) !== 0);
  const body = chosen.map((page) => encodePage(page, valuesOf(page, standing, what)));
  const headerBytes = isLong ? 8 : 4;
  const totalBytes = headerBytes + descriptor.byteLength + body.reduce((sum, page) => sum + page.byteLength, 0);
  const bytes = new Uint8Array(totalBytes);
  const isProtected = access!.readOnly || unit.parameters.softwareWriteProtect;
  const specific = (isProtected ? writeProtected : 0) | dpoFua;
  if (isLong) {
    bytes[0] = (totalBytes - 2) >> 8;
    bytes[1] = (totalBytes - 2) & 0xff;
    bytes[3] = specific;
    bytes[4] = descriptor.byteLength === 16 ? 1 : 0;
    bytes[7] = descriptor.byteLength;
  } else {
    bytes[0] = totalBytes - 1;
    bytes[2] = specific;
    bytes[3] = descriptor.byteLength;
  }
  let at = headerBytes;
  for (const part of [descriptor, ...body]) {
    bytes.set(part, at);
    at += part.byteLength;
  }
  return answer(standing, bytes, allocationBytes);
}

/** SBC-4 6.5.2. */
function blockDescriptor(blockCount: number, isLong: boolean): Uint8Array {
  if (isLong) {
    const bytes = new Uint8Array(16);
    putU64(bytes, 0, blockCount);
    putU32(bytes, 12, logicalBlockBytes);
    return bytes;
  }
  const bytes = new Uint8Array(8);
  putU32(bytes, 0, Math.min(blockCount, 0xffffffff));
  putU32(bytes, 4, logicalBlockBytes);
  bytes[4] = 0;
  return bytes;
}

const pageFormat = 0x10;
const savePages = 0x01;

function judgeModeSelect(standing: Standing): boolean {
  const { task } = standing;
  const { cdb } = task;
  const isLong = standing.command.cdbBytes === 10;
  if ((cdb[1]! & pageFormat) === 0) return badField(standing, 1, 4);
  if ((cdb[1]! & savePages) !== 0) return badField(standing, 1, 0);
  task.dataOutBytes = isLong ? u16(cdb, 7) : cdb[4]!;
  const headerBytes = isLong ? 8 : 4;
  if (task.dataOutBytes > 0 && task.dataOutBytes < headerBytes)
    return refuse(standing, SenseKey.illegalRequest, Asc.parameterListLengthError);
  return true;
}

function runModeSelect(standing: Standing): Outcome {
  const { task } = standing;
  if (task.dataOutBytes === 0) return good(standing);
  const isLong = standing.command.cdbBytes === 10;
  const list = joined(task.dataOut);
  const headerBytes = isLong ? 8 : 4;
  const tooShort = () => fail(standing, SenseKey.illegalRequest, Asc.parameterListLengthError);
  if (list.byteLength < headerBytes) return tooShort();
  const descriptorBytes = isLong ? u16(list, 6) : list[3]!;
  const descriptorAt = headerBytes;
  if (descriptorBytes !== 0 && descriptorBytes !== 8 && descriptorBytes !== 16)
    return badParameter(standing, isLong ? 6 : 3);
  let at = headerBytes + descriptorBytes;
  if (at > list.byteLength) return tooShort();
  // The block length is what it is (SBC-4 6.5.2.1).
  if (descriptorBytes > 0) {
    const lengthAt = descriptorAt + (descriptorBytes === 8 ? 5 : 12);
    const length = descriptorBytes === 8 ? u32(list, lengthAt - 1) & 0xffffff : u32(list, lengthAt);
    if (length !== logicalBlockBytes) return badParameter(standing, lengthAt);
  }
  const taken: { page: ModePage; values: Uint8Array }[] = [];
  const { parameters } = standing.unit;
  while (at < list.byteLength) {
    const hasSubpage = (list[at]! & 0x40) !== 0;
    const pageHeaderBytes = hasSubpage ? 4 : 2;
    if (at + pageHeaderBytes > list.byteLength) return tooShort();
    const code = list[at]! & 0x3f;
    const subpage = hasSubpage ? list[at + 1]! : null;
    const valueBytes = hasSubpage ? u16(list, at + 2) : list[at + 1]!;
    const page = pages.find((one) => one.code === code && one.subpage === subpage);
    // PS is reserved in MODE SELECT; it comes back from initiators that edit what they read.
    if (page === undefined) return badParameter(standing, at, 5);
    if (valueBytes !== page.changeable.length) return badParameter(standing, at + pageHeaderBytes - 1);
    const from = at + pageHeaderBytes;
    if (from + valueBytes > list.byteLength) return tooShort();
    const values = list.subarray(from, from + valueBytes);
    const present = page.current(parameters, standing.nexus.owner.portGroups);
    for (const [index, value] of values.entries()) {
      const fixed = ~page.changeable[index]! & 0xff;
      if ((value & fixed) !== (present[index]! & fixed)) return badParameter(standing, from + index);
    }
    taken.push({ page, values });
    at = from + valueBytes;
  }
  if (taken.length === 0) return good(standing);
  for (const { page, values } of taken) page.take?.(parameters, values);
  standing.unit.establish(Asc.modeParametersChanged, standing.nexus);
  return good(standing);
}

const both = { medium: true, worstPort: "standby" } as const;
const sense = { ...both, access: "look", run: runModeSense } as const;
const select = { ...both, access: "change", judge: judgeModeSelect, run: runModeSelect } as const;

export const modeCommands: readonly Command[] = [
  {
    name: "MODE SENSE(6)",
    opcode: 0x1a,
    serviceAction: null,
    cdbBytes: 6,
    usage: [0x1a, 0x08, 0xff, 0xff, 0xff, 0],
    ...sense,
  },
  {
    name: "MODE SENSE(10)",
    opcode: 0x5a,
    serviceAction: null,
    cdbBytes: 10,
    usage: [0x5a, 0x18, 0xff, 0xff, 0, 0, 0, 0xff, 0xff, 0],
    ...sense,
  },
  {
    name: "MODE SELECT(6)",
    opcode: 0x15,
    serviceAction: null,
    cdbBytes: 6,
    usage: [0x15, 0x11, 0, 0, 0xff, 0],
    ...select,
  },
  {
    name: "MODE SELECT(10)",
    opcode: 0x55,
    serviceAction: null,
    cdbBytes: 10,
    usage: [0x55, 0x11, 0, 0, 0, 0, 0, 0xff, 0xff, 0],
    ...select,
  },
];
