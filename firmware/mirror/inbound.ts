/**
 * A golden copy's side of the link to its primary: the receiver, the group's resync target and verify target, joined to one link.
 *
 * Invariants: one `Inbound` per link; a stream that cannot be taken ends the link with a reason, and the third time at one place
 * the copy stops taking it until an operator acts.
 */
import type { ByeCode, Frame } from "../peer/frame.ts";
import type { Link } from "../peer/link.ts";
import type { GroupContext } from "./group_context.ts";
import { Receiver } from "./receiver.ts";
import type { ResyncTarget } from "./resync_target.ts";
import { VerifyTarget } from "./verify_target.ts";

/** Corrupt or missing records at one seq, over links: what the third time means. */
export class StreamFaults {
  #seq = -1;
  #count = 0;
  #why: string | null = null;

  /** Why no stream is taken; null: one is. */
  get why(): string | null {
    return this.#why;
  }

  /** True when this is the last one that is put up with. */
  report(code: ByeCode, seq: number, text: string): boolean {
    this.#count = seq === this.#seq ? this.#count + 1 : 1;
    this.#seq = seq;
    const final = code === "diverged" || this.#count >= 3;
    if (final) this.#why = text;
    return final;
  }

  forget(): void {
    this.#seq = -1;
    this.#count = 0;
    this.#why = null;
  }
}

export class Inbound {
  readonly #link: Link;
  readonly #target: ResyncTarget;
  readonly #receiver: Receiver;
  readonly #verify: VerifyTarget;
  #lastBeat: { readonly lagMs: number; readonly inSync: boolean; readonly verified: boolean } | null = null;

  /** The primary has begun to stream on this link: it serves, or did so until now. */
  started = false;

  constructor(context: GroupContext, link: Link, primary: string, target: ResyncTarget, faults: StreamFaults) {
    this.#link = link;
    this.#target = target;
    this.#verify = new VerifyTarget(context, link);
    this.#receiver = new Receiver(context, link, {
      resyncId: () => {
        const { image } = context.keeper.current;
        return image.kind === "inconsistent" ? image.resyncId : null;
      },
      onChunksDurable: (volume, block, bytes) => target.progress(volume, block, bytes),
      onStopped: (code, seq, text) => {
        const final = faults.report(code, seq, text);
        const advice = final
          ? `; nothing is taken until: goldcopy group resync ${context.port.name} --from ${primary}`
          : "";
        context.emit(`stream-${code}`, `the stream from ${primary} was refused at seq ${seq}: ${text}${advice}`, {
          peer: primary,
          seq,
          final,
        });
        link.send({ kind: "bye", code, text, seq });
        link.close("closed", text);
      },
    });
    target.onConsistent = (id, seq) => link.send({ kind: "consistent", id, seq });
  }

  get receiver(): Receiver {
    return this.#receiver;
  }

  /** What the primary's last heartbeat said. */
  get lastBeat(): { readonly lagMs: number; readonly inSync: boolean; readonly verified: boolean } | null {
    return this.#lastBeat;
  }

  lost(): void {
    this.#receiver.stop();
    this.#verify.stop();
    this.#target.forgetLink();
  }

  onBeat(): void {
    this.#receiver.onBeat();
  }

  onForked(forkId: string, seq: number): void {
    this.#verify.onForked(forkId, seq);
  }

  /** False: a frame that does not belong here. */
  onFrame(frame: Frame, payload: Uint8Array): boolean {
    switch (frame.kind) {
      case "records":
        this.#receiver.onRecords(frame, payload);
        return true;
      case "chunk":
        this.#receiver.onChunk(frame, payload);
        return true;
      case "heartbeat":
        this.#lastBeat = { lagMs: frame.lagMs, inSync: frame.inSync, verified: frame.verified };
        this.#receiver.hearCommit(frame.commitSeq);
        return true;
      case "start":
        this.started = true;
        this.#receiver.onStart(frame);
        return true;
      case "resyncStart":
        this.#receiver.await();
        this.#target.prepare({
          id: frame.id,
          lineage: frame.lineage,
          seq: frame.seq,
          ready: () => this.#link.send({ kind: "resyncReady", id: frame.id }),
        });
        return true;
      case "resyncDone":
        this.#target.announce(frame.id, frame.consistentSeq);
        return true;
      case "verifyAsk":
        return this.#verify.onAsk(frame);
      case "verifyEnd":
        this.#verify.onEnd(frame);
        if (frame.equal && frame.finished) this.#target.proven();
        return true;
      default:
        return false;
    }
  }
}
