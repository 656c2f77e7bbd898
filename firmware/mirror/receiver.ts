/**
 * The receiving side of one link: a golden copy takes its primary's stream.
 *
 *   awaiting ──start──▶ streaming ──fault──▶ stopped        streaming ──resyncStart──▶ preparing ──start──▶ streaming
 *
 * Invariants:
 * - A frame is acknowledged as received only when every record of it is durable in this log; acknowledgements are cumulative.
 * - The primary's commitSeq counts only as far as this stream has come: beyond it this log may still hold records that the
 *   primary's newer timeline drops.
 * - Runs that find no room wait here, at most what the primary may have in flight; the link stays readable meanwhile.
 */
import type { AppendOutcome } from "../log/replication_log.ts";
import type { ByeCode, FrameOf } from "../peer/frame.ts";
import { linkLimits } from "../peer/limits.ts";
import type { Link } from "../peer/link.ts";
import type { GroupContext } from "./group_context.ts";

export interface ReceiverOwner {
  /** The resync that this copy's image is in, or null. */
  resyncId(): string | null;
  /** Everything before this place has arrived durably. */
  onChunksDurable(nextVolume: number, nextBlock: number, bytes: number): void;
  /** The stream cannot go on; the link is being closed with `code`. */
  onStopped(code: ByeCode, seq: number, text: string): void;
}

interface QueuedRun {
  readonly frame: number;
  /** null: as-of records, which take no seq. */
  readonly lastSeq: number | null;
  readonly commitSeq: number;
  readonly bytes: Uint8Array;
  takenBytes: number;
  readonly next: { readonly volume: number; readonly block: number } | null;
}

interface DurableMark {
  readonly frame: number;
  records: number;
  readonly bytes: number;
  readonly next: QueuedRun["next"];
}

export class Receiver {
  readonly #context: GroupContext;
  readonly #link: Link;
  readonly #owner: ReceiverOwner;
  #state: "awaiting" | "streaming" | "stopped" = "awaiting";
  #queue: QueuedRun[] = [];
  #queuedBytes = 0;
  #marks: DurableMark[] = [];
  #arrivedFrames = 0;
  #durableFrames = 0;
  /** The last seq of the stream that this log holds. */
  #streamSeq = 0;
  #heardCommitSeq = 0;
  #ackQueued = false;
  #ackedFrames = 0;
  #ackedReceivedSeq = -1;
  #ackedAppliedSeq = -1;
  #appliedAckedMs = Number.NEGATIVE_INFINITY;

  constructor(context: GroupContext, link: Link, owner: ReceiverOwner) {
    this.#context = context;
    this.#link = link;
    this.#owner = owner;
  }

  get streaming(): boolean {
    return this.#state === "streaming";
  }

  get streamSeq(): number {
    return this.#streamSeq;
  }

  /** The primary's commitSeq as last heard. */
  get heardCommitSeq(): number {
    return this.#heardCommitSeq;
  }

  stop(): void {
    this.#state = "stopped";
    this.#queue = [];
    this.#marks = [];
  }

  /** A resync is going to replace what this log holds: nothing more of the old stream counts. */
  await(): void {
    if (this.#state === "stopped") return;
    this.#state = "awaiting";
    this.#queue = [];
    this.#queuedBytes = 0;
    this.#marks = [];
  }

  onStart(start: FrameOf<"start">): void {
    const log = this.#context.log;
    if (this.#state !== "awaiting") return this.#stop("protocol", start.fromSeq, "a stream has begun already");
    if (start.fromSeq > log.headSeq) {
      return this.#stop(
        "gap",
        log.headSeq,
        `the stream begins behind ${start.fromSeq}, this copy ends at ${log.headSeq}`,
      );
    }
    if (start.resyncId !== this.#owner.resyncId()) {
      return this.#stop("protocol", start.fromSeq, "the stream is not of the resync that this copy is in");
    }
    this.#state = "streaming";
    this.#streamSeq = start.fromSeq;
    this.#arrivedFrames = 0;
    this.#durableFrames = 0;
    this.#ackedFrames = 0;
    this.#ackedReceivedSeq = -1;
    this.#ackedAppliedSeq = -1;
    this.hearCommit(start.commitSeq);
    this.acknowledgeSoon();
  }

  onRecords(records: FrameOf<"records">, bytes: Uint8Array): void {
    if (records.lastSeq < this.#streamSeq) {
      return this.#stop("protocol", records.lastSeq, "the stream goes back");
    }
    this.#enqueue(records.frame, records.lastSeq, records.commitSeq, bytes, null);
  }

  onChunk(chunk: FrameOf<"chunk">, bytes: Uint8Array): void {
    if (chunk.resyncId !== this.#owner.resyncId()) {
      return this.#stop("protocol", this.#streamSeq, "a chunk of another resync");
    }
    const next = { volume: chunk.nextVolume, block: chunk.nextBlock };
    this.#enqueue(chunk.frame, null, chunk.commitSeq, bytes, next);
  }

  hearCommit(seq: number): void {
    if (this.#state !== "streaming") return;
    this.#heardCommitSeq = Math.max(this.#heardCommitSeq, seq);
    this.#context.log.hearCommit(Math.min(this.#heardCommitSeq, this.#streamSeq));
  }

  /** Room in the log. */
  onRoom(): void {
    this.#drain();
  }

  /** The log has persisted or destaged something. */
  onDurable(): void {
    if (this.#state !== "streaming") return;
    const persisted = this.#context.log.persistedRecords;
    let done = 0;
    while (done < this.#marks.length && this.#marks[done]!.records <= persisted) {
      const mark = this.#marks[done++]!;
      this.#durableFrames = mark.frame;
      if (mark.next !== null) this.#owner.onChunksDurable(mark.next.volume, mark.next.block, mark.bytes);
    }
    if (done > 0) this.#marks.splice(0, done);
    this.acknowledgeSoon();
  }

  acknowledgeSoon(): void {
    if (this.#ackQueued) return;
    this.#ackQueued = true;
    this.#context.clock.defer(() => {
      this.#ackQueued = false;
      this.#acknowledge(false);
    });
  }

  /** A heartbeat is due: an acknowledgement is one. */
  onBeat(): void {
    this.#acknowledge(true);
  }

  #acknowledge(always: boolean): void {
    if (this.#state !== "streaming" || !this.#link.open) return;
    const log = this.#context.log;
    const receivedSeq = Math.max(Math.min(log.persistedSeq, this.#streamSeq), this.#ackedReceivedSeq);
    const appliedSeq = Math.max(Math.min(log.destagedSeq, receivedSeq), this.#ackedAppliedSeq);
    const receivedMoved = receivedSeq > this.#ackedReceivedSeq || this.#durableFrames > this.#ackedFrames;
    if (!always && !receivedMoved && !(appliedSeq > this.#ackedAppliedSeq && this.#appliedIsDue())) return;
    if (appliedSeq > this.#ackedAppliedSeq) this.#appliedAckedMs = this.#context.clock.nowMs();
    this.#ackedFrames = this.#durableFrames;
    this.#ackedReceivedSeq = receivedSeq;
    this.#ackedAppliedSeq = appliedSeq;
    this.#link.send({ kind: "ack", frames: this.#durableFrames, receivedSeq, appliedSeq });
  }

  #appliedIsDue(): boolean {
    return this.#context.clock.nowMs() - this.#appliedAckedMs >= this.#context.settings.appliedAckMs;
  }

  #enqueue(frame: number, lastSeq: number | null, commitSeq: number, bytes: Uint8Array, next: QueuedRun["next"]): void {
    if (this.#state !== "streaming")
      return this.#stop("protocol", this.#streamSeq, "records before a stream has begun");
    if (frame !== this.#arrivedFrames + 1)
      return this.#stop("protocol", this.#streamSeq, `frame ${frame} out of order`);
    this.#arrivedFrames = frame;
    this.#queuedBytes += bytes.byteLength;
    if (this.#queuedBytes > linkLimits.inFlightBytesMax + linkLimits.payloadBytesMax) {
      return this.#stop("protocol", this.#streamSeq, "more in flight than agreed");
    }
    this.#queue.push({ frame, lastSeq, commitSeq, bytes, takenBytes: 0, next });
    if (this.#queue.length === 1) this.#drain();
  }

  #drain(): void {
    const log = this.#context.log;
    while (this.#state === "streaming" && this.#queue.length > 0) {
      const run = this.#queue[0]!;
      const outcome = log.appendRun(run.takenBytes === 0 ? run.bytes : run.bytes.subarray(run.takenBytes));
      if (outcome.kind === "busy") {
        run.takenBytes += outcome.takenBytes;
        this.#clampMarks();
        return;
      }
      if (outcome.kind !== "appended") return this.#refuse(outcome);
      this.#queue.shift();
      this.#queuedBytes -= run.bytes.byteLength;
      this.#clampMarks();
      this.#marks.push({ frame: run.frame, records: log.appendedRecords, bytes: run.bytes.byteLength, next: run.next });
      if (run.lastSeq !== null) {
        if (log.headSeq < run.lastSeq) {
          return this.#stop("corrupt", run.lastSeq, `a frame said to end at ${run.lastSeq} ends at ${log.headSeq}`);
        }
        this.#streamSeq = run.lastSeq;
      }
      this.hearCommit(run.commitSeq);
    }
    this.onDurable();
  }

  /** Records that a newer timeline dropped are not waited for. */
  #clampMarks(): void {
    const appended = this.#context.log.appendedRecords;
    for (let index = this.#marks.length - 1; index >= 0; index--) {
      const mark = this.#marks[index]!;
      if (mark.records <= appended) return;
      mark.records = appended;
    }
  }

  #refuse(outcome: Exclude<AppendOutcome, { kind: "appended" | "busy" }>): void {
    if (outcome.kind === "gap") {
      const text = `record ${outcome.gotSeq} came where ${outcome.expectedSeq} was expected`;
      return this.#stop("gap", outcome.expectedSeq, text);
    }
    if (outcome.kind === "diverged") return this.#stop("diverged", outcome.seq, outcome.text);
    this.#stop("corrupt", this.#streamSeq + 1, outcome.text);
  }

  #stop(code: ByeCode, seq: number, text: string): void {
    if (this.#state === "stopped") return;
    this.stop();
    this.#owner.onStopped(code, seq, text);
  }
}
