/**
 * What the partner's hosts ask of the volumes that are served here, in one session with the partner: the other end of `forwarder.ts`. Each
 * channel is a nexus, or an open volume, like any other to the firmware here.
 *
 * Invariants:
 * - Every task and request is answered once, also when its channel has been closed meanwhile.
 * - A channel whose firmware has ended here answers nothing more; nor does anything when the session is over: channels and ids begin anew
 *   with the next one, and half a record is no part of that.
 * - A short read lands where its answer is sent from; a longer one in memory of its own, which nothing else is put into.
 */
import type { Clock } from "../../hal/api/clock.ts";
import { assert } from "../codec/assert.ts";
import { type Nexus, type NexusHost, TaskFunction } from "../frontend/scsi/device_server.ts";
import { type MediumRead, ScsiStatus, type ScsiTask, TaskAttribute } from "../frontend/scsi/task.ts";
import { type BlockError, type BlockRequest, type BlockTarget, logicalBlockBytes } from "../volume/block_request.ts";
import type { HostIdentity } from "../volume/host_access.ts";
import { noBytes, PlainRequest } from "../volume/plain_request.ts";
import type { SendMessage } from "./forwarder.ts";
import type { PairMessageOf } from "./frame.ts";
import { pairLimits } from "./limits.ts";
import type { Seat } from "./seat.ts";
import { blockOf, encodeExtents, errorCode, outcomeCode } from "./work_codes.ts";
import { copiedBytesMax, nothing, ReusedHead, type WorkHead, WorkReader, WorkWriter, workKinds } from "./work_wire.ts";

interface Channel {
  asked(head: WorkHead, meta: Uint8Array, data: Uint8Array): void;
  close(): void;
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();

export class Forwarded {
  readonly #clock: Clock;
  readonly #writer: WorkWriter;
  readonly #reader: WorkReader;
  readonly #channels = new Map<number, Channel>();
  #seat: Seat | null = null;
  #isOver = false;

  constructor(clock: Clock, send: SendMessage) {
    this.#clock = clock;
    this.#writer = new WorkWriter(clock, (payload, memory) => {
      if (!this.#isOver) send({ kind: "told" }, payload, memory);
    });
    this.#reader = new WorkReader((head, meta, data) => {
      const channel = this.#channels.get(head.channel);
      if (channel !== undefined) channel.asked(head, meta, data);
      else if (this.#seat !== null) this.#unopened(head);
    });
  }

  /** The firmware serves here from now on; null: it has ended, and hears of nothing any more. */
  set seat(seat: Seat | null) {
    this.#seat = seat;
    if (seat === null) this.#channels.clear();
  }

  /** `proof`: what the host has proved to the partner, as its `HostRegistry` has it. */
  openNexus(message: PairMessageOf<"openNexus">, proof: Uint8Array): void {
    const { channel, initiatorPort, portalGroup, relativePort, isContinued } = message;
    if (this.#seat === null || !this.#mayOpen(channel)) return this.#refuse(channel);
    const host = identityOf(message.host);
    this.#seat.proved(host, decoder.decode(proof));
    const served = new ServedNexus(channel, this.#writer, this.#clock);
    served.nexus = this.#seat.device.attach({ host, initiatorPort, portalGroup, relativePort, isContinued }, served);
    this.#channels.set(channel, served);
  }

  openVolume({ channel, name, image, host }: PairMessageOf<"openVolume">): void {
    if (this.#seat === null || !this.#mayOpen(channel)) return this.#refuse(channel);
    if (image !== "" && this.#seat.imageOf(name) !== image) return this.#refuse(channel);
    const opened = this.#seat.open(name, identityOf(host));
    if (typeof opened === "string") return this.#refuse(channel);
    this.#channels.set(channel, new ServedVolume(channel, opened, this.#writer));
  }

  close(channel: number): void {
    const known = this.#channels.get(channel);
    this.#channels.delete(channel);
    known?.close();
  }

  /** A text: the partner has broken the language. */
  onAsk(payload: Uint8Array): string | null {
    return this.#reader.feed(payload);
  }

  /** The partner is gone, and its hosts' connections with it. */
  end(): void {
    this.#isOver = true;
    for (const channel of [...this.#channels.keys()]) this.close(channel);
  }

  #mayOpen(channel: number): boolean {
    return !this.#channels.has(channel) && this.#channels.size < pairLimits.channelsMax;
  }

  /** The channel was refused, or its end has overtaken what was asked just before: whoever asked waits for an answer to that, too. */
  #unopened({ kind, channel, id }: WorkHead): void {
    const answer = { kind, channel, id, code: errorCode("closed"), first: 0, second: 0, wide: 0 };
    if (kind === workKinds.block) this.#writer.put(answer, nothing, nothing);
    else if (kind === workKinds.task) this.#writer.put({ ...answer, code: ScsiStatus.busy, wide: 1 }, nothing, nothing);
    else if (kind === workKinds.manage)
      this.#writer.put({ ...answer, code: outcomeCode("rejected") }, nothing, nothing);
  }

  #refuse(channel: number): void {
    ended(this.#writer, channel, "the partner does not serve it now");
  }
}

function identityOf({ remote, iqn, tlsName }: PairMessageOf<"openNexus">["host"]): HostIdentity {
  return { remote, iqn: iqn === "" ? null : iqn, tlsName: tlsName === "" ? null : tlsName };
}

function ended(writer: WorkWriter, channel: number, why: string): void {
  const meta = encoder.encode(why.slice(0, 200));
  writer.put({ kind: workKinds.ended, code: 0, channel, id: 0, first: 0, second: 0, wide: 0 }, [meta], []);
}

// -------------------------------------------------------------------- SCSI

class ServedNexus implements Channel, NexusHost {
  nexus!: Nexus;
  readonly #channel: number;
  readonly #writer: WorkWriter;
  readonly #clock: Clock;
  readonly #tasks = new Set<ServedTask>();
  /** Of answers to reads that were served at once. */
  readonly #readHead = new ReusedHead();
  #closed = false;

  constructor(channel: number, writer: WorkWriter, clock: Clock) {
    this.#channel = channel;
    this.#readHead.kind = workKinds.task;
    this.#readHead.code = ScsiStatus.good;
    this.#readHead.channel = channel;
    this.#writer = writer;
    this.#clock = clock;
  }

  asked(head: WorkHead, meta: Uint8Array, data: Uint8Array): void {
    if (head.kind === workKinds.manage) return this.#manage(head, meta);
    if (head.kind !== workKinds.task || meta.byteLength < lunBytes + 6 || head.code > TaskAttribute.aca) return;
    const task = kept.pop() ?? new ServedTask();
    task.take(this, head, meta);
    this.#tasks.add(task);
    if (this.nexus.judge(task) === "rejected") return this.ended(task);
    const bytes = Math.min(task.dataOutBytes, data.byteLength);
    if (bytes > 0) task.dataOut = [data.subarray(0, bytes)];
    const outcome = this.nexus.execute(task);
    if (outcome === "done") this.ended(task);
    else if (outcome === "reads") this.read(task);
  }

  /** From the device server, at any time. */
  ended(task: ServedTask, dataIn = task.dataIn): void {
    if (!this.#tasks.delete(task)) return;
    this.#writer.put(
      {
        kind: workKinds.task,
        code: task.status,
        channel: this.#channel,
        id: task.tag,
        first: task.dataInBytes,
        second: task.dataOutBytes,
        wide: task.aborted ? 1 : 0,
      },
      [task.sense],
      [dataIn.byteLength <= task.dataInBytesMax ? dataIn : dataIn.subarray(0, task.dataInBytesMax)],
    );
    release(task);
  }

  read(task: ServedTask): void {
    const { target, startLba, blockCount } = task.medium;
    const wanted = Math.min(blockCount * logicalBlockBytes, task.dataInBytesMax);
    const readBytes = wanted + (-wanted & (logicalBlockBytes - 1));
    const place = readBytes <= copiedBytesMax && !task.aborted ? this.#writer.placeForData(readBytes) : null;
    if (place !== null && (wanted === 0 || target.tryRead(startLba, place))) return this.#readInPlace(task, wanted);
    const done = (): void => {
      this.nexus.readDone(task, request.error);
      this.ended(task, request.error === null ? request.target : noBytes);
    };
    const request: PlainRequest = new PlainRequest(done);
    request.kind = "read";
    request.startLba = startLba;
    request.blockCount = readBytes / logicalBlockBytes;
    request.target = new Uint8Array(readBytes);
    if (readBytes > copiedBytesMax && target.tryRead(startLba, request.target)) return done();
    target.submit(request);
  }

  /** The answer comes first: the device server may end other tasks within `readDone`, and their answers lie behind this one. */
  #readInPlace(task: ServedTask, dataBytes: number): void {
    this.#tasks.delete(task);
    const head = this.#readHead;
    head.id = task.tag;
    head.first = task.dataInBytes;
    head.second = task.dataOutBytes;
    this.#writer.putPlaced(head, dataBytes);
    this.nexus.readDone(task, null);
    release(task);
  }

  #manage(head: WorkHead, lun: Uint8Array): void {
    const { code, id, first } = head;
    const isKnown = (Object.values(TaskFunction) as number[]).includes(code) && lun.byteLength === lunBytes;
    const answer = (outcome: number): void =>
      this.#writer.put(
        { kind: workKinds.manage, code: outcome, channel: this.#channel, id, first: 0, second: 0, wide: 0 },
        [],
        [],
      );
    if (!isKnown) return answer(outcomeCode("rejected"));
    this.nexus.manage(code as TaskFunction, lun, first, (outcome) => answer(outcomeCode(outcome)));
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.nexus.close();
  }

  /** Not at once: this may come from the middle of a call to the nexus. */
  nexusEnded(reason: string): void {
    this.#clock.defer(() => ended(this.#writer, this.#channel, reason));
  }

  attention(): void {
    this.#writer.put(
      { kind: workKinds.attention, code: 0, channel: this.#channel, id: 0, first: 0, second: 0, wide: 0 },
      [],
      [],
    );
  }
}

const lunBytes = 8;
const cdbBytesMin = 16;
const noTarget = null as unknown as BlockTarget;

function servedDone(task: ScsiTask): void {
  const served = task as ServedTask;
  assert(served.nexus !== null, "forwarded: a task ends once");
  served.nexus.ended(served);
}

function servedReads(task: ScsiTask): void {
  const served = task as ServedTask;
  assert(served.nexus !== null, "forwarded: a task reads before it ends");
  served.nexus.read(served);
}

/** Pooled: it is its nexus's from `take` until its answer has been put. */
class ServedTask implements ScsiTask {
  nexus: ServedNexus | null = null;
  readonly lun = new Uint8Array(lunBytes);
  cdb: Uint8Array = noBytes;
  attribute: TaskAttribute = TaskAttribute.untagged;
  /** Unique in its channel: the record's id. */
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
  onDone: (task: ScsiTask) => void = servedDone;
  onReads: (task: ScsiTask) => void = servedReads;
  readonly #plainCdb = new Uint8Array(cdbBytesMin);

  take(nexus: ServedNexus, head: WorkHead, meta: Uint8Array): void {
    this.nexus = nexus;
    this.attribute = head.code as TaskAttribute;
    this.tag = head.id;
    this.dataInBytesMax = Math.min(head.first, pairLimits.workBytesMax);
    this.dataOutBytesMax = head.second;
    for (let index = 0; index < lunBytes; index++) this.lun[index] = meta[index]!;
    const cdbBytes = meta.byteLength - lunBytes;
    if (cdbBytes > cdbBytesMin) {
      this.cdb = meta.subarray(lunBytes);
      return;
    }
    // Byte by byte: a view of each would cost more than the copying, and the garbage collector with it.
    for (let index = 0; index < cdbBytesMin; index++)
      this.#plainCdb[index] = index < cdbBytes ? meta[lunBytes + index]! : 0;
    this.cdb = this.#plainCdb;
  }

  clear(): void {
    this.nexus = null;
    this.cdb = noBytes;
    this.dataOutBytes = 0;
    if (this.dataOut.length > 0) this.dataOut = [];
    this.status = ScsiStatus.good;
    this.sense = noBytes;
    this.dataIn = noBytes;
    this.dataInBytes = 0;
    this.medium.target = noTarget;
    this.aborted = false;
    this.standing = null;
  }
}

/** Kept at most: 1,024 objects of about 400 bytes. */
const keptMax = 1024;
const kept: ServedTask[] = [];

function release(task: ServedTask): void {
  task.clear();
  if (kept.length < keptMax) kept.push(task);
}

// -------------------------------------------------------------------- volumes

class ServedVolume implements Channel {
  readonly #target: BlockTarget;
  readonly #writer: WorkWriter;
  /** Of answers. */
  readonly #head = new ReusedHead();

  constructor(channel: number, target: BlockTarget, writer: WorkWriter) {
    this.#head.kind = workKinds.block;
    this.#head.channel = channel;
    this.#target = target;
    this.#writer = writer;
    target.onEnded((reason) => ended(writer, channel, reason));
  }

  asked(head: WorkHead, _meta: Uint8Array, data: Uint8Array): void {
    const code = blockOf(head.code);
    if (head.kind !== workKinds.block) return;
    const bytes = head.first * logicalBlockBytes;
    if (code === null || !Number.isSafeInteger(head.wide)) return this.#answer(head.id, "closed");
    if (code.kind === "read") {
      if (bytes > pairLimits.workBytesMax) return this.#answer(head.id, "out-of-range");
      if (bytes <= copiedBytesMax && this.#target.tryRead(head.wide, this.#writer.placeForData(bytes)))
        return this.#writer.putPlaced(this.#headOf(head.id, null, 0), bytes);
    }
    const { id } = head;
    const request: PlainRequest = new PlainRequest(() => this.#answered(id, request));
    request.kind = code.kind;
    request.keepAllocated = code.keepAllocated;
    request.atomic = code.atomic;
    request.startLba = head.wide;
    request.blockCount = head.first;
    if (code.kind === "read") {
      request.target = new Uint8Array(bytes);
      if (bytes > copiedBytesMax && this.#target.tryRead(head.wide, request.target)) return this.#answered(id, request);
    }
    request.payload = data.byteLength === 0 ? [] : [data];
    this.#target.submit(request);
  }

  #answered(id: number, request: BlockRequest): void {
    const { error, kind } = request;
    if (error !== null) return this.#answer(id, error, request.miscompareOffset);
    this.#answer(id, null, 0, kind === "read" ? request.target : encodeExtents(request.extents));
  }

  #answer(id: number, error: BlockError | null, first = 0, data: Uint8Array = noBytes): void {
    this.#writer.put(this.#headOf(id, error, first), nothing, data.byteLength === 0 ? nothing : [data]);
  }

  #headOf(id: number, error: BlockError | null, first: number): WorkHead {
    const head = this.#head;
    head.code = errorCode(error);
    head.id = id;
    head.first = first;
    return head;
  }

  close(): void {
    this.#target.close();
  }
}
