/**
 * An I_T nexus at the front ends of one appliance of a pair: each task goes to the seat that serves its logical unit, wherever that is.
 * The nexus outlives the seats: the host's session goes on when the array moves, and its commands wait meanwhile.
 *
 *   judge ─▶ collecting ──execute──▶ running ─▶ ended          (reading: the transport reads what the seat has opened)
 *                │ no seat           │ the seat is gone
 *                ▼                   ▼
 *              ready ◀──a read───── lost ──anything else──▶ ABORTED COMMAND
 *                └──waited too long──▶ NOT READY, 04h/0Ah
 *
 * Invariants:
 * - A task that may have changed something is given to one seat only: what becomes of it at a lost one is not known, and the host hears so.
 * - A task ends once for the transport, and never inside `leave`.
 * - Task management is answered behind the tasks that it has ended: also when its seat was lost before it has said so.
 * - Of a volume that is on its way from part to part a task waits, though no part lists it at the moment: a nexus that was there before knows
 *   its LUN, and one that has come meanwhile takes each that is not listed for it.
 */
import type { Clock, Timer } from "../../hal/api/clock.ts";
import { u32 } from "../frontend/scsi/cdb.ts";
import {
  type Nexus,
  type NexusHost,
  type NexusIdentity,
  TaskFunction,
  type TaskFunctionOutcome,
} from "../frontend/scsi/device_server.ts";
import { decodeLun } from "../frontend/scsi/lun.ts";
import { Asc, encodeSense, SenseKey } from "../frontend/scsi/sense.ts";
import { lunList, reportLunsOpcode } from "../frontend/scsi/spc_inquiry.ts";
import { ScsiStatus, type ScsiTask } from "../frontend/scsi/task.ts";
import type { BlockError } from "../volume/block_request.ts";
import { type Asked, acquireRelay, type RelayTask, releaseRelay } from "./front_task.ts";
import { pairLimits } from "./limits.ts";
import type { SeatedUnits } from "./seated_units.ts";
import { UnitNews } from "./unit_news.ts";

const noBytes = new Uint8Array(0);

/** Operation codes that change nothing: TEST UNIT READY, REQUEST SENSE, READ, INQUIRY, MODE SENSE, READ CAPACITY, REPORT LUNS, ... */
const changesNothing = new Set([
  0x00, 0x03, 0x08, 0x12, 0x1a, 0x25, 0x28, 0x34, 0x37, 0x3c, 0x4d, 0x5a, 0x5e, 0x88, 0x90, 0x9e, 0xa0, 0xa3, 0xa8,
  0xb7,
]);

export class FrontNexus implements Nexus {
  readonly identity: NexusIdentity;
  readonly #host: NexusHost;
  readonly #units: SeatedUnits;
  readonly #clock: Clock;
  /** By part: at the seat that serves it now. */
  readonly #seated: (Nexus | null)[];
  /** Parts that have served this nexus before: to the host their next seat is the same logical units, reached otherwise. */
  readonly #served = new Set<number>();
  /** By LUN, as it was found last: asked for each command. */
  readonly #parts = new Map<number, number>();
  /** LUNs whose volumes are on their way from one part to the other. */
  readonly #held = new Set<number>();
  /** It has come while volumes were on their way: which LUNs are theirs is not known here. */
  #isNewcomer: boolean;
  /** The initiator has not asked for anything yet. */
  #isBeginning = true;
  readonly #relays = new Set<RelayTask>();
  readonly #asked = new Set<Asked>();
  readonly #news = new UnitNews();
  #patience: Timer | null = null;
  #closed = false;

  constructor(identity: NexusIdentity, host: NexusHost, units: SeatedUnits, clock: Clock) {
    this.identity = identity;
    this.#host = host;
    this.#units = units;
    this.#clock = clock;
    this.#seated = units.parts.map(() => null);
    this.#isNewcomer = units.holdsVolumes;
    for (const part of units.parts) this.seat(part);
    this.hold();
    this.#isBeginning = false;
  }

  // ---------------------------------------------------------------- from the transport

  judge(task: ScsiTask): "accepted" | "rejected" {
    const relay = acquireRelay();
    const lun = decodeLun(task.lun);
    relay.take(this, task, this.#partOf(lun));
    const nexus = this.#mustWait(task, lun) ? null : this.#seated[relay.part]!;
    if (nexus === null) {
      task.dataOutBytes = task.dataOutBytesMax;
    } else {
      relay.nexus = nexus;
      const judged = this.#judgeAt(nexus, relay);
      task.dataOutBytes = relay.dataOutBytes;
      if (judged === "rejected") {
        this.#note(relay);
        relay.tell(task);
        releaseRelay(relay);
        return "rejected";
      }
    }
    this.#relays.add(relay);
    task.standing = relay;
    task.status = ScsiStatus.good;
    task.sense = noBytes;
    task.dataIn = noBytes;
    task.dataInBytes = 0;
    task.aborted = false;
    return "accepted";
  }

  execute(task: ScsiTask): "done" | "reads" | "pending" {
    const relay = task.standing as RelayTask;
    relay.dataOut = task.dataOut;
    if (relay.nexus !== null) return this.#run(relay);
    relay.phase = "ready";
    // Its seat may have come while its data did.
    if (this.#mayBegin(relay)) return this.#begin(relay);
    this.#wait();
    return "pending";
  }

  readDone(task: ScsiTask, error: BlockError | null): void {
    const relay = task.standing as RelayTask;
    if (relay.nexus === null) this.#fails(relay, SenseKey.abortedCommand, Asc.none);
    else relay.nexus.readDone(relay, error);
    this.#leave(relay);
  }

  drop(task: ScsiTask): void {
    const relay = task.standing as RelayTask;
    relay.nexus?.drop(relay);
    this.#leave(relay);
  }

  manage(action: TaskFunction, lun: Uint8Array, tag: number, done: (outcome: TaskFunctionOutcome) => void): void {
    const number = decodeLun(lun);
    const parts: readonly number[] = action === TaskFunction.targetReset ? this.#units.parts : [this.#partOf(number)];
    const isMeant = (relay: RelayTask): boolean => {
      if (action === TaskFunction.targetReset) return true;
      const isSame = decodeLun(relay.lun) === number;
      return action === TaskFunction.abortTask ? isSame && relay.tag === tag : isSame;
    };
    const waiting = [...this.#relays].filter((relay) => relay.nexus === null && isMeant(relay));
    for (const relay of waiting) this.#abort(relay);
    const isAbort = action === TaskFunction.abortTask;
    let outcome: TaskFunctionOutcome = isAbort && waiting.length === 0 ? "task-not-there" : "complete";
    let left = 1;
    const oneDone = (said: TaskFunctionOutcome): void => {
      if (isAbort ? waiting.length === 0 : said !== "complete") outcome = said;
      if (--left === 0) done(outcome);
    };
    for (const part of parts) {
      const nexus = this.#seated[part] ?? null;
      if (nexus === null) continue;
      left++;
      const asked: Asked = { part, done: oneDone };
      this.#asked.add(asked);
      if (action !== TaskFunction.clearAca)
        for (const relay of this.#relays) if (relay.nexus === nexus && isMeant(relay)) relay.asked = asked;
      nexus.manage(action, lun, tag, (said) => {
        if (this.#asked.delete(asked)) oneDone(said);
      });
    }
    if (--left === 0) done(outcome);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#patience?.cancel();
    for (const relay of [...this.#relays]) if (relay.nexus === null) this.#abort(relay);
    for (const nexus of this.#seated) nexus?.close();
    // What was before `execute` has ended with that.
    for (const relay of [...this.#relays]) if (relay.phase === "collecting") this.#forget(relay);
    if (this.#relays.size === 0) this.#units.closed(this);
  }

  // ---------------------------------------------------------------- from the seats

  /** The task has ended, as it says. */
  ended(relay: RelayTask): void {
    const outer = relay.outer!;
    this.#completeLuns(relay);
    this.#leave(relay);
    outer.onDone(outer);
  }

  reads(relay: RelayTask): void {
    const outer = relay.outer!;
    this.#passMedium(relay, outer);
    outer.onReads(outer);
  }

  /** A seat for the part has come: what waited for it goes on. */
  seat(part: number): void {
    if (this.#closed || this.#seated[part] !== null) return;
    const isContinued = this.#served.has(part);
    const nexus = this.#units.attachTo(
      part,
      { ...this.identity, isContinued },
      {
        nexusEnded: (reason) => {
          if (this.#seated[part] === nexus) this.#host.nexusEnded(reason);
        },
        attention: () => {
          this.#parts.clear();
          if (this.#seated[part] === nexus) this.#host.attention();
        },
      },
    );
    if (nexus === null) return;
    this.#served.add(part);
    this.#news.served(this.#units.lunsIn(part, this.identity.host), isContinued);
    this.#seated[part] = nexus;
    this.release();
    // It has been told of the LUNs of the other parts alone.
    if (!isContinued && !this.#isBeginning) this.#host.attention();
  }

  /** What waited for a seat that is there goes on. */
  #goOn(): void {
    for (const relay of [...this.#relays]) {
      if (relay.phase !== "ready" || !this.#mayBegin(relay)) continue;
      const outer = relay.outer!;
      const outcome = this.#begin(relay);
      if (outcome === "done") outer.onDone(outer);
      else if (outcome === "reads") outer.onReads(outer);
    }
    if ([...this.#relays].some(({ phase }) => phase === "ready")) return;
    this.#patience?.cancel();
    this.#patience = null;
  }

  #mayBegin(relay: RelayTask): boolean {
    const lun = decodeLun(relay.lun);
    if (this.#mustWait(relay, lun)) return false;
    relay.part = this.#partOf(lun);
    return this.#seated[relay.part] !== null;
  }

  /** Some volumes are held: commands to them that have not been executed are judged where their volume will be. */
  hold(): void {
    // Their part does not list them any more when they have left it.
    for (const lun of this.#units.heldLuns(this.identity.host)) this.#held.add(lun);
    for (const relay of [...this.#relays]) {
      if (relay.phase !== "collecting" || relay.nexus === null || !this.#isHeld(decodeLun(relay.lun))) continue;
      relay.nexus.drop(relay);
      this.#replace(relay);
    }
  }

  /** Whether a seat has something under way for a volume that is held. */
  get isBusyWithHeld(): boolean {
    return [...this.#relays].some((relay) => relay.nexus !== null && this.#isHeld(decodeLun(relay.lun)));
  }

  /** Volumes are held no more, or a part has come: what is listed goes on; what no part lists waits for those that are to come. */
  release(): void {
    const { host } = this.identity;
    const held = new Set(this.#units.heldLuns(host));
    for (const lun of [...this.#held]) {
      const isLost = !this.#units.isListed(host, lun) && !this.#units.isComplete;
      if (!held.has(lun) && !isLost) this.#held.delete(lun);
    }
    if (!this.#units.holdsVolumes && this.#units.isComplete) this.#isNewcomer = false;
    this.#parts.clear();
    this.#goOn();
  }

  #mustWait({ cdb }: ScsiTask, lun: number | null): boolean {
    if (!this.#isNewcomer) return this.#isHeld(lun);
    if (this.#isHeld(lun) || cdb[0] === reportLunsOpcode) return true;
    return lun !== null && !this.#units.isListed(this.identity.host, lun);
  }

  #isHeld(lun: number | null): boolean {
    return this.#held.size > 0 && this.#held.has(lun ?? -1);
  }

  /** The seat is left: nothing goes in any more, and nothing that comes out of it is for anybody. */
  leave(part: number): void {
    this.#seated[part] = null;
    this.#parts.clear();
    for (const relay of [...this.#relays]) if (relay.part === part && relay.nexus !== null) this.#replace(relay);
  }

  /** The seat touches nothing any more: what it had under way is decided. */
  settle(part: number): void {
    const asked = [...this.#asked].filter((one) => one.part === part);
    for (const relay of [...this.#relays]) {
      if (relay.part !== part || relay.phase !== "running") continue;
      relay.phase = "ready";
      const isToEnd = relay.asked !== null && asked.includes(relay.asked);
      if (relay.aborted || isToEnd || this.#closed) this.#abort(relay);
      else if (changesNothing.has(relay.cdb[0]!)) this.#wait();
      else this.#failReady(relay, SenseKey.abortedCommand, Asc.none);
    }
    // Everything that it had has come to an end.
    for (const one of asked) if (this.#asked.delete(one)) one.done("complete");
  }

  // ---------------------------------------------------------------- within

  /** The lost seat still knows the relay: the task goes on with another one, which nobody has judged. */
  #replace(relay: RelayTask): void {
    const outer = relay.outer!;
    const fresh = acquireRelay();
    fresh.take(this, outer, relay.part);
    fresh.phase = relay.phase;
    fresh.dataOut = relay.dataOut;
    fresh.dataOutBytes = relay.dataOutBytes;
    fresh.dataInBytes = relay.dataInBytes;
    fresh.asked = relay.asked;
    fresh.aborted = relay.aborted;
    outer.standing = fresh;
    this.#relays.delete(relay);
    this.#relays.add(fresh);
    relay.front = null;
    relay.outer = null;
  }

  /** A task whose data is here meets its seat. "done": it has ended, as set in the transport's task. */
  #begin(relay: RelayTask): "done" | "reads" | "pending" {
    const outer = relay.outer!;
    const nexus = this.#seated[relay.part]!;
    relay.nexus = nexus;
    if (this.#judgeAt(nexus, relay) === "rejected") {
      this.#leave(relay);
      return "done";
    }
    relay.dataOut = prefix(outer.dataOut, relay.dataOutBytes);
    return this.#run(relay);
  }

  #judgeAt(nexus: Nexus, relay: RelayTask): "accepted" | "rejected" {
    const asc = this.#news.take(decodeLun(relay.lun) ?? -1, relay.cdb[0]!);
    if (asc === null) return nexus.judge(relay);
    relay.dataOutBytes = 0;
    this.#fails(relay, SenseKey.unitAttention, asc);
    return "rejected";
  }

  #note(relay: RelayTask): void {
    const lun = this.#news.isTelling(relay) ? decodeLun(relay.lun) : null;
    if (lun === null) return;
    const { part } = relay;
    const now = () => this.#units.lunsIn(part, this.identity.host).find((one) => one.lun === lun);
    this.#news.answered(lun, relay, now);
  }

  #run(relay: RelayTask): "done" | "reads" | "pending" {
    const outer = relay.outer!;
    relay.phase = "running";
    const outcome = relay.nexus!.execute(relay);
    if (outcome === "done") {
      this.#completeLuns(relay);
      this.#leave(relay);
    } else if (outcome === "reads") this.#passMedium(relay, outer);
    return outcome;
  }

  #partOf(lun: number | null): number {
    const known = this.#parts.get(lun ?? -1);
    if (known !== undefined) return known;
    const part = this.#units.partOf(this.identity.host, lun);
    if (part === null) return this.#units.somePart;
    this.#parts.set(lun ?? -1, part);
    return part;
  }

  /** A seat knows the LUNs of its own part; the initiator is told of all. */
  #completeLuns(relay: RelayTask): void {
    if (relay.cdb[0] !== reportLunsOpcode || relay.status !== ScsiStatus.good || this.#units.parts.length === 1) return;
    const { host } = this.identity;
    const luns = new Set([...this.#units.luns(host), ...this.#units.awayLuns(host), ...this.#held]);
    const list = lunList(relay.cdb, [...luns]);
    relay.dataIn = list.subarray(0, u32(relay.cdb, 6));
    relay.dataInBytes = relay.dataIn.byteLength;
  }

  #passMedium(relay: RelayTask, outer: ScsiTask): void {
    relay.phase = "reading";
    outer.medium.target = this.#units.front(relay.part, relay.medium.target);
    outer.medium.startLba = relay.medium.startLba;
    outer.medium.blockCount = relay.medium.blockCount;
    outer.dataInBytes = relay.dataInBytes;
    outer.dataOutBytes = relay.dataOutBytes;
  }

  /** Takes the task out of everything; the transport's has what it came to. */
  #leave(relay: RelayTask): void {
    if (!this.#closed) this.#note(relay);
    relay.tell(relay.outer!);
    this.#forget(relay);
  }

  #forget(relay: RelayTask): void {
    this.#relays.delete(relay);
    releaseRelay(relay);
    if (this.#closed && this.#relays.size === 0) this.#units.closed(this);
  }

  /** A task that no seat has ends at once; what a lost one had, and what the transport reads, when that is over. */
  #abort(relay: RelayTask): void {
    const outer = relay.outer!;
    const { phase } = relay;
    relay.aborted = true;
    if (phase === "running" || phase === "reading") return;
    this.#leave(relay);
    // With `close` a task before `execute` has ended.
    if (phase === "ready" || !this.#closed) outer.onDone(outer);
  }

  #fails(relay: RelayTask, key: SenseKey, asc: number): void {
    relay.status = ScsiStatus.checkCondition;
    relay.sense = encodeSense(false, key, asc);
    relay.dataIn = noBytes;
    relay.dataInBytes = 0;
  }

  #failReady(relay: RelayTask, key: SenseKey, asc: number): void {
    const outer = relay.outer!;
    this.#fails(relay, key, asc);
    this.#leave(relay);
    outer.onDone(outer);
  }

  /** What waits for a seat does not wait for ever. */
  #wait(): void {
    this.#patience ??= this.#clock.after(pairLimits.waitMs, () => {
      this.#patience = null;
      // What is listed now is all that can be said.
      this.#isNewcomer = false;
      this.#goOn();
      for (const relay of [...this.#relays])
        if (relay.phase === "ready") this.#failReady(relay, SenseKey.notReady, Asc.asymmetricAccessStateTransition);
    });
  }
}

/** The first `bytes` of what was collected. */
function prefix(pieces: readonly Uint8Array[], bytes: number): Uint8Array[] {
  const taken: Uint8Array[] = [];
  let left = bytes;
  for (const piece of pieces) {
    if (left <= 0) break;
    taken.push(piece.byteLength <= left ? piece : piece.subarray(0, left));
    left -= piece.byteLength;
  }
  return taken;
}
