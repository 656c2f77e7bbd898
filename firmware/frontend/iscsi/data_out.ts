/**
 * Data from the initiator: the first burst without being asked, the rest by R2T (RFC 7143 4.2.5, 11.7, 11.8).
 *
 * Invariants:
 * - Data of a command comes in order (DataPDUInOrder and DataSequenceInOrder are Yes): its offset is what has been collected so far.
 * - A command's data is granted whole by the session's memory before its first R2T: no command holds a part and waits for more.
 * - At most `maxOutstandingR2t` R2Ts of a command are out; each ends with the Data-Out that completes it.
 * - Bursts outlive their command: data for a command that was aborted is dropped without complaint.
 */
import { finalBit, noTag, RejectReason, ResponseOp } from "./constants.ts";
import { DataFault, type IscsiTask } from "./iscsi_task.ts";
import type { SessionParameters } from "./key_negotiation.ts";
import type { PayloadSink, PduParser } from "./pdu_parser.ts";
import type { PduWriter } from "./pdu_writer.ts";
import type { SessionMemory } from "./session_memory.ts";

export interface DataOutHost {
  task(itt: number): IscsiTask | undefined;
  /** All that was announced has come: the task is executed, or answered when it is refused. */
  dataComplete(task: IscsiTask): void;
  /** The task ends with a CHECK CONDITION of iSCSI's own. */
  fault(task: IscsiTask, fault: DataFault): void;
}

interface Burst {
  readonly ttt: number;
  /** Null: aborted. */
  task: IscsiTask | null;
  offset: number;
  readonly end: number;
  dataSn: number;
}

/** Of commands that were aborted, while their data may still come; a host that never sends it costs no more than this. */
const ghostsMax = 256;

export class DataOut {
  private readonly writer: PduWriter;
  private readonly memory: SessionMemory;
  private readonly parameters: SessionParameters;
  private readonly host: DataOutHost;
  private readonly bursts = new Map<number, Burst>();
  /** Commands whose first burst was cut by an abort, by ITT. */
  private readonly unsolicitedGhosts = new Set<number>();
  private nextTtt = 1;
  /** Commands whose first burst goes on beyond their own PDU. */
  private openFirstBursts = 0;
  /** Tasks that want R2Ts, first come first served. */
  private readonly waiting: IscsiTask[] = [];
  /** The Data-Out whose data is arriving. */
  private burst: Burst | null = null;
  receiving: IscsiTask | null = null;

  constructor(parts: { writer: PduWriter; memory: SessionMemory; parameters: SessionParameters }, host: DataOutHost) {
    this.writer = parts.writer;
    this.memory = parts.memory;
    this.parameters = parts.parameters;
    this.host = host;
  }

  /** A Data-Out's header; where its data goes. */
  begin(pdu: PduParser): PayloadSink | null {
    this.burst = null;
    this.receiving = null;
    const ttt = pdu.u32(20);
    return ttt === noTag ? this.beginUnsolicited(pdu) : this.beginSolicited(pdu, ttt);
  }

  private beginUnsolicited(pdu: PduParser): PayloadSink | null {
    const itt = pdu.u32(16);
    const task = this.host.task(itt);
    if (task === undefined || !task.unsolicitedOpen) {
      if (!this.unsolicitedGhosts.has(itt)) this.writer.reject(RejectReason.invalidField, pdu.bytes);
      else if ((pdu.flags & finalBit) !== 0) this.unsolicitedGhosts.delete(itt);
      return null;
    }
    const end = task.nextOffset + pdu.dataBytes;
    const endMax = Math.min(this.parameters.firstBurstBytes, task.expectedBytes);
    const inOrder = pdu.u32(36) === task.unsolicitedDataSn && pdu.u32(40) === task.nextOffset;
    if (!task.refused && !inOrder) this.host.fault(task, DataFault.incorrectAmount);
    if (!task.refused && end > endMax) this.host.fault(task, DataFault.unexpectedUnsolicited);
    task.unsolicitedDataSn++;
    task.nextOffset = end;
    this.receiving = task;
    return task;
  }

  private beginSolicited(pdu: PduParser, ttt: number): PayloadSink | null {
    const burst = this.bursts.get(ttt);
    if (burst === undefined) {
      this.writer.reject(RejectReason.invalidField, pdu.bytes);
      return null;
    }
    this.burst = burst;
    const task = burst.task;
    if (task === null) return null;
    const offset = pdu.u32(40);
    const end = offset + pdu.dataBytes;
    const ends = (pdu.flags & finalBit) !== 0;
    const inOrder =
      pdu.u32(16) === task.tag && pdu.u32(36) === burst.dataSn && offset === burst.offset && end <= burst.end;
    // Data of a later R2T before that of an earlier one leaves a hole; a final PDU before the end does too.
    const noHole = offset === task.collectedBytes && (!ends || end === burst.end);
    if (!task.refused && (!inOrder || !noHole)) this.host.fault(task, DataFault.incorrectAmount);
    burst.dataSn++;
    burst.offset = end;
    this.receiving = task;
    return task;
  }

  /** All data of the Data-Out has come. */
  complete(pdu: PduParser): void {
    const { burst, receiving: task } = this;
    this.burst = null;
    this.receiving = null;
    if (!pdu.dataDigestRight) {
      this.writer.reject(RejectReason.dataDigest, pdu.bytes);
      if (task !== null && !task.refused) this.host.fault(task, DataFault.digest);
    }
    const ends = (pdu.flags & finalBit) !== 0;
    if (burst !== null) {
      if (!ends && burst.offset < burst.end) return;
      this.bursts.delete(burst.ttt);
      if (task === null) return;
      task.r2tOutstanding--;
    } else {
      if (task === null || !ends) return;
      task.unsolicitedOpen = false;
      this.openFirstBursts--;
    }
    this.advance(task);
  }

  /** More of the command's first burst follows in Data-Out PDUs. */
  openFirstBurst(task: IscsiTask): void {
    task.unsolicitedOpen = true;
    this.openFirstBursts++;
  }

  /** What comes next for a task in whose data something has ended. */
  advance(task: IscsiTask): void {
    if (task.unsolicitedOpen) return;
    if (task.refused) {
      if (task.r2tOutstanding === 0) this.host.dataComplete(task);
      return;
    }
    if (task.collectedBytes === task.collectBytes) {
      this.host.dataComplete(task);
      return;
    }
    if (task.r2tOutstanding === 0 && task.r2tSn === 0) task.nextOffset = task.collectedBytes;
    if (task.waitsForR2t || task.nextOffset === task.collectBytes) return;
    task.waitsForR2t = true;
    this.waiting.push(task);
  }

  /** Sends the R2Ts that there is memory for. */
  solicit(): void {
    while (this.waiting.length > 0) {
      const task = this.waiting[0]!;
      if (task.chargedBytes === 0) {
        if (!this.memory.admits(task.collectBytes)) return;
        task.chargedBytes = task.collectBytes;
        this.memory.inFlightBytes += task.chargedBytes;
      }
      this.waiting.shift();
      task.waitsForR2t = false;
      while (task.r2tOutstanding < this.parameters.maxOutstandingR2t && task.nextOffset < task.collectBytes) {
        this.sendR2t(task);
      }
    }
  }

  get waits(): boolean {
    return this.waiting.length > 0;
  }

  private sendR2t(task: IscsiTask): void {
    const bytes = Math.min(this.parameters.maxBurstBytes, task.collectBytes - task.nextOffset);
    const ttt = this.nextTtt;
    this.nextTtt = ttt + 1 >= noTag ? 1 : ttt + 1;
    this.bursts.set(ttt, { ttt, task, offset: task.nextOffset, end: task.nextOffset + bytes, dataSn: 0 });
    const { writer } = this;
    writer.open(ResponseOp.r2t, finalBit, 0);
    writer.field(8, task.lun);
    writer.sequence(task.tag, false);
    writer.u32(20, ttt);
    writer.u32(36, task.r2tSn++);
    writer.u32(40, task.nextOffset);
    writer.u32(44, bytes);
    writer.close();
    task.nextOffset += bytes;
    task.r2tOutstanding++;
  }

  /** The task is gone; what it asked for may still come. */
  forget(task: IscsiTask): void {
    if (task.waitsForR2t) this.waiting.splice(this.waiting.indexOf(task), 1);
    if (task.unsolicitedOpen) {
      this.openFirstBursts--;
      this.unsolicitedGhosts.add(task.tag);
      if (this.unsolicitedGhosts.size > ghostsMax) {
        for (const oldest of this.unsolicitedGhosts) {
          this.unsolicitedGhosts.delete(oldest);
          break;
        }
      }
    }
    if (this.receiving === task) this.receiving = null;
    if (task.r2tOutstanding === 0) return;
    let ghosts = 0;
    for (const burst of this.bursts.values()) {
      if (burst.task === task) burst.task = null;
      if (burst.task === null) ghosts++;
    }
    for (const burst of this.bursts.values()) {
      if (ghosts <= ghostsMax) break;
      if (burst.task !== null) continue;
      this.bursts.delete(burst.ttt);
      ghosts--;
    }
  }

  /** An ITT is used anew: what was left of its old command is over. */
  reuse(itt: number): void {
    if (this.unsolicitedGhosts.size > 0) this.unsolicitedGhosts.delete(itt);
  }

  /** Whether data for any command of the session is still to come. */
  get collects(): boolean {
    if (this.openFirstBursts > 0) return true;
    for (const burst of this.bursts.values()) if (burst.task !== null) return true;
    return false;
  }
}
