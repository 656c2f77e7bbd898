/** Why a group is not writable, in one sentence that says what, and what to do. */
import type { GroupCore } from "./group_core.ts";
import type { PeerChannel } from "./peer_channel.ts";

export function whyNotWritable(core: GroupCore): string | null {
  const { document, port } = core;
  const ours = port.array;
  switch (core.role.state) {
    case "serving":
      return null;
    case "starting":
      return "the group is starting";
    case "opening":
      return "the group is being opened for writing";
    case "promoting":
      return `${ours} is becoming primary`;
    case "failed":
      return `the group has stopped: ${core.failure}; when that is mended, restart the appliance`;
    case "stopped":
      return "the appliance is stopping";
    case "granting":
      return (
        `the primary role was given to ${document.grant?.to ?? "a peer"}, which has not answered yet; if it never will: ` +
        `goldcopy group serve ${port.name} --alone`
      );
    case "following":
      return core.keeper.shownImage.kind === "consistent"
        ? `golden copy of ${document.primary ?? "no array"}`
        : `golden copy of ${document.primary ?? "no array"}, inconsistent until a resync has ended`;
    case "unconfirmed":
      return whyUnconfirmed(core);
  }
}

function whyUnconfirmed(core: GroupCore): string {
  const { port, document } = core;
  const name = port.name;
  const alone = `goldcopy group serve ${name} --alone goes on without`;
  for (const channel of core.channels) {
    const { decision, array } = channel;
    const resync = `to make ${port.array} its golden copy: goldcopy group resync ${name} --from ${array}`;
    if (decision?.kind === "superseded") {
      const beyond =
        decision.oursBeyond === 0
          ? "nothing was written here beyond it"
          : `${decision.oursBeyond} writes here lie beyond it and are kept`;
      const since = `${array} has been primary since seq ${decision.forkSeq}`;
      if (!hasLost(channel)) return `${since}; ${beyond}; ${resync}`;
      return `${since}, but has lost its newest writes and waits for an operator; ${beyond}; ${alone} what ${array} had; ${resync}`;
    }
    if (decision?.kind === "diverged") {
      const at = decision.forkSeq === null ? "have nothing in common" : `have diverged at seq ${decision.forkSeq}`;
      return `${port.array} and ${array} ${at}; ${resync}, or goldcopy group serve ${name} --alone`;
    }
    if (decision?.kind === "idle" && decision.reason === "peer-ahead") {
      return (
        `${array} holds acknowledged writes that ${port.array} has lost; ` +
        `goldcopy group takeover ${name} on ${array}, then ${resync}`
      );
    }
    if (decision?.kind === "idle" && decision.reason === "follows-other") {
      return `${array} follows another primary; ${resync.replace(` --from ${array}`, " --from the array that is primary")}`;
    }
    if (decision?.kind === "idle" && decision.reason === "two-primaries") {
      return `${array} says that it is primary too, and neither is confirmed; ${resync}, or goldcopy group serve ${name} --alone`;
    }
  }
  if (core.cacheLost) {
    const peer = document.peers[0]?.array;
    const elsewhere = peer === undefined ? "" : `${goingOnAt(core, peer)} on ${peer} goes on with what ${peer} has; `;
    return `the write cache was lost with writes that were not on the shelf, its root is not the newest, or a stale disk was used; ${elsewhere}${alone} them`;
  }
  const peers = document.peers.map((peer) => peer.array).join(", ");
  return `no peer (${peers || "none"}) has confirmed yet that ${port.array} is still primary; ${alone}`;
}

/** What makes `array` primary: of a copy that is one already, only without confirmation, the operator's word. */
function goingOnAt(core: GroupCore, array: string): string {
  const { name } = core.port;
  return core.channel(array)?.theirs?.role === "primary"
    ? `goldcopy group serve ${name} --alone`
    : `goldcopy group takeover ${name}`;
}

/** A primary that says itself that it cannot go on: nobody will confirm it. What it said before the link was lost may be over. */
function hasLost({ connected, theirs }: PeerChannel): boolean {
  return connected && theirs !== null && !theirs.writable && !theirs.consistent;
}
