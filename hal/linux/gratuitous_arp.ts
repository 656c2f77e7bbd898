/**
 * ARP announcements (RFC 5227 2.3): a broadcast request for an address by the one who has it. Whoever has an entry for the address
 * changes it; nobody answers.
 */
import { closeSync } from "node:fs";
import { openSocket, sendTo } from "./libc.ts";

const packetFamily = 17;
/** The kernel writes the Ethernet header. */
const datagram = 2;
/** Nothing is to be received. */
const noProtocol = 0;
const arpProtocol = 0x0806;
const request = 1;

export const ethernet = { hardwareType: 1, addressBytes: 6 } as const;

export interface Announcement {
  readonly interfaceIndex: number;
  readonly hardwareAddress: Uint8Array;
  readonly ip: Uint8Array;
}

export class ArpSocket {
  readonly #fd: number;

  private constructor(fd: number) {
    this.#fd = fd;
  }

  /** null: not permitted (CAP_NET_RAW). */
  static open(): ArpSocket | null {
    const fd = openSocket(packetFamily, datagram, noProtocol);
    return fd === null ? null : new ArpSocket(fd);
  }

  /** False: the interface did not take it. */
  announce(announcement: Announcement): boolean {
    return sendTo(this.#fd, encodeAnnouncement(announcement), broadcastOn(announcement.interfaceIndex));
  }

  close(): void {
    closeSync(this.#fd);
  }
}

/** RFC 826, for Ethernet and IPv4: sender and target are the same address, and the target's hardware address is left open. */
export function encodeAnnouncement({ hardwareAddress, ip }: Announcement): Uint8Array {
  const packet = Buffer.alloc(28);
  packet.writeUInt16BE(ethernet.hardwareType, 0);
  packet.writeUInt16BE(0x0800, 2);
  packet[4] = ethernet.addressBytes;
  packet[5] = 4;
  packet.writeUInt16BE(request, 6);
  packet.set(hardwareAddress, 8);
  packet.set(ip, 14);
  packet.set(ip, 24);
  return packet;
}

/** struct sockaddr_ll (packet(7)). */
function broadcastOn(interfaceIndex: number): Uint8Array {
  const address = Buffer.alloc(20);
  address.writeUInt16LE(packetFamily, 0);
  address.writeUInt16BE(arpProtocol, 2);
  address.writeInt32LE(interfaceIndex, 4);
  address[11] = ethernet.addressBytes;
  address.fill(0xff, 12, 18);
  return address;
}
