/** The board profile of each appliance of a lab, as the firmware reads it. */
import { backAddress, hostInterface, listenAddress, serviceAddress, servicePorts } from "./addresses.ts";
import type { Heartbeat } from "./heartbeat.ts";
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

/** Of a virtual machine's disk. */
export const diskSerial = (slot: number): string => `SHELF-0-${slot}`;

/** The port names that `links.ts` shapes by. */
export const peerNicName = (index: number): string => `nic${index}`;
export const interconnectNicName = (index: number): string => `ic${index}`;

export function writeProfile(lab: Lab, appliance: SiteAppliance): void {
  writeWhole(profilePath(lab, appliance.name), profileText(lab, appliance));
}

/** Where an appliance has its files: in the lab's directory, or on the disks of its own machine. */
interface Places {
  readonly socket: string;
  readonly events: string;
  readonly cache: string;
  readonly shaping: string;
  disk(slot: number): readonly string[];
}

function placesOf(lab: Lab, appliance: SiteAppliance): Places {
  const { name, array } = appliance;
  if (lab.site.machines === "vm")
    return {
      socket: `/run/goldcopy/${name}.sock`,
      events: `/var/log/goldcopy/${name}.log`,
      cache: "/var/lib/goldcopy/nvram",
      shaping: "/var/lib/goldcopy/shaping.json",
      disk: (slot) => [`path = ${quoted(`/dev/shelf/${diskSerial(slot)}`)}`],
    };
  return {
    socket: socketOf(lab, name),
    events: pathIn(lab, name, "events.log"),
    cache: pathIn(lab, name, "nvram"),
    shaping: pathIn(lab, name, "shaping.json"),
    disk: (slot) => [
      `path = ${quoted(diskPath(lab, array, slot))}`,
      `size = ${lab.site.diskBytes}`,
      // The lab has made a shared shelf's.
      `create = ${partnerOf(lab, appliance) === null}`,
    ],
  };
}

/** Emulated machines on busy cores keep each other waiting; how long partners are silent is the site's to say. */
const machineLink = ["[link]", "heartbeat_ms = 1000", "peer_timeout_ms = 10000"] as const;
/** Times the limit: the main loop of an emulated one stands still for 9 s in its start, beside much other work. */
const machineHungLimits = 4;
const hungMsMax = 1_000_000;

export function profileText(lab: Lab, appliance: SiteAppliance): string {
  const { site } = lab;
  const partner = partnerOf(lab, appliance);
  const places = placesOf(lab, appliance);
  const lines = [
    "# Written by scripts/lab.",
    "[array]",
    `name = ${quoted(appliance.array)}`,
    `appliance = ${quoted(appliance.name)}`,
    "",
    "[manage]",
    `socket = ${quoted(places.socket)}`,
    ...managementLines(lab, appliance),
    "",
    "[log]",
    `file = ${quoted(places.events)}`,
    "",
    "[cache]",
    `path = ${quoted(places.cache)}`,
    `size = ${site.cacheBytes}`,
    `persistence = ${quoted(site.persistence)}`,
    "",
    "[nic_shaping]",
    `file = ${quoted(places.shaping)}`,
  ];
  if (site.machines === "vm") lines.push("", ...machineLink);
  lines.push(...hbaLines(lab, appliance));
  const nics = [
    ...appliance.nicPorts.map((port, index) => ({ port, name: peerNicName(index) })),
    ...appliance.interconnectPorts.map((port, index) => ({ port, name: interconnectNicName(index) })),
  ];
  for (const { port, name } of nics) {
    lines.push("", "[[nic]]", `name = "${name}"`, `listen = "${listenAddress(lab, appliance, "back")}:${port}"`);
  }
  if (partner !== null) lines.push(...pairLines(lab, appliance, partner));
  lines.push("", "[[shelf]]", `name = "${shelfName}"`, `fencing = "${partner === null ? "none" : "power"}"`);
  for (let slot = 0; slot < site.disksPerShelf; slot++) {
    lines.push("", "[[shelf.disk]]", `slot = ${slot}`, ...places.disk(slot));
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

function managementLines(lab: Lab, appliance: SiteAppliance): string[] {
  const { managementPort } = appliance;
  if (managementPort === undefined) return [];
  const listen = `${listenAddress(lab, appliance, "management")}:${managementPort}`;
  return [`listen = ${quoted(listen)}`, `secret = ${quoted(lab.site.secret ?? "")}`];
}

/** The ports that stay with the appliance come first, so that their places do not depend on whether there are others. */
function hbaLines(lab: Lab, appliance: SiteAppliance): string[] {
  const moving = serviceAddress(lab, appliance.array);
  const ports = [
    ...appliance.nbdPorts.map((port) => ({
      listen: `${listenAddress(lab, appliance, "nbd")}:${port}`,
      protocol: "nbd",
    })),
    ...appliance.iscsiPorts.map((port) => ({
      listen: `${listenAddress(lab, appliance, "iscsi")}:${port}`,
      protocol: "iscsi",
    })),
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
    ...(heartbeat === null ? [] : heartbeatLines(lab, heartbeat)),
    "",
    "[power]",
    ...powerLines(lab, appliance, partner),
  ];
}

function heartbeatLines({ site }: Lab, { everyMs, missedMax }: Heartbeat): string[] {
  const hungMs = Math.min(machineHungLimits * everyMs * missedMax, hungMsMax);
  return [
    `heartbeat_ms = ${everyMs}`,
    `missed_max = ${missedMax}`,
    ...(site.machines === "vm" ? [`hung_ms = ${hungMs}`] : []),
  ];
}

function powerLines(lab: Lab, appliance: SiteAppliance, partner: SiteAppliance): string[] {
  if (partner.monitorPort !== undefined)
    return [`monitor = ${quoted(`${backAddress(lab, partner)}:${partner.monitorPort}`)}`, "restart = true"];
  return [`lock = ${quoted(lifeLockPath(lab, appliance))}`, `target_lock = ${quoted(lifeLockPath(lab, partner))}`];
}

function addressList(address: string, ports: readonly number[]): string {
  return `[${ports.map((port) => quoted(`${address}:${port}`)).join(", ")}]`;
}
