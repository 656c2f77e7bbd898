/**
 * A service address on an interface of Linux. It is added with a lifetime, so that the kernel removes what a killed process has left
 * behind, and bears its appliance's name as its label, so that an appliance removes at its start what is its own and not what is its
 * partner's on the same machine.
 *
 * It is added with a prefix of 32 bits, beside the interface's own address: in that one's network it would be its secondary, or it would be the
 * other way round, and the kernel removes secondaries with their primary. And nothing that the machine sends gets it as its source.
 */
import type { Clock } from "../api/clock.ts";
import type { Hold, ServiceAddress } from "../api/service_address.ts";
import { ArpSocket, ethernet } from "./gratuitous_arp.ts";
import { type InterfaceAddress, type Link, Rtnetlink } from "./rtnetlink.ts";

/** IFNAMSIZ without its final zero. */
const labelBytesMax = 15;
const prefixBits = 32;

export interface ServiceDescription {
  /** IPv4. */
  readonly address: string;
  readonly interface: string;
}

export class LinuxServiceAddress implements ServiceAddress {
  readonly address: string;
  readonly #interface: string;
  readonly #ip: Uint8Array;
  readonly #label: string;
  readonly #clock: Clock;
  readonly #netlink: Rtnetlink;
  readonly #arp: ArpSocket;
  #isHeld = false;

  private constructor(options: {
    readonly description: ServiceDescription;
    readonly appliance: string;
    readonly clock: Clock;
    readonly netlink: Rtnetlink;
    readonly arp: ArpSocket;
  }) {
    const { address, interface: name } = options.description;
    this.address = address;
    this.#interface = name;
    this.#ip = Uint8Array.from(address.split("."), Number);
    this.#label = labelOf(options.appliance);
    this.#clock = options.clock;
    this.#netlink = options.netlink;
    this.#arp = options.arp;
  }

  /** Removes what an earlier process of this appliance has left, or says in a sentence why the address could never be held. */
  static open(description: ServiceDescription, appliance: string, clock: Clock): LinuxServiceAddress | string {
    const netlink = Rtnetlink.open();
    const arp = ArpSocket.open();
    const refuse = (text: string): string => {
      netlink?.close();
      arp?.close();
      return text;
    };
    if (netlink === null) return refuse(`${description.address}: this kernel has no rtnetlink; remove [[service]]`);
    if (arp === null) return refuse(permission(description, "tell neighbours of addresses", "CAP_NET_RAW"));
    const opened = new LinuxServiceAddress({ description, appliance, clock, netlink, arp });
    const link = opened.#link();
    if (typeof link === "string") return refuse(`${link}; correct [[service]] interface in the profile`);
    const refusal = opened.#remove(link, opened.#label);
    if (refusal === "EPERM") return refuse(permission(description, "change addresses", "CAP_NET_ADMIN"));
    if (refusal !== null)
      return refuse(`${description.address}: cannot be removed from ${description.interface}: ${refusal}`);
    return opened;
  }

  hold(wish: Hold, done: (error: string | null) => void): void {
    const error = this.#hold(wish);
    this.#clock.defer(() => done(error));
  }

  release(): void {
    if (!this.#isHeld) return;
    this.#isHeld = false;
    const link = this.#link();
    if (typeof link !== "string") this.#remove(link, this.#label);
  }

  close(): void {
    this.release();
    this.#netlink.close();
    this.#arp.close();
  }

  #hold({ forMs, announce }: Hold): string | null {
    const link = this.#link();
    if (typeof link === "string") return link;
    // Also the partner's, when it has died on the same machine.
    if (!this.#isHeld) this.#remove(link, null);
    const refusal = this.#netlink.addAddress(this.#on(link, this.#label), forMs / 1000, !this.#isHeld);
    if (refusal !== null) return `${this.address}: cannot be added to ${this.#interface}: ${refusal}`;
    this.#isHeld = true;
    if (!link.isUp) return `${this.address}: ${this.#interface} is down; ip link set ${this.#interface} up`;
    const { index: interfaceIndex, hardwareAddress } = link;
    if (!announce || this.#arp.announce({ interfaceIndex, hardwareAddress, ip: this.#ip })) return null;
    return `${this.address}: ${this.#interface} does not send the announcement to the neighbours`;
  }

  #link(): Link | string {
    const link = this.#netlink.link(this.#interface);
    const where = `${this.address}: interface ${this.#interface}`;
    if (typeof link === "string")
      return link === "ENODEV" ? `${where} does not exist (ENODEV)` : `${where} cannot be asked: ${link}`;
    const isEthernet =
      link.hardwareType === ethernet.hardwareType && link.hardwareAddress.byteLength === ethernet.addressBytes;
    return isEthernet ? link : `${where} is no Ethernet interface, and has no neighbours that could be told`;
  }

  /** Not being there is no failure. */
  #remove(link: Link, label: string | null): string | null {
    const refusal = this.#netlink.removeAddress(this.#on(link, label));
    return refusal === "EADDRNOTAVAIL" ? null : refusal;
  }

  #on(link: Link, label: string | null): InterfaceAddress {
    return { index: link.index, ip: this.#ip, prefixBits, label };
  }
}

function permission({ address, interface: name }: ServiceDescription, what: string, capability: string): string {
  return `${address}: this process may not ${what} on ${name} (${capability} is missing); start it as root or with AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW, or remove [[service]] from the profile`;
}

/** The appliance's name where it fits; otherwise its beginning and a hash. */
export function labelOf(appliance: string): string {
  if (appliance.length <= labelBytesMax) return appliance;
  const hash = Bun.hash.crc32(appliance).toString(16).padStart(8, "0");
  return `${appliance.slice(0, labelBytesMax - hash.length)}${hash}`;
}
