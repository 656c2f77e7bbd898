/**
 * What must hold at every moment, looked at with every acknowledgement, every change of role and every few milliseconds:
 *
 * - D1: what a log has declared durable is in it after the next start.
 * - D4: while the protection by a sync peer stands, that peer has durably what hosts were told is done.
 * - R2: an inconsistent golden copy says so, and shows hosts nothing but its kept fork.
 * - R4: a peer that is shown as in sync holds, durably and consistently, everything that is committed.
 * - L1: at most one array is writable, unless an operator has asked for a branch.
 * - L4: after a start an array with peers is writable only once one of them answers, or an operator has said so.
 * - B1: queues and logs stay within their bounds.
 */
import type { Group } from "../../firmware/volume/group.ts";
import type { Serving } from "../../firmware/volume/group_port.ts";
import { eventKind } from "../../hal/mock/event_heap.ts";
import { isWhole, statusOf } from "./heal.ts";
import type { HostWrite, Position } from "./history.ts";
import { type BootFacts, describeCommand } from "./oracle.ts";
import { type Boot, groupName, type SimArray } from "./sim_array.ts";
import type { Site } from "./site.ts";

const lookEveryMs = 50;

export class Watch {
  readonly #site: Site;
  /** By array: what its log last declared durable. */
  readonly #durable = new Map<string, Position>();
  /** By array: whether its hosts are protected by the peer, as its events tell; undefined: since the start no event has told. */
  readonly #protected = new Map<string, boolean>();
  readonly #judged = new WeakSet<Boot>();
  /** Boots that a peer has confirmed, or given the role to. The link may be lost again before hosts may write. */
  readonly #answered = new WeakSet<Boot>();
  /** Boots that have been writable. */
  readonly #confirmed = new WeakSet<Boot>();
  /** Since when both arrays have said, without a break, that they are connected and one of them is writable; null: not now. */
  reachableSinceMs: number | null = null;

  constructor(site: Site) {
    this.#site = site;
    site.oracle.onServingChanged = (boot, group, serving) => this.#servingChanged(boot, group, serving);
    site.oracle.onAcknowledged = (boot, command) => this.#acknowledged(boot, command);
    site.onEvent.push((array, code) => {
      const isPeersWord = code === "primary-confirmed" || code === "role-accepted";
      if (isPeersWord && array.boot !== null) this.#answered.add(array.boot);
      if (code === "role-demoted") site.oracle.gaveWay(array.name);
      if (code === "sync-protected") this.#protected.set(array.name, true);
      if (code === "sync-suspended" || code === "mode-changed") this.#protected.set(array.name, false);
    });
    // At once: a resync that begins at once replaces the log that is judged.
    site.onStarted.push((array) => {
      if (array.live !== null) this.#judgeStart(array.live);
    });
    site.onDown = (array) => this.#down(array);
    this.#schedule();
  }

  #schedule(): void {
    this.#site.world.schedule(lookEveryMs, eventKind.host, null, () => {
      this.#look();
      this.#schedule();
    });
  }

  #look(): void {
    const { arrays } = this.#site;
    for (const array of arrays) {
      if (array.live === null) continue;
      this.#judgeStart(array.live);
      this.#durableNow(array);
      this.#judgeGolden(array);
      this.#judgeBounds(array);
    }
    for (const array of arrays) this.#judgeInSync(array);
    this.#site.oracle.judgeDecisions();
    this.#lookAtLinks();
    if (isWhole(this.#site)) this.#licencesEnd();
  }

  /** Both arrays hold the same again: what was given up is forgotten, and nothing more may be. */
  #licencesEnd(): void {
    const { forkLicences, forgetLicences, oracle } = this.#site;
    forkLicences.clear();
    for (const name of forgetLicences) {
      const { boot } = this.#site.array(name);
      if (boot !== null) oracle.forgiven(boot);
    }
    forgetLicences.clear();
  }

  #lookAtLinks(): void {
    const { arrays, world } = this.#site;
    const connected = arrays.every((array) => array.live?.running?.control.peers()[0]?.connected === true);
    const served = arrays.some((array) => array.live?.group()?.serving().writable === true);
    if (connected && served) this.reachableSinceMs ??= world.nowMs;
    else this.reachableSinceMs = null;
  }

  // ---------------------------------------------------------------- durability

  /** What `array` holds durably now, or held when it died; null: nothing is known. */
  #durableNow(array: SimArray): Position | null {
    const { boot } = array;
    const group = boot?.group() ?? null;
    const known = this.#durable.get(array.name) ?? null;
    // A group that has left its half took its log along: what it held then stands until it is open in the other half.
    if (boot === null || group === null || boot.hasLeft) return known;
    // What it held when it died stands in its memory until the next one starts.
    if (!boot.alive() && !this.#judged.has(boot)) return known;
    const position = this.#positionOf(group, group.log.persistedSeq);
    this.#durable.set(array.name, position);
    return position;
  }

  #positionOf(group: Group, seq: number): Position {
    const { history } = this.#site.oracle;
    const id = group.log.timelineOf(seq);
    const timeline = (id === null ? undefined : history.timeline(id)) ?? history.root;
    return history.normal({ timeline, seq });
  }

  #down(array: SimArray): void {
    const group = array.boot?.group() ?? null;
    // A boot that had not found its group yet has declared nothing; one that was given its group in this life has nothing to be judged by.
    if (group !== null && (this.#judged.has(array.boot!) || !this.#durable.has(array.name))) {
      this.#durable.set(array.name, this.#positionOf(group, group.log.persistedSeq));
    }
    this.#protected.delete(array.name);
  }

  #judgeStart(boot: Boot): void {
    const group = boot.group();
    if (group === null || this.#judged.has(boot)) return;
    this.#judged.add(boot);
    const { oracle, chronicle, forgetLicences } = this.#site;
    const before = this.#durable.get(boot.array);
    const now = this.#positionOf(group, group.log.headSeq);
    oracle.restarted(boot.array, now);
    if (before === undefined || forgetLicences.has(boot.array)) return;
    if (oracle.history.contains(now, before.timeline, before.seq)) return;
    // A newer timeline of the peer may have dropped what was never committed.
    const shown = oracle.shown.get(boot.array);
    if (shown !== undefined && oracle.history.contains(now, shown.timeline, shown.seq)) {
      if (oracle.history.contains(now, before.timeline, Math.min(before.seq, shown.seq))) {
        if (now.timeline !== before.timeline && now.timeline.opener !== boot.array) return;
      }
    }
    chronicle.fail("D1", `${boot.array} came back without what its log had declared durable`, [
      `durable ${oracle.history.describe(before)}, found ${oracle.history.describe(now)}`,
    ]);
  }

  #acknowledged(boot: BootFacts, command: HostWrite): void {
    if (!boot.alive()) return;
    const array = this.#site.array(boot.array);
    if (!this.#isProtected(array)) return;
    const other = this.#site.other(array);
    const there = this.#durableNow(other);
    const last = command.records.at(-1)!;
    const { history } = this.#site.oracle;
    if (there !== null && history.contains(there, last.timeline, last.seq)) return;
    this.#site.chronicle.fail(
      "D4",
      `${array.name} acknowledged ${describeCommand(command)} under the protection of ${other.name}`,
      [
        `record ${last.timeline.id.slice(0, 8)}:${last.seq}`,
        `${other.name} holds durably ${there === null ? "nothing known" : history.describe(there)}`,
      ],
    );
  }

  #isProtected(array: SimArray): boolean {
    const told = this.#protected.get(array.name);
    if (told === false) return false;
    const document = array.live?.group()?.replicationDocument() as ProtectionWord | null | undefined;
    const peer = document?.peers[0];
    const armed = peer?.mode === "sync" && peer.protection === "armed";
    return told === true ? peer?.mode === "sync" : armed;
  }

  // ---------------------------------------------------------------- roles and images

  #servingChanged(boot: BootFacts, group: Group, serving: Serving): void {
    const { chronicle } = this.#site;
    const view = serving.readable === null ? "closed" : serving.readable === "head" ? "head" : "kept fork";
    chronicle.note(
      boot.array,
      `serving: writable ${serving.writable}, view ${view}${serving.why === null ? "" : ` (${serving.why})`}`,
    );
    if (!serving.writable) return;
    // A new time as primary: its document tells what was promised.
    this.#protected.delete(boot.array);
    const array = this.#site.array(boot.array);
    const other = this.#site.other(array);
    this.#judgeConfirmed(array, group);
    const theirs = other.boot?.alive() === true ? other.boot.group() : null;
    if (theirs?.serving().writable !== true) return;
    const { forkLicences } = this.#site;
    if (forkLicences.has(array.name) || forkLicences.has(other.name)) return;
    chronicle.fail("L1", `${array.name} became writable while ${other.name} is`, [
      `${array.name}: timeline ${group.log.timeline.slice(0, 8)}, ${other.name}: timeline ${theirs.log.timeline.slice(0, 8)}`,
    ]);
  }

  /** L4: after a start the role as primary rests on a peer that answers, or on the operator's word. */
  #judgeConfirmed(array: SimArray, group: Group): void {
    const boot = array.boot!;
    const isFirst = !this.#confirmed.has(boot);
    this.#confirmed.add(boot);
    const document = group.replicationDocument() as ProtectionWord | null;
    if (!isFirst || document === null || document.peers.length === 0) return;
    const answered = this.#answered.has(boot) || boot.running?.control.peers()[0]?.connected === true;
    if (answered || boot.succeeds || this.#site.forkLicences.has(array.name)) return;
    this.#site.chronicle.fail("L4", `${array.name} is writable after its start, and nobody can have confirmed it`);
  }

  #judgeGolden(array: SimArray): void {
    const group = array.live!.group();
    const document = group?.replicationDocument() as ImageWord | null | undefined;
    if (group === null || document == null || document.image.kind !== "inconsistent") return;
    const { readable } = group.serving();
    const state = statusOf(array)?.state;
    const says = state === "inconsistent" || state === "resyncing";
    if (says && readable !== "head") return;
    this.#site.chronicle.fail("R2", `${array.name} holds a mixture and does not say so`, [
      `state ${state}, readable ${JSON.stringify(readable)}`,
    ]);
  }

  #judgeInSync(array: SimArray): void {
    const status = statusOf(array);
    if (status === null || !status.writable || status.peers[0]?.state !== "in-sync") return;
    const other = this.#site.other(array);
    const there = this.#durableNow(other);
    const group = array.live!.group()!;
    const committed = this.#positionOf(group, group.log.commitSeq);
    const { history } = this.#site.oracle;
    const document = other.live?.group()?.replicationDocument() as ImageWord | null | undefined;
    const isMixture = document?.image.kind === "inconsistent";
    if (!isMixture && there !== null && history.contains(there, committed.timeline, committed.seq)) return;
    this.#site.chronicle.fail("R4", `${array.name} shows ${other.name} as in sync`, [
      `committed ${history.describe(committed)}, ${other.name} holds ${there === null ? "nothing known" : history.describe(there)}`,
      `image there: ${document?.image.kind ?? "unknown"}`,
    ]);
  }

  #judgeBounds(array: SimArray): void {
    const group = array.live!.group();
    if (group === null) return;
    const { plan, chronicle } = this.#site;
    const queueMax = plan.volumes.length * plan.sessionsPerVolume * plan.depth * 8;
    // In write-through every segment of the cache has a copy on the shelf, in a slot of its own.
    const shelfMax = plan.shelfLogBytes + group.log.nvram.segmentCount * plan.logSlotBytes;
    const found = [
      { what: "log on the shelf alone, bytes", value: group.room.spilledBytes, max: plan.shelfLogBytes },
      { what: "log on the shelf, bytes", value: group.room.shelfBytes, max: shelfMax },
      { what: "log, bytes", value: group.log.list.bytes, max: plan.shelfLogBytes + array.plan.cacheBytes },
      { what: "queued host writes", value: group.admission.queuedRequests, max: queueMax },
    ];
    for (const { what, value, max } of found) {
      if (value > max) chronicle.fail("B1", `${array.name}, ${groupName}: ${what}: ${value}, at most ${max}`);
    }
  }
}

interface ProtectionWord {
  readonly peers: readonly { readonly mode: string; readonly protection: string }[];
}

interface ImageWord {
  readonly image: { readonly kind: string };
}
