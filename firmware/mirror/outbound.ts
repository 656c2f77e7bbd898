/**
 * A primary's side of one peer: what it sends there, what it knows of it, and the way back when the log was not enough.
 *
 *   apart ──begin(stream)──▶ streaming ◀──resyncReady── preparing ◀──begin(resync)── apart
 *   any ──lost()──▶ apart            any ──end() (role, removal)──▶ ended
 *
 * Invariants:
 * - The log retains for this peer everything above `receivedSeq`, unless "everything" is durable for it (O4, R1).
 * - `in-sync` is shown only when nothing is missing, and the last resync was proven by digests (R4).
 */
import type { FrameOf, Hello } from "../peer/frame.ts";
import { resyncLimits } from "../peer/limits.ts";
import type { Link } from "../peer/link.ts";
import type { GroupVolume } from "../volume/group_port.ts";
import type { Decision } from "./decide.ts";
import { type PeerEntry, type ResyncEntry, withPeer } from "./document.ts";
import { type GroupContext, newId } from "./group_context.ts";
import { ResyncSource } from "./resync_source.ts";
import { Sender } from "./sender.ts";
import { SyncProtection } from "./sync_protection.ts";
import { type VerifyOutcome, VerifySource } from "./verify_source.ts";

/** The lazily saved position of a peer is at most so old. */
const saveEveryMs = 5000;

type State =
  | { readonly kind: "apart" }
  | {
      readonly kind: "preparing";
      readonly link: Link;
      readonly id: string;
      readonly seq: number;
      readonly table: readonly GroupVolume[];
    }
  | { readonly kind: "streaming"; readonly link: Link; readonly sender: Sender; readonly source: ResyncSource | null }
  | { readonly kind: "ended" };

export class Outbound {
  readonly array: string;
  readonly protection: SyncProtection;
  readonly #context: GroupContext;
  readonly #onMoved: () => void;
  #state: State = { kind: "apart" };
  #receivedSeq: number;
  #appliedSeq = 0;
  #promotableSeq: number | null = null;
  #savedMs = 0;
  #savedSeq: number;
  readonly #verifies = new Map<string, VerifySource>();

  /** `onMoved`: a position has moved, or the peer's state may have changed. */
  constructor(context: GroupContext, array: string, onMoved: () => void) {
    this.#context = context;
    this.array = array;
    this.#onMoved = onMoved;
    this.protection = new SyncProtection(context, array);
    const entry = this.entry;
    this.#receivedSeq = entry?.receivedSeq ?? 0;
    this.#savedSeq = this.#receivedSeq;
    if (entry !== null && (entry.resync === null || entry.resync.id !== null))
      context.log.retain(array, this.#receivedSeq);
  }

  get entry(): PeerEntry | null {
    return this.#context.keeper.current.peers.find((peer) => peer.array === this.array) ?? null;
  }

  get streaming(): boolean {
    return this.#state.kind === "streaming";
  }

  get resyncing(): boolean {
    return this.#state.kind === "preparing" || this.entry?.resync != null;
  }

  get receivedSeq(): number {
    return this.#receivedSeq;
  }

  get appliedSeq(): number {
    return this.#appliedSeq;
  }

  /** The newest seq that could be promoted there, as far as we know. */
  get protectedThroughSeq(): number | null {
    return this.entry?.resync == null ? this.#receivedSeq : this.#promotableSeq;
  }

  /** Null: not known yet. 0: there is no resync. */
  get resyncBytesLeft(): number | null {
    const progress = this.resyncProgress;
    if (progress === null) return this.entry?.resync == null ? 0 : null;
    if (progress.totalBytes === null || this.#state.kind !== "streaming") return null;
    // Hosts write meanwhile: more may be allocated than was counted.
    const known = this.#state.sender.asOfBytes + (this.#state.source?.pendingBytes ?? 0);
    return Math.max(known, progress.totalBytes - progress.doneBytes);
  }

  /** Bytes that have arrived and bytes in all, of the resync on the present link. */
  get resyncProgress(): { readonly doneBytes: number; readonly totalBytes: number | null } | null {
    if (this.#state.kind !== "streaming" || this.#state.source === null) return null;
    return { doneBytes: this.#state.sender.asOfArrivedBytes, totalBytes: this.#state.source.totalBytes };
  }

  get verifyProgress(): { readonly doneBytes: number; readonly totalBytes: number | null } | null {
    for (const verify of this.#verifies.values()) return verify.progress;
    return null;
  }

  get hasEverything(): boolean {
    const { log } = this.#context;
    const entry = this.entry;
    return (
      this.streaming &&
      entry !== null &&
      entry.resync === null &&
      this.#receivedSeq >= log.headSeq &&
      log.commitSeq >= log.headSeq
    );
  }

  get inSync(): boolean {
    const entry = this.entry;
    const proven = this.#context.keeper.durable.peers.some((peer) => peer.array === this.array && !peer.unverified);
    if (!this.streaming || entry === null || entry.resync !== null || entry.unverified || !proven) return false;
    if (entry.mode === "sync" && this.protection.state !== "armed") return false;
    return this.#receivedSeq >= this.#context.log.commitSeq;
  }

  /** Both sides hold the same through `seq`: known before anything is sent (and when nothing will be). */
  learn(seq: number): void {
    if (this.#state.kind === "apart" && this.entry?.resync === null && seq > this.#receivedSeq) this.#receivedSeq = seq;
  }

  begin(link: Link, theirs: Hello, decision: Extract<Decision, { kind: "stream" | "resync" }>): void {
    this.#promotableSeq = theirs.promotableSeq;
    if (decision.kind === "resync") return this.#prepareResync(link);
    if (decision.completes !== null) this.#resyncEnded(decision.completes);
    const source = decision.resumes === null ? null : this.#resume(link, theirs, decision);
    const from = { peer: this.array, seq: decision.fromSeq, mode: this.#mode(), feed: source };
    this.#stream(link, from, source, Math.min(decision.fromSeq, theirs.persistedSeq));
  }

  /** The link is gone; the next one begins anew. */
  lost(): void {
    if (this.#state.kind === "ended") return;
    if (this.#state.kind === "streaming") this.#state.sender.stop();
    this.#state = { kind: "apart" };
    for (const verify of [...this.#verifies.values()]) verify.cancel(`the link to ${this.array} is lost`);
    this.protection.detach();
    this.#savePosition();
  }

  /** This side is no longer primary, or the peer no longer one of the group. Its link is closed already. */
  end(): void {
    if (this.#state.kind === "streaming") this.#state.sender.stop();
    for (const verify of [...this.#verifies.values()]) verify.cancel("the group's role has changed");
    this.#state = { kind: "ended" };
    this.protection.end();
    this.#context.log.release(this.array);
  }

  /** Records were admitted or committed. */
  onLogMoved(): void {
    if (this.#state.kind !== "streaming") return;
    this.#state.sender.pumpSoon();
    this.protection.consider();
  }

  onBeat(): void {
    this.protection.checkTime();
    if (this.#context.clock.nowMs() - this.#savedMs >= saveEveryMs) this.#savePosition();
  }

  /** False: the frame cannot be; the link is at fault. */
  onAck(ack: FrameOf<"ack">): boolean {
    return this.#state.kind === "streaming" ? this.#state.sender.onAck(ack) : true;
  }

  onResyncReady(ready: FrameOf<"resyncReady">): void {
    const state = this.#state;
    if (state.kind !== "preparing" || state.id !== ready.id) return;
    // The log has overflowed meanwhile: as soon as that is durable the link ends, and the next one begins another resync.
    const resync = this.entry?.resync ?? null;
    if (resync?.id !== state.id) return;
    const source = this.#newSource(state.link, resync, { table: state.table }, 0);
    const from = { peer: this.array, seq: state.seq, mode: this.#mode(), feed: source };
    this.#stream(state.link, from, source, state.seq);
  }

  onConsistent(consistent: FrameOf<"consistent">): void {
    if (this.entry?.resync?.id !== consistent.id) return;
    this.#resyncEnded(consistent.id);
    if (this.#state.kind === "streaming") {
      const { link, sender } = this.#state;
      sender.feed = null;
      this.#state = { kind: "streaming", link, sender, source: null };
    }
    this.#proveSoon();
  }

  onVerifyForked(forked: FrameOf<"verifyForked">): void {
    const verify = this.#verifies.get(forked.id);
    if (verify !== undefined) verify.onForkedThere(forked);
    else if (this.#state.kind === "streaming") {
      this.#state.link.send({ kind: "verifyEnd", id: forked.id, equal: false, finished: false });
    }
  }

  onVerifyDigests(digests: FrameOf<"verifyDigests">, payload: Uint8Array): void {
    this.#verifies.get(digests.id)?.onDigests(digests, payload);
  }

  /** This side has forked at the boundary of a verify; true when it is one of ours. */
  onForkedHere(forkId: string): boolean {
    for (const verify of this.#verifies.values()) {
      if (verify.forkId !== forkId) continue;
      verify.onForkedHere();
      return true;
    }
    return false;
  }

  verify(done: (outcome: VerifyOutcome) => void): void {
    if (this.#state.kind !== "streaming" || this.entry?.resync !== null) {
      done({ kind: "failed", code: "not-connected", text: `${this.array} is not connected, or is being resynced` });
      return;
    }
    const verify = new VerifySource(this.#context, this.#state.link, (outcome) => {
      this.#verifies.delete(verify.id);
      done(outcome);
    });
    this.#verifies.set(verify.id, verify);
    verify.start();
  }

  #mode() {
    return this.entry?.mode ?? "async";
  }

  #stream(
    link: Link,
    from: { peer: string; seq: number; mode: "sync" | "async"; feed: ResyncSource | null },
    source: ResyncSource | null,
    receivedSeq: number,
  ): void {
    const owner = {
      onProgress: () => this.#onProgress(),
      onLogLost: () => link.abort("aborted", "the log no longer has what the peer lacks"),
    };
    const sender = Sender.start(this.#context, link, owner, from);
    if (sender === null) {
      source?.stop();
      link.abort("aborted", "the log no longer has what the peer lacks");
      return;
    }
    sender.receivedSeq = receivedSeq;
    this.#state = { kind: "streaming", link, sender, source };
    this.#receivedSeq = receivedSeq;
    this.#retain();
    this.protection.attach(sender);
    if (source === null && this.entry?.unverified === true) this.#proveSoon();
    this.#onMoved();
  }

  #onProgress(): void {
    if (this.#state.kind !== "streaming") return;
    const { sender } = this.#state;
    this.#receivedSeq = sender.receivedSeq;
    this.#appliedSeq = sender.appliedSeq;
    this.#retain();
    this.protection.consider();
    this.#onMoved();
  }

  #retain(): void {
    this.#context.log.retain(this.array, this.#receivedSeq);
  }

  #savePosition(): void {
    this.#savedMs = this.#context.clock.nowMs();
    if (this.#receivedSeq === this.#savedSeq || this.#state.kind === "ended") return;
    this.#savedSeq = this.#receivedSeq;
    const receivedSeq = this.#receivedSeq;
    this.#context.keeper.change((document) => withPeer(document, this.array, (entry) => ({ ...entry, receivedSeq })));
  }

  /** Everything is sent again: durable here first, then the golden side forks and resets its log. */
  #prepareResync(link: Link): void {
    const { log, port, keeper } = this.#context;
    const id = newId(this.#context);
    const seq = log.commitSeq;
    const table = [...port.volumes()];
    const lineage = log.lineage().filter((entry) => entry.firstSeq <= seq);
    const volumes = table.map(({ number, sizeBytes }) => ({ number, sizeBytes }));
    this.#state = { kind: "preparing", link, id, seq, table };
    this.#receivedSeq = seq;
    log.retain(this.array, seq);
    keeper.change(
      (document) =>
        withPeer(document, this.array, (entry) => ({
          ...entry,
          resync: { what: "everything", id, volumes },
          receivedSeq: seq,
          unverified: false,
          stopped: null,
        })),
      () => {
        if (this.#state.kind !== "preparing" || this.#state.id !== id) return;
        this.#context.emit("resync-started", `everything allocated is being sent to ${this.array}`, {
          peer: this.array,
          seq,
        });
        link.send({ kind: "resyncStart", id, lineage, seq });
      },
    );
  }

  #resume(link: Link, theirs: Hello, decision: Extract<Decision, { kind: "stream" }>): ResyncSource | null {
    const { resync } = theirs;
    const ours = this.entry?.resync ?? null;
    if (resync === null || ours?.id !== resync.id) return null;
    this.#context.emit("resync-resumed", `the resync of ${this.array} goes on where it was`, { peer: this.array });
    const begin = { volume: resync.nextVolume, block: resync.nextBlock };
    return this.#newSource(link, ours, begin, decision.drops ? decision.fromSeq + 1 : 0);
  }

  #newSource(
    link: Link,
    resync: ResyncEntry,
    begin: { volume: number; block: number } | { table: readonly GroupVolume[] },
    minSeq: number,
  ): ResyncSource {
    const id = resync.id!;
    const owner = {
      onReady: () => {
        if (this.#state.kind === "streaming") this.#state.sender.pumpSoon();
      },
      onEnded: (seq: number) => {
        link.send({ kind: "resyncDone", id, consistentSeq: seq });
        owner.onReady();
      },
      onFailed: (text: string) => {
        this.#context.emit(
          "resync-failed",
          `the resync of ${this.array} has stopped and will be tried again: ${text}`,
          {
            peer: this.array,
          },
        );
        link.abort("aborted", text);
      },
    };
    return new ResyncSource(this.#context, owner, { peer: this.array, id, volumes: resync.volumes, begin, minSeq });
  }

  #resyncEnded(id: string): void {
    this.#context.keeper.change((document) =>
      withPeer(document, this.array, (entry) =>
        entry.resync?.id === id ? { ...entry, resync: null, unverified: true } : entry,
      ),
    );
    this.#context.emit("resync-ended", `${this.array} holds a consistent copy again`, { peer: this.array });
  }

  /** R4: a resync counts only when the digests of both sides are equal. */
  #proveSoon(): void {
    this.verify((outcome) => {
      if (outcome.kind === "failed") {
        // The next link, or the next minute, tries again: the entry stays unverified.
        if (outcome.code !== "not-connected") {
          this.#context.clock.after(1000, () => {
            if (this.#state.kind === "streaming" && this.entry?.unverified === true && this.#verifies.size === 0)
              this.#proveSoon();
          });
        }
        return;
      }
      if (outcome.report.equal) this.#proven(outcome.report.seq);
      else this.#mismatched();
    });
  }

  #proven(seq: number): void {
    this.#context.keeper.change(
      (document) => withPeer(document, this.array, (entry) => ({ ...entry, unverified: false, mismatches: 0 })),
      () => {
        this.#context.emit("resync-verified", `the copy on ${this.array} is equal at seq ${seq}`, {
          peer: this.array,
          seq,
        });
        this.protection.consider();
        this.#onMoved();
      },
    );
  }

  #mismatched(): void {
    const mismatches = (this.entry?.mismatches ?? 0) + 1;
    const stopped = mismatches >= resyncLimits.attemptsMax ? ("mismatch" as const) : null;
    this.#context.emit(
      "resync-mismatch",
      `the copy on ${this.array} differs after its resync; ${stopped === null ? "it is sent again" : "an operator is needed"}`,
      { peer: this.array, mismatches },
    );
    this.#context.keeper.change(
      (document) =>
        withPeer(document, this.array, (entry) => ({
          ...entry,
          resync: { what: "everything", id: null, volumes: [] },
          unverified: false,
          mismatches,
          stopped,
        })),
      () => {
        if (this.#state.kind === "streaming") this.#state.link.abort("aborted", "the digests differ");
      },
    );
  }
}
