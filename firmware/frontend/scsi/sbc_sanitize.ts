/**
 * SANITIZE (SBC-4 5.30): OVERWRITE writes a pattern over the whole volume, BLOCK ERASE unmaps it (its blocks read as zeros then), EXIT FAILURE
 * MODE acknowledges a failed one. CRYPTOGRAPHIC ERASE is not offered: nothing here is encrypted at rest.
 *
 *   none ──OVERWRITE, BLOCK ERASE──▶ running ──▶ none
 *                                      │ the volume refuses
 *                                      ▼
 *                                   failed ──EXIT FAILURE MODE, a SANITIZE that succeeds──▶ none
 *
 * What hosts see of the volume is sanitized; forks that the operator keeps (salvage sets) and copies at other arrays follow their own
 * rules. Several overwrite passes would go to fresh space each, so one pass writes what the last would leave.
 *
 * Invariants:
 * - While it runs, other commands on the unit end with SANITIZE IN PROGRESS, and it goes on when its session ends.
 * - Nobody finds the unit ready before it has been sanitized: that it has begun is durable before a host is told so and before anything
 *   is changed. Where the device server ends meanwhile, the unit's next one has it as failed.
 */
import { type BlockError, type BlockRequest, type BlockTarget, logicalBlockBytes } from "../../volume/block_request.ts";
import { joined, u16 } from "./cdb.ts";
import { badField, badParameter, type Command, end, fail, good, type Outcome } from "./command.ts";
import { scsiLimits } from "./limits.ts";
import type { LogicalUnit } from "./logical_unit.ts";
import type { NexusOwner } from "./nexus.ts";
import { mayWrite } from "./sbc_range.ts";
import { Asc, SenseKey } from "./sense.ts";
import type { Standing } from "./standing.ts";
import { ScsiStatus } from "./task.ts";

const immediate = 0x80;
const allowUnrestrictedExit = 0x20;
const reservedBit = 0x40;

const action = { overwrite: 0x01, blockErase: 0x02, exitFailureMode: 0x1f } as const;
const overwriteHeaderBytes = 4;

/** True: `fail` has been called. */
function isRunning(standing: Standing): boolean {
  const { sanitize } = standing.unit;
  if (sanitize?.failed !== false) return false;
  fail(standing, SenseKey.notReady, Asc.sanitizeInProgress, { progress: sanitize.progress });
  return true;
}

function judgeSanitize(standing: Standing): boolean {
  const { task } = standing;
  const { cdb } = task;
  // ZNR is for zoned devices; the rest is reserved.
  if ((cdb[1]! & reservedBit) !== 0) return badField(standing, 1, 6);
  for (let byte = 2; byte <= 6; byte++) if (cdb[byte] !== 0) return badField(standing, byte, 7);
  const listBytes = u16(cdb, 7);
  const serviceAction = standing.command.serviceAction;
  if (isRunning(standing)) return false;
  if (serviceAction === action.exitFailureMode) return listBytes === 0 || badField(standing, 7, 7);
  const { nexus, access } = standing;
  if (access!.target === null && nexus.owner.open(nexus, access!) !== "open") {
    fail(standing, SenseKey.notReady, Asc.becomingReady);
    return false;
  }
  if (!mayWrite(standing)) return false;
  if (serviceAction !== action.overwrite) return listBytes === 0 || badField(standing, 7, 7);
  // A pattern of one byte up to a block (SBC-4 5.30.2).
  if (listBytes <= overwriteHeaderBytes || listBytes > overwriteHeaderBytes + logicalBlockBytes)
    return badField(standing, 7, 7);
  task.dataOutBytes = listBytes;
  return true;
}

function runExit(standing: Standing): Outcome {
  const { unit } = standing;
  if (unit.sanitize?.failed === true && !unit.sanitize.mayExit)
    return fail(standing, SenseKey.mediumError, Asc.sanitizeFailed);
  if (unit.sanitize?.failed !== true) return good(standing);
  if (unit.reservations.keeping) return busy(standing);
  unit.reservations.noteSanitize(null, (error) => {
    if (error === null) unit.sanitize = null;
    if (error === null) good(standing);
    else fail(standing, SenseKey.mediumError, Asc.sanitizeFailed);
    end(standing);
  });
  return "pending";
}

/** Another change of what is kept of the unit is under way. */
function busy(standing: Standing): Outcome {
  standing.task.status = ScsiStatus.busy;
  return "done";
}

function runOverwrite(standing: Standing): Outcome {
  const list = joined(standing.task.dataOut);
  if (list.byteLength < standing.task.dataOutBytes)
    return fail(standing, SenseKey.illegalRequest, Asc.parameterListLengthError);
  const count = list[0]! & 0x1f;
  const patternBytes = u16(list, 2);
  const isInverted = (list[0]! & 0x80) !== 0 && count % 2 === 0;
  if (count === 0) return badParameter(standing, 0, 4);
  if (patternBytes === 0 || patternBytes > logicalBlockBytes || overwriteHeaderBytes + patternBytes !== list.byteLength)
    return badParameter(standing, 2);
  const block = new Uint8Array(logicalBlockBytes);
  for (let at = 0; at < block.byteLength; at++) {
    const byte = list[overwriteHeaderBytes + (at % patternBytes)]!;
    block[at] = isInverted ? ~byte & 0xff : byte;
  }
  return sanitize(standing, block);
}

function runErase(standing: Standing): Outcome {
  return sanitize(standing, null);
}

/** `block`: what every block holds afterwards; null: nothing. */
function sanitize(standing: Standing, block: Uint8Array | null): Outcome {
  const { access, unit, task, nexus } = standing;
  // Another one may have begun since this one's header was judged.
  if (isRunning(standing)) return "done";
  if (unit.reservations.keeping) return busy(standing);
  const volume = nexus.owner.openForItself(nexus, access!.info);
  if (typeof volume === "string") return fail(standing, SenseKey.notReady, Asc.becomingReady);
  const mayExit = (task.cdb[1]! & allowUnrestrictedExit) !== 0;
  const isImmediate = (task.cdb[1]! & immediate) !== 0;
  const work = new Sanitizing(unit, volume, block, mayExit, nexus.owner);
  let isHeard = true;
  // Task management and the end of the session end the task; the operation goes on (SBC-4 4.11.3).
  standing.abandon = () => {
    isHeard = false;
    end(standing);
  };
  const tell = (isGood: boolean, refusal: () => void): void => {
    if (!isHeard) return;
    isHeard = false;
    if (isGood) good(standing);
    else refusal();
    end(standing);
  };
  work.start({
    begun: (isKept) => {
      if (isImmediate || !isKept) tell(isKept, () => fail(standing, SenseKey.abortedCommand, Asc.none));
    },
    ended: (error) => tell(error === null, () => fail(standing, SenseKey.mediumError, Asc.sanitizeFailed)),
  });
  return "pending";
}

interface SanitizeListener {
  /** False: it could not be made durable, and nothing has changed. */
  begun(isKept: boolean): void;
  ended(error: BlockError | null): void;
}

/** One SANITIZE at work, with a block request and an open volume of its own: it outlives its command, and its session. */
class Sanitizing implements BlockRequest {
  kind: BlockRequest["kind"] = "unmap";
  startLba = 0;
  blockCount = 0;
  payload: readonly Uint8Array[] = [];
  target = new Uint8Array(0);
  keepAllocated = false;
  atomic = false;
  miscompareOffset = 0;
  extents: BlockRequest["extents"] = [];
  error: BlockError | null = null;
  onDone = (): void => this.#partDone();
  readonly #unit: LogicalUnit;
  readonly #volume: BlockTarget;
  readonly #mayExit: boolean;
  readonly #owner: NexusOwner;
  #isVolumeGone = false;
  #listener: SanitizeListener | null = null;

  constructor(unit: LogicalUnit, volume: BlockTarget, block: Uint8Array | null, mayExit: boolean, owner: NexusOwner) {
    this.#unit = unit;
    this.#volume = volume;
    this.#mayExit = mayExit;
    this.#owner = owner;
    if (block === null) return;
    const isZero = block.every((byte) => byte === 0);
    this.kind = isZero ? "zero" : "write";
    if (!isZero) this.payload = new Array<Uint8Array>(scsiLimits.writeSamePartBlocks).fill(block);
  }

  start(listener: SanitizeListener): void {
    this.#listener = listener;
    this.#volume.onEnded(() => {
      this.#isVolumeGone = true;
    });
    const before = this.#unit.sanitize;
    this.#unit.sanitize = { failed: false, progress: 0, mayExit: this.#mayExit };
    this.#unit.reservations.noteSanitize({ mayExit: this.#mayExit }, (error) => {
      listener.begun(error === null);
      if (error === null) return this.#next();
      this.#unit.sanitize = before;
      this.#volume.close();
      this.#owner.unitUnused(this.#unit);
    });
  }

  #next(): void {
    if (this.#isVolumeGone) return this.#finish("closed");
    const total = this.#volume.blockCount();
    const left = total - this.startLba;
    if (left <= 0) return this.#finish(null);
    const progress = Math.min(65535, Math.floor((this.startLba / total) * 65536));
    this.#unit.sanitize = { failed: false, progress, mayExit: this.#mayExit };
    this.blockCount = Math.min(left, scsiLimits.writeSamePartBlocks);
    if (this.kind === "write" && this.payload.length > this.blockCount)
      this.payload = this.payload.slice(0, this.blockCount);
    this.#volume.submit(this);
  }

  #partDone(): void {
    if (this.error !== null) return this.#finish(this.error);
    this.startLba += this.blockCount;
    // An erase is a mark in a map; an overwrite keeps its pace.
    if (this.kind === "unmap") this.#owner.defer(() => this.#next());
    else this.#owner.after(scsiLimits.sanitizePartMs, () => this.#next());
  }

  #finish(error: BlockError | null): void {
    if (error === null) return this.#forget();
    this.#unit.sanitize = { failed: true, progress: 0, mayExit: this.#mayExit };
    this.#leave(error);
  }

  /** It is done; the unit is ready when nobody can take it for unfinished any more. */
  #forget(): void {
    // What is kept of the volume is another one's by now.
    if (this.#isVolumeGone) return this.#finish("closed");
    const { reservations } = this.#unit;
    const again = (): void => this.#owner.after(scsiLimits.sanitizePartMs, () => this.#forget());
    if (reservations.keeping) return again();
    reservations.noteSanitize(null, (error) => {
      if (error !== null) return again();
      this.#unit.sanitize = null;
      this.#leave(null);
    });
  }

  #leave(error: BlockError | null): void {
    this.#volume.close();
    this.#listener?.ended(error);
    this.#owner.unitUnused(this.#unit);
  }
}

const usage = (serviceAction: number) => [0x48, 0xa0 | serviceAction, 0, 0, 0, 0, 0, 0xff, 0xff, 0];
const common = {
  opcode: 0x48,
  cdbBytes: 10,
  access: "change",
  medium: false,
  timeouts: { nominalS: 0, recommendedS: 3600 },
  judge: judgeSanitize,
} as const;

export const sanitizeCommands: readonly Command[] = [
  {
    ...common,
    name: "SANITIZE, OVERWRITE",
    serviceAction: action.overwrite,
    usage: usage(action.overwrite),
    run: runOverwrite,
  },
  {
    ...common,
    name: "SANITIZE, BLOCK ERASE",
    serviceAction: action.blockErase,
    usage: usage(action.blockErase),
    run: runErase,
  },
  {
    ...common,
    name: "SANITIZE, EXIT FAILURE MODE",
    serviceAction: action.exitFailureMode,
    usage: usage(action.exitFailureMode),
    run: runExit,
  },
];
