/**
 * Networks that hosts may come from: IPv4 and IPv6 in CIDR form (RFC 4632, RFC 4291 section 2.3), compared bit by bit.
 *
 * An IPv4 address that arrives mapped into IPv6 (`::ffff:192.0.2.1`) is the IPv4 address.
 */

export interface Cidr {
  /** 4 or 16 bytes. */
  readonly network: readonly number[];
  readonly prefixBits: number;
}

/** null when the text is not an address or a network. A plain address is a network of one. */
export function parseCidr(text: string): Cidr | null {
  const [addressText, prefixText, ...more] = text.split("/");
  if (addressText === undefined || more.length > 0) return null;
  const network = parseAddress(addressText);
  if (network === null) return null;
  if (prefixText === undefined) return { network, prefixBits: network.length * 8 };
  if (!/^\d{1,3}$/.test(prefixText) || Number(prefixText) > network.length * 8) return null;
  return { network, prefixBits: Number(prefixText) };
}

/** `address` as a host session names it, without a port; anything that is no address is in no network. */
export function cidrContains(cidr: Cidr, address: string): boolean {
  const bytes = parseAddress(address);
  if (bytes === null || bytes.length !== cidr.network.length) return false;
  for (let bit = 0; bit < cidr.prefixBits; bit += 8) {
    const mask = (0xff << Math.max(0, 8 - (cidr.prefixBits - bit))) & 0xff;
    if (((bytes[bit >> 3]! ^ cidr.network[bit >> 3]!) & mask) !== 0) return false;
  }
  return true;
}

/** 4 or 16 bytes; null when it is no address. */
export function parseAddress(text: string): number[] | null {
  if (text.length > 45) return null;
  if (!text.includes(":")) return parseIpv4(text);
  const bytes = parseIpv6(text);
  const mapped = bytes?.slice(0, 10).every((byte) => byte === 0) && bytes[10] === 0xff && bytes[11] === 0xff;
  return bytes !== null && mapped ? bytes.slice(12) : bytes;
}

function parseIpv4(text: string): number[] | null {
  const parts = text.split(".");
  if (parts.length !== 4 || !parts.every((part) => /^(?:0|[1-9]\d{0,2})$/.test(part) && Number(part) <= 255))
    return null;
  return parts.map(Number);
}

function parseIpv6(text: string): number[] | null {
  const halves = text.split("::");
  if (halves.length > 2) return null;
  const left = parseGroups(halves[0]!, halves.length === 1);
  const right = halves.length === 2 ? parseGroups(halves[1]!, true) : [];
  if (left === null || right === null) return null;
  const missing = 16 - left.length - right.length;
  if (halves.length === 1 ? missing !== 0 : missing < 2) return null;
  return [...left, ...new Array<number>(missing).fill(0), ...right];
}

/** Colon-separated groups of 16 bits; the last may be an IPv4 address where the whole address ends. */
function parseGroups(text: string, endsAddress: boolean): number[] | null {
  if (text === "") return [];
  const bytes: number[] = [];
  const groups = text.split(":");
  for (const [index, group] of groups.entries()) {
    if (group.includes(".")) {
      const tail = endsAddress && index === groups.length - 1 ? parseIpv4(group) : null;
      if (tail === null) return null;
      bytes.push(...tail);
    } else if (/^[0-9a-fA-F]{1,4}$/.test(group)) {
      const value = Number.parseInt(group, 16);
      bytes.push(value >> 8, value & 0xff);
    } else {
      return null;
    }
  }
  return bytes;
}
