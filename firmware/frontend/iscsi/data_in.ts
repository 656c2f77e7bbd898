/**
 * Data to the initiator (RFC 7143 11.7): a read lands behind its headers in the output queue, status with the last PDU.
 *
 *   start ──▶ send: tryRead into the queue, PDU by PDU ──▶ finished
 *              │  └─ backlog or memory full: waits, goes on when replies have left
 *              └─ would block: chunks are asked for ahead, sent in order as they land ──▶ finished
 *
 * Invariants:
 * - PDUs of a command leave in order; each has at most `pduBytesMax`, a sequence at most MaxBurstLength and F in its last PDU.
 * - A PDU's data is copied only when a chunk carries several PDUs (initiators that take less than 64 KiB at once), or is cut in a block.
 * - A task is handed back (`readDone`) exactly once, also when it was aborted or the session is gone, and never while a chunk flies.
 */
import { logicalBlockBytes } from "../../volume/block_request.ts";
import type { BufferPool } from "../buffer_pool.ts";
import type { OutputQueue } from "../output_queue.ts";
import { ScsiStatus } from "../scsi/task.ts";
import { DataInFlag, finalBit, noTag, ResponseOp } from "./constants.ts";
import type { IscsiTask, ReadChunk, ReadOwner, TaskPool } from "./iscsi_task.ts";
import type { SessionParameters } from "./key_negotiation.ts";
import type { IscsiLimits } from "./limits.ts";
import { ownDataAt, type PduWriter } from "./pdu_writer.ts";
import type { SessionMemory } from "./session_memory.ts";

export interface DataInHost {
  /** The medium read is over: tells the device server. */
  readOver(task: IscsiTask): void;
  /** The task has been answered, or needs no answer. */
  finished(task: IscsiTask): void;
  /** A status of its own is to be sent. */
  answer(task: IscsiTask): void;
  workDone(): void;
  longReplyReady(): void;
}

/** One PDU at most: an output segment. Also one chunk at most. */
const gatheredBytesMax = 262144;
/** From here on a chunk is one PDU, sent as it lies. */
const ownPduBytesMin = 65536;
/** Chunks of one command asked for at once: 1 MiB from a medium that blocks. */
const chunksAheadMax = 4;

export interface DataInParts {
  readonly writer: PduWriter;
  readonly output: OutputQueue;
  readonly memory: SessionMemory;
  readonly buffers: BufferPool;
  readonly pool: TaskPool;
  readonly limits: IscsiLimits;
  readonly parameters: SessionParameters;
}

export class DataIn implements ReadOwner {
  private readonly parts: DataInParts;
  private readonly host: DataInHost;
  private readonly waiting: IscsiTask[] = [];
  private readonly burstBytesMax: number;
  closed = false;

  constructor(parts: DataInParts, host: DataInHost) {
    this.parts = parts;
    this.host = host;
    this.burstBytesMax = wholeBlocks(parts.parameters.maxBurstBytes);
  }

  /** The initiator may declare anew what it takes. */
  private get pduBytesMax(): number {
    const bytes = Math.min(this.parts.parameters.initiatorSegmentBytes, this.burstBytesMax, gatheredBytesMax);
    return wholeBlocks(bytes);
  }

  get waits(): boolean {
    return this.waiting.length > 0;
  }

  start(task: IscsiTask): void {
    task.state = "reading";
    task.readBytes = Math.min(task.medium.blockCount * logicalBlockBytes, task.dataInBytesMax);
    if (task.readBytes === 0) this.over(task);
    else if (this.waiting.length > 0) this.wait(task);
    else this.send(task);
  }

  /** Replies have left, or task management has aborted reads: those that waited go on, or end. */
  resume(): void {
    const { waiting } = this;
    for (let count = waiting.length; count > 0 && waiting.length > 0; count--) {
      const task = waiting.shift()!;
      task.waitsForRead = false;
      this.send(task);
      if (!task.waitsForRead) continue;
      // It waits again, so there is no room for the others either.
      waiting.splice(waiting.indexOf(task), 1);
      waiting.unshift(task);
      return;
    }
  }

  /** The session is gone: every read ends, at once or when its chunks have landed. */
  close(tasks: Iterable<IscsiTask>): void {
    this.closed = true;
    this.waiting.length = 0;
    for (const task of [...tasks]) {
      if (task.state !== "reading") continue;
      task.waitsForRead = false;
      this.dropLanded(task);
      if (task.chunks.length === 0) this.over(task);
    }
  }

  private wait(task: IscsiTask): void {
    if (task.waitsForRead) return;
    task.waitsForRead = true;
    this.waiting.push(task);
  }

  private given(task: IscsiTask): boolean {
    return this.closed || task.aborted || task.readError !== null;
  }

  /** Sends as much as there is room for. */
  private send(task: IscsiTask): void {
    const { output, limits, memory } = this.parts;
    while (task.state === "reading") {
      if (this.given(task)) {
        this.dropLanded(task);
        if (task.chunks.length === 0) this.over(task);
        return;
      }
      if (task.chunks.length > 0) {
        if (!task.chunks[0]!.landed) {
          this.ask(task);
          return;
        }
        this.sendChunk(task);
        continue;
      }
      const bytes = this.pduBytes(task, task.sentBytes);
      if (output.queuedBytes >= limits.outputBacklogBytes || !memory.admits(bytes)) {
        this.wait(task);
        return;
      }
      if (this.readInPlace(task, bytes)) continue;
      this.ask(task);
      if (task.waitsForRead || !task.chunks[0]!.landed) return;
    }
  }

  /** The length of the PDU that begins at `offset`. */
  private pduBytes(task: IscsiTask, offset: number): number {
    return Math.min(this.pduBytesMax, task.readBytes - offset, this.burstBytesMax - (offset % this.burstBytesMax));
  }

  private readInPlace(task: IscsiTask, bytes: number): boolean {
    const { writer } = this.parts;
    const { medium } = task;
    const place = writer.placeForData(roundedUp(bytes));
    if (!medium.target.tryRead(medium.startLba + task.sentBytes / logicalBlockBytes, place)) return false;
    writer.open(ResponseOp.dataIn, this.flags(task, bytes), bytes);
    this.finishPdu(task, bytes);
    return true;
  }

  private flags(task: IscsiTask, bytes: number): number {
    const end = task.sentBytes + bytes;
    if (end === task.readBytes) return finalBit | DataInFlag.status | residualFlags(task);
    return end % this.burstBytesMax === 0 ? finalBit : 0;
  }

  /** The rest of a PDU's header. A read that has delivered everything is GOOD: its last PDU says so. */
  private finishPdu(task: IscsiTask, bytes: number): void {
    const { writer } = this.parts;
    const last = task.sentBytes + bytes === task.readBytes;
    if (last) {
      writer.sequence(task.tag, true);
      writer.u8(3, ScsiStatus.good);
      writer.u32(44, residualBytes(task));
    } else writer.sequenceWithoutStatus(task.tag);
    writer.u32(20, noTag);
    writer.u32(36, task.dataSn++);
    writer.u32(40, task.sentBytes);
    writer.close();
    task.sentBytes += bytes;
    if (last) {
      // Only now: the device server may complete other tasks within, and their answers are written behind this one.
      this.handBack(task);
      this.host.finished(task);
    }
    if (bytes >= gatheredBytesMax / 2) this.host.longReplyReady();
  }

  /** Asks for chunks ahead of what has been sent. Those that land at once are sent when all have been asked for. */
  private ask(task: IscsiTask): void {
    const { memory, buffers, pool } = this.parts;
    if (task.askedBytes < task.sentBytes) task.askedBytes = task.sentBytes;
    task.asking = true;
    while (task.chunks.length < chunksAheadMax && task.askedBytes < task.readBytes) {
      const one = this.pduBytes(task, task.askedBytes);
      const left = task.readBytes - task.askedBytes;
      const bytes = this.pduBytesMax >= ownPduBytesMin ? one : Math.min(left, gatheredBytesMax);
      if (!memory.admits(bytes)) {
        if (task.chunks.length === 0) this.wait(task);
        break;
      }
      const chunk = pool.acquireChunk(this, task);
      chunk.startLba = task.medium.startLba + task.askedBytes / logicalBlockBytes;
      chunk.blockCount = roundedUp(bytes) / logicalBlockBytes;
      chunk.buffer = buffers.acquire(chunk.bytes);
      chunk.target = chunk.buffer.bytes.subarray(ownDataAt, ownDataAt + chunk.bytes);
      memory.inFlightBytes += chunk.bytes;
      task.askedBytes += bytes;
      task.chunks.push(chunk);
      task.medium.target.submit(chunk);
    }
    task.asking = false;
  }

  /** From the target, at any time, also before `submit` returns, also when the session is gone. */
  chunkRead(chunk: ReadChunk): void {
    const task = chunk.task!;
    chunk.landed = true;
    if (chunk.error !== null && task.readError === null) task.readError = chunk.error;
    if (task.asking || task.waitsForRead) return;
    if (task.chunks[0] !== chunk && !this.given(task)) return;
    this.send(task);
    this.host.workDone();
  }

  private dropLanded(task: IscsiTask): void {
    const { memory, buffers, pool } = this.parts;
    for (let index = task.chunks.length - 1; index >= 0; index--) {
      const chunk = task.chunks[index]!;
      if (!chunk.landed) continue;
      task.chunks.splice(index, 1);
      memory.inFlightBytes -= chunk.bytes;
      buffers.release(chunk.buffer!);
      pool.releaseChunk(chunk);
    }
  }

  /** Sends the first chunk, which has landed. */
  private sendChunk(task: IscsiTask): void {
    const { memory, buffers, pool, writer } = this.parts;
    const chunk = task.chunks.shift()!;
    const buffer = chunk.buffer!;
    const { target } = chunk;
    memory.inFlightBytes -= chunk.bytes;
    const first = task.sentBytes;
    const end = Math.min(first + chunk.bytes, task.readBytes);
    pool.releaseChunk(chunk);
    if (this.pduBytes(task, first) === end - first) {
      writer.openOwned(buffer, ResponseOp.dataIn, this.flags(task, end - first), end - first);
      this.finishPdu(task, end - first);
      return;
    }
    while (task.state === "reading" && task.sentBytes < end) {
      const at = task.sentBytes - first;
      const bytes = Math.min(this.pduBytes(task, task.sentBytes), end - task.sentBytes);
      writer.open(ResponseOp.dataIn, this.flags(task, bytes), bytes);
      writer.data(target.subarray(at, at + bytes));
      this.finishPdu(task, bytes);
    }
    buffers.release(buffer);
  }

  /** The medium read is over, once. */
  private handBack(task: IscsiTask): void {
    task.state = "ended";
    this.host.readOver(task);
  }

  /** Nothing more is sent as data. */
  private over(task: IscsiTask): void {
    this.handBack(task);
    if (this.closed) this.host.finished(task);
    else this.host.answer(task);
  }
}

/** How far what the command transfers is from what the initiator expects (11.4.5). */
export function residualBytes(task: IscsiTask): number {
  return Math.abs(task.expectedBytes - transferBytes(task));
}

export function residualFlags(task: IscsiTask): number {
  const bytes = transferBytes(task);
  if (bytes > task.expectedBytes) return DataInFlag.overflow;
  return bytes < task.expectedBytes ? DataInFlag.underflow : 0;
}

function transferBytes(task: IscsiTask): number {
  if (task.dataOutBytesMax > 0 || task.dataOutBytes > 0) return task.dataOutBytes;
  if (task.status === ScsiStatus.good || task.dataInBytes > task.expectedBytes) return task.dataInBytes;
  return Math.max(task.sentBytes, Math.min(task.dataIn.byteLength, task.expectedBytes));
}

function wholeBlocks(bytes: number): number {
  return bytes - (bytes % logicalBlockBytes);
}

function roundedUp(bytes: number): number {
  return bytes + (-bytes & (logicalBlockBytes - 1));
}
