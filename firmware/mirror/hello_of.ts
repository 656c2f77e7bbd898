/** What a group says of itself on meeting a peer. Everything in it is durable, or is true only while the link lasts. */
import { type Hello, protocolVersion, protocolVersionMin } from "../peer/frame.ts";
import type { LinkHost } from "../peer/link_host.ts";
import type { ReplicationDocument } from "./document.ts";
import type { GroupContext } from "./group_context.ts";

export function helloOf(
  context: GroupContext,
  host: LinkHost,
  document: ReplicationDocument,
  live: { readonly writable: boolean; readonly whyStopped: string | null; readonly cacheLost: boolean },
): Hello {
  const { port, log } = context;
  const { image } = document;
  return {
    kind: "hello",
    version: protocolVersion,
    versionMin: protocolVersionMin,
    features: 0,
    array: host.array.name,
    arrayId: host.array.id,
    appliance: host.appliance,
    session: host.session,
    groupId: port.id,
    groupName: port.name,
    role: document.role,
    writable: live.writable,
    primary: document.primary,
    lineage: log.lineage(),
    headSeq: log.headSeq,
    persistedSeq: log.persistedSeq,
    commitSeq: log.commitSeq,
    destagedSeq: log.destagedSeq,
    consistent: image.kind === "consistent" && !live.cacheLost,
    resync:
      image.kind === "inconsistent" && image.resyncId !== null
        ? { id: image.resyncId, begun: image.begun, nextVolume: image.nextVolume, nextBlock: image.nextBlock }
        : null,
    promotableSeq: image.kind === "consistent" ? log.persistedSeq : (image.fork?.seq ?? 0),
    peers: document.peers.map(({ array, mode }) => ({ array, mode })),
    grant: document.grant,
    acceptedGrant: document.acceptedGrant,
    whyStopped: live.whyStopped,
    wantsResync: document.wantsResync,
    completedResync: document.completedResync,
    recordPayloadBytes: log.recordPayloadBytes,
  };
}
