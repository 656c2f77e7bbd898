/**
 * Replies of one session into its output queue (layouts: `reply_codec.ts`).
 *
 * Invariants:
 * - A READ's data is read, or lands, where it is sent from, except for short reads that completed later, and data that was lent: those
 *   are copied once.
 * - Each call queues exactly one complete reply, and tells the host that there is something to send.
 */
import { assert } from "../../codec/assert.ts";
import { logicalBlockBytes } from "../../volume/block_request.ts";
import { type BufferPool, headroomBytes, type PooledBuffer } from "../buffer_pool.ts";
import type { OutputQueue } from "../output_queue.ts";
import { baseAllocationId, CmdFlag, type Errno, type HeaderForm, State } from "./constants.ts";
import type { NbdRequest } from "./nbd_request.ts";
import {
  errorReplyBytesMax,
  putDone,
  putError,
  putReadHeader,
  putStatusDescriptor,
  putStatusHeader,
  readHeaderBytesOf,
  statusDescriptorBytesOf,
  statusHeaderBytesOf,
} from "./reply_codec.ts";
import type { RequestParser } from "./request_parser.ts";

export interface ReplyHost {
  /** There are replies to send, or room has come about. */
  workDone(): void;
  /** A long reply has been queued. */
  longReplyReady(): void;
}

export interface ReplyParts {
  readonly output: OutputQueue;
  readonly buffers: BufferPool;
  readonly host: ReplyHost;
}

/** A command as it has just been parsed, or as it was kept with its request. */
type Command = RequestParser | NbdRequest;

/** A read that completed later is copied behind the other replies up to this length (4 KiB: 0.1 us), else sent from its buffer. */
const copiedReadBytesMax = 32768;

export class ReplyWriter {
  private readonly form: HeaderForm;
  private readonly extentsMax: number;
  private readonly readHeaderBytes: number;
  private readonly output: OutputQueue;
  private readonly buffers: BufferPool;
  private readonly host: ReplyHost;

  constructor(options: { readonly form: HeaderForm; readonly extentsMax: number }, parts: ReplyParts) {
    this.form = options.form;
    this.extentsMax = options.extentsMax;
    this.readHeaderBytes = readHeaderBytesOf(options.form);
    this.output = parts.output;
    this.buffers = parts.buffers;
    this.host = parts.host;
  }

  /** Where the data of the next reply goes; `readInPlace` makes a reply of it, and without that nothing has happened. */
  placeForRead(length: number): Uint8Array {
    const segment = this.output.reserve(this.readHeaderBytes + length);
    const at = segment.end + this.readHeaderBytes;
    return segment.bytes.subarray(at, at + length);
  }

  readInPlace(command: Command): void {
    const replyBytes = this.readHeaderBytes + command.length;
    const segment = this.output.reserve(replyBytes);
    putReadHeader(segment.view, segment.end, this.form, command);
    this.output.commit(replyBytes);
    this.host.workDone();
  }

  /** The data lies behind the buffer's headroom; the header goes right in front of it, and the buffer is given away. */
  readFromBuffer(command: Command, buffer: PooledBuffer): void {
    buffer.start = headroomBytes - this.readHeaderBytes;
    buffer.end = headroomBytes + command.length;
    putReadHeader(buffer.view, buffer.start, this.form, command);
    this.output.append(buffer);
    this.host.workDone();
    this.host.longReplyReady();
  }

  /** The same for a read that could not be served at once. */
  laterRead(request: NbdRequest, buffer: PooledBuffer): void {
    if (request.length > copiedReadBytesMax) {
      this.readFromBuffer(request, buffer);
      return;
    }
    this.placeForRead(request.length).set(request.target);
    this.readInPlace(request);
    this.buffers.release(buffer);
  }

  /** The data is the target's, and is copied. */
  lentRead(request: NbdRequest): void {
    const replyBytes = this.readHeaderBytes + request.length;
    const segment = this.output.reserve(replyBytes);
    putReadHeader(segment.view, segment.end, this.form, request);
    segment.bytes.set(request.target, segment.end + this.readHeaderBytes);
    this.output.commit(replyBytes);
    this.host.workDone();
    if (request.length > copiedReadBytesMax) this.host.longReplyReady();
  }

  done(command: Command): void {
    const segment = this.output.reserve(errorReplyBytesMax);
    this.output.commit(putDone(segment.view, segment.end, this.form, command));
    this.host.workDone();
  }

  error(command: Command, error: Errno): void {
    const segment = this.output.reserve(errorReplyBytesMax);
    this.output.commit(putError(segment.view, segment.end, this.form, command, error));
    this.host.workDone();
  }

  /** Adjoining extents of one kind become one descriptor; together they never exceed the request. */
  blockStatus(request: NbdRequest): void {
    const countMax = (request.flags & CmdFlag.reqOne) !== 0 ? 1 : this.extentsMax;
    const { form } = this;
    const headerBytes = statusHeaderBytesOf(form);
    const descriptorSizeBytes = statusDescriptorBytesOf(form);
    const segment = this.output.reserve(headerBytes + descriptorSizeBytes * countMax);
    const at = segment.end;
    let count = 0;
    let descriptorBytes = 0;
    let descriptorState = -1;
    let left = request.length;
    for (const extent of request.extents) {
      const bytes = Math.min(extent.blockCount * logicalBlockBytes, left);
      if (bytes === 0) continue;
      const state = extent.hole ? State.hole | State.zero : 0;
      if (state !== descriptorState) {
        if (count === countMax) break;
        count++;
        descriptorBytes = 0;
        descriptorState = state;
      }
      descriptorBytes += bytes;
      left -= bytes;
      const descriptorAt = at + headerBytes + descriptorSizeBytes * (count - 1);
      putStatusDescriptor(segment.view, descriptorAt, form, descriptorBytes, descriptorState);
    }
    assert(count > 0, "nbd: a block status answer has at least one extent");
    putStatusHeader(segment.view, at, form, request, { contextId: baseAllocationId, extentCount: count });
    this.output.commit(headerBytes + descriptorSizeBytes * count);
    this.host.workDone();
  }
}
