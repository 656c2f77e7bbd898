/** The board profile of each appliance of a lab, as the firmware reads it. */
import { backAddress, hostAddress, hostInterface, serviceAddress, servicePorts } from "./addresses.ts";
import {
  applianceOf,
  diskPath,
  isPreferred,
  type Lab,
  partnerOf,
  pathIn,
  type SiteAppliance,
  shelfName,
  socketOf,
  writeWhole,
} from "./site.ts";

/** TOML basic strings have JSON's escapes for all that file names hold. */
const quoted = (text: string): string => JSON.stringify(text);

export function profilePath(lab: Lab, name: string): string {
  return pathIn(lab, name, "profile.toml");
}

/** The port names that `links.ts` shapes by. */
export const peerNicName = (index: number): string => `nic${index}`;
export const interconnectNicName = (index: number): string => `ic${index}`;

export function writeProfile(lab: Lab, appliance: SiteAppliance): void {
  writeWhole(profilePath(lab, appliance.name), profileText(lab, appliance));
}

export function profileText(lab: Lab, appliance: SiteAppliance): string {
  const { site } = lab;
  const partner = partnerOf(lab, appliance);
  const lines = [
    "# Written by scripts/lab.",
    "[array]",
    `name = ${quoted(appliance.array)}`,
    `appliance = ${quoted(appliance.name)}`,
    "",
    "[manage]",
    `socket = ${quoted(socketOf(lab, appliance.name))}`,
    "",
    "[log]",
    `file = ${quoted(pathIn(lab, appliance.name, "events.log"))}`,
    "",
    "[cache]",
    `path = ${quoted(pathIn(lab, appliance.name, "nvram"))}`,
    `size = ${site.cacheBytes}`,
    `persistence = ${quoted(site.persistence)}`,
    "",
    "[nic_shaping]",
    `file = ${quoted(pathIn(lab, appliance.name, "shaping.json"))}`,
  ];
  lines.push(...hbaLines(lab, appliance));
  const nics = [
    ...appliance.nicPorts.map((port, index) => ({ port, name: peerNicName(index) })),
    ...appliance.interconnectPorts.map((port, index) => ({ port, name: interconnectNicName(index) })),
  ];
  for (const { port, name } of nics) {
    lines.push("", "[[nic]]", `name = "${name}"`, `listen = "${backAddress(lab, appliance)}:${port}"`);
  }
  if (partner !== null) lines.push(...pairLines(lab, appliance, partner));
  lines.push("", "[[shelf]]", `name = "${shelfName}"`, `fencing = "${partner === null ? "none" : "power"}"`);
  for (let slot = 0; slot < site.disksPerShelf; slot++) {
    lines.push(
      "",
      "[[shelf.disk]]",
      `slot = ${slot}`,
      `path = ${quoted(diskPath(lab, appliance.array, slot))}`,
      `size = ${site.diskBytes}`,
      // The lab has made a shared shelf's.
      `create = ${partner === null}`,
    );
  }
  for (const array of site.arrays.filter((candidate) => candidate.name !== appliance.array)) {
    lines.push("", "[[peer]]", `array = ${quoted(array.name)}`);
    for (const name of array.appliances) {
      const peer = applianceOf(lab, name);
      lines.push("", "[[peer.appliances]]", `name = ${quoted(name)}`);
      lines.push(`addresses = ${addressList(backAddress(lab, peer), peer.nicPorts)}`);
    }
  }
  return `${lines.join("\n")}\n`;
}

/** The ports that stay with the appliance come first, so that their places do not depend on whether there are others. */
function hbaLines(lab: Lab, appliance: SiteAppliance): string[] {
  const own = hostAddress(lab, appliance);
  const moving = serviceAddress(lab, appliance.array);
  const ports = [
    ...appliance.nbdPorts.map((port) => ({ listen: `${own}:${port}`, protocol: "nbd" })),
    ...appliance.iscsiPorts.map((port) => ({ listen: `${own}:${port}`, protocol: "iscsi" })),
  ];
  if (moving !== null) {
    ports.push({ listen: `${moving}:${servicePorts.nbd}`, protocol: "nbd" });
    ports.push({ listen: `${moving}:${servicePorts.iscsi}`, protocol: "iscsi" });
  }
  const lines = ports.flatMap(({ listen, protocol }, index) => [
    "",
    "[[hba]]",
    `name = "hba${index}"`,
    `listen = "${listen}"`,
    `protocol = "${protocol}"`,
  ]);
  if (moving === null) return lines;
  return [...lines, "", "[[service]]", `address = "${moving}"`, `interface = "${hostInterface}"`];
}

const lifeLockPath = (lab: Lab, { name }: SiteAppliance): string => pathIn(lab, name, "life.lock");

function pairLines(lab: Lab, appliance: SiteAppliance, partner: SiteAppliance): string[] {
  const { heartbeat } = lab.site;
  const nics = appliance.interconnectPorts.map((_, index) => quoted(interconnectNicName(index)));
  return [
    "",
    "[pair]",
    `partner = ${quoted(partner.name)}`,
    `nics = [${nics.join(", ")}]`,
    `addresses = ${addressList(backAddress(lab, partner), partner.interconnectPorts)}`,
    `preferred = ${isPreferred(lab, appliance)}`,
    ...(heartbeat === null ? [] : [`heartbeat_ms = ${heartbeat.everyMs}`, `missed_max = ${heartbeat.missedMax}`]),
    "",
    "[power]",
    `lock = ${quoted(lifeLockPath(lab, appliance))}`,
    `target_lock = ${quoted(lifeLockPath(lab, partner))}`,
  ];
}

function addressList(address: string, ports: readonly number[]): string {
  return `[${ports.map((port) => quoted(`${address}:${port}`)).join(", ")}]`;
}
