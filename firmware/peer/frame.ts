/**
 * The frames of the peer link as plain values: one discriminated union, already judged. `frame_encode.ts` and `frame_decode.ts`
 * translate; nothing else of the firmware sees protobuf.
 *
 * Invariants of every decoded frame: ids are 32 hex digits, seqs and sizes are safe integers from 0, names and texts are bounded,
 * enumerations are known values. A frame that breaks one of them is an error, not a frame.
 */
import type { LineageEntry } from "./lineage.ts";

export const protocolVersion = 1;
/** The oldest version spoken here. Version N speaks N-1 as well, once there is one. */
export const protocolVersionMin = 1;
export const helloMagic = 0x47434c4b;

export type GroupRole = "primary" | "golden";
export type StreamMode = "async" | "sync";

export const refuseCodes = {
  version: 1, // no common protocol version
  "unknown-array": 2, // the caller is not a configured peer
  "wrong-array": 3, // the caller expected another array here
  self: 4, // the caller is this array
  "unknown-group": 5,
  "not-a-peer": 6, // the group does not replicate with the caller
  duplicate: 7, // another connection of the pair stays
  busy: 8, // a role is changing, or the appliance starts or stops
} as const;
export type RefuseCode = keyof typeof refuseCodes;

export const byeCodes = {
  "role-changed": 1, // say hello again
  stopping: 2,
  corrupt: 3, // the stream at `seq` does not match its checksums
  gap: 4,
  diverged: 5, // another record is held under the identity at `seq`
  protocol: 6, // a frame that does not belong here
  removed: 7, // the group does not replicate with the receiver any more
  failed: 8, // the sender cannot go on (its shelf has failed)
} as const;
export type ByeCode = keyof typeof byeCodes;

export interface PeerModeEntry {
  readonly array: string;
  readonly mode: StreamMode;
}

export interface ResyncPosition {
  readonly id: string;
  readonly begun: boolean;
  readonly nextVolume: number;
  readonly nextBlock: number;
}

export interface PendingGrant {
  readonly id: string;
  readonly to: string;
  readonly timeline: string;
  readonly seq: number;
}

export interface Hello {
  readonly kind: "hello";
  readonly version: number;
  readonly versionMin: number;
  readonly features: number;
  readonly array: string;
  readonly arrayId: string;
  readonly appliance: string;
  readonly session: string;
  readonly groupId: string;
  readonly groupName: string;
  readonly role: GroupRole;
  readonly writable: boolean;
  readonly primary: string | null;
  readonly lineage: readonly LineageEntry[];
  readonly headSeq: number;
  readonly persistedSeq: number;
  readonly commitSeq: number;
  readonly destagedSeq: number;
  readonly consistent: boolean;
  readonly resync: ResyncPosition | null;
  readonly promotableSeq: number;
  readonly peers: readonly PeerModeEntry[];
  readonly grant: PendingGrant | null;
  readonly acceptedGrant: string | null;
  readonly whyStopped: string | null;
  readonly wantsResync: boolean;
  readonly completedResync: string | null;
  /** The largest payload of one record that its log writes and takes. */
  readonly recordPayloadBytes: number;
}

export type Frame =
  | Hello
  | { readonly kind: "refuse"; readonly code: RefuseCode; readonly text: string }
  | { readonly kind: "bye"; readonly code: ByeCode; readonly text: string; readonly seq: number }
  | {
      readonly kind: "heartbeat";
      readonly commitSeq: number;
      readonly lagMs: number;
      readonly inSync: boolean;
      readonly isPrimary: boolean;
      readonly verified: boolean;
    }
  | { readonly kind: "confirm"; readonly nonce: number }
  | { readonly kind: "confirmed"; readonly nonce: number }
  | {
      readonly kind: "start";
      readonly fromSeq: number;
      readonly commitSeq: number;
      readonly mode: StreamMode;
      readonly resyncId: string | null;
    }
  | { readonly kind: "records"; readonly frame: number; readonly lastSeq: number; readonly commitSeq: number }
  | {
      readonly kind: "chunk";
      readonly frame: number;
      readonly resyncId: string;
      readonly nextVolume: number;
      readonly nextBlock: number;
      readonly commitSeq: number;
    }
  | { readonly kind: "ack"; readonly frames: number; readonly receivedSeq: number; readonly appliedSeq: number }
  | {
      readonly kind: "resyncStart";
      readonly id: string;
      readonly lineage: readonly LineageEntry[];
      readonly seq: number;
    }
  | { readonly kind: "resyncReady"; readonly id: string }
  | { readonly kind: "resyncDone"; readonly id: string; readonly consistentSeq: number }
  | { readonly kind: "consistent"; readonly id: string; readonly seq: number }
  | {
      readonly kind: "verifyForked";
      readonly id: string;
      readonly seq: number;
      readonly volumes: readonly { readonly number: number; readonly sizeBytes: number }[];
    }
  | {
      readonly kind: "verifyAsk";
      readonly id: string;
      readonly ask: number;
      readonly volume: number;
      readonly firstMib: number;
      readonly mibCount: number;
    }
  | { readonly kind: "verifyDigests"; readonly id: string; readonly ask: number; readonly failed: boolean }
  | { readonly kind: "verifyEnd"; readonly id: string; readonly equal: boolean; readonly finished: boolean }
  | { readonly kind: "grant"; readonly id: string; readonly timeline: string; readonly seq: number }
  | {
      readonly kind: "grantAnswer";
      readonly id: string;
      readonly accepted: boolean;
      readonly text: string;
      readonly timeline: string | null;
    }
  | { readonly kind: "migrateAsk"; readonly ask: number; readonly timeoutMs: number }
  | {
      readonly kind: "migrateAnswer";
      readonly ask: number;
      readonly ok: boolean;
      readonly code: string;
      readonly text: string;
    }
  | { readonly kind: "peers"; readonly peers: readonly PeerModeEntry[] }
  | { readonly kind: "closing"; readonly timeline: string; readonly seq: number; readonly binding: boolean };

export type FrameOf<Kind extends Frame["kind"]> = Extract<Frame, { kind: Kind }>;

/** Kinds that may carry a payload; every other kind with one is malformed. */
export function mayCarryPayload(kind: Frame["kind"]): boolean {
  return kind === "records" || kind === "chunk" || kind === "verifyDigests";
}
