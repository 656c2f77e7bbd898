/**
 * The planned move of the primary role (L2).
 *
 *   old primary: serving ─▶ holding (writes wait) ─▶ drained: everything committed, and durable there
 *                   ▲            │ timeout, cancelled, link lost: writes go on                │
 *                   └────────────┘                                                            ▼
 *                golden copy of the new one ◀──accepted── granting: closed, grant durable, sent, sent again on every meeting
 *                opens again (new timeline) ◀──declined──┘
 *
 *   new primary: grant ─▶ is everything here? ─no─▶ declined
 *                                             ─yes─▶ durable role and grant id ─▶ opens ─▶ accepted
 *
 * Invariants:
 * - The grant is durable, and this side closed, before it is sent; from then on only an answer (or `serve --alone`) opens it.
 * - A grant is accepted at most once, by its id; the accepting side says so in every hello, so a lost answer is made good.
 * - A grant is declined only on the one live link of the pair: no copy of it can arrive later.
 */
import { done, type MigrateJson, type Result } from "../manage/control.ts";
import type { FrameOf } from "../peer/frame.ts";
import { lostImage, peerEntry } from "./document.ts";
import { currentTimeline, newId } from "./group_context.ts";
import { type GroupCore, refuse } from "./group_core.ts";
import { openForHosts } from "./opening.ts";
import type { PeerChannel } from "./peer_channel.ts";

export class Migration {
  readonly #core: GroupCore;
  #cancelled = false;
  #declined: string | null = null;
  #grantedTimeline: string | null = null;

  constructor(core: GroupCore) {
    this.#core = core;
  }

  /** At the primary. Writes are held at most `timeoutMs`; the answer to the grant is waited for as long again. */
  async migrate(to: string, timeoutMs: number): Promise<Result<MigrateJson>> {
    const core = this.#core;
    if (to === core.port.array && core.role.is("serving")) {
      return done({ changed: false, primary: to, timeline: currentTimeline(core.log), heldMs: null });
    }
    if (core.document.role !== "primary") {
      const { primary } = core.document;
      if (primary === to)
        return done({ changed: false, primary: to, timeline: currentTimeline(core.log), heldMs: null });
      return refuse("not-primary", `${core.port.array} is a golden copy; run this at ${primary ?? "the primary"}`);
    }
    if (core.operation !== null) return refuse("busy", `a ${core.operation.kind} of ${core.port.name} is under way`);
    if (!core.role.is("serving")) return refuse("not-writable", `${core.port.name} is not in force as primary here`);
    const channel = core.channel(to);
    if (channel === null || core.entry(to) === null) {
      return refuse("not-found", `${core.port.name} does not replicate to ${to}`);
    }
    const outbound = channel.outbound;
    if (outbound?.streaming !== true) return refuse("not-connected", `${to} is not connected, or not following`);
    if (outbound.resyncing) return refuse("busy", `${to} is being resynced; wait until it is in-sync`);
    core.operation = { kind: "migrate", peer: to };
    const result = await this.#drainAndGrant(channel, timeoutMs);
    core.operation = null;
    return result;
  }

  /** Effective until the grant is durable. */
  cancel(): boolean {
    if (this.#core.operation?.kind !== "migrate" || !this.#core.role.is("serving")) return false;
    this.#cancelled = true;
    return true;
  }

  async #drainAndGrant(channel: PeerChannel, timeoutMs: number): Promise<Result<MigrateJson>> {
    const core = this.#core;
    const { port, log } = core;
    const heldFromMs = core.clock.nowMs();
    this.#cancelled = false;
    this.#declined = null;
    this.#grantedTimeline = null;
    port.holdWrites();
    const ended = () => this.#cancelled || !core.role.is("serving") || channel.outbound?.streaming !== true;
    await core.until(() => ended() || channel.outbound?.hasEverything === true, timeoutMs);
    if (!core.role.is("serving")) {
      port.releaseWrites();
      return refuse("not-writable", `${port.name} ceased to be primary here`);
    }
    if (ended() || channel.outbound?.hasEverything !== true) {
      port.releaseWrites();
      const missing = log.headSeq - (channel.outbound?.receivedSeq ?? 0);
      const cause = this.#cancelled
        ? "it was cancelled"
        : `${channel.array} still lacked ${missing} records after ${timeoutMs} ms`;
      core.emit("migrate-given-up", `${port.name} stays on ${port.array}: ${cause}`, { peer: channel.array });
      return refuse("not-drained", `${cause}; hosts go on writing at ${port.array}`);
    }
    const grant = { id: newId(core), to: channel.array, timeline: currentTimeline(log), seq: log.headSeq };
    port.closeForWriting();
    core.role.to("granting");
    core.refreshServing();
    core.changeRole(
      (document) => ({ ...document, grant }),
      () => {
        port.releaseWrites();
        core.emit("role-granted", `the primary role of ${port.name} is given to ${channel.array} at seq ${grant.seq}`, {
          peer: channel.array,
          seq: grant.seq,
        });
        this.offer(channel);
      },
    );
    const answered = await core.until(
      () => !core.role.is("granting"),
      Math.max(timeoutMs, core.settings.peerTimeoutMs),
    );
    if (core.role.is("following")) {
      const timeline = this.#grantedTimeline ?? channel.theirs?.lineage.at(-1)?.timeline ?? currentTimeline(log);
      return done({
        changed: true,
        primary: channel.array,
        timeline,
        heldMs: Math.round(core.clock.nowMs() - heldFromMs),
      });
    }
    if (!answered) return refuse("timeout", `${channel.array} has not answered yet; the move goes on when it does`);
    return refuse("not-drained", `${channel.array} declined: ${this.#declined ?? "no reason given"}`);
  }

  /** Sends the pending grant on this link. */
  offer(channel: PeerChannel): void {
    const { grant } = this.#core.document;
    if (grant === null || grant.to !== channel.array || !this.#core.role.is("granting")) return;
    channel.link?.send({ kind: "grant", id: grant.id, timeline: grant.timeline, seq: grant.seq });
  }

  /** The other side has become primary by our grant. */
  taken(channel: PeerChannel, timeline: string | null): void {
    const core = this.#core;
    const { grant } = core.document;
    if (grant === null || grant.to !== channel.array || !core.role.is("granting")) return;
    this.#grantedTimeline = timeline;
    if (core.cacheLost) core.port.acceptCacheLoss();
    core.changeRole(
      (document) => ({
        ...document,
        role: "golden",
        primary: grant.to,
        grant: null,
        image: core.cacheLost ? lostImage : document.image,
      }),
      () => {
        if (!core.role.to("following")) return;
        // From here on the document says what the image is.
        core.cacheLost = false;
        core.port.followPrimary();
        core.settleOutbounds();
        core.refreshServing();
        core.emit("role-moved", `${grant.to} is primary of ${core.port.name}; ${core.port.array} is its golden copy`, {
          primary: grant.to,
        });
        core.meetAnew("the role has moved");
      },
    );
  }

  onAnswer(channel: PeerChannel, answer: FrameOf<"grantAnswer">): void {
    const core = this.#core;
    const { grant } = core.document;
    if (grant === null || grant.id !== answer.id || grant.to !== channel.array || !core.role.is("granting")) return;
    if (answer.accepted) {
      this.taken(channel, answer.timeline);
      return;
    }
    this.#declined = answer.text;
    core.changeRole(
      (document) => ({ ...document, grant: null }),
      () => {
        core.emit("grant-declined", `${channel.array} declined the primary role of ${core.port.name}: ${answer.text}`, {
          peer: channel.array,
        });
        if (core.role.to("opening")) openForHosts(core, "the role was declined", "go-on", () => {});
      },
    );
  }

  /** At the golden side: the primary gives its role away. */
  onGrant(channel: PeerChannel, grant: FrameOf<"grant">): void {
    const core = this.#core;
    const { port, log, document } = core;
    const { link } = channel;
    if (link === null) return;
    if (document.acceptedGrant === grant.id) {
      link.send({ kind: "grantAnswer", id: grant.id, accepted: true, text: "", timeline: currentTimeline(log) });
      return;
    }
    // Who does not follow the giver must not decline: it may have accepted before, and moved on since.
    if (document.role !== "golden" || document.primary !== channel.array) return;
    const fault = this.#whyNot(channel, grant);
    if (fault !== null) {
      link.send({ kind: "grantAnswer", id: grant.id, accepted: false, text: fault, timeline: null });
      return;
    }
    const givers = channel.theirs?.peers ?? [];
    const mode = givers.find((peer) => peer.array === port.array)?.mode ?? "async";
    const siblings = givers.filter((peer) => peer.array !== port.array && peer.array !== channel.array);
    core.role.to("promoting");
    core.refreshServing();
    // What the giver streams from now on, when an operator has let it go on by itself, is no part of this log.
    channel.endInbound();
    core.changeRole(
      (current) => ({
        ...current,
        role: "primary",
        primary: null,
        acceptedGrant: grant.id,
        closed: null,
        peers: [
          peerEntry(channel.array, mode, grant.seq),
          ...siblings.map((peer) => peerEntry(peer.array, peer.mode, Math.min(log.destagedSeq, grant.seq))),
        ],
      }),
      () => {
        core.emit("role-accepted", `${port.array} becomes primary of ${port.name} at seq ${grant.seq}`, {
          from: channel.array,
          seq: grant.seq,
        });
        core.settleOutbounds();
        if (!core.role.to("opening")) return;
        openForHosts(core, `the role was given by ${channel.array}`, "meet-anew", ({ timeline }) => {
          if (channel.link === link) {
            link.send({ kind: "grantAnswer", id: grant.id, accepted: true, text: "", timeline });
          }
        });
      },
    );
  }

  #whyNot(channel: PeerChannel, grant: FrameOf<"grant">): string | null {
    const { role, document, log, port, resyncTarget } = this.#core;
    if (!role.is("following") || document.primary !== channel.array)
      return `${port.array} does not follow ${channel.array}`;
    if (document.image.kind !== "consistent" || document.wantsResync || resyncTarget.busy)
      return "its image is not consistent";
    if (log.persistedSeq !== grant.seq || log.headSeq !== grant.seq)
      return `it holds ${log.persistedSeq}, not ${grant.seq}`;
    if (currentTimeline(log) !== grant.timeline) return "it is on another timeline";
    return null;
  }
}
