/**
 * What the target says of itself: REPORT TARGET PORT GROUPS (SPC-4 6.37), REPORT SUPPORTED OPERATION CODES (6.35), REPORT SUPPORTED TASK
 * MANAGEMENT FUNCTIONS (6.36).
 */

import { putU16, putU32, u16, u32 } from "./cdb.ts";
import { answer, badField, type Command, fail, type Outcome } from "./command.ts";
import { Asc, SenseKey } from "./sense.ts";
import type { Standing } from "./standing.ts";
import { accessStateCode } from "./target_port_groups.ts";

/** What a group may be in (SPC-4 table 306): U_SUP, S_SUP, AN_SUP, AO_SUP; neither T_SUP, O_SUP nor LBD_SUP. */
const supportedStates = 0x0f;
const preferredBit = 0x80;
/** SPC-4 table 308. */
const statusCode = { none: 0x00, alteredImplicitly: 0x02 } as const;

function runPortGroups(standing: Standing): Outcome {
  const { cdb } = standing.task;
  // PARAMETER DATA FORMAT: length only, or extended header (tables 304 and 305). IMPLICIT TRANSITION TIME 0: not specified.
  const isExtended = cdb[1]! >> 5 === 1;
  const { portGroups } = standing.nexus.owner;
  const groups = portGroups.present;
  const headerBytes = isExtended ? 8 : 4;
  const totalBytes = headerBytes + groups.reduce((sum, { ports }) => sum + 8 + 4 * ports.length, 0);
  const bytes = new Uint8Array(totalBytes);
  putU32(bytes, 0, totalBytes - 4);
  if (isExtended) bytes[4] = 0x10;
  let at = headerBytes;
  for (const { id, state, preferred, ports } of groups) {
    bytes[at] = (preferred ? preferredBit : 0) | accessStateCode[state];
    bytes[at + 1] = supportedStates;
    putU16(bytes, at + 2, id);
    bytes[at + 5] = portGroups.isAltered(id) ? statusCode.alteredImplicitly : statusCode.none;
    bytes[at + 7] = ports.length;
    at += 8;
    for (const port of ports) {
      putU16(bytes, at + 2, port);
      at += 4;
    }
  }
  return answer(standing, bytes, u32(cdb, 6));
}

const timeoutsAsked = 0x80;
const timeoutBytes = 12;
const defaultTimeouts = { nominalS: 0, recommendedS: 30 };
const hasAction = 0x01;
const hasTimeouts = 0x02;

/** SPC-5 6.35.4. */
function putTimeouts(bytes: Uint8Array, at: number, command: Command): void {
  const { nominalS, recommendedS } = command.timeouts ?? defaultTimeouts;
  putU16(bytes, at, timeoutBytes - 2);
  putU32(bytes, at + 4, nominalS);
  putU32(bytes, at + 8, recommendedS);
}

const reporting = { all: 0, opcode: 1, action: 2, either: 3 } as const;

function runOperationCodes(standing: Standing): Outcome {
  const { cdb } = standing.task;
  const options = cdb[2]! & 0x07;
  const allocationBytes = u32(cdb, 6);
  const withTimeouts = (cdb[2]! & timeoutsAsked) !== 0;
  if (options === reporting.all) return answer(standing, everyCommand(standing, withTimeouts), allocationBytes);
  if (options > reporting.either) {
    badField(standing, 2, 2);
    return "done";
  }
  const { table } = standing.nexus.owner;
  const opcode = cdb[3]!;
  const action = u16(cdb, 4);
  const actions = table.hasActions(opcode);
  // An opcode with service actions must be asked for with one, and the other way round (SPC-5 6.35.1).
  if (
    (options === reporting.opcode && actions) ||
    (options === reporting.action && !actions && table.knowsOpcode(opcode))
  ) {
    const field = { inCdb: true, byte: options === reporting.opcode ? 2 : 4 };
    return fail(standing, SenseKey.illegalRequest, Asc.invalidFieldInCdb, { field });
  }
  const wanted = actions ? action : options === reporting.either && action !== 0 ? Number.NaN : null;
  const command = table.commands.find((one) => one.opcode === opcode && one.serviceAction === wanted);
  return answer(standing, oneCommand(command ?? null, withTimeouts), allocationBytes);
}

function everyCommand(standing: Standing, withTimeouts: boolean): Uint8Array {
  const { commands } = standing.nexus.owner.table;
  const descriptorBytes = 8 + (withTimeouts ? timeoutBytes : 0);
  const bytes = new Uint8Array(4 + commands.length * descriptorBytes);
  putU32(bytes, 0, bytes.byteLength - 4);
  for (const [index, command] of commands.entries()) {
    const at = 4 + index * descriptorBytes;
    bytes[at] = command.opcode;
    putU16(bytes, at + 2, command.serviceAction ?? 0);
    bytes[at + 5] = (withTimeouts ? hasTimeouts : 0) | (command.serviceAction === null ? 0 : hasAction);
    putU16(bytes, at + 6, command.cdbBytes);
    if (withTimeouts) putTimeouts(bytes, at + 8, command);
  }
  return bytes;
}

const support = { none: 1, asInStandard: 3 } as const;

function oneCommand(command: Command | null, withTimeouts: boolean): Uint8Array {
  if (command === null) return new Uint8Array([0, support.none, 0, 0]);
  const bytes = new Uint8Array(4 + command.cdbBytes + (withTimeouts ? timeoutBytes : 0));
  bytes[1] = support.asInStandard | (withTimeouts ? timeoutsAsked : 0);
  putU16(bytes, 2, command.cdbBytes);
  bytes.set(command.usage, 4);
  if (withTimeouts) putTimeouts(bytes, 4 + command.cdbBytes, command);
  return bytes;
}

/** ATS, ATSS, CTSS, LURS, TRS; the extended form adds its length alone. */
function runTaskFunctions(standing: Standing): Outcome {
  const { cdb } = standing.task;
  const isExtended = (cdb[2]! & 0x80) !== 0;
  const bytes = new Uint8Array(isExtended ? 16 : 4);
  bytes[0] = 0xda;
  if (isExtended) bytes[3] = 12;
  return answer(standing, bytes, u32(cdb, 6));
}

const report = { opcode: 0xa3, cdbBytes: 12, access: "free", medium: false } as const;

export const reportCommands: readonly Command[] = [
  {
    ...report,
    name: "REPORT TARGET PORT GROUPS",
    worstPort: "unavailable",
    serviceAction: 0x0a,
    usage: [0xa3, 0xea, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0],
    run: runPortGroups,
  },
  {
    ...report,
    name: "REPORT SUPPORTED OPERATION CODES",
    serviceAction: 0x0c,
    usage: [0xa3, 0x0c, 0x87, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0],
    run: runOperationCodes,
  },
  {
    ...report,
    name: "REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS",
    serviceAction: 0x0d,
    usage: [0xa3, 0x0d, 0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0],
    run: runTaskFunctions,
  },
];
