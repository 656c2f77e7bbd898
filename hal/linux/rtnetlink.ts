/**
 * The kernel's interfaces and their IPv4 addresses (rtnetlink(7)), asked directly: a hand-over cannot wait for another program to be
 * started, and the answers say why something was refused.
 *
 * The kernel works on a request before the call that sends it returns, so that its answer is there at once.
 */
import { closeSync } from "node:fs";
import { getSystemErrorName } from "node:util";
import { openSocket, receiveNow, sendTo } from "./libc.ts";

const netlinkFamily = 16;
const datagram = 2;
const routeProtocol = 0;
const inet = 2;

const messageType = { error: 2, newLink: 16, getLink: 18, newAddress: 20, deleteAddress: 21 } as const;
const requestFlags = { request: 1, ack: 4, replace: 0x100, exclusive: 0x200, create: 0x400 } as const;
const linkAttribute = { hardwareAddress: 1, name: 3 } as const;
const addressAttribute = { address: 1, local: 2, label: 3, lifetimes: 6 } as const;

const headerBytes = 16;
const linkBodyBytes = 16;
const attributeHeadBytes = 4;
/** One interface with all that the kernel says of it has 2 KiB. */
const answerBytesMax = 32 * 1024;

export interface Link {
  readonly index: number;
  /** 1: Ethernet (if_arp.h). */
  readonly hardwareType: number;
  readonly isUp: boolean;
  readonly hardwareAddress: Uint8Array;
}

export interface InterfaceAddress {
  /** Of the interface. */
  readonly index: number;
  /** Four bytes. */
  readonly ip: Uint8Array;
  readonly prefixBits: number;
  /** Of the address, to tell who has put it there; at most 15 bytes. null: whoever. */
  readonly label: string | null;
}

/** The name of the error, as in errno(3), or null for success. */
export type Refusal = string | null;

export class Rtnetlink {
  readonly #fd: number;
  #sequence = 0;

  private constructor(fd: number) {
    this.#fd = fd;
  }

  /** null: the kernel gives no such socket. */
  static open(): Rtnetlink | null {
    const fd = openSocket(netlinkFamily, datagram, routeProtocol);
    return fd === null ? null : new Rtnetlink(fd);
  }

  close(): void {
    closeSync(this.#fd);
  }

  /** By the interface's name, or why not. */
  link(name: string): Link | string {
    const body = Buffer.concat([Buffer.alloc(linkBodyBytes), attribute(linkAttribute.name, zeroEnded(name))]);
    const { refusal, answer } = this.#ask(messageType.getLink, 0, body);
    if (answer === null) return refusal ?? "EPROTO";
    const view = Buffer.from(answer.buffer, answer.byteOffset, answer.byteLength);
    return {
      hardwareType: view.readUInt16LE(2),
      index: view.readInt32LE(4),
      isUp: (view.readUInt32LE(8) & 1) === 1,
      hardwareAddress: attributeIn(view.subarray(linkBodyBytes), linkAttribute.hardwareAddress),
    };
  }

  /** `isNew`: it must not be there yet; otherwise it is given another lifetime, or is added. */
  addAddress(address: InterfaceAddress, lifetimeSeconds: number, isNew: boolean): Refusal {
    const lifetimes = Buffer.alloc(16);
    lifetimes.writeUInt32LE(lifetimeSeconds, 0);
    lifetimes.writeUInt32LE(lifetimeSeconds, 4);
    const { create, exclusive, replace } = requestFlags;
    const body = [addressBody(address), attribute(addressAttribute.lifetimes, lifetimes)];
    return this.#ask(messageType.newAddress, create | (isNew ? exclusive : replace), Buffer.concat(body)).refusal;
  }

  /** EADDRNOTAVAIL: it is not there. */
  removeAddress(address: InterfaceAddress): Refusal {
    return this.#ask(messageType.deleteAddress, 0, addressBody(address)).refusal;
  }

  #ask(type: number, flags: number, body: Uint8Array): { refusal: Refusal; answer: Uint8Array | null } {
    const sequence = ++this.#sequence;
    const head = Buffer.alloc(headerBytes);
    head.writeUInt32LE(headerBytes + body.byteLength, 0);
    head.writeUInt16LE(type, 4);
    head.writeUInt16LE(requestFlags.request | requestFlags.ack | flags, 6);
    head.writeUInt32LE(sequence, 8);
    // struct sockaddr_nl of the kernel: family, and nothing else that is not 0.
    const kernel = new Uint8Array(12);
    kernel[0] = netlinkFamily;
    if (!sendTo(this.#fd, Buffer.concat([head, body]), kernel)) return { refusal: "EIO", answer: null };
    let answer: Uint8Array | null = null;
    const received = Buffer.alloc(answerBytesMax);
    for (;;) {
      const length = receiveNow(this.#fd, received);
      if (length === null) return { refusal: "EPROTO", answer: null };
      for (const message of messagesIn(received.subarray(0, length))) {
        if (message.sequence !== sequence) continue;
        if (message.type !== messageType.error) {
          answer = Uint8Array.from(message.body);
          continue;
        }
        const code = message.body.readInt32LE(0);
        return code === 0 ? { refusal: null, answer } : { refusal: getSystemErrorName(code), answer: null };
      }
    }
  }
}

interface Message {
  readonly type: number;
  readonly sequence: number;
  readonly body: Buffer;
}

function messagesIn(bytes: Buffer): Message[] {
  const messages: Message[] = [];
  let at = 0;
  while (at + headerBytes <= bytes.byteLength) {
    const length = bytes.readUInt32LE(at);
    if (length < headerBytes || at + length > bytes.byteLength) break;
    messages.push({
      type: bytes.readUInt16LE(at + 4),
      sequence: bytes.readUInt32LE(at + 8),
      body: bytes.subarray(at + headerBytes, at + length),
    });
    at += aligned(length);
  }
  return messages;
}

function addressBody({ index, ip, prefixBits, label }: InterfaceAddress): Uint8Array {
  const body = Buffer.alloc(8);
  body[0] = inet;
  body[1] = prefixBits;
  body.writeUInt32LE(index, 4);
  const attributes = [attribute(addressAttribute.local, ip), attribute(addressAttribute.address, ip)];
  if (label !== null) attributes.push(attribute(addressAttribute.label, zeroEnded(label)));
  return Buffer.concat([body, ...attributes]);
}

function attribute(type: number, value: Uint8Array): Uint8Array {
  const bytes = Buffer.alloc(aligned(attributeHeadBytes + value.byteLength));
  bytes.writeUInt16LE(attributeHeadBytes + value.byteLength, 0);
  bytes.writeUInt16LE(type, 2);
  bytes.set(value, attributeHeadBytes);
  return bytes;
}

/** Empty where there is none. */
function attributeIn(bytes: Buffer, type: number): Uint8Array {
  let at = 0;
  while (at + attributeHeadBytes <= bytes.byteLength) {
    const length = bytes.readUInt16LE(at);
    if (length < attributeHeadBytes) break;
    if (bytes.readUInt16LE(at + 2) === type)
      return Uint8Array.from(bytes.subarray(at + attributeHeadBytes, at + length));
    at += aligned(length);
  }
  return new Uint8Array(0);
}

const aligned = (length: number): number => Math.ceil(length / 4) * 4;
const zeroEnded = (text: string): Uint8Array => new TextEncoder().encode(`${text}\0`);
