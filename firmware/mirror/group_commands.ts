/** The operator's commands on one group's replication. Long ones resolve when they are done; expected failures are values. */
import {
  done,
  type FailbackJson,
  type MigrateJson,
  type Result,
  type ResyncJson,
  type ServeJson,
  type TakeoverJson,
  type VerifyJson,
  type VerifyPeerJson,
} from "../manage/control.ts";
import type { PeerMode } from "../manage/status_json.ts";
import type { StreamMode } from "../peer/frame.ts";
import { linkLimits } from "../peer/limits.ts";
import { peerEntry, withPeer } from "./document.ts";
import { currentTimeline } from "./group_context.ts";
import { refuse } from "./group_core.ts";
import type { GroupReplication } from "./group_replication.ts";
import { openForHosts } from "./opening.ts";
import { protectionFor } from "./sync_protection.ts";
import type { TakeoverOptions } from "./takeover.ts";
import type { VerifyOutcome } from "./verify_source.ts";

export class GroupCommands {
  readonly #group: GroupReplication;

  constructor(group: GroupReplication) {
    this.#group = group;
  }

  /** Done when durable here; connecting and the initial sync go on by themselves. Idempotent. */
  async addPeer(array: string, mode: PeerMode): Promise<Result<null>> {
    const group = this.#group;
    const { port, document } = group;
    if (mode === "delta") return refuse("not-in-this-version", "mode delta is not in this version; use async");
    if (array === port.array) return refuse("invalid", `${array} is this array`);
    if (!group.host.knows(array)) return refuse("not-found", `${array} is not a peer in the board profile`);
    if (document.role !== "primary") return this.#notPrimary();
    const known = group.entry(array);
    if (known !== null) {
      return known.mode === mode
        ? done(null)
        : refuse("exists", `${array} is a peer in mode ${known.mode}; use set-mode`);
    }
    if (!group.role.is("serving")) return refuse("not-writable", `${port.name} is not in force as primary here`);
    if (document.peers.length >= linkLimits.peersMax) return refuse("invalid", `at most ${linkLimits.peersMax} peers`);
    await this.#durably((change) =>
      change((current) => ({ ...current, peers: [...current.peers, peerEntry(array, mode)] })),
    );
    group.emit("peer-added", `${port.name} replicates to ${array} (${mode})`, { peer: array, mode });
    group.peersChanged();
    return done(null);
  }

  async removePeer(array: string): Promise<Result<null>> {
    const group = this.#group;
    if (group.document.role !== "primary") return this.#notPrimary();
    if (group.entry(array) === null) return refuse("not-found", `${group.port.name} does not replicate to ${array}`);
    if (group.document.grant?.to === array) return refuse("busy", `the role is being given to ${array}`);
    await this.#durably((change) =>
      change((current) => ({ ...current, peers: current.peers.filter((peer) => peer.array !== array) })),
    );
    group.emit("peer-removed", `${group.port.name} no longer replicates to ${array}`, { peer: array });
    group.forgetChannel(array);
    group.peersChanged();
    return done(null);
  }

  /** Online, both ways. To async: durable before hosts stop waiting for the peer. */
  async setMode(array: string, mode: PeerMode): Promise<Result<null>> {
    const group = this.#group;
    if (mode === "delta") return refuse("not-in-this-version", "mode delta is not in this version; use async or sync");
    if (group.document.role !== "primary") return this.#notPrimary();
    const entry = group.entry(array);
    if (entry === null) return refuse("not-found", `${group.port.name} does not replicate to ${array}`);
    if (entry.mode === mode) return done(null);
    const next: StreamMode = mode;
    await this.#durably((change) =>
      change((current) =>
        withPeer(current, array, (peer) => ({ ...peer, mode: next, protection: protectionFor(next) })),
      ),
    );
    group.emit("mode-changed", `${group.port.name} replicates to ${array} in mode ${mode}`, { peer: array, mode });
    await new Promise<void>((resolve) => {
      const protection = group.channel(array)?.outbound?.protection;
      if (protection === undefined) resolve();
      else protection.modeChanged(resolve);
    });
    group.peersChanged();
    return done(null);
  }

  migrate(to: string, timeoutMs: number): Promise<Result<MigrateJson>> {
    return this.#group.migration.migrate(to, timeoutMs);
  }

  /** True when a migrate was under way and its grant had not been sent. */
  cancelMigrate(): boolean {
    return this.#group.migration.cancel();
  }

  takeover(options: TakeoverOptions): Promise<Result<TakeoverJson>> {
    return this.#group.takeover.run(options);
  }

  resync(from: string, timeoutMs: number): Promise<Result<ResyncJson>> {
    return this.#group.resyncCommand.resync(from, timeoutMs);
  }

  failback(timeoutMs: number): Promise<Result<FailbackJson>> {
    return this.#group.resyncCommand.failback(timeoutMs);
  }

  /** The role was given to a peer that does not answer; one that is connected is waited for: it has heard, or does in a moment. */
  async #isUnanswered(timeoutMs: number): Promise<boolean> {
    const group = this.#group;
    const to = group.document.grant?.to ?? "";
    // The document tells of the answer first, and the role when that is durable.
    const isOpen = () => group.role.is("granting") && group.document.grant !== null;
    await group.until(() => !isOpen() || group.channel(to)?.connected !== true, timeoutMs);
    return isOpen();
  }

  /** The operator's word stands in for a peer's. */
  async serveAlone(timeoutMs: number): Promise<Result<ServeJson>> {
    const group = this.#group;
    const { port, log, role } = group;
    if (role.is("serving")) return done({ changed: false, timeline: currentTimeline(log) });
    if (group.document.role !== "primary") {
      return refuse(
        "not-primary",
        `${port.array} is a golden copy; to promote it: goldcopy group takeover ${port.name}`,
      );
    }
    if (!role.is("unconfirmed", "granting")) return refuse("busy", `the role of ${port.name} is changing`);
    if (group.operation !== null && group.operation.kind !== "migrate") {
      return refuse("busy", `a ${group.operation.kind} of ${port.name} is under way`);
    }
    if (role.is("granting") && !(await this.#isUnanswered(timeoutMs))) {
      if (role.is("serving")) return done({ changed: true, timeline: currentTimeline(log) });
      return refuse(
        "busy",
        `the role of ${port.name} is changing: its peer has answered; see: goldcopy group show ${port.name}`,
      );
    }
    role.to("opening");
    port.acceptCacheLoss();
    await new Promise<void>((resolve) => group.changeRole((current) => ({ ...current, grant: null }), resolve));
    group.cacheLost = false;
    group.emit("serve-alone", `${port.name} goes on alone on ${port.array}, on the operator's word`);
    // Peers have heard that it cannot go on, or that the role is theirs.
    const opened = new Promise<string>((resolve) =>
      openForHosts(group, "alone", "meet-anew", ({ timeline }) => resolve(timeline)),
    );
    const inTime = await group.until(() => role.is("serving", "failed", "stopped"), timeoutMs);
    if (!inTime) return refuse("timeout", "the group is still being opened");
    if (!role.is("serving")) return refuse("shelf-failed", "the group could not be opened; see the log");
    return done({ changed: true, timeline: await opened });
  }

  /** Compares digests with one peer, or with every connected one. */
  async verify(peer: string | null, timeoutMs: number): Promise<Result<VerifyJson>> {
    const group = this.#group;
    const { port, document } = group;
    if (document.role !== "primary") return this.#notPrimary();
    if (!group.role.is("serving")) return refuse("not-writable", `${port.name} is not in force as primary here`);
    const wanted = document.peers.filter((entry) => peer === null || entry.array === peer);
    if (wanted.length === 0) {
      return refuse(
        "not-found",
        peer === null ? `${port.name} has no peer` : `${port.name} does not replicate to ${peer}`,
      );
    }
    const peers: VerifyPeerJson[] = [];
    for (const entry of wanted) {
      const outcome = await this.#verifyOne(entry.array, timeoutMs);
      if (outcome === null) return refuse("timeout", `the comparison with ${entry.array} goes on`);
      if (outcome.kind === "failed") return refuse(outcome.code, outcome.text);
      peers.push(this.#report(entry.array, outcome.report));
    }
    return done({ equal: peers.every((report) => report.equal), peers });
  }

  async #verifyOne(array: string, timeoutMs: number): Promise<VerifyOutcome | null> {
    const group = this.#group;
    const outbound = group.channel(array)?.outbound ?? null;
    if (outbound === null) return { kind: "failed", code: "not-connected", text: `${array} is not connected` };
    const found: { outcome: VerifyOutcome | null } = { outcome: null };
    outbound.verify((outcome) => {
      found.outcome = outcome;
      if (outcome.kind === "compared") {
        const { equal, seq } = outcome.report;
        group.emit(
          equal ? "verify-equal" : "verify-mismatch",
          equal
            ? `${array} is equal at seq ${seq}`
            : `${array} differs at seq ${seq}; repair it with: goldcopy group resync on ${array}`,
          { peer: array, seq },
        );
      }
      group.changed();
    });
    await group.until(() => found.outcome !== null, timeoutMs);
    return found.outcome;
  }

  #report(array: string, report: Extract<VerifyOutcome, { kind: "compared" }>["report"]): VerifyPeerJson {
    const names = new Map(this.#group.port.volumes().map((volume) => [volume.number, volume.name]));
    return {
      array,
      seq: report.seq,
      equal: report.equal,
      comparedBytes: report.comparedBytes,
      volumes: report.volumes.map((volume) => ({
        name: names.get(volume.number) ?? `#${volume.number}`,
        equal: volume.equal,
        digest: volume.digest,
        peerDigest: volume.peerDigest,
        mismatches: volume.mismatches,
      })),
    };
  }

  #notPrimary(): Result<never> {
    const { document, port } = this.#group;
    return refuse("not-primary", `${port.array} is a golden copy; run this at ${document.primary ?? "the primary"}`);
  }

  #durably(run: (change: (next: Parameters<GroupReplication["keeper"]["change"]>[0]) => void) => void): Promise<void> {
    return new Promise((resolve) => run((next) => this.#group.keeper.change(next, resolve)));
  }
}
