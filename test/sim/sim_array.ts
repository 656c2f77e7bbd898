/**
 * One array of a simulated site as its checkers see it: its machines, and the lives of the array's firmware on them.
 *
 * An array that is a pair is served by one life at a time, on whichever appliance owns it: a takeover or a hand-over ends one and begins
 * another, as a restart does on a single appliance.
 */
import type { Control } from "../../firmware/manage/control.ts";
import type { GroupEntry, GroupRegistry } from "../../firmware/manage/groups.ts";
import { type HalfNumber, halfNumbers } from "../../firmware/pair/limits.ts";
import type { Partnership } from "../../firmware/pair/partnership.ts";
import { halfOfCopy } from "../../firmware/pair/peer_lanes.ts";
import type { PairAppliance } from "../../firmware/pair_appliance.ts";
import type { Group } from "../../firmware/volume/group.ts";
import type { Hal } from "../../hal/api/hal.ts";
import type { MockAppliance } from "../../hal/mock/appliance.ts";
import type { BootFacts } from "./oracle.ts";
import type { ArrayPlan } from "./site_plan.ts";

export const groupName = "demo";
/** The half of a pair's array that has it: the one where a peer's copy of it goes. */
export const watchedHalf: HalfNumber = halfOfCopy(groupName);

export interface Running {
  readonly control: Control;
  readonly groups: GroupRegistry;
}

/** One life of the array's firmware, from its start to its death, or to the hand-over to the partner. */
export class Boot implements BootFacts {
  readonly array: string;
  readonly machine: SimMachine;
  /** The machine's boot. */
  readonly number: number;
  readonly cacheBuffer: ArrayBufferLike;
  /** The array was served on its other appliance until this life began: it is no stop of the array (L4). */
  readonly succeeds: boolean;
  endedMs: number | null = null;
  /** null: starting, refused, or never got so far. */
  running: Running | null = null;
  #entry: GroupEntry | null = null;

  constructor(array: string, machine: SimMachine, hal: Hal, succeeds: boolean) {
    this.succeeds = succeeds;
    this.array = array;
    this.machine = machine;
    this.number = machine.appliance.bootCount;
    this.cacheBuffer = hal.cache.memory.buffer;
  }

  alive(): boolean {
    const { appliance, partnership } = this.machine;
    if (!appliance.isUp || appliance.bootCount !== this.number || this.machine.boot !== this) return false;
    if (partnership === null) return true;
    const { engine, role } = partnership;
    return engine === null ? role === "starting" : engine === this.running;
  }

  entry(): GroupEntry | null {
    this.#entry ??= this.running?.groups.find(groupName) ?? null;
    return this.#entry;
  }

  group(): Group | null {
    return this.entry()?.group ?? null;
  }
}

/** One appliance. */
export class SimMachine {
  readonly name: string;
  readonly appliance: MockAppliance;
  /** The newest life of the array's firmware here. */
  boot: Boot | null = null;
  /** Of the present boot; null: not one of a pair. */
  pairAppliance: PairAppliance | null = null;
  /** Its cache lost its content under a failed battery, and has not been made good since. */
  cacheIsLost = false;

  constructor(name: string, appliance: MockAppliance) {
    this.name = name;
    this.appliance = appliance;
  }

  /** Of the half that has the checkers' group. */
  get partnership(): Partnership | null {
    return this.pairAppliance?.halves[watchedHalf] ?? null;
  }

  get hbaAddress(): string {
    return `${this.name}:10809`;
  }

  get runs(): boolean {
    return this.appliance.isUp && !this.appliance.isPaused;
  }
}

export class SimArray {
  readonly name: string;
  readonly plan: ArrayPlan;
  readonly machines: readonly SimMachine[];
  /** The newest life of its firmware, on whichever appliance. */
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

  constructor(plan: ArrayPlan, machines: readonly SimMachine[]) {
    this.name = plan.name;
    this.plan = plan;
    this.machines = machines;
  }

  get isPair(): boolean {
    return this.machines.length > 1;
  }

  /** The one that serves, or did so last. */
  get machine(): SimMachine {
    return this.boot?.machine ?? this.machines[0]!;
  }

  get appliance(): MockAppliance {
    return this.machine.appliance;
  }

  partnerOf(machine: SimMachine): SimMachine | null {
    return this.machines.find((one) => one !== machine) ?? null;
  }

  /** The life that serves now, or null. */
  get live(): Boot | null {
    const { boot } = this;
    return boot !== null && boot.running !== null && boot.alive() && !boot.machine.appliance.isPaused ? boot : null;
  }

  /** Of a pair, wherever they are owned. */
  get ownedHalves(): Partnership[] {
    const running = this.machines.filter(({ runs }) => runs);
    return running.flatMap(({ pairAppliance }) => pairAppliance?.halves ?? []).filter(({ role }) => role === "owner");
  }

  /** A pair whose caches are alike, with everything that joins the two in order; a single appliance is as good as it gets. */
  get isMirrored(): boolean {
    if (!this.isPair) return true;
    const halves = this.ownedHalves.map((half) => half.status());
    return (
      halves.length === halfNumbers.length &&
      halves.every(({ state, nics }) => state === "mirrored" && nics.every(({ up }) => up))
    );
  }
}
