/**
 * The faults that only a pair knows, by seeded rates: its interconnect, its power ports, both of its appliances at once, and hand-overs
 * from one appliance to the other at any moment.
 *
 * None of them excuses anything: whatever becomes of one appliance or of what joins the two, nothing is lost, and hosts are served as
 * soon as one of them can.
 */
import { Nvram } from "../../firmware/cache/nvram.ts";
import type { Clock } from "../../hal/api/clock.ts";
import type { WriteCache } from "../../hal/api/write_cache.ts";
import { eventKind } from "../../hal/mock/event_heap.ts";
import type { Prng } from "../../hal/mock/prng.ts";
import { mockDigests } from "../../hal/mock/runtime.ts";
import type { MockNvram } from "../../hal/mock/write_cache.ts";
import type { SimArray, SimMachine } from "./sim_array.ts";
import type { Site } from "./site.ts";

const wires = ["ic0", "ic1"] as const;
const flapTurns = 4;

type Strike = (faults: PairFaults, prng: Prng, array: SimArray) => void;

const strikes = {
  /** The interconnect, both ways or one. */
  pairCut: (faults, prng, array) => faults.cut(prng, array, wires),
  /** It comes and goes. */
  pairFlap: (faults, prng, array) => {
    for (let turn = 0; turn < flapTurns; turn++) faults.later(prng, () => faults.cut(prng, array, wires));
  },
  /** It gets slow: what the partner lacks is under way for long. */
  pairSlow: (faults, prng, array) => faults.slow(prng, array),
  /** One of its NICs. */
  wireCut: (faults, prng, array) => faults.cut(prng, array, [prng.pick(wires)]),
  /** The power port, or the disk that is to evict: it has done so or not, and says that it failed. */
  brokenPort: (faults, prng, array) => {
    const { powerFaults, shelves } = prng.pick(array.machines).appliance;
    const disk = prng.pick(shelves[0]!.slots.filter((slot) => slot !== null));
    powerFaults.broken = prng.pick(["alive", "dead-unproven"] as const);
    disk.faults.fenceErrorRate = prng.pick([0.3, 1]);
    faults.later(prng, () => {
      powerFaults.broken = "no";
      disk.faults.fenceErrorRate = 0;
    });
  },
  failover: (faults, _prng, array) => faults.failOver(array),
  bothCrash: (_faults, _prng, array) => {
    for (const { appliance } of array.machines) appliance.crash();
  },
  bothLosePower: (_faults, _prng, array) => {
    for (const { appliance } of array.machines) appliance.powerLoss();
  },
} satisfies Record<string, Strike>;

export type PairFaultKind = keyof typeof strikes;
export const pairFaultKinds = Object.keys(strikes) as PairFaultKind[];
/** Per minute of world time. */
export type PairRates = Partial<Record<PairFaultKind, number>>;

function nonceIn(clock: Clock, { sizeBytes, domain }: MockNvram, memory: Uint8Array): string | null {
  const cache: WriteCache = {
    sizeBytes,
    domain,
    memory,
    battery: () => "good",
    onBattery: () => {},
    wrote: () => {},
    persist: () => {},
  };
  const header = new Nvram(cache, clock, mockDigests).readHeader();
  return header.kind === "formatted" ? header.nonce : null;
}

export class PairFaults {
  readonly #site: Site;
  readonly #lastsMsMax: number;
  #active = false;

  constructor(site: Site) {
    this.#site = site;
    this.#lastsMsMax = site.world.prng("pair fault lengths").pick([300, 1500, 5000]);
    site.onEvent.push((array, code) => {
      if (code === "pair-mirrored") for (const machine of array.machines) machine.cacheIsLost = false;
    });
    site.onStarted.push((array) => {
      array.machine.cacheIsLost = false;
    });
  }

  begin(rates: PairRates): void {
    const pairs = this.#site.arrays.filter(({ isPair }) => isPair);
    if (pairs.length === 0) return;
    this.#active = true;
    for (const kind of pairFaultKinds) {
      const perMinute = rates[kind] ?? 0;
      if (perMinute > 0) this.#repeat(kind, 60_000 / perMinute, this.#site.world.prng(`pair fault/${kind}`), pairs);
    }
  }

  /** The links are joined by the caller. */
  heal(): void {
    this.#active = false;
    for (const array of this.#site.arrays.filter(({ isPair }) => isPair)) {
      this.#site.slowPair(array, 0, wires);
      for (const { appliance } of array.machines) appliance.powerFaults.broken = "no";
      for (const disk of array.appliance.shelves[0]!.slots) if (disk !== null) disk.faults.fenceErrorRate = 0;
    }
  }

  #repeat(kind: PairFaultKind, meanMs: number, prng: Prng, pairs: readonly SimArray[]): void {
    this.#site.world.schedule(prng.exponential(meanMs), eventKind.fault, null, () => {
      if (!this.#active) return;
      const array = prng.pick(pairs);
      this.#site.chronicle.note(array.name, `fault ${kind}`);
      const strike: Strike = strikes[kind];
      strike(this, prng, array);
      this.#repeat(kind, meanMs, prng, pairs);
    });
  }

  /** For strikes: after a while, unless everything is healed before. */
  later(prng: Prng, task: () => void): void {
    this.#site.world.schedule(prng.unit() * this.#lastsMsMax, eventKind.fault, null, () => {
      if (this.#active) task();
    });
  }

  /** For strikes: in one direction or both, for a while. */
  cut(prng: Prng, array: SimArray, nics: readonly string[]): void {
    const from = prng.chance(0.5) ? null : prng.pick(array.machines);
    this.#site.cutPair(array, true, nics, from);
    this.later(prng, () => this.#site.cutPair(array, false, nics, from));
  }

  /** For strikes: every message takes so much longer, for a while. */
  slow(prng: Prng, array: SimArray): void {
    const latencyMs = prng.exponential(20);
    this.#site.slowPair(array, latencyMs, wires);
    this.later(prng, () => this.#site.slowPair(array, 0, wires));
  }

  /** For strikes: as the operator's command does it. */
  failOver(array: SimArray): void {
    const from = array.live?.machine ?? null;
    const partnership = from?.partnership ?? null;
    if (from === null || partnership === null) return;
    const { chronicle } = this.#site;
    const { bootCount } = from.appliance;
    partnership.failover(null).then((result) => {
      if (!from.appliance.isUp || from.appliance.bootCount !== bootCount) return;
      const answer = result.ok ? JSON.stringify(result.value) : `${result.error.code}: ${result.error.text}`;
      chronicle.note(from.name, `failover: ${answer}`);
      if (!result.ok || !result.value.changed) return;
      if (result.value.owner !== from.name) return;
      chronicle.fail("L2", `${from.name} says that it has handed the array over to itself`);
    });
  }

  /**
   * D1: the loss of one cache excuses nothing, for the partner's is a copy. Whether there is none: the partner's is lost as well, or is
   * not the copy that the owner had, which has just lost its own.
   */
  hasLostAll(array: SimArray, machine: SimMachine): boolean {
    const partner = array.partnerOf(machine)!;
    if (partner.cacheIsLost) return true;
    const { boot } = array;
    if (boot === null || boot.machine !== machine) return false;
    const { nvram } = partner.appliance;
    const { hostClock } = this.#site.world;
    const theirs = nonceIn(hostClock, nvram, nvram.image().bytes);
    return theirs === null || theirs !== nonceIn(hostClock, nvram, new Uint8Array(boot.cacheBuffer));
  }

  /** What an appliance that ends says must be so. */
  judgeEnd(array: SimArray, machine: SimMachine, text: string): void {
    const { chronicle } = this.#site;
    if (text.includes("as well; this appliance ends")) {
      chronicle.fail("L1", `${machine.name} has found its partner to own ${array.name} as well`, [text]);
    }
    // It has been evicted: that refuses nothing.
    if (text.includes("has evicted it")) return;
    const partner = array.partnerOf(machine);
    if (partner?.runs === true && partner.partnership?.role === "refused") {
      chronicle.fail("D1", `both appliances of ${array.name} refuse to start, and nothing explains why`, [text]);
    }
  }
}
