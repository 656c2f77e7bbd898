/**
 * The write log of one group as the mirror sees it: one ordered sequence of records that cursors read, and that a golden side
 * appends to. Implemented by `write_log.ts`.
 *
 * Invariants:
 * - A record's identity is (timeline, seq). A chunk-as-of record (kinds `chunk`, `chunkHole`, `table`) takes no seq of its own: it
 *   carries the seq of the record before it in this copy's stream, and stands behind it.
 * - `commitSeq <= persistedSeq <= headSeq`. Only records with seq <= commitSeq are sent to async peers.
 * - A run is whole records in the log's own bytes (see `record.ts`); it is never re-encoded.
 */
import type { LineageEntry } from "../peer/lineage.ts";

export interface LogRun {
  /** Whole records, back to back, possibly with padding between them; a view that stays valid while the log retains `firstSeq`. */
  readonly bytes: Uint8Array;
  readonly firstSeq: number;
  readonly lastSeq: number;
}

/** A place between two records. Moved by `next` and `load`. */
export interface LogCursor {
  /** Every record with a seq up to this one lies before the cursor. */
  seq: number;
  ordinal: number;
  offsetBytes: number;
}

export type AppendOutcome =
  | { readonly kind: "appended" }
  /**
   * No room now, in the cache or (`noSpace`) in the pool: nothing of the rest was taken; `takenBytes` of the run were. `onRoom` tells
   * when to go on.
   */
  | { readonly kind: "busy"; readonly takenBytes: number; readonly noSpace: boolean }
  | { readonly kind: "gap"; readonly expectedSeq: number; readonly gotSeq: number }
  /** Another record is held under that identity, or the timeline does not continue this log. */
  | { readonly kind: "diverged"; readonly seq: number; readonly text: string }
  | { readonly kind: "corrupt"; readonly text: string };

export interface ReplicationLog {
  lineage(): readonly LineageEntry[];
  /** The largest payload of one record that this log writes and takes. */
  readonly recordPayloadBytes: number;
  readonly headSeq: number;
  readonly persistedSeq: number;
  readonly commitSeq: number;
  /** Everything up to here is at its home location, durably. */
  readonly destagedSeq: number;
  /** Wall time (ms) at which the record at `commitSeq` was admitted on its primary; null when the log is empty. */
  readonly commitWallMs: number | null;
  /** Bytes of records with seq above `seq` that the log holds (what a peer at `seq` lags behind). */
  bytesAfter(seq: number): number;
  /** Wall time of the first record above `seq`, null when there is none. */
  wallMsAfter(seq: number): number | null;

  // The sending side.
  /** A cursor behind the record with `seq`, or null when the log has let records above `seq` go. */
  cursorAfter(seq: number): LogCursor | null;
  /**
   * The next run at `cursor`: no record above `throughSeq`, at most `maxBytes` unless the first record alone is larger. Moves the
   * cursor. "end": nothing there (yet). "on-shelf": use `load`.
   */
  next(cursor: LogCursor, throughSeq: number, maxBytes: number): LogRun | "end" | "on-shelf";
  /** The same from the shelf; null when it could not be read (the link then starts over, or the peer is suspended). */
  load(cursor: LogCursor, throughSeq: number, maxBytes: number, done: (run: LogRun | "end" | null) => void): void;
  /** Records above `seq` are kept for `peer` (spilled to the shelf when the cache needs room) until the quota is reached. */
  retain(peer: string, seq: number): void;
  release(peer: string): void;
  /**
   * The one listener that is asked when the quota is reached: it makes "everything allocated" durable for that peer, then
   * releases it. Hosts feel back-pressure meanwhile.
   */
  onOverflow(listener: (peer: string) => void): void;
  /** commitSeq waits for this peer's `receivedSeq`; null lifts the requirement. */
  require(peer: string, receivedSeq: number | null): void;

  // The receiving side (golden).
  /**
   * Appends a run from the primary: checks every record, skips what is already held, truncates what a newer timeline of the
   * primary drops (never at or below commitSeq). The bytes are copied.
   */
  appendRun(bytes: Uint8Array): AppendOutcome;
  onRoom(listener: () => void): void;
  /** What the primary has committed; the log commits min(this, persistedSeq). Never goes back on one timeline. */
  hearCommit(seq: number): void;
  /** Counts every appended record, as-of records too; with `persistedRecords` it tells when a given append is durable. */
  readonly appendedRecords: number;
  readonly persistedRecords: number;

  /** Listeners are called after every advance of the respective seq (or record count); any number of them. */
  onPersisted(listener: () => void): void;
  onCommitted(listener: () => void): void;
  onDestaged(listener: () => void): void;
  onAdmitted(listener: () => void): void;
}
