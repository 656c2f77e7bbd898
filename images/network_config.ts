/**
 * NoCloud's `network-config` (version 1 and 2, the parts that give addresses) as the lines that `root/usr/lib/goldcopy/network` follows:
 * `eth0 dhcp`, `eth0 address 192.0.2.10/24`, `eth0 gateway 192.0.2.1`, `- dns 192.0.2.53`. A hardware address may stand for the name.
 *
 * What is not understood is refused with the field's name: half a network is worse than none.
 */

export type NetworkOutcome =
  | { readonly ok: true; readonly lines: string[] }
  | { readonly ok: false; readonly text: string };

class Refusal extends Error {}

const addressForm = /^(?:\d{1,3}\.){3}\d{1,3}$/;
const withPrefixForm = /^((?:\d{1,3}\.){3}\d{1,3})\/(\d{1,2})$/;
const nameForm = /^[A-Za-z0-9._:-]{1,32}$/;

/** `document` is what a YAML parser made of the file. */
export function networkLines(document: unknown): NetworkOutcome {
  try {
    // Some writers put everything below `network`.
    const outer = tableOf(document, "network-config");
    const config = "network" in outer ? tableOf(outer["network"], "network") : outer;
    if (config["version"] === 1) return { ok: true, lines: linesOfVersion1(config) };
    if (config["version"] === 2) return { ok: true, lines: linesOfVersion2(config) };
    throw new Refusal(`version: ${JSON.stringify(config["version"] ?? null)} is neither 1 nor 2`);
  } catch (error) {
    if (error instanceof Refusal) return { ok: false, text: `network-config: ${error.message}; it is not used` };
    throw error;
  }
}

function linesOfVersion2(config: Record<string, unknown>): string[] {
  const lines: string[] = [];
  for (const [name, value] of Object.entries(tableOf(config["ethernets"], "ethernets"))) {
    const at = `ethernets.${name}`;
    const ethernet = tableOf(value, at);
    const match = ethernet["match"] === undefined ? {} : tableOf(ethernet["match"], `${at}.match`);
    const nic = nicOf(match["macaddress"] ?? name, `${at}.match.macaddress`);
    if (ethernet["dhcp4"] === true) lines.push(`${nic} dhcp`);
    for (const address of listOf(ethernet["addresses"], `${at}.addresses`))
      if (!isVersion6(address)) lines.push(`${nic} address ${withPrefix(address, `${at}.addresses`)}`);
    if (ethernet["gateway4"] !== undefined)
      lines.push(`${nic} gateway ${plain(ethernet["gateway4"], `${at}.gateway4`)}`);
    for (const entry of listOf(ethernet["routes"], `${at}.routes`)) {
      const route = tableOf(entry, `${at}.routes`);
      if (route["to"] !== "default" && route["to"] !== "0.0.0.0/0")
        throw new Refusal(`${at}.routes: only a default route is possible`);
      lines.push(`${nic} gateway ${plain(route["via"], `${at}.routes`)}`);
    }
    const servers = ethernet["nameservers"] === undefined ? {} : tableOf(ethernet["nameservers"], `${at}.nameservers`);
    lines.push(...dnsLines(servers["addresses"], `${at}.nameservers.addresses`));
  }
  return lines;
}

function linesOfVersion1(config: Record<string, unknown>): string[] {
  const lines: string[] = [];
  for (const [index, value] of listOf(config["config"], "config").entries()) {
    const at = `config[${index}]`;
    const entry = tableOf(value, at);
    if (entry["type"] === "nameserver") {
      lines.push(...dnsLines(entry["address"], `${at}.address`));
      continue;
    }
    if (entry["type"] !== "physical")
      throw new Refusal(`${at}.type: ${JSON.stringify(entry["type"] ?? null)} is neither "physical" nor "nameserver"`);
    const nic = nicOf(entry["mac_address"] ?? entry["name"], `${at}.name`);
    for (const subnetValue of listOf(entry["subnets"], `${at}.subnets`)) {
      const subnet = tableOf(subnetValue, `${at}.subnets`);
      const type = subnet["type"];
      if (type === "dhcp" || type === "dhcp4") lines.push(`${nic} dhcp`);
      else if (type === "static") {
        if (isVersion6(subnet["address"])) continue;
        lines.push(`${nic} address ${withPrefix(subnet["address"], `${at}.subnets.address`, subnet["netmask"])}`);
        if (subnet["gateway"] !== undefined)
          lines.push(`${nic} gateway ${plain(subnet["gateway"], `${at}.subnets.gateway`)}`);
        lines.push(...dnsLines(subnet["dns_nameservers"], `${at}.subnets.dns_nameservers`));
      } else if (typeof type !== "string" || !/6/.test(type))
        throw new Refusal(`${at}.subnets.type: ${JSON.stringify(type ?? null)} is neither "dhcp" nor "static"`);
    }
  }
  return lines;
}

function dnsLines(value: unknown, at: string): string[] {
  const servers = typeof value === "string" ? [value] : listOf(value, at);
  return servers.filter((server) => !isVersion6(server)).map((server) => `- dns ${plain(server, at)}`);
}

function tableOf(value: unknown, at: string): Record<string, unknown> {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw new Refusal(`${at}: ${value === undefined ? "missing" : "is not a table"}`);
}

/** Missing is empty. */
function listOf(value: unknown, at: string): unknown[] {
  if (value === undefined || value === null) return [];
  if (Array.isArray(value)) return value;
  throw new Refusal(`${at}: is not a list`);
}

function nicOf(value: unknown, at: string): string {
  if (typeof value === "string" && nameForm.test(value)) return value.includes(":") ? value.toLowerCase() : value;
  throw new Refusal(`${at}: names no interface`);
}

/** IPv6 goes without configuration: such entries are passed over. */
function isVersion6(value: unknown): boolean {
  return typeof value === "string" && value.includes(":");
}

function plain(value: unknown, at: string): string {
  if (typeof value === "string" && addressForm.test(value)) return value;
  throw new Refusal(`${at}: ${JSON.stringify(value ?? null)} is not an IPv4 address`);
}

function withPrefix(value: unknown, at: string, netmask?: unknown): string {
  if (typeof value === "string") {
    const match = withPrefixForm.exec(value);
    if (match !== null && Number(match[2]) <= 32) return value;
    if (addressForm.test(value) && typeof netmask === "string" && addressForm.test(netmask))
      return `${value}/${prefixOf(netmask, at)}`;
  }
  throw new Refusal(
    `${at}: ${JSON.stringify(value ?? null)} is not an IPv4 address with its prefix, like 192.0.2.10/24`,
  );
}

function prefixOf(netmask: string, at: string): number {
  const bits = netmask
    .split(".")
    .map((part) => Number(part).toString(2).padStart(8, "0"))
    .join("");
  if (!/^1*0*$/.test(bits) || bits.length !== 32) throw new Refusal(`${at}: ${netmask} is not a netmask`);
  return bits.indexOf("0") < 0 ? 32 : bits.indexOf("0");
}
