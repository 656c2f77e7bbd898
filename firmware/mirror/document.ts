/**
 * Replication's own durable document of one group: the role, whom it replicates to, and every operation that must survive a
 * crash. Plain CBOR values; read back with a full check, because it comes from a medium.
 *
 * Invariants:
 * - One writer (`DocumentKeeper`); a state that others may rely on is announced only when it is durable.
 * - `role: primary` and `grant` together mean: this side writes no more until the grant is answered (or the operator says so).
 */
import { isId } from "../codec/bytes.ts";
import type { GroupRole, StreamMode } from "../peer/frame.ts";
import type { LineageEntry } from "../peer/lineage.ts";

export interface ReplicationDocument {
  readonly format: 1;
  readonly role: GroupRole;
  /** Golden: the array that it follows. */
  readonly primary: string | null;
  /** Primary: its peers. Golden: what it would replicate to if it were promoted (its primary and that one's other peers). */
  readonly peers: readonly PeerEntry[];
  readonly image: ImageState;
  /** The primary role, given away and not yet accepted. */
  readonly grant: GrantEntry | null;
  /** The newest grant accepted here. */
  readonly acceptedGrant: string | null;
  readonly salvage: readonly SalvageEntry[];
  /** A fork of before a resync, kept until its successor is proven. */
  readonly keptFork: KeptFork | null;
  /** A promotion of a kept fork that a crash must not leave half done. */
  readonly promotion: KeptFork | null;
  /** Golden: the primary's word, in an orderly stop, that nothing lies behind this point. */
  readonly closed: { readonly timeline: string; readonly seq: number } | null;
  /** Golden: what it holds is kept aside, or not worth keeping; everything is to be sent. */
  readonly wantsResync: boolean;
  /** Golden: the newest resync that has ended here. */
  readonly completedResync: string | null;
}

export interface PeerEntry {
  readonly array: string;
  readonly mode: StreamMode;
  /** Sync mode: whether acknowledgements wait for this peer. */
  readonly protection: "none" | "armed" | "suspended";
  /** What the peer has durably, as of the last lazy save. */
  readonly receivedSeq: number;
  /** "everything": the log no longer has what it lacks; with `id` once begun. */
  readonly resync: ResyncEntry | null;
  /** A resync has ended and its digests have not been compared yet. */
  readonly unverified: boolean;
  /** Resyncs whose digests did not match, one after the other. */
  readonly mismatches: number;
  /** Replication to it has stopped until the operator acts. */
  readonly stopped: "diverged" | "corrupt" | "mismatch" | null;
}

export interface ResyncEntry {
  readonly what: "everything";
  readonly id: string | null;
  /** The volumes to send, as they were when it began: what came later is in the stream. */
  readonly volumes: readonly { readonly number: number; readonly sizeBytes: number }[];
}

export type ImageState = { readonly kind: "consistent" } | InconsistentImage;

export interface InconsistentImage {
  readonly kind: "inconsistent";
  /** null: not by a resync (the write cache was lost). */
  readonly resyncId: string | null;
  /** The volume table has arrived. */
  readonly begun: boolean;
  readonly nextVolume: number;
  readonly nextBlock: number;
  /** What can be promoted meanwhile. */
  readonly fork: KeptFork | null;
}

export interface KeptFork {
  readonly id: string;
  readonly seq: number;
  readonly lineage: readonly LineageEntry[];
  /** A salvage set stays when the resync has ended. */
  readonly salvage: boolean;
}

export interface GrantEntry {
  readonly id: string;
  readonly to: string;
  readonly timeline: string;
  readonly seq: number;
}

export interface SalvageEntry {
  readonly id: string;
  readonly forkSeq: number;
  readonly bytes: number;
}

export const consistentImage: ImageState = { kind: "consistent" };

/** The write cache was lost with records that were not at home: a mixture, and nothing older was kept. */
export const lostImage: InconsistentImage = {
  kind: "inconsistent",
  resyncId: null,
  begun: false,
  nextVolume: 0,
  nextBlock: 0,
  fork: null,
};

/**
 * The image of a golden copy whose write cache is gone. Of a resync that was under way, chunks that had arrived may be gone too: it
 * begins anew, and what was kept before it stays.
 */
export function withCacheLost(image: ImageState): InconsistentImage {
  return image.kind === "consistent" ? lostImage : { ...image, begun: false, nextVolume: 0, nextBlock: 0 };
}

export function emptyDocument(): ReplicationDocument {
  return {
    format: 1,
    role: "primary",
    primary: null,
    peers: [],
    image: consistentImage,
    grant: null,
    acceptedGrant: null,
    salvage: [],
    keptFork: null,
    promotion: null,
    closed: null,
    wantsResync: false,
    completedResync: null,
  };
}

/** The document that a group is created with when a primary sends it here. */
export function goldenDocument(primary: string, mode: StreamMode): ReplicationDocument {
  return { ...emptyDocument(), role: "golden", primary, peers: [peerEntry(primary, mode)] };
}

export function peerEntry(array: string, mode: StreamMode, receivedSeq = 0): PeerEntry {
  return {
    array,
    mode,
    protection: mode === "sync" ? "suspended" : "none",
    receivedSeq,
    resync: null,
    unverified: false,
    mismatches: 0,
    stopped: null,
  };
}

/** The document with one peer's entry changed; unchanged when there is no such peer. */
export function withPeer(
  document: ReplicationDocument,
  array: string,
  change: (entry: PeerEntry) => PeerEntry,
): ReplicationDocument {
  return { ...document, peers: document.peers.map((entry) => (entry.array === array ? change(entry) : entry)) };
}

/** null: not a document of this format. */
export function parseDocument(value: unknown): ReplicationDocument | null {
  if (value === null || value === undefined) return emptyDocument();
  if (!isRecord(value) || value["format"] !== 1) return null;
  const {
    role,
    primary,
    peers,
    image,
    grant,
    acceptedGrant,
    salvage,
    keptFork,
    promotion,
    closed,
    wantsResync,
    completedResync,
  } = value;
  const valid =
    (role === "primary" || role === "golden") &&
    (primary === null || typeof primary === "string") &&
    isList(peers, isPeerEntry) &&
    isImage(image) &&
    (grant === null || isGrant(grant)) &&
    (acceptedGrant === null || isId(acceptedGrant)) &&
    isList(salvage, isSalvage) &&
    (keptFork === null || isKeptFork(keptFork)) &&
    (promotion === null || isKeptFork(promotion)) &&
    (closed === null || (isRecord(closed) && isId(closed["timeline"]) && isSeq(closed["seq"]))) &&
    typeof wantsResync === "boolean" &&
    (completedResync === null || isId(completedResync));
  return valid ? (value as unknown as ReplicationDocument) : null;
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isSeq(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}

function isList(value: unknown, isItem: (item: unknown) => boolean): boolean {
  return Array.isArray(value) && value.every(isItem);
}

function isPeerEntry(value: unknown): boolean {
  return (
    isRecord(value) &&
    typeof value["array"] === "string" &&
    (value["mode"] === "async" || value["mode"] === "sync") &&
    ["none", "armed", "suspended"].includes(value["protection"] as string) &&
    isSeq(value["receivedSeq"]) &&
    (value["resync"] === null || isResync(value["resync"])) &&
    typeof value["unverified"] === "boolean" &&
    isSeq(value["mismatches"]) &&
    [null, "diverged", "corrupt", "mismatch"].includes(value["stopped"] as string | null)
  );
}

function isResync(value: unknown): boolean {
  return (
    isRecord(value) &&
    value["what"] === "everything" &&
    (value["id"] === null || isId(value["id"])) &&
    isList(value["volumes"], (item) => isRecord(item) && isSeq(item["number"]) && isSeq(item["sizeBytes"]))
  );
}

function isImage(value: unknown): boolean {
  if (!isRecord(value)) return false;
  if (value["kind"] === "consistent") return true;
  return (
    value["kind"] === "inconsistent" &&
    (value["resyncId"] === null || isId(value["resyncId"])) &&
    typeof value["begun"] === "boolean" &&
    isSeq(value["nextVolume"]) &&
    isSeq(value["nextBlock"]) &&
    (value["fork"] === null || isKeptFork(value["fork"]))
  );
}

function isKeptFork(value: unknown): boolean {
  return (
    isRecord(value) &&
    typeof value["id"] === "string" &&
    isSeq(value["seq"]) &&
    typeof value["salvage"] === "boolean" &&
    isList(value["lineage"], (item) => isRecord(item) && isId(item["timeline"]) && isSeq(item["firstSeq"]))
  );
}

function isGrant(value: unknown): boolean {
  return (
    isRecord(value) &&
    isId(value["id"]) &&
    typeof value["to"] === "string" &&
    isId(value["timeline"]) &&
    isSeq(value["seq"])
  );
}

function isSalvage(value: unknown): boolean {
  return isRecord(value) && typeof value["id"] === "string" && isSeq(value["forkSeq"]) && isSeq(value["bytes"]);
}
