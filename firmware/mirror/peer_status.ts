/** The numbers and states of the status document, computed when asked for. */
import type { PeerJson, ReplicaState } from "../manage/status_json.ts";
import type { PeerEntry } from "./document.ts";
import type { GroupCore } from "./group_core.ts";
import type { PeerChannel } from "./peer_channel.ts";

/** A peer as its primary sees it. */
export function peerOfPrimary(core: GroupCore, entry: PeerEntry): PeerJson {
  const channel = core.channel(entry.array);
  const outbound = channel?.outbound ?? null;
  const { log } = core;
  const receivedSeq = Math.min(outbound?.receivedSeq ?? entry.receivedSeq, log.headSeq);
  const lagSeqs = Math.max(0, log.commitSeq - receivedSeq);
  return {
    array: entry.array,
    mode: entry.mode,
    state: stateOfPeer(channel, entry),
    receivedSeq,
    appliedSeq: outbound?.appliedSeq ?? null,
    protectedThroughSeq: outbound?.protectedThroughSeq ?? null,
    lagSeqs,
    lagBytes: lagSeqs === 0 ? 0 : log.bytesAfter(receivedSeq),
    lagMs: lagMsOf(core, receivedSeq),
    resyncBytesLeft: outbound === null ? null : outbound.resyncBytesLeft,
  };
}

/** null: the log no longer has what the peer lacks, so nobody knows since when. */
export function lagMsOf(core: GroupCore, receivedSeq: number): number | null {
  if (receivedSeq >= core.log.commitSeq) return 0;
  const sinceMs = core.log.wallMsAfter(receivedSeq);
  return sinceMs === null ? null : Math.max(0, Math.round(core.clock.wallMs() - sinceMs));
}

function stateOfPeer(channel: PeerChannel | null, entry: PeerEntry): ReplicaState {
  const decision = channel?.decision ?? null;
  if (entry.stopped === "diverged" || decision?.kind === "diverged") return "diverged";
  if (entry.stopped !== null) return "suspended";
  if (channel === null || !channel.connected) {
    if (entry.resync !== null && entry.resync.id === null) return "suspended";
    return entry.mode === "sync" && entry.protection === "suspended" ? "suspended" : "disconnected";
  }
  if (decision?.kind === "supersedes" || decision?.kind === "superseded" || decision?.kind === "idle")
    return "suspended";
  if (entry.resync !== null || channel.outbound?.resyncing === true) return "resyncing";
  return channel.outbound?.inSync === true ? "in-sync" : "catching-up";
}

/** A golden copy's own state. */
export function stateOfGolden(core: GroupCore): ReplicaState {
  const { document, log } = core;
  if (core.keeper.shownImage.kind === "inconsistent") return "inconsistent";
  const channel = document.primary === null ? null : core.channel(document.primary);
  if (core.faults.why !== null) return "diverged";
  const inbound = channel?.inbound ?? null;
  if (channel === null || !channel.connected || inbound === null || !inbound.receiver.streaming) return "consistent";
  const { receiver, lastBeat } = inbound;
  const hasAll = log.persistedSeq >= receiver.heardCommitSeq && receiver.streamSeq >= receiver.heardCommitSeq;
  return lastBeat?.inSync === true && hasAll ? "in-sync" : "catching-up";
}

/** A golden side's only entry: its primary. */
export function primaryOfGolden(core: GroupCore): PeerJson[] {
  const { document } = core;
  if (document.primary === null) return [];
  const channel = core.channel(document.primary);
  const connected = channel?.connected === true;
  const mode = document.peers.find((peer) => peer.array === document.primary)?.mode ?? "async";
  return [
    {
      array: document.primary,
      mode,
      state: connected ? stateOfGolden(core) : "disconnected",
      receivedSeq: null,
      appliedSeq: null,
      protectedThroughSeq: null,
      lagSeqs: null,
      lagBytes: null,
      lagMs: null,
      resyncBytesLeft: null,
    },
  ];
}

/** A primary's own state. */
export function stateOfPrimary(core: GroupCore): ReplicaState {
  if (core.cacheLost && !core.role.is("serving")) return "inconsistent";
  for (const { decision } of core.channels) {
    if (decision?.kind === "diverged" || (decision?.kind === "superseded" && decision.oursBeyond > 0))
      return "diverged";
  }
  return core.role.is("serving") ? "in-sync" : "consistent";
}
