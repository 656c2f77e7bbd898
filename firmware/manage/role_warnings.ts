/** What an operator should know of the groups' roles and copies, from their status. */
import type { GroupJson, WarningJson } from "./status_json.ts";

const copyTrouble = new Map<string, string>([
  ["diverged", "both sides have writes of their own; resync one of them"],
  ["suspended", "its log could not be kept; a resync is the way back"],
  ["inconsistent", "its image is a mixture until a resync has ended"],
  ["disconnected", "it does not answer; writes are not protected there"],
]);

/** A sync peer that is away: hosts go on, unprotected, and must know. */
const syncSuspended =
  "it is away, and writes are acknowledged without it; when its log cannot be kept, a resync is the way back";

export function roleWarnings(groups: readonly GroupJson[]): WarningJson[] {
  const warnings: WarningJson[] = [];
  for (const group of groups) {
    if (group.role === "primary" && group.settled && !group.writable) {
      warnings.push({ code: "not-writable", text: `group ${group.name}: ${group.why ?? "not writable"}` });
    }
    const own = group.role === "golden" ? copyTrouble.get(group.state) : undefined;
    if (own !== undefined) warnings.push({ code: `copy-${group.state}`, text: `group ${group.name} here: ${own}` });
    const cutOff = group.role === "golden" && group.peers.find((peer) => peer.state === "disconnected");
    if (cutOff) {
      const text = `group ${group.name} here: its primary ${cutOff.array} does not answer; the image is that of seq ${group.viewSeq}`;
      warnings.push({ code: "primary-disconnected", text });
    }
    // A primary that may not write says why itself; what it thinks of its peers is old then.
    for (const peer of group.role === "primary" && group.writable ? group.peers : []) {
      const text = peer.state === "suspended" && peer.mode === "sync" ? syncSuspended : copyTrouble.get(peer.state);
      if (text !== undefined)
        warnings.push({ code: `peer-${peer.state}`, text: `group ${group.name} on ${peer.array}: ${text}` });
    }
  }
  return warnings;
}
