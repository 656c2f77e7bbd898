/**
 * What a command is to the device server, and what all commands end with.
 *
 * A command's `judge` sees the header alone; its `run` starts when all data has landed and may go on in block requests.
 */
import type { BlockError } from "../../volume/block_request.ts";
import type { LogicalUnit } from "./logical_unit.ts";
import { Asc, encodeSense, type SenseDetails, SenseKey } from "./sense.ts";
import type { Standing } from "./standing.ts";
import { ScsiStatus } from "./task.ts";

export type Outcome = "done" | "reads" | "pending";

/**
 * How reservations and unit states treat a command (SPC-5 5.14, SBC-4 4.17): `free` is allowed for everybody; `look` reads the
 * medium or parameters; `change` writes them.
 */
export type AccessClass = "free" | "look" | "change";

export interface Command {
  /** As the standard spells it. */
  readonly name: string;
  readonly opcode: number;
  /** null: the opcode alone names the command. */
  readonly serviceAction: number | null;
  readonly cdbBytes: 6 | 10 | 12 | 16 | 32;
  /** CDB usage data (SPC-5 6.37.3): a bit is set where the device server looks at it. Without opcode and service action. */
  readonly usage: readonly number[];
  readonly access: AccessClass;
  /** Where a field of the CDB decides it. */
  readonly accessOf?: (cdb: Uint8Array) => AccessClass;
  /** Needs the volume: open, ready. */
  readonly medium: boolean;
  /** Also when a unit attention waits, and then leaves it (SPC-5 6.6.1, 6.33). */
  readonly ignoresAttention?: boolean;
  /**
   * The worst state of a target port in which the command is accepted there (SPC-4 5.16.2.4.4, 5.16.2.4.5). Absent: through active ports
   * alone.
   */
  readonly worstPort?: "standby" | "unavailable";
  /** Also for a LUN that is none. */
  readonly withoutUnit?: boolean;
  /** Seconds: the nominal and the recommended time (SPC-5 6.37.4). Default 0 and 30. */
  readonly timeouts?: { readonly nominalS: number; readonly recommendedS: number };
  /** Judges the header, sets the task's `dataOutBytes` when data comes with it. False: `fail` has been called. */
  readonly judge?: (standing: Standing) => boolean;
  readonly run: (standing: Standing) => Outcome;
}

const empty = new Uint8Array(0);

/** Ends with GOOD. */
export function good(standing: Standing): "done" {
  const { task } = standing;
  task.status = ScsiStatus.good;
  task.sense = empty;
  return "done";
}

/** Ends with GOOD and `bytes`, of which the initiator gets `allocationBytes` at most (SPC-5 4.2.5.6). */
export function answer(standing: Standing, bytes: Uint8Array, allocationBytes: number): "done" {
  const { task } = standing;
  task.dataIn = bytes.byteLength > allocationBytes ? bytes.subarray(0, allocationBytes) : bytes;
  task.dataInBytes = task.dataIn.byteLength;
  return good(standing);
}

/** Ends with CHECK CONDITION. */
export function fail(standing: Standing, key: SenseKey, asc: number, details?: SenseDetails): "done" {
  const { task, access } = standing;
  task.status = ScsiStatus.checkCondition;
  task.sense = encodeSense(access?.unit.parameters.descriptorSense ?? false, key, asc, details);
  task.dataIn = empty;
  task.dataInBytes = 0;
  return "done";
}

/** `judge`'s refusals. */
export function refuse(standing: Standing, key: SenseKey, asc: number, details?: SenseDetails): false {
  fail(standing, key, asc, details);
  return false;
}

/** ILLEGAL REQUEST, INVALID FIELD IN CDB, at a byte of the CDB and the field's most significant bit there. */
export function badField(standing: Standing, byte: number, bit?: number): false {
  const field = bit === undefined ? { inCdb: true, byte } : { inCdb: true, byte, bit };
  return refuse(standing, SenseKey.illegalRequest, Asc.invalidFieldInCdb, { field });
}

/** ILLEGAL REQUEST, INVALID FIELD IN PARAMETER LIST. */
export function badParameter(standing: Standing, byte: number, bit?: number): "done" {
  const field = bit === undefined ? { inCdb: false, byte } : { inCdb: false, byte, bit };
  return fail(standing, SenseKey.illegalRequest, Asc.invalidFieldInParameterList, { field });
}

/** False: a SANITIZE of `unit` runs, or has failed and was not acknowledged (SBC-4 4.11); `fail` has been called. */
export function notSanitized(standing: Standing, unit: LogicalUnit): boolean {
  const { sanitize } = unit;
  if (sanitize === null) return true;
  if (sanitize.failed) return refuse(standing, SenseKey.mediumError, Asc.sanitizeFailed);
  return refuse(standing, SenseKey.notReady, Asc.sanitizeInProgress, { progress: sanitize.progress });
}

/** A pending task has ended with the status that stands in it. */
export function end(standing: Standing): void {
  standing.nexus.ended(standing);
}

/**
 * The next part of a long command, from the event loop: nothing piles up on the stack, and others have their turn. A task that may not
 * go on ends instead.
 */
export function goOn(standing: Standing, part: (standing: Standing) => void): void {
  standing.nexus.owner.defer(() => {
    if (mayGoOn(standing)) part(standing);
    else end(standing);
  });
}

/** False: it was aborted, its mapping has gone, or its unit is being sanitized; its volume may be closed already. */
export function mayGoOn(standing: Standing): boolean {
  if (standing.task.aborted) return false;
  if (standing.access!.target === null) return refuse(standing, SenseKey.illegalRequest, Asc.logicalUnitNotSupported);
  return notSanitized(standing, standing.unit);
}

/** What a block request came to, as the task's end. `lba`: where it began, for the INFORMATION field. */
export function endWith(standing: Standing, error: BlockError | null): void {
  if (error === null) good(standing);
  else failWith(standing, error);
  end(standing);
}

/** SBC-4 4.18: what the volume's refusal means to an initiator. */
export function failWith(standing: Standing, error: BlockError): "done" {
  switch (error) {
    case "read-only":
      return fail(standing, SenseKey.dataProtect, Asc.writeProtected);
    case "no-space":
      return fail(standing, SenseKey.dataProtect, Asc.spaceAllocationFailedWriteProtect);
    case "medium-error":
      return fail(standing, SenseKey.mediumError, Asc.unrecoveredReadError, { information: standing.startLba });
    case "out-of-range":
      return fail(standing, SenseKey.illegalRequest, Asc.lbaOutOfRange);
    case "unaligned":
      return fail(standing, SenseKey.illegalRequest, Asc.invalidFieldInCdb);
    case "miscompare":
      return fail(standing, SenseKey.miscompare, Asc.miscompareDuringVerify, {
        information: standing.miscompareOffset,
      });
    case "too-long":
      return fail(standing, SenseKey.illegalRequest, Asc.invalidFieldInCdb);
    case "reserved":
      standing.task.status = ScsiStatus.reservationConflict;
      return "done";
    case "not-ready":
      return fail(standing, SenseKey.notReady, Asc.becomingReady);
    case "closed":
      return fail(standing, SenseKey.notReady, Asc.notReadyCause);
  }
}
