/**
 * Opening a group for host writes: what must be so before the first one.
 *
 *   suspend sync peers that are away (durable) ──▶ new timeline (durable) ──▶ the same check again ──▶ serving
 *
 * Invariants (D4, L1): no acknowledgement under the new timeline is unprotected unseen: an armed peer either is connected and
 * waited for again, or its suspension is durable. The log's own requirements are void after the opening, so they are set again
 * before hosts are let in.
 */
import type { GroupCore } from "./group_core.ts";
import type { PeerChannel } from "./peer_channel.ts";

export interface Opened {
  readonly timeline: string;
  readonly firstSeq: number;
}

/**
 * The role is already `opening`. `done` when hosts may write; never when the shelf fails. `links`: whether the present links go on
 * with what was said on them (a primary that stays primary), or everybody is met anew (a copy that became one). Who does not follow
 * this array is met anew in any case: it was told that hosts may not write here, and judges by that (another primary).
 */
export function openForHosts(
  core: GroupCore,
  why: string,
  links: "go-on" | "meet-anew",
  done: (opened: Opened) => void,
): void {
  suspendAbsent(core, () => {
    if (!core.role.is("opening")) return;
    core.port.openForWriting((error, opened) => {
      if (error !== null || opened === null) {
        core.fail(`the log could not be opened for writing: ${error?.text ?? "no timeline"}`);
        return;
      }
      suspendAbsent(core, () => {
        if (!core.role.to("serving")) return;
        for (const channel of core.channels) {
          const stream = armedStream(core, channel);
          if (stream !== null) channel.outbound?.protection.resume(stream);
        }
        core.refreshServing();
        core.emit("group-serving", `hosts may write to ${core.port.name} on ${core.port.array}: ${why}`, {
          timeline: opened.timeline,
          firstSeq: opened.firstSeq,
        });
        done(opened);
        if (links === "meet-anew") return core.meetAnew("the role has moved");
        core.meetAnew(
          "hosts may write here now",
          ({ theirs }) => theirs !== null && theirs.primary !== core.port.array,
        );
        core.reconsider();
      });
    });
  });
}

function suspendAbsent(core: GroupCore, done: () => void): void {
  const absent = core.document.peers.filter((peer) => {
    if (peer.protection !== "armed") return false;
    const channel = core.channel(peer.array);
    return channel === null || armedStream(core, channel) === null;
  });
  if (absent.length === 0) {
    done();
    return;
  }
  const names = new Set(absent.map((peer) => peer.array));
  core.keeper.change(
    (document) => ({
      ...document,
      peers: document.peers.map((peer) => (names.has(peer.array) ? { ...peer, protection: "suspended" } : peer)),
    }),
    () => {
      for (const peer of names) {
        core.emit("sync-suspended", `writes are no longer protected by ${peer}: it is not connected`, { peer });
      }
      suspendAbsent(core, done);
    },
  );
}

/** What an armed peer holds, when it is connected and only the log's end is to be sent; else null. */
function armedStream(core: GroupCore, channel: PeerChannel): number | null {
  const entry = core.entry(channel.array);
  const { decision, theirs } = channel;
  if (!channel.connected || entry?.protection !== "armed" || entry.resync !== null || entry.unverified) return null;
  if (decision?.kind !== "stream" || theirs === null) return null;
  return Math.min(decision.fromSeq, theirs.persistedSeq);
}
