/**
 * `group resync NAME --from ARRAY`: this copy becomes (or stays) the golden copy of ARRAY, on the word of an operator.
 *
 *   ex-primary, nothing beyond the fork point ─▶ durable role golden ─▶ follows
 *   ex-primary with records beyond (L4) ─▶ everything home, forked as a salvage set, durable with the role ─▶ full resync
 *   golden copy that follows ARRAY ─▶ asks for everything again (its image is forked first)
 *
 * Invariant: nothing that was written here is overwritten before it is a durable salvage set.
 */
import { done, type FailbackJson, type Result, type ResyncJson, type SalvageJson } from "../manage/control.ts";
import { forkLineage } from "../volume/group_document.ts";
import { relate } from "./decide.ts";
import { type KeptFork, lostImage, type SalvageEntry } from "./document.ts";
import { newId } from "./group_context.ts";
import { type GroupCore, refuse } from "./group_core.ts";
import type { PeerChannel } from "./peer_channel.ts";
import { stateOfGolden } from "./peer_status.ts";

export const salvagePrefix = "salvage-";

export interface MigrateAnswer {
  readonly ask: number;
  readonly ok: boolean;
  readonly code: string;
  readonly text: string;
}

export class ResyncCommand {
  readonly #core: GroupCore;
  #askNumber = 0;
  #answer: MigrateAnswer | null = null;

  constructor(core: GroupCore) {
    this.#core = core;
  }

  async resync(from: string, timeoutMs: number): Promise<Result<ResyncJson>> {
    const core = this.#core;
    if (core.operation !== null) return refuse("busy", `a ${core.operation.kind} of ${core.port.name} is under way`);
    core.operation = { kind: "resync", peer: from };
    const result = await this.#resync(from, timeoutMs);
    core.operation = null;
    return result;
  }

  /** Resync from whoever is primary, then its role comes back. */
  async failback(timeoutMs: number): Promise<Result<FailbackJson>> {
    const core = this.#core;
    const { port } = core;
    if (core.role.is("serving")) return done({ changed: false, primary: port.array, salvage: null });
    const from = this.#presentPrimary();
    if (from === null) return refuse("not-connected", `no array that is primary of ${port.name} is connected`);
    if (core.operation !== null) return refuse("busy", `a ${core.operation.kind} of ${port.name} is under way`);
    core.operation = { kind: "failback", peer: from };
    const untilMs = core.clock.nowMs() + timeoutMs;
    const resynced = await this.#resync(from, timeoutMs);
    const result = resynced.ok
      ? await this.#moveBack(from, Math.max(1000, untilMs - core.clock.nowMs()), resynced.value.salvage)
      : resynced;
    core.operation = null;
    return result;
  }

  onMigrateAnswer(answer: MigrateAnswer): void {
    this.#answer = answer;
  }

  #presentPrimary(): string | null {
    const { document, channels } = this.#core;
    if (document.role === "golden") return document.primary;
    for (const channel of channels) {
      if (channel.connected && (channel.decision?.kind === "superseded" || channel.theirs?.writable === true))
        return channel.array;
    }
    return null;
  }

  async #moveBack(from: string, timeoutMs: number, salvage: SalvageJson | null): Promise<Result<FailbackJson>> {
    const core = this.#core;
    const channel = core.channel(from);
    if (channel?.link == null) return refuse("not-connected", `${from} is not connected`);
    const ask = ++this.#askNumber;
    this.#answer = null;
    channel.link.send({ kind: "migrateAsk", ask, timeoutMs: Math.min(timeoutMs, 0xffffffff) });
    await core.until(() => core.role.is("serving") || this.#answer?.ask === ask, 2 * timeoutMs);
    const answer = this.answered;
    if (!core.role.is("serving") && answer !== null && !answer.ok) {
      return refuse(answer.code === "not-drained" ? "not-drained" : "failed", answer.text);
    }
    const serving = await core.until(() => core.role.is("serving"), timeoutMs);
    if (!serving)
      return refuse(
        "timeout",
        `${core.port.array} is golden copy of ${from} and in-sync; the role has not come back yet`,
      );
    return done({ changed: true, primary: core.port.array, salvage });
  }

  /** Read anew after a wait: it is set by an event meanwhile. */
  get answered(): MigrateAnswer | null {
    return this.#answer;
  }

  async #resync(from: string, timeoutMs: number): Promise<Result<ResyncJson>> {
    const core = this.#core;
    const { port } = core;
    if (from === port.array) return refuse("invalid", `${from} is this array; name the array that is primary`);
    if (!core.host.knows(from)) return refuse("not-found", `${from} is not a peer in the board profile`);
    const untilMs = core.clock.nowMs() + timeoutMs;
    const bytesBefore = core.resyncTarget.receivedBytes;
    const begun = core.document.role === "golden" ? this.#again(from) : await this.#giveWay(from);
    if (!begun.ok) return begun;
    const leftMs = Math.max(1, untilMs - core.clock.nowMs());
    const ended = await core.until(() => core.role.is("failed", "stopped") || this.#inSync(from), leftMs);
    if (!ended) return refuse("timeout", `the resync from ${from} goes on; see: goldcopy status`);
    if (core.role.is("failed", "stopped")) return refuse("stopping", "the group has stopped");
    return done({
      changed: true,
      from,
      salvage: begun.value,
      receivedBytes: core.resyncTarget.receivedBytes - bytesBefore,
    });
  }

  #inSync(from: string): boolean {
    const { document } = this.#core;
    return (
      document.role === "golden" &&
      document.primary === from &&
      !document.wantsResync &&
      stateOfGolden(this.#core) === "in-sync"
    );
  }

  /** A golden copy: everything once more. */
  #again(from: string): Result<SalvageJson | null> {
    const core = this.#core;
    const { document } = core;
    if (document.primary !== from) {
      return refuse("invalid", `${core.port.name} follows ${document.primary ?? "no array"}; resync it from there`);
    }
    if (!core.role.is("following")) return refuse("busy", `the role of ${core.port.name} is changing`);
    core.faults.forget();
    if (document.image.kind === "consistent") {
      core.keeper.change(
        (current) => ({ ...current, wantsResync: true }),
        () => core.meetAnew("everything is asked for again"),
      );
    }
    return done(null);
  }

  /** An ex-primary: keeps what it has beyond the fork point, and becomes golden copy of `from`. */
  async #giveWay(from: string): Promise<Result<SalvageJson | null>> {
    const core = this.#core;
    const { port, log } = core;
    const channel = core.channelTo(from);
    channel.dialling?.hurry();
    const met = () => channel.connected && channel.theirs !== null;
    await core.until(met, 2 * core.settings.peerTimeoutMs);
    if (!met()) return refuse("not-connected", `${from} is not connected: ${channel.why ?? "it does not answer"}`);
    const refused = this.#whyNotFrom(channel);
    if (refused !== null) return refused;
    const wasServing = core.role.is("serving");
    port.closeForWriting();
    if (wasServing) core.role.to("unconfirmed");
    core.refreshServing();
    const relation = relate(
      { lineage: log.lineage(), headSeq: log.headSeq },
      { lineage: channel.theirs!.lineage, headSeq: channel.theirs!.headSeq },
    );
    const kept = relation !== null && relation.oursBeyond === 0 ? null : await this.#salvage(relation?.forkSeq ?? 0);
    if (kept === "failed") return refuse("shelf-failed", "what was written here could not be kept as a salvage set");
    return new Promise((resolve) => {
      port.acceptCacheLoss();
      core.changeRole(
        (document) => ({
          ...document,
          role: "golden",
          primary: from,
          grant: null,
          salvage: kept === null ? document.salvage : [...document.salvage, kept.entry],
          keptFork: kept === null ? document.keptFork : kept.fork,
          wantsResync: kept !== null,
          image: core.cacheLost ? lostImage : document.image,
        }),
        () => {
          if (!core.role.to("following")) return;
          core.cacheLost = false;
          port.followPrimary();
          core.faults.forget();
          core.settleOutbounds();
          core.refreshServing();
          core.emit("role-demoted", `${port.array} becomes golden copy of ${from} for ${port.name}`, {
            primary: from,
            salvage: kept?.entry.id ?? null,
          });
          core.meetAnew("this side is golden now");
          resolve(done(kept === null ? null : kept.entry));
        },
      );
    });
  }

  #whyNotFrom(channel: PeerChannel): Result<never> | null {
    const core = this.#core;
    const { theirs, array } = channel;
    if (theirs?.role !== "primary") {
      return refuse("not-primary", `${array} is a golden copy itself; resync from the array that is primary`);
    }
    if (!core.role.is("unconfirmed", "serving", "granting"))
      return refuse("busy", `the role of ${core.port.name} is changing`);
    if (!theirs.writable && core.role.is("serving")) {
      return refuse("not-primary", `${array} is not in force as primary, and ${core.port.array} is`);
    }
    return null;
  }

  #salvage(forkSeq: number): Promise<{ readonly entry: SalvageEntry; readonly fork: KeptFork } | "failed"> {
    const core = this.#core;
    const { port, log } = core;
    const id = salvagePrefix + newId(core).slice(0, 12);
    const bytes = log.bytesAfter(forkSeq);
    const lineage = log.lineage();
    return new Promise((resolve) => {
      port.forkHere(id, (error, seq) => {
        if (error !== null) {
          core.emit("salvage-failed", `the salvage set could not be made: ${error.text}`);
          resolve("failed");
          return;
        }
        core.emit("salvage-kept", `what was written here beyond seq ${forkSeq} is kept as ${id}`, {
          id,
          forkSeq,
          bytes,
        });
        const fork = { id, seq, lineage: forkLineage(lineage, seq), salvage: true };
        resolve({ entry: { id, forkSeq, bytes }, fork });
      });
    });
  }
}
