/**
 * One simulated run: a site is made, hosts work, faults strike, everything is healed, and then it must be whole again.
 *
 *     prepare ──▶ `ticks` ms of load under faults ──▶ heal ──▶ one writable array, golden copy in sync, images equal
 */

import { Prng } from "../../hal/mock/prng.ts";
import type { Violation } from "./chronicle.ts";
import { classesFor, type DrawnFaults, drawFaults, type FaultClass, pairsFor, SiteFaults } from "./faults.ts";
import { healAndJudge, sweepWhatAnswers } from "./heal.ts";
import { type HostOrders, HostSession } from "./host_session.ts";
import { Operator } from "./operator.ts";
import { Site, type SiteOptions } from "./site.ts";
import { drawFencing, type Fencing, type PairCount } from "./site_plan.ts";
import { Watch } from "./watch.ts";

export interface RunOptions {
  readonly seed: number | string;
  /** Milliseconds of world time under load. */
  readonly ticks: number;
  readonly site?: Omit<SiteOptions, "seed">;
  /** How many arrays are pairs; without it as the seed draws. */
  readonly pairs?: PairCount;
  /** How the partners of pairs are fenced; without it as the seed draws. */
  readonly fencing?: Fencing;
  /** The classes of faults that may strike. */
  readonly faults: readonly FaultClass[];
  /** The classes that strike whatever the seed draws. */
  readonly always?: readonly FaultClass[];
  /** Whether an operator may give commands meanwhile. */
  readonly operator: boolean;
  /** Gets every line of what happens. */
  readonly trace?: (line: string) => void;
}

export interface RunReport {
  readonly seed: number | string;
  readonly violation: Violation | null;
  readonly hostWrites: number;
  readonly checkedReads: number;
  readonly simulatedMs: number;
  readonly events: number;
  readonly fingerprint: string;
  /** What happened near the violation. */
  readonly recent: readonly string[];
}

export function runSeed(options: RunOptions): RunReport {
  const pairs = options.pairs ?? pairsFor(new Prng(options.seed, "pairs"), options.always ?? []);
  const allowed = classesFor(pairs, options.faults);
  const drawn = drawFaults(new Prng(options.seed, "drawn faults"), allowed, options.always);
  const fencing = options.fencing ?? drawFencing(new Prng(options.seed, "fencing"));
  const smallPool = drawn.classes.includes("pool");
  const site = new Site({ seed: options.seed, smallPool, pairs, fencing, ...options.site });
  if (options.trace !== undefined) site.chronicle.listener = options.trace;
  try {
    play(site, drawn, options);
  } catch (error) {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    site.chronicle.fail("panic", text.split("\n")[0]!, text.split("\n").slice(1, 10));
  }
  const { violation } = site.chronicle;
  return {
    seed: options.seed,
    violation,
    hostWrites: site.oracle.acknowledgedWrites,
    checkedReads: site.oracle.checkedReads,
    simulatedMs: site.world.nowMs,
    events: site.world.eventCount,
    fingerprint: site.world.fingerprint(),
    recent: violation === null ? [] : site.chronicle.recent(),
  };
}

function play(site: Site, drawn: DrawnFaults, options: RunOptions): void {
  const watch = new Watch(site);
  site.prepare();
  if (site.failed) return;
  site.chronicle.note("world", `prepared; plan ${JSON.stringify(site.plan)}`);
  const faults = new SiteFaults(site, drawn);
  site.chronicle.note("world", `faults: ${faults.drawn.classes.join(", ")} ${JSON.stringify(faults.drawn.rates)}`);
  const operator = new Operator(site, watch);
  if (options.operator) faults.onDisaster = (survivor) => operator.hearDisaster(survivor);
  operator.clocksAreTrue = !drawn.classes.includes("clock") && !drawn.classes.includes("pause");
  const orders: HostOrders = {
    active: true,
    writes: true,
    sweeps: false,
    mayFail: (array, errno) => faults.mayFail(array, errno),
    gaveCacheUp: (array) => faults.gaveCacheUp(array),
  };
  const sessions: HostSession[] = [];
  for (const array of site.arrays) {
    for (const volume of site.oracle.history.volumes) {
      for (let index = 0; index < site.plan.sessionsPerVolume; index++) {
        sessions.push(new HostSession(site, array, volume, index, orders));
      }
    }
  }
  for (const session of sessions) session.start();
  faults.begin();
  const prng = site.world.prng("operator at work");
  if (options.operator && prng.chance(0.8)) operator.begin(prng.pick([150, 400, 1200]));
  const untilMs = site.world.nowMs + options.ticks;
  site.runUntil(() => site.world.nowMs >= untilMs, options.ticks);
  if (site.failed) return;
  operator.end();
  faults.heal();
  if (faults.mustMend) healAndJudge({ site, operator, sessions, orders });
  else sweepWhatAnswers(site, orders);
}
