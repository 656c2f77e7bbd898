/**
 * What a simulated site is made of, drawn from its seed: small caches, small disks and small logs, so that spills, overflows and
 * full pools come about within seconds of world time.
 */

import type { HalfNumber } from "../../firmware/pair/limits.ts";
import type { PersistenceDomain } from "../../hal/api/write_cache.ts";
import type { DeathKind } from "../../hal/mock/lifetime.ts";
import type { Prng } from "../../hal/mock/prng.ts";

const KiB = 1024;
const MiB = 1024 * KiB;

/** The second appliance of an array, and how the two know each other. */
export interface PairPlan {
  readonly partner: string;
  /** What the power port does to its target; or the shelf evicts it, and there is no power port. */
  readonly fencing: DeathKind | "atomic";
  readonly heartbeatMs: number;
  readonly limitMs: number;
  /** `unmirrored = "write-back"` in the profile. */
  readonly writesBackAlone: boolean;
}

/** How many arrays are pairs: oak first. */
export const pairCounts = ["none", "one", "both"] as const;
export type PairCount = (typeof pairCounts)[number];

/** How lost partners are fenced, in all pairs of a site: by power ports, by the shelf, or each array in its own way. */
export const fencings = ["power", "atomic", "both"] as const;
export type Fencing = (typeof fencings)[number];

export function drawFencing(prng: Prng): Fencing {
  return prng.pick(["power", "atomic", "both"] as const);
}

/** With `both` it is oak whose shelf evicts. */
export function withFencing(plan: ArrayPlan, fencing: Fencing): ArrayPlan {
  const isAtomic = fencing === "atomic" || (fencing === "both" && plan.name === "oak");
  return plan.pair === null || !isAtomic ? plan : { ...plan, pair: { ...plan.pair, fencing: "atomic" } };
}

export interface ArrayPlan {
  readonly name: string;
  readonly appliance: string;
  /** null: the array has one appliance. */
  readonly pair: PairPlan | null;
  readonly cacheBytes: number;
  readonly domain: PersistenceDomain;
  /** By slot of its one shelf. */
  readonly diskBytes: readonly number[];
  /** How long a persist takes (domain `flush`), and by how much every operation of the disks is slower than usual. */
  readonly persistMs: number;
  readonly diskSlowness: number;
  /** Domain `battery`: the share of persists that complete after they have returned. */
  readonly latePersistRate: number;
}

export interface SitePlan {
  readonly arrays: readonly ArrayPlan[];
  readonly slabBytes: number;
  readonly logSlotBytes: number;
  readonly mapCacheBytes: number;
  readonly shelfLogBytes: number;
  readonly volumes: readonly { readonly name: string; readonly number: number; readonly sectorCount: number }[];
  readonly mode: "sync" | "async";
  /** The half of oak, if that is a pair, in which the group is made. */
  readonly homeHalf: HalfNumber;
  /** Sessions per array and volume, and commands that each keeps open. */
  readonly sessionsPerVolume: number;
  readonly depth: number;
  /** Mean wait between a session's commands, ms; 0: none. */
  readonly thinkMs: number;
}

/** Half of the seeds have no pair. */
export function drawPairCount(prng: Prng): PairCount {
  return prng.pick(["none", "none", "one", "both"] as const);
}

export function plainPair(name: string): PairPlan {
  return { partner: `${name}-b`, fencing: "process", heartbeatMs: 100, limitMs: 1000, writesBackAlone: false };
}

function drawPair(prng: Prng, name: string): PairPlan {
  const heartbeatMs = prng.pick([50, 100]);
  return {
    partner: `${name}-b`,
    fencing: prng.pick(["process", "power"] as const),
    heartbeatMs,
    limitMs: prng.pick([3, 5, 10]) * heartbeatMs,
    writesBackAlone: prng.chance(0.25),
  };
}

/** `pairPrng`: of its own, so that the rest of a site is the same with pairs and without. */
export function drawSitePlan(prng: Prng, smallPool: boolean, pairs: PairCount, pairPrng: Prng): SitePlan {
  const domain = prng.pick(["battery", "flush"] as const);
  const cacheBytes = prng.pick([2, 2, 4]) * MiB + 64 * KiB;
  const diskCount = prng.pick([1, 1, 2]);
  // 17 MiB go to the roots of 64 groups; a small pool then has room for about half of the volumes.
  const diskBytes = smallPool ? 24 * MiB : prng.pick([64, 100]) * MiB;
  // What takes long is under way more often when something strikes.
  const persistMs = prng.pick([0.25, 1, 3, 8]);
  const diskSlowness = prng.pick([1, 1, 1, 8]);
  const latePersistRate = prng.pick([0, 0, 0.3]);
  const array = (name: string, ownDomain: PersistenceDomain): ArrayPlan => ({
    name,
    appliance: `${name}-a`,
    pair: pairs === "both" || (pairs === "one" && name === "oak") ? drawPair(pairPrng, name) : null,
    // Each half of a pair's cache is as large as the cache of an array without a partner: a golden copy with a smaller one is refused.
    cacheBytes: pairs === "one" && name === "oak" ? 2 * cacheBytes : cacheBytes,
    domain: ownDomain,
    diskBytes: Array.from({ length: diskCount }, () => diskBytes),
    persistMs,
    diskSlowness,
    latePersistRate,
  });
  const arrays = [
    array("oak", domain),
    array("elm", prng.chance(0.8) ? domain : domain === "flush" ? "battery" : "flush"),
  ];
  return {
    arrays,
    homeHalf: arrays[0]!.pair === null ? 0 : pairPrng.pick([0, 1] as const),
    slabBytes: MiB,
    logSlotBytes: 256 * KiB,
    mapCacheBytes: prng.pick([256 * KiB, 4 * MiB]),
    shelfLogBytes: prng.pick([512 * KiB, 2 * MiB, 16 * MiB]),
    volumes: [
      { name: "demo-1", number: 1, sectorCount: prng.pick([1, 2, 4]) * 2048 },
      // Not a whole number of chunks, nor of physical blocks.
      { name: "demo-2", number: 2, sectorCount: prng.pick([2048, 4096 + 136, 2048 + 8]) },
    ],
    mode: prng.pick(["async", "async", "sync"] as const),
    sessionsPerVolume: prng.pick([1, 1, 2]),
    depth: prng.pick([1, 2, 4, 8]),
    // What hosts write to a pair is stored twice, and simulated twice.
    thinkMs: Math.max(prng.pick([1, 4, 10, 20]), pairs === "none" ? 0 : 4),
  };
}
