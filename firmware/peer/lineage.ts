/**
 * Lineages: which log a copy is, and where two copies part.
 *
 * A lineage is the list of a log's timelines, oldest first; each entry names the timeline and the first seq written on it. The
 * parent of an entry is the entry before it, at `firstSeq - 1`.
 */

export interface LineageEntry {
  /** 32 hex digits. */
  readonly timeline: string;
  readonly firstSeq: number;
}

export type LineageRelation =
  | { readonly kind: "unrelated" }
  /** Both hold the same records through `seq`; beyond it `ours` and `theirs` tell who has more. */
  | { readonly kind: "related"; readonly forkSeq: number; readonly oursBeyond: number; readonly theirsBeyond: number };

/** Where a copy stands: its lineage and the highest seq that it holds. */
export interface LogPosition {
  readonly lineage: readonly LineageEntry[];
  readonly headSeq: number;
}

/**
 * Compares two copies of one group. `oursBeyond` and `theirsBeyond` are the numbers of seqs that each holds beyond the fork
 * point; when both are positive the copies have diverged.
 */
export function compareLineages(ours: LogPosition, theirs: LogPosition): LineageRelation {
  let common = 0;
  while (
    common < ours.lineage.length &&
    common < theirs.lineage.length &&
    ours.lineage[common]?.timeline === theirs.lineage[common]?.timeline &&
    ours.lineage[common]?.firstSeq === theirs.lineage[common]?.firstSeq
  ) {
    common++;
  }
  if (common === 0) {
    if (ours.lineage.length > 0 && theirs.lineage.length > 0) return { kind: "unrelated" };
    return { kind: "related", forkSeq: 0, oursBeyond: ours.headSeq, theirsBeyond: theirs.headSeq };
  }
  const forkSeq = Math.min(endOfCommon(ours, common), endOfCommon(theirs, common));
  return {
    kind: "related",
    forkSeq,
    oursBeyond: ours.headSeq - forkSeq,
    theirsBeyond: theirs.headSeq - forkSeq,
  };
}

/** The highest seq that `position` holds on its first `common` timelines. */
function endOfCommon(position: LogPosition, common: number): number {
  const next = position.lineage[common];
  return next === undefined ? position.headSeq : Math.min(position.headSeq, next.firstSeq - 1);
}
