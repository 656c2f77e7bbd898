/**
 * The golden side of a full resync, one per group: it outlives links, because forking and resetting the log do.
 *
 *   idle ──prepare──▶ preparing: drain and fork ──▶ durable mark "inconsistent" ──▶ fork is shown ──▶ log reset ──▶ idle, ready
 *   a prepare that comes meanwhile waits; only the newest one is carried out
 *
 * Invariants (R2, L4):
 * - Before anything of this image is overwritten it is a durable fork, or it was no consistent image, or it was empty.
 * - The mark is durable before the first chunk can arrive, and goes only when the announced `consistentAt` record is committed.
 * - What the mark says to have arrived is durable in the log.
 */

import { resyncLimits } from "../peer/limits.ts";
import type { LineageEntry } from "../peer/lineage.ts";
import { forkLineage } from "../volume/group_document.ts";
import { consistentImage, type InconsistentImage, type KeptFork } from "./document.ts";
import type { GroupContext } from "./group_context.ts";

export const keptForkPrefix = "kept-";

interface Prepare {
  readonly id: string;
  readonly lineage: readonly LineageEntry[];
  readonly seq: number;
  readonly ready: () => void;
}

export interface ResyncTargetOwner {
  /** The image has become inconsistent, or consistent: what hosts may see has changed. */
  onImageChanged(): void;
  onFailed(text: string): void;
}

export class ResyncTarget {
  readonly #context: GroupContext;
  readonly #owner: ResyncTargetOwner;
  #preparing: Prepare | null = null;
  #waiting: Prepare | null = null;
  #announced: { readonly id: string; readonly seq: number } | null = null;
  #markedSeqs: number[] = [];
  /** Bytes of as-of frames that have arrived durably since the start. */
  receivedBytes = 0;
  #unsavedBytes = 0;
  #savedMs = 0;
  #onConsistent: (id: string, seq: number) => void = () => {};

  constructor(context: GroupContext, owner: ResyncTargetOwner) {
    this.#context = context;
    this.#owner = owner;
  }

  get busy(): boolean {
    return this.#preparing !== null;
  }

  #image(): InconsistentImage | null {
    const { image } = this.#context.keeper.current;
    return image.kind === "inconsistent" ? image : null;
  }

  /** Called when this copy has become consistent, by the link that is there now. */
  set onConsistent(listener: (id: string, seq: number) => void) {
    this.#onConsistent = listener;
  }

  prepare(prepare: Prepare): void {
    if (this.#preparing !== null) {
      this.#waiting = prepare;
      return;
    }
    this.#preparing = prepare;
    this.#announced = null;
    this.#fork(prepare, (fork) => this.#mark(prepare, fork));
  }

  /**
   * The link is gone; what is under way is finished, nobody is told. An announcement goes with it: chunks that stood before it may
   * have been lost with the link, and those that are sent again may be newer than the record that it named.
   */
  forgetLink(): void {
    this.#waiting = null;
    this.#announced = null;
    this.#markedSeqs = [];
    if (this.#preparing !== null) this.#preparing = { ...this.#preparing, ready: () => {} };
    this.#onConsistent = () => {};
  }

  /** Everything before this place has arrived durably. */
  progress(nextVolume: number, nextBlock: number, bytes: number): void {
    const image = this.#image();
    if (image === null) return;
    this.receivedBytes += bytes;
    this.#unsavedBytes += bytes;
    const nowMs = this.#context.clock.nowMs();
    const due =
      !image.begun ||
      this.#unsavedBytes >= resyncLimits.progressBytes ||
      nowMs - this.#savedMs >= resyncLimits.progressMs;
    if (!due) return;
    this.#unsavedBytes = 0;
    this.#savedMs = nowMs;
    this.#context.keeper.change((document) =>
      document.image.kind === "inconsistent"
        ? { ...document, image: { ...document.image, begun: true, nextVolume, nextBlock } }
        : document,
    );
  }

  /** The primary has sent everything: consistent when the record at `seq` is committed here. */
  announce(id: string, seq: number): void {
    if (this.#image()?.resyncId !== id) return;
    this.#announced = { id, seq };
    if (this.#markedSeqs.includes(seq)) this.#becomeConsistent();
  }

  /** A `consistentAt` record for this array is committed here. */
  onMark(seq: number): void {
    if (this.#image() === null) return;
    this.#markedSeqs.push(seq);
    if (this.#markedSeqs.length > 16) this.#markedSeqs.shift();
    if (this.#announced?.seq === seq) this.#becomeConsistent();
  }

  #becomeConsistent(): void {
    const announced = this.#announced;
    const image = this.#image();
    if (announced === null || image === null || image.resyncId !== announced.id) return;
    this.#announced = null;
    this.#markedSeqs = [];
    const { id, seq } = announced;
    this.#context.keeper.change(
      (document) => ({ ...document, image: consistentImage, keptFork: image.fork, completedResync: id }),
      () => {
        this.#context.emit("image-consistent", `the resync has ended: the copy is consistent from seq ${seq} on`, {
          seq,
        });
        this.#owner.onImageChanged();
        this.#onConsistent(id, seq);
      },
    );
  }

  /** The digests of both sides are equal: the fork from before the resync is not needed any more. */
  proven(): void {
    const fork = this.#context.keeper.current.keptFork;
    if (fork === null) return;
    this.#context.keeper.change(
      (document) => ({ ...document, keptFork: null }),
      () => {
        if (!fork.salvage) this.#context.port.dropFork(fork.id, () => {});
      },
    );
  }

  #fork(prepare: Prepare, done: (fork: KeptFork | null) => void): void {
    const { port, log, keeper } = this.#context;
    const image = this.#image();
    if (image !== null) return done(image.fork);
    // A fork of before an earlier resync that was never proven is older; the salvage set that it may be stays in any case.
    const salvage = keeper.current.keptFork;
    if (salvage?.salvage === true && keeper.current.wantsResync) return done(salvage);
    if (log.headSeq === 0 && port.volumes().length === 0) return done(null);
    const lineage = log.lineage();
    const id = keptForkPrefix + prepare.id;
    port.forkHere(id, (error, seq) => {
      if (error !== null) return this.#fail(`the image could not be forked before the resync: ${error.text}`);
      done({ id, seq, lineage: forkLineage(lineage, seq), salvage: false });
    });
  }

  #mark(prepare: Prepare, fork: KeptFork | null): void {
    const { keeper, port } = this.#context;
    const older = keeper.current.keptFork;
    const image: InconsistentImage = {
      kind: "inconsistent",
      resyncId: prepare.id,
      begun: false,
      nextVolume: 0,
      nextBlock: 0,
      fork,
    };
    keeper.change(
      (document) => ({ ...document, image, keptFork: null, wantsResync: false, completedResync: null }),
      () => {
        if (older !== null && !older.salvage && older.id !== fork?.id) port.dropFork(older.id, () => {});
        port.resetLog({ lineage: prepare.lineage, seq: prepare.seq }, (error) => {
          if (error !== null) return this.#fail(`the log could not be reset: ${error.text}`);
          this.#markedSeqs = [];
          this.#savedMs = this.#context.clock.nowMs();
          this.#finish();
        });
      },
    );
    this.#owner.onImageChanged();
  }

  #finish(): void {
    const finished = this.#preparing;
    const waiting = this.#waiting;
    this.#preparing = null;
    this.#waiting = null;
    if (waiting !== null) this.prepare(waiting);
    else finished?.ready();
  }

  #fail(text: string): void {
    this.#preparing = null;
    this.#waiting = null;
    this.#owner.onFailed(text);
  }
}
