/**
 * Bytes to frames. The header comes from another array and is judged field by field; what is wrong with it is a value.
 *
 * Notes on protobufjs: a malformed header (truncated, a varint of 11 bytes, groups nested too deep) is an exception, caught here
 * and nowhere else.
 */
import protobuf from "protobufjs/minimal.js";
import { goldcopy } from "../../proto/generated/peer.js";
import { HeaderCheck, type Wide } from "../codec/header_check.ts";
import {
  type ByeCode,
  byeCodes,
  type Frame,
  type Hello,
  helloMagic,
  type PeerModeEntry,
  type PendingGrant,
  type RefuseCode,
  type ResyncPosition,
  refuseCodes,
  type StreamMode,
} from "./frame.ts";
import { linkLimits } from "./limits.ts";
import type { LineageEntry } from "./lineage.ts";

export type DecodedFrame =
  | { readonly kind: "frame"; readonly frame: Frame }
  | { readonly kind: "malformed"; readonly text: string };

export function decodeFrame(header: Uint8Array): DecodedFrame {
  let message: goldcopy.peer.Frame;
  try {
    const reader = protobuf.Reader.create(header);
    reader.discardUnknown = true;
    message = goldcopy.peer.Frame.decode(reader);
  } catch {
    return { kind: "malformed", text: "the header is not a protobuf message" };
  }
  const check = new Check(linkLimits);
  const frame = toFrame(message, check);
  if (frame === null) return { kind: "malformed", text: "the header is of no known kind" };
  if (check.fault !== null) return { kind: "malformed", text: `${frame.kind}: ${check.fault}` };
  return { kind: "frame", frame };
}

class Check extends HeaderCheck {
  mode(value: number | null | undefined, name: string): StreamMode {
    if (value === 2) return "sync";
    this.that(value === 1, `${name} is not a known mode`);
    return "async";
  }

  lineage(entries: readonly goldcopy.peer.ILineageEntry[] | null | undefined): LineageEntry[] {
    const given = entries ?? [];
    if (!this.count(given.length, linkLimits.lineageEntriesMax, "lineage")) return [];
    const lineage = given.map((entry) => ({
      timeline: this.id(entry.timeline, "timeline"),
      firstSeq: this.wide(entry.firstSeq as Wide, "firstSeq"),
    }));
    const ordered = lineage.every((entry, index) => index === 0 || entry.firstSeq > lineage[index - 1]!.firstSeq);
    this.that(ordered && (lineage[0]?.firstSeq ?? 1) > 0, "the lineage is not in order");
    return lineage;
  }
}

function toFrame(message: goldcopy.peer.Frame, check: Check): Frame | null {
  if (Object.keys(message).length > 1) check.that(false, "two kinds in one header");
  const { records, ack, heartbeat, chunk } = message;
  if (records)
    return {
      kind: "records",
      frame: check.wide(records.frame as Wide, "frame"),
      lastSeq: check.wide(records.lastSeq as Wide, "lastSeq"),
      commitSeq: check.wide(records.commitSeq as Wide, "commitSeq"),
    };
  if (ack)
    return {
      kind: "ack",
      frames: check.wide(ack.frames as Wide, "frames"),
      receivedSeq: check.wide(ack.receivedSeq as Wide, "receivedSeq"),
      appliedSeq: check.wide(ack.appliedSeq as Wide, "appliedSeq"),
    };
  if (heartbeat)
    return {
      kind: "heartbeat",
      commitSeq: check.wide(heartbeat.commitSeq as Wide, "commitSeq"),
      lagMs: check.wide(heartbeat.lagMs as Wide, "lagMs"),
      inSync: heartbeat.inSync === true,
      isPrimary: heartbeat.isPrimary === true,
      verified: heartbeat.verified === true,
    };
  if (chunk)
    return {
      kind: "chunk",
      frame: check.wide(chunk.frame as Wide, "frame"),
      resyncId: check.id(chunk.resyncId, "resyncId"),
      nextVolume: chunk.nextVolume ?? 0,
      nextBlock: check.wide(chunk.nextBlock as Wide, "nextBlock"),
      commitSeq: check.wide(chunk.commitSeq as Wide, "commitSeq"),
    };
  return toLinkFrame(message, check) ?? toResyncFrame(message, check) ?? toRoleFrame(message, check);
}

function toLinkFrame(message: goldcopy.peer.Frame, check: Check): Frame | null {
  const { hello, refuse, bye, confirm, confirmed, start } = message;
  if (hello) return toHello(hello, check);
  if (refuse)
    return {
      kind: "refuse",
      code: check.code<RefuseCode>(refuseCodes, refuse.code, "code"),
      text: check.text(refuse.text),
    };
  if (bye)
    return {
      kind: "bye",
      code: check.code<ByeCode>(byeCodes, bye.code, "code"),
      text: check.text(bye.text),
      seq: check.wide(bye.seq as Wide, "seq"),
    };
  if (confirm) return { kind: "confirm", nonce: confirm.nonce ?? 0 };
  if (confirmed) return { kind: "confirmed", nonce: confirmed.nonce ?? 0 };
  if (start)
    return {
      kind: "start",
      fromSeq: check.wide(start.fromSeq as Wide, "fromSeq"),
      commitSeq: check.wide(start.commitSeq as Wide, "commitSeq"),
      mode: check.mode(start.mode, "mode"),
      resyncId: check.optionalId(start.resyncId, "resyncId"),
    };
  return null;
}

function toResyncFrame(message: goldcopy.peer.Frame, check: Check): Frame | null {
  const { resyncStart, resyncReady, resyncDone, consistent } = message;
  const { verifyForked, verifyAsk, verifyDigests, verifyEnd } = message;
  if (resyncStart)
    return {
      kind: "resyncStart",
      id: check.id(resyncStart.id, "id"),
      lineage: check.lineage(resyncStart.lineage),
      seq: check.wide(resyncStart.seq as Wide, "seq"),
    };
  if (resyncReady) return { kind: "resyncReady", id: check.id(resyncReady.id, "id") };
  if (resyncDone)
    return {
      kind: "resyncDone",
      id: check.id(resyncDone.id, "id"),
      consistentSeq: check.wide(resyncDone.consistentSeq as Wide, "consistentSeq"),
    };
  if (consistent)
    return {
      kind: "consistent",
      id: check.id(consistent.id, "id"),
      seq: check.wide(consistent.seq as Wide, "seq"),
    };
  if (verifyForked) {
    const volumes = verifyForked.volumes ?? [];
    const counted = check.count(volumes.length, linkLimits.volumesMax, "volumes");
    return {
      kind: "verifyForked",
      id: check.id(verifyForked.id, "id"),
      seq: check.wide(verifyForked.seq as Wide, "seq"),
      volumes: (counted ? volumes : []).map((volume) => ({
        number: volume.number ?? 0,
        sizeBytes: check.wide(volume.sizeBytes as Wide, "sizeBytes"),
      })),
    };
  }
  if (verifyAsk)
    return {
      kind: "verifyAsk",
      id: check.id(verifyAsk.id, "id"),
      ask: verifyAsk.ask ?? 0,
      volume: verifyAsk.volume ?? 0,
      firstMib: check.wide(verifyAsk.firstMib as Wide, "firstMib"),
      mibCount: verifyAsk.mibCount ?? 0,
    };
  if (verifyDigests)
    return {
      kind: "verifyDigests",
      id: check.id(verifyDigests.id, "id"),
      ask: verifyDigests.ask ?? 0,
      failed: verifyDigests.failed === true,
    };
  if (verifyEnd)
    return {
      kind: "verifyEnd",
      id: check.id(verifyEnd.id, "id"),
      equal: verifyEnd.equal === true,
      finished: verifyEnd.finished === true,
    };
  return null;
}

function toRoleFrame(message: goldcopy.peer.Frame, check: Check): Frame | null {
  const { grant, grantAnswer, migrateAsk, migrateAnswer, closing, peers } = message;
  if (grant)
    return {
      kind: "grant",
      id: check.id(grant.id, "id"),
      timeline: check.id(grant.timeline, "timeline"),
      seq: check.wide(grant.seq as Wide, "seq"),
    };
  if (grantAnswer)
    return {
      kind: "grantAnswer",
      id: check.id(grantAnswer.id, "id"),
      accepted: grantAnswer.accepted === true,
      text: check.text(grantAnswer.text),
      timeline: check.optionalId(grantAnswer.timeline, "timeline"),
    };
  if (migrateAsk) return { kind: "migrateAsk", ask: migrateAsk.ask ?? 0, timeoutMs: migrateAsk.timeoutMs ?? 0 };
  if (migrateAnswer)
    return {
      kind: "migrateAnswer",
      ask: migrateAnswer.ask ?? 0,
      ok: migrateAnswer.ok === true,
      code: check.text(migrateAnswer.code),
      text: check.text(migrateAnswer.text),
    };
  if (peers) return { kind: "peers", peers: toPeers(peers.peers, check) };
  if (closing)
    return {
      kind: "closing",
      timeline: check.id(closing.timeline, "timeline"),
      seq: check.wide(closing.seq as Wide, "seq"),
      binding: closing.binding === true,
    };
  return null;
}

function toHello(hello: goldcopy.peer.IHello, check: Check): Hello {
  check.that(hello.magic === helloMagic, "the magic number is wrong");
  check.that(hello.role === 1 || hello.role === 2, "role is not known");
  check.that(hello.image === 1 || hello.image === 2, "image is not known");
  const headSeq = check.wide(hello.headSeq as Wide, "headSeq");
  const persistedSeq = check.wide(hello.persistedSeq as Wide, "persistedSeq");
  const commitSeq = check.wide(hello.commitSeq as Wide, "commitSeq");
  const destagedSeq = check.wide(hello.destagedSeq as Wide, "destagedSeq");
  check.that(
    destagedSeq <= commitSeq && commitSeq <= persistedSeq && persistedSeq <= headSeq,
    "the seqs are not in order",
  );
  const lineage = check.lineage(hello.lineage);
  check.that(headSeq === 0 || lineage.length > 0, "records without a timeline");
  check.that((lineage[lineage.length - 1]?.firstSeq ?? 0) <= headSeq + 1, "a timeline begins beyond the head");
  return {
    kind: "hello",
    version: hello.version ?? 0,
    versionMin: hello.versionMin ?? 0,
    features: hello.features ?? 0,
    array: check.name(hello.array, "array"),
    arrayId: check.id(hello.arrayId, "arrayId"),
    appliance: check.name(hello.appliance, "appliance"),
    session: check.id(hello.session, "session"),
    groupId: check.id(hello.groupId, "groupId"),
    groupName: check.name(hello.groupName, "groupName"),
    role: hello.role === 1 ? "primary" : "golden",
    writable: hello.writable === true,
    primary: hello.primary ? check.name(hello.primary, "primary") : null,
    lineage,
    headSeq,
    persistedSeq,
    commitSeq,
    destagedSeq,
    consistent: hello.image === 1,
    resync: toResync(hello.resync, check),
    promotableSeq: check.wide(hello.promotableSeq as Wide, "promotableSeq"),
    peers: toPeers(hello.peers, check),
    grant: toGrant(hello.grant, check),
    acceptedGrant: check.optionalId(hello.acceptedGrant, "acceptedGrant"),
    whyStopped: hello.whyStopped ? check.text(hello.whyStopped) : null,
    wantsResync: hello.wantsResync === true,
    completedResync: check.optionalId(hello.completedResync, "completedResync"),
    recordPayloadBytes: hello.recordPayloadBytes ?? 0,
  };
}

function toResync(resync: goldcopy.peer.IResyncPosition | null | undefined, check: Check): ResyncPosition | null {
  if (!resync) return null;
  return {
    id: check.id(resync.id, "resync.id"),
    begun: resync.begun === true,
    nextVolume: resync.nextVolume ?? 0,
    nextBlock: check.wide(resync.nextBlock as Wide, "nextBlock"),
  };
}

function toPeers(peers: readonly goldcopy.peer.IPeerMode[] | null | undefined, check: Check): PeerModeEntry[] {
  const given = peers ?? [];
  if (!check.count(given.length, linkLimits.peersMax, "peers")) return [];
  return given.map((peer) => ({ array: check.name(peer.array, "peer"), mode: check.mode(peer.mode, "mode") }));
}

function toGrant(grant: goldcopy.peer.IPendingGrant | null | undefined, check: Check): PendingGrant | null {
  if (!grant) return null;
  return {
    id: check.id(grant.id, "grant.id"),
    to: check.name(grant.to, "grant.to"),
    timeline: check.id(grant.timeline, "grant.timeline"),
    seq: check.wide(grant.seq as Wide, "grant.seq"),
  };
}
