/**
 * The power port for a partner in a virtual machine: the machine is switched off through QEMU's monitor, and what the monitor says then is
 * the proof.
 *
 *   query-name ──the partner's──▶ query-status ──not being moved──▶ stop ──▶ query-status ──stands still──▶ system_reset ──▶ query-status
 *                                                                                                        ──prelaunch──▶ dead
 *
 * Why that is a proof (QEMU 7.2, softmmu/cpus.c and runstate.c):
 * - `stop` is answered when every virtual processor has stopped, and when every write that the machine had under way has come back from
 *   the host's kernel (`bdrv_drain_all`) and what the host caches has been flushed. With `cache=none` nothing was cached.
 * - A machine that only stands still could be told to go on. `system_reset` takes that away: its processors and devices forget what
 *   they were at, also requests that were kept to be repeated, and `prelaunch` is said of a machine that has been reset and not run since.
 *   Whoever switches it on starts an appliance that owns nothing.
 * - A machine that is off already (`shutdown`, `prelaunch`) goes the same way.
 * - With `restart` a machine that ran is switched on again, after the proof: one that was late, or hung, comes back as a standby by itself.
 *
 * What is no proof: a monitor that nobody reaches, or whose connection breaks; one of another machine; a machine that is on its way to
 * another host (`postmigrate`: it may run there). The monitor is asked only to kill, because it serves one client at a time: an
 * appliance that dies in mid-question could keep its successor from asking. So this port never knows at once.
 */
import type { Clock } from "../api/clock.ts";
import type { PowerPort } from "../api/power.ts";
import { converse, type Monitor, MonitorError, shown } from "./qmp.ts";

/** As a process's end: a write that the host's disk does not answer holds up `stop` (30 s in Linux by default). */
const killLimitMs = 35_000;
/** A reset is done in the next round of QEMU's main loop. */
const lookMs = 5;

/** Of a machine that has stood still since `stop`, whatever it did before, and is here to be reset. */
const stillStates: readonly unknown[] = [
  "paused",
  "prelaunch",
  "shutdown",
  "guest-panicked",
  "internal-error",
  "io-error",
  "watchdog",
  "suspended",
];
const movingStates: readonly unknown[] = ["inmigrate", "finish-migrate", "postmigrate", "colo", "restore-vm"];

export interface QmpPowerOptions {
  /** The partner, and the name of its machine (`-name`). */
  readonly target: string;
  /** `HOST:PORT`, or the path of a unix socket. */
  readonly monitor: string;
  /** Whether a machine that ran is switched on again when it has been proven dead. Left out: not. */
  readonly restart?: boolean;
  readonly clock: Clock;
  /** For tests. */
  readonly limitMs?: number;
}

export class QmpPowerPort implements PowerPort {
  readonly target: string;
  readonly #options: QmpPowerOptions;
  /** Both halves of the array may want it at once, and the monitor takes one client. */
  #last: Promise<void> = Promise.resolve();

  constructor(options: QmpPowerOptions) {
    this.target = options.target;
    this.#options = options;
  }

  isDead(): boolean {
    return false;
  }

  kill(done: (doubt: string | null) => void): void {
    const { clock } = this.#options;
    this.#last = this.#last.then(async () => {
      const doubt = await this.#switchOff();
      // Outside of the promise: what is thrown there is a defect, and is to stop the appliance.
      clock.defer(() => done(doubt));
    });
  }

  async #switchOff(): Promise<string | null> {
    const { monitor: address, restart = false, clock, limitMs = killLimitMs } = this.#options;
    let isProven = false;
    try {
      await converse({ address, clock, limitMs }, async (monitor) => {
        const before = await switchOff(monitor, this.target, clock);
        isProven = true;
        if (restart && before === "running") await monitor.execute("cont");
      });
      return null;
    } catch (error) {
      if (!(error instanceof MonitorError)) throw error;
      // What could not be switched on again is dead all the same.
      return isProven ? null : error.message;
    }
  }
}

/**
 * Resolves, with the state that it was found in, when the machine is off for good: nothing that ran on it can go on. Rejects with a
 * `MonitorError`. `name`: as QEMU's `-name` said.
 */
async function switchOff(monitor: Monitor, name: string, clock: Clock): Promise<unknown> {
  const found = fieldOf(await monitor.execute("query-name"), "name");
  if (found !== name)
    throw new MonitorError(
      `the monitor is that of ${found === undefined ? "a machine without a name" : shown(found)}, not of ${name} (QEMU's -name)`,
    );
  const before = await stateOf(monitor);
  if (movingStates.includes(before))
    throw new MonitorError(`${name} is being moved to or from another host (${shown(before)})`);
  await monitor.execute("stop");
  const still = await stateOf(monitor);
  if (!stillStates.includes(still)) throw new MonitorError(`${name} has been stopped and is ${shown(still)}`);
  await monitor.execute("system_reset");
  while ((await stateOf(monitor)) !== "prelaunch") await new Promise<void>((resolve) => clock.after(lookMs, resolve));
  return before;
}

/** `running`, `paused`, `prelaunch`, ... (qapi/run-state.json). */
export async function stateOf(monitor: Monitor): Promise<unknown> {
  return fieldOf(await monitor.execute("query-status"), "status");
}

function fieldOf(value: unknown, key: string): unknown {
  return typeof value === "object" && value !== null ? (value as Readonly<Record<string, unknown>>)[key] : undefined;
}
