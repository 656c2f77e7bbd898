/**
 * The simulated world: appliances, shelves, hosts, a network and a witness on one virtual clock, from one seed.
 *
 *     const world = new World({ seed: 42 });
 *     const shelf = world.addShelf({ name: "shelf0", slots: [1 << 30, 1 << 30] });
 *     const oak = world.addAppliance({ name: "oak-a", cache: { sizeBytes: 1 << 20, domain: "battery" }, shelves: [shelf],
 *       hbaPorts: [{ name: "hba0", address: "oak-a:10809", protocol: "nbd" }],
 *       nics: [{ name: "nic0", address: "oak-a:7400" }] });
 *     oak.start((hal) => startFirmware(hal));
 *     world.connectHost("oak-a:10809", (stream) => hostHandler(stream), (reason) => …);
 *     world.runUntil(() => done, 10_000);
 *     oak.crash();
 *     oak.start((hal) => startFirmware(hal));
 *
 * Faults are methods and plain fields of the things that have them: `oak.crash()`, `oak.powerLoss()`, `oak.pause()`,
 * `oak.nvram.failBattery()`, `shelf.disk(0).flipBit(…)`, `shelf.disk(0).faults.readErrorRate`, `world.network.faults`,
 * `world.cut("oak-a", "elm-a")`. `fault_plan.ts` switches them on and off by seeded rates.
 *
 * Time, steps and the fingerprint of a run: `kernel.ts`. Everything runs on virtual time, so a test that waits calls `runUntil`.
 */
import type { StreamHandler } from "../api/byte_stream.ts";
import type { Clock } from "../api/clock.ts";
import type { Shaping } from "../api/nic.ts";
import { type ApplianceSite, type ApplianceSpec, MockAppliance } from "./appliance.ts";
import { VirtualClock, WallClock } from "./clock.ts";
import { Kernel } from "./kernel.ts";
import { Network } from "./network.ts";
import { MockShelf, type ShelfSpec } from "./shelf.ts";
import type { StreamEnd } from "./stream.ts";
import { MockWitness } from "./witness.ts";

export const plainLink: Shaping = { cut: false, latencyMs: 0, jitterMs: 0, rateBytesPerSecond: null, loss: 0 };

export interface WorldOptions {
  readonly seed: number | string;
}

export class World extends Kernel implements ApplianceSite {
  readonly network: Network;
  readonly witness: MockWitness;
  /** For test hosts: right, and never late. */
  readonly hostClock: Clock;
  readonly #appliances = new Map<string, MockAppliance>();

  constructor(options: WorldOptions) {
    super(options.seed);
    this.network = new Network(this);
    this.witness = new MockWitness(this);
    this.hostClock = new VirtualClock(this, null, new WallClock(this), this.prng("host clock"), {
      startMs: 0,
      rate: 1,
      latenessMsMax: 0,
    });
  }

  get kernel(): Kernel {
    return this;
  }

  get appliances(): readonly MockAppliance[] {
    return [...this.#appliances.values()];
  }

  addShelf(spec: ShelfSpec): MockShelf {
    return new MockShelf(this, spec);
  }

  addAppliance(spec: ApplianceSpec): MockAppliance {
    if (this.#appliances.has(spec.name)) throw new Error(`two appliances are called ${spec.name}`);
    const appliance = new MockAppliance(this, spec);
    this.#appliances.set(spec.name, appliance);
    return appliance;
  }

  appliance(name: string): MockAppliance {
    const appliance = this.#appliances.get(name);
    if (appliance === undefined) throw new RangeError(`no appliance is called ${name}`);
    return appliance;
  }

  /**
   * A host connects to an HBA port. Exactly one of `connected` (it returns the host's handler) and `failed` is called, later.
   * `host` is what the port sees as the host's address.
   */
  connectHost(
    address: string,
    connected: (stream: StreamEnd) => StreamHandler,
    failed: (reason: string) => void,
    host = "192.0.2.1",
  ): void {
    this.network.connect({ machine: host, port: "host", lifetime: null }, address, connected, failed);
  }

  /** Changes the link from one appliance to another, on one NIC or all: the given fields, or all back to plain (null). */
  shape(from: string, to: string, change: Partial<Shaping> | null, nicName?: string): void {
    const appliance = this.appliance(from);
    for (const { name } of appliance.spec.nics) {
      if (nicName !== undefined && name !== nicName) continue;
      const shaping = change === null ? null : { ...(appliance.shaping(name, to) ?? plainLink), ...change };
      appliance.shape(name, to, shaping);
    }
  }

  /** Nothing passes between two appliances, or (`oneWay`) from `a` to `b`, until `join`. */
  cut(a: string, b: string, oneWay = false): void {
    this.shape(a, b, { cut: true });
    if (!oneWay) this.shape(b, a, { cut: true });
  }

  join(a: string, b: string): void {
    this.shape(a, b, { cut: false });
    this.shape(b, a, { cut: false });
  }

  /** For the report of a failure: where the run stands, and the last events. */
  describe(): string {
    const head = `seed ${this.seed}, ${this.nowMs.toFixed(3)} ms, ${this.eventCount} events, ${this.fingerprint()}`;
    return [head, ...this.recentEvents()].join("\n");
  }
}
