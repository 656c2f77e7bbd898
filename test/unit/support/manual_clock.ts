/** A clock that a test turns by hand. */
import type { Clock, Timer } from "../../../hal/api/clock.ts";

interface Due {
  atMs: number;
  order: number;
  fire: () => void;
}

export class ManualClock implements Clock {
  private atMs = 0;
  private orders = 0;
  private timers: Due[] = [];
  private readonly tasks: (() => void)[] = [];

  nowMs(): number {
    return this.atMs;
  }

  wallMs(): number {
    return 1_767_225_600_000 + this.atMs;
  }

  after(delayMs: number, fire: () => void): Timer {
    const due: Due = { atMs: this.atMs + delayMs, order: this.orders++, fire };
    this.timers.push(due);
    return {
      cancel: () => {
        this.timers = this.timers.filter((other) => other !== due);
      },
    };
  }

  defer(task: () => void): void {
    this.tasks.push(task);
  }

  get timerCount(): number {
    return this.timers.length;
  }

  /** Runs what is deferred: the end of the present event. */
  runDeferred(): void {
    for (let task = this.tasks.shift(); task !== undefined; task = this.tasks.shift()) task();
  }

  /** Runs what is deferred, then the next timer, whenever it is due. */
  step(): void {
    this.runDeferred();
    const next = this.timers.sort((a, b) => a.atMs - b.atMs || a.order - b.order).shift();
    if (next === undefined) return;
    this.atMs = Math.max(this.atMs, next.atMs);
    next.fire();
    this.runDeferred();
  }

  /** The process has died: nothing of it runs any more. */
  forget(): void {
    this.timers = [];
    this.tasks.length = 0;
  }

  /** Lets `ms` pass; 0 runs everything that is due now. */
  pass(ms = 0): void {
    const untilMs = this.atMs + ms;
    this.runDeferred();
    for (;;) {
      const next = this.timers
        .filter((due) => due.atMs <= untilMs)
        .sort((a, b) => a.atMs - b.atMs || a.order - b.order)[0];
      if (next === undefined) break;
      this.timers = this.timers.filter((due) => due !== next);
      this.atMs = Math.max(this.atMs, next.atMs);
      next.fire();
      this.runDeferred();
    }
    this.atMs = untilMs;
  }
}
