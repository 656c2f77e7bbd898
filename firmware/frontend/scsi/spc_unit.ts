/**
 * TEST UNIT READY (SPC-5 6.47), REQUEST SENSE (6.39), SEND DIAGNOSTIC (6.42), RECEIVE DIAGNOSTIC RESULTS (6.31), START STOP UNIT
 * (SBC-4 5.31), PREVENT ALLOW MEDIUM REMOVAL (SBC-4 5.15).
 */

import { u16 } from "./cdb.ts";
import { answer, badField, type Command, good, type Outcome } from "./command.ts";
import { Asc, encodeSense, SenseKey } from "./sense.ts";
import type { Standing } from "./standing.ts";

const describe = 0x01;

/** Sense data as data, with GOOD: a unit attention that waits is told and gone with this (SPC-5 6.39). */
function runRequestSense(standing: Standing): Outcome {
  const { access, nexus, task } = standing;
  const inDescriptors = (task.cdb[1]! & describe) !== 0;
  return answer(standing, senseNow(), task.cdb[4]!);

  function senseNow(): Uint8Array {
    // As INQUIRY has it: peripheral qualifier 011b, or 001b (SPC-4 6.39).
    if (access === null || nexus.owner.portGroups.isUnavailable(nexus.identity.relativePort))
      return encodeSense(inDescriptors, SenseKey.illegalRequest, Asc.logicalUnitNotSupported);
    const attention = access.takeAttention();
    if (attention !== null) return encodeSense(inDescriptors, SenseKey.unitAttention, attention);
    const { sanitize } = access.unit;
    if (sanitize?.failed === true) return encodeSense(inDescriptors, SenseKey.mediumError, Asc.sanitizeFailed);
    if (sanitize !== null)
      return encodeSense(inDescriptors, SenseKey.notReady, Asc.sanitizeInProgress, { progress: sanitize.progress });
    return encodeSense(inDescriptors, SenseKey.noSense, Asc.none);
  }
}

const powerCondition = 0xf0;
const ejectBit = 0x02;
const startBit = 0x01;

/** The medium of a fixed disk is not ejected; power conditions are not offered (SBC-4 5.31). */
function judgeStartStop(standing: Standing): boolean {
  const { cdb } = standing.task;
  if ((cdb[4]! & powerCondition) !== 0) return badField(standing, 4, 7);
  if ((cdb[4]! & ejectBit) !== 0) return badField(standing, 4, 1);
  return true;
}

const selfTest = 0x04;
const otherTests = 0xf3;

/** The default self-test alone: the array watches itself all the time (SPC-5 6.42). */
function judgeSendDiagnostic(standing: Standing): boolean {
  const { cdb } = standing.task;
  if (u16(cdb, 3) !== 0) return badField(standing, 3, 7);
  if ((cdb[1]! & otherTests) !== 0) return badField(standing, 1, 7);
  return (cdb[1]! & selfTest) !== 0 || badField(standing, 1, 2);
}

function runReceiveDiagnostic(standing: Standing): Outcome {
  const { cdb } = standing.task;
  // Page 00h alone: the supported pages.
  if ((cdb[1]! & 0x01) !== 0 && cdb[2] !== 0) {
    badField(standing, 2, 7);
    return "done";
  }
  return answer(standing, new Uint8Array([0, 0, 0, 1, 0]), u16(cdb, 3));
}

export const unitCommands: readonly Command[] = [
  {
    name: "TEST UNIT READY",
    opcode: 0x00,
    serviceAction: null,
    cdbBytes: 6,
    usage: [0x00, 0, 0, 0, 0, 0],
    access: "free",
    medium: true,
    run: good,
  },
  {
    name: "REQUEST SENSE",
    worstPort: "unavailable",
    opcode: 0x03,
    serviceAction: null,
    cdbBytes: 6,
    usage: [0x03, 0x01, 0, 0, 0xff, 0],
    access: "free",
    medium: false,
    ignoresAttention: true,
    withoutUnit: true,
    run: runRequestSense,
  },
  {
    name: "START STOP UNIT",
    opcode: 0x1b,
    serviceAction: null,
    cdbBytes: 6,
    usage: [0x1b, 0x01, 0, 0x0f, 0xf7, 0],
    access: "change",
    // To start a unit is allowed to everybody (SBC-4 table 13).
    accessOf: (cdb) => ((cdb[4]! & startBit) !== 0 ? "free" : "change"),
    medium: true,
    judge: judgeStartStop,
    // A host that shuts down must not take the unit from the others: nothing of an array's volume spins.
    run: good,
  },
  {
    name: "PREVENT ALLOW MEDIUM REMOVAL",
    opcode: 0x1e,
    serviceAction: null,
    cdbBytes: 6,
    usage: [0x1e, 0, 0, 0, 0x03, 0],
    access: "free",
    medium: false,
    run: good,
  },
  {
    name: "SEND DIAGNOSTIC",
    worstPort: "standby",
    opcode: 0x1d,
    serviceAction: null,
    cdbBytes: 6,
    usage: [0x1d, 0xf7, 0, 0xff, 0xff, 0],
    access: "change",
    medium: false,
    judge: judgeSendDiagnostic,
    run: good,
  },
  {
    name: "RECEIVE DIAGNOSTIC RESULTS",
    worstPort: "standby",
    opcode: 0x1c,
    serviceAction: null,
    cdbBytes: 6,
    usage: [0x1c, 0x01, 0xff, 0xff, 0xff, 0],
    access: "look",
    medium: false,
    run: runReceiveDiagnostic,
  },
];
