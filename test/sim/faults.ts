/**
 * Which faults strike a run, and what they excuse. Faults come in classes that can be switched off one by one; each seed draws the
 * classes that strike it and how hard.
 *
 * What a class excuses is as narrow as it can be:
 * - an error in answer to a host only from an array whose disks were struck (D5), or whose pool is small (D6);
 * - a refused start only from an array whose cache lost its content, got an old one back or fails, or whose disks were struck;
 * - forgotten acknowledged data only where the cache's content was lost with it (power gone under a failed battery, an old image).
 * Wrong data is never excused.
 */
import { Errno } from "../../firmware/frontend/nbd/constants.ts";
import { halfNumbers } from "../../firmware/pair/limits.ts";
import type { MockDisk } from "../../hal/mock/disk.ts";
import { eventKind } from "../../hal/mock/event_heap.ts";
import { FaultPlan, type FaultRates } from "../../hal/mock/fault_plan.ts";
import type { Prng } from "../../hal/mock/prng.ts";
import type { MediumImage } from "../../hal/mock/sparse_medium.ts";
import type { CacheImage } from "../../hal/mock/write_cache.ts";
import { type PairFaultKind, PairFaults, type PairRates, pairFaultKinds } from "./pair_faults.ts";
import type { SimArray, SimMachine } from "./sim_array.ts";
import type { Site } from "./site.ts";
import { drawPairCount, type PairCount } from "./site_plan.ts";

/** Strikes per minute of world time at intensity 1. What is not a kind of the fault plan is played here. */
const classRates = {
  network: { reset: 60, cut: 40, flap: 10, poorLink: 20 },
  crash: { crash: 25, crashMidEvent: 40, crashInPersist: 20 },
  power: { powerLoss: 40, powerLossInPersist: 40 },
  pause: { pause: 25 },
  clock: { wallJump: 30 },
  slow: { slowDisk: 20, hangingDisk: 8 },
  /** The link is cut, and soon after the primary is gone: what a takeover is for. */
  disaster: { disaster: 12 },
  battery: { battery: 15 },
  persist: { persistFailure: 15 },
  oldCache: { oldCache: 12 },
  disk: { readError: 30, writeError: 20, flushError: 8, absentDisk: 6, hangingDisk: 4 },
  rot: { bitRot: 20, unreadablePage: 15, lostWrite: 10, misdirectedWrite: 6 },
  /** Disks with room for about half of what hosts write. */
  pool: {},
  /** A disk is an older image of itself. The last class: those before are drawn as they were without it. */
  oldDisk: { oldDisk: 40 },
  /** Of pairs alone; these too are drawn behind all others. */
  interconnect: { pairCut: 25, pairFlap: 8, pairSlow: 20, wireCut: 25 },
  powerPort: { brokenPort: 20 },
  failover: { failover: 30 },
  /** Both appliances of a pair at once. */
  both: { bothCrash: 4, bothLosePower: 4 },
  /** The group goes from one half of a pair's array to the other. */
  move: { move: 40, home: 10 },
} satisfies Record<string, FaultRates & PairRates & { disaster?: number; oldCache?: number; oldDisk?: number }>;

export type FaultClass = keyof typeof classRates;
export const faultClasses = Object.keys(classRates) as FaultClass[];

export interface DrawnFaults {
  readonly classes: readonly FaultClass[];
  readonly rates: FaultRates;
  readonly disaster: number;
  readonly oldCache: number;
  readonly oldDisk: number;
  readonly pairRates: PairRates;
}

/** Classes whose excuses are worked out for single appliances alone: a site with pairs has none of them. */
const singleClasses: readonly FaultClass[] = ["oldDisk"];
/** Classes that strike pairs only when they are asked for: what an operator does about them is not simulated for every case yet. */
const requestedClasses: readonly FaultClass[] = [...singleClasses, "persist", "oldCache"];

/** How many pairs a run has: none where a class that is asked for knows single appliances alone. */
export function pairsFor(prng: Prng, always: readonly FaultClass[]): PairCount {
  const drawn = drawPairCount(prng);
  return always.some((name) => singleClasses.includes(name)) ? "none" : drawn;
}

export function classesFor(pairs: PairCount, allowed: readonly FaultClass[]): readonly FaultClass[] {
  return pairs === "none" ? allowed : allowed.filter((name) => !requestedClasses.includes(name));
}

/** `allowed`: the classes that may strike at all; `always`: those that do, whatever the seed says. */
export function drawFaults(
  prng: Prng,
  allowed: readonly FaultClass[],
  always: readonly FaultClass[] = [],
): DrawnFaults {
  // Every class is drawn whether it is allowed or not, so that switching one off leaves the others as they were.
  const drawn = faultClasses.map((name) => ({
    name,
    strikes: prng.chance(strikeRates[name] ?? 0.45),
    intensity: prng.pick([0.5, 1, 1, 3]),
  }));
  const rates: Record<string, number> = {};
  const classes = drawn.filter(({ name, strikes }) => always.includes(name) || (strikes && allowed.includes(name)));
  for (const { name, intensity } of classes) {
    for (const [kind, perMinute] of Object.entries(classRates[name])) {
      rates[kind] = (rates[kind] ?? 0) + perMinute * intensity;
    }
  }
  const { disaster = 0, oldCache = 0, oldDisk = 0, ...others } = rates;
  const pairRates: Record<string, number> = {};
  const planned: Record<string, number> = {};
  for (const [kind, perMinute] of Object.entries(others)) {
    (pairFaultKinds.includes(kind as PairFaultKind) ? pairRates : planned)[kind] = perMinute;
  }
  return { classes: classes.map(({ name }) => name), rates: planned, disaster, oldCache, oldDisk, pairRates };
}

/** Classes after which little else can be demanded strike fewer seeds. */
const strikeRates: Partial<Record<FaultClass, number>> = {
  rot: 0.1,
  disk: 0.2,
  oldCache: 0.2,
  pool: 0.12,
  persist: 0.2,
  oldDisk: 0.1,
};

/** How often the operator reads the warnings, and how likely it is that something is done at once. */
const lookEveryMs = 500;
const restartRate = 0.3;
const hangDeadlineMs = 400;

export class SiteFaults {
  /** The primary is gone; `survivor` is the array that could take over. */
  onDisaster: (survivor: SimArray) => void = () => {};
  readonly plan: FaultPlan;
  readonly drawn: DrawnFaults;
  readonly #site: Site;
  readonly #prng: Prng;
  #active = false;
  /** Arrays whose disks have been struck: an error is no surprise, and a start may be refused until the operator has had a look. */
  readonly #diskStruck = new Set<SimArray>();
  /** Arrays whose cache holds something else than what was last stored there. */
  readonly #cacheStruck = new Set<SimArray>();
  readonly #cacheGivenUp = new Set<SimArray>();
  /** Pairs of which a cache has been lost under a dead battery: that a half is refused for it has a reason, and excuses no loss. */
  readonly #oneCacheLost = new Set<SimArray>();
  /** Images of caches, with the boot from which they are. */
  readonly #images = new Map<SimMachine, { image: CacheImage; boot: number }>();
  /** Images of disks, with the boot from which they are. */
  readonly #diskImages = new Map<SimArray, { disk: MockDisk; image: MediumImage; boot: number }>();
  readonly #diskPrng: Prng;
  #diskWasOld = false;
  readonly #pairs: PairFaults;

  constructor(site: Site, drawn: DrawnFaults) {
    this.#site = site;
    this.drawn = drawn;
    this.#prng = site.world.prng("site faults");
    this.#diskPrng = site.world.prng("old disks");
    const lengths = site.world.prng("fault lengths");
    const hasPairs = site.arrays.some(({ isPair }) => isPair);
    this.plan = new FaultPlan(site.world, {
      // Mostly one of a pair is down while the other one is not.
      downMsMax: lengths.pick(hasPairs ? [300, 1000, 2500] : [300, 3000, 6000]),
      lastsMsMax: lengths.pick([500, 3000, 6000]),
      start: (appliance) => {
        for (const { machines } of site.arrays) {
          for (const machine of machines) if (machine.appliance === appliance) site.startMachine(machine);
        }
      },
    });
    this.#pairs = new PairFaults(site);
    this.#lookAfterShelves();
    if (hasPairs) this.#lookAfterPairs();
    if (hasPairs && drawn.classes.includes("disk")) this.#lookAfterCopies([]);
    site.onPowerLost = (array, machine) => this.#powerLost(array, machine);
    site.onStarted.push((array) => this.#started(array));
    site.onEnded = (machine, text) => this.#ended(machine, text);
    site.onRefused = (array, text) => this.#refused(array, text);
    site.onEvent.push((array, code) => {
      // The firmware's own comparison has found it, and sends everything again: a resync went wrong all the same.
      if (code !== "resync-mismatch" || drawn.classes.includes("rot")) return;
      site.chronicle.fail("R3", `a resync from ${array.name} has left a copy that differs`);
    });
  }

  begin(): void {
    this.#active = true;
    this.plan.begin(this.drawn.rates);
    this.#pairs.begin(this.drawn.pairRates);
    if (this.drawn.classes.includes("disk") || this.drawn.classes.includes("rot")) {
      for (const array of this.#site.arrays) this.#diskStruck.add(array);
    }
    if (this.drawn.classes.includes("rot")) {
      // The one copy of a root, or of the log, has rotted, and the array has found out and says so: it must not claim what was in it.
      this.#site.onEvent.push((array, code) => {
        if (code === "root-stale" || code === "cache-lost") this.#site.forgetLicences.add(array.name);
      });
    }
    this.#drawTempers();
    if (this.drawn.disaster > 0) {
      this.#repeat(this.drawn.disaster, () => this.#disaster());
      // What the former stop told the peer is wrong from the confirmation on: the worst moment for a cut.
      this.#site.onEvent.push((array, code) => {
        if (code !== "primary-confirmed" || !this.#active || !this.#prng.chance(0.3)) return;
        this.#site.world.schedule(0, eventKind.fault, null, () => this.#disaster(array));
      });
    }
    if (this.drawn.oldCache > 0) {
      this.#repeat(60, () => this.#takeImage());
      this.#repeat(this.drawn.oldCache, () => this.#restoreImage());
    }
    // With rot the other copy of what is old on this disk may be damaged, and nothing tells then.
    if (this.drawn.oldDisk > 0 && !this.drawn.classes.includes("rot")) {
      this.#repeat(60, () => this.#takeDiskImage(), this.#diskPrng);
      this.#repeat(this.drawn.oldDisk, () => this.#restoreDiskImage(), this.#diskPrng);
    }
  }

  /** How struck hardware behaves: whether an error is followed by seeming success, whether a hanging disk reports a timeout. */
  #drawTempers(): void {
    const { classes } = this.drawn;
    const forgets = this.#prng.chance(0.5);
    const deadlineMs = this.#prng.chance(0.5) ? hangDeadlineMs : Number.POSITIVE_INFINITY;
    for (const { appliance } of this.#site.arrays.flatMap(({ machines }) => machines)) {
      appliance.nvram.faults.persistErrorsForgotten = forgets && classes.includes("persist");
      for (const shelf of appliance.shelves) {
        for (const disk of shelf.slots) {
          if (disk === null || !classes.includes("disk")) continue;
          disk.faults.flushErrorsForgotten = forgets;
          disk.faults.deadlineMs = deadlineMs;
        }
      }
    }
  }

  heal(): void {
    this.#active = false;
    for (const disk of this.plan.disks()) disk.faults.deadlineMs = Number.POSITIVE_INFINITY;
    this.#site.joinAll();
    this.#pairs.heal();
    this.plan.heal();
    this.#site.chronicle.note("world", "healed: no fault is in force any more");
  }

  /** Whether an array may answer a host with this error. */
  mayFail(array: SimArray, errno: number): boolean {
    if (errno === Errno.shutdown) return true;
    if (errno === Errno.nospc) return this.drawn.classes.includes("pool");
    return errno === Errno.io && this.#diskStruck.has(array);
  }

  /** The operator has given its cache up, perhaps in the midst of a destage. */
  gaveCacheUp(array: SimArray): boolean {
    return this.#cacheGivenUp.has(array);
  }

  /** Whether everything must be whole again at the end: what has rotted stays rotten, and what an old disk lacks is gone. */
  get mustMend(): boolean {
    return !this.drawn.classes.includes("rot") && !this.#diskWasOld;
  }

  #repeat(perMinute: number, strike: () => void, prng = this.#prng): void {
    const next = (): void => {
      this.#site.world.schedule(prng.exponential(60_000 / perMinute), eventKind.fault, null, () => {
        if (!this.#active) return;
        strike();
        next();
      });
    };
    next();
  }

  // ---------------------------------------------------------------- what is played here

  #disaster(victim = this.#site.arrays.find((array) => array.live?.group()?.serving().writable === true)): void {
    const { world, chronicle } = this.#site;
    if (victim === undefined) return;
    const other = this.#site.other(victim);
    const afterMs = this.#prng.between(0, 700);
    chronicle.note("world", `disaster: ${victim.name} is cut off, and gone ${afterMs.toFixed(0)} ms later`);
    this.#site.cut(victim, other);
    world.schedule(afterMs, eventKind.fault, null, () => {
      if (!this.#active) return;
      const isPower = this.#prng.chance(0.5);
      for (const { appliance } of victim.machines) {
        if (isPower) appliance.powerLoss();
        else appliance.crash();
      }
      this.onDisaster(other);
    });
    world.schedule(afterMs + this.#prng.between(0, 3000), eventKind.fault, null, () => this.#site.join(victim, other));
  }

  #takeImage(): void {
    const array = this.#prng.pick(this.#site.arrays);
    const machine = array.isPair ? this.#prng.pick(array.machines) : array.machine;
    if (array.live === null || !machine.runs) return;
    const { nvram, bootCount } = machine.appliance;
    this.#images.set(machine, { image: nvram.image(), boot: bootCount });
  }

  /** An image from before the last completed start: its nonce is no longer the array's. */
  #restoreImage(): void {
    const array = this.#prng.pick(this.#site.arrays);
    const machine = array.isPair ? this.#prng.pick(array.machines) : array.machine;
    const kept = this.#images.get(machine);
    if (kept === undefined) return;
    if (array.isPair ? !this.#pairs.isFormer(array, machine, kept.image.bytes) : array.completedBoot <= kept.boot)
      return;
    // Restored as a whole machine is: it is switched off for that.
    machine.appliance.crash();
    this.#site.chronicle.note(machine.name, `an image of the cache from start ${kept.boot} is put back`);
    machine.appliance.nvram.restore(kept.image);
    if (array.isPair) {
      // The partner's is as good. Where it is not, the array may refuse to start; silently it never starts from this one (D1, D2).
      if (this.#pairs.hasLostAll(array)) this.#cacheStruck.add(array);
      return;
    }
    this.#cacheStruck.add(array);
    // Unless the operator has given the cache up already, whatever is in it.
    if (!array.acceptCacheLoss) array.mustRefuse = true;
  }

  #takeDiskImage(): void {
    const array = this.#diskPrng.pick(this.#site.arrays);
    const disk = this.#diskPrng.pick(array.appliance.shelves[0]!.slots.filter((slot) => slot !== null));
    if (array.live !== null) {
      this.#diskImages.set(array, { disk, image: disk.medium.image(), boot: array.live.number });
    }
  }

  /** One of several disks, from before the last completed start: the others have been opened without it. */
  #restoreDiskImage(): void {
    const array = this.#diskPrng.pick(this.#site.arrays);
    const kept = this.#diskImages.get(array);
    if (kept === undefined || array.completedBoot <= kept.boot || array.plan.diskBytes.length < 2) return;
    array.appliance.crash();
    this.#site.chronicle.note(array.name, `an image of ${kept.disk.name} from start ${kept.boot} is put back`);
    kept.disk.medium.restore(kept.image);
    this.#diskStruck.add(array);
    this.#diskWasOld = true;
    if (!array.acceptStaleDisk) array.mustRefuseDisk = true;
  }

  /** The operator reads the warnings: an array whose shelf has failed is restarted, as the warning says. */
  #lookAfterShelves(): void {
    const { world, arrays, chronicle } = this.#site;
    world.schedule(lookEveryMs, eventKind.host, null, () => {
      for (const array of arrays) {
        const warnings = array.live?.running?.control.status().warnings ?? [];
        const trouble = warnings.find(({ code }) => code === "shelf-trouble");
        if (trouble === undefined) continue;
        if (!this.#diskStruck.has(array) && !this.drawn.classes.includes("pool")) {
          chronicle.fail("D6", `${array.name} cannot bring home what it has taken, and nothing explains why`, [
            trouble.text,
          ]);
        }
        if (!this.#prng.chance(restartRate)) continue;
        chronicle.note(array.name, `the operator restarts it: ${trouble.text}`);
        array.appliance.crash();
      }
      this.#lookAfterShelves();
    });
  }

  /**
   * As with shelves: the appliance of a pair whose cache is told to have failed gets another one, and is restarted; and so is the one that
   * refuses a half for its disks, or for a cache, when its partner refuses that half too.
   */
  #lookAfterPairs(): void {
    const { world, arrays, chronicle } = this.#site;
    world.schedule(lookEveryMs, eventKind.host, null, () => {
      for (const { machine, text } of arrays.flatMap((array) => [...failedCaches(array), ...refusedHalves(array)])) {
        if (!machine.runs || !this.#prng.chance(restartRate)) continue;
        const array = arrays.find(({ machines }) => machines.includes(machine))!;
        if (this.#mayGiveCacheUp(array, text)) this.#giveCacheUp(array);
        chronicle.note(machine.name, `the operator restarts it: ${text}`);
        machine.appliance.crash();
      }
      this.#lookAfterPairs();
    });
  }

  /** A disk that has failed a flush fails until the next start: where the warning says so twice, the operator does as it says. */
  #lookAfterCopies(before: readonly SimMachine[]): void {
    const { world, arrays, chronicle } = this.#site;
    world.schedule(lookEveryMs, eventKind.host, null, () => {
      const troubled = arrays.flatMap(untoldCopies);
      for (const machine of troubled.filter((one) => one.runs && before.includes(one))) {
        chronicle.note(
          machine.name,
          "the operator restarts it: the shelf does not take what it has to know of the caches",
        );
        machine.appliance.crash();
      }
      this.#lookAfterCopies(troubled);
    });
  }

  // ---------------------------------------------------------------- what is excused

  #powerLost(array: SimArray, machine: SimMachine): void {
    const { nvram } = machine.appliance;
    if (nvram.domain !== "battery" || nvram.battery === "good") return;
    this.#site.chronicle.note(array.name, "the power has gone under a failed battery: the cache is lost");
    if (array.isPair) {
      this.#oneCacheLost.add(array);
      if (!this.#pairs.hasLostAll(array)) return;
      this.#site.chronicle.note(array.name, "no copy of what it held is left");
    }
    this.#cacheStruck.add(array);
    const group = array.boot?.group() ?? null;
    const safe = group?.writeThrough.active === true && group.writeThrough.atRiskBytes === 0;
    if (!safe) this.#site.forgetLicences.add(array.name);
  }

  #refused(array: SimArray, text: string): void {
    const { chronicle, world } = this.#site;
    // False alarms end by themselves: the operator gives the word only for a disk that is old indeed.
    if (array.mustRefuseDisk && text.includes("--accept-stale-disk")) {
      this.#site.forgetLicences.add(array.name);
      array.mustRefuseDisk = false;
      array.acceptStaleDisk = true;
      world.schedule(500, eventKind.host, null, () => this.#site.start(array));
      return;
    }
    if (this.#cacheStruck.has(array)) {
      // The operator reads the message, and gives the cache up.
      if (array.mustRefuse) this.#site.forgetLicences.add(array.name);
      array.mustRefuse = false;
      array.acceptCacheLoss = true;
      this.#cacheGivenUp.add(array);
      world.schedule(500, eventKind.host, null, () => this.#site.start(array));
      return;
    }
    // A cache that fails at the start is an honest reason too: nothing is lost, and the next start may go well.
    if (this.#diskStruck.has(array) || this.drawn.classes.includes("persist")) {
      world.schedule(1000, eventKind.host, null, () => this.#site.start(array));
      return;
    }
    chronicle.fail("D1", `${array.name} refuses to start, and nothing that has happened to it explains why`, [text]);
  }

  /** An appliance of a pair has ended by itself: mostly its partner is the one to start. */
  #ended(machine: SimMachine, text: string): void {
    const array = this.#site.arrays.find(({ machines }) => machines.includes(machine))!;
    if (this.#mayGiveCacheUp(array, text)) this.#giveCacheUp(array);
    else if (!this.#diskStruck.has(array) && !this.drawn.classes.includes("persist"))
      this.#pairs.judgeEnd(array, machine, text);
    this.#site.world.schedule(500, eventKind.host, null, () => this.#site.startMachine(machine));
  }

  /** A pair's message asks for the word, and something explains it. */
  #mayGiveCacheUp(array: SimArray, text: string): boolean {
    const isStruck = this.#cacheStruck.has(array) || this.#oneCacheLost.has(array);
    return isStruck && text.includes("--accept-cache-loss");
  }

  #giveCacheUp(array: SimArray): void {
    if (this.drawn.classes.includes("oldCache")) this.#site.forgetLicences.add(array.name);
    array.acceptCacheLoss = true;
    this.#cacheGivenUp.add(array);
  }

  /** The array has come up. */
  #started(array: SimArray): void {
    if (array.mustRefuse) {
      this.#site.chronicle.fail("D5", `${array.name} started with an old image of its cache`);
    }
    if (array.mustRefuseDisk) this.#site.chronicle.fail("D5", `${array.name} started with an old disk`);
    this.#cacheStruck.delete(array);
  }
}

/** Appliances of a pair whose write cache has failed, as the owners' warnings tell. */
export function failedCaches(array: SimArray): { machine: SimMachine; text: string }[] {
  if (!array.isPair) return [];
  return array.machines
    .filter(({ runs }) => runs)
    .flatMap((machine) => machine.lives.map((life) => ({ machine, life })))
    .flatMap(({ machine, life }) => {
      const warnings = (life?.alive() === true ? life.running?.control.status().warnings : null) ?? [];
      return warnings.flatMap(({ code, text }) => {
        if (code === "cache-persist-failed") return [{ machine, text }];
        const partner = array.partnerOf(machine);
        const isTheirs = code === "pair-degraded" && text.includes("replace it");
        return isTheirs && partner?.runs === true ? [{ machine: partner, text }] : [];
      });
    });
}

/** Appliances whose partner gets no copy because of a disk, as the warning of one of their halves tells. */
function untoldCopies(array: SimArray): SimMachine[] {
  if (!array.isPair) return [];
  return array.machines.filter(({ runs, lives }) =>
    lives.some((life) => {
      const warnings = (runs && life?.alive() === true ? life.running?.control.status().warnings : null) ?? [];
      return warnings.some(({ code, text }) => code === "pair-degraded" && text.includes("restart "));
    }),
  );
}

function refusedHalves(array: SimArray): { machine: SimMachine; text: string }[] {
  if (!array.isPair) return [];
  return halfNumbers.flatMap((half) => {
    const both = array.machines.map((machine) => ({ machine, partnership: machine.pairAppliance?.halves[half] }));
    if (!both.every(({ machine, partnership }) => machine.runs && partnership?.role === "refused")) return [];
    return both
      .map(({ machine, partnership }) => ({ machine, text: partnership!.refusal }))
      .filter(({ text }) => text.includes("start again") || text.includes("--accept-cache-loss"));
  });
}
