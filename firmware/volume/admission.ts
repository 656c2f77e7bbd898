/**
 * Host writes on their way into the log, first come first served.
 *
 *     submitted ──▶ admitted whole ──▶ waits for commit ──▶ done
 *         │ busy (cache full), held, or others wait already
 *         ▼
 *       queued ──(room)──▶ admitted, perhaps in parts
 *         │ it reads first (compare-write, or-write): what was admitted before it is awaited, read, and combined with it
 *         ▼
 *       prepared ──▶ admitted as one record, or `miscompare`
 *         │ the pool cannot promise space
 *         ▼
 *       weighed: the log is drained, then the maps tell exactly what is needed ──▶ admitted, or `no-space`
 *
 * Invariants:
 * - A write that was admitted in part is finished before any later one starts: order is the order of arrival.
 * - Nothing that was admitted gets an error before it is decided.
 * - While a request is being prepared nothing is admitted: it sees the newest admitted data, and no write comes in between.
 */

import { logLimits } from "../log/limits.ts";
import type { MoreSpace } from "../log/log_room.ts";
import { RecordKind } from "../log/record.ts";
import type { WriteLog } from "../log/write_log.ts";
import type { GroupStore } from "../store/store.ts";
import { mustBeOneRecord, readsFirst, updated } from "./atomic_update.ts";
import type { BlockError, BlockRequest } from "./block_request.ts";
import type { ChunkLedger } from "./space_ledger.ts";

interface Queued {
  readonly request: BlockRequest;
  readonly volume: number;
  admittedBlocks: number;
  /** What is written: the request's own payload; null while it has not been found out. */
  payload: readonly Uint8Array[] | null;
}

/** The newest admitted content of a range, or why it cannot be had. */
export type ReadNewest = (
  volume: number,
  startLba: number,
  blockCount: number,
  done: (error: BlockError | null, bytes: Uint8Array) => void,
) => void;

export interface AdmissionOptions {
  readonly log: WriteLog;
  readonly store: GroupStore;
  readonly ledger: ChunkLedger;
  /** Brings everything admitted home (or learns that it was dropped), then calls back. */
  drain(done: () => void): void;
  readNewest: ReadNewest;
  kickDestage(): void;
  reclaim(): void;
  /** The state is another now. */
  changed(): void;
  /** A write was refused because the pool has no space for it. */
  refusedForSpace(): void;
  readonly moreSpace: MoreSpace;
}

export class Admission {
  readonly #options: AdmissionOptions;
  #queue: Queued[] = [];
  #held = false;
  #open = false;
  #weighing = false;
  #preparing = false;

  constructor(options: AdmissionOptions) {
    this.#options = options;
  }

  get queuedRequests(): number {
    return this.#queue.length;
  }

  /** Held: what comes is kept until `release` or `close`. */
  get state(): "open" | "held" | "closed" {
    if (!this.#open) return "closed";
    return this.#held ? "held" : "open";
  }

  open(): void {
    this.#open = true;
    this.#options.changed();
    this.retry();
  }

  /** Ends what is not admitted at all; what is admitted in part is finished by nobody, and was never acknowledged. */
  close(error: BlockError): void {
    this.#open = false;
    this.#held = false;
    const queue = this.#queue;
    this.#queue = [];
    for (const { request } of queue) fail(request, error);
    this.#options.changed();
  }

  hold(): void {
    this.#held = true;
  }

  release(): void {
    this.#held = false;
    this.#options.changed();
    this.retry();
  }

  /** `request`: write, zero or unmap, in range, on a writable volume. */
  submit(request: BlockRequest, volume: number): void {
    if (!this.#open) return fail(request, "not-ready");
    if (request.blockCount === 0) return this.#options.log.await(request);
    if (readsFirst(request)) {
      if (this.#queue.length >= logLimits.waitingRequestsMax) return fail(request, "not-ready");
      this.#queue.push({ request, volume, admittedBlocks: 0, payload: null });
      return this.retry();
    }
    if (this.#queue.length === 0 && !this.#held && !this.#weighing) {
      const admitted = this.#admitFrom(request, volume, 0, request.payload);
      if (admitted === request.blockCount) return this.#options.log.await(request);
      this.#queue.push({ request, volume, admittedBlocks: Math.max(0, admitted), payload: request.payload });
      return this.#stalled(admitted < 0);
    }
    if (this.#queue.length >= logLimits.waitingRequestsMax) return fail(request, "not-ready");
    this.#queue.push({ request, volume, admittedBlocks: 0, payload: request.payload });
  }

  /** Room may have come about. */
  retry(): void {
    while (this.#queue.length > 0 && !this.#held && !this.#weighing && !this.#preparing && this.#open) {
      const first = this.#queue[0]!;
      if (first.payload === null) {
        this.#prepare(first);
        continue;
      }
      const admitted = this.#admitFrom(first.request, first.volume, first.admittedBlocks, first.payload);
      if (admitted < 0) return this.#stalled(true);
      first.admittedBlocks = admitted;
      if (admitted < first.request.blockCount) return this.#stalled(false);
      this.#queue.shift();
      this.#options.log.await(first.request);
    }
  }

  /** Finds out what a request that reads first will write. */
  #prepare(first: Queued): void {
    this.#preparing = true;
    // What is found out before this returns goes on in the caller's loop: no recursion however many wait.
    let isInCall = true;
    const { request, volume } = first;
    this.#options.readNewest(volume, request.startLba, request.blockCount, (error, present) => {
      this.#preparing = false;
      // The queue may have been emptied meanwhile: the request has been answered.
      if (this.#queue[0] === first) {
        const bytes = error === null ? updated(request, present) : null;
        if (bytes === null) {
          this.#queue.shift();
          fail(request, error ?? "miscompare");
        } else first.payload = [bytes];
      }
      if (!isInCall) this.retry();
    });
    isInCall = false;
  }

  #stalled(forSpace: boolean): void {
    if (forSpace) return this.#weigh();
    this.#options.reclaim();
    this.#options.kickDestage();
  }

  /** Admits what fits; returns how many blocks are admitted so far, or -1 when the pool cannot promise space (`admittedBlocks` kept). */
  #admitFrom(request: BlockRequest, volume: number, from: number, payload: readonly Uint8Array[]): number {
    const { log } = this.#options;
    const kind = recordKindOf(request);
    let at = from;
    while (at < request.blockCount) {
      const count = this.#partBlocks(request, at);
      const outcome = log.admitBlocks(kind, volume, request.startLba + at, count, payload, at * 512);
      if (outcome === "busy") return at;
      if (outcome === "no-space") {
        const first = this.#queue[0];
        if (first?.request === request) first.admittedBlocks = at;
        else if (at > from) return at;
        return -1;
      }
      at += count;
    }
    return at;
  }

  /** The pool is short: with nothing else outstanding, the maps tell what this write really needs. */
  #weigh(): void {
    if (this.#weighing) return;
    this.#weighing = true;
    this.#options.drain(() => {
      const first = this.#queue[0];
      if (first === undefined) return this.#weighed();
      const startLba = first.request.startLba + first.admittedBlocks;
      const blockCount = this.#partBlocks(first.request, first.admittedBlocks);
      const firstBlock = Math.floor(startLba / 8);
      const blocks = Math.floor((startLba + blockCount - 1) / 8) - firstBlock + 1;
      const { store, ledger } = this.#options;
      const isThere = () => store.volumes("head").some((volume) => volume.number === first.volume);
      if (!isThere()) return this.#refuseFirst("closed");
      store.loadMap(first.volume, firstBlock, blocks, (error) => {
        if (this.#queue[0] !== first) return this.#weighed();
        if (!isThere()) return this.#refuseFirst("closed");
        const inMaps = error === null ? store.chunksNeeded(first.volume, firstBlock, blocks) : null;
        // A block written in part never goes over its old content in place, so each end may take a chunk of its own.
        const partialEnds = (startLba % 8 === 0 ? 0 : 1) + ((startLba + blockCount) % 8 === 0 ? 0 : 1);
        const needed = inMaps === null ? null : inMaps + partialEnds;
        if (needed === null) return this.#refuseFirst("no-space");
        if (needed > 0 && !store.reserveChunks(needed)) return this.#askForSpace(first);
        ledger.takeExactly(needed);
        const admitted = this.#admitOne(first, startLba, blockCount);
        ledger.cancelExact();
        if (admitted && first.admittedBlocks === first.request.blockCount) {
          this.#queue.shift();
          this.#options.log.await(first.request);
        }
        this.#weighed();
      });
    });
  }

  /** There may be space elsewhere; until that is known everything waits. */
  #askForSpace(first: Queued): void {
    this.#options.moreSpace((hasCome) => {
      if (hasCome || this.#queue[0] !== first) this.#weighed();
      else this.#refuseFirst("no-space");
    });
  }

  #refuseFirst(error: BlockError): void {
    const first = this.#queue.shift();
    if (error === "no-space") this.#options.refusedForSpace();
    if (first !== undefined) fail(first.request, error);
    this.#weighed();
  }

  #weighed(): void {
    this.#weighing = false;
    this.retry();
  }

  /** How many blocks from `at` on go into one record: data is cut at fixed places of the volume, unless it must stay whole. */
  #partBlocks(request: BlockRequest, at: number): number {
    const left = request.blockCount - at;
    if (recordKindOf(request) !== RecordKind.write || mustBeOneRecord(request)) return left;
    const partBlocks = this.#options.log.recordPayloadBytes / 512;
    return Math.min(left, partBlocks - ((request.startLba + at) % partBlocks));
  }

  #admitOne(queued: Queued, startLba: number, blockCount: number): boolean {
    const { request, volume } = queued;
    const kind = recordKindOf(request);
    const skip = queued.admittedBlocks * 512;
    const outcome = this.#options.log.admitBlocks(kind, volume, startLba, blockCount, queued.payload ?? [], skip);
    if (outcome !== "admitted") return false;
    queued.admittedBlocks += blockCount;
    return true;
  }
}

function recordKindOf(request: BlockRequest): RecordKind {
  if (request.kind === "zero") return RecordKind.zero;
  return request.kind === "unmap" ? RecordKind.unmap : RecordKind.write;
}

export function fail(request: BlockRequest, error: BlockError): void {
  request.error = error;
  request.onDone(request);
}
