/**
 * A SCSI task in the hands of the iSCSI transport, pooled over all sessions of a server.
 *
 *   free ──SCSI Command──▶ collecting ──all data landed──▶ executing ──"done", onDone──▶ answered, free
 *                              │  └─ refused: the data still announced is dropped, then its status is sent
 *                              │                             └─"reads"──▶ reading ──all sent──▶ ended ──▶ answered, free
 *                              └─ aborted: gone at once; data that still comes for it finds a `Burst` without a task
 *
 * Invariant: a task is in its session's table from its command until it is answered; a device server that ends one twice is caught
 * by `owner`.
 */
import { assert } from "../../codec/assert.ts";
import {
  type BlockError,
  type BlockKind,
  type BlockRequest,
  type BlockTarget,
  logicalBlockBytes,
} from "../../volume/block_request.ts";
import { noBytes, PlainRequest } from "../../volume/plain_request.ts";
import type { PooledBuffer } from "../buffer_pool.ts";
import { type MediumRead, ScsiStatus, type ScsiTask, TaskAttribute } from "../scsi/task.ts";
import type { PayloadSink } from "./pdu_parser.ts";

export interface TaskOwner {
  taskDone(task: IscsiTask): void;
  /** A task that waited for its turn is to be read for now. */
  taskReads(task: IscsiTask): void;
}

export interface ReadOwner {
  chunkRead(chunk: ReadChunk): void;
}

export type TaskState = "free" | "collecting" | "executing" | "reading" | "ended";

/** iSCSI's own reasons to end a command with CHECK CONDITION (RFC 7143 11.4.7.2): sense key, ASC and ASCQ. */
export const DataFault = {
  unexpectedUnsolicited: 0x0b0c0c,
  incorrectAmount: 0x0b0c0d,
  digest: 0x0b4705,
  /** INVALID FIELD IN CDB: both directions at once, or more data than a command may have. */
  refused: 0x052400,
} as const;
export type DataFault = (typeof DataFault)[keyof typeof DataFault];

const cdbBytes = 16;

/**
 * A piece below this is copied, unless it is all of its command's data: it would keep the whole chunk that it came in, up to 512 KiB,
 * for as long as its host holds back the rest. A command of 32 MiB has at most 8,192 pieces.
 */
const smallPieceBytes = 4096;
/** Small pieces are gathered in buffers of this size. */
const gatherBytes = 8192;

function unexpected(): void {
  assert(false, "iscsi: a block request that nobody submitted has completed");
}

const noTarget: BlockTarget = {
  name: "",
  lendsReads: false,
  blockCount: () => 0,
  readOnly: () => true,
  atomicBlocksMax: () => 0,
  tryRead: () => false,
  submit: unexpected,
  onEnded: () => {},
  close: () => {},
};

function taskDone(task: ScsiTask): void {
  const done = task as IscsiTask;
  assert(done.owner !== null, "iscsi: a task ends once");
  done.owner.taskDone(done);
}

function taskReads(task: ScsiTask): void {
  const reading = task as IscsiTask;
  assert(reading.owner !== null, "iscsi: a task that has ended reads nothing");
  reading.owner.taskReads(reading);
}

export class IscsiTask implements ScsiTask, PayloadSink {
  readonly lun = new Uint8Array(8);
  private readonly shortCdb = new Uint8Array(cdbBytes);
  cdb: Uint8Array = this.shortCdb;
  attribute: TaskAttribute = TaskAttribute.untagged;
  tag = 0;
  dataOutBytesMax = 0;
  dataInBytesMax = 0;
  dataOutBytes = 0;
  dataOut: Uint8Array[] = [];
  status: ScsiStatus = ScsiStatus.good;
  sense: Uint8Array = noBytes;
  dataIn: Uint8Array = noBytes;
  dataInBytes = 0;
  medium: MediumRead = { target: noTarget, startLba: 0, blockCount: 0 };
  aborted = false;
  standing: unknown = null;
  onDone: (task: ScsiTask) => void = taskDone;
  onReads: (task: ScsiTask) => void = taskReads;

  owner: TaskOwner | null = null;
  state: TaskState = "free";
  immediate = false;
  /** Expected Data Transfer Length, bytes; 0 when neither direction is announced. */
  expectedBytes = 0;
  /** Counts in its session's memory. */
  chargedBytes = 0;

  // ------------------------------------------------ data from the initiator
  /** What is collected: `min(dataOutBytes, dataOutBytesMax)`. */
  collectBytes = 0;
  collectedBytes = 0;
  /** The first burst: announced by F=0 of the command, ended by F=1 of a Data-Out. */
  unsolicitedOpen = false;
  unsolicitedDataSn = 0;
  /** Offset at which the next Data-Out of the first burst, or the next R2T, begins. */
  nextOffset = 0;
  r2tSn = 0;
  r2tOutstanding = 0;
  waitsForR2t = false;
  /** The device server is done with the task, `status` and `sense` stand; it is answered when all announced data has come. */
  refused = false;

  // ------------------------------------------------ data to the initiator
  dataSn = 0;
  /** Bytes of the medium read that are to be sent, are asked for, are sent. */
  readBytes = 0;
  askedBytes = 0;
  sentBytes = 0;
  waitsForRead = false;
  /** Chunks are being asked for: those that land meanwhile are sent by whoever asks. */
  asking = false;
  readError: BlockError | null = null;
  /** Chunks asked for and not sent, in order. */
  readonly chunks: ReadChunk[] = [];

  private gather: Uint8Array = noBytes;
  private gathered = 0;
  /** The last piece of `dataOut` is the end of what has been gathered, from here on, and may grow. */
  private gathering = false;
  private gatherStart = 0;

  setCdb(header: Uint8Array, extended: Uint8Array): void {
    const cdb = extended.byteLength === 0 ? this.shortCdb : new Uint8Array(cdbBytes + extended.byteLength);
    for (let index = 0; index < cdbBytes; index++) cdb[index] = header[32 + index]!;
    if (extended.byteLength > 0) cdb.set(extended, cdbBytes);
    this.cdb = cdb;
  }

  /** Data from the initiator, in order: kept as it came up to `collectBytes`, the rest is dropped. */
  piece(bytes: Uint8Array): void {
    if (this.refused) return;
    const room = this.collectBytes - this.collectedBytes;
    if (room <= 0) return;
    const kept = bytes.byteLength <= room ? bytes : bytes.subarray(0, room);
    this.collectedBytes += kept.byteLength;
    if (kept.byteLength >= smallPieceBytes || kept.byteLength === this.collectBytes) {
      this.gathering = false;
      this.dataOut.push(kept);
    } else this.gatherSmall(kept, room);
  }

  private gatherSmall(kept: Uint8Array, room: number): void {
    if (this.gathered + kept.byteLength > this.gather.byteLength) {
      this.gather = new Uint8Array(Math.max(kept.byteLength, Math.min(room, gatherBytes)));
      this.gathered = 0;
      this.gathering = false;
    }
    if (!this.gathering) {
      this.gathering = true;
      this.gatherStart = this.gathered;
      this.dataOut.push(noBytes);
    }
    this.gather.set(kept, this.gathered);
    this.gathered += kept.byteLength;
    this.dataOut[this.dataOut.length - 1] = this.gather.subarray(this.gatherStart, this.gathered);
  }

  /** Ends the task on iSCSI's own account; the device server has been told, or never knew it. */
  refuse(fault: DataFault): void {
    this.refused = true;
    this.status = ScsiStatus.checkCondition;
    // SPC-5 4.4.3, fixed format, current error.
    this.sense = new Uint8Array(18);
    this.sense[0] = 0x70;
    this.sense[2] = fault >> 16;
    this.sense[7] = 10;
    this.sense[12] = (fault >> 8) & 0xff;
    this.sense[13] = fault & 0xff;
    this.dropData();
  }

  dropData(): void {
    if (this.dataOut.length > 0) this.dataOut.length = 0;
    this.gather = noBytes;
    this.gathered = 0;
    this.gathering = false;
  }

  clear(): void {
    this.dropData();
    this.owner = null;
    this.state = "free";
    this.cdb = this.shortCdb;
    this.attribute = TaskAttribute.untagged;
    this.status = ScsiStatus.good;
    this.sense = noBytes;
    this.dataIn = noBytes;
    this.dataInBytes = 0;
    this.dataOutBytes = 0;
    this.medium.target = noTarget;
    this.aborted = false;
    this.immediate = false;
    this.chargedBytes = 0;
    this.collectBytes = 0;
    this.collectedBytes = 0;
    this.unsolicitedOpen = false;
    this.unsolicitedDataSn = 0;
    this.nextOffset = 0;
    this.r2tSn = 0;
    this.r2tOutstanding = 0;
    this.waitsForR2t = false;
    this.refused = false;
    this.dataSn = 0;
    this.readBytes = 0;
    this.askedBytes = 0;
    this.sentBytes = 0;
    this.waitsForRead = false;
    this.asking = false;
    this.readError = null;
  }
}

function chunkDone(request: BlockRequest): void {
  const chunk = request as ReadChunk;
  assert(chunk.owner !== null, "iscsi: a read completes once");
  chunk.owner.chunkRead(chunk);
}

/** A part of a medium read that could not be served at once. */
export class ReadChunk extends PlainRequest {
  override kind: BlockKind = "read";
  owner: ReadOwner | null = null;
  task: IscsiTask | null = null;
  buffer: PooledBuffer | null = null;
  landed = false;

  constructor() {
    super(chunkDone);
  }

  get bytes(): number {
    return this.blockCount * logicalBlockBytes;
  }
}

/** Kept at most: 4,096 tasks of about 1 KiB. */
const keptMax = 4096;

export class TaskPool {
  private readonly tasks: IscsiTask[] = [];
  private readonly chunks: ReadChunk[] = [];

  acquire(owner: TaskOwner): IscsiTask {
    const task = this.tasks.pop() ?? new IscsiTask();
    task.owner = owner;
    return task;
  }

  release(task: IscsiTask): void {
    task.clear();
    if (this.tasks.length < keptMax) this.tasks.push(task);
  }

  acquireChunk(owner: ReadOwner, task: IscsiTask): ReadChunk {
    const chunk = this.chunks.pop() ?? new ReadChunk();
    chunk.owner = owner;
    chunk.task = task;
    chunk.landed = false;
    return chunk;
  }

  releaseChunk(chunk: ReadChunk): void {
    chunk.owner = null;
    chunk.task = null;
    chunk.buffer = null;
    chunk.target = noBytes;
    chunk.error = null;
    if (this.chunks.length < keptMax) this.chunks.push(chunk);
  }
}
