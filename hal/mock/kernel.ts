/**
 * The event loop of the simulated world: virtual time, one heap of events, deferred tasks, promises.
 *
 * One step: the earliest event fires; then the tasks that were deferred run in their order, then promise continuations, until
 * there are neither. So code that is written with promises completes at definite points, and a run is a function of its seed.
 *
 * Invariants:
 * - Time never goes back; events of one time fire in the order in which they were scheduled.
 * - Nothing of a dead lifetime runs; what a paused or busy one should run is held until it goes on.
 * - Every event that fires goes into `fingerprint()`: kind, owner and time; devices add digests of the data that they move. Two
 *   runs of one seed end with the same fingerprint.
 * - An error thrown in an event ends the run (it is rethrown by `step`), unless the owner's `onPanic` takes it. A broken HAL
 *   contract always ends the run.
 */
import type { BrokenContract, ContractLog } from "./contract.ts";
import { EventHeap, type EventKind, eventKind, WorldEvent } from "./event_heap.ts";
import { Lifetime } from "./lifetime.ts";
import { Prng } from "./prng.ts";
import { completePromises } from "./runtime.ts";

/** Events in a row without any progress of time; far beyond any real burst, so it is an endless loop. */
const standstillEventsMax = 5_000_000;
const deferredTasksMax = 1_000_000;
/** How many of the last events a failure shows. */
const recentEventsMax = 64;

const kindNames = new Map<number, string>(Object.entries(eventKind).map(([name, kind]) => [kind, name]));

export class Kernel implements ContractLog {
  readonly seed: number | string;
  nowMs = 0;
  /** Events fired so far. */
  eventCount = 0;
  /** Whose code is running now; null: the world's, or a test's. */
  running: Lifetime | null = null;
  /** When set, gets a line for every event and every note: for a look at one run, not for the hash. */
  trace: ((line: string) => void) | null = null;
  readonly #heap = new EventHeap();
  #tasks: (() => void)[] = [];
  #owners: (Lifetime | null)[] = [];
  #nextTask = 0;
  #isSettling = false;
  #lifetimes = 0;
  #violation: BrokenContract | null = null;
  #standstill = 0;
  #hashA = 0x243f6a88;
  #hashB = 0x85a308d3;
  readonly #timeView = new Float64Array(1);
  readonly #timeWords = new Uint32Array(this.#timeView.buffer);
  /** Kind, owner and time of the last events, as a ring. */
  readonly #recent = new Float64Array(recentEventsMax * 3);

  constructor(seed: number | string) {
    this.seed = seed;
  }

  /** A stream of random numbers of its own; the same purpose gives the same stream. */
  prng(purpose: string): Prng {
    return new Prng(this.seed, purpose);
  }

  lifetime(name: string): Lifetime {
    this.#lifetimes++;
    return new Lifetime(this.#lifetimes, name);
  }

  /** Calls `fire` once in `delayMs` (≥ 0) of world time. */
  schedule(delayMs: number, kind: EventKind, lifetime: Lifetime | null, fire: () => void): WorldEvent {
    return this.scheduleAt(this.nowMs + delayMs, kind, lifetime, fire);
  }

  scheduleAt(atMs: number, kind: EventKind, lifetime: Lifetime | null, fire: () => void): WorldEvent {
    if (!(atMs >= this.nowMs)) throw new RangeError(`an event at ${atMs} ms, now is ${this.nowMs} ms`);
    const event = new WorldEvent(this.#heap, atMs, kind, lifetime, fire);
    this.#heap.push(event);
    return event;
  }

  defer(lifetime: Lifetime | null, task: () => void): void {
    this.#tasks.push(task);
    this.#owners.push(lifetime);
  }

  /** Mixes a value (any number) into the fingerprint. */
  note(value: number): void {
    this.#mix(value | 0);
    this.#mix((value / 4294967296) | 0);
  }

  /** 16 hex digits: what happened so far, and when. */
  fingerprint(): string {
    return (this.#hashA >>> 0).toString(16).padStart(8, "0") + (this.#hashB >>> 0).toString(16).padStart(8, "0");
  }

  /** The last events, oldest first, one line each: for the report of a failure. */
  recentEvents(): string[] {
    const count = Math.min(this.eventCount, recentEventsMax);
    return Array.from({ length: count }, (_, index) => {
      const at = ((this.eventCount - count + index) % recentEventsMax) * 3;
      return this.#describe(this.#recent[at]!, this.#recent[at + 1]!, this.#recent[at + 2]!);
    });
  }

  violation(error: BrokenContract): void {
    this.#violation ??= error;
  }

  /** The time of the next event; null: nothing will ever happen again. */
  nextMs(): number | null {
    return this.#heap.peek()?.atMs ?? null;
  }

  /** Fires one event and what follows from it. False: there was none. */
  step(): boolean {
    this.#demandIdle();
    const event = this.#heap.pop();
    if (event === null) return false;
    const fire = event.fire!;
    const lifetime = event.lifetime;
    if (lifetime !== null) {
      if (!lifetime.alive) return true;
      if (lifetime.isHeld) {
        lifetime.held.push(event);
        return true;
      }
    }
    if (event.atMs > this.nowMs) {
      this.nowMs = event.atMs;
      this.#standstill = 0;
    } else if (++this.#standstill > standstillEventsMax) {
      throw new Error(`time stands still at ${this.nowMs} ms: ${this.recentEvents().slice(-3).join("; ")}`);
    }
    event.fire = null;
    this.#account(event);
    this.#call(lifetime, fire);
    this.settle();
    return true;
  }

  /** Runs deferred tasks and promise continuations without an event: what a test calls after it has called the firmware itself. */
  settle(): void {
    this.#demandIdle();
    this.#isSettling = true;
    try {
      this.#settle();
    } finally {
      this.#isSettling = false;
    }
    if (this.#violation !== null) {
      const violation = this.#violation;
      this.#violation = null;
      throw violation;
    }
  }

  /** Code that waits for events inside an event would wait for itself. */
  #demandIdle(): void {
    if (this.#isSettling) throw new Error("the world is at work: only code outside its events may run it");
  }

  #settle(): void {
    completePromises();
    while (this.#tasks.length > 0) {
      // Tasks may defer further tasks; they belong to the same event.
      while (this.#nextTask < this.#tasks.length) {
        const index = this.#nextTask++;
        if (index > deferredTasksMax) throw new Error(`deferred tasks without end at ${this.nowMs} ms`);
        this.#runTask(this.#owners[index]!, this.#tasks[index]!);
      }
      this.#tasks.length = 0;
      this.#owners.length = 0;
      this.#nextTask = 0;
      completePromises();
    }
  }

  /** Fires everything up to and including `untilMs` of world time; then it is `untilMs`. */
  run(untilMs: number): void {
    this.settle();
    for (;;) {
      const next = this.#heap.peek();
      if (next === null || next.atMs > untilMs) break;
      this.step();
    }
    if (untilMs > this.nowMs) this.nowMs = untilMs;
  }

  runFor(durationMs: number): void {
    this.run(this.nowMs + durationMs);
  }

  /** Fires events until `condition` holds after one; false when it does not within `limitMs` from now, or nothing is left. */
  runUntil(condition: () => boolean, limitMs: number): boolean {
    const untilMs = this.nowMs + limitMs;
    this.settle();
    for (;;) {
      if (condition()) return true;
      const next = this.#heap.peek();
      if (next === null || next.atMs > untilMs) return false;
      this.step();
    }
  }

  /** The held events of a lifetime that goes on fire now, in their order. */
  releaseHeld(lifetime: Lifetime): void {
    const held = lifetime.held;
    lifetime.held = [];
    for (const event of held) {
      if (event.fire === null) continue;
      event.atMs = this.nowMs;
      this.#heap.push(event);
    }
  }

  #runTask(lifetime: Lifetime | null, task: () => void): void {
    if (lifetime === null || (lifetime.alive && !lifetime.isHeld)) this.#call(lifetime, task);
    else if (lifetime.alive) {
      lifetime.held.push(new WorldEvent(this.#heap, this.nowMs, eventKind.deferred, lifetime, task));
    }
  }

  #call(lifetime: Lifetime | null, fire: () => void): void {
    const outer = this.running;
    this.running = lifetime;
    try {
      fire();
    } catch (error) {
      // It died inside this call: what the rest of the call throws is of no interest.
      if (lifetime !== null && !lifetime.alive) return;
      if (this.#violation !== null || lifetime === null || lifetime.onPanic === null) {
        this.#violation = null;
        throw error;
      }
      lifetime.onPanic(error);
    } finally {
      this.running = outer;
    }
  }

  #account(event: WorldEvent): void {
    const owner = event.lifetime === null ? 0 : event.lifetime.id;
    this.#timeView[0] = event.atMs;
    this.#mix(this.#timeWords[0]!);
    this.#mix(this.#timeWords[1]!);
    this.#mix(event.kind + owner * 32);
    const at = (this.eventCount % recentEventsMax) * 3;
    this.#recent[at] = event.kind;
    this.#recent[at + 1] = owner;
    this.#recent[at + 2] = event.atMs;
    this.eventCount++;
    if (this.trace !== null) this.trace(this.#describe(event.kind, owner, event.atMs));
  }

  #describe(kind: number, owner: number, atMs: number): string {
    return `${atMs.toFixed(6)} ${kindNames.get(kind)} ${owner === 0 ? "world" : `boot ${owner}`}`;
  }

  #mix(word: number): void {
    const a = Math.imul(this.#hashA ^ word, 0x9e3779b1);
    this.#hashA = (a << 13) | (a >>> 19);
    const b = Math.imul(this.#hashB + (word ^ (a >>> 15)), 0x85ebca6b);
    this.#hashB = (b << 17) | (b >>> 15);
  }
}
