/**
 * SCSI commands to a disk as they are, through the kernel's generic ioctl (SG_IO, struct sg_io_hdr of scsi/sg.h, 64-bit).
 *
 * Invariant: every pointer that the kernel is given stays where it is until the call returns: the memory is taken once, in array buffers of its own
 * (small arrays move; see libc.ts).
 */
import { ptr } from "bun:ffi";
import { ioctl } from "./libc.ts";

export interface ScsiCommand {
  /** At most 16 bytes. */
  readonly cdb: Uint8Array;
  /** At most one of the two; `dataBytesMax` at most. */
  readonly dataOut?: Uint8Array;
  readonly dataInBytesMax?: number;
  /** After so long the kernel ends the command, which may take it a while. */
  readonly limitMs: number;
}

/** Sense data (SPC-5 4.5), as far as it is needed. */
export interface Sense {
  readonly key: number;
  /** Additional sense code and qualifier, as `asc << 8 | ascq`. */
  readonly code: number;
}

/** `data`: what has come, and no more. Everything but `answered` leaves open whether the device has done it. */
export type ScsiOutcome =
  | { readonly kind: "answered"; readonly status: number; readonly sense: Sense | null; readonly data: Uint8Array }
  | { readonly kind: "timeout" | "absent" | "failed"; readonly text: string };

/** SAM-5 5.3. */
export const scsiStatus = { good: 0x00, checkCondition: 0x02, reservationConflict: 0x18 } as const;
export const senseKey = { illegalRequest: 0x05, unitAttention: 0x06 } as const;

const sgIo = 0x2285;
const headerBytes = 88;
const cdbBytesMax = 16;
const senseBytesMax = 96;
export const dataBytesMax = 8192;
/** Byte offsets of the fields. */
const field = {
  interfaceId: 0,
  direction: 4,
  cdbLength: 8,
  senseLengthMax: 9,
  dataLength: 12,
  data: 16,
  cdb: 24,
  sense: 32,
  timeoutMs: 40,
  status: 64,
  senseLength: 67,
  hostStatus: 68,
  driverStatus: 70,
  residual: 72,
} as const;
const direction = { none: -1, toDevice: -2, fromDevice: -3 } as const;
/** DID_… of the kernel. */
const hostStatus = { ok: 0, noConnect: 1, timeOut: 3, badTarget: 4 } as const;
/** The kernel's way of saying that there is sense data. */
const driverSense = 0x08;

const headerMemory = new ArrayBuffer(headerBytes);
const header = new DataView(headerMemory);
const headerPointer = ptr(new Uint8Array(headerMemory));
const cdbMemory = new Uint8Array(new ArrayBuffer(cdbBytesMax));
const senseMemory = new Uint8Array(new ArrayBuffer(senseBytesMax));
const dataMemory = new Uint8Array(new ArrayBuffer(dataBytesMax));

/** Waits for the device; calls do not overlap. Needs CAP_SYS_RAWIO for most commands, and a file that is open for writing. */
export function executeScsi(fd: number, command: ScsiCommand): ScsiOutcome {
  fillHeader(command);
  if (!ioctl(fd, sgIo, headerPointer)) return { kind: "failed", text: "the kernel takes no SCSI command for it" };
  return decodeOutcome(header, senseMemory, dataMemory);
}

function fillHeader({ cdb, dataOut, dataInBytesMax = 0, limitMs }: ScsiCommand): void {
  const dataBytes = dataOut?.byteLength ?? dataInBytesMax;
  if (cdb.byteLength > cdbBytesMax || dataBytes > dataBytesMax) throw new Error("a SCSI command that is too long");
  new Uint8Array(headerMemory).fill(0);
  cdbMemory.set(cdb);
  senseMemory.fill(0);
  dataMemory.fill(0);
  if (dataOut !== undefined) dataMemory.set(dataOut);
  const way = dataBytes === 0 ? direction.none : dataOut === undefined ? direction.fromDevice : direction.toDevice;
  header.setInt32(field.interfaceId, "S".charCodeAt(0), true);
  header.setInt32(field.direction, way, true);
  header.setUint8(field.cdbLength, cdb.byteLength);
  header.setUint8(field.senseLengthMax, senseBytesMax);
  header.setUint32(field.dataLength, dataBytes, true);
  header.setBigUint64(field.data, BigInt(ptr(dataMemory)), true);
  header.setBigUint64(field.cdb, BigInt(ptr(cdbMemory)), true);
  header.setBigUint64(field.sense, BigInt(ptr(senseMemory)), true);
  header.setUint32(field.timeoutMs, limitMs, true);
}

/** What the kernel has written into the header, and where it points. */
export function decodeOutcome(answered: DataView, sense: Uint8Array, data: Uint8Array): ScsiOutcome {
  const status = answered.getUint8(field.status);
  const host = answered.getUint16(field.hostStatus, true);
  const driver = answered.getUint16(field.driverStatus, true) & 0x0f;
  // A device that has answered is believed before the kernel's opinion of the answer.
  if (status === scsiStatus.good && host !== hostStatus.ok) return outcomeOfHost(host);
  if (status === scsiStatus.good && driver !== 0 && driver !== driverSense)
    return { kind: "failed", text: `the kernel's driver says ${driver}` };
  const senseBytes = Math.min(answered.getUint8(field.senseLength), sense.byteLength);
  const lengthBytes = answered.getUint32(field.dataLength, true);
  const leftBytes = Math.max(answered.getInt32(field.residual, true), 0);
  const thereBytes = Math.min(Math.max(lengthBytes - leftBytes, 0), data.byteLength);
  const isIn = answered.getInt32(field.direction, true) === direction.fromDevice;
  return {
    kind: "answered",
    status,
    sense: decodeSense(sense.subarray(0, senseBytes)),
    data: data.slice(0, isIn ? thereBytes : 0),
  };
}

function outcomeOfHost(host: number): ScsiOutcome {
  if (host === hostStatus.timeOut) return { kind: "timeout", text: "no answer in time" };
  if (host === hostStatus.noConnect || host === hostStatus.badTarget)
    return { kind: "absent", text: "it is not there" };
  return { kind: "failed", text: `the way to it has failed (host status ${host})` };
}

/** SPC-5 4.5.2 and 4.5.3; null: none, or of a form that says nothing. */
export function decodeSense(sense: Uint8Array): Sense | null {
  const form = (sense[0] ?? 0) & 0x7f;
  const isDescriptor = form === 0x72 || form === 0x73;
  const isFixed = form === 0x70 || form === 0x71;
  const [keyAt, codeAt] = isDescriptor ? [1, 2] : [2, 12];
  if (!(isDescriptor || isFixed) || sense.byteLength <= keyAt) return null;
  return { key: sense[keyAt]! & 0x0f, code: ((sense[codeAt] ?? 0) << 8) | (sense[codeAt + 1] ?? 0) };
}
