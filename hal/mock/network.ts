/**
 * The network of the world: which machine has which address, who listens, how connections come about.
 *
 * Fault model: see `link.ts` (delays, loss, cuts) and `stream.ts` (pieces, resets, deaths). Connecting to a machine that is off, or
 * through a cut, goes unanswered until a timeout; where nobody listens it is refused; a machine that comes back answers old
 * connections with a reset.
 *
 * A machine is an appliance or a host (named by its address). Links are directed: (machine, its port) → machine.
 */
import type { StreamHandler } from "../api/byte_stream.ts";
import type { Shaping } from "../api/nic.ts";
import { eventKind } from "./event_heap.ts";
import { HeartbeatEars } from "./heartbeats.ts";
import type { Kernel } from "./kernel.ts";
import type { DeathKind, Lifetime } from "./lifetime.ts";
import { calmNetwork, Link, type NetworkFaults } from "./link.ts";
import type { Prng } from "./prng.ts";
import { MovingAddresses } from "./service_address.ts";
import { type StreamContext, StreamEnd } from "./stream.ts";

export type Accept = (stream: StreamEnd) => StreamHandler;

/** One end of an attempt to connect. */
export interface Caller {
  readonly machine: string;
  readonly port: string;
  readonly lifetime: Lifetime | null;
}

interface Place {
  readonly machine: string;
  readonly port: string;
}

interface Listener {
  readonly lifetime: Lifetime;
  readonly accept: Accept;
}

export class Network {
  /** May be changed at any time. */
  readonly faults: NetworkFaults = calmNetwork();
  readonly moving: MovingAddresses;
  readonly heartbeatEars = new HeartbeatEars();
  readonly #kernel: Kernel;
  readonly #prng: Prng;
  readonly #places = new Map<string, Place>();
  /** Ports of addresses that move, by address and machine. */
  readonly #movingPlaces = new Map<string, Map<string, Place>>();
  readonly #listeners = new Map<string, Listener>();
  readonly #links = new Map<string, Link>();
  readonly #isOff = new Set<string>();
  readonly #ends = new Set<StreamEnd>();
  /** The far ends of connections to machines that lost power. */
  readonly #orphans = new Map<string, StreamEnd[]>();
  readonly #others = new Map<StreamEnd, StreamEnd>();
  readonly #context: StreamContext;

  constructor(kernel: Kernel) {
    this.#kernel = kernel;
    this.#prng = kernel.prng("network");
    this.moving = new MovingAddresses(kernel, (ip, machine) => this.#moved(ip, machine));
    this.#context = {
      kernel,
      prng: this.#prng,
      faults: this.faults,
      closed: (end) => {
        this.#ends.delete(end);
        this.#others.delete(end);
      },
    };
  }

  /** An address belongs to a port of a machine for good. */
  addAddress(address: string, machine: string, port: string): void {
    if (this.#places.has(address)) throw new Error(`two ports have the address ${address}`);
    this.#places.set(address, { machine, port });
  }

  /** An address that moves: each of its machines has a port for it. */
  addMovingAddress(address: string, machine: string, port: string): void {
    const places = this.#movingPlaces.get(address) ?? new Map<string, Place>();
    places.set(machine, { machine, port });
    this.#movingPlaces.set(address, places);
  }

  /** The direction from a port of one machine to another machine. */
  link(machine: string, port: string, toMachine: string): Link {
    const key = `${machine}|${port}|${toMachine}`;
    let link = this.#links.get(key);
    if (link === undefined) {
      link = new Link(this.#kernel, this.#prng, this.faults);
      this.#links.set(key, link);
    }
    return link;
  }

  shape(machine: string, port: string, toMachine: string, shaping: Shaping | null): void {
    this.link(machine, port, toMachine).shape(shaping);
  }

  /** null: done; otherwise why not. */
  listen(address: string, lifetime: Lifetime, accept: Accept): string | null {
    const key = this.#keyOf(address, lifetime.name);
    if (this.#listeners.has(key)) return `cannot listen on ${address}: the address is in use`;
    this.#listeners.set(key, { lifetime, accept });
    return null;
  }

  stopListening(address: string, lifetime: Lifetime): void {
    const key = this.#keyOf(address, lifetime.name);
    if (this.#listeners.get(key)?.lifetime === lifetime) this.#listeners.delete(key);
  }

  /** Two machines may listen on an address that moves: each of them hears its own neighbours. */
  #keyOf(address: string, machine: string): string {
    return this.#movingPlaces.has(address) ? `${address}@${machine}` : address;
  }

  /** The new holder knows nothing of the connections that the former one had there. */
  #moved(ip: string, machine: string): void {
    for (const end of [...this.#ends]) {
      const { place } = end;
      if (place !== null && place.machine !== machine && place.address.startsWith(`${ip}:`)) end.otherRestarted();
    }
  }

  /** Exactly one of `connected` and `failed` is called, unless the caller dies. */
  connect(caller: Caller, address: string, connected: Accept, failed: (reason: string) => void): void {
    new Attempt(this, caller, address, connected, failed).begin();
  }

  /** Connections that are open at either end. */
  openCount(): number {
    return this.#ends.size;
  }

  /** A fault: breaks one open connection, chosen by `prng`, of those that `concerns` names; false: there is none. */
  breakOne(prng: Prng, concerns: (remote: string) => boolean = () => true): boolean {
    const candidates = [...this.#ends].filter((end) => end.lifetime !== null && concerns(end.remote));
    if (candidates.length === 0) return false;
    prng.pick(candidates).break();
    return true;
  }

  died(machine: string, lifetime: Lifetime, kind: DeathKind): void {
    for (const [address, listener] of this.#listeners) {
      if (listener.lifetime === lifetime) this.#listeners.delete(address);
    }
    if (kind === "power") this.poweredOff(machine);
    const orphans = this.#orphans.get(machine) ?? [];
    for (const end of [...this.#ends]) {
      if (end.lifetime !== lifetime) continue;
      const other = this.#others.get(end);
      end.died(kind);
      if (kind === "power" && other !== undefined) orphans.push(other);
    }
    this.#orphans.set(machine, orphans);
  }

  started(machine: string): void {
    this.#isOff.delete(machine);
    for (const end of this.#orphans.get(machine) ?? []) end.otherRestarted();
    this.#orphans.delete(machine);
  }

  /** A switched-off machine without a boot: for `started` after it. */
  poweredOff(machine: string): void {
    this.#isOff.add(machine);
    this.moving.poweredOff(machine);
  }

  /** For attempts. `nobody`: the address is one, and nobody answers there now. */
  placeOf(address: string): Place | "nobody" | null {
    const places = this.#movingPlaces.get(address);
    if (places === undefined) return this.#places.get(address) ?? null;
    const machine = this.moving.holderOf(address.slice(0, address.lastIndexOf(":")));
    return machine === null ? "nobody" : (places.get(machine) ?? "nobody");
  }

  listenerAt(address: string, { machine }: Place): Listener | null {
    return this.#listeners.get(this.#keyOf(address, machine)) ?? null;
  }

  answers(machine: string): boolean {
    return !this.#isOff.has(machine);
  }

  get kernel(): Kernel {
    return this.#kernel;
  }

  /** The caller's end and the listener's end of a new connection. */
  pair(caller: Caller, place: Place, address: string, listener: Listener): { near: StreamEnd; far: StreamEnd } {
    const windowBytes = this.#prng.pick(this.faults.windowBytes);
    const readyMs = this.#kernel.nowMs;
    const near = new StreamEnd(this.#context, {
      remote: place.machine,
      lifetime: caller.lifetime,
      link: this.link(caller.machine, caller.port, place.machine),
      windowBytes,
      readyMs,
    });
    const far = new StreamEnd(this.#context, {
      remote: caller.machine,
      lifetime: listener.lifetime,
      link: this.link(place.machine, place.port, caller.machine),
      windowBytes,
      readyMs,
    });
    StreamEnd.couple(near, far);
    if (this.#movingPlaces.has(address)) near.place = { machine: place.machine, address };
    this.#ends.add(near);
    this.#ends.add(far);
    this.#others.set(near, far);
    this.#others.set(far, near);
    return { near, far };
  }
}

/**
 * One attempt to connect.
 *
 *   begin ──▶ request under way ──▶ answer under way ──▶ connected, and accepted one way later
 *                │ nobody there       │                 └▶ failed (reset meanwhile)
 *                └──────────▶ timeout ◀┘
 */
class Attempt {
  readonly #network: Network;
  readonly #caller: Caller;
  readonly #address: string;
  readonly #connected: Accept;
  readonly #failed: (reason: string) => void;
  #settled = false;

  constructor(network: Network, caller: Caller, address: string, connected: Accept, failed: (reason: string) => void) {
    this.#network = network;
    this.#caller = caller;
    this.#address = address;
    this.#connected = connected;
    this.#failed = failed;
  }

  begin(): void {
    const { kernel, faults } = this.#network;
    const place = this.#network.placeOf(this.#address);
    if (place === null) {
      kernel.schedule(faults.latencyMs, eventKind.connect, this.#caller.lifetime, () =>
        this.#fail("the name is unknown"),
      );
      return;
    }
    const { machine, port } = this.#caller;
    kernel.schedule(faults.connectTimeoutMs, eventKind.connect, this.#caller.lifetime, () => this.#fail("no answer"));
    if (place === "nobody") return;
    this.#travel(this.#network.link(machine, port, place.machine), () => this.#arrived(place));
  }

  #fail(why: string): void {
    if (this.#settled) return;
    this.#settled = true;
    this.#failed(`cannot connect to ${this.#address}: ${why}`);
  }

  /** Calls `arrived` when a packet that is sent now is through. */
  #travel(link: Link, arrived: () => void): void {
    const { kernel } = this.#network;
    const atMs = link.arrivalMs(0);
    kernel.scheduleAt(atMs, eventKind.connect, null, () => {
      if (link.passed(atMs)) arrived();
      else link.wait({ joined: (_cutAtMs, laterMs) => kernel.scheduleAt(laterMs, eventKind.connect, null, arrived) });
    });
  }

  #arrived(place: Place): void {
    const network = this.#network;
    // The caller has given up, or its process is gone, or nobody is there to answer.
    if (this.#settled || this.#caller.lifetime?.alive === false || !network.answers(place.machine)) return;
    const { kernel } = network;
    const back = network.link(place.machine, place.port, this.#caller.machine);
    const listener = network.listenerAt(this.#address, place);
    if (listener === null) {
      this.#travel(back, () => {
        kernel.schedule(0, eventKind.connect, this.#caller.lifetime, () => this.#fail("nobody listens there"));
      });
      return;
    }
    const { near, far } = network.pair(this.#caller, place, this.#address, listener);
    const there = network.link(this.#caller.machine, this.#caller.port, place.machine);
    this.#travel(back, () => {
      if (this.#settled) return near.break();
      kernel.schedule(0, eventKind.connect, this.#caller.lifetime, () => {
        if (this.#settled) return near.abort();
        if (near.isClosed) return this.#fail("reset");
        this.#settled = true;
        near.start(this.#connected(near));
      });
      // The third packet of the handshake: the listener learns of the connection only now.
      this.#travel(there, () => {
        kernel.schedule(0, eventKind.connect, listener.lifetime, () => {
          // A reset that came before: the session never was.
          if (!far.isClosed) far.start(listener.accept(far));
        });
      });
    });
  }
}
