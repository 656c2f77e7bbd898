/**
 * The simulated site: arrays oak and elm with one appliance each, running the real firmware on the mock hardware, with the oracle
 * on their logs. Starts and restarts appliances, and notes what becomes of them.
 */
import { type ApplianceConfig, startAppliance } from "../../firmware/appliance.ts";
import type { Control, Result } from "../../firmware/manage/control.ts";
import type { GroupEntry, GroupRegistry } from "../../firmware/manage/groups.ts";
import type { Group } from "../../firmware/volume/group.ts";
import type { Hal } from "../../hal/api/hal.ts";
import type { MockAppliance } from "../../hal/mock/appliance.ts";
import { BrokenContract } from "../../hal/mock/contract.ts";
import { World } from "../../hal/mock/world.ts";
import { Chronicle } from "./chronicle.ts";
import { tapLogs } from "./log_tap.ts";
import { type BootFacts, Oracle } from "./oracle.ts";
import { type ArrayPlan, drawSitePlan, type SitePlan } from "./site_plan.ts";

export const groupName = "demo";

/** One run of the firmware, from power-on to death. */
export class Boot implements BootFacts {
  readonly array: string;
  readonly number: number;
  readonly cacheBuffer: ArrayBufferLike;
  readonly #appliance: MockAppliance;
  /** null: starting, refused, or never got so far. */
  running: { readonly control: Control; readonly groups: GroupRegistry } | null = null;
  #entry: GroupEntry | null = null;

  constructor(array: string, appliance: MockAppliance, hal: Hal) {
    this.array = array;
    this.#appliance = appliance;
    this.number = appliance.bootCount;
    this.cacheBuffer = hal.cache.memory.buffer;
  }

  alive(): boolean {
    return this.#appliance.isUp && this.#appliance.bootCount === this.number;
  }

  entry(): GroupEntry | null {
    this.#entry ??= this.running?.groups.find(groupName) ?? null;
    return this.#entry;
  }

  group(): Group | null {
    return this.entry()?.group ?? null;
  }
}

export class SimArray {
  readonly name: string;
  readonly plan: ArrayPlan;
  readonly appliance: MockAppliance;
  boot: Boot | null = null;
  /** The operator's word for the next start. */
  acceptCacheLoss = false;
  acceptStaleDisk = false;
  /** The firmware refused to start; it is down until the operator does something. */
  refusal: string | null = null;
  /** Its last start that got so far as to serve. */
  completedBoot = 0;
  /** An old image of its cache was put back: the next start must be refused. */
  mustRefuse = false;
  /** An old image of one of its disks was put back: the next start must be refused. */
  mustRefuseDisk = false;
  /** Codes of the events of all boots, counted. */
  readonly eventCounts = new Map<string, number>();

  constructor(plan: ArrayPlan, appliance: MockAppliance) {
    this.name = plan.name;
    this.plan = plan;
    this.appliance = appliance;
  }

  /** The boot that serves now, or null. */
  get live(): Boot | null {
    const { boot } = this;
    return boot !== null && boot.running !== null && boot.alive() && !this.appliance.isPaused ? boot : null;
  }

  get hbaAddress(): string {
    return `${this.plan.appliance}:10809`;
  }
}

export interface SiteOptions {
  readonly seed: number | string;
  readonly smallPool?: boolean;
  /** Replaces parts of the plan that the seed draws. */
  readonly plan?: Partial<SitePlan>;
}

export class Site {
  readonly world: World;
  readonly plan: SitePlan;
  readonly chronicle: Chronicle;
  readonly oracle: Oracle;
  readonly arrays: readonly SimArray[];
  /** Told of every event of the firmware. */
  readonly onEvent: ((array: SimArray, code: string) => void)[] = [];
  onDown: (array: SimArray) => void = () => {};
  onPowerLost: (array: SimArray) => void = () => {};
  readonly onStarted: ((array: SimArray) => void)[] = [];
  onRefused: (array: SimArray, text: string) => void = () => {};
  /** Arrays at which a branch may begin, and arrays whose newest data the operator has given up. */
  readonly forkLicences = new Set<string>();
  readonly forgetLicences = new Set<string>();

  constructor(options: SiteOptions) {
    this.world = new World({ seed: options.seed });
    const drawn = drawSitePlan(this.world.prng("site plan"), options.smallPool ?? false);
    this.plan = { ...drawn, ...options.plan };
    this.chronicle = new Chronicle(this.world);
    this.oracle = new Oracle(this.world, this.chronicle, this.plan.volumes, {
      mayFork: (array) => this.forkLicences.has(array),
      mayForget: (array) => this.forgetLicences.has(array),
    });
    tapLogs(this.oracle);
    this.arrays = this.plan.arrays.map((plan) => this.#build(plan));
  }

  array(name: string): SimArray {
    const found = this.arrays.find((array) => array.name === name);
    if (found === undefined) throw new RangeError(`no array ${name}`);
    return found;
  }

  other(array: SimArray): SimArray {
    return this.arrays.find((one) => one !== array)!;
  }

  get failed(): boolean {
    return this.chronicle.violation !== null;
  }

  #build(plan: ArrayPlan): SimArray {
    const name = plan.appliance;
    const shelf = this.world.addShelf({ name: `${plan.name}-shelf0`, slots: plan.diskBytes });
    const appliance = this.world.addAppliance({
      name,
      cache: { sizeBytes: plan.cacheBytes, domain: plan.domain },
      shelves: [shelf],
      hbaPorts: [{ name: "hba0", address: `${name}:10809`, protocol: "nbd" }],
      nics: [
        { name: "nic0", address: `${name}:7400` },
        { name: "nic1", address: `${name}:7401` },
      ],
    });
    const array = new SimArray(plan, appliance);
    appliance.nvram.faults.persistMs = plan.persistMs;
    appliance.nvram.faults.latePersistRate = plan.latePersistRate;
    for (const disk of shelf.slots) {
      if (disk === null) continue;
      disk.faults.readMs *= plan.diskSlowness;
      disk.faults.writeMs *= plan.diskSlowness;
      disk.faults.flushMs *= plan.diskSlowness;
    }
    appliance.onDown = (kind) => {
      // What it has committed is known as long as its memory is looked at.
      if (array.boot !== null) this.oracle.view(array.boot);
      const commit = array.boot?.group()?.log.commitSeq ?? "?";
      this.chronicle.note(array.name, `down (${kind}); had committed ${commit}`);
      if (kind === "power") this.onPowerLost(array);
      this.onDown(array);
    };
    appliance.onPanic = (error) => this.panicked(array, error);
    return array;
  }

  /** The firmware threw: a broken invariant of its own, always a finding. */
  panicked(array: SimArray, error: unknown): void {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    const kind = error instanceof BrokenContract ? "contract" : "panic";
    this.chronicle.fail(kind, `${array.name}: ${text.split("\n")[0]}`, text.split("\n").slice(1, 9));
  }

  #config(array: SimArray): ApplianceConfig {
    const { plan } = this;
    const other = this.other(array);
    return {
      array: { name: array.name, appliance: array.plan.appliance },
      peers: [
        {
          array: other.name,
          appliances: [
            {
              name: other.plan.appliance,
              addresses: [`${other.plan.appliance}:7400`, `${other.plan.appliance}:7401`],
            },
          ],
        },
      ],
      link: { heartbeatMs: 100, peerTimeoutMs: 1000 },
      store: { slabBytes: plan.slabBytes, logSlotBytes: plan.logSlotBytes, mapCacheBytes: plan.mapCacheBytes },
      shelfLogBytes: plan.shelfLogBytes,
      acceptCacheLoss: array.acceptCacheLoss,
      acceptStaleDisk: array.acceptStaleDisk,
    };
  }

  start(array: SimArray): void {
    if (array.appliance.isUp) return;
    array.refusal = null;
    array.appliance.start((hal) => {
      if (array.boot !== null) this.oracle.forget(array.boot);
      const boot = new Boot(array.name, array.appliance, hal);
      array.boot = boot;
      this.oracle.booted(boot);
      this.chronicle.note(array.name, `start ${boot.number}`);
      const events = {
        emit: (code: string, text: string) => {
          if (!boot.alive()) return;
          array.eventCounts.set(code, (array.eventCounts.get(code) ?? 0) + 1);
          this.chronicle.note(array.name, `${code}: ${text}`);
          for (const listener of this.onEvent) listener(array, code);
        },
      };
      startAppliance({ hal, config: this.#config(array), events, version: "sim" }).then(
        (outcome) => {
          if (!boot.alive()) return;
          if (outcome.ok) {
            boot.running = outcome;
            array.acceptCacheLoss = false;
            array.acceptStaleDisk = false;
            array.completedBoot = boot.number;
            for (const listener of this.onStarted) listener(array);
            return;
          }
          array.refusal = outcome.text;
          this.chronicle.note(array.name, `refused to start: ${outcome.text}`);
          array.appliance.crash();
          this.onRefused(array, outcome.text);
        },
        (error) => {
          if (boot.alive()) this.panicked(array, error);
        },
      );
    });
  }

  /** Runs the world until `promise` has an answer; for code outside its events. */
  answer<T>(promise: Promise<T>, limitMs = 60_000): T {
    let outcome: { value: T } | null = null;
    let failure: unknown = null;
    promise.then(
      (value) => {
        outcome = { value };
      },
      (error) => {
        failure = error;
      },
    );
    this.world.runUntil(() => outcome !== null || failure !== null || this.failed, limitMs);
    if (failure !== null) throw failure;
    if (outcome === null) throw new Error(`no answer within ${limitMs} ms`);
    return (outcome as { value: T }).value;
  }

  /** The same for a command that must succeed. */
  succeed<T>(promise: Promise<Result<T>>): T {
    const result = this.answer(promise);
    if (!result.ok) throw new Error(`${result.error.code}: ${result.error.text}`);
    return result.value;
  }

  runUntil(condition: () => boolean, limitMs: number): boolean {
    this.world.runUntil(() => this.failed || condition(), limitMs);
    return !this.failed && condition();
  }

  /** A new site as the lab makes it: the group on oak, elm its golden copy, every volume open to any host on both. */
  prepare(): void {
    for (const array of this.arrays) this.start(array);
    const [oak, elm] = this.arrays as [SimArray, SimArray];
    if (!this.runUntil(() => oak.live !== null && elm.live !== null, 60_000)) return this.#notPrepared("both start");
    const { control } = oak.live!.running!;
    this.succeed(control.groups.create({ name: groupName }));
    for (const { name, sectorCount } of this.plan.volumes) {
      this.succeed(control.volumes.create({ name, sizeBytes: sectorCount * 512, group: groupName, pool: null }));
    }
    this.succeed(control.groups.addPeer(groupName, { array: elm.name, mode: this.plan.mode, cycleMs: null }));
    const names = this.plan.volumes.map((volume) => volume.name);
    const there = (): boolean => {
      const volumes = elm.live?.group()?.volumes() ?? [];
      return names.every((name) => volumes.some((volume) => volume.name === name));
    };
    if (!this.runUntil(there, 60_000)) return this.#notPrepared("elm has the volumes");
    for (const array of this.arrays) this.openToHosts(array);
    const numbers = oak
      .live!.group()!
      .volumes()
      .map((volume) => volume.number);
    if (numbers.join() !== this.plan.volumes.map((volume) => volume.number).join()) {
      this.chronicle.fail("setup", `the volumes have the numbers ${numbers.join()}`);
    }
  }

  openToHosts(array: SimArray): void {
    const { control } = array.live!.running!;
    this.succeed(control.hosts.add({ name: "anyone", any: true, addresses: [], iqns: [], tlsNames: [] }));
    for (const { name } of this.plan.volumes) {
      this.succeed(control.hosts.map("anyone", { volume: name, lun: null, readOnly: false }));
    }
  }

  #notPrepared(what: string): void {
    this.chronicle.fail("liveness", `a new site was not ready within a minute: ${what}`);
  }
}
