/**
 * PERSISTENT RESERVE IN (SPC-5 6.16), PERSISTENT RESERVE OUT (6.17), RESERVE and RELEASE (SPC-2 7.21 to 7.24).
 *
 * A change is durable before its status is sent where an initiator asked for that (APTPL).
 */
import { fromHex, toHex } from "../../codec/bytes.ts";
import { joined, putU16, putU32, u16, u32 } from "./cdb.ts";
import { answer, badField, badParameter, type Command, end, fail, good, type Outcome, refuse } from "./command.ts";
import type { ScsiNexus } from "./nexus.ts";
import {
  type Answer,
  type Effects,
  isReservationType,
  type NexusName,
  noKey,
  type PersistentReservations,
  type Registrant,
  type ReservationType,
} from "./persistent_reservations.ts";
import { nameOf } from "./reservations.ts";
import { Asc, SenseKey } from "./sense.ts";
import type { Standing } from "./standing.ts";
import { ScsiStatus } from "./task.ts";
import { decodeTransportId, encodeTransportId } from "./transport_id.ts";

const zeroKey = fromHex(noKey);

// -------------------------------------------------------------------- PERSISTENT RESERVE IN

function answerIn(standing: Standing, additional: Uint8Array): Outcome {
  const bytes = new Uint8Array(8 + additional.byteLength);
  putU32(bytes, 0, standing.unit.reservations.persistent.generation);
  putU32(bytes, 4, additional.byteLength);
  bytes.set(additional, 8);
  return answer(standing, bytes, u16(standing.task.cdb, 7));
}

function runReadKeys(standing: Standing): Outcome {
  const { registrants } = standing.unit.reservations.persistent;
  const keys = new Uint8Array(8 * registrants.length);
  for (const [index, { key }] of registrants.entries()) keys.set(fromHex(key), 8 * index);
  return answerIn(standing, keys);
}

function runReadReservation(standing: Standing): Outcome {
  const { reservation } = standing.unit.reservations.persistent;
  if (reservation === null) return answerIn(standing, new Uint8Array(0));
  const descriptor = new Uint8Array(16);
  descriptor.set(reservation.holder === null ? zeroKey : fromHex(reservation.holder.key));
  descriptor[13] = reservation.type;
  return answerIn(standing, descriptor);
}

/** SPC-5 6.16.4. */
function runReportCapabilities(standing: Standing): Outcome {
  const bytes = new Uint8Array(8);
  putU16(bytes, 0, 8);
  // SIP_C, ATP_C, PTPL_C.
  bytes[2] = 0x0d;
  // TMV; ALLOW COMMANDS 000b; PTPL_A.
  bytes[3] = 0x80 | (standing.unit.reservations.persistent.persistent ? 0x01 : 0);
  // All types.
  bytes[4] = 0xea;
  bytes[5] = 0x01;
  return answer(standing, bytes, u16(standing.task.cdb, 7));
}

function runReadFullStatus(standing: Standing): Outcome {
  const { persistent } = standing.unit.reservations;
  const parts = persistent.registrants.map((registrant) => {
    const id = encodeTransportId(registrant.initiatorPort);
    const bytes = new Uint8Array(24 + id.byteLength);
    bytes.set(fromHex(registrant.key));
    const holds = persistent.holds(registrant);
    bytes[12] = (registrant.allPorts ? 0x02 : 0) | (holds ? 0x01 : 0);
    bytes[13] = holds ? persistent.reservation!.type : 0;
    putU16(bytes, 18, registrant.relativePort);
    putU32(bytes, 20, id.byteLength);
    bytes.set(id, 24);
    return bytes;
  });
  return answerIn(standing, joined(parts));
}

// -------------------------------------------------------------------- PERSISTENT RESERVE OUT

const plainListBytes = 24;
const listBytesMax = 8192;
const registerAction = 0;
const registerAndMoveAction = 7;
const flags = { specifiesPorts: 0x08, allTargetPorts: 0x04, persistent: 0x01, unregister: 0x02 } as const;

function judgeOut(standing: Standing): boolean {
  const { task } = standing;
  if (standing.unit.reservations.isReservedFor(standing.nexus)) {
    task.status = ScsiStatus.reservationConflict;
    return false;
  }
  const listBytes = u32(task.cdb, 5);
  if (listBytes < plainListBytes || listBytes > listBytesMax)
    return refuse(standing, SenseKey.illegalRequest, Asc.parameterListLengthError);
  task.dataOutBytes = listBytes;
  return true;
}

/** The types that change a reservation name a scope and a type; scope 0 alone, the logical unit. */
function judgeTyped(standing: Standing): boolean {
  const { cdb } = standing.task;
  if ((cdb[2]! & 0xf0) !== 0) return badField(standing, 2, 7);
  if (!isReservationType(cdb[2]! & 0x0f)) return badField(standing, 2, 3);
  return judgeOut(standing);
}

function typeOf(standing: Standing): ReservationType {
  return (standing.task.cdb[2]! & 0x0f) as ReservationType;
}

/** The list, when it is as long as it claims; null: the task has been failed. */
function listOf(standing: Standing, plain: boolean): Uint8Array | null {
  const list = joined(standing.task.dataOut);
  const isWhole = list.byteLength >= standing.task.dataOutBytes;
  if (isWhole && (!plain || list.byteLength === plainListBytes)) return list;
  fail(standing, SenseKey.illegalRequest, Asc.parameterListLengthError);
  return null;
}

const keyAt = (list: Uint8Array, at: number): string => toHex(list.subarray(at, at + 8));

function settle(standing: Standing, change: (persistent: PersistentReservations) => Answer, aborts = false): Outcome {
  const { reservations } = standing.unit;
  if (reservations.keeping) {
    standing.task.status = ScsiStatus.busy;
    return "done";
  }
  const before = reservations.persistent.copy();
  const outcome = change(reservations.persistent);
  if (!outcome.ok) {
    switch (outcome.why) {
      case "conflict":
        standing.task.status = ScsiStatus.reservationConflict;
        return "done";
      case "bad-parameter":
        return badParameter(standing, 8);
      case "bad-release":
        return fail(standing, SenseKey.illegalRequest, Asc.invalidReleaseOfReservation);
      case "no-room":
        return fail(standing, SenseKey.illegalRequest, Asc.insufficientRegistrationResources);
    }
  }
  const { effects } = outcome;
  reservations.keep(before, (error) => {
    if (error === null) take(standing, effects, aborts);
    else {
      fail(standing, SenseKey.illegalRequest, Asc.insufficientRegistrationResources);
      end(standing);
    }
  });
  return "pending";
}

/** The change stands: who lost something is told, and with PREEMPT AND ABORT the victims' tasks have ended before the status is sent. */
function take(standing: Standing, { attentions, preempted }: Effects, aborts: boolean): void {
  for (const { nexus, asc } of attentions) for (const access of accessesOf(standing, nexus)) access.establish(asc);
  // One that is still registered, by another registration than the one that went, is no victim.
  const { persistent } = standing.unit.reservations;
  const isVictim = ({ nexus }: Standing): boolean =>
    isOneOf(nameOf(nexus), preempted) && persistent.find(nameOf(nexus)) === null;
  const victims = aborts ? [...standing.unit.tasks].filter(isVictim) : [];
  let left = 1;
  const goOn = (): void => {
    if (--left > 0) return;
    good(standing);
    end(standing);
  };
  for (const victim of victims.reverse()) {
    left++;
    victim.nexus.abort(victim, standing.nexus, goOn, true);
  }
  goOn();
}

function accessesOf(standing: Standing, registrant: Registrant) {
  const isTold = (nexus: ScsiNexus): boolean => nexus !== standing.nexus && isOneOf(nameOf(nexus), [registrant]);
  return [...standing.unit.accesses].filter(({ nexus }) => isTold(nexus));
}

function isOneOf(name: NexusName, registrants: readonly Registrant[]): boolean {
  return registrants.some(
    (one) => one.initiatorPort === name.initiatorPort && (one.allPorts || one.relativePort === name.relativePort),
  );
}

function runRegister(standing: Standing): Outcome {
  const ignoresKey = (standing.task.cdb[1]! & 0x1f) !== registerAction;
  const list = listOf(standing, false);
  if (list === null) return "done";
  const specifies = (list[20]! & flags.specifiesPorts) !== 0;
  if (specifies && ignoresKey) return badParameter(standing, 20, 3);
  if (!specifies && list.byteLength !== plainListBytes)
    return fail(standing, SenseKey.illegalRequest, Asc.parameterListLengthError);
  const others = specifies ? portsOf(list) : [];
  if (others === null) return badParameter(standing, plainListBytes);
  const request = {
    key: ignoresKey ? null : keyAt(list, 0),
    newKey: keyAt(list, 8),
    persistent: (list[20]! & flags.persistent) !== 0,
    allPorts: (list[20]! & flags.allTargetPorts) !== 0,
    others,
  };
  return settle(standing, (persistent) => persistent.register(nameOf(standing.nexus), request));
}

/** The TransportIDs behind a list with SPEC_I_PT; null when their lengths lie. */
function portsOf(list: Uint8Array): string[] | null {
  if (list.byteLength < plainListBytes + 4) return null;
  const claimed = u32(list, plainListBytes);
  if (claimed !== list.byteLength - plainListBytes - 4) return null;
  const ports: string[] = [];
  for (let at = plainListBytes + 4; at < list.byteLength; ) {
    const found = decodeTransportId(list, at);
    if (found === null || ports.includes(found.port)) return null;
    ports.push(found.port);
    at += found.totalBytes;
  }
  return ports;
}

function runReserve(standing: Standing): Outcome {
  const list = listOf(standing, true);
  if (list === null) return "done";
  const request = { key: keyAt(list, 0), type: typeOf(standing) };
  return settle(standing, (persistent) => persistent.reserve(nameOf(standing.nexus), request));
}

function runRelease(standing: Standing): Outcome {
  const list = listOf(standing, true);
  if (list === null) return "done";
  const request = { key: keyAt(list, 0), type: typeOf(standing) };
  return settle(standing, (persistent) => persistent.release(nameOf(standing.nexus), request));
}

function runClear(standing: Standing): Outcome {
  const list = listOf(standing, true);
  if (list === null) return "done";
  return settle(standing, (persistent) => persistent.clear(nameOf(standing.nexus), { key: keyAt(list, 0) }));
}

const preemptAndAbortAction = 5;

function runPreempt(standing: Standing): Outcome {
  const list = listOf(standing, true);
  if (list === null) return "done";
  const aborts = (standing.task.cdb[1]! & 0x1f) === preemptAndAbortAction;
  const request = { key: keyAt(list, 0), victimKey: keyAt(list, 8), type: typeOf(standing) };
  return settle(standing, (persistent) => persistent.preempt(nameOf(standing.nexus), request), aborts);
}

function runMove(standing: Standing): Outcome {
  const list = listOf(standing, false);
  if (list === null) return "done";
  const found = decodeTransportId(list, plainListBytes);
  const lengthIsTrue = u32(list, 20) === list.byteLength - plainListBytes;
  if (found === null || !lengthIsTrue || found.totalBytes !== list.byteLength - plainListBytes)
    return badParameter(standing, plainListBytes);
  const request = {
    key: keyAt(list, 0),
    newKey: keyAt(list, 8),
    target: { initiatorPort: found.port, relativePort: u16(list, 18) },
    unregister: (list[17]! & flags.unregister) !== 0,
    persistent: (list[17]! & flags.persistent) !== 0,
  };
  return settle(standing, (persistent) => persistent.move(nameOf(standing.nexus), request));
}

// -------------------------------------------------------------------- RESERVE, RELEASE

const obsoleteReserve = 0x1f;

function judgePlain(standing: Standing): boolean {
  // Third-party and extent reservations are obsolete (SPC-3).
  if ((standing.task.cdb[1]! & obsoleteReserve) !== 0) return badField(standing, 1, 4);
  return true;
}

function runPlainReserve(standing: Standing): Outcome {
  if (standing.unit.reservations.reserve(standing.nexus)) return good(standing);
  standing.task.status = ScsiStatus.reservationConflict;
  return "done";
}

function runPlainRelease(standing: Standing): Outcome {
  standing.unit.reservations.release(standing.nexus);
  return good(standing);
}

// --------------------------------------------------------------------

const reserving = { cdbBytes: 10, access: "free", medium: false, worstPort: "standby" } as const;
const reserveIn = { ...reserving, opcode: 0x5e } as const;
const usageIn = (action: number) => [0x5e, action, 0, 0, 0, 0, 0, 0xff, 0xff, 0];
const reserveOut = { ...reserving, opcode: 0x5f } as const;
const usageOut = (action: number, typed: boolean) => [0x5f, action, typed ? 0xff : 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0];
const plain = { serviceAction: null, access: "free", medium: false, judge: judgePlain } as const;

function outCommand(name: string, action: number, run: (standing: Standing) => Outcome, typed = false): Command {
  const judge = typed ? judgeTyped : judgeOut;
  const usage = usageOut(action, typed);
  return { ...reserveOut, name: `PERSISTENT RESERVE OUT, ${name}`, serviceAction: action, usage, judge, run };
}

function inCommand(name: string, action: number, run: (standing: Standing) => Outcome): Command {
  return { ...reserveIn, name: `PERSISTENT RESERVE IN, ${name}`, serviceAction: action, usage: usageIn(action), run };
}

export const reservationCommands: readonly Command[] = [
  inCommand("READ KEYS", 0, runReadKeys),
  inCommand("READ RESERVATION", 1, runReadReservation),
  inCommand("REPORT CAPABILITIES", 2, runReportCapabilities),
  inCommand("READ FULL STATUS", 3, runReadFullStatus),
  outCommand("REGISTER", registerAction, runRegister),
  outCommand("RESERVE", 1, runReserve, true),
  outCommand("RELEASE", 2, runRelease, true),
  outCommand("CLEAR", 3, runClear),
  outCommand("PREEMPT", 4, runPreempt, true),
  outCommand("PREEMPT AND ABORT", preemptAndAbortAction, runPreempt, true),
  outCommand("REGISTER AND IGNORE EXISTING KEY", 6, runRegister),
  outCommand("REGISTER AND MOVE", registerAndMoveAction, runMove),
  { ...plain, name: "RESERVE(6)", opcode: 0x16, cdbBytes: 6, usage: [0x16, 0, 0, 0, 0, 0], run: runPlainReserve },
  { ...plain, name: "RELEASE(6)", opcode: 0x17, cdbBytes: 6, usage: [0x17, 0, 0, 0, 0, 0], run: runPlainRelease },
  {
    ...plain,
    name: "RESERVE(10)",
    opcode: 0x56,
    cdbBytes: 10,
    usage: [0x56, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    run: runPlainReserve,
  },
  {
    ...plain,
    name: "RELEASE(10)",
    opcode: 0x57,
    cdbBytes: 10,
    usage: [0x57, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    run: runPlainRelease,
  },
];
