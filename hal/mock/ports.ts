/**
 * HBA ports and NICs of one boot. The addresses and the shaping belong to the machine and outlive the boot.
 *
 * Fault model: `network.ts`, `link.ts`, `stream.ts`; an address that is taken.
 */
import type { ByteStream, StreamHandler } from "../api/byte_stream.ts";
import type { HbaPort } from "../api/hba.ts";
import type { Nic, Shaping } from "../api/nic.ts";
import { eventKind } from "./event_heap.ts";
import type { Kernel } from "./kernel.ts";
import type { Lifetime } from "./lifetime.ts";
import type { Accept, Network } from "./network.ts";

export interface PortSpec {
  readonly name: string;
  readonly address: string;
}

export interface HbaSpec extends PortSpec {
  readonly protocol: string;
}

export class MockHbaPort implements HbaPort {
  readonly name: string;
  readonly address: string;
  readonly protocol: string;
  readonly movesWithOwner: boolean;
  readonly #kernel: Kernel;
  readonly #network: Network;
  readonly #lifetime: Lifetime;

  constructor(kernel: Kernel, network: Network, lifetime: Lifetime, spec: HbaSpec, movesWithOwner = false) {
    this.name = spec.name;
    this.address = spec.address;
    this.protocol = spec.protocol;
    this.movesWithOwner = movesWithOwner;
    this.#kernel = kernel;
    this.#network = network;
    this.#lifetime = lifetime;
  }

  listen(accept: Accept, done: (error: string | null) => void): void {
    listenOn(this.#kernel, this.#network, this.#lifetime, this.address, accept, done);
  }

  close(): void {
    if (this.#lifetime.effect()) this.#network.stopListening(this.address, this.#lifetime);
  }
}

export class MockNic implements Nic {
  readonly name: string;
  readonly address: string;
  readonly #machine: string;
  readonly #kernel: Kernel;
  readonly #network: Network;
  readonly #lifetime: Lifetime;
  readonly #shapings: Map<string, Shaping>;

  /** `shapings` is the machine's: it is shared by all boots. */
  constructor(
    kernel: Kernel,
    network: Network,
    lifetime: Lifetime,
    options: { machine: string; spec: PortSpec; shapings: Map<string, Shaping> },
  ) {
    this.name = options.spec.name;
    this.address = options.spec.address;
    this.#machine = options.machine;
    this.#shapings = options.shapings;
    this.#kernel = kernel;
    this.#network = network;
    this.#lifetime = lifetime;
  }

  listen(accept: Accept, done: (error: string | null) => void): void {
    listenOn(this.#kernel, this.#network, this.#lifetime, this.address, accept, done);
  }

  connect(address: string, connected: (stream: ByteStream) => StreamHandler, failed: (reason: string) => void): void {
    if (!this.#lifetime.effect()) return;
    const caller = { machine: this.#machine, port: this.name, lifetime: this.#lifetime };
    this.#network.connect(caller, address, connected, failed);
  }

  shape(remote: string, shaping: Shaping | null): void {
    if (!this.#lifetime.effect()) return;
    if (shaping === null) this.#shapings.delete(remote);
    else this.#shapings.set(remote, shaping);
    this.#network.shape(this.#machine, this.name, remote, shaping);
  }

  shapings(): ReadonlyMap<string, Shaping> {
    return this.#shapings;
  }

  close(): void {
    if (this.#lifetime.effect()) this.#network.stopListening(this.address, this.#lifetime);
  }
}

function listenOn(
  kernel: Kernel,
  network: Network,
  lifetime: Lifetime,
  address: string,
  accept: Accept,
  done: (error: string | null) => void,
): void {
  if (!lifetime.effect()) return;
  const error = network.listen(address, lifetime, accept);
  kernel.schedule(0, eventKind.start, lifetime, () => done(error));
}
