/** Every command of this version, and the nouns and verbs that belong to later ones. */
import type { Command } from "./command.ts";
import { groupCommands } from "./commands_group.ts";
import { hardwareCommands } from "./commands_hardware.ts";
import { hostCommands } from "./commands_host.ts";
import { pairCommands } from "./commands_pair.ts";
import { statusCommands } from "./commands_status.ts";
import { updateCommands } from "./commands_update.ts";
import { volumeCommands } from "./commands_volume.ts";

export const commands: readonly Command[] = [
  ...statusCommands,
  ...volumeCommands,
  ...groupCommands,
  ...hostCommands,
  ...pairCommands,
  ...hardwareCommands,
  ...updateCommands,
];

/** In the order of help. */
export const nouns: readonly { readonly noun: string; readonly what: string }[] = [
  { noun: "status", what: "one screen: appliances, groups, peers, lag, warnings" },
  { noun: "volume", what: "block devices" },
  { noun: "group", what: "consistency groups, their peers and roles" },
  { noun: "host", what: "who may use which volume" },
  { noun: "pair", what: "the array's two appliances: who owns it, and failover" },
  { noun: "peer", what: "arrays that replicate with this one" },
  { noun: "shelf", what: "disk shelves" },
  { noun: "disk", what: "disks and what was found on them" },
  { noun: "pool", what: "space" },
  { noun: "cache", what: "write caches (NVRAM)" },
  { noun: "update", what: "a new version of the appliance image, from a signed bundle" },
  { noun: "log", what: "events" },
  { noun: "support", what: "everything for those who help" },
];

/** `*`: every verb of the noun. */
export const later: readonly { readonly noun: string; readonly verbs: readonly string[]; readonly what: string }[] = [
  { noun: "snapshot", verbs: ["*"], what: "the group at one seq, kept" },
  { noun: "journal", verbs: ["*"], what: "continuous data protection" },
  { noun: "schedule", verbs: ["*"], what: "what happens by the clock" },
  { noun: "test", verbs: ["*"], what: "takeover tests on a copy" },
  {
    noun: "peer",
    verbs: ["invite", "accept", "remove"],
    what: "pairing of two arrays; peers are in the board profile",
  },
];

export function isLater(noun: string, verb: string | undefined): boolean {
  return later.some((entry) => entry.noun === noun && (entry.verbs.includes("*") || entry.verbs.includes(verb ?? "")));
}
