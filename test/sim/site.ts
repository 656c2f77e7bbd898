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
import type { WriteLog } from "../../firmware/log/write_log.ts";
import type { Result } from "../../firmware/manage/control.ts";
import { EventLog } from "../../firmware/manage/events.ts";
import type { GroupRegistry } from "../../firmware/manage/groups.ts";
import { type HalfNumber, halfNumbers } from "../../firmware/pair/limits.ts";
import type { PairPort } from "../../firmware/pair/pair_port.ts";
import { createPairApi } from "../../firmware/pair_api.ts";
import { PairAppliance } from "../../firmware/pair_appliance.ts";
import type { Group } from "../../firmware/volume/group.ts";
import type { Hal } from "../../hal/api/hal.ts";
import type { MockAppliance } from "../../hal/mock/appliance.ts";
import { BrokenContract } from "../../hal/mock/contract.ts";
import type { DeathKind } from "../../hal/mock/lifetime.ts";
import type { MockShelf } from "../../hal/mock/shelf.ts";
import { World } from "../../hal/mock/world.ts";
import { Chronicle } from "./chronicle.ts";
import { tapLogs } from "./log_tap.ts";
import { Oracle } from "./oracle.ts";
import { Boot, FirmwareLife, groupName, SimArray, SimMachine } from "./sim_array.ts";
import {
  type ArrayPlan,
  drawSitePlan,
  type Fencing,
  type PairCount,
  type PairPlan,
  type SitePlan,
  withFencing,
} from "./site_plan.ts";

const version = "sim";
/** How long a rehearsal takes. */
const rehearsalsMs = [1, 10, 100, 1000] as const;
/** The interconnect's NICs, and their ports. */
const pairNics = [
  { name: "ic0", port: 7500 },
  { name: "ic1", port: 7501 },
] as const;

/** A takeover inside a pair: the limit of silence, a kill, and a start with a slow shelf. */
const successionMs = 15_000;

/** The shelf takes nothing of it. */
const refuses = ({ name, appliance }: SimMachine): boolean => appliance.shelves.every((shelf) => shelf.refuses(name));

export interface SiteOptions {
  readonly seed: number | string;
  readonly smallPool?: boolean;
  /** none unless said. */
  readonly pairs?: PairCount;
  /** `power` unless said. */
  readonly fencing?: Fencing;
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
    const { smallPool = false, pairs = "none", fencing = "power" } = options;
    const drawn = drawSitePlan(this.world.prng("site plan"), smallPool, pairs, this.world.prng("pair plan"));
    const arrays = drawn.arrays.map((plan) => withFencing(plan, fencing));
    this.plan = { ...drawn, arrays, ...options.plan };
    this.chronicle = new Chronicle(this.world);
    this.oracle = new Oracle(this.world, this.chronicle, this.plan.volumes, {
      mayFork: (array) => this.forkLicences.has(array),
      mayForget: (array) => this.forgetLicences.has(array),
    });
    this.arrays = this.plan.arrays.map((plan) => this.#build(plan));
    this.oracle.bootOf = (log) => this.#bootOf(log);
    this.oracle.evictedBootOf = ({ list }) => {
      const evicted = this.arrays.flatMap(({ machines }) => machines.flatMap((machine) => machine.evicted));
      return evicted.find((life) => life.holds(list.region.bytes))?.boot ?? null;
    };
    const { oracle } = this;
    tapLogs({
      appended: (log, header, at) => oracle.appended(log, header, at),
      committed: (log) => oracle.committed(log),
      emptied: (log) => oracle.emptied(log),
      servingChanged: (group, serving) => oracle.servingChanged(group, serving),
      leaving: (group) => this.#groupLeaves(group),
      came: (groups) => this.#groupCame(groups),
    });
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
      fencing: pair === null ? "none" : pair.fencing === "atomic" ? "atomic" : "power",
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
    const fencing = plan.pair?.fencing ?? "atomic";
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
      ...(fencing === "atomic" ? {} : { power: { target: partner!, how: fencing } }),
    });
    appliance.nvram.faults.persistMs = plan.persistMs;
    appliance.nvram.faults.latePersistRate = plan.latePersistRate;
    return appliance;
  }

  #wentDown(array: SimArray, machine: SimMachine, kind: DeathKind): void {
    const { boot } = array;
    if (boot === null || boot.machine !== machine || boot.endedMs !== null) {
      this.chronicle.note(this.#placeOf(array, machine), `down (${kind})`);
      if (kind === "power") this.onPowerLost(array, machine);
      return;
    }
    this.#bootEnds(array, boot, `down (${kind})`, () => {
      if (kind === "power") this.onPowerLost(array, machine);
    });
  }

  /** The group is not there any more: what it had committed is known as long as its memory is looked at. */
  #bootEnds(array: SimArray, boot: Boot, how: string, thereupon: () => void = () => {}): void {
    boot.endedMs = this.world.nowMs;
    const group = boot.group();
    boot.wasServed = group?.serving().writable === true;
    this.oracle.view(boot);
    this.chronicle.note(this.#placeOf(array, boot.machine), `${how}; had committed ${group?.log.commitSeq ?? "?"}`);
    thereupon();
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
    machine.evicted = [];
    const { pair } = array.plan;
    machine.appliance.start((hal) => {
      if (pair === null) void this.#beginLife(array, machine, hal);
      else this.#startOneOfPair(array, machine, hal, pair);
    });
  }

  /** The firmware of a half, or of the whole array, starts on this machine. Never answers when that comes to nothing. */
  #beginLife(
    array: SimArray,
    machine: SimMachine,
    hal: Hal,
    ofPair?: { readonly pair: PairPort; readonly half: HalfNumber },
  ): Promise<StartOutcome> {
    const half = ofPair?.half ?? 0;
    const partner = array.partnerOf(machine);
    const isEvicted = partner !== null && this.#isEvicted(array, partner);
    // One that has been evicted, and has not noticed, opens what it cannot write to, nor serve, and ends.
    const isStray = refuses(machine);
    if (partner?.lives[half]?.alive() === true && !isEvicted && !isStray) {
      this.chronicle.fail("L1", `${machine.name} opens half ${half} of the pool while ${partner.name} has it open`);
    }
    const life = new FirmwareLife(machine, half, hal);
    machine.lives[half] = isStray ? null : life;
    const place = this.#placeOf(array, machine);
    this.chronicle.note(place, array.isPair ? `start ${life.bootCount} of half ${half}` : `start ${life.bootCount}`);
    if (!array.isPair) this.#bootBegins(array, life);
    const emit = (code: string, text: string) => {
      if (life.alive()) this.#heard(array, place, code, text);
    };
    const config = this.#config(array, machine);
    const options: StartOptions = { hal, config, events: { emit }, version, ...ofPair };
    const started = startAppliance(options);
    return new Promise((resolve) => {
      started.then(
        (outcome) => {
          if (!life.alive()) return;
          this.#lifeStarted(array, life, outcome);
          resolve(outcome);
        },
        (error) => {
          if (life.alive()) this.panicked(array, error);
        },
      );
    });
  }

  /** L1: it may still run where the shelf takes nothing of it any more. To the checkers its lives, of both halves, end here. */
  #isEvicted(array: SimArray, machine: SimMachine): boolean {
    if (!refuses(machine)) return false;
    if (machine.lives.every((life) => life === null)) return true;
    const { boot } = array;
    // Also one that is being handed over: its firmware has ended, and its partner has not heard of it yet.
    const hasGroup = boot !== null && boot.machine === machine && boot.endedMs === null;
    if (hasGroup) this.#bootEnds(array, boot, "evicted");
    else this.chronicle.note(machine.name, "evicted");
    machine.evicted = machine.lives.filter((life) => life !== null);
    machine.lives.fill(null);
    return true;
  }

  /** From now on the group is here. */
  #bootBegins(array: SimArray, life: FirmwareLife): Boot {
    const former = array.boot;
    if (former?.alive() === true && former.running?.groups.find(groupName) != null) {
      const places = [former.life, life].map((one) => `half ${one.half} on ${one.machine.name}`);
      this.chronicle.fail("L1", `${array.name} has ${groupName} open twice: ${places.join(" and ")}`);
    }
    if (former !== null) this.oracle.forget(former);
    const boot = new Boot(array.name, life, this.#succeeds(array, life));
    array.boot = boot;
    life.boot = boot;
    this.oracle.booted(boot);
    return boot;
  }

  /** Whether hosts could write to the group elsewhere until a moment ago, and no process that had it has ended since by itself. */
  #succeeds({ boot: former }: SimArray, { machine, bootCount }: FirmwareLife): boolean {
    if (former === null || former.endedMs === null || !former.wasServed) return false;
    const isSameProcess = former.machine === machine && former.number === bootCount;
    if (former.machine === machine && !isSameProcess) return false;
    return this.world.nowMs - former.endedMs <= successionMs;
  }

  /** Whose log it is. The first that is heard of a group's log in a life tells that the group is there. */
  #bootOf(log: WriteLog): Boot | null {
    const { bytes } = log.list.region;
    for (const array of this.arrays) {
      for (const { lives } of array.machines) {
        const life = lives.find((one) => one?.holds(bytes) === true);
        if (life == null) continue;
        const { boot } = life;
        if (boot === null) return life.alive() ? this.#bootBegins(array, life) : null;
        if (!boot.hasLeft) return boot;
        // The log that has been left is emptied.
        return boot.group()?.log === log || !life.alive() ? null : this.#bootBegins(array, life);
      }
    }
    return null;
  }

  #groupLeaves(group: Group): void {
    for (const array of this.arrays) {
      const { boot } = array;
      if (boot === null || boot.group() !== group) continue;
      this.#bootEnds(array, boot, `${groupName} leaves half ${boot.life.half}`);
      boot.hasLeft = true;
    }
  }

  #groupCame(groups: GroupRegistry): void {
    for (const array of this.arrays) {
      const life = array.runningLives.find(({ running }) => running?.groups === groups);
      if (life !== undefined) this.#found(array, life);
    }
  }

  /** The life has the group open. */
  #found(array: SimArray, life: FirmwareLife): void {
    if (life.boot === null || life.boot.hasLeft) this.#bootBegins(array, life);
    const { machine, half } = life;
    if (array.isPair) this.chronicle.note(machine.name, `${groupName} is in half ${half}`);
    for (const listener of this.onStarted) listener(array);
  }

  #lifeStarted(array: SimArray, life: FirmwareLife, outcome: StartOutcome): void {
    if (outcome.ok) {
      life.running = outcome;
      array.acceptCacheLoss &&= array.isPair && array.runningLives.length < halfNumbers.length;
      array.acceptStaleDisk = false;
      array.completedBoot = life.bootCount;
      if (!array.isPair || outcome.groups.find(groupName) !== null) this.#found(array, life);
      return;
    }
    this.chronicle.note(this.#placeOf(array, life.machine), `refused to start: ${outcome.text}`);
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

  #startOneOfPair(array: SimArray, machine: SimMachine, hal: Hal, pair: PairPlan): void {
    const partner = array.partnerOf(machine)!.name;
    const { bootCount } = machine.appliance;
    this.chronicle.note(machine.name, `boot ${bootCount}`);
    const isUp = () => machine.appliance.isUp && machine.appliance.bootCount === bootCount;
    const rehearsals = this.world.prng(`rehearsal/${machine.name}/${bootCount}`);
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
        writesBackAlone: pair.writesBackAlone,
        heartbeatMs: pair.heartbeatMs,
        limitMs: pair.limitMs,
        hungMs: 2 * pair.limitMs,
      },
      events: {
        emit: (code, text) => {
          if (isUp()) this.#heard(array, machine.name, code, text);
        },
      },
      // It has no effect but that hand-overs wait for it.
      rehearse: () => new Promise<void>((resolve) => hal.clock.after(rehearsals.pick(rehearsalsMs), resolve)),
      start: ({ hal: lent, pair: port, half }) => this.#beginLife(array, machine, lent, { pair: port!, half: half! }),
      end: (text) => {
        if (!isUp()) return;
        this.chronicle.note(machine.name, `ends: ${text}`);
        machine.appliance.crash();
        this.onEnded(machine, text);
      },
    });
    machine.pairAppliance = pairAppliance;
    machine.pairApi = createPairApi({
      pair: pairAppliance,
      array: array.name,
      appliance: machine.name,
      version,
      events: new EventLog(hal.clock, () => {}),
      clock: hal.clock,
      lab: null,
    });
    pairAppliance.onEngine = (half) => {
      if (pairAppliance.halves[half]!.engine === null && isUp()) this.#handedOver(array, machine, half);
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

  /** As a death, decided by the firmware. */
  #handedOver(array: SimArray, machine: SimMachine, half: HalfNumber): void {
    const { boot } = array;
    if (boot === null || boot.life !== machine.lives[half] || boot.endedMs !== null) {
      this.chronicle.note(machine.name, `hands half ${half} over`);
      return;
    }
    this.#bootEnds(array, boot, `hands half ${half} over`);
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
    const isUp = (array: SimArray): boolean => array.runningLives.length === (array.isPair ? halfNumbers.length : 1);
    if (!this.runUntil(() => isUp(oak) && isUp(elm), 60_000)) return this.#notPrepared("both start");
    const life = oak.runningLives.find(({ half }) => !oak.isPair || half === this.plan.homeHalf)!;
    const { control } = life.running!;
    this.succeed(control.groups.create({ name: groupName }));
    if (oak.isPair) this.#found(oak, life);
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
    // A host is known to both halves; each has the mappings of its own volumes.
    for (const { running } of array.runningLives)
      this.succeed(running!.control.hosts.add({ name: "anyone", any: true, addresses: [], iqns: [], tlsNames: [] }));
    const { hosts } = array.live!.running!.control;
    for (const { name } of this.plan.volumes)
      this.succeed(hosts.map("anyone", { volume: name, lun: null, readOnly: false }));
  }

  #notPrepared(what: string): void {
    this.chronicle.fail("liveness", `a new site was not ready within a minute: ${what}`);
  }
}
