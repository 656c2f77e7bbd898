/** What replication contributes to the status of a group. */
import type { SalvageJson } from "../manage/control.ts";
import type { OperationJson, PeerJson, ReplicaState } from "../manage/status_json.ts";
import type { GroupCore } from "./group_core.ts";
import { peerOfPrimary, primaryOfGolden, stateOfGolden, stateOfPrimary } from "./peer_status.ts";

export interface GroupReplicationStatus {
  readonly role: "primary" | "golden";
  readonly writable: boolean;
  readonly why: string | null;
  readonly settled: boolean;
  readonly state: ReplicaState;
  /** The primary array as far as this one knows. */
  readonly primary: string | null;
  readonly peers: readonly PeerJson[];
  readonly salvage: readonly SalvageJson[];
  readonly operation: OperationJson | null;
}

export function statusOf(core: GroupCore, settled: boolean, why: string | null): GroupReplicationStatus {
  const { document, port } = core;
  const isPrimary = document.role === "primary";
  return {
    role: document.role,
    writable: core.role.is("serving"),
    why,
    settled,
    state: isPrimary ? stateOfPrimary(core) : stateOfGolden(core),
    primary: isPrimary ? primaryKnown(core, port.array) : document.primary,
    peers: isPrimary ? document.peers.map((entry) => peerOfPrimary(core, entry)) : primaryOfGolden(core),
    salvage: document.salvage,
    operation: operationOf(core),
  };
}

/** An ex-primary that has met its successor names that one. */
function primaryKnown(core: GroupCore, ours: string): string | null {
  if (core.role.is("serving")) return ours;
  for (const { array, decision } of core.channels) {
    if (decision?.kind === "superseded" || decision?.kind === "grantTaken") return array;
  }
  return core.role.is("granting") ? null : ours;
}

function operationOf(core: GroupCore): OperationJson | null {
  const { operation } = core;
  for (const { array, outbound } of core.channels) {
    const resync = outbound?.resyncProgress ?? null;
    if (resync !== null) return { kind: "resync", peer: array, ...resync };
    const verify = outbound?.verifyProgress ?? null;
    if (verify !== null && operation === null) return { kind: "verify", peer: array, ...verify };
  }
  return operation === null ? null : { kind: operation.kind, peer: operation.peer, doneBytes: 0, totalBytes: null };
}
