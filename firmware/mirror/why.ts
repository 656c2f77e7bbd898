/** Why a group is not writable, in one sentence that says what, and what to do. */
import type { GroupCore } from "./group_core.ts";

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
  for (const channel of core.channels) {
    const { decision, array } = channel;
    const resync = `to make ${port.array} its golden copy: goldcopy group resync ${name} --from ${array}`;
    if (decision?.kind === "superseded") {
      const beyond =
        decision.oursBeyond === 0
          ? "nothing was written here beyond it"
          : `${decision.oursBeyond} writes here lie beyond it and are kept`;
      return `${array} has been primary since seq ${decision.forkSeq}; ${beyond}; ${resync}`;
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
  const alone = `goldcopy group serve ${name} --alone goes on without`;
  if (core.cacheLost) {
    const peer = document.peers[0]?.array;
    const elsewhere =
      peer === undefined ? "" : `goldcopy group takeover ${name} on ${peer} goes on with what ${peer} has; `;
    return `the write cache was lost with writes that were not on the shelf, or its root is not the newest; ${elsewhere}${alone} them`;
  }
  const peers = document.peers.map((peer) => peer.array).join(", ");
  return `no peer (${peers || "none"}) has confirmed yet that ${port.array} is still primary; ${alone}`;
}
