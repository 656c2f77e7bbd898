/**
 * The transmission phase of one session: commands to block requests, completions to replies
 * (specification: "Transmission", "Request types", "Error values").
 *
 * A command's life:
 *   header judged ─┬─ bad: error reply (a payload is read and dropped first; an absurd one ends the session)
 *                  └─ admitted (else the input waits) ─▶ [payload kept] ─▶ tryRead, or submit ─▶ reply
 *
 * Invariants:
 * - Each command but DISC gets exactly one reply; commands are answered in any order.
 * - A header is admitted only when its payload, its reply and its request fit the limits; until then nothing behind it is read.
 * - A WRITE goes down only when its whole payload has arrived.
 * - After `stop` nothing new goes down; what is in flight completes.
 *
 * All writes are durable when the target completes them, so FUA asks for nothing more.
 */
import { assert } from "../../codec/assert.ts";
import { type BlockTarget, logicalBlockBytes } from "../../volume/block_request.ts";
import { noBytes } from "../../volume/plain_request.ts";
import { type BufferPool, headroomBytes, type PooledBuffer } from "../buffer_pool.ts";
import type { BudgetWaiter, MemoryBudget } from "../memory_budget.ts";
import type { OutputQueue } from "../output_queue.ts";
import type { ReceivedChunk } from "../received_chunk.ts";
import {
  baseAllocationId,
  Cmd,
  CmdFlag,
  dataOffsetBytes,
  Errno,
  extendedReplyHeaderBytes,
  type HeaderForm,
  statusFilterBytes,
} from "./constants.ts";
import type { NbdLimits } from "./limits.ts";
import type { NbdRequest, RequestOwner, RequestPool } from "./nbd_request.ts";
import type { Selection } from "./negotiation.ts";
import { errnoOf, errorReplyBytesMax, outOfRange } from "./reply_codec.ts";
import { type ReplyHost, ReplyWriter } from "./reply_writer.ts";
import { RequestParser, Step } from "./request_parser.ts";

/** What a session needs to know, and does. */
export interface TransmissionHost extends ReplyHost {
  violated(code: string, text: string): void;
  /** The client said NBD_CMD_DISC. */
  disconnected(): void;
}

export interface TransmissionParts {
  readonly output: OutputQueue;
  readonly buffers: BufferPool;
  readonly requests: RequestPool;
  readonly budget: MemoryBudget;
  readonly limits: NbdLimits;
  readonly host: TransmissionHost;
}

export type Pumped = "hungry" | "held" | "stopped";

/** By command: the flags that the specification allows with it. FUA is accepted everywhere. */
const flagsAllowed: readonly number[] = [
  CmdFlag.fua | CmdFlag.df, // READ
  CmdFlag.fua, // WRITE
  0xffff, // DISC: whatever it says, it means goodbye
  CmdFlag.fua, // FLUSH
  CmdFlag.fua, // TRIM
  CmdFlag.fua, // CACHE
  CmdFlag.fua | CmdFlag.noHole | CmdFlag.fastZero, // WRITE_ZEROES
  CmdFlag.fua | CmdFlag.reqOne, // BLOCK_STATUS
];

/** Reads up to this length are gathered in the output segment; longer ones get a buffer of their own, which is sent as it is. */
const gatheredReadBytesMax = 262144 - extendedReplyHeaderBytes - dataOffsetBytes;

export class Transmission implements RequestOwner, BudgetWaiter {
  readonly target: BlockTarget;
  inFlight = 0;
  private readonly form: HeaderForm;
  private readonly blockStatus: boolean;
  private readonly output: OutputQueue;
  private readonly buffers: BufferPool;
  private readonly requests: RequestPool;
  private readonly budget: MemoryBudget;
  private readonly limits: NbdLimits;
  private readonly host: TransmissionHost;
  private readonly parser: RequestParser;
  private readonly replies: ReplyWriter;

  private inFlightBytes = 0;
  /** Granted by the budget, beyond what every session has. */
  sharedBytes = 0;
  private waitsForBudget = false;
  /** The parser's header has been read but not been admitted yet. */
  private headerWaits = false;
  /** The WRITE, or the BLOCK_STATUS with a filter, whose payload is arriving. */
  private receiving: NbdRequest | null = null;
  /** What a command whose payload is being dropped will be told. */
  private discardError: Errno = Errno.none;
  private stopped = false;
  private closed = false;

  constructor(selection: Selection, parts: TransmissionParts) {
    this.target = selection.target;
    this.form = selection.form;
    this.parser = new RequestParser(selection.form === "extended");
    this.blockStatus = selection.blockStatus;
    this.output = parts.output;
    this.buffers = parts.buffers;
    this.requests = parts.requests;
    this.budget = parts.budget;
    this.limits = parts.limits;
    this.host = parts.host;
    this.replies = new ReplyWriter({ form: selection.form, extentsMax: parts.limits.extentsMax }, parts);
  }

  /** The stream would end in the middle of a message. */
  get midway(): boolean {
    return this.parser.midway;
  }

  push(chunk: ReceivedChunk): void {
    this.parser.push(chunk);
  }

  /** Handles what has arrived, as far as there is room. */
  pump(): Pumped {
    const parser = this.parser;
    while (!this.stopped) {
      if (!this.headerWaits) {
        const step = parser.next();
        if (step === Step.more) return "hungry";
        if (step === Step.payload) {
          this.payloadArrived();
          continue;
        }
        if (step === Step.badMagic) {
          this.host.violated("nbd-bad-magic", "what follows is not an NBD request");
          return "stopped";
        }
      }
      this.headerWaits = true;
      if (!this.takeCommand()) return this.stopped ? "stopped" : "held";
      this.headerWaits = false;
    }
    return "stopped";
  }

  /** Nothing new goes down from here on. */
  stop(): void {
    if (this.stopped) return;
    this.stopped = true;
    this.stopWaiting();
    const receiving = this.receiving;
    if (receiving === null) return;
    this.receiving = null;
    this.landed(receiving);
    this.requests.release(receiving);
  }

  /** The stream is gone: what is in flight completes for nobody. */
  close(): void {
    this.stop();
    this.closed = true;
    this.settle();
  }

  /** Gives shared memory back as replies leave; called after every batch. */
  settle(): void {
    const held = this.inFlightBytes + this.output.queuedBytes;
    const due = held > this.limits.guaranteedBytes ? held - this.limits.guaranteedBytes : 0;
    if (due === this.sharedBytes) return;
    if (due > this.sharedBytes) this.budget.force(due - this.sharedBytes);
    else this.budget.give(this.sharedBytes - due);
    this.sharedBytes = due;
  }

  /** Waits for the host's side: a payload has begun and not ended. */
  get receivesPayload(): boolean {
    return this.parser.payloadLeft > 0;
  }

  roomMade(): void {
    this.host.workDone();
  }

  /** False: not now (the header waits), or stopped. */
  private takeCommand(): boolean {
    const parser = this.parser;
    const limits = this.limits;
    if (this.inFlight >= limits.requestsInFlightMax) return false;
    if (this.output.queuedBytes >= limits.outputBacklogBytes) return false;
    const command = parser.command;
    const error = this.judge(command);
    const carriesData = command === Cmd.read || command === Cmd.write;
    if (parser.payloadBytes > limits.requestBytesMax) {
      this.host.violated(
        "nbd-payload-too-long",
        `a payload of ${parser.payloadBytes} bytes, ${limits.requestBytesMax} allowed`,
      );
      return false;
    }
    if (command === Cmd.write && parser.payloadBytes !== parser.length) {
      // Whether a payload follows cannot be told: taken for requests, it would be a guest's data that gives orders.
      this.host.violated("nbd-write-without-payload", "a WRITE with an extended header lacks NBD_CMD_FLAG_PAYLOAD_LEN");
      return false;
    }
    if (!this.admitBytes(error === Errno.none && carriesData ? parser.length : errorReplyBytesMax)) return false;
    if (error !== Errno.none) {
      if (parser.payloadBytes > 0) this.discardError = error;
      else this.replies.error(parser, error);
      return true;
    }
    if (command === Cmd.read) this.read();
    else if (command === Cmd.write) this.beginWrite();
    else if (command === Cmd.blockStatus && parser.payloadBytes > 0) this.beginFilteredStatus();
    else if (command === Cmd.disc) {
      this.stop();
      this.host.disconnected();
      return false;
    } else if (command === Cmd.cache) this.replies.done(parser);
    else this.submitPlain(command);
    return true;
  }

  /** The specification's error for a command that must not go down; `Errno.none` for one that may. */
  private judge(command: number): Errno {
    const parser = this.parser;
    const allowed = flagsAllowed[command];
    if (allowed === undefined || (parser.flags & ~(allowed | this.payloadFlagAllowed(command))) !== 0) {
      return Errno.inval;
    }
    if (command === Cmd.disc) return Errno.none;
    if (command === Cmd.blockStatus && (parser.flags & CmdFlag.payloadLen) !== 0) {
      // There is one context. No id, an unknown one or the same one twice is what any other length says.
      return parser.payloadBytes === statusFilterBytes && this.blockStatus ? Errno.none : Errno.inval;
    }
    return this.judgeRange(command, parser.length);
  }

  private payloadFlagAllowed(command: number): number {
    const carries = command === Cmd.write || command === Cmd.blockStatus;
    return this.form === "extended" && carries ? CmdFlag.payloadLen : 0;
  }

  private judgeRange(command: number, length: number): Errno {
    const parser = this.parser;
    if (command === Cmd.flush) return length === 0 && parser.offset === 0 ? Errno.none : Errno.inval;
    const changes = command === Cmd.write || command === Cmd.trim || command === Cmd.writeZeroes;
    if (changes && this.target.readOnly()) return Errno.perm;
    if (length === 0) return Errno.inval;
    if ((command === Cmd.read || command === Cmd.write) && length > this.limits.requestBytesMax) {
      return (parser.flags & CmdFlag.df) !== 0 ? Errno.overflow : Errno.inval;
    }
    if (parser.offset + length > this.target.blockCount() * logicalBlockBytes) return outOfRange(command);
    if (parser.offset % logicalBlockBytes !== 0 || length % logicalBlockBytes !== 0) return Errno.inval;
    if ((parser.flags & CmdFlag.df) !== 0 && this.form === "simple") return Errno.inval;
    if (command === Cmd.blockStatus && !this.blockStatus) return Errno.inval;
    // Zeroes that stay allocated are written out; everything else is a mark in a map.
    const slowZero = CmdFlag.fastZero | CmdFlag.noHole;
    if (command === Cmd.writeZeroes && (parser.flags & slowZero) === slowZero) return Errno.notsup;
    return Errno.none;
  }

  /** Whether `length` bytes more fit this session and, beyond its own allowance, the memory shared by all. */
  private admitBytes(length: number): boolean {
    const held = this.inFlightBytes + this.output.queuedBytes;
    const wanted = held + length;
    if (wanted > this.limits.guaranteedBytes) {
      if (held > 0 && wanted > this.limits.sessionBytesMax) {
        this.stopWaiting();
        return false;
      }
      const more = wanted - this.limits.guaranteedBytes - this.sharedBytes;
      if (more > 0) {
        if (!this.budget.take(more, this)) {
          this.waitsForBudget = true;
          return false;
        }
        this.sharedBytes += more;
        this.waitsForBudget = false;
      }
    }
    this.stopWaiting();
    return true;
  }

  private stopWaiting(): void {
    if (!this.waitsForBudget) return;
    this.waitsForBudget = false;
    this.budget.forget(this);
  }

  private read(): void {
    const parser = this.parser;
    const length = parser.length;
    const startLba = parser.offset / logicalBlockBytes;
    if (this.target.lendsReads) {
      this.submitRead(startLba, null, noBytes);
      return;
    }
    if (length > gatheredReadBytesMax) {
      const buffer = this.buffers.acquire(length);
      const target = buffer.bytes.subarray(headroomBytes, headroomBytes + length);
      if (this.target.tryRead(startLba, target)) this.replies.readFromBuffer(parser, buffer);
      else this.submitRead(startLba, buffer, target);
      return;
    }
    if (this.target.tryRead(startLba, this.replies.placeForRead(length))) {
      this.replies.readInPlace(parser);
      return;
    }
    const buffer = this.buffers.acquire(length);
    this.submitRead(startLba, buffer, buffer.bytes.subarray(headroomBytes, headroomBytes + length));
  }

  private submitRead(startLba: number, buffer: PooledBuffer | null, target: Uint8Array): void {
    const request = this.newRequest();
    request.kind = "read";
    request.startLba = startLba;
    request.blockCount = request.length / logicalBlockBytes;
    request.buffer = buffer;
    request.target = target;
    this.flies(request, request.length);
    this.target.submit(request);
  }

  private beginWrite(): void {
    const request = this.newRequest();
    request.kind = "write";
    request.startLba = request.offset / logicalBlockBytes;
    request.blockCount = request.length / logicalBlockBytes;
    this.flies(request, request.length);
    this.receiving = request;
    this.discardError = Errno.none;
    this.parser.keepPayload(request);
  }

  /** A BLOCK_STATUS whose length and context come as a payload. */
  private beginFilteredStatus(): void {
    const request = this.newRequest();
    request.kind = "status";
    this.flies(request, 0);
    this.receiving = request;
    this.parser.keepPayload(request);
  }

  private filterArrived(request: NbdRequest): void {
    const filter = new Uint8Array(statusFilterBytes);
    let at = 0;
    for (const piece of request.payload) {
      filter.set(piece, at);
      at += piece.byteLength;
    }
    request.payload.length = 0;
    const view = new DataView(filter.buffer);
    const length = Number(view.getBigUint64(0));
    const error = view.getUint32(8) === baseAllocationId ? this.judgeRange(Cmd.blockStatus, length) : Errno.inval;
    if (error !== Errno.none) {
      this.landed(request);
      this.replies.error(request, error);
      this.requests.release(request);
      return;
    }
    request.length = length;
    request.startLba = request.offset / logicalBlockBytes;
    request.blockCount = length / logicalBlockBytes;
    this.target.submit(request);
  }

  private payloadArrived(): void {
    const request = this.receiving;
    if (request === null) {
      assert(this.discardError !== Errno.none, "nbd: a dropped payload has a reason");
      this.replies.error(this.parser, this.discardError);
      this.discardError = Errno.none;
      return;
    }
    this.receiving = null;
    if (request.kind === "status") this.filterArrived(request);
    else this.target.submit(request);
  }

  /** FLUSH, TRIM, WRITE_ZEROES and BLOCK_STATUS: no payload in either direction. */
  private submitPlain(command: number): void {
    const request = this.newRequest();
    request.startLba = request.offset / logicalBlockBytes;
    request.blockCount = request.length / logicalBlockBytes;
    if (command === Cmd.flush) request.kind = "flush";
    else if (command === Cmd.trim) request.kind = "unmap";
    else if (command === Cmd.blockStatus) request.kind = "status";
    else {
      request.kind = "zero";
      request.keepAllocated = (request.flags & CmdFlag.noHole) !== 0;
    }
    this.flies(request, 0);
    this.target.submit(request);
  }

  private newRequest(): NbdRequest {
    const parser = this.parser;
    const request = this.requests.acquire(this);
    request.command = parser.command;
    request.flags = parser.flags;
    request.cookieHigh = parser.cookieHigh;
    request.cookieLow = parser.cookieLow;
    request.offset = parser.offset;
    request.offsetHigh = parser.offsetHigh;
    request.offsetLow = parser.offsetLow;
    request.length = parser.length;
    return request;
  }

  private flies(request: NbdRequest, chargedBytes: number): void {
    request.chargedBytes = chargedBytes;
    this.inFlight++;
    this.inFlightBytes += chargedBytes;
  }

  private landed(request: NbdRequest): void {
    this.inFlight--;
    this.inFlightBytes -= request.chargedBytes;
  }

  /** From the target, at any time, also before `submit` returns, also when the stream is gone. */
  completed(request: NbdRequest): void {
    this.landed(request);
    const buffer = request.buffer;
    if (this.closed || request.error !== null) {
      if (buffer !== null) this.buffers.release(buffer);
      if (this.closed) this.settle();
      else if (request.error !== null) this.replies.error(request, errnoOf(request.error, request.command));
    } else if (buffer !== null) this.replies.laterRead(request, buffer);
    else if (request.kind === "read") this.replies.lentRead(request);
    else if (request.kind === "status") this.replies.blockStatus(request);
    else this.replies.done(request);
    this.requests.release(request);
  }
}
