/**
 * How an ex-primary learns that it is still primary (L4): it asks a peer, and the answer counts only if it comes in time.
 *
 *   primary: ask(nonce) ──▶ golden copy that follows it, or ex-primary that it superseded: answer(nonce) ──▶ primary opens
 *
 * Invariants:
 * - The golden side answers only while it follows, and has heard from the primary at that moment; its takeover listens for
 *   `peerTimeoutMs` from then on. The answer counts only within `peerTimeoutMs` of the question: so an answer that was given
 *   before a takeover is worthless after it.
 * - One peer that knows of a newer primary, or holds what this side has lost, outweighs every confirmation.
 */
import { canConfirm } from "./decide.ts";
import type { GroupCore } from "./group_core.ts";
import { openForHosts } from "./opening.ts";
import type { PeerChannel } from "./peer_channel.ts";

interface Question {
  readonly nonce: number;
  readonly askedMs: number;
}

export class Confirmation {
  readonly #core: GroupCore;
  readonly #asked = new Map<PeerChannel, Question>();

  constructor(core: GroupCore) {
    this.#core = core;
  }

  /** Asks, unless a question is under way; called on meeting, and at every heartbeat. */
  ask(channel: PeerChannel): void {
    const { link, decision, theirs } = channel;
    if (!this.#core.role.is("unconfirmed") || this.#core.cacheLost || !this.#noObjection()) return;
    if (link === null || decision === null || theirs === null || !canConfirm(decision, theirs)) return;
    const nowMs = this.#core.clock.nowMs();
    const asked = this.#asked.get(channel);
    if (asked !== undefined && nowMs - asked.askedMs < this.#core.settings.peerTimeoutMs) return;
    const bytes = this.#core.port.entropy.fill(new Uint8Array(4));
    const nonce = new DataView(bytes.buffer).getUint32(0, true);
    this.#asked.set(channel, { nonce, askedMs: nowMs });
    link.send({ kind: "confirm", nonce });
  }

  forget(channel: PeerChannel): void {
    this.#asked.delete(channel);
  }

  onConfirmed(channel: PeerChannel, nonce: number): void {
    const asked = this.#asked.get(channel);
    if (asked === undefined || asked.nonce !== nonce) return;
    this.#asked.delete(channel);
    const inTime = this.#core.clock.nowMs() - asked.askedMs < this.#core.settings.peerTimeoutMs;
    if (!inTime || !this.#core.role.is("unconfirmed") || !this.#noObjection()) return;
    this.#core.emit("primary-confirmed", `${channel.array} confirms that ${this.#core.port.array} is primary`, {
      peer: channel.array,
    });
    if (this.#core.role.to("opening")) openForHosts(this.#core, `confirmed by ${channel.array}`, "go-on", () => {});
  }

  /** The other side asks whether it is primary. */
  answer(channel: PeerChannel, nonce: number): void {
    const { role, keeper } = this.#core;
    const { link, decision } = channel;
    if (link === null) return;
    const follows =
      role.is("following") && decision?.kind === "follow" && this.#core.document.primary === channel.array;
    const gaveWay = role.is("unconfirmed") && decision?.kind === "superseded";
    if (!follows && !gaveWay) return;
    const reply = () => {
      if (channel.link === link && role.is("following", "unconfirmed")) link.send({ kind: "confirmed", nonce });
    };
    // Its word that nothing follows ends here: from the answer on it may write.
    if (this.#core.document.closed === null) reply();
    else keeper.change((document) => ({ ...document, closed: null }), reply);
  }

  #noObjection(): boolean {
    for (const { decision } of this.#core.channels) {
      if (decision === null) continue;
      if (decision.kind === "superseded" || decision.kind === "diverged" || decision.kind === "grantTaken")
        return false;
      if (decision.kind === "idle" && (decision.reason === "peer-ahead" || decision.reason === "follows-other"))
        return false;
    }
    return true;
  }
}
