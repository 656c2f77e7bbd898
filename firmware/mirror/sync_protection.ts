/**
 * Synchronous protection by one peer: when commitSeq waits for it, and when it stops waiting.
 *
 *   off ◀──setMode──▶ unprotected ──caught up──▶ arming ──all is there──▶ recording ──durable "armed"──▶ armed
 *                         ▲                        │ link lost, no ack in time  │                          │
 *                         ├────────────────────────┘                            ▼                          ▼
 *                         └──◀── suspending: durable "suspended", hosts wait ◀── link lost, no ack in time ─┘
 *
 * Invariants (D4):
 * - Arming: commitSeq waits for the peer before "armed" is durable, and the state is shown only then.
 * - Suspending: "suspended" is durable, and an event, before commitSeq stops waiting: no acknowledgement is unprotected unseen.
 * - After a restart the durable word says what was promised; the primary's opening resolves it before the first host write.
 */
import { assert } from "../codec/assert.ts";
import { type PeerEntry, withPeer } from "./document.ts";
import type { GroupContext } from "./group_context.ts";
import type { Sender } from "./sender.ts";

export type ProtectionState = "off" | "unprotected" | "arming" | "recording" | "armed" | "suspending";

/** Less than this behind counts as caught up: what hosts then wait for at most. */
const nearBytes = 1024 * 1024;

export class SyncProtection {
  readonly #context: GroupContext;
  readonly #peer: string;
  #state: ProtectionState = "off";
  #sender: Sender | null = null;
  /** Everything admitted when arming began. */
  #armingSeq = 0;
  #armNotBeforeMs = 0;
  #afterSuspension: (() => void)[] = [];

  constructor(context: GroupContext, peer: string) {
    this.#context = context;
    this.#peer = peer;
    this.#state = this.#wanted() ? "unprotected" : "off";
  }

  get state(): ProtectionState {
    return this.#state;
  }

  #entry() {
    return this.#context.keeper.current.peers.find((peer) => peer.array === this.#peer) ?? null;
  }

  #wanted(): boolean {
    return this.#entry()?.mode === "sync";
  }

  /**
   * At the opening for writing, behind everything old: a peer that was armed stays armed if it is connected at `receivedSeq`.
   * Called before the first host write.
   */
  resume(receivedSeq: number | null): void {
    if (this.#entry()?.protection !== "armed" || this.#state === "armed") return;
    assert(receivedSeq !== null, "an armed peer that is away was suspended before the opening");
    this.#state = "armed";
    this.#context.log.require(this.#peer, receivedSeq);
  }

  attach(sender: Sender): void {
    this.#sender = sender;
    sender.sendsAhead = this.isWaitedFor;
    this.consider();
  }

  /** The link is gone. */
  detach(): void {
    this.#sender = null;
    this.#giveUp("the link is lost");
  }

  /** An acknowledgement has come, records were admitted, or time has passed. */
  consider(): void {
    const sender = this.#sender;
    const log = this.#context.log;
    const entry = this.#entry();
    if (sender === null || entry === null) return;
    if (this.#state === "unprotected") {
      const near = log.commitSeq <= sender.receivedSeq || log.bytesAfter(sender.receivedSeq) < nearBytes;
      const allowed = entry.resync === null && !entry.unverified && this.#context.clock.nowMs() >= this.#armNotBeforeMs;
      if (near && allowed && this.#wanted()) this.#arm(sender);
    }
    if (this.isWaitedFor) log.require(this.#peer, sender.receivedSeq);
    if (this.#state === "arming" && sender.receivedSeq >= this.#armingSeq) this.#record();
  }

  /** Called at every heartbeat: an acknowledgement that does not come suspends the protection. */
  checkTime(): void {
    const waitingSinceMs = this.#sender?.waitingSinceMs ?? null;
    if (waitingSinceMs !== null) {
      const waitedMs = this.#context.clock.nowMs() - waitingSinceMs;
      if (waitedMs >= this.#context.settings.syncTimeoutMs && this.isWaitedFor) {
        this.#armNotBeforeMs = this.#context.clock.nowMs() + 5 * this.#context.settings.syncTimeoutMs;
        this.#giveUp(`no acknowledgement for ${Math.round(waitedMs)} ms`);
      }
    }
    this.consider();
  }

  /** The mode in the document has changed (it is durable). */
  modeChanged(done: () => void): void {
    if (this.#wanted()) {
      if (this.#state === "off") this.#state = "unprotected";
      this.#armNotBeforeMs = 0;
      this.consider();
      done();
      return;
    }
    if (this.#state === "suspending") {
      this.#afterSuspension.push(done);
      return;
    }
    this.#state = "off";
    this.#release();
    done();
  }

  /** The group is no longer written here, or the peer is gone: nothing waits for it. */
  end(): void {
    this.#state = this.#wanted() ? "unprotected" : "off";
    this.#sender = null;
    this.#context.log.require(this.#peer, null);
  }

  /** commitSeq waits for this peer. */
  get isWaitedFor(): boolean {
    return this.#state === "arming" || this.#state === "recording" || this.#state === "armed";
  }

  #arm(sender: Sender): void {
    this.#state = "arming";
    this.#armingSeq = this.#context.log.headSeq;
    this.#context.log.require(this.#peer, sender.receivedSeq);
    sender.sendsAhead = true;
    sender.pumpSoon();
  }

  #record(): void {
    this.#state = "recording";
    this.#context.keeper.change(
      (document) => withPeer(document, this.#peer, (entry) => ({ ...entry, protection: "armed" })),
      () => {
        if (this.#state !== "recording") return;
        this.#state = "armed";
        this.#context.emit("sync-protected", `writes are acknowledged only when ${this.#peer} has them`, {
          peer: this.#peer,
        });
      },
    );
  }

  #giveUp(cause: string): void {
    if (this.#state === "arming") {
      this.#state = "unprotected";
      this.#release();
      return;
    }
    if (this.#state !== "armed" && this.#state !== "recording") return;
    this.#state = "suspending";
    this.#context.keeper.change(
      (document) => withPeer(document, this.#peer, (entry) => ({ ...entry, protection: "suspended" })),
      () => {
        if (this.#state !== "suspending") return;
        this.#context.emit("sync-suspended", `writes are no longer protected by ${this.#peer}: ${cause}`, {
          peer: this.#peer,
        });
        this.#state = this.#wanted() ? "unprotected" : "off";
        this.#release();
        for (const done of this.#afterSuspension.splice(0)) done();
        this.consider();
      },
    );
  }

  #release(): void {
    if (this.#sender !== null) this.#sender.sendsAhead = false;
    this.#context.log.require(this.#peer, null);
  }
}

/** What an operator's change of mode makes of an entry. */
export function protectionFor(mode: "sync" | "async"): PeerEntry["protection"] {
  return mode === "sync" ? "suspended" : "none";
}
