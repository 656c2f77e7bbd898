/**
 * An I_T nexus: judges and executes the tasks of one initiator port (SAM-5 4.8), see `device_server.ts` and `task.ts`.
 *
 * The order in which a header is judged (SPC-5 4.2, 5.x): LUN, unit attention, what the target port's state forbids, reservation,
 * operation code, what the unit's state forbids, the command's own fields.
 */
import { assert } from "../../codec/assert.ts";
import type { BlockError, BlockTarget } from "../../volume/block_request.ts";
import type { LunInfo } from "../../volume/host_access.ts";
import { type Command, fail, failWith, good, notSanitized, refuse } from "./command.ts";
import type { CommandTable } from "./command_table.ts";
import {
  type Nexus,
  type NexusHost,
  type NexusIdentity,
  TaskFunction,
  type TaskFunctionOutcome,
} from "./device_server.ts";
import type { LogicalUnit } from "./logical_unit.ts";
import { decodeLun } from "./lun.ts";
import type { PartBuffers } from "./part_buffers.ts";
import { Asc, SenseKey } from "./sense.ts";
import { CopyRecords } from "./spc_copy.ts";
import type { Standing, StandingPool } from "./standing.ts";
import type { TargetPortGroups } from "./target_port_groups.ts";
import { ScsiStatus, type ScsiTask } from "./task.ts";
import { UnitAccess } from "./unit_access.ts";

/** What a nexus needs of its device server. */
export interface NexusOwner {
  readonly table: CommandTable;
  readonly pool: StandingPool;
  readonly parts: PartBuffers;
  readonly portGroups: TargetPortGroups;
  /** The SCSI device name: the target's iSCSI name. */
  readonly targetName: string;
  luns(nexus: ScsiNexus): readonly LunInfo[];
  unitOf(info: LunInfo): LogicalUnit;
  open(nexus: ScsiNexus, access: UnitAccess): "open" | "not-ready" | "unknown";
  /** For work that outlives the nexus. */
  openForItself(nexus: ScsiNexus, info: LunInfo): BlockTarget | "not-ready" | "unknown";
  nexuses(): Iterable<ScsiNexus>;
  closed(nexus: ScsiNexus): void;
  /** Nobody has the unit mapped, and something of it has ended. */
  unitUnused(unit: LogicalUnit): void;
  /** Goes on in an event of its own, so that long work neither recurses nor keeps others waiting. */
  defer(task: () => void): void;
  after(delayMs: number, task: () => void): void;
}

const noBytes = new Uint8Array(0);

export class ScsiNexus implements Nexus {
  readonly identity: NexusIdentity;
  readonly host: NexusHost;
  readonly owner: NexusOwner;
  readonly copies = new CopyRecords();
  readonly #byLun = new Map<number, UnitAccess>();
  readonly #standings = new Set<Standing>();
  #closed = false;

  constructor(identity: NexusIdentity, host: NexusHost, owner: NexusOwner) {
    this.identity = identity;
    this.host = host;
    this.owner = owner;
    // What initiators had set of mode parameters has not come along (SPC-4 5.16.2.5, SPC-5 6.14).
    const news =
      identity.isContinued === true
        ? [Asc.asymmetricAccessStateChanged, Asc.modeParametersChanged]
        : [Asc.powerOnOrReset];
    for (const info of owner.luns(this)) this.#gain(info, news);
  }

  get accesses(): Iterable<UnitAccess> {
    return this.#byLun.values();
  }

  access(lun: number): UnitAccess | null {
    return this.#byLun.get(lun) ?? null;
  }

  /** The mappings may have changed: what is new is there, what is gone is not; the initiator is told by a unit attention. */
  refresh(): void {
    if (this.#closed) return;
    const wanted = new Map(this.owner.luns(this).map((info) => [info.lun, info]));
    let changed = false;
    for (const [lun, access] of [...this.#byLun]) {
      const info = wanted.get(lun);
      if (info !== undefined && this.owner.unitOf(info) === access.unit) {
        access.info = info;
        continue;
      }
      this.#lose(access);
      changed = true;
    }
    // Tasks that have ended may have ended the session.
    if (this.#closed) return;
    for (const [lun, info] of wanted) {
      if (this.#byLun.has(lun)) continue;
      this.#gain(info, [Asc.powerOnOrReset]);
      changed = true;
    }
    if (!changed) return;
    for (const access of this.#byLun.values()) access.establish(Asc.reportedLunsDataHasChanged);
    this.host.attention();
  }

  #gain(info: LunInfo, attentions: readonly number[]): void {
    const access = new UnitAccess(info, this.owner.unitOf(info), this);
    this.#byLun.set(info.lun, access);
    access.unit.accesses.add(access);
    for (const asc of attentions) access.establish(asc);
  }

  #lose(access: UnitAccess): void {
    const { unit } = access;
    this.#byLun.delete(access.lun);
    access.close();
    if (![...unit.accesses].some(({ nexus }) => nexus === this)) unit.reservations.nexusLost(this);
    const lost = [...this.#standings].filter((standing) => standing.access === access);
    // The youngest first: none of them starts because an older one has ended. What is under way tells what it comes to.
    for (const standing of lost.reverse()) {
      if (standing.phase === "running" && standing.abandon === null) continue;
      fail(standing, SenseKey.illegalRequest, Asc.logicalUnitNotSupported);
      if (standing.abandon === null) this.ended(standing);
      else standing.abandon();
    }
  }

  // ------------------------------------------------------------------ a task's way

  judge(task: ScsiTask): "accepted" | "rejected" {
    assert(!this.#closed, "scsi: a closed nexus takes no tasks");
    const standing = this.owner.pool.acquire();
    standing.task = task;
    standing.nexus = this;
    task.dataOutBytes = 0;
    task.status = ScsiStatus.good;
    task.sense = noBytes;
    task.dataIn = noBytes;
    task.dataInBytes = 0;
    task.aborted = false;
    const lun = decodeLun(task.lun);
    standing.access = lun === null ? null : this.access(lun);
    const command = this.owner.table.find(task.cdb);
    if (!this.#admits(standing, command)) {
      this.owner.pool.release(standing);
      return "rejected";
    }
    standing.command = command!;
    standing.phase = "collecting";
    task.standing = standing;
    this.#standings.add(standing);
    standing.access?.unit.enter(standing);
    return "accepted";
  }

  #admits(standing: Standing, command: Command | null): boolean {
    const { access, task } = standing;
    if (access === null && command?.withoutUnit !== true) {
      fail(standing, SenseKey.illegalRequest, Asc.logicalUnitNotSupported);
      return false;
    }
    if (access !== null) {
      const { unit } = access;
      if (unit.isFull) {
        task.status = ScsiStatus.taskSetFull;
        task.sense = noBytes;
        return false;
      }
      if (access.hasAttention && command?.ignoresAttention !== true) {
        fail(standing, SenseKey.unitAttention, access.takeAttention()!);
        return false;
      }
      if (command !== null && !this.#isReachable(standing, command)) return false;
      if (command !== null && this.#meetsReservation(task, access, command)) return false;
    }
    if (command === null) {
      const found = this.owner.table.knowsOpcode(task.cdb[0]!);
      if (found)
        fail(standing, SenseKey.illegalRequest, Asc.invalidFieldInCdb, { field: { inCdb: true, byte: 1, bit: 4 } });
      else fail(standing, SenseKey.illegalRequest, Asc.invalidOpcode, { field: { inCdb: true, byte: 0 } });
      return false;
    }
    if (access !== null && command.medium && !this.#isReady(standing, access)) return false;
    standing.command = command;
    return command.judge === undefined || command.judge(standing);
  }

  /** What the state of the target port's group leaves of the commands (SPC-4 5.16.2.4). */
  #isReachable(standing: Standing, command: Command): boolean {
    const state = this.owner.portGroups.of(this.identity.relativePort)?.state;
    if (state === "unavailable" && command.worstPort !== "unavailable")
      return refuse(standing, SenseKey.notReady, Asc.targetPortInUnavailableState);
    if (state === "standby" && command.worstPort === undefined)
      return refuse(standing, SenseKey.notReady, Asc.targetPortInStandbyState);
    return true;
  }

  /** True: its status is set. */
  #meetsReservation(task: ScsiTask, access: UnitAccess, command: Command): boolean {
    const accessClass = command.accessOf?.(task.cdb) ?? command.access;
    if (!access.unit.reservations.conflicts(this, accessClass)) return false;
    task.status = ScsiStatus.reservationConflict;
    task.sense = noBytes;
    return true;
  }

  /** The volume is open and may be used now (SBC-4 4.19: ready state). */
  #isReady(standing: Standing, access: UnitAccess): boolean {
    if (!notSanitized(standing, access.unit)) return false;
    if (access.target === null) {
      const opened = this.owner.open(this, access);
      if (opened === "unknown") fail(standing, SenseKey.illegalRequest, Asc.logicalUnitNotSupported);
      if (opened === "not-ready") fail(standing, SenseKey.notReady, Asc.becomingReady);
      if (opened !== "open") return false;
    }
    return true;
  }

  execute(task: ScsiTask): "done" | "reads" | "pending" {
    const standing = task.standing as Standing;
    if (standing.access?.unit.mustWait(standing) === true) {
      standing.phase = "waiting";
      return "pending";
    }
    const outcome = this.#run(standing);
    if (outcome === "done") this.#endQuietly(standing);
    return outcome;
  }

  /**
   * Since the header was judged a SANITIZE may have begun, and the host may have been fenced: nothing is written behind either, however
   * long its data was on the way.
   */
  #run(standing: Standing): "done" | "reads" | "pending" {
    const { access, command, task } = standing;
    standing.phase = "running";
    if (access !== null && this.#meetsReservation(task, access, command)) return "done";
    if (command.medium && access !== null && !notSanitized(standing, access.unit)) return "done";
    return command.run(standing);
  }

  /** A task that waited for older ones starts: whatever it comes to, its transport hears of it. */
  start(standing: Standing): void {
    const { task } = standing;
    if (task.aborted) return this.ended(standing);
    const outcome = this.#run(standing);
    if (outcome === "done") this.ended(standing);
    else if (outcome === "reads") task.onReads(task);
  }

  readDone(task: ScsiTask, error: BlockError | null): void {
    const standing = task.standing as Standing;
    standing.startLba = task.medium.startLba;
    if (error === null) good(standing);
    else failWith(standing, error);
    this.#endQuietly(standing);
  }

  drop(task: ScsiTask): void {
    this.#endQuietly(task.standing as Standing);
  }

  /** A pending task has ended, as it says. */
  ended(standing: Standing): void {
    const { task, access } = standing;
    const listeners = this.#leave(standing);
    task.onDone(task);
    this.#goOnAfter(access, listeners);
  }

  /** Takes the task out of everything; what waits for its end is called by `#goOnAfter`. */
  #leave(standing: Standing): readonly (() => void)[] | null {
    const { task, access, endListeners } = standing;
    if (standing.tellsByStatus) {
      task.status = ScsiStatus.taskAborted;
      task.sense = noBytes;
      task.dataIn = noBytes;
      task.dataInBytes = 0;
    }
    task.standing = null;
    this.#standings.delete(standing);
    access?.unit.leave(standing);
    // A pooled object takes its empty list along.
    const listeners = endListeners.length === 0 ? null : endListeners;
    this.owner.pool.release(standing);
    return listeners;
  }

  #goOnAfter(access: UnitAccess | null, listeners: readonly (() => void)[] | null): void {
    if (listeners !== null) for (const listener of listeners) listener();
    if (access === null) return;
    access.unit.startWaiting();
    if (access.unit.accesses.size === 0) this.owner.unitUnused(access.unit);
  }

  /** Its transport knows already. */
  #endQuietly(standing: Standing): void {
    const { access } = standing;
    this.#goOnAfter(access, this.#leave(standing));
  }

  // ------------------------------------------------------------------ task management (SAM-5 7)

  manage(action: TaskFunction, lun: Uint8Array, tag: number, done: (outcome: TaskFunctionOutcome) => void): void {
    if (action === TaskFunction.clearAca) return done("not-supported");
    if (action === TaskFunction.targetReset) return this.#resetTarget(done);
    const number = decodeLun(lun);
    const access = number === null ? null : this.access(number);
    if (access === null) return done("lun-not-there");
    const { unit } = access;
    switch (action) {
      case TaskFunction.abortTask: {
        const standing = [...this.#standings].find((one) => one.task.tag === tag && one.access === access);
        if (standing === undefined) return done("task-not-there");
        return this.#abortAll([standing], done);
      }
      case TaskFunction.abortTaskSet:
        return this.#abortAll(
          [...this.#standings].filter((standing) => standing.access === access),
          done,
        );
      case TaskFunction.clearTaskSet:
        return this.#abortAll([...unit.tasks], done);
      case TaskFunction.lunReset:
        return this.#resetUnits([unit], done);
    }
  }

  #resetTarget(done: (outcome: TaskFunctionOutcome) => void): void {
    const mine = [...this.#byLun.values()].map(({ unit }) => unit);
    this.#resetUnits(mine, done);
  }

  /** SAM-5 6.3.3: every task ends, legacy reservations go, mode parameters are as at power on, everybody is told. */
  #resetUnits(units: readonly LogicalUnit[], done: (outcome: TaskFunctionOutcome) => void): void {
    const tasks = units.flatMap((unit) => [...unit.tasks]);
    // The tasks end as the mode parameters of now want it (TAS); the reset's attention then takes the place of all older ones.
    this.#abortAll(tasks, done);
    for (const unit of units) {
      unit.reservations.unitReset();
      unit.parameters.reset();
      unit.establish(Asc.logicalUnitReset);
    }
  }

  #abortAll(standings: readonly Standing[], done: (outcome: TaskFunctionOutcome) => void): void {
    let left = 1;
    const oneEnded = (): void => {
      if (--left === 0) done("complete");
    };
    // The youngest first: none of them starts because an older one has ended.
    for (const standing of [...standings].reverse()) {
      left++;
      standing.nexus.abort(standing, this, oneEnded);
    }
    oneEnded();
  }

  /**
   * Ends a task: at once when nothing is under way for it, else when what it asked of the volume is decided. `by`: whose task management
   * it was; another nexus' tasks end with TASK ABORTED or tell by a unit attention (SAM-5 5.6.4), unless it is told otherwise.
   */
  abort(standing: Standing, by: ScsiNexus | null, ended: () => void = () => {}, isTold = false): void {
    const { task, access } = standing;
    const isForeign = by !== null && by !== this;
    const tellsByStatus = isForeign && access?.unit.parameters.taskAbortedStatus === true;
    standing.endListeners.push(ended);
    if (!task.aborted) {
      task.aborted = true;
      if (isForeign && !tellsByStatus && !isTold) access?.establish(Asc.commandsClearedByAnotherInitiator);
    }
    if (tellsByStatus) standing.tellsByStatus = true;
    if (standing.phase === "running" && standing.abandon === null) return;
    if (standing.abandon === null) this.ended(standing);
    else standing.abandon();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    const mine = [...this.#standings].reverse();
    for (const standing of mine) standing.task.aborted = true;
    for (const standing of mine) {
      // The end of another one may have ended it.
      if (!this.#standings.has(standing)) continue;
      // What is before `execute` has ended with this call; what waits is pending for its transport.
      if (standing.phase === "collecting") this.#endQuietly(standing);
      else if (standing.phase === "waiting") this.ended(standing);
      else standing.abandon?.();
    }
    for (const access of this.#byLun.values()) {
      access.unit.reservations.nexusLost(this);
      access.close();
    }
    this.#byLun.clear();
    this.owner.closed(this);
  }
}
