/**
 * One boot of one appliance, from power-on to death: whose code an event runs.
 *
 *     running --pause()--> paused --resume()--> running
 *     running --block()--> busy --unblock()--> running          (paused and busy at once, too)
 *     running, paused, busy --die()--> dead
 *
 * Invariants:
 * - Nothing calls into a dead lifetime: the kernel skips its events and tasks.
 * - Code of a dead lifetime that is still on the stack (it died in the middle of an event) has no effect any more: every HAL call
 *   asks `effect()` first.
 * - The events of a lifetime that is paused (SIGSTOP) or whose main loop is busy (a long batch, garbage collection, an endless loop) are
 *   held, in order, until it goes on. What runs beside the main loop stands still in the first case, and goes on in the second.
 */
import type { WorldEvent } from "./event_heap.ts";

/** How a boot ends. `process`: killed, the kernel and its sockets live on; `power`: the whole machine goes dark. */
export type DeathKind = "process" | "power";

export class Lifetime {
  /** Unique in its world. */
  readonly id: number;
  /** The appliance's name. */
  readonly name: string;
  alive = true;
  paused = false;
  /** The main loop does not come round. */
  busy = false;
  /** Events that came up while paused or busy. */
  held: WorldEvent[] = [];
  /** HAL calls with an effect so far: the points at which this boot could have died. */
  effects = 0;
  /** Dies instead of making the effect with this number. */
  dieAtEffect = Number.POSITIVE_INFINITY;
  /** Kills this boot and tells the hardware; set by the appliance. */
  kill: (() => void) | null = null;
  /** Takes an error that the firmware threw; null: the run fails with it. */
  onPanic: ((error: unknown) => void) | null = null;

  constructor(id: number, name: string) {
    this.id = id;
    this.name = name;
  }

  /** Whether its events wait. */
  get isHeld(): boolean {
    return this.paused || this.busy;
  }

  /** Whether the calling code may act on the world now. Every HAL call with an effect starts with this. */
  effect(): boolean {
    if (!this.alive) return false;
    this.effects++;
    if (this.effects < this.dieAtEffect) return true;
    this.kill?.();
    return false;
  }
}
