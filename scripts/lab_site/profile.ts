/** The board profile of each appliance of a lab, as the firmware reads it. */
import { join } from "node:path";
import { type Lab, pathIn, type SiteAppliance, socketOf, writeWhole } from "./site.ts";

/** TOML basic strings have JSON's escapes for all that file names hold. */
const quoted = (text: string): string => JSON.stringify(text);

export function profilePath(lab: Lab, name: string): string {
  return pathIn(lab, name, "profile.toml");
}

export function writeProfile(lab: Lab, appliance: SiteAppliance): void {
  writeWhole(profilePath(lab, appliance.name), profileText(lab, appliance));
}

export function profileText(lab: Lab, appliance: SiteAppliance): string {
  const { site } = lab;
  const shelf = "shelf0";
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
  for (const [index, port] of appliance.nbdPorts.entries()) {
    lines.push("", "[[hba]]", `name = "hba${index}"`, `listen = "127.0.0.1:${port}"`, 'protocol = "nbd"');
  }
  for (const [index, port] of appliance.iscsiPorts.entries()) {
    const name = `hba${appliance.nbdPorts.length + index}`;
    lines.push("", "[[hba]]", `name = "${name}"`, `listen = "127.0.0.1:${port}"`, 'protocol = "iscsi"');
  }
  for (const [index, port] of appliance.nicPorts.entries()) {
    lines.push("", "[[nic]]", `name = "nic${index}"`, `listen = "127.0.0.1:${port}"`);
  }
  lines.push("", "[[shelf]]", `name = "${shelf}"`, 'fencing = "none"');
  for (let slot = 0; slot < site.disksPerShelf; slot++) {
    const path = join(lab.dir, appliance.array, `${shelf}-${slot}.disk`);
    lines.push(
      "",
      "[[shelf.disk]]",
      `slot = ${slot}`,
      `path = ${quoted(path)}`,
      `size = ${site.diskBytes}`,
      "create = true",
    );
  }
  for (const array of site.arrays.filter((candidate) => candidate.name !== appliance.array)) {
    lines.push("", "[[peer]]", `array = ${quoted(array.name)}`);
    for (const name of array.appliances) {
      const ports = site.appliances.find((candidate) => candidate.name === name)?.nicPorts ?? [];
      const addresses = ports.map((port) => quoted(`127.0.0.1:${port}`)).join(", ");
      lines.push("", "[[peer.appliances]]", `name = ${quoted(name)}`, `addresses = [${addresses}]`);
    }
  }
  return `${lines.join("\n")}\n`;
}
