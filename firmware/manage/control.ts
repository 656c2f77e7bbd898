/**
 * What an appliance lets people and scripts do: the contract between the appliance core, which implements it, and the JSON API,
 * which serves it. The types that appear in status documents are in `status_json.ts`.
 *
 * Invariants:
 * - Arguments are already judged by the API for shape, length and range (names, sizes, seqs); whether a name exists, whether a
 *   move is allowed and whether there is space is judged here.
 * - An expected failure is a value: a stable code, and one sentence that says what, why and what to do.
 * - Nothing here throws or rejects for a reason that an operator could cause.
 * - A long command resolves when it is done. `timeoutMs` is how long its caller will wait: the API answers `timeout` then, and
 *   the operation goes on. Only `migrate` (and `failback`) act on it themselves: what has not drained by then resumes, and the
 *   answer is `not-drained`.
 * - Everything is idempotent where it can be: asking for what is already so is a success (`changed: false` where shown).
 */
import type {
  CacheJson,
  DiskJson,
  GroupDetailJson,
  GroupJson,
  HostJson,
  PairStatusJson,
  PeerArrayJson,
  PeerMode,
  PoolJson,
  ShelfJson,
  StatusJson,
  VolumeJson,
} from "./status_json.ts";

export const controlErrorCodes = [
  // Roles
  "primary-reachable", // takeover: the primary still answers; migrate instead, or --force
  "inconsistent", // the image is a mixture; only --fork or --force promotes it
  "not-drained", // migrate: not everything arrived within the timeout; hosts go on here
  "not-connected", // the peer that this needs does not answer
  "not-primary", // this goes to the array that is primary
  "not-golden", // this goes to an array that is not primary
  "not-writable", // the group is primary here, but not confirmed
  "diverged", // both sides have writes of their own; resync one of them
  "no-fork", // --fork, and there is none
  "busy", // another operation of this group is running
  // Things
  "not-found",
  "exists",
  "in-use", // volumes in a group, mappings of a host
  "no-space",
  "shelf-failed", // could not be made durable
  // Requests
  "invalid", // an argument cannot be used; the text names it
  "timeout", // the operation goes on
  "not-in-this-version",
  "starting", // not yet; ask again in a moment
  "stopping",
  "failed", // anything else; the text and the log say what
] as const;
export type ControlErrorCode = (typeof controlErrorCodes)[number];

export interface ControlError {
  readonly code: ControlErrorCode;
  /** One line: what, why, what to do. */
  readonly text: string;
}

export type Result<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly error: ControlError };

export function done<T>(value: T): Result<T> {
  return { ok: true, value };
}

export function refused(code: ControlErrorCode, text: string): { readonly ok: false; readonly error: ControlError } {
  return { ok: false, error: { code, text } };
}

/** Everything that the API needs of a running appliance. */
export interface Control {
  status(): StatusJson;
  readonly volumes: VolumeControl;
  readonly groups: GroupControl;
  readonly hosts: HostControl;
  /** Arrays that replicate with this one, from the board profile. */
  peers(): PeerArrayJson[];
  shelves(): ShelfJson[];
  disks(): DiskJson[];
  pools(): PoolJson[];
  /** Reads everything that the pool holds, forks too, and compares it with its checksums; hosts go on meanwhile. */
  scrub(pool: string): Promise<Result<ScrubJson>>;
  caches(): CacheJson[];
  /** null: an array of one appliance. */
  readonly pair: PairControl | null;
  /** Orderly stop: sessions closed, cache persisted. Afterwards every command answers `stopping`. Idempotent. */
  stop(): Promise<void>;
}

export interface PairControl {
  status(): PairStatusJson;
  /** Hands the array to the partner, or to the one named; done when it serves. */
  failover(to: string | null): Promise<Result<FailoverJson>>;
}

export interface FailoverJson {
  /** False when `owner` owned already. */
  readonly changed: boolean;
  readonly owner: string;
}

export interface VolumeControl {
  list(): VolumeJson[];
  /**
   * `sizeBytes`: a multiple of 512, at least 4,096. `group` null: a new group named as the volume. `pool` null: the only one.
   */
  create(volume: {
    name: string;
    sizeBytes: number;
    group: string | null;
    pool: string | null;
  }): Promise<Result<VolumeJson>>;
  /** Growing only, online. */
  resize(name: string, sizeBytes: number): Promise<Result<VolumeJson>>;
  /** Also removes its mappings. */
  delete(name: string): Promise<Result<Removed>>;
}

export interface Removed {
  readonly removed: string;
}

export interface GroupControl {
  list(): GroupJson[];
  show(name: string): Result<GroupDetailJson>;
  create(group: { name: string }): Promise<Result<GroupJson>>;
  /** Refused with `in-use` while it has volumes. */
  delete(name: string): Promise<Result<Removed>>;
  /** Done when durable here; the initial sync goes on by itself. `cycleMs` is for `delta`, else null. */
  addPeer(name: string, peer: { array: string; mode: PeerMode; cycleMs: number | null }): Promise<Result<GroupJson>>;
  setMode(name: string, peer: { array: string; mode: PeerMode; cycleMs: number | null }): Promise<Result<GroupJson>>;
  /** At the present primary. Done when `to` is writable (or its grant is durable there) and this side is golden. */
  migrate(name: string, options: { to: string; timeoutMs: number }): Promise<Result<MigrateJson>>;
  /** At the golden side. `force`: also with the primary reachable, and on an inconsistent image as it is. `fork`: the kept fork. */
  takeover(name: string, options: { force: boolean; fork: boolean; timeoutMs: number }): Promise<Result<TakeoverJson>>;
  /** At an ex-primary that nobody has confirmed: it goes on as primary, on the operator's word. */
  serveAlone(name: string, options: { timeoutMs: number }): Promise<Result<ServeJson>>;
  /** At the side whose image is to be overwritten. Salvages first; done when `in-sync`. */
  resync(name: string, options: { from: string; timeoutMs: number }): Promise<Result<ResyncJson>>;
  /** At the ex-primary: resync from the present primary, then migrate back to here. */
  failback(name: string, options: { timeoutMs: number }): Promise<Result<FailbackJson>>;
  /** At the primary. Compares digests of both sides at one seq; hosts go on meanwhile. `peer` null: every peer. */
  verify(name: string, options: { peer: string | null; timeoutMs: number }): Promise<Result<VerifyJson>>;
}

export interface HostControl {
  list(): HostJson[];
  add(host: {
    name: string;
    any: boolean;
    /** IPv4 or IPv6 networks in CIDR form; already judged, see `cidr.ts`. */
    addresses: readonly string[];
    iqns: readonly string[];
    tlsNames: readonly string[];
    /** What it proves at an iSCSI login; none unless given. */
    chap?: { readonly user: string; readonly secret: string } | null;
  }): Promise<Result<HostJson>>;
  /** Also removes its mappings and closes its sessions. */
  remove(name: string): Promise<Result<Removed>>;
  /** `lun` null: the lowest free one. */
  map(host: string, mapping: { volume: string; lun: number | null; readOnly: boolean }): Promise<Result<HostJson>>;
  unmap(host: string, volume: string): Promise<Result<HostJson>>;
}

export interface ScrubJson {
  readonly intact: boolean;
  readonly checkedBytes: number;
  /** At most 1,000 blocks are named; `damagedBlocks` counts all. */
  readonly damagedBlocks: number;
  readonly damaged: readonly {
    readonly group: string;
    readonly volume: string;
    /** null: the volume as it is now; else the fork that holds it. */
    readonly fork: string | null;
    /** In bytes from the volume's begin; 4,096 bytes cannot be read there. */
    readonly offsetBytes: number;
  }[];
}

export interface MigrateJson {
  /** False when `to` was primary already. */
  readonly changed: boolean;
  readonly primary: string;
  readonly timeline: string;
  /** How long host writes were held. */
  readonly heldMs: number | null;
}

export interface TakeoverJson {
  /** False when this array was primary already. */
  readonly changed: boolean;
  readonly timeline: string;
  /** The last seq kept of the former primary's log; null when nothing changed. */
  readonly forkSeq: number | null;
  /** `none` only with proof. */
  readonly loss: "none" | "possible";
  /** null is unknown. */
  readonly maybeLostSeqs: number | null;
  readonly maybeLostBytes: number | null;
  readonly maybeLostMs: number | null;
}

export interface ServeJson {
  readonly changed: boolean;
  readonly timeline: string;
}

export interface ResyncJson {
  /** False when it was in sync with `from` already. */
  readonly changed: boolean;
  readonly from: string;
  /** What this side had beyond the fork point; null when there was nothing to keep. */
  readonly salvage: SalvageJson | null;
  readonly receivedBytes: number;
}

export interface SalvageJson {
  /** Exported read-only as `VOLUME@ID`. */
  readonly id: string;
  readonly forkSeq: number;
  readonly bytes: number;
}

export interface FailbackJson {
  readonly changed: boolean;
  readonly primary: string;
  readonly salvage: SalvageJson | null;
}

export interface VerifyJson {
  readonly equal: boolean;
  readonly peers: readonly VerifyPeerJson[];
}

export interface VerifyPeerJson {
  readonly array: string;
  /** Both sides were compared as of this seq. */
  readonly seq: number;
  readonly equal: boolean;
  readonly comparedBytes: number;
  readonly volumes: readonly {
    readonly name: string;
    readonly equal: boolean;
    /** SHA-256 over the per-MiB digests, 64 hex digits. */
    readonly digest: string;
    readonly peerDigest: string;
  }[];
}

/** Simulated mishaps and links, for the lab alone: the HAL's side of `scripts/lab fault | cut | join | shape`. */
export interface LabPort {
  links(): LinkJson[];
  /** `nic` null: every NIC. A plain link is `{cut: false, latencyMs: 0, jitterMs: 0, rateBytesPerSecond: null, loss: 0}`. */
  shape(link: LinkShape): Result<LinkJson[]>;
  /** `place` null: the first shelf or disk. */
  fault(fault: { kind: LabFaultKind; place: string | null; on: boolean }): Result<{ kind: LabFaultKind; on: boolean }>;
  /** The main loop stands still for `forMs`, as in an endless loop, once this has been answered; what runs beside it goes on. */
  stall(stall: { forMs: number }): Result<{ forMs: number }>;
}

export const labFaultKinds = ["battery", "shelf", "disk"] as const;
export type LabFaultKind = (typeof labFaultKinds)[number];

export interface LinkShape {
  readonly nic: string | null;
  /** The other appliance's name. */
  readonly remote: string;
  readonly cut: boolean;
  readonly latencyMs: number;
  readonly jitterMs: number;
  readonly rateBytesPerSecond: number | null;
  /** 0 to 1. */
  readonly loss: number;
}

export interface LinkJson extends LinkShape {
  readonly nic: string;
}
