/**
 * The primary's side of a full resync: what is allocated, as as-of frames for the one ordered stream.
 *
 *   table ──▶ scanning (extents of the next window) ──▶ reading (its allocated parts, several at once) ──▶ scanning …
 *                                                          └── nothing left ──▶ ending (consistentAt is being written) ──▶ ended
 *
 * Invariants (R2, R3):
 * - A frame whose data was read from commitSeq `from` on enters the stream only while the stream stands at or before `from`: so
 *   the gate holds the stream at the oldest `from` of what is being read or waits to be sent.
 * - The volumes are those of the table, at the size that they had then: what came later is in the stream itself.
 * - Holes of a window go first, its data after them, in order: when a frame says "everything before this place", it is so.
 * - The image is consistent only at the `consistentAt` record, which is written after the last frame has been taken.
 */

import { resyncLimits } from "../peer/limits.ts";
import { chunkBytes, type HomeExtent, physicalBlockBytes } from "../store/store.ts";
import type { GroupVolume } from "../volume/group_port.ts";
import type { ResyncEntry } from "./document.ts";
import { type GroupContext, timelineAt } from "./group_context.ts";
import type { AsOfFeed, AsOfFrame } from "./sender.ts";

export interface ResyncSourceOwner {
  /** There may be something to take. */
  onReady(): void;
  /** The stream may go on; the peer is to be told that it is consistent at `seq`. */
  onEnded(seq: number): void;
  onFailed(text: string): void;
}

interface Pending {
  /** The stream must not pass this seq before the frame is in it. */
  readonly gateSeq: number;
  encode: ((streamSeq: number) => Uint8Array) | null;
  readonly nextVolume: number;
  readonly nextBlock: number;
  readonly allocatedBytes: number;
}

interface Piece {
  readonly volume: number;
  readonly firstBlock: number;
  readonly blockCount: number;
}

const chunkBlocks = chunkBytes / physicalBlockBytes;

export class ResyncSource implements AsOfFeed {
  readonly id: string;
  readonly #context: GroupContext;
  readonly #peer: string;
  readonly #owner: ResyncSourceOwner;
  readonly #volumes: ResyncEntry["volumes"];
  readonly #minSeq: number;
  readonly #frameBlocks: number;
  #state: "table" | "scanning" | "reading" | "ending" | "ended" | "stopped";
  /** In the order in which they enter the stream. */
  #pending: Pending[] = [];
  #table: readonly GroupVolume[] = [];
  #pieces: Piece[] = [];
  #pieceAt = 0;
  #scanGateSeq: number | null = null;
  #volumeIndex = 0;
  #nextBlock = 0;
  #windowEnd = 0;
  #totalBytes: number | null = null;
  #tokensBytes = 0;
  #tokensMs: number;
  #rateWaiting = false;

  /**
   * `begin` tells where to go on, or the whole table, as it is at the beginning of the stream. `minSeq`: no frame enters the
   * stream before it has come so far.
   */
  constructor(
    context: GroupContext,
    owner: ResyncSourceOwner,
    what: {
      readonly peer: string;
      readonly id: string;
      readonly volumes: ResyncEntry["volumes"];
      readonly begin: { readonly volume: number; readonly block: number } | { readonly table: readonly GroupVolume[] };
      readonly minSeq: number;
    },
  ) {
    this.#context = context;
    this.#owner = owner;
    this.#peer = what.peer;
    this.id = what.id;
    this.#volumes = [...what.volumes].sort((a, b) => a.number - b.number);
    this.#minSeq = what.minSeq;
    this.#frameBlocks = Math.min(resyncLimits.chunkFrameBytes, context.log.recordPayloadBytes) / physicalBlockBytes;
    this.#tokensMs = context.clock.nowMs();
    this.#state = "table" in what.begin ? "table" : "scanning";
    if ("table" in what.begin) this.#table = what.begin.table;
    else {
      const { volume, block } = what.begin;
      const index = this.#volumes.findIndex((candidate) => candidate.number >= volume);
      this.#volumeIndex = index < 0 ? this.#volumes.length : index;
      this.#nextBlock = this.#volumes[this.#volumeIndex]?.number === volume ? block : 0;
    }
    this.#count();
    if (this.#state === "scanning") this.#scan();
  }

  /** Allocated bytes from where this source began; null while they are being counted. */
  get totalBytes(): number | null {
    return this.#totalBytes;
  }

  /** Bytes that are known to be left in the present window. */
  get pendingBytes(): number {
    let bytes = 0;
    for (const { allocatedBytes } of this.#pending) bytes += allocatedBytes;
    for (let at = this.#pieceAt; at < this.#pieces.length; at++)
      bytes += this.#pieces[at]!.blockCount * physicalBlockBytes;
    return bytes;
  }

  stop(): void {
    this.#state = "stopped";
    this.#pending = [];
  }

  gateSeq(): number {
    let gate = this.#scanGateSeq ?? Number.POSITIVE_INFINITY;
    const oldest = this.#pending[0];
    if (oldest !== undefined && oldest.gateSeq < gate) gate = oldest.gateSeq;
    return gate;
  }

  take(streamSeq: number): AsOfFrame | null {
    if (this.#state === "stopped" || streamSeq < this.#minSeq) return null;
    if (this.#state === "table") return this.#takeTable(streamSeq);
    const first = this.#pending[0];
    if (first === undefined || first.encode === null || !this.#mayTake(first.allocatedBytes)) return null;
    this.#pending.shift();
    const record = first.encode(streamSeq);
    this.#advance();
    return {
      payload: [record],
      bytes: record.byteLength,
      asOfBytes: first.allocatedBytes,
      nextVolume: first.nextVolume,
      nextBlock: first.nextBlock,
    };
  }

  #takeTable(streamSeq: number): AsOfFrame {
    const { port, log } = this.#context;
    const place = { timeline: timelineAt(log, streamSeq), seq: streamSeq, asOfSeq: streamSeq };
    const record = port.encodeTable(place, this.#table);
    this.#state = "scanning";
    this.#scan();
    return {
      payload: [record],
      bytes: record.byteLength,
      asOfBytes: 0,
      nextVolume: this.#volumes[0]?.number ?? 0,
      nextBlock: 0,
    };
  }

  /** A token bucket of one second. */
  #mayTake(bytes: number): boolean {
    const rate = this.#context.settings.resyncBytesPerSecond;
    if (rate === null || bytes === 0) return true;
    const nowMs = this.#context.clock.nowMs();
    this.#tokensBytes = Math.min(rate, this.#tokensBytes + ((nowMs - this.#tokensMs) * rate) / 1000);
    this.#tokensMs = nowMs;
    if (this.#tokensBytes >= Math.min(bytes, rate)) {
      this.#tokensBytes -= Math.min(bytes, rate);
      return true;
    }
    if (!this.#rateWaiting) {
      this.#rateWaiting = true;
      this.#context.clock.after(10, () => {
        this.#rateWaiting = false;
        if (this.#state !== "stopped") this.#owner.onReady();
      });
    }
    return false;
  }

  #advance(): void {
    if (this.#state === "reading") {
      this.#read();
      if (this.#pending.length === 0 && this.#pieceAt === this.#pieces.length) {
        this.#nextBlock = this.#windowEnd;
        this.#state = "scanning";
        this.#scan();
      }
    }
  }

  /** The present size of a volume of the table, at most what it was; null when it has been deleted. */
  #blocksOf(index: number): number | null {
    const volume = this.#volumes[index]!;
    const present = this.#context.port.volumes().find((candidate) => candidate.number === volume.number);
    return present === undefined ? null : Math.ceil(Math.min(volume.sizeBytes, present.sizeBytes) / physicalBlockBytes);
  }

  #scan(): void {
    const { port, log } = this.#context;
    for (;;) {
      if (this.#volumeIndex >= this.#volumes.length) return this.#end();
      const blocks = this.#blocksOf(this.#volumeIndex);
      if (blocks !== null && this.#nextBlock < blocks) break;
      this.#volumeIndex++;
      this.#nextBlock = 0;
    }
    const volume = this.#volumes[this.#volumeIndex]!.number;
    const firstBlock = this.#nextBlock;
    const blocks = this.#blocksOf(this.#volumeIndex)!;
    const range = {
      firstBlock,
      blockCount: Math.min(resyncLimits.extentWindowBlocks, blocks - firstBlock),
      limit: resyncLimits.extentsMax,
    };
    this.#scanGateSeq = log.commitSeq;
    port.extentsAsOf(volume, range, (error, extents, asOf) => {
      if (this.#state !== "scanning") return;
      this.#scanGateSeq = null;
      if (error !== null) return this.#fail(`the map of volume ${volume} could not be read: ${error.text}`);
      this.#takeExtents(volume, firstBlock, range.blockCount, extents, asOf);
      this.#owner.onReady();
    });
  }

  #takeExtents(
    volume: number,
    firstBlock: number,
    blockCount: number,
    extents: readonly HomeExtent[],
    asOf: { readonly from: number; readonly through: number },
  ): void {
    const { port, log } = this.#context;
    let block = firstBlock;
    this.#pieces = [];
    this.#pieceAt = 0;
    for (const extent of extents) {
      const end = Math.min(extent.firstBlock + extent.blockCount, firstBlock + blockCount);
      if (extent.allocated) this.#cut(volume, block, end);
      else {
        const hole = { first: block, count: end - block };
        this.#pending.push({
          gateSeq: asOf.from,
          encode: (streamSeq) =>
            port.encodeHole(
              { timeline: timelineAt(log, streamSeq), seq: streamSeq, asOfSeq: asOf.through },
              volume,
              hole.first,
              hole.count,
            ),
          nextVolume: volume,
          nextBlock: firstBlock,
          allocatedBytes: 0,
        });
      }
      block = end;
    }
    // A window that gave no extents would be asked for again for ever.
    if (block === firstBlock) return this.#fail(`the map of volume ${volume} has no extents at block ${block}`);
    this.#windowEnd = block;
    this.#state = "reading";
    this.#read();
    if (this.#pieces.length === 0 && this.#pending.length === 0) this.#advance();
  }

  /** Pieces of whole chunks (if the log takes such records), aligned, at most one frame each. */
  #cut(volume: number, first: number, end: number): void {
    let block = first;
    while (block < end) {
      const full = block + this.#frameBlocks;
      const aligned = this.#frameBlocks < chunkBlocks ? full : Math.floor(full / chunkBlocks) * chunkBlocks;
      const stop = Math.min(end, aligned);
      this.#pieces.push({ volume, firstBlock: block, blockCount: stop - block });
      block = stop;
    }
  }

  #read(): void {
    const { port, log } = this.#context;
    while (this.#pieceAt < this.#pieces.length && this.#pending.length < resyncLimits.readsMax) {
      const piece = this.#pieces[this.#pieceAt++]!;
      const bytes = new Uint8Array(piece.blockCount * physicalBlockBytes);
      const pending: Pending = {
        gateSeq: log.commitSeq,
        encode: null,
        nextVolume: piece.volume,
        nextBlock: piece.firstBlock + piece.blockCount,
        allocatedBytes: bytes.byteLength,
      };
      this.#pending.push(pending);
      port.readAsOf(piece.volume, piece.firstBlock, bytes, (error, asOf) => {
        if (this.#state !== "reading") return;
        if (error !== null) {
          return this.#fail(`volume ${piece.volume} could not be read at block ${piece.firstBlock}: ${error.text}`);
        }
        pending.encode = (streamSeq) =>
          port.encodeChunk(
            { timeline: timelineAt(log, streamSeq), seq: streamSeq, asOfSeq: asOf.through },
            piece.volume,
            piece.firstBlock,
            bytes,
          );
        this.#owner.onReady();
      });
    }
  }

  #end(): void {
    this.#state = "ending";
    this.#scanGateSeq = this.#context.log.commitSeq;
    this.#context.port.writeConsistentAt(this.#peer, (error, seq) => {
      if (this.#state !== "ending") return;
      if (error !== null) return this.#fail(`the end of the resync could not be recorded: ${error.text}`);
      this.#state = "ended";
      this.#scanGateSeq = null;
      this.#owner.onEnded(seq);
    });
  }

  #fail(text: string): void {
    if (this.#state === "stopped") return;
    this.stop();
    this.#owner.onFailed(text);
  }

  /** Counts what is allocated from the present place on, beside the transfer. */
  #count(): void {
    let total = 0;
    let index = this.#volumeIndex;
    let block = this.#nextBlock;
    const step = () => {
      if (this.#state === "stopped") return;
      for (;;) {
        if (index >= this.#volumes.length) {
          this.#totalBytes = total;
          return;
        }
        const blocks = this.#blocksOf(index);
        if (blocks !== null && block < blocks) break;
        index++;
        block = 0;
      }
      const volume = this.#volumes[index]!.number;
      const range = {
        firstBlock: block,
        blockCount: Math.min(resyncLimits.extentWindowBlocks, this.#blocksOf(index)! - block),
        limit: resyncLimits.extentsMax,
      };
      this.#context.port.extentsAsOf(volume, range, (error, extents) => {
        if (error !== null || extents.length === 0) return;
        for (const extent of extents) if (extent.allocated) total += extent.blockCount * physicalBlockBytes;
        block = extents[extents.length - 1]!.firstBlock + extents[extents.length - 1]!.blockCount;
        this.#context.clock.defer(step);
      });
    };
    step();
  }
}
