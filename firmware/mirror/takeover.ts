/**
 * The unplanned move of the primary role (L3), on the word of an operator, at the golden side.
 *
 *   following ─▶ listening (until peerTimeoutMs of silence; a living primary ends it: refused) ─▶ promoting ─▶ durable role ─▶ opening
 *   --fork: promoting ─▶ durable "promotion" ─▶ fork becomes the head ─▶ log reset to it ─▶ durable role ─▶ opening
 *   --force on a mixture: promoting ─▶ everything home ─▶ log reset to the kept fork's position ─▶ durable role ─▶ opening
 *
 * Invariants:
 * - Every contiguous durable record is kept, also beyond the last heard commitSeq: the opening commits it before hosts write.
 * - What other copies lack is retained from the opening on: change tracking starts before the first host write.
 * - A mixture is no prefix of anybody's log: it claims the position of what was kept before it, not the one that the resync was going
 *   to reach, so that whoever holds more keeps that as a salvage set; and every peer is sent everything, whatever its position.
 * - `loss: none` only when the primary said, in an orderly stop, that nothing lies behind what is here, that only this side can
 *   confirm it, and has not been heard since. Everything else is `possible`; what is not known is null.
 * - Only a primary that streams says how far this side is behind; one that has lost its log answers, but cannot know.
 */
import { done, type Result, type TakeoverJson } from "../manage/control.ts";
import { relate } from "./decide.ts";
import { consistentImage, type KeptFork, type PeerEntry, peerEntry, type ReplicationDocument } from "./document.ts";
import { currentTimeline, newId } from "./group_context.ts";
import { type GroupCore, refuse } from "./group_core.ts";
import { type Opened, openForHosts } from "./opening.ts";
import { whyNotWritable } from "./why.ts";

export interface TakeoverOptions {
  readonly force: boolean;
  readonly fork: boolean;
  readonly timeoutMs: number;
}

type Loss = Pick<TakeoverJson, "loss" | "maybeLostSeqs" | "maybeLostBytes" | "maybeLostMs">;

export class Takeover {
  readonly #core: GroupCore;
  /** Since when; null: not listening. */
  #listeningSinceMs: number | null = null;
  #lastFrameMs: number | null = null;
  #isAlive = false;

  constructor(core: GroupCore) {
    this.#core = core;
  }

  /** A frame of the array that we follow, which is primary. */
  onPrimaryHeard(): void {
    if (this.#listeningSinceMs === null) return;
    const nowMs = this.#core.clock.nowMs();
    this.#lastFrameMs = nowMs;
    // What a primary sent before it died is heard at once; what is heard after two heartbeats comes from a living one.
    if (nowMs - this.#listeningSinceMs >= 2 * this.#core.settings.heartbeatMs) this.#isAlive = true;
  }

  async run(options: TakeoverOptions): Promise<Result<TakeoverJson>> {
    const core = this.#core;
    if (core.document.role === "primary" && !core.role.is("promoting")) return this.#isPrimaryHere();
    if (core.operation !== null) return refuse("busy", `a ${core.operation.kind} of ${core.port.name} is under way`);
    if (!core.role.is("following")) return refuse("busy", `the role of ${core.port.name} is changing`);
    const unfit = this.#whyUnfit(options);
    if (unfit !== null) return unfit;
    core.operation = { kind: "takeover", peer: core.document.primary };
    const result = await this.#takeOver(options);
    core.operation = null;
    return result;
  }

  #isPrimaryHere(): Result<TakeoverJson> {
    const { role, port } = this.#core;
    if (role.is("unconfirmed", "granting")) {
      const why = whyNotWritable(this.#core);
      return refuse("not-writable", `${port.array} is no golden copy of ${port.name}, but was its primary: ${why}`);
    }
    const timeline = currentTimeline(this.#core.log);
    const nothing = { maybeLostSeqs: 0, maybeLostBytes: 0, maybeLostMs: 0 };
    return done({ changed: false, timeline, forkSeq: null, loss: "none", ...nothing });
  }

  #whyUnfit(options: TakeoverOptions): Result<TakeoverJson> | null {
    const { document, port, resyncTarget } = this.#core;
    // Its last step empties the log: it must not come after the promotion.
    if (resyncTarget.busy) return refuse("busy", "a resync is just beginning; try again");
    if (document.image.kind === "consistent") {
      if (options.fork && document.keptFork === null) return refuse("no-fork", `${port.name} has no kept fork`);
      return null;
    }
    if (options.fork) {
      return document.image.fork === null
        ? refuse("no-fork", `${port.name} was empty before the resync: no fork was kept`)
        : null;
    }
    if (options.force) return null;
    const kept = document.image.fork;
    const advice =
      kept === null
        ? "nothing older was kept"
        : `--fork promotes what it was at seq ${kept.seq}, --force the mixture as it is`;
    return refuse("inconsistent", `${port.name} is a mixture until its resync has ended; ${advice}`);
  }

  async #takeOver(options: TakeoverOptions): Promise<Result<TakeoverJson>> {
    const core = this.#core;
    const { port } = core;
    const former = core.document.primary;
    if (!options.force && (await this.#primaryAnswers()) && !this.#primaryHasLost()) {
      return refuse(
        "primary-reachable",
        `${former} answers; move the role with: goldcopy group migrate ${port.name} --to ${port.array}, or add --force`,
      );
    }
    if (!core.role.is("following") || core.document.primary !== former) {
      return refuse("busy", `the role of ${port.name} changed meanwhile`);
    }
    const unfit = this.#whyUnfit(options);
    if (unfit !== null) return unfit;
    const loss = this.#lossNow(options);
    const promotingMs = core.clock.nowMs();
    core.role.to("promoting");
    core.refreshServing();
    core.meetAnew("a takeover has begun");
    const fork = options.fork ? this.#forkToPromote() : null;
    const kept = fork === null ? null : await this.#promoteFork(fork);
    if (fork !== null && kept === null) return refuse("failed", "the fork could not be promoted; see the log");
    if (fork === null && !(await this.#settleMixture()))
      return refuse("failed", "the mixture could not be brought home; see the log");
    const opened = await this.#become(former, options);
    // "So long ago" counts from the answer, also when the shelf took its time meanwhile.
    const sinceMs = Math.ceil(core.clock.nowMs() - promotingMs);
    const maybeLostMs =
      loss.maybeLostMs === null || loss.loss === "none" ? loss.maybeLostMs : loss.maybeLostMs + sinceMs;
    return done({ changed: true, timeline: opened.timeline, forkSeq: opened.firstSeq - 1, ...loss, maybeLostMs });
  }

  /** Listens until it has been silent for `peerTimeoutMs`, and calls it besides: it may be waiting between two attempts. */
  async #primaryAnswers(): Promise<boolean> {
    const core = this.#core;
    const { clock, settings } = core;
    const channel = core.document.primary === null ? null : core.channelTo(core.document.primary);
    const sinceMs = clock.nowMs();
    this.#listeningSinceMs = sinceMs;
    this.#lastFrameMs = null;
    this.#isAlive = false;
    if (channel !== null && !channel.connected) channel.dialling?.hurry();
    for (;;) {
      const silentSinceMs: number = this.#lastFrameMs ?? sinceMs;
      const leftMs = silentSinceMs + settings.peerTimeoutMs - clock.nowMs();
      if (this.#isAlive || leftMs <= 0) break;
      await core.until(() => this.#isAlive, leftMs);
    }
    this.#listeningSinceMs = null;
    if (channel !== null && !channel.connected) channel.dialling?.stop();
    return this.#isAlive;
  }

  /**
   * The primary answers, but says itself that it cannot go on: it is not writable, and has lost its cache or what is acknowledged
   * and held here. No peer will confirm it; only this copy can.
   */
  #primaryHasLost(): boolean {
    const { document, log } = this.#core;
    const channel = document.primary === null ? null : this.#core.channel(document.primary);
    const theirs = channel?.theirs ?? null;
    if (theirs === null || theirs.writable) return false;
    // It has streamed since: what it said on meeting is old, and what is held beyond that came from there.
    if (channel?.inbound?.started === true) return false;
    if (!theirs.consistent) return true;
    const relation = relate({ lineage: log.lineage(), headSeq: log.headSeq }, theirs);
    return (
      relation !== null && !relation.theirsContinues && relation.oursBeyond > 0 && relation.forkSeq < log.commitSeq
    );
  }

  #forkToPromote(): KeptFork | null {
    const { image, keptFork } = this.#core.document;
    return image.kind === "inconsistent" ? image.fork : keptFork;
  }

  #promoteFork(fork: KeptFork): Promise<KeptFork | null> {
    const core = this.#core;
    return new Promise((resolve) => {
      core.changeRole(
        (document) => ({ ...document, promotion: fork }),
        () => finishPromotion(core, fork, (promoted) => resolve(promoted ? fork : null)),
      );
    });
  }

  /** True at once for a consistent image, and for one that only a lost cache has mixed: that one's position is its own. */
  #settleMixture(): Promise<boolean> {
    const core = this.#core;
    const { port } = core;
    const { image } = core.document;
    if (image.kind === "consistent" || image.resyncId === null) return Promise.resolve(true);
    const { lineage, seq } = image.fork ?? { lineage: [], seq: 0 };
    return new Promise((resolve) => {
      const settled = (error: { readonly text: string } | null) => {
        if (error !== null) core.fail(`the mixture could not be brought home: ${error.text}`);
        resolve(error === null);
      };
      port.drainToHome((drainError) => {
        if (drainError !== null) settled(drainError);
        else port.resetLog({ lineage, seq }, settled);
      });
    });
  }

  /** The last records may be on their way into the cache still: the links have ended, so the head is where the new timeline begins. */
  #become(former: string | null, options: TakeoverOptions): Promise<Opened> {
    const core = this.#core;
    const { port, log } = core;
    return new Promise((resolve) => {
      core.changeRole(
        (document) => asPrimary(document, former, log.headSeq, log.destagedSeq),
        () => {
          core.emit(
            options.force ? "takeover-forced" : "takeover",
            `${port.array} takes over ${port.name} from ${former ?? "nobody"} at seq ${log.headSeq}`,
            { from: former, seq: log.headSeq, force: options.force, fork: options.fork },
          );
          core.settleOutbounds();
          if (!core.role.to("opening")) return;
          openForHosts(core, "taken over", "meet-anew", resolve);
        },
      );
    });
  }

  #lossNow(options: TakeoverOptions): Loss {
    const { document, log } = this.#core;
    const { closed } = document;
    const proven =
      closed !== null &&
      !options.fork &&
      document.image.kind === "consistent" &&
      closed.seq === log.persistedSeq &&
      closed.timeline === currentTimeline(log);
    if (proven) return { loss: "none", maybeLostSeqs: 0, maybeLostBytes: 0, maybeLostMs: 0 };
    return { loss: "possible", maybeLostSeqs: null, maybeLostBytes: null, maybeLostMs: this.#maybeLostMs(options) };
  }

  /**
   * How long ago the oldest write that may be lost was written at the latest: counted from the last word of a primary that streamed,
   * else from the newest record committed here, because what is lost came after it. A fork or a mixture has no such record.
   */
  #maybeLostMs(options: TakeoverOptions): number | null {
    const { document, log, clock } = this.#core;
    if (options.fork || document.image.kind === "inconsistent") return null;
    const lastLag = document.primary === null ? null : (this.#core.channel(document.primary)?.lastLag ?? null);
    if (lastLag !== null) return Math.round(clock.nowMs() - lastLag.heardMs + lastLag.lagMs);
    const wallMs = log.commitWallMs;
    return wallMs === null ? null : Math.max(0, Math.round(clock.wallMs() - wallMs));
  }
}

/** Everything that follows the durable word "promotion"; repeated whole after a crash. */
export function finishPromotion(core: GroupCore, fork: KeptFork, done: (promoted: boolean) => void): void {
  const { port } = core;
  // The mixture is kept aside once; a repeated promotion has nothing worth keeping.
  const keepAs = `replaced-${newId(core)}`;
  const first = !port.forks().some((candidate) => candidate.id.startsWith("replaced-"));
  port.promoteFork(fork.id, first ? keepAs : null, (error) => {
    if (error !== null) {
      core.fail(`the kept fork could not be promoted: ${error.text}`);
      done(false);
      return;
    }
    port.resetLog({ lineage: fork.lineage, seq: fork.seq }, (resetError) => {
      if (resetError !== null) core.fail(`the log could not be reset to the promoted fork: ${resetError.text}`);
      done(resetError === null);
    });
  });
}

/** The document of a golden copy that becomes primary without its former primary's word. */
export function asPrimary(
  document: ReplicationDocument,
  former: string | null,
  headSeq: number,
  destagedSeq: number,
): ReplicationDocument {
  // A fork that was promoted is consistent, whatever it replaces.
  const isMixture = document.image.kind === "inconsistent" && document.promotion === null;
  const resync: PeerEntry["resync"] = isMixture ? { what: "everything", id: null, volumes: [] } : null;
  const replicas = document.peers.map((peer) => ({
    ...peerEntry(peer.array, peer.mode, peer.array === former ? headSeq : Math.min(destagedSeq, headSeq)),
    resync,
  }));
  const known = former === null || replicas.some((peer) => peer.array === former);
  return {
    ...document,
    role: "primary",
    primary: null,
    peers: known ? replicas : [...replicas, { ...peerEntry(former, "async", headSeq), resync }],
    image: consistentImage,
    promotion: null,
    grant: null,
    closed: null,
    wantsResync: false,
  };
}
