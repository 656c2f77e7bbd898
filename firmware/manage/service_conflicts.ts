/** What is wrong with a board profile's addresses that move with the array ([[service]]), though each field is right. */
import type { BoardProfile } from "./board_profile.ts";

/** The first conflict, as `field: what; remedy`; null: none. */
export function serviceConflict({ board, config }: BoardProfile): string | null {
  const { services, hbas, nics } = board;
  if (services.length > 0 && config.pair === null)
    return "service: there is no [pair], so there is nowhere to move to; write the address into hba.listen alone, or describe the partner in [pair]";
  const ips = services.map(({ address }) => address);
  for (const [index, ip] of ips.entries()) {
    const field = `service[${index}].address`;
    const first = ips.indexOf(ip);
    if (first !== index) return `${field}: "${ip}" is the address of service[${first}] too; name each once`;
    if (!hbas.some(({ listen }) => hostOf(listen) === ip))
      return `${field}: no [[hba]] listens on ${ip}; write for example listen = "${ip}:10809" in one, or remove [[service]]`;
  }
  const moves = (listen: string) => ips.includes(hostOf(listen));
  for (const [index, { listen }] of hbas.entries()) {
    const field = `hba[${index}].listen`;
    if (!moves(listen)) continue;
    if (portOf(listen) === 0)
      return `${field}: "${listen}" moves, and hosts must find its port at both appliances; write a port other than 0`;
    const wildcard = hbas.findIndex((other) => isWildcard(other.listen) && portOf(other.listen) === portOf(listen));
    if (wildcard >= 0)
      return `${field}: hba[${wildcard}].listen takes port ${portOf(listen)} of every address, and "${listen}" could not be taken when it comes here; write another port, or the port's own address there`;
  }
  const fixed = [
    ...nics.map(({ listen }, index) => ({ address: listen, field: `nic[${index}].listen` })),
    ...(config.pair?.addresses ?? []).map((address, index) => ({ address, field: `pair.addresses[${index}]` })),
  ];
  const wrong = fixed.find(({ address }) => moves(address));
  if (wrong === undefined) return null;
  return `${wrong.field}: "${wrong.address}" moves with the array ([[service]]); write an address that stays with its appliance`;
}

function hostOf(address: string): string {
  return address.slice(0, address.lastIndexOf(":"));
}

function portOf(address: string): number {
  return Number(address.slice(address.lastIndexOf(":") + 1));
}

function isWildcard(listen: string): boolean {
  return /^(?:0\.0\.0\.0|\[[0:]+\]):/.test(listen);
}
