/**
 * PERSISTENT RESERVE IN (SPC-5 6.16) and PERSISTENT RESERVE OUT (6.17) as an initiator sends them: command descriptor blocks and
 * parameter lists out, parameter data in. Pure.
 *
 * Invariant: what a device answers is believed in as far as it reaches and no further; one that is cut short or contradicts itself is null.
 */

export const keyBytes = 8;

/** SPC-5 table 78: Write Exclusive - All Registrants. */
export const writeExclusiveAllRegistrants = 7;

/** As hex digits, which compare. */
export type ReservationKey = string;

export interface ReserveOut {
  readonly cdb: Uint8Array;
  readonly dataOut: Uint8Array;
}

export interface ReserveIn {
  readonly cdb: Uint8Array;
  readonly dataInBytesMax: number;
}

const opcode = { in: 0x5e, out: 0x5f } as const;
/** SPC-5 tables 202 and 211. */
const inAction = { readKeys: 0, readReservation: 1, reportCapabilities: 2 } as const;
const outAction = { reserve: 1, preemptAndAbort: 5, registerAndIgnoreExistingKey: 6 } as const;
/** Activate Persist Through Power Loss, byte 20 of the basic parameter list. */
const aptpl = 0x01;

const cdbBytes = 10;
const parameterListBytes = 24;
const headerBytes = 8;
const reservationBytes = 16;
const capabilitiesBytes = 8;
/** A hundred times what two appliances need; hosts of an array that serves others have no business on these disks. */
const keysMax = 512;

/** SPC-5 6.17.3: the nexus has this key from now on, whatever it had before; all of the device's registrations outlast its loss of power. */
export function registerAndIgnoreExistingKey(key: ReservationKey): ReserveOut {
  return reserveOut(outAction.registerAndIgnoreExistingKey, 0, { own: null, action: key, flags: aptpl });
}

/** SPC-5 5.14.9: for those who are registered, whoever asks first; from a holder it changes nothing. */
export function reserve(own: ReservationKey): ReserveOut {
  return reserveOut(outAction.reserve, writeExclusiveAllRegistrants, { own, action: null, flags: 0 });
}

/** SPC-5 5.14.11: takes the registrations with the victim's key away, and ends the commands that came with them. */
export function preemptAndAbort(own: ReservationKey, victim: ReservationKey): ReserveOut {
  return reserveOut(outAction.preemptAndAbort, writeExclusiveAllRegistrants, { own, action: victim, flags: 0 });
}

export const readKeys: ReserveIn = reserveIn(inAction.readKeys, headerBytes + keysMax * keyBytes);
export const readReservation: ReserveIn = reserveIn(inAction.readReservation, headerBytes + reservationBytes);
export const reportCapabilities: ReserveIn = reserveIn(inAction.reportCapabilities, capabilitiesBytes);

/** Scope 0h in the upper half of the third byte is the logical unit. */
function reserveOut(
  action: number,
  type: number,
  list: { readonly own: ReservationKey | null; readonly action: ReservationKey | null; readonly flags: number },
): ReserveOut {
  const cdb = new Uint8Array(cdbBytes);
  cdb[0] = opcode.out;
  cdb[1] = action;
  cdb[2] = type;
  new DataView(cdb.buffer).setUint32(5, parameterListBytes);
  const dataOut = new Uint8Array(parameterListBytes);
  if (list.own !== null) dataOut.set(bytesOfKey(list.own), 0);
  if (list.action !== null) dataOut.set(bytesOfKey(list.action), keyBytes);
  dataOut[20] = list.flags;
  return { cdb, dataOut };
}

function reserveIn(action: number, dataInBytesMax: number): ReserveIn {
  const cdb = new Uint8Array(cdbBytes);
  cdb[0] = opcode.in;
  cdb[1] = action;
  new DataView(cdb.buffer).setUint16(7, dataInBytesMax);
  return { cdb, dataInBytesMax };
}

export interface RegisteredKeys {
  /** One for each registration. */
  readonly keys: readonly ReservationKey[];
  /** Whether there are no more of them. */
  readonly isAll: boolean;
}

/** SPC-5 6.16.2. */
export function decodeKeys(data: Uint8Array): RegisteredKeys | null {
  const claimedBytes = additionalBytes(data);
  if (claimedBytes === null || claimedBytes % keyBytes !== 0) return null;
  const thereBytes = Math.min(claimedBytes, data.byteLength - headerBytes);
  const count = Math.floor(thereBytes / keyBytes);
  const keys = Array.from({ length: count }, (_, index) => keyOf(data, headerBytes + index * keyBytes));
  return { keys, isAll: count * keyBytes === claimedBytes };
}

/** `type` as in SPC-5 table 78, for the whole unit. */
export type HeldReservation = { readonly type: number } | "none";

/** SPC-5 6.16.3. */
export function decodeReservation(data: Uint8Array): HeldReservation | null {
  const claimedBytes = additionalBytes(data);
  if (claimedBytes === 0) return "none";
  if (claimedBytes !== reservationBytes || data.byteLength < headerBytes + reservationBytes) return null;
  const scopeAndType = data[21]!;
  return scopeAndType >> 4 === 0 ? { type: scopeAndType & 0x0f } : null;
}

export interface ReserveCapabilities {
  /** Registrations can outlast a loss of power (PTPL_C), and do so now (PTPL_A). */
  readonly canPersist: boolean;
  readonly persists: boolean;
  /** The device says that it has Write Exclusive - All Registrants. */
  readonly hasWriteExclusiveAllRegistrants: boolean;
}

/** SPC-5 6.16.4. */
export function decodeCapabilities(data: Uint8Array): ReserveCapabilities | null {
  if (data.byteLength < capabilitiesBytes || ((data[0]! << 8) | data[1]!) < capabilitiesBytes) return null;
  const hasTypeMask = (data[3]! & 0x80) !== 0;
  return {
    canPersist: (data[2]! & 0x01) !== 0,
    persists: (data[3]! & 0x01) !== 0,
    hasWriteExclusiveAllRegistrants: hasTypeMask && (data[4]! & 0x80) !== 0,
  };
}

/** Of a READ KEYS or READ RESERVATION answer; null: it has not even a whole header. */
function additionalBytes(data: Uint8Array): number | null {
  if (data.byteLength < headerBytes) return null;
  return new DataView(data.buffer, data.byteOffset, data.byteLength).getUint32(4);
}

export function keyOf(bytes: Uint8Array, at = 0): ReservationKey {
  return Buffer.from(bytes.subarray(at, at + keyBytes)).toString("hex");
}

function bytesOfKey(key: ReservationKey): Uint8Array {
  return Buffer.from(key, "hex");
}
