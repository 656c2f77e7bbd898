/**
 * One array of a simulated site as its checkers see it: its machines, the lives of its firmware on them, and in which of those the
 * checkers' group is.
 *
 * A single appliance's firmware is one life from its start to its death. A pair's array has two halves, each with lives of its own: a
 * takeover or a hand-over ends one on one appliance and begins another on the other one. The group is in one half at a time, and `pair
 * move` carries it to the other.
 */

import type { Api } from "../../firmware/manage/api.ts";
import type { Control } from "../../firmware/manage/control.ts";
import type { GroupEntry, GroupRegistry } from "../../firmware/manage/groups.ts";
import { type HalfNumber, halfNumbers } from "../../firmware/pair/limits.ts";
import type { Partnership } from "../../firmware/pair/partnership.ts";
import type { PairAppliance } from "../../firmware/pair_appliance.ts";
import type { Group } from "../../firmware/volume/group.ts";
import type { Hal } from "../../hal/api/hal.ts";
import type { MockAppliance } from "../../hal/mock/appliance.ts";
import type { BootFacts } from "./oracle.ts";
import type { ArrayPlan } from "./site_plan.ts";

export const groupName = "demo";

export interface Running {
  readonly control: Control;
  readonly groups: GroupRegistry;
}

/** One life of the firmware of an array, or of a half of it, from its start to its death, or to the hand-over to the partner. */
export class FirmwareLife {
  readonly machine: SimMachine;
  readonly half: HalfNumber;
  /** The machine's boot. */
  readonly bootCount: number;
  /** Its write cache. */
  readonly memory: Uint8Array;
  /** null: starting, refused, or never got so far. */
  running: Running | null = null;
  /** Of the checkers' group here; null: it has not been here. */
  boot: Boot | null = null;

  constructor(machine: SimMachine, half: HalfNumber, hal: Hal) {
    this.machine = machine;
    this.half = half;
    this.bootCount = machine.appliance.bootCount;
    this.memory = hal.cache.memory;
  }

  /** Whether these bytes are in its write cache. */
  holds(bytes: Uint8Array): boolean {
    const { buffer, byteOffset, byteLength } = this.memory;
    const at = bytes.byteOffset - byteOffset;
    return bytes.buffer === buffer && at >= 0 && at < byteLength;
  }

  alive(): boolean {
    const { appliance, pairAppliance, lives } = this.machine;
    if (!appliance.isUp || appliance.bootCount !== this.bootCount || lives[this.half] !== this) return false;
    const partnership = pairAppliance?.halves[this.half];
    if (partnership === undefined) return true;
    const { engine, role } = partnership;
    return engine === null ? role === "starting" : engine === this.running;
  }
}

/** The time of the checkers' group in one life of the firmware: from its start, or its coming, to the end, or its leaving. */
export class Boot implements BootFacts {
  readonly array: string;
  readonly life: FirmwareLife;
  /** The array served it on the other appliance, or in the other half, until this began: it is no stop of the array (L4). */
  readonly succeeds: boolean;
  endedMs: number | null = null;
  /** Hosts could write to it when it ended. */
  wasServed = false;
  /** It has gone to the other half, or is on its way. */
  hasLeft = false;
  #entry: GroupEntry | null = null;

  constructor(array: string, life: FirmwareLife, succeeds: boolean) {
    this.array = array;
    this.life = life;
    this.succeeds = succeeds;
  }

  get machine(): SimMachine {
    return this.life.machine;
  }

  get number(): number {
    return this.life.bootCount;
  }

  get running(): Running | null {
    return this.life.running;
  }

  alive(): boolean {
    return !this.hasLeft && this.life.alive();
  }

  entry(): GroupEntry | null {
    this.#entry ??= this.hasLeft ? null : (this.running?.groups.find(groupName) ?? null);
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
  /** The newest of each half here; of a single appliance's array the first one. */
  readonly lives: (FirmwareLife | null)[] = halfNumbers.map(() => null);
  /** Those that run on in the present boot, though it has been evicted. */
  evicted: readonly FirmwareLife[] = [];
  /** Of the present boot; null: not one of a pair. */
  pairAppliance: PairAppliance | null = null;
  /** What answers an operator's commands about the pair. */
  pairApi: Api | null = null;

  constructor(name: string, appliance: MockAppliance) {
    this.name = name;
    this.appliance = appliance;
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
  /** Where the checkers' group is, or was last. */
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

  /** The one that serves the checkers' group, or did so last. */
  get machine(): SimMachine {
    return this.boot?.machine ?? this.machines[0]!;
  }

  get appliance(): MockAppliance {
    return this.machine.appliance;
  }

  partnerOf(machine: SimMachine): SimMachine | null {
    return this.machines.find((one) => one !== machine) ?? null;
  }

  /** In a pair, the half that has the checkers' group, at one of its appliances. */
  partnershipAt(machine: SimMachine): Partnership | null {
    return machine.pairAppliance?.halves[this.boot?.life.half ?? 0] ?? null;
  }

  /** A half, or the whole array, with its firmware at work. */
  get runningLives(): FirmwareLife[] {
    const lives = this.machines.filter(({ appliance }) => !appliance.isPaused).flatMap((machine) => machine.lives);
    return lives.filter((life) => life !== null && life.running !== null && life.alive()) as FirmwareLife[];
  }

  /** Where the group is served now, or null. */
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
