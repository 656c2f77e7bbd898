/**
 * Where hosts and other appliances reach the appliances of a lab: on loopback by their ports, in a `--netns` lab by addresses of their own,
 * at standard ports. The networks are those that documentation may use (RFC 5737); nothing outside of the lab sees them.
 */
import type { Lab, Site, SiteAppliance } from "./site.ts";

const loopback = "127.0.0.1";
/** In the network that QEMU gives a machine: the machine itself, and the host, whose loopback is reached there (-netdev user). */
const guest = "10.0.2.15";
const hostOfGuest = "10.0.2.2";
const everywhere = "0.0.0.0";
const prefixBits = 24;
const hosts = "192.0.2";
const back = "198.51.100";
const firstAppliance = 11;
const firstService = 101;

/** Of the client namespace, on the bridge of the hosts. */
export const clientAddress = `${hosts}.1/${prefixBits}`;

/** What an appliance has in a network of its own. */
export const standardPorts = {
  nbdPorts: [10809, 10810],
  iscsiPorts: [3260, 3261],
  nicPorts: [7000, 7001],
  interconnectPorts: [7500, 7501],
} as const;

/** Of the array, wherever it is: the port of the protocol at its service address. */
export const servicePorts = { nbd: standardPorts.nbdPorts[0], iscsi: standardPorts.iscsiPorts[0] } as const;

/** Interfaces in an appliance's namespace. */
export const hostInterface = "host0";
export const backInterface = "back0";

/** For hosts. */
export function hostAddress({ site }: Lab, appliance: SiteAppliance): string {
  return site.network === "netns" ? `${hosts}.${firstAppliance + site.appliances.indexOf(appliance)}` : loopback;
}

/** For other appliances. A virtual machine's ports are forwarded from the host's loopback, and other machines come in there. */
export function backAddress({ site }: Lab, appliance: SiteAppliance): string {
  if (site.machines === "vm") return hostOfGuest;
  return site.network === "netns" ? `${back}.${firstAppliance + site.appliances.indexOf(appliance)}` : loopback;
}

/** What an appliance listens on, as its own system has it. iSCSI hosts are told theirs, so it has to be one. */
export function listenAddress(
  lab: Lab,
  appliance: SiteAppliance,
  side: "nbd" | "iscsi" | "back" | "management",
): string {
  if (lab.site.machines === "vm") return side === "nbd" || side === "back" ? everywhere : guest;
  return side === "back" ? backAddress(lab, appliance) : hostAddress(lab, appliance);
}

/** Moves with the array; null: it has one appliance, or lies on loopback, where nothing can move. */
export function serviceAddress({ site }: Lab, arrayName: string): string | null {
  const index = site.arrays.findIndex(({ name }) => name === arrayName);
  const array: Site["arrays"][number] | undefined = site.arrays[index];
  if (site.network !== "netns" || array === undefined || array.appliances.length < 2) return null;
  return `${hosts}.${firstService + index}`;
}

export function withPrefix(address: string): string {
  return `${address}/${prefixBits}`;
}
