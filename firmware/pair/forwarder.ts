/**
 * The volumes that the partner serves, for the front ends of this appliance: tasks and block requests go to it as records
 * (`work_wire.ts`), and its answers come back.
 *
 * Invariants:
 * - What was sent is answered, or lost with the partner: `end` forgets everything, and whoever asked decides what that means.
 * - The data of a request belongs to it until its answer is here, or until `end`: what a broken connection makes go twice is the same.
 * - An export's session ends when the partner says that it may be written to, or no more, or that it shows another image, and its host
 *   was told otherwise. The partner ends what is open when that changes; what is opened just then is refused by the image it names.
 * - At most `windowBytes` of what is being read are on the way for one channel; beyond it tasks wait here.
 */
import type { Clock } from "../../hal/api/clock.ts";
import { assert } from "../codec/assert.ts";
import type {
  DeviceServer,
  Nexus,
  NexusHost,
  NexusIdentity,
  TaskFunction,
  TaskFunctionOutcome,
} from "../frontend/scsi/device_server.ts";
import { TaskFunction as Functions } from "../frontend/scsi/device_server.ts";
import type { ScsiStatus, ScsiTask } from "../frontend/scsi/task.ts";
import { type BlockError, type BlockRequest, type BlockTarget, logicalBlockBytes } from "../volume/block_request.ts";
import type { HostIdentity } from "../volume/host_access.ts";
import { PlainRequest } from "../volume/plain_request.ts";
import type { PairMessage } from "./frame.ts";
import type { PayloadMemory } from "./interconnect.ts";
import { pairLimits } from "./limits.ts";
import { blockCode, decodeExtents, errorOf, outcomeOf } from "./work_codes.ts";
import { nothing, ReusedHead, type WorkHead, WorkReader, WorkWriter, workKinds } from "./work_wire.ts";

export type SendMessage = (message: PairMessage, payload?: readonly Uint8Array[], memory?: PayloadMemory) => void;

/** What the partner says of an export. */
export interface ExportFacts {
  blockCount(): number;
  readOnly(): boolean;
  atomicBlocksMax(): number;
  /** What of its group it shows: see `ExportFound`. */
  image(): string;
}

interface Channel {
  answered(head: WorkHead, meta: Uint8Array, data: Uint8Array): void;
  factsChanged(): void;
}

const decoder = new TextDecoder();
const encoder = new TextEncoder();

export class Forwarder implements DeviceServer {
  readonly #send: SendMessage;
  readonly #writer: WorkWriter;
  readonly #reader: WorkReader;
  readonly #channels = new Map<number, Channel>();
  readonly #proofOf: (host: HostIdentity) => string;
  #lastChannel = 0;

  /** `proofOf`: what the host has proved at its login. */
  constructor(clock: Clock, send: SendMessage, proofOf: (host: HostIdentity) => string) {
    this.#send = send;
    this.#proofOf = proofOf;
    this.#writer = new WorkWriter(clock, (payload, memory) => send({ kind: "ask" }, payload, memory));
    this.#reader = new WorkReader((head, meta, data) => this.#channels.get(head.channel)?.answered(head, meta, data));
  }

  attach(identity: NexusIdentity, host: NexusHost): Nexus {
    const channel = ++this.#lastChannel;
    const { initiatorPort, portalGroup, relativePort, isContinued } = identity;
    const { remote, iqn, tlsName } = identity.host;
    const opening: PairMessage = {
      kind: "openNexus",
      channel,
      initiatorPort,
      portalGroup,
      relativePort,
      isContinued: isContinued === true,
      host: { remote, iqn: iqn ?? "", tlsName: tlsName ?? "" },
    };
    this.#send(opening, [encoder.encode(this.#proofOf(identity.host))]);
    const nexus = new ForwardedNexus(channel, host, this.#writer, {
      close: () => this.#send({ kind: "close", channel }),
      gone: () => this.#channels.delete(channel),
    });
    this.#channels.set(channel, nexus);
    return nexus;
  }

  open(name: string, host: HostIdentity, facts: ExportFacts): BlockTarget {
    const channel = ++this.#lastChannel;
    const { remote, iqn, tlsName } = host;
    this.#send({
      kind: "openVolume",
      channel,
      name,
      image: facts.image(),
      host: { remote, iqn: iqn ?? "", tlsName: tlsName ?? "" },
    });
    const target = new ForwardedTarget(channel, name, facts, this.#writer, {
      close: () => this.#send({ kind: "close", channel }),
      gone: () => this.#channels.delete(channel),
    });
    this.#channels.set(channel, target);
    return target;
  }

  /** The partner has said something new of its exports. */
  factsChanged(): void {
    for (const channel of [...this.#channels.values()]) channel.factsChanged();
  }

  /** A text: the partner has broken the language. */
  onTold(payload: Uint8Array): string | null {
    return this.#reader.feed(payload);
  }

  /** The partner is lost, or serves no more: no answer comes for anything. What was asked goes while its data are there. */
  end(): void {
    this.#writer.flush();
    this.#channels.clear();
  }
}

interface ChannelEnds {
  close(): void;
  gone(): void;
}

class ForwardedNexus implements Nexus, Channel {
  readonly #channel: number;
  readonly #host: NexusHost;
  readonly #writer: WorkWriter;
  readonly #ends: ChannelEnds;
  readonly #tasks = new Map<number, ScsiTask>();
  readonly #managing = new Map<number, (outcome: TaskFunctionOutcome) => void>();
  /** Of tasks. */
  readonly #head = new ReusedHead();
  /** Their data is still coming: the partner knows nothing of them. */
  readonly #collecting = new Set<ScsiTask>();
  #queue: ScsiTask[] = [];
  #readBytes = 0;
  #lastId = 0;
  #closed = false;

  constructor(channel: number, host: NexusHost, writer: WorkWriter, ends: ChannelEnds) {
    this.#channel = channel;
    this.#head.kind = workKinds.task;
    this.#head.channel = channel;
    this.#host = host;
    this.#writer = writer;
    this.#ends = ends;
  }

  /** The partner judges when the data is there; until then all of it is taken that the initiator has announced. */
  judge(task: ScsiTask): "accepted" {
    task.dataOutBytes = task.dataOutBytesMax;
    // What brings no data is executed at once.
    if (task.dataOutBytesMax > 0) this.#collecting.add(task);
    return "accepted";
  }

  execute(task: ScsiTask): "pending" {
    if (task.dataOutBytesMax > 0) this.#collecting.delete(task);
    this.#queue.push(task);
    this.#sendNext();
    return "pending";
  }

  #sendNext(): void {
    for (;;) {
      const task = this.#queue[0];
      if (task === undefined) return;
      if (this.#readBytes > 0 && this.#readBytes + task.dataInBytesMax > pairLimits.windowBytes) return;
      this.#queue.shift();
      this.#lastId = (this.#lastId + 1) >>> 0;
      this.#tasks.set(this.#lastId, task);
      this.#readBytes += task.dataInBytesMax;
      const head = this.#head;
      head.code = task.attribute;
      head.id = this.#lastId;
      head.first = task.dataInBytesMax;
      head.second = task.dataOutBytesMax;
      this.#writer.put(head, [task.lun, task.cdb], task.dataOut);
    }
  }

  readDone(): void {
    assert(false, "forwarder: data comes with the answer");
  }

  /** Nothing of it has gone yet. */
  drop(task: ScsiTask): void {
    this.#collecting.delete(task);
  }

  manage(action: TaskFunction, lun: Uint8Array, tag: number, done: (outcome: TaskFunctionOutcome) => void): void {
    const isMeant = (task: ScsiTask): boolean => {
      if (action === Functions.targetReset) return true;
      const isSame = task.lun.every((byte, index) => byte === lun[index]);
      return action === Functions.abortTask ? isSame && task.tag === tag : isSame;
    };
    const waiting = [...this.#collecting, ...this.#queue].filter(isMeant);
    if (action !== Functions.clearAca) {
      this.#queue = this.#queue.filter((task) => !waiting.includes(task));
      for (const task of waiting) {
        this.#collecting.delete(task);
        task.aborted = true;
        task.onDone(task);
      }
    }
    const sent = [...this.#tasks].find(([, task]) => isMeant(task));
    if (action === Functions.abortTask && sent === undefined)
      return done(waiting.length > 0 ? "complete" : "task-not-there");
    this.#lastId = (this.#lastId + 1) >>> 0;
    this.#managing.set(this.#lastId, done);
    this.#writer.put(
      {
        kind: workKinds.manage,
        code: action,
        channel: this.#channel,
        id: this.#lastId,
        first: sent?.[0] ?? 0,
        second: 0,
        wide: 0,
      },
      [lun],
      [],
    );
  }

  /** What has been sent is still answered: until then its data may have to go once more. */
  close(): void {
    this.#closed = true;
    this.#collecting.clear();
    for (const task of this.#queue.splice(0)) {
      task.aborted = true;
      task.onDone(task);
    }
    for (const task of this.#tasks.values()) task.aborted = true;
    this.#ends.close();
    if (this.#tasks.size === 0) this.#ends.gone();
  }

  factsChanged(): void {}

  answered(head: WorkHead, meta: Uint8Array, data: Uint8Array): void {
    if (head.kind === workKinds.task) return this.#taskAnswered(head, meta, data);
    if (head.kind === workKinds.manage) {
      const done = this.#managing.get(head.id);
      this.#managing.delete(head.id);
      return done?.(outcomeOf(head.code));
    }
    if (this.#closed) return;
    if (head.kind === workKinds.attention) this.#host.attention();
    else if (head.kind === workKinds.ended) this.#host.nexusEnded(decoder.decode(meta));
  }

  #taskAnswered(head: WorkHead, sense: Uint8Array, data: Uint8Array): void {
    const task = this.#tasks.get(head.id);
    if (task === undefined) return;
    this.#tasks.delete(head.id);
    this.#readBytes -= task.dataInBytesMax;
    task.status = head.code as ScsiStatus;
    task.sense = sense;
    task.dataIn = data;
    task.dataInBytes = head.first;
    task.dataOutBytes = head.second;
    if (head.wide === 1) task.aborted = true;
    task.onDone(task);
    if (!this.#closed) this.#sendNext();
    else if (this.#tasks.size === 0) this.#ends.gone();
  }
}

/** A record names blocks with 32 bits, and a volume may have 2^37: 1 TiB at once. */
const askedBlocksMax = 2 ** 31;

class ForwardedTarget implements BlockTarget, Channel {
  readonly name: string;
  /** The data goes from the answer straight to the reply: a copy and two views less than by a buffer. */
  readonly lendsReads = true;
  readonly #head = new ReusedHead();
  readonly #facts: ExportFacts;
  readonly #writer: WorkWriter;
  readonly #ends: ChannelEnds;
  readonly #requests = new Map<number, BlockRequest>();
  /** As the host has it from its negotiation. */
  readonly #wasReadOnly: boolean;
  readonly #toldImage: string;
  #listener: ((reason: string, isLost: boolean) => void) | null = null;
  #lastId = 0;
  #closed = false;

  constructor(channel: number, name: string, facts: ExportFacts, writer: WorkWriter, ends: ChannelEnds) {
    this.#head.kind = workKinds.block;
    this.#head.channel = channel;
    this.name = name;
    this.#facts = facts;
    this.#wasReadOnly = facts.readOnly();
    this.#toldImage = facts.image();
    this.#writer = writer;
    this.#ends = ends;
  }

  blockCount(): number {
    return this.#facts.blockCount();
  }

  readOnly(): boolean {
    return this.#facts.readOnly();
  }

  atomicBlocksMax(): number {
    return this.#facts.atomicBlocksMax();
  }

  tryRead(): boolean {
    return false;
  }

  submit(request: BlockRequest): void {
    const { kind, blockCount, atomic } = request;
    if (blockCount <= askedBlocksMax || (kind === "status" && !atomic)) return this.#ask(request);
    if (!atomic && (kind === "zero" || kind === "unmap")) return this.#askInParts(request);
    request.error = "too-long";
    request.onDone(request);
  }

  /** What is no one record for the owner either: one part after the other. */
  #askInParts(request: BlockRequest): void {
    const end = request.startLba + request.blockCount;
    const part: PlainRequest = new PlainRequest(() => {
      part.startLba += part.blockCount;
      part.blockCount = Math.min(askedBlocksMax, end - part.startLba);
      if (part.error === null && part.blockCount > 0 && !this.#closed) return this.#ask(part);
      request.error = part.error ?? (part.blockCount > 0 ? "closed" : null);
      request.onDone(request);
    });
    part.kind = request.kind;
    part.keepAllocated = request.keepAllocated;
    part.startLba = request.startLba;
    part.blockCount = askedBlocksMax;
    this.#ask(part);
  }

  #ask(request: BlockRequest): void {
    this.#lastId = (this.#lastId + 1) >>> 0;
    this.#requests.set(this.#lastId, request);
    const head = this.#head;
    head.code = blockCode(request);
    head.id = this.#lastId;
    // Of a longer range the status of its beginning is an answer.
    head.first = Math.min(request.blockCount, askedBlocksMax);
    head.wide = request.startLba;
    this.#writer.put(head, nothing, request.payload);
  }

  onEnded(listener: (reason: string, isLost: boolean) => void): void {
    this.#listener = listener;
  }

  close(): void {
    this.#closed = true;
    this.#ends.close();
    if (this.#requests.size === 0) this.#ends.gone();
  }

  factsChanged(): void {
    if (this.#closed) return;
    if (this.#facts.readOnly() !== this.#wasReadOnly || this.#facts.image() !== this.#toldImage)
      this.#listener?.("the volume's role has changed", false);
  }

  answered(head: WorkHead, meta: Uint8Array, data: Uint8Array): void {
    if (head.kind === workKinds.ended) {
      if (!this.#closed) this.#listener?.(decoder.decode(meta), false);
      return;
    }
    const request = this.#requests.get(head.id);
    if (head.kind !== workKinds.block || request === undefined) return;
    this.#requests.delete(head.id);
    request.error = answerOf(request, errorOf(head.code), head, data);
    request.onDone(request);
    if (this.#closed && this.#requests.size === 0) this.#ends.gone();
  }
}

/** Takes what the answer brings; an answer that does not fit is none. */
function answerOf(
  request: BlockRequest,
  error: BlockError | null,
  head: WorkHead,
  data: Uint8Array,
): BlockError | null {
  if (error === "miscompare") request.miscompareOffset = head.first;
  if (error !== null) return error;
  if (request.kind === "status") request.extents = decodeExtents(data);
  if (request.kind !== "read") return null;
  if (data.byteLength !== request.blockCount * logicalBlockBytes) return "closed";
  request.target = data;
  return null;
}
