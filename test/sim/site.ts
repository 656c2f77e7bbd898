/**
 * The simulated site: arrays oak and elm, each of one appliance or a pair of them, running the real firmware on the mock hardware, with
 * the oracle on their logs. Starts and restarts appliances, and notes what becomes of them.
 */
import {
  type ApplianceConfig,
  type StartOptions,
  type StartOutcome,
  startAppliance,
} from "../../firmware/appliance.ts";
import type { Result } from "../../firmware/manage/control.ts";
import type { PairPort } from "../../firmware/pair/pair_port.ts";
import { PairAppliance } from "../../firmware/pair_appliance.ts";
import type { Hal } from "../../hal/api/hal.ts";
import type { MockAppliance } from "../../hal/mock/appliance.ts";
import { BrokenContract } from "../../hal/mock/contract.ts";
import type { DeathKind } from "../../hal/mock/lifetime.ts";
import type { MockShelf } from "../../hal/mock/shelf.ts";
import { World } from "../../hal/mock/world.ts";
import { Chronicle } from "./chronicle.ts";
import { tapLogs } from "./log_tap.ts";
import { Oracle } from "./oracle.ts";
import { Boot, groupName, SimArray, SimMachine, watchedHalf } from "./sim_array.ts";
import { type ArrayPlan, drawSitePlan, type PairCount, type PairPlan, type SitePlan } from "./site_plan.ts";

const version = "sim";
/** The interconnect's NICs, and their ports. */
const pairNics = [
  { name: "ic0", port: 7500 },
  { name: "ic1", port: 7501 },
] as const;

/** A takeover inside a pair: the limit of silence, a kill, and a start with a slow shelf. */
const successionMs = 15_000;

export interface SiteOptions {
  readonly seed: number | string;
  readonly smallPool?: boolean;
  /** none unless said. */
  readonly pairs?: PairCount;
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
  onPowerLost: (array: SimArray, machine: SimMachine) => void = () => {};
  readonly onStarted: ((array: SimArray) => void)[] = [];
  onRefused: (array: SimArray, text: string) => void = () => {};
  /** An appliance of a pair has ended by itself. */
  onEnded: (machine: SimMachine, text: string) => void = () => {};
  /** Arrays at which a branch may begin, and arrays whose newest data the operator has given up. */
  readonly forkLicences = new Set<string>();
  readonly forgetLicences = new Set<string>();

  constructor(options: SiteOptions) {
    this.world = new World({ seed: options.seed });
    const { smallPool = false, pairs = "none" } = options;
    const drawn = drawSitePlan(this.world.prng("site plan"), smallPool, pairs, this.world.prng("pair plan"));
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
    const { pair } = plan;
    const shelf = this.world.addShelf({
      name: `${plan.name}-shelf0`,
      slots: plan.diskBytes,
      fencing: pair === null ? "none" : "power",
    });
    for (const disk of shelf.slots) {
      if (disk === null) continue;
      disk.faults.readMs *= plan.diskSlowness;
      disk.faults.writeMs *= plan.diskSlowness;
      disk.faults.flushMs *= plan.diskSlowness;
    }
    const appliances = [this.#addAppliance(plan, shelf, plan.appliance, pair?.partner ?? null)];
    if (pair !== null) appliances.push(this.#addAppliance(plan, shelf, pair.partner, plan.appliance));
    const machines = appliances.map((appliance) => new SimMachine(appliance.name, appliance));
    const array = new SimArray(plan, machines);
    for (const machine of machines) {
      machine.appliance.onDown = (kind) => this.#wentDown(array, machine, kind);
      machine.appliance.onPanic = (error) => this.panicked(array, error);
    }
    return array;
  }

  #addAppliance(plan: ArrayPlan, shelf: MockShelf, name: string, partner: string | null): MockAppliance {
    const interconnect = plan.pair === null ? [] : pairNics;
    const appliance = this.world.addAppliance({
      name,
      cache: { sizeBytes: plan.cacheBytes, domain: plan.domain },
      shelves: [shelf],
      hbaPorts: [{ name: "hba0", address: `${name}:10809`, protocol: "nbd" }],
      nics: [
        { name: "nic0", address: `${name}:7400` },
        { name: "nic1", address: `${name}:7401` },
        ...interconnect.map((nic) => ({ name: nic.name, address: `${name}:${nic.port}` })),
      ],
      ...(plan.pair === null ? {} : { power: { target: partner!, how: plan.pair.fencing } }),
    });
    appliance.nvram.faults.persistMs = plan.persistMs;
    appliance.nvram.faults.latePersistRate = plan.latePersistRate;
    return appliance;
  }

  #wentDown(array: SimArray, machine: SimMachine, kind: DeathKind): void {
    if (array.boot === null || array.boot.machine !== machine) {
      this.chronicle.note(machine.name, `down (${kind})`);
      if (kind === "power") this.onPowerLost(array, machine);
      return;
    }
    array.boot.endedMs ??= this.world.nowMs;
    // What it has committed is known as long as its memory is looked at.
    this.oracle.view(array.boot);
    const commit = array.boot.group()?.log.commitSeq ?? "?";
    this.chronicle.note(this.#placeOf(array, machine), `down (${kind}); had committed ${commit}`);
    if (kind === "power") this.onPowerLost(array, machine);
    this.onDown(array);
  }

  #placeOf(array: SimArray, machine: SimMachine): string {
    return array.isPair ? machine.name : array.name;
  }

  /** Every link between the appliances of two arrays. */
  #links(a: SimArray, b: SimArray): [string, string][] {
    return a.machines.flatMap((one) => b.machines.map((other): [string, string] => [one.name, other.name]));
  }

  cut(a: SimArray, b: SimArray): void {
    for (const [one, other] of this.#links(a, b)) this.world.cut(one, other);
  }

  join(a: SimArray, b: SimArray): void {
    for (const [one, other] of this.#links(a, b)) this.world.join(one, other);
  }

  /** Cuts the interconnect of a pair on the NICs named, from its appliance `from` to the other one, or (null) both ways. */
  cutPair(array: SimArray, wanted: boolean, nics: readonly string[], from: SimMachine | null = null): void {
    for (const machine of array.machines) {
      if (from !== null && from !== machine) continue;
      const partner = array.partnerOf(machine)!;
      for (const nic of nics) this.world.shape(machine.name, partner.name, { cut: wanted }, nic);
    }
  }

  /** What the appliances of a pair say to each other takes so much longer. */
  slowPair(array: SimArray, latencyMs: number, nics: readonly string[]): void {
    for (const machine of array.machines) {
      for (const nic of nics) this.world.shape(machine.name, array.partnerOf(machine)!.name, { latencyMs }, nic);
    }
  }

  /** No link of the site is cut any more. */
  joinAll(): void {
    const [first, second] = this.arrays as [SimArray, SimArray];
    this.join(first, second);
    for (const { machines } of this.arrays) {
      const [one, other] = machines;
      if (one !== undefined && other !== undefined) this.world.join(one.name, other.name);
    }
  }

  /** The firmware threw: a broken invariant of its own, always a finding. */
  panicked(array: SimArray, error: unknown): void {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    const kind = error instanceof BrokenContract ? "contract" : "panic";
    this.chronicle.fail(kind, `${array.name}: ${text.split("\n")[0]}`, text.split("\n").slice(1, 9));
  }

  #config(array: SimArray, machine: SimMachine): ApplianceConfig {
    const { plan } = this;
    const other = this.other(array);
    return {
      array: { name: array.name, appliance: machine.name },
      peers: [
        {
          array: other.name,
          appliances: other.machines.map(({ name }) => ({ name, addresses: [`${name}:7400`, `${name}:7401`] })),
        },
      ],
      link: { heartbeatMs: 100, peerTimeoutMs: 1000 },
      store: { slabBytes: plan.slabBytes, logSlotBytes: plan.logSlotBytes, mapCacheBytes: plan.mapCacheBytes },
      shelfLogBytes: plan.shelfLogBytes,
      acceptCacheLoss: array.acceptCacheLoss,
      acceptStaleDisk: array.acceptStaleDisk,
    };
  }

  /** Every appliance of the array that is down. */
  start(array: SimArray): void {
    for (const machine of array.machines) this.startMachine(machine);
  }

  startMachine(machine: SimMachine): void {
    if (machine.appliance.isUp) return;
    const array = this.arrays.find(({ machines }) => machines.includes(machine))!;
    array.refusal = null;
    machine.pairAppliance = null;
    const { pair } = array.plan;
    machine.appliance.start((hal) => {
      if (pair === null) void this.#beginLife(array, machine, hal);
      else this.#startOneOfPair(array, machine, hal, pair);
    });
  }

  /** The array's firmware starts on this machine. Never answers when that comes to nothing. */
  #beginLife(array: SimArray, machine: SimMachine, hal: Hal, pair?: PairPort): Promise<StartOutcome> {
    const partner = array.partnerOf(machine);
    if (partner?.boot?.alive() === true) {
      this.chronicle.fail(
        "L1",
        `${machine.name} opens the pool while the array's firmware is at work on ${partner.name}`,
      );
    }
    if (array.boot !== null) this.oracle.forget(array.boot);
    const boot = new Boot(array.name, machine, hal, this.#succeeds(array, machine));
    array.boot = boot;
    machine.boot = boot;
    this.oracle.booted(boot);
    const place = this.#placeOf(array, machine);
    this.chronicle.note(place, `start ${boot.number}`);
    const emit = (code: string, text: string) => {
      if (boot.alive()) this.#heard(array, place, code, text);
    };
    const config = this.#config(array, machine);
    const options: StartOptions = { hal, config, events: { emit }, version };
    const started = startAppliance(pair === undefined ? options : { ...options, pair, half: watchedHalf });
    return new Promise((resolve) => {
      started.then(
        (outcome) => {
          if (!boot.alive()) return;
          this.#lifeStarted(array, boot, outcome);
          resolve(outcome);
        },
        (error) => {
          if (boot.alive()) this.panicked(array, error);
        },
      );
    });
  }

  /** Whether the life before was on the partner, served hosts to its end, and ended a moment ago. */
  #succeeds(array: SimArray, machine: SimMachine): boolean {
    const former = array.boot;
    if (former === null || former.machine === machine || former.endedMs === null) return false;
    const isFresh = this.world.nowMs - former.endedMs <= successionMs;
    return isFresh && former.group()?.serving().writable === true;
  }

  #lifeStarted(array: SimArray, boot: Boot, outcome: StartOutcome): void {
    if (outcome.ok) {
      boot.running = outcome;
      array.acceptCacheLoss = false;
      array.acceptStaleDisk = false;
      array.completedBoot = boot.number;
      for (const listener of this.onStarted) listener(array);
      return;
    }
    this.chronicle.note(this.#placeOf(array, boot.machine), `refused to start: ${outcome.text}`);
    // The partner of a pair may be the one that can.
    if (array.isPair) return;
    array.refusal = outcome.text;
    array.appliance.crash();
    this.onRefused(array, outcome.text);
  }

  #heard(array: SimArray, place: string, code: string, text: string): void {
    array.eventCounts.set(code, (array.eventCounts.get(code) ?? 0) + 1);
    this.chronicle.note(place, `${code}: ${text}`);
    for (const listener of this.onEvent) listener(array, code);
  }

  /** Every life, on this machine, of the half that has the checkers' group is one for the checkers. */
  #startOneOfPair(array: SimArray, machine: SimMachine, hal: Hal, pair: PairPlan): void {
    const partner = array.partnerOf(machine)!.name;
    const { bootCount } = machine.appliance;
    this.chronicle.note(machine.name, `boot ${bootCount}`);
    const isUp = () => machine.appliance.isUp && machine.appliance.bootCount === bootCount;
    const pairAppliance = new PairAppliance({
      hal,
      config: this.#config(array, machine),
      version,
      pair: {
        partner,
        nics: pairNics.map(({ name }) => name),
        addresses: pairNics.map(({ port }) => `${partner}:${port}`),
        preferred: machine === array.machines[0],
        returnAfterMs: null,
        heartbeatMs: pair.heartbeatMs,
        limitMs: pair.limitMs,
        hungMs: 2 * pair.limitMs,
      },
      events: {
        emit: (code, text) => {
          if (isUp()) this.#heard(array, machine.name, code, text);
        },
      },
      start: (options) =>
        options.half === watchedHalf
          ? this.#beginLife(array, machine, options.hal, options.pair)
          : startAppliance(options),
      end: (text) => {
        if (!isUp()) return;
        this.chronicle.note(machine.name, `ends: ${text}`);
        machine.appliance.crash();
        this.onEnded(machine, text);
      },
    });
    machine.pairAppliance = pairAppliance;
    pairAppliance.onEngine = (half) => {
      if (half === watchedHalf && machine.partnership?.engine === null && isUp()) this.#lifeEnded(array, machine);
    };
    pairAppliance.start().then(
      (trouble) => {
        if (trouble !== null && isUp()) this.chronicle.fail("setup", `${machine.name}: ${trouble}`);
      },
      (error) => {
        if (isUp()) this.panicked(array, error);
      },
    );
  }

  /** Handed over: as a death, decided by the firmware. */
  #lifeEnded(array: SimArray, machine: SimMachine): void {
    const { boot } = array;
    if (boot === null || boot.machine !== machine) return;
    this.oracle.view(boot);
    boot.endedMs = this.world.nowMs;
    this.chronicle.note(machine.name, `hands over; had committed ${boot.group()?.log.commitSeq ?? "?"}`);
    this.onDown(array);
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
      if (this.arrays.some((array) => !array.isMirrored)) return false;
      const volumes = elm.live?.group()?.volumes() ?? [];
      return names.every((name) => volumes.some((volume) => volume.name === name));
    };
    if (!this.runUntil(there, 60_000)) return this.#notPrepared("elm has the volumes, and pairs are mirrored");
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
