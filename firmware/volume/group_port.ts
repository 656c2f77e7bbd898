/**
 * What one consistency group gives to replication and role logic (rooms mirror and peer). Implemented by `group.ts`; one owner
 * per datum: the log owns seqs and lineage, the store owns homes and forks, replication owns its own sub-document.
 */
import type { Clock } from "../../hal/api/clock.ts";
import type { Digests } from "../../hal/api/digests.ts";
import type { Entropy } from "../../hal/api/entropy.ts";
import type { ReplicationLog } from "../log/replication_log.ts";
import type { EventSink } from "../manage/events.ts";
import type { HomeExtent, StoreError, Version } from "../store/store.ts";

export interface GroupVolume {
  /** Unique in the group for ever. */
  readonly number: number;
  /** 32 hex digits; travels with the volume. */
  readonly uuid: string;
  readonly name: string;
  readonly sizeBytes: number;
}

/** What hosts may do with the group's volumes now. A change of it ends host sessions, except false -> true of one same view. */
export interface Serving {
  readonly writable: boolean;
  /** Why it is not writable, a sentence for people; null when it is. */
  readonly why: string | null;
  /** `head`: committed state (log index over home); a fork's id: that fork; null: exports are closed. */
  readonly readable: "head" | { readonly fork: Version } | null;
}

export interface GroupPort {
  /** 32 hex digits, the same on every array. */
  readonly id: string;
  readonly name: string;
  /** This array's name. */
  readonly array: string;
  readonly appliance: string;
  readonly clock: Clock;
  readonly entropy: Entropy;
  readonly digests: Digests;
  readonly events: EventSink;
  readonly log: ReplicationLog;

  /** Replication's own durable sub-document (plain CBOR values); null on a new group. */
  replicationDocument(): unknown;
  /** Makes it durable in the group's root. Calls are queued in order; an error means that the shelf has failed. */
  saveReplicationDocument(document: unknown, done: (error: StoreError | null) => void): void;

  /** True when the cache that held this group's log was lost with records that were not destaged: the home image is a mixture. */
  readonly cacheWasLost: boolean;
  /** Replication's next save records the loss in its own way (or the operator has accepted it): the group's root forgets it then. */
  acceptCacheLoss(): void;

  serving(): Serving;
  setServing(serving: Serving): void;
  /** New host writes wait (bounded, BUSY beyond) instead of being admitted; nothing new enters the log. Cancelled by `release`. */
  holdWrites(): void;
  releaseWrites(): void;
  /**
   * Commits everything durable in the log (not waiting for peers any more), then starts a new timeline by an opening record and
   * makes it durable. Needed before every first write of a primary: restart, takeover, migration. `done` with the new timeline.
   */
  openForWriting(done: (error: StoreError | null, opened: { timeline: string; firstSeq: number } | null) => void): void;
  /** No admissions any more until the next `openForWriting`; admitted writes still complete. */
  closeForWriting(): void;
  /** From now on (a golden copy's log) only what the primary is heard to have committed is committed here. Idempotent. */
  followPrimary(): void;
  /** Everything durable in the log is committed and at home; then `done(seq)`. */
  drainToHome(done: (error: StoreError | null, seq: number) => void): void;
  /** drainToHome, then a durable fork of the group there. */
  forkHere(id: string, done: (error: StoreError | null, seq: number) => void): void;
  dropFork(id: string, done: (error: StoreError | null) => void): void;
  forks(): readonly { readonly id: string; readonly seq: number }[];
  /** The head becomes the fork's content; the former head stays as fork `keepAs` when given. The log is emptied (see resetLog). */
  promoteFork(id: string, keepAs: string | null, done: (error: StoreError | null) => void): void;
  /**
   * Forgets the log's records and takes over a lineage and a position from the primary: the group then expects the record after
   * `seq`. Only after a salvage and a durable `inconsistent` mark, at the start of a full resync, or when the group is empty. Durable.
   */
  resetLog(
    position: { lineage: readonly import("../peer/lineage.ts").LineageEntry[]; seq: number },
    done: (error: StoreError | null) => void,
  ): void;

  /** The volumes as of commitSeq. */
  volumes(): readonly GroupVolume[];
  /**
   * Reads whole physical blocks as a resync needs them: `asOf.from` is the commitSeq when the read began, `asOf.through` when it
   * ended: the data holds every write up to `from` and none beyond `through`.
   */
  readAsOf(
    volume: number,
    firstBlock: number,
    target: Uint8Array,
    done: (error: StoreError | null, asOf: { readonly from: number; readonly through: number }) => void,
  ): void;
  /** Allocated and unallocated extents as of now (log and home together), at most `limit`, adjoining from `firstBlock`. */
  extentsAsOf(
    volume: number,
    range: { readonly firstBlock: number; readonly blockCount: number; readonly limit: number },
    done: (
      error: StoreError | null,
      extents: readonly HomeExtent[],
      asOf: { readonly from: number; readonly through: number },
    ) => void,
  ): void;
  /** Encodes as-of records for a peer's stream, standing behind `seq` of `timeline`. `bytes` of `chunk`: whole physical blocks. */
  encodeChunk(place: AsOfPlace, volume: number, firstBlock: number, bytes: Uint8Array): Uint8Array;
  encodeHole(place: AsOfPlace, volume: number, firstBlock: number, blockCount: number): Uint8Array;
  /** The whole volume table as an as-of record: the first record of a full resync. */
  encodeTable(place: AsOfPlace, volumes: readonly GroupVolume[]): Uint8Array;

  /**
   * Writes a boundary record (primary, writable only). Every copy forks as `id` when its destage reaches the boundary.
   * `done(seq)` when the record is committed.
   */
  writeBoundary(id: string, purpose: string, done: (error: StoreError | null, seq: number) => void): void;
  /** Writes a `consistentAt` record: the peer named in it holds a consistent image from this seq on. */
  writeConsistentAt(peer: string, done: (error: StoreError | null, seq: number) => void): void;
  /** Called on every copy when a boundary's fork is durable, and when a consistentAt record is committed. */
  onBoundary(
    listener: (boundary: { readonly id: string; readonly purpose: string; readonly seq: number }) => void,
  ): void;
  onConsistentAt(listener: (mark: { readonly peer: string; readonly seq: number }) => void): void;
  /** Reads a fork's content, whole blocks; holes as zeros. */
  readFork(
    id: string,
    volume: number,
    firstBlock: number,
    target: Uint8Array,
    done: (error: StoreError | null) => void,
  ): void;
  forkExtents(
    id: string,
    volume: number,
    range: { readonly firstBlock: number; readonly blockCount: number; readonly limit: number },
    done: (error: StoreError | null, extents: readonly HomeExtent[]) => void,
  ): void;
  forkVolumes(id: string): readonly { readonly number: number; readonly sizeBytes: number }[];
}

/** Where an as-of record stands in a peer's stream. */
export interface AsOfPlace {
  readonly timeline: string;
  /** The seq of the record before it in the stream. */
  readonly seq: number;
  /** The newest write that its data may hold: `asOf.through`. */
  readonly asOfSeq: number;
}
