/**
 * Addresses that move between machines: who holds them, and to whom neighbours send.
 *
 * Fault model: what a dead process has left behind is held until its time is over, and refuses connections; a machine without power
 * holds nothing; a hold fails (`faults`). Neighbours send to whoever was announced last for as long as that one holds the address, and
 * to any other holder after that; connections to the former one end with a reset.
 */
import type { Hold, ServiceAddress } from "../api/service_address.ts";
import { demand } from "./contract.ts";
import { eventKind } from "./event_heap.ts";
import type { Kernel } from "./kernel.ts";
import type { Lifetime } from "./lifetime.ts";

/** May be changed at any time. */
export interface ServiceFaults {
  /** A hold fails, as without a cable or an interface. */
  broken: boolean;
}

interface Held {
  /** By machine: until when. */
  readonly untilMs: Map<string, number>;
  announced: string | null;
}

export class MovingAddresses {
  readonly #kernel: Kernel;
  readonly #held = new Map<string, Held>();
  /** Neighbours send to another machine from now on. */
  readonly #moved: (ip: string, machine: string) => void;

  constructor(kernel: Kernel, moved: (ip: string, machine: string) => void) {
    this.#kernel = kernel;
    this.#moved = moved;
  }

  hold(ip: string, machine: string, { forMs, announce }: Hold): void {
    const held = this.#of(ip);
    held.untilMs.set(machine, this.#kernel.nowMs + forMs);
    if (!announce || held.announced === machine) return;
    held.announced = machine;
    this.#moved(ip, machine);
  }

  release(ip: string, machine: string): void {
    this.#of(ip).untilMs.delete(machine);
  }

  poweredOff(machine: string): void {
    for (const { untilMs } of this.#held.values()) untilMs.delete(machine);
  }

  /** To whom neighbours send; null: nobody answers. */
  holderOf(ip: string): string | null {
    const held = this.#of(ip);
    const { nowMs } = this.#kernel;
    for (const [machine, endMs] of held.untilMs) if (endMs <= nowMs) held.untilMs.delete(machine);
    if (held.announced !== null && held.untilMs.has(held.announced)) return held.announced;
    const [first] = held.untilMs.keys();
    return first ?? null;
  }

  #of(ip: string): Held {
    let held = this.#held.get(ip);
    if (held === undefined) {
      held = { untilMs: new Map(), announced: null };
      this.#held.set(ip, held);
    }
    return held;
  }
}

/** Of one boot. */
export class MockServiceAddress implements ServiceAddress {
  readonly address: string;
  readonly #machine: string;
  readonly #kernel: Kernel;
  readonly #lifetime: Lifetime;
  readonly #addresses: MovingAddresses;
  readonly #faults: ServiceFaults;

  constructor(
    kernel: Kernel,
    lifetime: Lifetime,
    options: { address: string; machine: string; addresses: MovingAddresses; faults: ServiceFaults },
  ) {
    this.address = options.address;
    this.#machine = options.machine;
    this.#kernel = kernel;
    this.#lifetime = lifetime;
    this.#addresses = options.addresses;
    this.#faults = options.faults;
  }

  hold(wish: Hold, done: (error: string | null) => void): void {
    if (!this.#lifetime.effect()) return;
    demand(this.#kernel, wish.forMs > 0 && wish.forMs % 1000 === 0, "a service address is held for whole seconds");
    const error = this.#faults.broken ? `${this.address}: the interface does not exist` : null;
    if (error === null) this.#addresses.hold(this.address, this.#machine, wish);
    this.#kernel.schedule(0, eventKind.start, this.#lifetime, () => done(error));
  }

  release(): void {
    if (this.#lifetime.effect()) this.#addresses.release(this.address, this.#machine);
  }
}
