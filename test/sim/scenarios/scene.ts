/**
 * A small site for one story: a fixed plan, no faults but those that the story tells, all checkers of the simulation at work.
 *
 *     const scene = new Scene({ mode: "sync" });
 *     scene.load();                       // hosts on both arrays read, and write where they may
 *     scene.run(200);
 *     scene.oak.appliance.powerLoss();
 *     scene.mend();                       // restarts what is down, as an operator would; everything must be whole again
 *     scene.end();                        // no checker has found anything
 */
import * as assert from "uvu/assert";
import type { Control, Result, TakeoverJson } from "../../../firmware/manage/control.ts";
import type { Group } from "../../../firmware/volume/group.ts";
import { healAndJudge, isWhole } from "../heal.ts";
import { type HostOrders, HostSession } from "../host_session.ts";
import { Operator } from "../operator.ts";
import { groupName, type SimArray } from "../sim_array.ts";
import { Site } from "../site.ts";
import { type ArrayPlan, plainPair, type SitePlan } from "../site_plan.ts";
import { Watch } from "../watch.ts";

const KiB = 1024;
const MiB = 1024 * KiB;

export function plainArray(name: string): ArrayPlan {
  return {
    name,
    appliance: `${name}-a`,
    pair: null,
    cacheBytes: 2 * MiB + 64 * KiB,
    domain: "battery",
    diskBytes: [64 * MiB],
    persistMs: 0.25,
    diskSlowness: 1,
    latePersistRate: 0,
  };
}

export function pairArray(name: string): ArrayPlan {
  return { ...plainArray(name), pair: plainPair(name) };
}

const plainPlan: SitePlan = {
  arrays: [plainArray("oak"), plainArray("elm")],
  slabBytes: MiB,
  logSlotBytes: 256 * KiB,
  mapCacheBytes: 4 * MiB,
  shelfLogBytes: 16 * MiB,
  volumes: [
    { name: "demo-1", number: 1, sectorCount: 4096 },
    { name: "demo-2", number: 2, sectorCount: 2048 + 8 },
  ],
  mode: "async",
  homeHalf: 0,
  sessionsPerVolume: 1,
  depth: 4,
  thinkMs: 8,
};

export class Scene {
  readonly site: Site;
  readonly oak: SimArray;
  readonly elm: SimArray;
  readonly operator: Operator;
  readonly #sessions: HostSession[] = [];
  readonly #orders: HostOrders = {
    active: true,
    writes: true,
    sweeps: false,
    mayFail: () => false,
    gaveCacheUp: () => false,
  };

  constructor(plan: Partial<SitePlan> = {}, seed: number | string = 1) {
    this.site = new Site({ seed, plan: { ...plainPlan, ...plan } });
    this.operator = new Operator(this.site, new Watch(this.site));
    this.site.prepare();
    [this.oak, this.elm] = this.site.arrays as [SimArray, SimArray];
    this.end();
    this.until("the new site is whole", () => isWhole(this.site));
  }

  /** Hosts on every volume of these arrays. */
  load(arrays: readonly SimArray[] = this.site.arrays): void {
    for (const array of arrays) {
      for (const [index, volume] of this.site.oracle.history.volumes.entries()) {
        // At a pair one session begins over each appliance.
        const session = new HostSession(this.site, array, volume, array.isPair ? index : 0, this.#orders);
        session.start();
        this.#sessions.push(session);
      }
    }
  }

  writes(wanted: boolean): void {
    this.#orders.writes = wanted;
  }

  control(array: SimArray): Control {
    const running = array.live?.running;
    assert.ok(running, `${array.name} runs`);
    return running!.control;
  }

  group(array: SimArray): Group {
    return array.live!.group()!;
  }

  run(forMs: number): void {
    this.site.runUntil(() => false, forMs);
    this.end();
  }

  until(what: string, condition: () => boolean, limitMs = 20_000): void {
    const came = this.site.runUntil(condition, limitMs);
    this.end();
    assert.ok(came, `${what} within ${limitMs} ms`);
  }

  answer<T>(promise: Promise<Result<T>>): T {
    const value = this.site.succeed(promise);
    this.end();
    return value;
  }

  /** The operator's word that a branch may begin there. */
  takeOver(array: SimArray): TakeoverJson {
    this.site.forkLicences.add(array.name);
    return this.answer(
      this.control(array).groups.takeover(groupName, { force: false, fork: false, timeoutMs: 20_000 }),
    );
  }

  restart(array: SimArray): void {
    array.appliance.crash();
    this.site.start(array);
    this.until(`${array.name} runs`, () => array.live?.group() != null);
  }

  cut(): void {
    this.site.cut(this.oak, this.elm);
  }

  join(): void {
    this.site.join(this.oak, this.elm);
  }

  /** No fault is in force any more: within bounded time everything is whole, and every image is what it must be. */
  mend(): void {
    this.site.joinAll();
    for (const array of this.site.arrays) this.site.start(array);
    healAndJudge({ site: this.site, operator: this.operator, sessions: this.#sessions, orders: this.#orders });
    this.end();
  }

  end(): void {
    const { violation } = this.site.chronicle;
    if (violation === null) return;
    const facts = [...violation.facts, ...this.site.chronicle.recent().slice(-30)].join("\n  ");
    assert.unreachable(`${violation.invariant}: ${violation.text}\n  ${facts}`);
  }
}
