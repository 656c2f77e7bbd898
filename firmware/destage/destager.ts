/**
 * The destager: a cursor over the log that brings committed records to their home on the shelf.
 *
 *     idle ──(low watermark, age, or somebody waits)──▶ building ──▶ applying ──▶ committing ──▶ idle, or building again
 *     any ──(the store reports an error)──▶ resting (retried after a second; the log keeps everything)
 *
 * Invariants:
 * - The cursor moves only after data, checksums and maps are durable; a crash before that repeats the batch from the log.
 * - A boundary's fork is taken exactly when all records up to it are at home and none beyond.
 */
import type { Clock, Timer } from "../../hal/api/clock.ts";
import type { Digests } from "../../hal/api/digests.ts";
import { logLimits } from "../log/limits.ts";
import { emptyHeader, type RecordHeader } from "../log/record.ts";
import { unindexRecord } from "../log/record_blocks.ts";
import type { LogPlace } from "../log/segment_list.ts";
import type { WriteLog } from "../log/write_log.ts";
import { type GroupStore, type HomeStep, physicalBlockBytes, type StoreError } from "../store/store.ts";
import type { StoreQueue } from "../volume/store_queue.ts";
import { type Batch, BatchBuilder } from "./batch.ts";

export interface DestagerOptions {
  readonly log: WriteLog;
  readonly store: GroupStore;
  readonly queue: StoreQueue;
  readonly clock: Clock;
  readonly digests: Digests;
  /** The place up to which records are at home; owned by the destager, read by `LogRoom`. */
  readonly place: LogPlace;
  /** The group's document as of `seq`. */
  document(seq: number, place: LogPlace): unknown;
  decodeBoundary(at: number, header: RecordHeader): { id: string; purpose: string };
  /** Changes of the volume table before record number `records` become part of the home state. */
  applySpecials(records: number): void;
  /** Gives back the space that the record had set aside. */
  release(header: RecordHeader): void;
  /** Forks the home, which is the group at `seq` now. */
  forkAt(boundary: { id: string; purpose: string }, seq: number): void;
  boundaryReached(boundary: { id: string; purpose: string }, seq: number): void;
  trouble(error: StoreError): void;
  /** A block was written in part whose home cannot be read: it stays a medium error until it is written whole. */
  unreadable(volume: number, block: number): void;
}

const restMs = 1000;

export class Destager {
  readonly #options: DestagerOptions;
  readonly #builder: BatchBuilder;
  readonly #header: RecordHeader = emptyHeader();
  #state: "idle" | "working" | "resting" | "closed" = "idle";
  /**
   * A batch that a disk has refused in part. It is repeated as it is: the maps in memory lead to places that were not written, so that a
   * block which was completed from its home could not be read there again.
   */
  #owed: Batch | null = null;
  #records = 0;
  #timer: Timer | null = null;
  #wanted = false;
  #waiting: { readonly record: number; readonly done: (error: StoreError | null) => void }[] = [];

  constructor(options: DestagerOptions) {
    this.#options = options;
    this.#builder = new BatchBuilder(options.log, options.store, options.digests, (volume, block) =>
      options.unreadable(volume, block),
    );
    options.log.onCommitted(() => this.#noticed());
  }

  /** Records at home, counted as the log counts them. */
  get records(): number {
    return this.#records;
  }

  /** Bytes of the cache whose records are not at home yet. */
  get dirtyBytes(): number {
    const { place, log } = this.#options;
    let total = 0;
    for (const segment of log.list.segments) {
      if (segment.ordinal > place.ordinal) total += segment.usedBytes - logLimits.segmentHeaderBytes;
      else if (segment.ordinal === place.ordinal) total += Math.max(0, segment.usedBytes - place.offset);
    }
    return total;
  }

  /** Destages everything committed so far, now. */
  kick(): void {
    this.#wanted = true;
    this.#run();
  }

  /** `done` when everything that is committed now is at home, or when it cannot get there. */
  drain(done: (error: StoreError | null) => void): void {
    const record = this.#options.log.committedRecords;
    if (this.#records >= record) return done(null);
    this.#waiting.push({ record, done });
    this.kick();
  }

  /** The log was emptied: everything is at home by definition. */
  reset(place: LogPlace): void {
    this.#records = 0;
    this.#owed = null;
    this.#options.place.ordinal = place.ordinal;
    this.#options.place.offset = place.offset;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const one of waiting) one.done(null);
  }

  close(): void {
    this.#state = "closed";
    this.#timer?.cancel();
  }

  #noticed(): void {
    if (this.#state !== "idle") return;
    const { log } = this.#options;
    if (this.#records >= log.committedRecords) return;
    if (this.#wanted || this.#isDirtyEnough()) return this.#run();
    this.#timer ??= this.#options.clock.after(logLimits.destageDelayMs, () => {
      this.#timer = null;
      this.kick();
    });
  }

  #isDirtyEnough(): boolean {
    const { nvram } = this.#options.log;
    return this.dirtyBytes >= nvram.segmentCount * nvram.segmentBytes * logLimits.destageLowWatermark;
  }

  #run(): void {
    const { log, queue } = this.#options;
    if (this.#state !== "idle") return;
    if (this.#records >= log.committedRecords) {
      this.#wanted = false;
      return;
    }
    this.#state = "working";
    queue.run((next) => this.#work(next));
  }

  #work(next: () => void): void {
    const { log, place } = this.#options;
    if (this.#owed !== null) return this.#apply(this.#owed, next);
    const from = { place, records: this.#records, seq: log.destagedSeq };
    this.#builder.build(from, logLimits.destageBatchBytes, this.#options.decodeBoundary, (buildError, batch) => {
      if (buildError !== null) return this.#failed(buildError, next);
      if (batch.records === this.#records) return this.#finished(next);
      this.#options.applySpecials(batch.records);
      this.#apply(batch, next);
    });
  }

  #apply(batch: Batch, next: () => void): void {
    const { store } = this.#options;
    this.#owed = batch;
    store.apply(this.#onLiveVolumes(batch.steps), (applyError) => {
      if (applyError !== null) return this.#failed(applyError, next);
      this.#owed = null;
      if (batch.boundary !== null) this.#options.forkAt(batch.boundary, batch.seq);
      store.commit(this.#options.document(batch.seq, batch.place), (commitError) => {
        if (commitError !== null) return this.#failed(commitError, next);
        this.#committed(batch);
        this.#finished(next);
      });
    });
  }

  /** Leaves out what was written to volumes that have been deleted since, or (by a peer that is wrong) beyond their end. */
  #onLiveVolumes(steps: readonly HomeStep[]): readonly HomeStep[] {
    const blocks = new Map<number, number>();
    for (const { number, sizeBytes } of this.#options.store.volumes("head"))
      blocks.set(number, Math.ceil(sizeBytes / physicalBlockBytes));
    const room = (step: HomeStep) => Math.max(0, (blocks.get(step.volume) ?? 0) - step.firstBlock);
    if (steps.every((step) => room(step) >= blocksIn(step))) return steps;
    return steps.map((step) => cutTo(step, room(step))).filter((step) => blocksIn(step) > 0);
  }

  #committed(batch: Batch): void {
    const { log, place } = this.#options;
    const header = this.#header;
    const walk = { ...place };
    for (let record = this.#records; record < batch.records; record++) {
      log.list.recordAt(walk, header);
      unindexRecord(log.index, header, batch.records - 1);
      this.#options.release(header);
      walk.offset += header.totalBytes;
    }
    log.index.forgetExtents(batch.records - 1);
    this.#records = batch.records;
    place.ordinal = batch.place.ordinal;
    place.offset = batch.place.offset;
    log.destaged(batch.seq);
    if (batch.boundary !== null) this.#options.boundaryReached(batch.boundary, batch.seq);
    this.#tellWaiting(null);
  }

  #tellWaiting(error: StoreError | null): void {
    const ready = this.#waiting.filter((one) => error !== null || one.record <= this.#records);
    this.#waiting = this.#waiting.filter((one) => !ready.includes(one));
    for (const one of ready) one.done(error);
  }

  #finished(next: () => void): void {
    if (this.#state === "closed") return next();
    this.#state = "idle";
    next();
    const more = this.#records < this.#options.log.committedRecords;
    if (!more) this.#wanted = false;
    if (more && (this.#wanted || this.#waiting.length > 0 || this.#isDirtyEnough())) this.#run();
    else this.#noticed();
  }

  #failed(error: StoreError, next: () => void): void {
    if (this.#state === "closed") return next();
    this.#options.trouble(error);
    this.#state = "resting";
    this.#tellWaiting(error);
    next();
    this.#options.clock.after(restMs, () => {
      if (this.#state !== "resting") return;
      this.#state = "idle";
      this.kick();
    });
  }
}

function blocksIn(step: HomeStep): number {
  return step.kind === "data" ? step.crcs.length : step.blockCount;
}

/** The step's first `blocks` blocks. */
function cutTo(step: HomeStep, blocks: number): HomeStep {
  if (blocksIn(step) <= blocks) return step;
  if (step.kind === "zero") return { ...step, blockCount: blocks };
  const crcs = Array.from({ length: blocks }, (_, index) => step.crcs[index]!);
  return { ...step, bytes: step.bytes.subarray(0, blocks * physicalBlockBytes), crcs };
}
