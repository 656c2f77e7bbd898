/**
 * Which faults strike a run, and what they excuse. Faults come in classes that can be switched off one by one; each seed draws the
 * classes that strike it and how hard.
 *
 * What a class excuses is as narrow as it can be: an error in answer to a host only while a disk of that array has been struck, and
 * never wrong data.
 */

import { Errno } from "../../firmware/frontend/nbd/constants.ts";
import { FaultPlan, type FaultRates } from "../../hal/mock/fault_plan.ts";
import type { Prng } from "../../hal/mock/prng.ts";
import type { SimArray, Site } from "./site.ts";

/** Strikes per minute of world time at intensity 1. */
const classRates = {
  network: { reset: 40, cut: 20, flap: 6, poorLink: 12 },
  crash: { crash: 15, crashMidEvent: 20 },
  power: { powerLoss: 25 },
  pause: { pause: 15 },
  clock: { wallJump: 30 },
  slow: { slowDisk: 15, hangingDisk: 6 },
} satisfies Record<string, FaultRates>;

export type FaultClass = keyof typeof classRates;
export const faultClasses = Object.keys(classRates) as FaultClass[];

export interface DrawnFaults {
  readonly classes: readonly FaultClass[];
  readonly rates: FaultRates;
}

/** `allowed`: the classes that may strike at all. */
export function drawFaults(prng: Prng, allowed: readonly FaultClass[]): DrawnFaults {
  // Every class is drawn whether it is allowed or not, so that switching one off leaves the others as they were.
  const drawn = faultClasses.map((name) => ({
    name,
    strikes: prng.chance(0.45),
    intensity: prng.pick([0.5, 1, 1, 3]),
  }));
  const rates: FaultRates = {};
  const classes = drawn.filter(({ name, strikes }) => strikes && allowed.includes(name));
  for (const { name, intensity } of classes) {
    const own: FaultRates = classRates[name];
    for (const [kind, perMinute] of Object.entries(own)) rates[kind as keyof FaultRates] = perMinute * intensity;
  }
  return { classes: classes.map(({ name }) => name), rates };
}

export class SiteFaults {
  readonly plan: FaultPlan;
  readonly drawn: DrawnFaults;
  readonly #site: Site;

  constructor(site: Site, drawn: DrawnFaults) {
    this.#site = site;
    this.drawn = drawn;
    this.plan = new FaultPlan(site.world, {
      start: (appliance) => {
        const array = site.arrays.find((one) => one.appliance === appliance);
        if (array !== undefined) site.start(array);
      },
    });
  }

  begin(): void {
    this.plan.begin(this.drawn.rates);
  }

  heal(): void {
    this.plan.heal();
    this.#site.chronicle.note("world", "healed: no fault is in force any more");
  }

  /** Whether an array may answer a host with this error. */
  mayFail(_array: SimArray, errno: number): boolean {
    return errno === Errno.shutdown;
  }
}
