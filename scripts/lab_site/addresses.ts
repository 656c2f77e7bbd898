/**
 * Where hosts and other appliances reach the appliances of a lab: on loopback by their ports, in a `--netns` lab by addresses of their own,
 * at standard ports. The networks are those that documentation may use (RFC 5737); nothing outside of the lab sees them.
 */
import type { Lab, Site, SiteAppliance } from "./site.ts";

const loopback = "127.0.0.1";
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

/** For other appliances. */
export function backAddress({ site }: Lab, appliance: SiteAppliance): string {
  return site.network === "netns" ? `${back}.${firstAppliance + site.appliances.indexOf(appliance)}` : loopback;
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
