/**
 * The block request of an NBD command, pooled over all sessions of a server.
 *
 * Invariant: a request is with its transmission (and, after `submit`, with the target) while `owner` is set, and in the pool
 * while it is null; a target that completes one twice is caught by that.
 */
import { assert } from "../../codec/assert.ts";
import type { BlockRequest } from "../../volume/block_request.ts";
import { noBytes, PlainRequest } from "../../volume/plain_request.ts";
import type { PooledBuffer } from "../buffer_pool.ts";
import type { ReceivedChunk } from "../received_chunk.ts";
import type { PayloadKeeper } from "./request_parser.ts";

export interface RequestOwner {
  completed(request: NbdRequest): void;
}

/** Shared by all requests: no closure per request. */
function requestDone(request: BlockRequest): void {
  const done = request as NbdRequest;
  assert(done.owner !== null, "nbd: a request completes once");
  done.owner.completed(done);
}

export class NbdRequest extends PlainRequest implements PayloadKeeper {
  override payload: Uint8Array[] = [];
  readonly chunks: ReceivedChunk[] = [];
  owner: RequestOwner | null = null;
  command = 0;
  flags = 0;
  cookieHigh = 0;
  cookieLow = 0;
  /** Bytes, as in the command. */
  offset = 0;
  offsetHigh = 0;
  offsetLow = 0;
  length = 0;
  /** What this request counts for in its session's memory while in flight. */
  chargedBytes = 0;
  /** Where a READ's data lands, behind the headroom. */
  buffer: PooledBuffer | null = null;

  constructor() {
    super(requestDone);
  }
}

/** Kept at most: 4,096 objects of about 200 bytes. */
const keptMax = 4096;

export class RequestPool {
  private readonly free: NbdRequest[] = [];

  acquire(owner: RequestOwner): NbdRequest {
    const request = this.free.pop() ?? new NbdRequest();
    request.owner = owner;
    return request;
  }

  /** Lets go of all that the request refers to. Its read buffer has been taken out or returned before. */
  release(request: NbdRequest): void {
    request.owner = null;
    request.buffer = null;
    request.target = noBytes;
    request.error = null;
    request.keepAllocated = false;
    request.chargedBytes = 0;
    if (request.payload.length > 0) request.payload.length = 0;
    for (const chunk of request.chunks) chunk.release();
    if (request.chunks.length > 0) request.chunks.length = 0;
    if (request.extents.length > 0) request.extents.length = 0;
    if (this.free.length < keptMax) this.free.push(request);
  }
}
