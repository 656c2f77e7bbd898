/**
 * What two copies of a group do when they meet: a pure function of both hellos, drawn as a table here and replayed row by row in
 * its test. "Beyond" counts seqs behind the fork point; "continues" means: opened a timeline of its own behind the fork point.
 *
 *   ours     theirs    condition                                        decision
 *   primary  golden    gave it a grant, and it has that                 grantTaken, else offerGrant (if it follows us)
 *                      follows another array                            idle: follows-other
 *                      its log cannot take our largest records          idle: cache-too-small
 *                      asked for everything, or its image is mixed      resync (stream, if it can go on where it was)
 *                      holds committed records that we lack             behind us: diverged; ahead of us: idle peer-ahead
 *                      a prefix (or beyond only above its commitSeq)    stream from the fork point; resync when the log is short
 *   golden   primary   it is the one we follow                          follow
 *                      another; ours is silent, and it continues us     follow, adopting it
 *   golden   golden                                                     idle: no-primary
 *   primary  primary   either holds a grant of the other                grantTaken / idle: grant-comes
 *                      only theirs continues                            superseded (diverged, if we are writable with writes beyond)
 *                      only ours continues                              supersedes (diverged, likewise)
 *                      both continue, or unrelated                      diverged
 *                      neither continues                                the writable one supersedes; idle: two-primaries
 *
 * Invariant: nothing that a copy has committed is dropped by any decision here; only `resync`, which forks first, replaces it.
 */
import type { Hello } from "../peer/frame.ts";
import { compareLineages, type LineageEntry, type LogPosition } from "../peer/lineage.ts";
import type { PeerEntry } from "./document.ts";

export interface Meeting {
  readonly ours: Hello;
  readonly theirs: Hello;
  /** Our entry for them; null when we do not replicate to them. */
  readonly peer: PeerEntry | null;
  /** Whether our log still has everything behind `seq`. */
  readonly canStreamFrom: (seq: number) => boolean;
  /** Golden: whether the array that we follow is connected as a primary. */
  readonly primaryIsHeard: boolean;
}

export type IdleReason =
  | "follows-other"
  | "no-primary"
  | "two-primaries"
  | "peer-ahead"
  | "grant-comes"
  | "granted-elsewhere"
  | "stopped-here"
  | "stopped-there"
  | "not-a-peer"
  | "cache-too-small";

export type Decision =
  | {
      readonly kind: "stream";
      readonly fromSeq: number;
      /** Theirs holds records beyond, which our newer timeline drops. */
      readonly drops: boolean;
      /** Goes on with this resync. */
      readonly resumes: string | null;
      /** A resync that had ended there without our knowing. */
      readonly completes: string | null;
    }
  | { readonly kind: "resync" }
  | { readonly kind: "follow"; readonly adopts: boolean }
  | { readonly kind: "offerGrant" }
  | { readonly kind: "grantTaken" }
  | { readonly kind: "superseded"; readonly forkSeq: number; readonly oursBeyond: number }
  | { readonly kind: "supersedes"; readonly forkSeq: number; readonly theirsBeyond: number }
  | {
      readonly kind: "diverged";
      readonly forkSeq: number | null;
      readonly oursBeyond: number | null;
      readonly theirsBeyond: number | null;
    }
  | { readonly kind: "idle"; readonly reason: IdleReason };

export function decide(meeting: Meeting): Decision {
  const { ours, theirs } = meeting;
  if (ours.role === "primary") return theirs.role === "primary" ? primaries(meeting) : toGolden(meeting);
  return theirs.role === "primary" ? toPrimary(meeting) : { kind: "idle", reason: "no-primary" };
}

/**
 * Whether `theirs` can confirm that `ours` is still primary: a golden copy that follows it and holds nothing acknowledged that
 * it lacks, or an ex-primary that it superseded.
 */
export function canConfirm(decision: Decision, theirs: Hello): boolean {
  if (decision.kind === "stream" || decision.kind === "resync") return true;
  if (decision.kind === "supersedes") return !theirs.writable;
  if (decision.kind !== "idle") return false;
  return (
    decision.reason === "stopped-here" || decision.reason === "stopped-there" || decision.reason === "cache-too-small"
  );
}

function toGolden({ ours, theirs, peer, canStreamFrom }: Meeting): Decision {
  if (ours.grant !== null) {
    if (ours.grant.to !== theirs.array) return { kind: "idle", reason: "granted-elsewhere" };
    if (theirs.acceptedGrant === ours.grant.id) return { kind: "grantTaken" };
    // One that follows another array may have accepted this grant long ago: only one that follows us can still decline it.
    return theirs.primary === ours.array ? { kind: "offerGrant" } : { kind: "idle", reason: "follows-other" };
  }
  if (theirs.primary !== ours.array) return { kind: "idle", reason: "follows-other" };
  if (peer === null) return { kind: "idle", reason: "not-a-peer" };
  if (theirs.recordPayloadBytes < ours.recordPayloadBytes) return { kind: "idle", reason: "cache-too-small" };
  if (theirs.wantsResync) return { kind: "resync" };
  const relation = relate(ours, theirs);
  const losesCommitted = relation === null || (relation.theirsBeyond > 0 && relation.forkSeq < theirs.commitSeq);
  const completes =
    peer.resync !== null && theirs.consistent && peer.resync.id === theirs.completedResync ? peer.resync.id : null;
  const resyncs = !theirs.consistent || (peer.resync !== null && completes === null);
  if (losesCommitted && !resyncs) {
    const behind = relation !== null && !relation.oursContinues && !ours.writable;
    if (behind) return { kind: "idle", reason: "peer-ahead" };
    return diverged(relation);
  }
  if (peer.stopped !== null) {
    return peer.stopped === "diverged" ? diverged(relation) : { kind: "idle", reason: "stopped-here" };
  }
  if (theirs.whyStopped !== null) return { kind: "idle", reason: "stopped-there" };
  const mayResume =
    theirs.resync?.begun === true && peer.resync?.id === theirs.resync.id && !theirs.consistent && !losesCommitted;
  if (resyncs && !mayResume) return { kind: "resync" };
  if (relation === null || !canStreamFrom(relation.forkSeq)) return { kind: "resync" };
  return {
    kind: "stream",
    fromSeq: relation.forkSeq,
    drops: relation.theirsBeyond > 0,
    resumes: mayResume ? theirs.resync.id : null,
    completes,
  };
}

function toPrimary({ ours, theirs, primaryIsHeard }: Meeting): Decision {
  if (ours.primary === theirs.array) return { kind: "follow", adopts: false };
  const relation = relate(ours, theirs);
  if (relation === null || primaryIsHeard || !theirs.writable || !ours.consistent) {
    return { kind: "idle", reason: "follows-other" };
  }
  const keepsOurs = relation.oursBeyond === 0 || relation.forkSeq >= ours.commitSeq;
  if (keepsOurs && relation.theirsContinues) return { kind: "follow", adopts: true };
  return { kind: "idle", reason: "follows-other" };
}

function primaries({ ours, theirs }: Meeting): Decision {
  if (ours.grant?.to === theirs.array) return { kind: "grantTaken" };
  if (theirs.grant?.to === ours.array) return { kind: "idle", reason: "grant-comes" };
  const relation = relate(ours, theirs);
  if (relation === null || (relation.oursContinues && relation.theirsContinues)) return diverged(relation);
  const { forkSeq, oursBeyond, theirsBeyond } = relation;
  const oursIsNewer = relation.oursContinues || (!relation.theirsContinues && ours.writable && !theirs.writable);
  const theirsIsNewer = relation.theirsContinues || (!relation.oursContinues && theirs.writable && !ours.writable);
  if (theirsIsNewer) {
    return ours.writable && oursBeyond > 0 ? diverged(relation) : { kind: "superseded", forkSeq, oursBeyond };
  }
  if (oursIsNewer) {
    return theirs.writable && theirsBeyond > 0 ? diverged(relation) : { kind: "supersedes", forkSeq, theirsBeyond };
  }
  return ours.writable ? diverged(relation) : { kind: "idle", reason: "two-primaries" };
}

function diverged(relation: Relation | null): Decision {
  return {
    kind: "diverged",
    forkSeq: relation?.forkSeq ?? null,
    oursBeyond: relation?.oursBeyond ?? null,
    theirsBeyond: relation?.theirsBeyond ?? null,
  };
}

export interface Relation {
  readonly forkSeq: number;
  readonly oursBeyond: number;
  readonly theirsBeyond: number;
  readonly oursContinues: boolean;
  readonly theirsContinues: boolean;
}

/** null: the two logs have nothing in common, and neither is empty. */
export function relate(ours: LogPosition, theirs: LogPosition): Relation | null {
  const [left, right] = alignLineages(ours.lineage, theirs.lineage);
  const relation = compareLineages(
    { lineage: left, headSeq: ours.headSeq },
    { lineage: right, headSeq: theirs.headSeq },
  );
  if (relation.kind === "unrelated") return null;
  let common = 0;
  while (common < left.length && common < right.length && left[common]?.timeline === right[common]?.timeline) common++;
  return {
    forkSeq: relation.forkSeq,
    oursBeyond: relation.oursBeyond,
    theirsBeyond: relation.theirsBeyond,
    oursContinues: left.length > common,
    theirsContinues: right.length > common,
  };
}

/** Two lineages cut to begin with the same entry: a long one is sent without its oldest entries. */
function alignLineages(
  ours: readonly LineageEntry[],
  theirs: readonly LineageEntry[],
): [readonly LineageEntry[], readonly LineageEntry[]] {
  if (ours.length === 0 || theirs.length === 0) return [ours, theirs];
  const inOurs = ours.findIndex((entry) => entry.timeline === theirs[0]?.timeline);
  if (inOurs >= 0) return [ours.slice(inOurs), theirs];
  const inTheirs = theirs.findIndex((entry) => entry.timeline === ours[0]?.timeline);
  return inTheirs >= 0 ? [ours, theirs.slice(inTheirs)] : [ours, theirs];
}
