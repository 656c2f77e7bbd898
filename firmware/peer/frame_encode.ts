/** Frames to bytes: the two length words and the protobuf header. The payload follows as it is. */
import protobuf from "protobufjs/minimal.js";
import { goldcopy } from "../../proto/generated/peer.js";
import { assert } from "../codec/assert.ts";
import { fromHex } from "../codec/bytes.ts";
import { framed } from "../codec/frame_parser.ts";
import {
  byeCodes,
  type Frame,
  type Hello,
  helloMagic,
  mayCarryPayload,
  type PeerModeEntry,
  refuseCodes,
} from "./frame.ts";
import { linkLimits } from "./limits.ts";
import type { LineageEntry } from "./lineage.ts";

const peer = goldcopy.peer;
const writer = protobuf.Writer.create();

/** Length words and header of `frame`; `payloadBytes` of payload are sent behind them. */
export function encodeFrame(frame: Frame, payloadBytes: number): Uint8Array {
  assert(payloadBytes === 0 || mayCarryPayload(frame.kind), `a ${frame.kind} frame has no payload`);
  assert(payloadBytes <= linkLimits.payloadBytesMax, "a frame's payload is bounded");
  // The writer is reused, and its bytes are copied before the next frame: 240 ns per frame against 650 with a fresh one.
  writer.reset();
  const header = peer.Frame.encode(toMessage(frame), writer).finish(true);
  assert(header.byteLength <= linkLimits.headerBytesMax, "a frame's header is bounded");
  return framed(header, payloadBytes);
}

function toMessage(frame: Frame): goldcopy.peer.IFrame {
  switch (frame.kind) {
    case "records":
      return { records: { frame: frame.frame, lastSeq: frame.lastSeq, commitSeq: frame.commitSeq } };
    case "ack":
      return { ack: { frames: frame.frames, receivedSeq: frame.receivedSeq, appliedSeq: frame.appliedSeq } };
    case "heartbeat":
      return {
        heartbeat: {
          commitSeq: frame.commitSeq,
          lagMs: frame.lagMs,
          inSync: frame.inSync,
          isPrimary: frame.isPrimary,
          verified: frame.verified,
        },
      };
    case "chunk":
      return {
        chunk: {
          frame: frame.frame,
          resyncId: fromHex(frame.resyncId),
          nextVolume: frame.nextVolume,
          nextBlock: frame.nextBlock,
          commitSeq: frame.commitSeq,
        },
      };
    case "hello":
      return { hello: helloMessage(frame) };
    case "refuse":
      return { refuse: { code: refuseCodes[frame.code], text: clip(frame.text) } };
    case "bye":
      return { bye: { code: byeCodes[frame.code], text: clip(frame.text), seq: frame.seq } };
    case "confirm":
      return { confirm: { nonce: frame.nonce } };
    case "confirmed":
      return { confirmed: { nonce: frame.nonce } };
    case "start":
      return {
        start: {
          fromSeq: frame.fromSeq,
          commitSeq: frame.commitSeq,
          mode: frame.mode === "async" ? 1 : 2,
          resyncId: optionalId(frame.resyncId),
        },
      };
    case "resyncStart":
      return { resyncStart: { id: fromHex(frame.id), lineage: lineageMessage(frame.lineage), seq: frame.seq } };
    case "resyncReady":
      return { resyncReady: { id: fromHex(frame.id) } };
    case "resyncDone":
      return { resyncDone: { id: fromHex(frame.id), consistentSeq: frame.consistentSeq } };
    case "consistent":
      return { consistent: { id: fromHex(frame.id), seq: frame.seq } };
    case "verifyForked":
      return { verifyForked: { id: fromHex(frame.id), seq: frame.seq, volumes: [...frame.volumes] } };
    case "verifyAsk":
      return {
        verifyAsk: {
          id: fromHex(frame.id),
          ask: frame.ask,
          volume: frame.volume,
          firstMib: frame.firstMib,
          mibCount: frame.mibCount,
        },
      };
    case "verifyDigests":
      return { verifyDigests: { id: fromHex(frame.id), ask: frame.ask, failed: frame.failed } };
    case "verifyEnd":
      return { verifyEnd: { id: fromHex(frame.id), equal: frame.equal, finished: frame.finished } };
    case "grant":
      return { grant: { id: fromHex(frame.id), timeline: fromHex(frame.timeline), seq: frame.seq } };
    case "grantAnswer":
      return {
        grantAnswer: {
          id: fromHex(frame.id),
          accepted: frame.accepted,
          text: clip(frame.text),
          timeline: optionalId(frame.timeline),
        },
      };
    case "migrateAsk":
      return { migrateAsk: { ask: frame.ask, timeoutMs: frame.timeoutMs } };
    case "migrateAnswer":
      return { migrateAnswer: { ask: frame.ask, ok: frame.ok, code: frame.code, text: clip(frame.text) } };
    case "peers":
      return { peers: { peers: peersMessage(frame.peers) } };
    case "closing":
      return { closing: { timeline: fromHex(frame.timeline), seq: frame.seq, binding: frame.binding } };
  }
}

function helloMessage(hello: Hello): goldcopy.peer.IHello {
  return {
    magic: helloMagic,
    version: hello.version,
    versionMin: hello.versionMin,
    features: hello.features,
    array: hello.array,
    arrayId: fromHex(hello.arrayId),
    appliance: hello.appliance,
    session: fromHex(hello.session),
    groupId: fromHex(hello.groupId),
    groupName: hello.groupName,
    role: hello.role === "primary" ? 1 : 2,
    writable: hello.writable,
    primary: hello.primary ?? "",
    lineage: lineageMessage(hello.lineage),
    headSeq: hello.headSeq,
    persistedSeq: hello.persistedSeq,
    commitSeq: hello.commitSeq,
    destagedSeq: hello.destagedSeq,
    image: hello.consistent ? 1 : 2,
    resync:
      hello.resync === null
        ? null
        : {
            id: fromHex(hello.resync.id),
            begun: hello.resync.begun,
            nextVolume: hello.resync.nextVolume,
            nextBlock: hello.resync.nextBlock,
          },
    promotableSeq: hello.promotableSeq,
    peers: peersMessage(hello.peers),
    grant:
      hello.grant === null
        ? null
        : {
            id: fromHex(hello.grant.id),
            to: hello.grant.to,
            timeline: fromHex(hello.grant.timeline),
            seq: hello.grant.seq,
          },
    acceptedGrant: optionalId(hello.acceptedGrant),
    whyStopped: clip(hello.whyStopped ?? ""),
    wantsResync: hello.wantsResync,
    completedResync: optionalId(hello.completedResync),
    recordPayloadBytes: hello.recordPayloadBytes,
  };
}

function peersMessage(peers: readonly PeerModeEntry[]): goldcopy.peer.IPeerMode[] {
  return peers.map(({ array, mode }) => ({ array, mode: mode === "async" ? 1 : 2 }));
}

/** The newest entries: `alignLineages` finds the place of a shortened list in the other one. */
function lineageMessage(lineage: readonly LineageEntry[]): goldcopy.peer.ILineageEntry[] {
  return lineage
    .slice(-linkLimits.lineageEntriesMax)
    .map(({ timeline, firstSeq }) => ({ timeline: fromHex(timeline), firstSeq }));
}

function optionalId(id: string | null): Uint8Array {
  return id === null ? noBytes : fromHex(id);
}

const noBytes = new Uint8Array(0);

/** 3 bytes of UTF-8 per UTF-16 unit at most. */
function clip(text: string): string {
  const charsMax = Math.floor(linkLimits.textBytesMax / 3);
  return text.length <= charsMax ? text : text.slice(0, charsMax);
}
