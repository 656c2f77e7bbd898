/**
 * What follows from a meeting: carries out the decision of `decide.ts`. Also called again on the same link when this side's
 * stand has changed (an ex-primary that was confirmed).
 */
import type { Hello } from "../peer/frame.ts";
import type { Confirmation } from "./confirmation.ts";
import { type Decision, decide } from "./decide.ts";
import { peerEntry, type ReplicationDocument } from "./document.ts";
import type { GroupCore } from "./group_core.ts";
import { Inbound } from "./inbound.ts";
import type { Migration } from "./migration.ts";
import type { PeerChannel } from "./peer_channel.ts";

/** A group with the machines that a meeting sets going. */
export interface MeetingCore extends GroupCore {
  readonly confirmation: Confirmation;
  readonly migration: Migration;
}

export function meet(core: MeetingCore, channel: PeerChannel, ours: Hello): void {
  const { theirs, link } = channel;
  if (theirs === null || link === null) return;
  const { primary } = core.document;
  const followed = primary === null ? null : core.channel(primary);
  const before = channel.decision;
  const decision = decide({
    ours,
    theirs,
    peer: core.entry(channel.array),
    canStreamFrom: (seq) => core.log.cursorAfter(seq) !== null,
    primaryIsHeard: followed?.connected === true && followed.theirs?.role === "primary",
  });
  channel.decision = decision;
  if (describe(before) !== describe(decision)) tell(core, channel, decision);
  if (core.document.role === "primary") asPrimary(core, channel, theirs, decision);
  else asGolden(core, channel, theirs, decision);
  core.refreshServing();
}

function asPrimary(core: MeetingCore, channel: PeerChannel, theirs: Hello, decision: Decision): void {
  const { link, outbound } = channel;
  if ("forkSeq" in decision && decision.forkSeq !== null) outbound?.learn(decision.forkSeq);
  if (decision.kind === "stream") outbound?.learn(Math.min(decision.fromSeq, theirs.persistedSeq));
  switch (decision.kind) {
    case "stream":
    case "resync":
      if (core.role.is("serving") && link !== null && outbound !== null && !outbound.streaming) {
        outbound.begin(link, theirs, decision);
      } else core.confirmation.ask(channel);
      return;
    case "supersedes":
    case "idle":
      core.confirmation.ask(channel);
      return;
    case "offerGrant":
      core.migration.offer(channel);
      return;
    case "grantTaken":
      core.migration.taken(channel, theirs.lineage.at(-1)?.timeline ?? null);
      return;
    case "superseded":
      if (core.role.is("serving")) stepDown(core, channel.array);
      if (core.role.is("unconfirmed")) core.decideOwn();
      return;
    case "diverged":
      // Two branches, both readable (L5).
      if (core.role.is("unconfirmed")) core.decideOwn();
      return;
    case "follow":
      return;
  }
}

/** A newer primary was there while this side had nothing of its own: it stops being one at once. */
function stepDown(core: MeetingCore, newer: string): void {
  core.port.closeForWriting();
  core.role.to("unconfirmed");
  for (const channel of core.channels) channel.outbound?.protection.end();
  core.emit(
    "primary-superseded",
    `${core.port.array} is no longer writable for ${core.port.name}: ${newer} is primary`,
    {
      primary: newer,
    },
  );
  core.clock.defer(() => core.meetAnew("no longer primary"));
}

function asGolden(core: MeetingCore, channel: PeerChannel, theirs: Hello, decision: Decision): void {
  const { link, array } = channel;
  if (decision.kind !== "follow" || link === null) return;
  const begin = () => {
    if (channel.link !== link || !core.role.is("following")) return;
    channel.inbound = new Inbound(core, link, array, core.resyncTarget, core.faults);
  };
  if (!decision.adopts) {
    begin();
    rememberPeers(core, theirs);
    return;
  }
  core.changeRole(
    (document) => ({ ...afterMeeting(document, core.port.array, theirs), primary: array, closed: null }),
    () => {
      core.emit("primary-adopted", `${array} is primary of ${core.port.name} now, and this copy follows it`, {
        primary: array,
      });
      // It was met as a stranger; as the one we follow it is met anew.
      core.meetAnew("following a new primary");
    },
  );
}

/** A golden copy remembers whom it would replicate to: its primary, and that one's other peers. */
export function rememberPeers(core: GroupCore, theirs: Hello): void {
  const array = core.port.array;
  if (afterMeeting(core.document, array, theirs) === core.document) return;
  core.keeper.change((document) => (document.role === "golden" ? afterMeeting(document, array, theirs) : document));
}

function afterMeeting(document: ReplicationDocument, array: string, theirs: Hello): ReplicationDocument {
  const mode = theirs.peers.find((peer) => peer.array === array)?.mode ?? "async";
  const wanted = [
    { array: theirs.array, mode },
    ...theirs.peers.filter((peer) => peer.array !== array && peer.array !== theirs.array),
  ];
  const same =
    document.peers.length === wanted.length &&
    wanted.every(
      (peer, index) => document.peers[index]?.array === peer.array && document.peers[index]?.mode === peer.mode,
    );
  return same ? document : { ...document, peers: wanted.map((peer) => peerEntry(peer.array, peer.mode)) };
}

function describe(decision: Decision | null): string {
  if (decision === null) return "";
  return decision.kind === "idle" ? `idle ${decision.reason}` : decision.kind;
}

function tell(core: MeetingCore, channel: PeerChannel, decision: Decision): void {
  const { array } = channel;
  const name = core.port.name;
  const peer = { peer: array };
  switch (decision.kind) {
    case "diverged":
      core.emit("diverged", `${name} has writes of its own on ${core.port.array} and on ${array}; replication stops`, {
        ...peer,
        forkSeq: decision.forkSeq,
        oursBeyond: decision.oursBeyond,
        theirsBeyond: decision.theirsBeyond,
      });
      return;
    case "superseded":
      core.emit("superseded", `${array} is primary of ${name} since seq ${decision.forkSeq}`, {
        ...peer,
        forkSeq: decision.forkSeq,
        oursBeyond: decision.oursBeyond,
      });
      return;
    case "supersedes":
      core.emit(
        "peer-superseded",
        `${array} was primary of ${name} before and waits for: goldcopy group resync ${name} --from ${core.port.array}`,
        {
          ...peer,
          forkSeq: decision.forkSeq,
          theirsBeyond: decision.theirsBeyond,
        },
      );
      return;
    case "idle":
      core.emit("peer-idle", `${name} does not replicate with ${array}: ${decision.reason}`, {
        ...peer,
        reason: decision.reason,
      });
      return;
    default:
      core.emit("peer-met", `${name} is connected with ${array}`, { ...peer, as: decision.kind });
  }
}
