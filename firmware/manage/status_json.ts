/**
 * The documents that `goldcopy ... --json` prints. Their field names are kept stable: fields are added, never renamed. Numbers are
 * safe integers, units stand last, null means unknown or not applicable.
 */

export const replicaStates = [
  "in-sync", // lag is 0 (sync mode: every ack waits for it)
  "catching-up", // connected, replaying the log
  "resyncing", // chunks are being copied
  "consistent", // a prefix, behind, not connected (a golden side that is cut off)
  "inconsistent", // a mixture; only its kept fork can be promoted unforced
  "diverged", // both sides have writes of their own
  "disconnected", // the primary's view of a peer that does not answer
  "suspended", // not replicated to now: a sync peer that is away, or one for which the log could not be kept (resync)
] as const;
export type ReplicaState = (typeof replicaStates)[number];

export const peerModes = ["sync", "async", "delta"] as const;
export type PeerMode = (typeof peerModes)[number];

export interface StatusJson {
  /** This array and the appliance that answers. */
  readonly array: string;
  readonly appliance: string;
  readonly version: string;
  readonly appliances: readonly ApplianceJson[];
  /** null for an array of one appliance. */
  readonly pair: PairJson | null;
  readonly groups: readonly GroupJson[];
  readonly warnings: readonly WarningJson[];
}

export interface ApplianceJson {
  readonly name: string;
  /** `starting` until every group's role has settled, writable or not. */
  readonly state: "up" | "down" | "starting";
  /** `unknown` while it starts. */
  readonly battery: "good" | "failed" | "unknown";
  readonly cacheDirtyBytes: number;
  readonly cacheBytes: number;
}

export const pairStates = [
  "mirrored", // every acknowledgement is in both caches, or on the shelf
  "copying", // the partner's copy of the cache is being completed; write-through until then
  "degraded", // the partner does not answer, or its copy cannot be used; write-through
  "isolated", // the interconnect is cut: the partner is alive and owns the array, and this one waits
  "starting", // who owns the array is not settled yet
] as const;

export interface PairJson {
  readonly state: (typeof pairStates)[number];
  readonly partner: string;
}

export interface HalfJson {
  /** From 1. */
  readonly half: number;
  /** null: not known here. */
  readonly owner: string | null;
  /** Who owns it when both are well. */
  readonly preferredOwner: string;
  readonly state: PairJson["state"];
}

/** What `pair status` prints. */
export interface PairStatusJson extends PairJson {
  readonly appliance: string;
  /** Of the appliance that answers. */
  readonly role: "owner" | "standby" | "starting" | "free" | "refused" | "stopping";
  /** Which appliance owns the array's first half; null: not known here. */
  readonly owner: string | null;
  /** The array's halves; each has an owner. The groups of a half go with it. */
  readonly halves: readonly HalfJson[];
  /** How much of the cache has been compared or copied. */
  readonly copiedBytes: number;
  readonly cacheBytes: number;
  readonly nics: readonly { readonly name: string; readonly up: boolean }[];
  /** What hosts write is acknowledged from the own write cache alone, by the operator's choice. */
  readonly writesBackAlone: boolean;
  /** Of the pair, as either appliance sees it; in the status too. */
  readonly warnings: readonly WarningJson[];
}

/** Of an appliance image, whether its version is on trial. */
export interface TrialJson {
  /** What it waits for; null: nothing is on trial. */
  readonly trial: string | null;
}

export interface WarningJson {
  readonly code: string;
  readonly text: string;
}

export interface GroupJson {
  readonly name: string;
  readonly role: "primary" | "golden";
  readonly writable: boolean;
  /** Why it is not writable, a sentence; null when it is. */
  readonly why: string | null;
  /** False while the role is still being found out after a start. */
  readonly settled: boolean;
  /** Of this copy. A writable primary is `in-sync`. */
  readonly state: ReplicaState;
  /** The appliance that owns the group. */
  readonly owner: string;
  /** The primary array as far as this one knows. */
  readonly primary: string | null;
  /** 32 hex digits. */
  readonly timeline: string;
  readonly headSeq: number;
  readonly commitSeq: number;
  /** Destaged locally. */
  readonly appliedSeq: number;
  /** Contiguous and durable here. */
  readonly receivedSeq: number;
  /** What readers of a golden copy see. */
  readonly viewSeq: number;
  /** What the log keeps: in the cache, and on the shelf. */
  readonly logBytes: number;
  readonly volumes: readonly string[];
  readonly peers: readonly PeerJson[];
  /** What is running, for progress bars; null when nothing is. */
  readonly operation: OperationJson | null;
}

export interface OperationJson {
  readonly kind: "migrate" | "takeover" | "resync" | "initial-sync" | "verify" | "failback" | "salvage";
  readonly peer: string | null;
  readonly doneBytes: number;
  /** null: not known yet. */
  readonly totalBytes: number | null;
}

/** On a golden side the only entry names its primary, and its lag fields are null. */
export interface PeerJson {
  readonly array: string;
  readonly mode: PeerMode;
  readonly state: ReplicaState;
  readonly receivedSeq: number | null;
  readonly appliedSeq: number | null;
  /** The newest seq that could be promoted there. */
  readonly protectedThroughSeq: number | null;
  /** commitSeq - receivedSeq. */
  readonly lagSeqs: number | null;
  readonly lagBytes: number | null;
  readonly lagMs: number | null;
  readonly resyncBytesLeft: number | null;
}

export interface GroupDetailJson extends GroupJson {
  /** 32 hex digits, the same on every array. */
  readonly id: string;
  /** Oldest first. */
  readonly lineage: readonly { readonly timeline: string; readonly firstSeq: number }[];
  /** Kept writes of lost branches, exported read-only as `VOLUME@ID`. */
  readonly salvage: readonly { readonly id: string; readonly forkSeq: number; readonly bytes: number }[];
  readonly usage: UsageJson;
}

export interface UsageJson {
  readonly dataBytes: number;
  readonly metadataBytes: number;
  readonly logBytes: number;
  readonly reservedBytes: number;
}

export interface VolumeJson {
  readonly name: string;
  /** 32 hex digits; the same on every array. */
  readonly uuid: string;
  readonly group: string;
  readonly sizeBytes: number;
  /** What hosts get now; `no` when the group has nothing to show yet. */
  readonly exported: "read-write" | "read-only" | "no";
  readonly mappings: readonly { readonly host: string; readonly lun: number; readonly readOnly: boolean }[];
}

export interface HostJson {
  readonly name: string;
  readonly any: boolean;
  readonly addresses: readonly string[];
  readonly iqns: readonly string[];
  readonly tlsNames: readonly string[];
  /** null: no secret is asked for. The secret itself is never shown. */
  readonly chapUser: string | null;
  readonly mappings: readonly { readonly volume: string; readonly lun: number; readonly readOnly: boolean }[];
}

export interface PeerArrayJson {
  readonly array: string;
  readonly connected: boolean;
  readonly appliances: readonly { readonly name: string; readonly addresses: readonly string[] }[];
  /** Since the last frame; null: never heard. */
  readonly lastHeardMs: number | null;
  /** Why there is no connection, a sentence; null when there is one. */
  readonly why: string | null;
}

export interface ShelfJson {
  readonly name: string;
  readonly fencing: "atomic" | "power" | "none";
  readonly slots: number;
  readonly disksInUse: number;
  readonly sizeBytes: number;
}

export interface DiskJson {
  /** Shelf and slot: `shelf0/2`. */
  readonly place: string;
  readonly state: "in-use" | "blank" | "missing" | "foreign" | "stale" | "newer-version" | "corrupt" | "misplaced";
  /** null when nothing answers in the slot. */
  readonly sizeBytes: number | null;
  /** What it means and what to do. */
  readonly text: string;
}

export interface PoolJson {
  readonly name: string;
  readonly totalBytes: number;
  readonly freeBytes: number;
  readonly groups: readonly ({ readonly name: string } & UsageJson)[];
}

export interface CacheJson {
  readonly appliance: string;
  readonly persistence: "battery" | "flush";
  readonly battery: "good" | "failed";
  /** `write-through`: every ack waits for the shelf. */
  readonly mode: "write-back" | "write-through";
  readonly sizeBytes: number;
  readonly dirtyBytes: number;
  /** Acknowledged before a battery fault and not yet on the shelf. */
  readonly cacheAtRiskBytes: number;
}
