/**
 * Faults by seeded rates, for simulations that run for long: each kind of fault comes as a Poisson process of its own, strikes
 * something chosen at random, and ends by itself after a while.
 *
 *     const plan = new FaultPlan(world, { start: (appliance) => appliance.start(firmware) });
 *     plan.begin({ crash: 2, cut: 4, bitRot: 0.1 });     // per minute of world time
 *     world.runFor(600_000);
 *     plan.heal();                                        // everything mended and started: now liveness can be checked
 *
 * Invariants:
 * - The faults of one kind do not depend on the rates of the others (each has its own random stream).
 * - After `heal` no fault of this plan is in force: links carry, disks answer, batteries are good, processes run. What was damaged
 *   (rotten bits, lost writes, dropped sectors) stays damaged.
 * - A machine that goes down, for whatever reason, is started again, at `heal` at the latest.
 */
import type { MockAppliance } from "./appliance.ts";
import type { MockDisk } from "./disk.ts";
import { eventKind, type WorldEvent } from "./event_heap.ts";
import type { Prng } from "./prng.ts";
import { pageBytes } from "./sparse_medium.ts";
import type { World } from "./world.ts";

export interface FaultPlanOptions {
  /** Starts a machine that is down. */
  readonly start: (appliance: MockAppliance) => void;
  /** What may be struck; without it all machines of the world, and the disks in their shelves. */
  readonly appliances?: readonly MockAppliance[];
  readonly disks?: readonly MockDisk[];
  /** How long a machine stays down at most. */
  readonly downMsMax?: number;
  /** How long a cut, a hang, a failed battery and the like last at most. */
  readonly lastsMsMax?: number;
}

type Strike = (plan: FaultPlan, prng: Prng) => void;

/** A process in mid-event dies before one of its next effects. */
const effectsAhead = 200;
const dayMs = 86_400_000;

const strikes = {
  /** The process of an appliance dies between two events. */
  crash: (plan, prng) => plan.someRunning(prng)?.crash(),
  /** It dies in the middle of one. */
  crashMidEvent: (plan, prng) => plan.someRunning(prng)?.crashAtEffect(1 + prng.below(effectsAhead)),
  powerLoss: (plan, prng) => plan.someRunning(prng)?.powerLoss(),
  /** The power goes while the next persist of a flushed cache is under way. */
  powerLossInPersist: (plan, prng) => {
    const appliance = plan.someRunning(prng);
    appliance?.nvram.strikeNextPersist(() => appliance.powerLoss());
  },
  crashInPersist: (plan, prng) => {
    const appliance = plan.someRunning(prng);
    appliance?.nvram.strikeNextPersist(() => appliance.crash());
  },
  /** The process stands still for a while. */
  pause: (plan, prng) => {
    const appliance = plan.someRunning(prng);
    appliance?.pause();
    if (appliance !== undefined) plan.later(prng, () => appliance.resume());
  },
  wallJump: (plan, prng) => prng.pick(plan.appliances).wall.jump(prng.between(-dayMs, dayMs)),
  /** One connection is reset. */
  reset: (plan, prng) => {
    plan.world.network.breakOne(prng);
  },
  /** The link between two appliances is cut, in one direction or both. */
  cut: (plan, prng) => {
    const [a, b] = plan.somePair(prng);
    if (a === undefined || b === undefined) return;
    plan.world.cut(a.name, b.name, prng.chance(0.5));
    plan.later(prng, () => plan.world.join(a.name, b.name));
  },
  /** The link between two appliances comes and goes a few times. */
  flap: (plan, prng) => {
    const [a, b] = plan.somePair(prng);
    if (a === undefined || b === undefined) return;
    for (let turn = 0; turn < 4; turn++) {
      plan.later(prng, () => plan.world.cut(a.name, b.name, prng.chance(0.5)));
      plan.later(prng, () => plan.world.join(a.name, b.name));
    }
    plan.atEnd(() => plan.world.join(a.name, b.name));
  },
  /** A link gets slow, narrow and lossy. */
  poorLink: (plan, prng) => {
    const [a, b] = plan.somePair(prng);
    if (a === undefined || b === undefined) return;
    const poor = {
      latencyMs: prng.exponential(20),
      jitterMs: prng.exponential(5),
      rateBytesPerSecond: prng.chance(0.5) ? 100_000 + prng.below(10_000_000) : null,
      loss: prng.pick([0, 0.001, 0.05]),
    };
    plan.world.shape(a.name, b.name, poor);
    const plain = { latencyMs: 0, jitterMs: 0, rateBytesPerSecond: null, loss: 0 };
    plan.later(prng, () => plan.world.shape(a.name, b.name, plain));
  },
  battery: (plan, prng) => {
    const { nvram } = prng.pick(plan.appliances);
    nvram.failBattery();
    plan.later(prng, () => nvram.repairBattery());
  },
  persistFailure: (plan, prng) => prng.pick(plan.appliances).nvram.failPersists(),
  readError: (plan, prng) => plan.someDisk(prng)?.failNext("read", "error", "medium"),
  writeError: (plan, prng) => plan.someDisk(prng)?.failNext("write"),
  flushError: (plan, prng) => plan.someDisk(prng)?.failNext("flush"),
  slowDisk: (plan, prng) => {
    const disk = plan.someDisk(prng);
    if (disk === undefined) return;
    disk.faults.slowFactor = 2 + prng.exponential(50);
    plan.later(prng, () => {
      disk.faults.slowFactor = 1;
    });
  },
  hangingDisk: (plan, prng) => {
    const disk = plan.someDisk(prng);
    disk?.hang();
    if (disk !== undefined) plan.later(prng, () => disk.unhang());
  },
  absentDisk: (plan, prng) => {
    const disk = plan.someDisk(prng);
    if (disk === undefined) return;
    disk.isAbsent = true;
    plan.later(prng, () => {
      disk.isAbsent = false;
    });
  },
  /** One bit of a page that holds something flips. */
  bitRot: (plan, prng) => {
    const disk = plan.someDisk(prng);
    const offset = disk?.medium.someOffset(prng) ?? null;
    if (offset !== null) disk?.flipBit(offset, prng.below(8));
  },
  unreadablePage: (plan, prng) => {
    const disk = plan.someDisk(prng);
    const offset = disk?.medium.someOffset(prng) ?? null;
    if (offset !== null) disk?.makeUnreadable(offset - (offset % pageBytes), pageBytes);
  },
  lostWrite: (plan, prng) => plan.someDisk(prng)?.failNext("write", "lost"),
  misdirectedWrite: (plan, prng) => plan.someDisk(prng)?.failNext("write", "misdirected"),
} satisfies Record<string, Strike>;

export type FaultKind = keyof typeof strikes;
export const faultKinds = Object.keys(strikes) as FaultKind[];
/** How often each kind strikes, per minute of world time; a kind that is not named never does. */
export type FaultRates = Partial<Record<FaultKind, number>>;

export class FaultPlan {
  readonly world: World;
  readonly appliances: readonly MockAppliance[];
  /** How often each kind has struck. */
  readonly counts = new Map<FaultKind, number>();
  readonly #disks: readonly MockDisk[] | null;
  readonly #start: (appliance: MockAppliance) => void;
  readonly #downMsMax: number;
  readonly #lastsMsMax: number;
  readonly #prng: Prng;
  readonly #streams = new Map<FaultKind, Prng>();
  #strikes: WorldEvent[] = [];
  /** What ends the faults in force, and when. */
  readonly #ends = new Map<WorldEvent, () => void>();

  constructor(world: World, options: FaultPlanOptions) {
    this.world = world;
    this.appliances = options.appliances ?? world.appliances;
    this.#disks = options.disks ?? null;
    this.#start = options.start;
    this.#downMsMax = options.downMsMax ?? 3000;
    this.#lastsMsMax = options.lastsMsMax ?? 5000;
    this.#prng = world.prng("fault plan");
    for (const appliance of this.appliances) {
      const before = appliance.onDown;
      appliance.onDown = (kind) => {
        before?.(kind);
        const upAgain = () => {
          if (!appliance.isUp) this.#start(appliance);
        };
        this.#endAfter(this.#prng.unit() * this.#downMsMax, upAgain);
      };
    }
  }

  /** From now on faults strike at these rates, instead of those of an earlier call. */
  begin(rates: FaultRates): void {
    this.#stop();
    for (const kind of faultKinds) {
      const perMinute = rates[kind] ?? 0;
      if (perMinute > 0) this.#schedule(kind, 60_000 / perMinute);
    }
  }

  /** No further faults; those in force end now. */
  heal(): void {
    this.#stop();
    for (const appliance of this.appliances) appliance.crashAtEffect(Number.POSITIVE_INFINITY);
    for (const [event, end] of [...this.#ends]) {
      event.cancel();
      this.#ends.delete(event);
      end();
    }
    for (const appliance of this.appliances) if (!appliance.isUp) this.#start(appliance);
    for (const disk of this.disks()) disk.forgetMarked();
    for (const { nvram } of this.appliances) nvram.forgetMarked();
  }

  /** One fault of this kind, now. */
  strike(kind: FaultKind): void {
    this.counts.set(kind, (this.counts.get(kind) ?? 0) + 1);
    const strike: Strike = strikes[kind];
    strike(this, this.#stream(kind));
  }

  /** For strikes: ends what they began. */
  later(prng: Prng, end: () => void): void {
    this.#endAfter(prng.unit() * this.#lastsMsMax, end);
  }

  /** For strikes: after everything that their `later` may still do. */
  atEnd(end: () => void): void {
    this.#endAfter(this.#lastsMsMax, end);
  }

  someRunning(prng: Prng): MockAppliance | undefined {
    const running = this.appliances.filter((appliance) => appliance.isUp && !appliance.isPaused);
    return running.length === 0 ? undefined : prng.pick(running);
  }

  somePair(prng: Prng): [MockAppliance, MockAppliance] | [] {
    if (this.appliances.length < 2) return [];
    const a = prng.pick(this.appliances);
    return [a, prng.pick(this.appliances.filter((other) => other !== a))];
  }

  someDisk(prng: Prng): MockDisk | undefined {
    const disks = this.disks();
    return disks.length === 0 ? undefined : prng.pick(disks);
  }

  disks(): readonly MockDisk[] {
    if (this.#disks !== null) return this.#disks;
    const shelves = new Set(this.appliances.flatMap((appliance) => appliance.shelves));
    return [...shelves].flatMap((shelf) => shelf.slots.filter((disk) => disk !== null));
  }

  #stream(kind: FaultKind): Prng {
    let stream = this.#streams.get(kind);
    if (stream === undefined) {
      stream = this.world.prng(`fault/${kind}`);
      this.#streams.set(kind, stream);
    }
    return stream;
  }

  #schedule(kind: FaultKind, meanMs: number): void {
    const event = this.world.schedule(this.#stream(kind).exponential(meanMs), eventKind.fault, null, () => {
      this.#strikes = this.#strikes.filter((other) => other !== event);
      this.strike(kind);
      this.#schedule(kind, meanMs);
    });
    this.#strikes.push(event);
  }

  #endAfter(afterMs: number, end: () => void): void {
    const event = this.world.schedule(afterMs, eventKind.fault, null, () => {
      this.#ends.delete(event);
      end();
    });
    this.#ends.set(event, end);
  }

  #stop(): void {
    for (const event of this.#strikes) event.cancel();
    this.#strikes = [];
  }
}
