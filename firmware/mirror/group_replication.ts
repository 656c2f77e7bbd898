/**
 * Replication and role of one consistency group on this array: joins document, log, peers and role operations.
 *
 * What happens to it: the host hands in links and frames arrive (`offer`, channels), the log moves (`#logMoved`), an operator
 * commands (`GroupCommands`). Every path ends in `changed`, which wakes whoever waits for a condition.
 *
 * Invariants:
 * - A primary has an `Outbound` per peer of its document; a golden copy has none, and an `Inbound` on the link to its primary.
 * - What is said in a hello is durable; a hello said before a change of role is worthless after it (`#epoch`).
 */

import { assert } from "../codec/assert.ts";
import type { EventFields } from "../manage/events.ts";
import type { Hello } from "../peer/frame.ts";
import type { Link } from "../peer/link.ts";
import type { LinkHost } from "../peer/link_host.ts";
import type { GroupPort, Serving } from "../volume/group_port.ts";
import { Confirmation } from "./confirmation.ts";
import { emptyDocument, type PeerEntry, type ReplicationDocument, withCacheLost, withPeer } from "./document.ts";
import { DocumentKeeper } from "./document_keeper.ts";
import { takeFrame } from "./frame_dispatch.ts";
import { GroupCommands } from "./group_commands.ts";
import type { GroupCore, OperationKind } from "./group_core.ts";
import { type GroupReplicationStatus, statusOf } from "./group_status.ts";
import { helloOf } from "./hello_of.ts";
import { StreamFaults } from "./inbound.ts";
import { meet } from "./meeting.ts";
import { Migration } from "./migration.ts";
import { openForHosts } from "./opening.ts";
import { Outbound } from "./outbound.ts";
import { PeerChannel } from "./peer_channel.ts";
import { lagMsOf } from "./peer_status.ts";
import { ResyncCommand } from "./resync_command.ts";
import { keptForkPrefix, ResyncTarget } from "./resync_target.ts";
import { RoleMachine } from "./role_state.ts";
import { asPrimary, finishPromotion, Takeover } from "./takeover.ts";
import { verifyForkPrefix } from "./verify_source.ts";
import { whyNotWritable } from "./why.ts";

interface Waiter {
  readonly holds: () => boolean;
  readonly wake: (held: boolean) => void;
}

/** The longest that one timer takes: 2^31 - 1 ms, 24 days. */
const waitMsMax = 2147483647;

/** An idle sync peer hears the newest commitSeq so soon. */
const commitTellMs = 5;

export class GroupReplication implements GroupCore {
  readonly port: GroupPort;
  readonly host: LinkHost;
  readonly keeper: DocumentKeeper;
  readonly role: RoleMachine;
  readonly resyncTarget: ResyncTarget;
  readonly faults = new StreamFaults();
  readonly confirmation: Confirmation;
  readonly migration: Migration;
  readonly takeover: Takeover;
  readonly resyncCommand: ResyncCommand;
  readonly commands: GroupCommands;
  cacheLost: boolean;
  failure: string | null = null;
  operation: { readonly kind: OperationKind; readonly peer: string | null } | null = null;
  readonly #channels = new Map<string, PeerChannel>();
  readonly #waiters = new Set<Waiter>();
  #wakeQueued = false;
  #epoch = 0;
  /** Changes of role that are not durable yet. */
  #roleChanges = 0;
  #commitTellQueued = false;
  #startedMs = 0;
  readonly #unreadable: boolean;

  constructor(port: GroupPort, host: LinkHost) {
    this.port = port;
    this.cacheLost = port.cacheWasLost;
    this.host = host;
    const onFailed = (error: { readonly text: string }) =>
      this.fail(`the replication document could not be saved: ${error.text}`);
    const keeper = DocumentKeeper.open(port, onFailed);
    this.#unreadable = keeper === null;
    this.keeper = keeper ?? new DocumentKeeper(port, emptyDocument(), onFailed);
    this.role = new RoleMachine(() => this.changed());
    this.resyncTarget = new ResyncTarget(this, {
      onImageChanged: () => {
        this.refreshServing();
        this.changed();
      },
      onFailed: (text) => this.fail(text),
    });
    this.confirmation = new Confirmation(this);
    this.migration = new Migration(this);
    this.takeover = new Takeover(this);
    this.resyncCommand = new ResyncCommand(this);
    this.commands = new GroupCommands(this);
    this.#listen();
  }

  get log() {
    return this.port.log;
  }

  get clock() {
    return this.port.clock;
  }

  get settings() {
    return this.host.settings;
  }

  get document(): ReplicationDocument {
    return this.keeper.current;
  }

  get channels(): Iterable<PeerChannel> {
    return this.#channels.values();
  }

  /** Whether the role has been found out after the start, writable or not. */
  get settled(): boolean {
    if (this.role.is("serving", "following", "granting", "failed", "stopped")) return true;
    if (!this.role.is("unconfirmed")) return false;
    const waitedMs = this.clock.nowMs() - this.#startedMs;
    const judged = [...this.#channels.values()].some(
      ({ decision }) =>
        decision !== null && decision.kind !== "stream" && decision.kind !== "resync" && decision.kind !== "supersedes",
    );
    return judged || waitedMs >= 3 * this.settings.peerTimeoutMs;
  }

  status(): GroupReplicationStatus {
    return statusOf(this, this.settled, whyNotWritable(this));
  }

  emit(code: string, text: string, fields: EventFields = {}): void {
    this.port.events.emit(code, text, { group: this.port.name, ...fields });
  }

  /** Decides what this copy is, and starts to talk. Called once. `inherited`: the partner has served it until now (no stop, L4). */
  start(inherited = false): void {
    assert(this.role.is("starting"), "a group starts once");
    this.#startedMs = this.clock.nowMs();
    if (this.#unreadable) {
      this.fail("the replication document cannot be read: it is damaged, or of a newer version");
      return;
    }
    this.#dropStaleForks();
    const { document, port } = this;
    for (const peer of document.peers) this.channelTo(peer.array);
    if (document.primary !== null) this.channelTo(document.primary);
    if (document.promotion !== null) {
      this.#resumePromotion();
      return;
    }
    if (document.role === "golden") {
      port.closeForWriting();
      port.followPrimary();
      this.role.to("following");
      if (this.cacheLost) {
        this.emit("image-inconsistent", "the write cache was lost: the image is a mixture until a resync has ended");
        port.acceptCacheLoss();
        this.keeper.change((current) => ({ ...current, image: withCacheLost(current.image) }));
      }
      // From here on the document says what the image is.
      this.cacheLost = false;
      this.refreshServing();
      return;
    }
    this.settleOutbounds();
    // Only a sync peer's missing acknowledgement can have kept a durable record back.
    const isArmed = document.peers.some((peer) => peer.protection === "armed");
    if (document.grant !== null) {
      this.role.to("granting");
      this.decideOwn();
    } else if (!this.cacheLost && (document.peers.length === 0 || (inherited && !isArmed))) {
      this.role.to("opening");
      openForHosts(this, inherited ? "the partner served it until now" : "it has no peers", "go-on", () => {});
    } else {
      this.role.to("unconfirmed");
      if (!isArmed) this.decideOwn();
    }
    this.refreshServing();
    this.#dialPeers();
  }

  /**
   * Commits what is durable here without opening for writes: what hosts have read before a restart is read again (D3). Not while
   * it is open whether a sync peer lacks some of it, and may have been promoted without.
   */
  decideOwn(): void {
    if (this.cacheLost) return;
    this.port.drainToHome(() => this.refreshServing());
  }

  /** Orderly: peers that have everything are told that nothing follows. */
  async stop(orderly: boolean): Promise<void> {
    if (this.role.is("stopped")) return;
    if (orderly && this.role.is("serving")) await this.#closeInOrder();
    this.role.to("stopped");
    this.refreshServing();
    for (const channel of this.#channels.values()) {
      channel.dialling?.stop();
      channel.link?.send({ kind: "bye", code: "stopping", text: "the appliance is stopping", seq: 0 });
      channel.drop("the appliance is stopping", orderly);
    }
    this.changed();
  }

  async #closeInOrder(): Promise<void> {
    const { port, log } = this;
    port.holdWrites();
    const outbounds = () => [...this.#channels.values()].filter((channel) => channel.outbound?.streaming === true);
    await this.until(
      () => outbounds().every((channel) => channel.outbound?.hasEverything === true),
      this.settings.closeWaitMs,
    );
    if (!this.role.is("serving")) return;
    port.closeForWriting();
    const timeline = log.lineage().at(-1)?.timeline;
    for (const channel of outbounds()) {
      if (channel.outbound?.hasEverything !== true || timeline === undefined) continue;
      const binding = this.document.peers.length === 1;
      channel.link?.send({ kind: "closing", timeline, seq: log.headSeq, binding });
    }
  }

  /** What this group says first; null: not now. */
  hello(): Hello | null {
    if (this.role.is("starting", "promoting", "failed", "stopped") || this.keeper.failed) return null;
    if (this.#roleChanges > 0) return null;
    return helloOf(this, this.host, this.keeper.durable, {
      writable: this.role.is("serving"),
      whyStopped: this.faults.why,
      cacheLost: this.cacheLost,
    });
  }

  /** Whether `array` may connect to this group at all. */
  mayMeet(theirs: Hello): boolean {
    if (this.document.role === "primary") return this.entry(theirs.array) !== null;
    return theirs.array === this.document.primary || theirs.role === "primary" || this.entry(theirs.array) !== null;
  }

  /** A connection of theirs: says hello and takes the link, or says why not. */
  offer(link: Link, theirs: Hello): "taken" | "duplicate" | "busy" | "not-a-peer" {
    if (!this.mayMeet(theirs)) return "not-a-peer";
    const hello = this.hello();
    if (hello === null) return "busy";
    const channel = this.channelTo(theirs.array);
    if (channel.prefersPresent(link, theirs)) return "duplicate";
    link.send(hello);
    channel.take(link, theirs);
    meet(this, channel, hello);
    return "taken";
  }

  channel(array: string): PeerChannel | null {
    return this.#channels.get(array) ?? null;
  }

  channelTo(array: string): PeerChannel {
    const known = this.#channels.get(array);
    if (known !== undefined) return known;
    const channel = new PeerChannel(this.port.array, array, {
      onFrame: (from, frame, payload) => takeFrame(this, from, frame, payload),
      onLost: (lost) => {
        this.confirmation.forget(lost);
        this.emit("peer-lost", `the link to ${array} is gone: ${lost.why}`, { peer: array });
        if (this.#dials(array)) lost.dialling?.start();
        if (array === this.document.primary) this.#lookForPrimary();
        this.changed();
      },
      onBeat: (beating) => this.#onBeat(beating),
    });
    this.#channels.set(array, channel);
    let saidInEpoch = -1;
    channel.dialling = this.host.dialler(array, {
      hello: () => {
        saidInEpoch = this.#epoch;
        return this.hello();
      },
      answered: (link, theirs) => {
        if (saidInEpoch !== this.#epoch || !this.mayMeet(theirs)) return false;
        const hello = this.hello();
        if (hello === null || channel.prefersPresent(link, theirs)) return false;
        channel.take(link, theirs);
        meet(this, channel, hello);
        return true;
      },
      refused: (code, text) => {
        channel.why = text;
        this.host.tellOnce(`${this.port.id} ${array} ${code}`, () =>
          this.emit("peer-refused", `${array} refuses the link of ${this.port.name}: ${text}`, {
            peer: array,
            reason: code,
          }),
        );
      },
    });
    return channel;
  }

  entry(array: string): PeerEntry | null {
    return this.document.peers.find((peer) => peer.array === array) ?? null;
  }

  changeRole(next: (document: ReplicationDocument) => ReplicationDocument, done: () => void): void {
    this.#roleChanges++;
    this.keeper.change(next, () => {
      this.#roleChanges--;
      done();
    });
  }

  meetAnew(text: string, whom: (channel: PeerChannel) => boolean = () => true): void {
    this.#epoch++;
    for (const channel of [...this.#channels.values()].filter(whom)) {
      channel.link?.send({ kind: "bye", code: "role-changed", text, seq: 0 });
      channel.drop(text, true);
      channel.dialling?.stop();
      this.confirmation.forget(channel);
      if (this.#dials(channel.array)) channel.dialling?.start();
    }
    this.changed();
  }

  reconsider(): void {
    for (const channel of this.#channels.values()) {
      const hello = channel.connected ? this.hello() : null;
      if (hello !== null) meet(this, channel, hello);
    }
    this.changed();
  }

  settleOutbounds(): void {
    const wanted = this.document.role === "primary" ? this.document.peers : [];
    for (const channel of this.#channels.values()) {
      if (channel.outbound === null || wanted.some((peer) => peer.array === channel.array)) continue;
      channel.outbound.end();
      channel.outbound = null;
    }
    for (const peer of wanted) {
      const channel = this.channelTo(peer.array);
      if (channel.outbound === null) channel.outbound = new Outbound(this, peer.array, () => this.changed());
      channel.decision = channel.connected ? channel.decision : null;
    }
  }

  /** Peers or modes in the document have changed, durably. */
  peersChanged(): void {
    this.settleOutbounds();
    this.#dialPeers();
    const peers = this.document.peers.map(({ array, mode }) => ({ array, mode }));
    for (const channel of this.#channels.values()) {
      if (channel.outbound?.streaming === true) channel.link?.send({ kind: "peers", peers });
    }
    this.changed();
  }

  /** Removes a peer that is no longer in the document. */
  forgetChannel(array: string): void {
    const channel = this.#channels.get(array);
    if (channel === undefined) return;
    channel.link?.send({
      kind: "bye",
      code: "removed",
      text: `${this.port.name} no longer replicates to ${array}`,
      seq: 0,
    });
    channel.drop("removed", true);
    channel.dialling?.stop();
    channel.outbound?.end();
    channel.outbound = null;
    this.#channels.delete(array);
    this.changed();
  }

  refreshServing(): void {
    const before = this.port.serving();
    const image = this.keeper.shownImage;
    const writable = this.role.is("serving");
    const shown = image.kind === "consistent" ? (this.#headIsDecided() ? "head" : null) : image.fork;
    const readable: Serving["readable"] = shown === null || shown === "head" ? shown : { fork: shown.id };
    const why = whyNotWritable(this);
    const sameView =
      readable === before.readable ||
      (typeof readable === "object" && typeof before.readable === "object" && readable?.fork === before.readable?.fork);
    if (sameView && before.writable === writable && before.why === why) return;
    this.port.setServing({ writable, why, readable });
  }

  /** Whether everything that hosts may have seen before is committed, and nothing is lost. */
  #headIsDecided(): boolean {
    if (this.role.is("starting", "unconfirmed", "granting") && this.document.role === "primary") {
      return !this.cacheLost && this.log.commitSeq >= this.log.persistedSeq;
    }
    return !this.cacheLost;
  }

  until(holds: () => boolean, timeoutMs: number): Promise<boolean> {
    if (holds()) return Promise.resolve(true);
    return new Promise((resolve) => {
      const waiter: Waiter = {
        holds,
        wake: (held) => {
          this.#waiters.delete(waiter);
          timer.cancel();
          resolve(held);
        },
      };
      const timer = this.clock.after(Math.min(timeoutMs, waitMsMax), () => waiter.wake(holds()));
      this.#waiters.add(waiter);
    });
  }

  changed(): void {
    if (this.#waiters.size === 0 || this.#wakeQueued) return;
    this.#wakeQueued = true;
    this.clock.defer(() => {
      this.#wakeQueued = false;
      for (const waiter of [...this.#waiters]) if (waiter.holds()) waiter.wake(true);
    });
  }

  fail(text: string): void {
    if (this.role.is("failed", "stopped")) return;
    this.failure = text;
    this.emit("replication-failed", `${this.port.name} has stopped: ${text}`);
    this.port.closeForWriting();
    this.role.to("failed");
    for (const channel of this.#channels.values()) {
      channel.dialling?.stop();
      channel.link?.send({ kind: "bye", code: "failed", text, seq: 0 });
      channel.drop(text, true);
    }
    this.refreshServing();
  }

  /** The primary is gone: if it stays so, whoever else says to be primary is met anew, and may be the one to follow. */
  #lookForPrimary(): void {
    this.clock.after(this.settings.peerTimeoutMs, () => {
      const { primary } = this.document;
      if (!this.role.is("following") || primary === null || this.channel(primary)?.connected === true) return;
      for (const channel of this.#channels.values()) {
        if (channel.decision?.kind !== "idle") continue;
        channel.link?.send({ kind: "bye", code: "role-changed", text: "the primary is gone", seq: 0 });
        channel.drop("the primary is gone", true);
      }
    });
  }

  #dials(array: string): boolean {
    if (this.role.is("failed", "stopped", "promoting")) return false;
    return this.document.role === "primary" && this.entry(array) !== null;
  }

  #dialPeers(): void {
    for (const channel of this.#channels.values()) {
      if (this.#dials(channel.array) && !channel.connected) channel.dialling?.start();
    }
  }

  #listen(): void {
    const { log, port } = this;
    const logMoved = () => this.#logMoved();
    log.onAdmitted(logMoved);
    log.onCommitted(() => {
      this.#logMoved();
      this.#tellCommitSoon();
    });
    const durable = () => {
      for (const channel of this.#channels.values()) channel.inbound?.receiver.onDurable();
    };
    log.onPersisted(durable);
    log.onDestaged(durable);
    log.onRoom(() => {
      for (const channel of this.#channels.values()) channel.inbound?.receiver.onRoom();
    });
    log.onOverflow((peer) => this.#onOverflow(peer));
    port.onBoundary((boundary) => {
      if (boundary.purpose === "verify") this.#onVerifyBoundary(boundary.id, boundary.seq);
    });
    port.onConsistentAt((mark) => {
      if (mark.peer === port.array && this.document.role === "golden") this.resyncTarget.onMark(mark.seq);
    });
  }

  #logMoved(): void {
    for (const channel of this.#channels.values()) channel.outbound?.onLogMoved();
    this.changed();
  }

  /** Acknowledged writes of a sync peer are visible there soon, also when nothing follows them. */
  #tellCommitSoon(): void {
    if (this.#commitTellQueued || !this.role.is("serving")) return;
    let ahead = false;
    for (const channel of this.#channels.values()) if (channel.outbound?.protection.state === "armed") ahead = true;
    if (!ahead) return;
    this.#commitTellQueued = true;
    this.clock.after(commitTellMs, () => {
      this.#commitTellQueued = false;
      for (const channel of this.#channels.values()) {
        if (channel.outbound?.streaming === true && channel.outbound.protection.state === "armed")
          this.#beatAsPrimary(channel);
      }
    });
  }

  #onOverflow(peer: string): void {
    const channel = this.#channels.get(peer);
    const entry = this.entry(peer);
    if (entry === null) {
      this.log.release(peer);
      return;
    }
    this.keeper.change(
      (document) =>
        withPeer(document, peer, (current) => ({
          ...current,
          resync: { what: "everything", id: null, volumes: [] },
        })),
      () => {
        this.emit("peer-suspended", `the log cannot be kept any longer for ${peer}; it will be sent everything again`, {
          peer,
        });
        channel?.link?.abort("aborted", "the log is no longer kept for this peer");
        this.log.release(peer);
        this.changed();
      },
    );
  }

  #onVerifyBoundary(id: string, seq: number): void {
    for (const channel of this.#channels.values()) if (channel.outbound?.onForkedHere(id) === true) return;
    const { primary } = this.document;
    const inbound = this.document.role === "golden" && primary !== null ? this.channel(primary)?.inbound : null;
    if (inbound != null && id.startsWith(verifyForkPrefix)) inbound.onForked(id, seq);
    else this.port.dropFork(id, () => {});
  }

  #onBeat(channel: PeerChannel): void {
    if (channel.outbound !== null) {
      channel.outbound.onBeat();
      this.confirmation.ask(channel);
      this.#beatAsPrimary(channel);
      return;
    }
    if (channel.inbound?.receiver.streaming === true) channel.inbound.onBeat();
    else this.#sendBeat(channel, 0, false, false);
  }

  #beatAsPrimary(channel: PeerChannel): void {
    const { outbound } = channel;
    const lagMs = outbound === null ? 0 : (lagMsOf(this, outbound.receivedSeq) ?? 0);
    this.#sendBeat(channel, lagMs, outbound?.inSync === true, outbound?.entry?.unverified === false);
  }

  #sendBeat(channel: PeerChannel, lagMs: number, inSync: boolean, verified: boolean): void {
    const isPrimary = this.document.role === "primary";
    channel.link?.send({ kind: "heartbeat", commitSeq: this.log.commitSeq, lagMs, inSync, isPrimary, verified });
  }

  #resumePromotion(): void {
    const fork = this.document.promotion;
    assert(fork !== null, "a promotion is under way");
    this.port.closeForWriting();
    this.role.to("promoting");
    this.refreshServing();
    finishPromotion(this, fork, (promoted) => {
      if (!promoted) return;
      // The fork lay on the shelf: whatever a lost cache held is of the image that it replaces.
      this.port.acceptCacheLoss();
      this.cacheLost = false;
      const former = this.document.primary;
      this.keeper.change(
        (document) => asPrimary(document, former, fork.seq, this.log.destagedSeq),
        () => {
          this.emit("takeover", `the takeover of ${this.port.name} that a stop interrupted is complete`, {
            from: former,
          });
          this.settleOutbounds();
          if (this.role.to("opening")) openForHosts(this, "taken over", "meet-anew", () => {});
        },
      );
    });
  }

  /** Forks of operations that a stop interrupted. */
  #dropStaleForks(): void {
    const { image, keptFork, promotion } = this.document;
    const needed = new Set([image.kind === "inconsistent" ? image.fork?.id : undefined, keptFork?.id, promotion?.id]);
    for (const { id } of this.port.forks()) {
      const temporary = id.startsWith(verifyForkPrefix) || id.startsWith(keptForkPrefix);
      if (temporary && !needed.has(id)) this.port.dropFork(id, () => {});
    }
  }
}
