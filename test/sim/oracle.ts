/**
 * The judge of a simulated site: it knows every host command and every record that a log ever admitted, and compares what arrays
 * show with what they promised.
 *
 * Checked here, continuously:
 * - D1, D3, O3: what was acknowledged or read on an array is in the past of every later opening of its log, and of every later view;
 *   the exceptions are a takeover's reported loss and a discarded branch.
 * - D3, D5, O1: a read shows the group at some commitSeq between its issue and its answer, and nothing else.
 * - O1, O3: records come in order; one identity is one record, on whichever array.
 * - O2: follows from the order of the log: a write that was issued after another's acknowledgement stands behind it.
 * - D4: while the protection of a sync peer stands, that peer's log holds durably what hosts were told is done.
 */
import { headerTimeline, parentTimeline, type RecordHeader, RecordKind } from "../../firmware/log/record.ts";
import type { WriteLog } from "../../firmware/log/write_log.ts";
import type { Group } from "../../firmware/volume/group.ts";
import type { Serving } from "../../firmware/volume/group_port.ts";
import type { World } from "../../hal/mock/world.ts";
import type { Chronicle } from "./chronicle.ts";
import { CopyView, type ReadTicket } from "./copy_view.ts";
import {
  History,
  type HistoryRecord,
  type HistoryVolume,
  type HostWrite,
  type Image,
  type Position,
  rootTimelineId,
  type Timeline,
} from "./history.ts";
import type { LogTap } from "./log_tap.ts";
import { asBuffer, sectorBytes, stampAt } from "./stamp.ts";

/** The demo group in one life of an array's firmware, as the oracle needs it. */
export interface BootFacts {
  readonly array: string;
  /** It goes on where the array was served elsewhere (the other appliance, the other half) until a moment ago. */
  readonly succeeds: boolean;
  /** The group has gone to the other half: what its log here comes to is no part of the group any more. */
  readonly hasLeft: boolean;
  alive(): boolean;
  /** The demo group, once the boot has it. */
  group(): Group | null;
}

/** Why a new timeline may leave behind what another array has acknowledged. */
export interface LossLicence {
  /** Whether the operator has asked that array for a takeover or to serve alone, so that a branch may begin there. */
  mayFork(array: string): boolean;
  /** Whether that array's own newest data may be gone: its cache was given up, or an older image was promoted, by the operator. */
  mayForget(array: string): boolean;
}

export interface Loss {
  readonly timeline: Timeline;
  readonly lostCommands: readonly HostWrite[];
}

/** A fork waits for everything to come home, and a disk may hang for 6 s in between. */
const decisionMsMax = 20_000;

export class Oracle implements Omit<LogTap, "leaving" | "came"> {
  readonly history: History;
  readonly chronicle: Chronicle;
  /** By array: the newest position that its hosts have certainly seen, by an acknowledgement or a read. */
  readonly shown = new Map<string, Position>();
  /** By array: the timeline that it opened last. */
  readonly opened = new Map<string, Timeline>();
  /** By array: the timeline that it opened last and still stands on; none once it has given it up or its log was emptied. */
  readonly #standing = new Map<string, Timeline>();
  readonly losses: Loss[] = [];
  /** Whose log it is; null: nobody's any more. */
  bootOf: (log: WriteLog) => BootFacts | null = () => null;
  /** Likewise of one that was evicted and runs on: what it takes into its own cache its next life goes on with, where nobody took over. */
  evictedBootOf: (log: WriteLog) => BootFacts | null = () => null;
  onServingChanged: (boot: BootFacts, group: Group, serving: Serving) => void = () => {};
  onAcknowledged: (boot: BootFacts, command: HostWrite) => void = () => {};
  onOpened: (timeline: Timeline, boot: BootFacts) => void = () => {};
  readonly #world: World;
  readonly #licence: LossLicence;
  readonly #boots = new Set<BootFacts>();
  readonly #views = new Map<BootFacts, CopyView>();
  readonly #commands = new Map<number, HostWrite>();
  readonly #clears: HostWrite[] = [];
  readonly #forkImages = new Map<string, Image>();
  /** Golden copies that have committed what they hold without their primary's word, and since when. */
  readonly #decisions = new Map<BootFacts, { readonly position: Position; readonly atMs: number }>();
  #nextWrite = 1;
  acknowledgedWrites = 0;
  checkedReads = 0;

  constructor(world: World, chronicle: Chronicle, volumes: readonly HistoryVolume[], licence: LossLicence) {
    this.#world = world;
    this.chronicle = chronicle;
    this.history = new History(volumes);
    this.#licence = licence;
  }

  booted(boot: BootFacts): void {
    this.#boots.add(boot);
  }

  // ---------------------------------------------------------------- the logs

  appended(log: WriteLog, header: RecordHeader, at: number): void {
    const ruling = this.bootOf(log);
    const boot = ruling ?? this.evictedBootOf(log);
    if (boot === null) return;
    const id = headerTimeline(header);
    let timeline = this.history.timeline(id);
    if (timeline === undefined) {
      if (ruling === null) return;
      if (header.kind !== RecordKind.opening) {
        const text = `${boot.array} appended record ${header.firstSeq} of timeline ${id}, which nobody opened`;
        this.chronicle.fail("O3", text);
        return;
      }
      timeline = this.#openTimeline(boot, id, parentTimeline(log.list.region, at), header.firstSeq - 1);
    }
    const known = timeline.at(header.firstSeq);
    if (known !== undefined) {
      if (known.headerCrc !== header.headerCrc) {
        this.chronicle.fail("O3", `two different records have the identity (${id.slice(0, 8)}, ${header.firstSeq})`, [
          `kinds ${known.kind} and ${header.kind}, the second one appended on ${boot.array}`,
        ]);
      }
      return;
    }
    if (header.firstSeq !== timeline.lastSeq + 1) {
      const text = `${boot.array} appended record ${header.firstSeq} behind ${timeline.lastSeq} of timeline ${id.slice(0, 8)}`;
      this.chronicle.fail("O1", text);
      return;
    }
    const record = this.#recordOf(timeline, header, log, at);
    timeline.records.push(record);
    if (record.command === null) return;
    record.command.records.push(record);
    record.command.recordedSectors += record.sectorCount;
  }

  #openTimeline(boot: BootFacts, id: string, parentId: string, forkSeq: number): Timeline {
    const { history } = this;
    const parent = history.timeline(parentId);
    if (parent === undefined) this.chronicle.fail("O3", `timeline ${id} continues ${parentId}, which nobody opened`);
    const known = parent ?? history.root;
    const timeline = history.open(id, known, forkSeq, boot.array, this.#world.nowMs);
    const from = `${parentId === rootTimelineId ? "nothing" : parentId.slice(0, 8)}:${forkSeq}`;
    this.chronicle.note(boot.array, `opened timeline ${id.slice(0, 8)} behind ${from}`);
    if (forkSeq > known.lastSeq) {
      const text = `timeline ${id.slice(0, 8)} begins behind ${from}, but the parent ends at ${known.lastSeq}`;
      this.chronicle.fail("O1", text);
    }
    this.#judgeOpening(timeline, boot);
    this.#judgeBranch(timeline, boot);
    this.opened.set(boot.array, timeline);
    this.#standing.set(boot.array, timeline);
    this.onOpened(timeline, boot);
    return timeline;
  }

  /** What may be missing in the past of a new timeline. */
  #judgeOpening(timeline: Timeline, boot: BootFacts): void {
    const { history } = this;
    const from: Position = history.normal({ timeline: timeline.parent!, seq: timeline.forkSeq });
    for (const [array, shown] of this.shown) {
      if (history.contains(from, shown.timeline, shown.seq)) continue;
      const facts = [
        `new timeline ${timeline.id.slice(0, 8)} continues ${history.describe(from)}`,
        `hosts of ${array} have seen ${history.describe(shown)}`,
        ...this.#describeLost(shown, from),
      ];
      if (array === boot.array) {
        if (this.#licence.mayForget(array)) continue;
        this.chronicle.fail("D1", `${array} opened its log without what its hosts have seen`, facts);
      } else if (history.contains(shown, timeline.parent!, timeline.forkSeq)) {
        if (this.#goesOn(from, boot)) continue;
        this.losses.push({ timeline, lostCommands: this.#lostCommands(shown, from) });
        if (this.#licence.mayFork(boot.array)) continue;
        this.chronicle.fail("L2", `${boot.array} became primary without what the hosts of ${array} have seen`, facts);
      }
    }
  }

  /** L1, L4: what goes on beside another array's timeline is a branch, which only the operator's word may begin. */
  #judgeBranch(timeline: Timeline, boot: BootFacts): void {
    const { history } = this;
    const from: Position = history.normal({ timeline: timeline.parent!, seq: timeline.forkSeq });
    if (this.#goesOn(from, boot)) return;
    for (const [array, standing] of this.#standing) {
      if (array === boot.array || history.contains(from, standing, standing.forkSeq + 1)) continue;
      if (this.#licence.mayFork(boot.array)) continue;
      this.chronicle.fail("L4", `${boot.array} became primary beside ${array}, and nobody has asked for a branch`, [
        `new timeline ${timeline.id.slice(0, 8)} continues ${history.describe(from)}`,
        `${array} opened ${standing.id.slice(0, 8)} behind ${history.describe({ timeline: standing.parent!, seq: standing.forkSeq })}`,
      ]);
    }
  }

  /** The array is the primary that it was, on its own branch: whoever began another one answers for it (L5). */
  #goesOn(from: Position, boot: BootFacts): boolean {
    const own = this.#standing.get(boot.array);
    return boot.succeeds && own !== undefined && this.history.contains(from, own, own.forkSeq + 1);
  }

  /** Acknowledged commands in the past of `shown` that are not in the past of `kept`. */
  #lostCommands(shown: Position, kept: Position): HostWrite[] {
    const fork = this.history.forkOf(shown, kept);
    const lost = new Set<HostWrite>();
    for (const { command } of this.history.between(fork, shown) ?? []) {
      if (command !== null && command.ackedMs !== null) lost.add(command);
    }
    return [...lost];
  }

  #describeLost(shown: Position, kept: Position): string[] {
    const lost = this.#lostCommands(shown, kept).slice(-6);
    return lost.map((command) => {
      const at = command.records.map((record) => `${record.timeline.id.slice(0, 8)}:${record.seq}`).join(" ");
      return `acknowledged at ${command.ackedMs!.toFixed(3)} ms: ${describeCommand(command)}, records ${at}`;
    });
  }

  #recordOf(timeline: Timeline, header: RecordHeader, log: WriteLog, at: number): HistoryRecord {
    const isData = header.kind === RecordKind.write;
    const isClear = header.kind === RecordKind.zero || header.kind === RecordKind.unmap;
    const write = isData ? this.#writeIn(header, log, at) : 0;
    const command = isData
      ? (this.#commands.get(write) ?? null)
      : isClear
        ? this.#clearOf(header, timeline.opener)
        : null;
    if ((isData || isClear) && command === null) {
      this.chronicle.fail("D5", `record ${header.firstSeq} holds what no host has written`, [
        `kind ${header.kind}, volume ${header.volume}, LBA ${header.startLba}, ${header.blockCount} sectors, write ${write}`,
      ]);
    }
    return {
      timeline,
      seq: header.firstSeq,
      kind: header.kind,
      headerCrc: header.headerCrc,
      volume: header.volume,
      startLba: header.startLba,
      sectorCount: header.blockCount,
      write,
      command,
      atMs: this.#world.nowMs,
    };
  }

  /** The write whose data the record holds; -1 when it is not one whole write's. */
  #writeIn(header: RecordHeader, log: WriteLog, at: number): number {
    const from = at + header.headerBytes;
    const payload = asBuffer(log.list.region.bytes.subarray(from, from + header.payloadBytes));
    const write = stampAt(payload, 0, header.volume, header.startLba);
    for (let sector = 1; sector < header.blockCount; sector++) {
      if (stampAt(payload, sector * sectorBytes, header.volume, header.startLba + sector) !== write) return -1;
    }
    return write;
  }

  #clearOf(header: RecordHeader, array: string): HostWrite | null {
    // Zeros and trims are one record each, whatever their length. Its own array admits it, whoever else gets it later.
    const at = this.#clears.findIndex(
      (clear) =>
        clear.array === array &&
        clear.volume === header.volume &&
        clear.startLba === header.startLba &&
        clear.sectorCount === header.blockCount,
    );
    return at < 0 ? null : this.#clears.splice(at, 1)[0]!;
  }

  /** The array has started with its log at `found`: a timeline whose opening was never durable has died with the process. */
  restarted(array: string, found: Position): void {
    const standing = this.#standing.get(array);
    if (standing !== undefined && !this.history.contains(found, standing, standing.forkSeq + 1)) {
      this.#standing.delete(array);
    }
  }

  /** On the operator's word the array is a golden copy durably. What its hosts have seen is judged when its log is emptied. */
  gaveWay(array: string): void {
    this.#standing.delete(array);
  }

  emptied(log: WriteLog): void {
    const boot = this.bootOf(log);
    if (boot === null) return;
    const view = this.#views.get(boot);
    view?.emptied();
    this.#decisions.delete(boot);
    this.#standing.delete(boot.array);
    const shown = this.shown.get(boot.array);
    this.shown.delete(boot.array);
    if (shown === undefined) return;
    // What the operator has given up is not kept; what hosts have seen since is.
    const kept = this.#licence.mayForget(boot.array) ? view?.position : shown;
    if (kept !== undefined) this.#judgeGivingUp(boot, kept);
  }

  /** L4, L5: what an array's hosts have seen goes on in another array's log, or is kept aside as a fork. */
  #judgeGivingUp(boot: BootFacts, shown: Position): void {
    const { history } = this;
    for (const [array, timeline] of this.opened) {
      const end = { timeline, seq: timeline.lastSeq };
      if (array !== boot.array && history.contains(end, shown.timeline, shown.seq)) return;
    }
    const group = boot.group();
    const kept = group === null ? [] : group.forks().map((fork) => this.forkPosition(fork));
    if (kept.some((at) => at !== null && history.contains(at, shown.timeline, shown.seq))) return;
    const facts = [
      `its hosts have seen ${history.describe(shown)}`,
      `its forks: ${kept.map((at) => (at === null ? "unknown" : history.describe(at))).join(", ")}`,
    ];
    this.chronicle.fail("L4", `${boot.array} gave up its log, and what its hosts have seen is kept nowhere`, facts);
  }

  /** Where a fork stands; null: on a timeline that nobody opened. */
  forkPosition(fork: { readonly seq: number }): Position | null {
    const { lineage } = fork as ForkWithLineage;
    const entry = lineage.filter((one) => one.firstSeq <= fork.seq).at(-1);
    const timeline = entry === undefined ? this.history.root : this.history.timeline(entry.timeline);
    return timeline === undefined ? null : this.history.normal({ timeline, seq: fork.seq });
  }

  servingChanged(group: Group, serving: Serving): void {
    const boot = this.bootOf(group.log);
    if (boot?.alive()) this.onServingChanged(boot, group, serving);
  }

  // ---------------------------------------------------------------- views

  /** The boot's view, up to date; null while it has no group. */
  view(boot: BootFacts): CopyView | null {
    const group = boot.group();
    if (group === null) return null;
    let view = this.#views.get(boot);
    if (boot.hasLeft) return view ?? null;
    if (view === undefined) {
      view = new CopyView(this.history, group, boot.array);
      this.#views.set(boot, view);
      this.#noteCommitted(boot, view.position);
      return view;
    }
    const former = view.advance();
    this.#noteCommitted(boot, view.position);
    if (former !== null) {
      const facts = [`was at ${this.history.describe(former)}, is at ${this.history.describe(view.position)}`];
      this.chronicle.fail("O3", `the committed position of ${boot.array} went back, or to another branch`, facts);
    }
    return view;
  }

  #noteCommitted(boot: BootFacts, { timeline, seq }: Position): void {
    if (timeline.opener === boot.array && seq > timeline.committedSeq) timeline.committedSeq = seq;
  }

  /** The boot's memory may go. */
  forget(boot: BootFacts): void {
    this.#views.delete(boot);
    this.#boots.delete(boot);
  }

  /** What hosts of this array had seen and the operator has given up is not asked for any more. */
  forgiven(boot: BootFacts): void {
    const shown = this.shown.get(boot.array);
    const position = this.view(boot)?.position;
    if (shown === undefined || position === undefined) return;
    if (!this.history.contains(position, shown.timeline, shown.seq)) this.shown.set(boot.array, position);
  }

  #noteShown(boot: BootFacts, position: Position): void {
    const { history } = this;
    const before = this.shown.get(boot.array);
    if (before !== undefined && history.contains(before, position.timeline, position.seq)) return;
    if (before !== undefined && !history.contains(position, before.timeline, before.seq)) {
      if (!this.#licence.mayForget(boot.array)) {
        const facts = [`seen before: ${history.describe(before)}`, `seen now: ${history.describe(position)}`];
        this.chronicle.fail("D3", `what hosts of ${boot.array} had seen is absent from what they see now`, facts);
      }
    }
    this.shown.set(boot.array, position);
  }

  /** O1: a golden copy commits, and so shows, nothing that its primary has not committed. */
  committed(log: WriteLog): void {
    const boot = this.bootOf(log);
    if (boot === null || !boot.alive() || boot.group()?.log !== log) return;
    const document = boot.group()!.replicationDocument() as { readonly role: string } | null;
    if (document?.role !== "golden") return;
    const id = log.timelineOf(log.commitSeq);
    const timeline = id === null ? undefined : this.history.timeline(id);
    if (timeline === undefined || timeline.opener === boot.array) return;
    const position = { timeline, seq: log.commitSeq };
    if (this.#isCommitted(position)) return;
    // It decides by itself for a takeover, or for the fork that a resync keeps: then that must follow.
    if (log.heardSeq === Number.POSITIVE_INFINITY) this.#decisions.set(boot, { position, atMs: this.#world.nowMs });
    else this.#tooEarly(boot, position);
  }

  /** O1: what a golden copy has decided by itself has led to an opening, or to an empty log. */
  judgeDecisions(): void {
    for (const [boot, { position, atMs }] of this.#decisions) {
      const isOver = !boot.alive() || this.#isCommitted(position);
      if (!isOver && this.#world.nowMs - atMs < decisionMsMax) continue;
      this.#decisions.delete(boot);
      if (!isOver) this.#tooEarly(boot, position);
    }
  }

  /** By the array that opened its timeline, or in the past of a later opening, which is as good. */
  #isCommitted(position: Position): boolean {
    const { history } = this;
    for (const other of this.#boots) if (other.array === position.timeline.opener) this.view(other);
    if (position.seq <= position.timeline.committedSeq) return true;
    for (const timeline of this.opened.values()) {
      if (history.contains({ timeline, seq: timeline.forkSeq }, position.timeline, position.seq)) return true;
    }
    return false;
  }

  #tooEarly(boot: BootFacts, position: Position): void {
    const { history } = this;
    this.chronicle.fail("O1", `${boot.array} shows its hosts what the primary has not committed`, [
      `shown ${history.describe(position)}, committed by ${position.timeline.opener} ${position.timeline.committedSeq}`,
    ]);
  }

  // ---------------------------------------------------------------- host commands

  writeIssued(
    array: string,
    command: { kind: HostWrite["kind"]; volume: number; startLba: number; sectorCount: number },
  ): HostWrite {
    const issued: HostWrite = {
      ...command,
      number: this.#nextWrite++,
      issuedMs: this.#world.nowMs,
      ackedMs: null,
      records: [],
      recordedSectors: 0,
      array,
    };
    this.#commands.set(issued.number, issued);
    if (command.kind !== "write") this.#clears.push(issued);
    return issued;
  }

  /** The command failed or its session ended before an answer: it may still have happened. */
  writeAcknowledged(boot: BootFacts, command: HostWrite): void {
    if (command.kind !== "write" && command.recordedSectors < command.sectorCount) this.#takeTwinsRecords(command);
    command.ackedMs = this.#world.nowMs;
    this.acknowledgedWrites++;
    const view = this.view(boot);
    const last = command.records.at(-1);
    if (view === null || last === undefined || command.recordedSectors < command.sectorCount) {
      const text = `${boot.array} acknowledged ${describeCommand(command)}, of which ${command.recordedSectors} sectors are in its log`;
      this.chronicle.fail("D1", text);
      return;
    }
    if (!this.history.contains(view.position, last.timeline, last.seq)) {
      this.chronicle.fail("D1", `${boot.array} acknowledged ${describeCommand(command)} before it was committed`, [
        `record ${last.timeline.id.slice(0, 8)}:${last.seq}, committed ${this.history.describe(view.position)}`,
      ]);
      return;
    }
    const newest = this.opened.get(boot.array);
    if (newest !== undefined && !boot.alive()) this.#judgeLateAck(boot, command, last, newest);
    this.#noteShown(boot, { timeline: last.timeline, seq: last.seq });
    this.onAcknowledged(boot, command);
  }

  /** Records of zeros do not tell whose they are: an unanswered command for the same range may have been credited with them. */
  #takeTwinsRecords(command: HostWrite): void {
    for (const twin of this.#commands.values()) {
      const same =
        twin !== command &&
        twin.kind !== "write" &&
        twin.array === command.array &&
        twin.ackedMs === null &&
        twin.volume === command.volume &&
        twin.startLba === command.startLba &&
        twin.sectorCount === command.sectorCount &&
        twin.recordedSectors === twin.sectorCount;
      if (!same || twin.records.some((record) => record.atMs < command.issuedMs)) continue;
      command.records.push(...twin.records.splice(0));
      [command.recordedSectors, twin.recordedSectors] = [twin.recordedSectors, 0];
      const at = this.#clears.indexOf(command);
      if (at >= 0) this.#clears[at] = twin;
      return;
    }
  }

  /** The acknowledgement was under way while the array died and came back. */
  #judgeLateAck(boot: BootFacts, command: HostWrite, last: HistoryRecord, newest: Timeline): void {
    const end = { timeline: newest, seq: newest.lastSeq };
    const isPast = this.history.contains(end, last.timeline, last.seq);
    if (isPast || this.#licence.mayForget(boot.array)) return;
    if (!this.history.contains({ timeline: last.timeline, seq: last.seq }, newest, newest.lastSeq)) {
      this.chronicle.fail("D1", `${boot.array} had acknowledged ${describeCommand(command)}, and came back without it`);
    }
  }

  /** null: nothing to hold the answer against. */
  readIssued(boot: BootFacts): ReadTicket | null {
    return this.view(boot)?.readIssued() ?? null;
  }

  readAnswered(
    boot: BootFacts,
    ticket: ReadTicket,
    read: { volume: number; startLba: number; data: Uint8Array },
  ): void {
    const view = this.view(boot);
    ticket.view.readForgotten(ticket);
    if (view === null || view !== ticket.view || view.epoch !== ticket.epoch) return;
    this.checkedReads++;
    const { misread, shownSeq } = view.judge(ticket, read.volume, read.startLba, read.data);
    if (misread !== null) {
      this.#reportMisread(boot, ticket, read, misread);
      return;
    }
    if (shownSeq > 0) this.#noteShown(boot, this.history.normal({ timeline: view.position.timeline, seq: shownSeq }));
  }

  readForgotten(ticket: ReadTicket): void {
    ticket.view.readForgotten(ticket);
  }

  #reportMisread(
    boot: BootFacts,
    ticket: ReadTicket,
    read: { volume: number; startLba: number; data: Uint8Array },
    misread: { lba: number; found: number; allowed: readonly number[] },
  ): void {
    const { history } = this;
    const at = (misread.lba - read.startLba) * sectorBytes;
    const words = Array.from({ length: 4 }, (_, word) =>
      asBuffer(read.data)
        .readUInt32LE(at + 4 * word)
        .toString(16),
    );
    const name = history.volumes[history.volumeIndex(read.volume)]!.name;
    const invariant = misread.found < 0 ? "D5" : ticket.view.group.serving().writable ? "D3" : "O1";
    this.chronicle.fail(invariant, `${boot.array} answered a read of ${name} with what was not there`, [
      `sector ${misread.lba} of a read of ${read.data.byteLength / sectorBytes} sectors from ${read.startLba}`,
      `found ${this.#describeWrite(misread.found)}; first words ${words.join(" ")}`,
      ...misread.allowed.map((write) => `allowed ${this.#describeWrite(write)}`),
      `issued at ${history.describe(ticket.issuedAt)}, answered at ${history.describe(ticket.view.position)}`,
    ]);
  }

  #describeWrite(number: number): string {
    if (number < 0) return "bytes that nobody wrote there";
    if (number === 0) return "zeros";
    const command = this.#commands.get(number);
    if (command === undefined) return `write ${number}, unknown`;
    const at = command.records.map((record) => `${record.timeline.id.slice(0, 8)}:${record.seq}`).join(" ");
    return `${describeCommand(command)}, records ${at === "" ? "none" : at}`;
  }

  // ---------------------------------------------------------------- forks

  /** A read of a fork (a kept fork, a salvage set): exactly the image at its position. */
  forkReadAnswered(
    array: string,
    fork: { id: string; at: Position },
    read: { volume: number; startLba: number; data: Uint8Array },
  ): void {
    const key = `${fork.id} ${fork.at.timeline.id} ${fork.at.seq}`;
    let image = this.#forkImages.get(key);
    if (image === undefined) {
      image = this.history.imageAt(fork.at);
      this.#forkImages.set(key, image);
    }
    this.checkedReads++;
    const expected = image[this.history.volumeIndex(read.volume)]!;
    const bytes = asBuffer(read.data);
    for (let at = 0, lba = read.startLba; at < bytes.byteLength; at += sectorBytes, lba++) {
      const found = stampAt(bytes, at, read.volume, lba);
      if (found === expected[lba]) continue;
      this.chronicle.fail("O1", `fork ${fork.id} on ${array} is not the group at ${this.history.describe(fork.at)}`, [
        `volume ${read.volume}, sector ${lba}: found ${this.#describeWrite(found)}`,
        `expected ${this.#describeWrite(expected[lba]!)}`,
      ]);
      return;
    }
  }
}

interface ForkWithLineage {
  readonly seq: number;
  readonly lineage: readonly { readonly timeline: string; readonly firstSeq: number }[];
}

export function describeCommand(command: HostWrite): string {
  const { kind, number, volume, startLba, sectorCount } = command;
  return `${kind} ${number} (volume ${volume}, LBA ${startLba}, ${sectorCount} sectors)`;
}
