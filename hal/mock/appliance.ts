/**
 * A simulated machine: the hardware that stays (NVRAM, battery, shelves, wall clock, addresses, link shaping), and the boots that
 * come and go on it.
 *
 *     down --start()/boot()--> up --crash(), powerLoss(), a panic--> down
 *     up --pause()--> paused --resume()--> up
 *     up --block()--> busy --unblock()--> up
 *
 * Fault model: the process dies between two events (`crash`) or in the middle of one, before its n-th effect on the hardware
 * (`crashAtEffect`); the power goes; the process is stopped and goes on later; its main loop
 * does not come round for a while, or ever; the wall clock jumps. What each death leaves behind is
 * decided by the devices: `write_cache.ts`, `disk.ts`, `stream.ts`.
 *
 * Invariants:
 * - After a death nothing calls into that boot's firmware again, and nothing that it still does on the stack has an effect.
 * - Every boot gets new HAL objects; those of an earlier boot are dead.
 */
import type { Hal } from "../api/hal.ts";
import type { Shaping } from "../api/nic.ts";
import { VirtualClock, WallClock } from "./clock.ts";
import { eventKind } from "./event_heap.ts";
import { MockHeartbeats } from "./heartbeats.ts";
import type { Kernel } from "./kernel.ts";
import type { DeathKind, Lifetime } from "./lifetime.ts";
import type { Network } from "./network.ts";
import { type HbaSpec, MockHbaPort, MockNic, type PortSpec } from "./ports.ts";
import { MockPowerPort, type PowerFaults } from "./power.ts";
import type { Prng } from "./prng.ts";
import { mockDigests } from "./runtime.ts";
import { MockServiceAddress, type ServiceFaults } from "./service_address.ts";
import type { MockShelf } from "./shelf.ts";
import type { MockWitness } from "./witness.ts";
import { type CacheSpec, MockNvram } from "./write_cache.ts";

export interface ApplianceSpec {
  readonly name: string;
  readonly cache: CacheSpec;
  /** Shared with another appliance when it lists the same shelf. */
  readonly shelves: readonly MockShelf[];
  readonly hbaPorts: readonly HbaSpec[];
  readonly nics: readonly PortSpec[];
  /** IP addresses that move; HBA ports that listen on them are theirs. */
  readonly serviceAddresses?: readonly string[];
  /** Whom the power port kills, if there is one. */
  readonly power?: { readonly target: string; readonly how: DeathKind };
  readonly hasWitness?: boolean;
}

/** What an appliance needs of its world. */
export interface ApplianceSite {
  readonly kernel: Kernel;
  readonly network: Network;
  readonly witness: MockWitness;
  appliance(name: string): MockAppliance;
}

/** May be changed at any time; holds for the next boot's clock. */
export interface ClockFaults {
  /** 0.0001 gains 0.1 ms per second. */
  rateError: number;
  timerLatenessMsMax: number;
}

export class MockAppliance {
  readonly name: string;
  readonly spec: ApplianceSpec;
  readonly nvram: MockNvram;
  readonly shelves: readonly MockShelf[];
  readonly wall: WallClock;
  readonly clockFaults: ClockFaults = { rateError: 0, timerLatenessMsMax: 0.5 };
  readonly powerFaults: PowerFaults = { killMs: 50, broken: "no" };
  readonly serviceFaults: ServiceFaults = { broken: false };
  /** Called after every death, of whatever cause: a simulation starts the machine again from here, later. */
  onDown: ((kind: DeathKind) => void) | null = null;
  /** Takes what the firmware throws, after the crash that it means; null: the run ends with the error. */
  onPanic: ((error: unknown) => void) | null = null;
  readonly #site: ApplianceSite;
  readonly #prng: Prng;
  readonly #shapings: ReadonlyMap<string, Map<string, Shaping>>;
  #boot: Lifetime | null = null;
  #bootCount = 0;

  constructor(site: ApplianceSite, spec: ApplianceSpec) {
    this.#site = site;
    this.spec = spec;
    this.name = spec.name;
    this.#prng = site.kernel.prng(`appliance/${spec.name}`);
    this.nvram = new MockNvram(site.kernel, spec.name, spec.cache);
    this.shelves = spec.shelves;
    this.wall = new WallClock(site.kernel);
    this.#shapings = new Map(spec.nics.map((nic) => [nic.name, new Map<string, Shaping>()]));
    for (const port of [...spec.hbaPorts, ...spec.nics]) {
      if (this.#moves(port)) site.network.addMovingAddress(port.address, spec.name, port.name);
      else site.network.addAddress(port.address, spec.name, port.name);
    }
    site.network.poweredOff(spec.name);
  }

  get isUp(): boolean {
    return this.#boot !== null;
  }

  get isPaused(): boolean {
    return this.#boot?.paused ?? false;
  }

  get bootCount(): number {
    return this.#bootCount;
  }

  /** HAL calls with an effect that the present boot has made. */
  get effects(): number {
    return this.#boot?.effects ?? 0;
  }

  /** Switches on, and calls `firmware` as the first event of the new boot. */
  start(firmware: (hal: Hal) => void): void {
    const hal = this.boot();
    this.#site.kernel.schedule(0, eventKind.start, this.#boot, () => firmware(hal));
  }

  /** Switches on; the firmware is whatever the caller does with the HAL. */
  boot(): Hal {
    if (this.#boot !== null) throw new Error(`${this.name} is up`);
    const { kernel, network, witness } = this.#site;
    const lifetime = kernel.lifetime(this.name);
    lifetime.kill = () => this.#die("process", true);
    if (this.onPanic !== null) {
      lifetime.onPanic = (error) => {
        this.#die("process", true);
        this.onPanic?.(error);
      };
    }
    this.#boot = lifetime;
    this.#bootCount++;
    network.started(this.name);
    // What the last boot has left.
    for (const address of this.spec.serviceAddresses ?? []) network.moving.release(address, this.name);
    const boot = this.#bootCount;
    const clockOptions = {
      startMs: this.#prng.between(0, 1e6),
      rate: 1 + this.clockFaults.rateError,
      latenessMsMax: this.clockFaults.timerLatenessMsMax,
    };
    const entropy = kernel.prng(`entropy/${this.name}/${boot}`);
    const { power } = this.spec;
    return {
      clock: new VirtualClock(kernel, lifetime, this.wall, kernel.prng(`timers/${this.name}/${boot}`), clockOptions),
      entropy: { fill: (target) => entropy.fill(target) },
      digests: mockDigests,
      hbaPorts: this.spec.hbaPorts.map((spec) => new MockHbaPort(kernel, network, lifetime, spec, this.#moves(spec))),
      nics: this.spec.nics.map((spec) => {
        const shapings = this.#shapings.get(spec.name)!;
        return new MockNic(kernel, network, lifetime, { machine: this.name, spec, shapings });
      }),
      heartbeats: new MockHeartbeats({
        kernel,
        network,
        lifetime,
        name: this.name,
        addressOf: (nic) => this.spec.nics.find(({ name }) => name === nic)!.address,
      }),
      serviceAddresses: (this.spec.serviceAddresses ?? []).map((address) => {
        const options = { address, machine: this.name, addresses: network.moving, faults: this.serviceFaults };
        return new MockServiceAddress(kernel, lifetime, options);
      }),
      cache: this.nvram.attach(lifetime),
      shelves: this.shelves.map((shelf) => shelf.attach(lifetime)),
      power: power === undefined ? null : this.#powerPort(lifetime, power.target, power.how),
      witness: this.spec.hasWitness === true ? witness.attach(lifetime) : null,
    };
  }

  /** The process dies now. */
  crash(): void {
    if (this.#boot !== null) this.#die("process", this.#isMidEvent());
  }

  /** The process dies in the middle of an event: instead of its `count`-th effect from now (1: the next one). */
  crashAtEffect(count: number): void {
    if (this.#boot !== null) this.#boot.dieAtEffect = this.#boot.effects + count;
  }

  /** The power goes; also when the process is dead already. */
  powerLoss(): void {
    if (this.#boot !== null) {
      this.#die("power", this.#isMidEvent());
      return;
    }
    this.#site.network.poweredOff(this.name);
    this.nvram.lostPower();
    for (const shelf of this.shelves) shelf.lostPower(this.name);
  }

  /** Stops the process (SIGSTOP, a long stall): its events wait, the hardware goes on. */
  pause(): void {
    if (this.#boot !== null) this.#boot.paused = true;
  }

  resume(): void {
    const boot = this.#boot;
    if (boot === null || !boot.paused) return;
    boot.paused = false;
    if (!boot.isHeld) this.#site.kernel.releaseHeld(boot);
  }

  /** The main loop is busy and comes round no more: its events wait; what the HAL does beside it goes on. */
  block(): void {
    if (this.#boot !== null) this.#boot.busy = true;
  }

  unblock(): void {
    const boot = this.#boot;
    if (boot === null || !boot.busy) return;
    boot.busy = false;
    if (!boot.isHeld) this.#site.kernel.releaseHeld(boot);
  }

  /** Shapes what a NIC sends to an appliance, as `Nic.shape` does, from outside. Survives restarts. */
  shape(nicName: string, remote: string, shaping: Shaping | null): void {
    const shapings = this.#shapings.get(nicName);
    if (shapings === undefined) throw new RangeError(`${this.name} has no NIC ${nicName}`);
    if (shaping === null) shapings.delete(remote);
    else shapings.set(remote, shaping);
    this.#site.network.shape(this.name, nicName, remote, shaping);
  }

  shaping(nicName: string, remote: string): Shaping | null {
    return this.#shapings.get(nicName)?.get(remote) ?? null;
  }

  #moves(port: PortSpec): boolean {
    return (this.spec.serviceAddresses ?? []).some((address) => port.address.startsWith(`${address}:`));
  }

  #isMidEvent(): boolean {
    return this.#site.kernel.running === this.#boot;
  }

  #powerPort(lifetime: Lifetime, target: string, how: DeathKind): MockPowerPort {
    return new MockPowerPort(this.#site.kernel, lifetime, {
      target,
      faults: this.powerFaults,
      isUp: () => this.#site.appliance(target).isUp,
      kill: () => {
        const victim = this.#site.appliance(target);
        if (how === "power") victim.powerLoss();
        else victim.crash();
      },
    });
  }

  #die(kind: DeathKind, midEvent: boolean): void {
    const lifetime = this.#boot;
    if (lifetime === null) return;
    this.#boot = null;
    // The cache first: it looks at what the boot has left undeclared.
    this.nvram.died(kind, midEvent);
    lifetime.alive = false;
    lifetime.held = [];
    for (const shelf of this.shelves) shelf.died(lifetime, kind);
    this.#site.network.died(this.name, lifetime, kind);
    const { onDown } = this;
    if (onDown !== null) this.#site.kernel.schedule(0, eventKind.power, null, () => onDown(kind));
  }
}
