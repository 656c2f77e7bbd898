/** `goldcopy group …`: what an operator asks of a group, handed to its replication and role logic. */

import type { Group } from "../volume/group.ts";
import {
  done,
  type FailbackJson,
  type GroupControl,
  type MigrateJson,
  type Removed,
  type Result,
  type ResyncJson,
  refused,
  type ServeJson,
  type TakeoverJson,
  type VerifyJson,
} from "./control.ts";
import type { GroupEntry, GroupRegistry } from "./groups.ts";
import type { GroupDetailJson, GroupJson, PeerMode } from "./status_json.ts";

export interface GroupCommandsOptions {
  readonly groups: GroupRegistry;
  readonly appliance: string;
}

interface PeerChange {
  readonly array: string;
  readonly mode: PeerMode;
  readonly cycleMs: number | null;
}

export class GroupCommands implements GroupControl {
  readonly #options: GroupCommandsOptions;

  constructor(options: GroupCommandsOptions) {
    this.#options = options;
  }

  list(): GroupJson[] {
    return this.#options.groups.entries().map((entry) => this.json(entry));
  }

  show(name: string): Result<GroupDetailJson> {
    const entry = this.#options.groups.find(name);
    if (entry === null) return notFound(name);
    const { group, replication } = entry;
    return done({
      ...this.json(entry),
      id: group.id,
      lineage: group.log.lineage().map((one) => ({ ...one })),
      salvage: replication.status().salvage.map(({ id, forkSeq, bytes }) => ({ id, forkSeq, bytes })),
      usage: group.store.usage(),
    });
  }

  async create({ name }: { name: string }): Promise<Result<GroupJson>> {
    const created = await this.#options.groups.create(name);
    return created.ok ? done(this.json(created.value)) : created;
  }

  async delete(name: string): Promise<Result<Removed>> {
    const { groups } = this.#options;
    const entry = groups.find(name);
    if (entry === null) {
      const damaged = groups.damaged.find((one) => one.id === name);
      if (damaged === undefined) return notFound(name);
      const gone = await groups.removeDamaged(damaged);
      return gone.ok ? done({ removed: name }) : gone;
    }
    if (entry.group.volumes().length > 0 && entry.replication.status().role === "primary") {
      return refused("in-use", `group ${name} has ${entry.group.volumes().length} volumes; delete them first`);
    }
    const removed = await this.#options.groups.remove(entry);
    return removed.ok ? done({ removed: name }) : removed;
  }

  async addPeer(name: string, peer: PeerChange): Promise<Result<GroupJson>> {
    return this.#onPeer(name, peer, (entry, mode) => entry.replication.commands.addPeer(peer.array, mode));
  }

  async setMode(name: string, peer: PeerChange): Promise<Result<GroupJson>> {
    return this.#onPeer(name, peer, (entry, mode) => entry.replication.commands.setMode(peer.array, mode));
  }

  migrate(name: string, options: { to: string; timeoutMs: number }): Promise<Result<MigrateJson>> {
    return this.#on(name, ({ replication }) => replication.commands.migrate(options.to, options.timeoutMs));
  }

  takeover(name: string, options: { force: boolean; fork: boolean; timeoutMs: number }): Promise<Result<TakeoverJson>> {
    return this.#on(name, ({ replication }) => replication.commands.takeover(options));
  }

  serveAlone(name: string, options: { timeoutMs: number }): Promise<Result<ServeJson>> {
    return this.#on(name, ({ replication }) => replication.commands.serveAlone(options.timeoutMs));
  }

  resync(name: string, options: { from: string; timeoutMs: number }): Promise<Result<ResyncJson>> {
    return this.#on(name, ({ replication }) => replication.commands.resync(options.from, options.timeoutMs));
  }

  failback(name: string, options: { timeoutMs: number }): Promise<Result<FailbackJson>> {
    return this.#on(name, ({ replication }) => replication.commands.failback(options.timeoutMs));
  }

  verify(name: string, options: { peer: string | null; timeoutMs: number }): Promise<Result<VerifyJson>> {
    return this.#on(name, ({ replication }) => replication.commands.verify(options.peer, options.timeoutMs));
  }

  json({ group, replication }: GroupEntry): GroupJson {
    const status = replication.status();
    const serving = group.serving();
    return {
      name: group.name,
      role: status.role,
      writable: serving.writable,
      why: serving.writable ? null : serving.why,
      settled: status.settled,
      state: status.state,
      owner: this.#options.appliance,
      primary: status.primary,
      timeline: group.log.timeline,
      headSeq: group.log.headSeq,
      commitSeq: group.log.commitSeq,
      appliedSeq: group.log.destagedSeq,
      receivedSeq: group.log.persistedSeq,
      viewSeq: viewSeqOf(group),
      logBytes: group.log.list.bytes,
      volumes: group.volumes().map((volume) => volume.name),
      peers: status.peers,
      operation: status.operation,
    };
  }

  async #on<T>(name: string, run: (entry: GroupEntry) => Promise<Result<T>>): Promise<Result<T>> {
    const entry = this.#options.groups.find(name);
    return entry === null ? notFound(name) : run(entry);
  }

  async #onPeer(
    name: string,
    peer: PeerChange,
    run: (entry: GroupEntry, mode: "sync" | "async") => Promise<Result<unknown>>,
  ): Promise<Result<GroupJson>> {
    const entry = this.#options.groups.find(name);
    if (entry === null) return notFound(name);
    if (peer.mode === "delta")
      return refused("not-in-this-version", "delta sets are not in this version; use --mode async or sync");
    const outcome = await run(entry, peer.mode);
    return outcome.ok ? done(this.json(entry)) : outcome;
  }
}

/** What readers see: the committed state, or a kept fork. */
function viewSeqOf(group: Group): number {
  const view = group.serving().readable;
  if (view === null || view === "head") return group.log.commitSeq;
  return group.forks().find((fork) => fork.id === view.fork)?.seq ?? group.log.commitSeq;
}

function notFound(name: string): { ok: false; error: { code: "not-found"; text: string } } {
  return { ok: false, error: { code: "not-found", text: `there is no group ${name}; see: goldcopy group list` } };
}
