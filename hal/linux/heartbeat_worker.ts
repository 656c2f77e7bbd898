/**
 * The worker of heartbeats.ts: sends and hears on a UDP socket for each NIC, at the port number of the NIC's own address. It has its own
 * event loop and its own garbage, so that those of the main thread are not in its way.
 */
import { lookup } from "node:dns/promises";
import { isIP } from "node:net";
import type { udp } from "bun";
import { causeOf, parseAddress } from "./address.ts";
import { decodeHeartbeat, encodeHeartbeat } from "./heartbeat_frame.ts";
import { type HeartbeatOrder, type HeartbeatTrouble, turnsWord, word } from "./heartbeat_memory.ts";

/** Between two attempts to open what could not be opened. */
const retryMs = 1000;

declare const self: Worker;

type Opening = Extract<HeartbeatOrder, { kind: "open" }>;

let turns = new Int32Array(1);
const ports = new Map<string, Port>();
const channels = new Map<number, Channel>();

/** A NIC's socket, and who uses it. */
class Port {
  readonly channels = new Set<Channel>();
  readonly #listen: string;
  #socket: udp.Socket<"buffer"> | null = null;
  #closed = false;

  constructor(listen: string) {
    this.#listen = listen;
    void this.#open();
  }

  async #open(): Promise<void> {
    try {
      const { host, port } = await resolved(this.#listen);
      const socket = await Bun.udpSocket({
        hostname: host,
        port,
        socket: {
          data: (_socket, bytes) => {
            for (const channel of this.channels) if (channel.received(bytes)) return;
          },
          // What the other end's machine says of an earlier datagram (nobody listens there): its silence says as much.
          error: () => {},
        },
      });
      if (this.#closed) return socket.close();
      this.#socket = socket;
      for (const channel of this.channels) channel.tell(null);
    } catch (error) {
      if (this.#closed) return;
      for (const channel of this.channels) channel.tell(`cannot open UDP ${this.#listen}: ${causeOf(error)}`);
      setTimeout(() => void this.#open(), retryMs);
    }
  }

  /** Sends or loses it. */
  send(bytes: Uint8Array, host: string, port: number): void {
    try {
      this.#socket?.send(bytes, port, host);
    } catch {
      // No route at the moment; the next beat tries again.
    }
  }

  close(): void {
    this.#closed = true;
    this.#socket?.close();
  }
}

class Channel {
  readonly port: Port;
  readonly #order: Opening;
  readonly #timer: ReturnType<typeof setInterval>;
  #target: { readonly host: string; readonly port: number } | null = null;
  #sent = 0;
  #heard = 0;
  #tickMs = performance.now();
  #turns = -1;
  #stillMs = 0;
  #silentMs = 0;
  #closed = false;

  constructor(order: Opening, port: Port) {
    this.#order = order;
    this.port = port;
    this.#timer = setInterval(() => this.#tick(), order.intervalMs);
    void this.#find();
  }

  async #find(): Promise<void> {
    try {
      this.#target = await resolved(this.#order.address);
      this.tell(null);
      this.#tick();
    } catch (error) {
      this.tell(`${this.#order.address}: ${causeOf(error)}`);
      if (!this.#closed) setTimeout(() => void this.#find(), retryMs);
    }
  }

  tell(text: string | null): void {
    const trouble: HeartbeatTrouble = { id: this.#order.id, text };
    if (!this.#closed) postMessage(trouble);
  }

  #tick(): void {
    if (this.#closed) return;
    const { words, intervalMs, sendKey } = this.#order;
    const nowMs = performance.now();
    // What is longer was a pause of this whole process, in which neither could the loop turn nor anything be heard.
    const sinceMs = Math.min(nowMs - this.#tickMs, 2 * intervalMs);
    this.#tickMs = nowMs;
    const count = Atomics.load(turns, turnsWord);
    this.#stillMs = count === this.#turns ? this.#stillMs + sinceMs : 0;
    this.#turns = count;
    this.#silentMs += sinceMs;
    Atomics.store(words, word.silentMs, Math.round(this.#silentMs));
    if (this.#target === null) return;
    const beat = { number: ++this.#sent, turns: count >>> 0, stillMs: Math.round(this.#stillMs) };
    this.#send(encodeHeartbeat(beat, sendKey), this.#target);
  }

  /** As the NIC's shaping has it; its rate takes no notice of 40 bytes. */
  #send(bytes: Uint8Array, { host, port }: { readonly host: string; readonly port: number }): void {
    const { words } = this.#order;
    const isCut = () => Atomics.load(words, word.cut) === 1;
    if (isCut() || Math.random() * 1e6 < Atomics.load(words, word.lossMillionths)) return;
    const jitterMs = (2 * Math.random() - 1) * Atomics.load(words, word.jitterMs);
    const delayMs = Atomics.load(words, word.latencyMs) + jitterMs;
    if (delayMs <= 0) return this.port.send(bytes, host, port);
    setTimeout(() => {
      if (!isCut() && !this.#closed) this.port.send(bytes, host, port);
    }, delayMs);
  }

  /** False: it is not of this channel. */
  received(bytes: Uint8Array): boolean {
    const { words, hearKey } = this.#order;
    const beat = decodeHeartbeat(bytes, hearKey);
    if (beat === null) return false;
    if (beat.number <= this.#heard) return true;
    this.#heard = beat.number;
    this.#silentMs = 0;
    Atomics.store(words, word.turns, beat.turns);
    Atomics.store(words, word.stillMs, beat.stillMs);
    Atomics.store(words, word.silentMs, 0);
    return true;
  }

  close(): void {
    this.#closed = true;
    clearInterval(this.#timer);
  }
}

/** Rejects where the name is unknown. */
async function resolved(address: string): Promise<{ host: string; port: number }> {
  const { host, port } = parseAddress(address)!;
  return { host: isIP(host) !== 0 ? host : (await lookup(host)).address, port };
}

function open(order: Opening): void {
  const port = ports.get(order.listen) ?? new Port(order.listen);
  ports.set(order.listen, port);
  const channel = new Channel(order, port);
  port.channels.add(channel);
  channels.set(order.id, channel);
}

function close(id: number): void {
  const channel = channels.get(id);
  if (channel === undefined) return;
  channels.delete(id);
  channel.close();
  channel.port.channels.delete(channel);
  if (channel.port.channels.size > 0) return;
  for (const [listen, port] of ports) if (port === channel.port) ports.delete(listen);
  channel.port.close();
}

self.onmessage = ({ data: order }: MessageEvent<HeartbeatOrder>) => {
  if (order.kind === "begin") turns = order.turns as Int32Array<ArrayBuffer>;
  else if (order.kind === "open") open(order);
  else close(order.id);
};
