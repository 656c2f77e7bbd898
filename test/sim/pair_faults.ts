/**
 * The faults that only a pair knows, by seeded rates: its interconnect, its power ports, both of its appliances at once, and hand-overs
 * from one appliance to the other at any moment.
 *
 * None of them excuses anything: whatever becomes of one appliance or of what joins the two, nothing is lost, and hosts are served as
 * soon as one of them can.
 */
import { Nvram } from "../../firmware/cache/nvram.ts";
import type { Clock } from "../../hal/api/clock.ts";
import type { PersistenceDomain, WriteCache } from "../../hal/api/write_cache.ts";
import { eventKind } from "../../hal/mock/event_heap.ts";
import type { Prng } from "../../hal/mock/prng.ts";
import { mockDigests } from "../../hal/mock/runtime.ts";
import { groupName, type SimArray, type SimMachine } from "./sim_array.ts";
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
  move: (faults, prng, array) => faults.move(prng, array),
  /** Each appliance gets its own half again. */
  home: (faults, prng, array) => faults.command(prng, array, "/v1/pair/failover", { home: true }),
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

function nonceIn(clock: Clock, memory: Uint8Array, domain: PersistenceDomain): string | null {
  const cache: WriteCache = {
    sizeBytes: memory.byteLength,
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

  /** For strikes: the half with the group, as the operator's command does it. */
  failOver(array: SimArray): void {
    const from = array.live?.machine ?? null;
    const partnership = from === null ? null : array.partnershipAt(from);
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

  /** For strikes: the group goes to one of the appliances, which may have it. */
  move(prng: Prng, array: SimArray): void {
    const to = prng.pick(array.machines).name;
    this.command(prng, array, "/v1/pair/move", { group: groupName, to, timeoutMs: prng.pick([200, 3000, 20_000]) });
  }

  /** For strikes: at either appliance, as the operator gives it. */
  command(prng: Prng, array: SimArray, path: string, body: object): void {
    const at = prng.pick(array.machines);
    if (!at.runs || at.pairApi === null) return;
    const { chronicle } = this.#site;
    const { bootCount } = at.appliance;
    at.pairApi("POST", path, JSON.stringify(body)).then(
      (answer) => {
        if (!at.appliance.isUp || at.appliance.bootCount !== bootCount) return;
        chronicle.note(at.name, `${path} ${JSON.stringify(body)}: ${answer.status} ${JSON.stringify(answer.body)}`);
      },
      (error) => {
        if (at.appliance.isUp && at.appliance.bootCount === bootCount) this.#site.panicked(array, error);
      },
    );
  }

  /** Whether no half of the array can take this content of a cache for what its firmware had last. */
  isFormer(array: SimArray, machine: SimMachine, bytes: Uint8Array): boolean {
    const { hostClock } = this.#site.world;
    const lives = array.machines.flatMap(({ lives }) => lives).filter((life) => life !== null);
    return lives.every((life) => {
      const startBytes = life.memory.byteOffset;
      const own = bytes.subarray(startBytes, startBytes + life.memory.byteLength);
      const { domain } = machine.appliance.nvram;
      return nonceIn(hostClock, own, domain) !== nonceIn(hostClock, life.memory, life.machine.appliance.nvram.domain);
    });
  }

  /**
   * D1: the loss of one cache excuses nothing, for the partner's is a copy. Whether there is none: no cache of the two holds what the
   * firmware had that has, or had last, the group.
   */
  hasLostAll(array: SimArray): boolean {
    const life = array.boot?.life;
    if (life === undefined) return false;
    const { hostClock } = this.#site.world;
    const startBytes = life.memory.byteOffset;
    const nonce = (bytes: Uint8Array, domain: PersistenceDomain) => nonceIn(hostClock, bytes, domain);
    const wanted = nonce(life.memory, life.machine.appliance.nvram.domain);
    return array.machines.every(({ appliance: { nvram } }) => {
      const { bytes } = nvram.image();
      return nonce(bytes.subarray(startBytes, startBytes + life.memory.byteLength), nvram.domain) !== wanted;
    });
  }

  /** What an appliance that ends says must be so. */
  judgeEnd(array: SimArray, machine: SimMachine, text: string): void {
    const { chronicle } = this.#site;
    if (text.includes("as well; this appliance ends")) {
      chronicle.fail("L1", `${machine.name} has found its partner to own ${array.name} as well`, [text]);
    }
    const partner = array.partnerOf(machine);
    const isRefused = (one: SimMachine | null): boolean => one !== null && array.partnershipAt(one)?.role === "refused";
    if (partner?.runs === true && isRefused(partner) && isRefused(machine)) {
      chronicle.fail("D1", `both appliances of ${array.name} refuse to start, and nothing explains why`, [text]);
    }
  }
}
