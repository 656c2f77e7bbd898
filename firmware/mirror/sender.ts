/**
 * The sending side of one link: a cursor over the log.
 *
 *   streaming ⇄ loading (a run comes from the shelf) ──stop()──▶ stopped
 *
 * Invariants:
 * - Frames leave in log order. An async peer gets committed records only; a sync peer everything admitted, and is told commitSeq.
 * - Runs are views into the log's memory, true only until the present event ends: a segment that the peer still needs may leave the
 *   cache for the shelf. The link copies what its stream does not take at once.
 * - As-of frames enter the same stream through the feed, which says how far the cursor may go meanwhile.
 * - In flight (sent, not durable there) is bounded by bytes and frames; everything new since the last turn goes in one frame.
 * - Nobody waits for an async peer: what it gets is gathered until there is `gatherRecords`, at most `gatherMs`.
 */
import type { Timer } from "../../hal/api/clock.ts";
import { assert } from "../codec/assert.ts";
import type { LogCursor, LogRun } from "../log/replication_log.ts";
import type { FrameOf, StreamMode } from "../peer/frame.ts";
import { linkLimits } from "../peer/limits.ts";
import type { Link } from "../peer/link.ts";
import type { GroupContext } from "./group_context.ts";
import { InFlight } from "./in_flight.ts";

/** Where the as-of frames of a resync come from. */
export interface AsOfFeed {
  readonly id: string;
  /** No record above this seq may be sent now. */
  gateSeq(): number;
  /** The next frame for the place behind `streamSeq`, or null. */
  take(streamSeq: number): AsOfFrame | null;
  stop(): void;
}

export interface AsOfFrame {
  readonly payload: readonly Uint8Array[];
  readonly bytes: number;
  /** Bytes of volumes in it. */
  readonly asOfBytes: number;
  readonly nextVolume: number;
  readonly nextBlock: number;
}

export interface SenderOwner {
  /** `receivedSeq` or `appliedSeq` has moved. */
  onProgress(): void;
  /** The log no longer has what the cursor needs. */
  onLogLost(): void;
}

/** 64 records of 4 KiB are one frame of `runBytesMax`. */
const gatherRecords = 64;
/** Too short to be seen in any lag, and long enough for a busy host's next records. */
const gatherMs = 1;

export class Sender {
  readonly #context: GroupContext;
  readonly #link: Link;
  readonly #peer: string;
  readonly #owner: SenderOwner;
  readonly #inFlight: InFlight;
  #state: "streaming" | "loading" | "stopped" = "streaming";
  #cursor: LogCursor;
  #feed: AsOfFeed | null = null;
  #pumpQueued = false;
  #gathering: Timer | null = null;
  /** Sends beyond commitSeq: the peer is, or is about to be, one whose acknowledgement hosts wait for. */
  sendsAhead = false;
  receivedSeq: number;
  appliedSeq = 0;

  /** null: the log no longer has the records behind `fromSeq`. */
  static start(
    context: GroupContext,
    link: Link,
    owner: SenderOwner,
    from: { peer: string; seq: number; mode: StreamMode; feed: AsOfFeed | null },
  ): Sender | null {
    const cursor = context.log.cursorAfter(from.seq);
    if (cursor === null) return null;
    const sender = new Sender(context, link, owner, from.peer, cursor);
    sender.#feed = from.feed;
    link.send({
      kind: "start",
      fromSeq: from.seq,
      commitSeq: context.log.commitSeq,
      mode: from.mode,
      resyncId: from.feed?.id ?? null,
    });
    sender.pumpSoon();
    return sender;
  }

  constructor(context: GroupContext, link: Link, owner: SenderOwner, peer: string, cursor: LogCursor) {
    this.#context = context;
    this.#link = link;
    this.#owner = owner;
    this.#peer = peer;
    this.#cursor = cursor;
    this.#inFlight = new InFlight(context.settings.inFlightBytesMax, linkLimits.inFlightFramesMax);
    this.receivedSeq = cursor.seq;
  }

  get sentSeq(): number {
    return this.#cursor.seq;
  }

  get inFlightBytes(): number {
    return this.#inFlight.bytes;
  }

  /** Bytes of volumes that are under way. */
  get asOfBytes(): number {
    return this.#inFlight.asOfBytes;
  }

  /** Bytes of volumes that a resync on this link has brought there durably. */
  get asOfArrivedBytes(): number {
    return this.#inFlight.asOfArrivedBytes;
  }

  /** Since when the oldest unacknowledged frame waits; null: nothing does. */
  get waitingSinceMs(): number | null {
    return this.#inFlight.oldestMs;
  }

  set feed(feed: AsOfFeed | null) {
    this.#feed = feed;
    this.pumpSoon();
  }

  stop(): void {
    this.#state = "stopped";
    this.#gathering?.cancel();
    this.#gathering = null;
    this.#feed?.stop();
    this.#feed = null;
  }

  /** Sends what there is when the present event has been handled: one frame for all that it brings. */
  pumpSoon(): void {
    if (this.#pumpQueued || this.#state !== "streaming") return;
    if (this.#mayGather) {
      this.#gathering ??= this.#context.clock.after(gatherMs, () => {
        this.#gathering = null;
        this.#pump();
      });
      return;
    }
    this.#gathering?.cancel();
    this.#gathering = null;
    this.#pumpQueued = true;
    this.#context.clock.defer(() => {
      this.#pumpQueued = false;
      this.#pump();
    });
  }

  get #mayGather(): boolean {
    if (this.sendsAhead || this.#feed !== null) return false;
    return this.#context.log.commitSeq - this.#cursor.seq < gatherRecords;
  }

  /** False: the acknowledgement cannot be; the link is at fault. */
  onAck(ack: FrameOf<"ack">): boolean {
    if (this.#state === "stopped") return true;
    if (ack.receivedSeq > this.#cursor.seq || ack.appliedSeq > ack.receivedSeq) return false;
    if (ack.receivedSeq < this.receivedSeq || ack.appliedSeq < this.appliedSeq) return false;
    if (!this.#inFlight.acknowledge(ack.frames)) return false;
    const moved = ack.receivedSeq > this.receivedSeq || ack.appliedSeq > this.appliedSeq;
    this.receivedSeq = ack.receivedSeq;
    this.appliedSeq = ack.appliedSeq;
    if (moved) this.#owner.onProgress();
    this.pumpSoon();
    return true;
  }

  #pump(): void {
    const log = this.#context.log;
    while (this.#state === "streaming" && this.#inFlight.hasRoom && this.#link.open) {
      const sentAsOf = this.#sendAsOf();
      const limit = Math.min(
        this.sendsAhead ? log.headSeq : log.commitSeq,
        this.#feed?.gateSeq() ?? Number.POSITIVE_INFINITY,
      );
      if (limit <= this.#cursor.seq) {
        if (sentAsOf) continue;
        return;
      }
      const run = log.next(this.#cursor, limit, linkLimits.runBytesMax);
      if (run === "on-shelf") this.#load(limit);
      else if (run !== "end") this.#send(run);
      else if (log.cursorAfter(this.#cursor.seq) === null) this.#owner.onLogLost();
      else if (!sentAsOf) return;
    }
  }

  #sendAsOf(): boolean {
    if (this.#feed === null || this.#inFlight.asOfBytes >= linkLimits.asOfInFlightBytesMax) return false;
    const frame = this.#feed.take(this.#cursor.seq);
    if (frame === null) return false;
    const number = this.#inFlight.sent(frame.bytes, this.#context.clock.nowMs(), frame.asOfBytes);
    this.#link.send(
      {
        kind: "chunk",
        frame: number,
        resyncId: this.#feed.id,
        nextVolume: frame.nextVolume,
        nextBlock: frame.nextBlock,
        commitSeq: this.#context.log.commitSeq,
      },
      frame.payload,
    );
    return true;
  }

  #send(run: LogRun): void {
    assert(run.bytes.byteLength <= linkLimits.payloadBytesMax, "a run fits into a frame");
    assert(run.lastSeq === this.#cursor.seq, "the cursor stands behind the run");
    const number = this.#inFlight.sent(run.bytes.byteLength, this.#context.clock.nowMs());
    this.#link.send({ kind: "records", frame: number, lastSeq: run.lastSeq, commitSeq: this.#context.log.commitSeq }, [
      run.bytes,
    ]);
  }

  #load(limit: number): void {
    this.#state = "loading";
    this.#context.log.load(this.#cursor, limit, linkLimits.runBytesMax, (run) => {
      if (this.#state !== "loading") return;
      this.#state = "streaming";
      if (run === null) {
        this.#context.emit("log-read-failed", `the log could not be read for ${this.#peer}`, { peer: this.#peer });
        this.#link.abort("aborted", "the log could not be read");
        return;
      }
      if (run !== "end") this.#send(run);
      this.pumpSoon();
    });
  }
}
