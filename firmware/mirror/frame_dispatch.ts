/**
 * Where each frame of a met link goes: role operations, the primary's side of a peer, or the golden side.
 *
 * Invariant: a frame that does not belong to the present role ends the link with a reason, once, as an event.
 */
import type { Frame, FrameOf, Hello } from "../peer/frame.ts";
import { withPeer } from "./document.ts";
import { type MeetingCore, rememberPeers } from "./meeting.ts";
import type { Outbound } from "./outbound.ts";
import type { PeerChannel } from "./peer_channel.ts";
import type { ResyncCommand } from "./resync_command.ts";
import type { Takeover } from "./takeover.ts";

export interface DispatchCore extends MeetingCore {
  readonly takeover: Takeover;
  readonly resyncCommand: ResyncCommand;
  changed(): void;
}

export function takeFrame(core: DispatchCore, channel: PeerChannel, frame: Frame, payload: Uint8Array): void {
  if (channel.theirs?.role === "primary" && channel.array === core.document.primary) {
    core.takeover.onPrimaryHeard();
    // A primary that does not stream (it has lost its cache, say) knows nothing of what we lack: its lag of 0 means nothing.
    if (frame.kind === "heartbeat" && channel.inbound?.receiver.streaming === true)
      channel.lastLag = { lagMs: frame.lagMs, heardMs: core.clock.nowMs() };
    core.changed();
  }
  if (takeRoleFrame(core, channel, frame)) return;
  if (channel.inbound !== null) {
    if (channel.inbound.onFrame(frame, payload)) return core.changed();
  } else if (frame.kind === "heartbeat") return;
  else if (channel.outbound !== null && takeOutboundFrame(channel.outbound, frame, payload)) return;
  const text = `${frame.kind} does not belong here`;
  core.emit("peer-protocol", `${channel.array} sent a frame that was refused: ${text}`, { peer: channel.array });
  const { link } = channel;
  link?.send({ kind: "bye", code: "protocol", text, seq: 0 });
  link?.close("closed", text);
}

function takeRoleFrame(core: DispatchCore, channel: PeerChannel, frame: Frame): boolean {
  switch (frame.kind) {
    case "bye":
      onBye(core, channel, frame);
      return true;
    case "confirm":
      core.confirmation.answer(channel, frame.nonce);
      return true;
    case "confirmed":
      core.confirmation.onConfirmed(channel, frame.nonce);
      return true;
    case "grant":
      core.migration.onGrant(channel, frame);
      return true;
    case "grantAnswer":
      core.migration.onAnswer(channel, frame);
      return true;
    case "migrateAsk":
      onMigrateAsk(core, channel, frame);
      return true;
    case "migrateAnswer":
      core.resyncCommand.onMigrateAnswer(frame);
      core.changed();
      return true;
    case "peers":
      learnPeers(core, channel, frame.peers);
      return true;
    case "closing":
      if (core.role.is("following") && channel.array === core.document.primary && frame.binding) {
        const { timeline, seq } = frame;
        core.keeper.change((document) => ({ ...document, closed: { timeline, seq } }));
      }
      return true;
    default:
      return false;
  }
}

function learnPeers(core: DispatchCore, channel: PeerChannel, peers: Hello["peers"]): void {
  if (channel.theirs === null) return;
  channel.theirs = { ...channel.theirs, peers };
  if (channel.array === core.document.primary && core.role.is("following")) rememberPeers(core, channel.theirs);
}

function takeOutboundFrame(outbound: Outbound, frame: Frame, payload: Uint8Array): boolean {
  switch (frame.kind) {
    case "ack":
      return outbound.onAck(frame);
    case "resyncReady":
      outbound.onResyncReady(frame);
      return true;
    case "consistent":
      outbound.onConsistent(frame);
      return true;
    case "verifyForked":
      outbound.onVerifyForked(frame);
      return true;
    case "verifyDigests":
      outbound.onVerifyDigests(frame, payload);
      return true;
    default:
      return false;
  }
}

function onBye(core: DispatchCore, channel: PeerChannel, bye: FrameOf<"bye">): void {
  const { array } = channel;
  if (bye.code === "diverged" && channel.outbound !== null) {
    core.emit("peer-diverged", `${array} holds another record than ${core.port.array} at seq ${bye.seq}: ${bye.text}`, {
      peer: array,
      seq: bye.seq,
    });
    core.keeper.change((document) => withPeer(document, array, (entry) => ({ ...entry, stopped: "diverged" })));
  }
  channel.link?.abort("ended", bye.text);
}

function onMigrateAsk(core: DispatchCore, channel: PeerChannel, asked: FrameOf<"migrateAsk">): void {
  const { link } = channel;
  void core.migration.migrate(channel.array, asked.timeoutMs).then((result) => {
    const { ok } = result;
    const code = ok ? "" : result.error.code;
    const text = ok ? "" : result.error.text;
    if (channel.link === link) link?.send({ kind: "migrateAnswer", ask: asked.ask, ok, code, text });
  });
}
