/**
 * The pending events of a simulated world, earliest first; events of one time come in the order in which they were added.
 *
 * A cancelled event stays where it is and is skipped when its turn comes; when most of the heap is cancelled it is rebuilt, so
 * that per-request timeouts do not pile up.
 */
import type { Timer } from "../api/clock.ts";
import type { Lifetime } from "./lifetime.ts";

/** What an event is, for the run's fingerprint and for people. */
export const eventKind = {
  timer: 1,
  start: 2,
  connect: 3,
  deliver: 4,
  drain: 5,
  close: 6,
  link: 7,
  disk: 8,
  persist: 9,
  battery: 10,
  power: 11,
  witness: 12,
  host: 13,
  fault: 14,
  deferred: 15,
  heartbeat: 16,
} as const;
export type EventKind = (typeof eventKind)[keyof typeof eventKind];

export class WorldEvent implements Timer {
  atMs: number;
  order: number;
  readonly kind: EventKind;
  /** Whose code runs; null: the world's own. */
  readonly lifetime: Lifetime | null;
  /** null: cancelled, or done. */
  fire: (() => void) | null;
  readonly #heap: EventHeap;

  constructor(heap: EventHeap, atMs: number, kind: EventKind, lifetime: Lifetime | null, fire: () => void) {
    this.#heap = heap;
    this.atMs = atMs;
    this.order = 0;
    this.kind = kind;
    this.lifetime = lifetime;
    this.fire = fire;
  }

  cancel(): void {
    if (this.fire === null) return;
    this.fire = null;
    this.#heap.cancelled();
  }
}

export class EventHeap {
  #events: WorldEvent[] = [];
  #nextOrder = 0;
  #cancelledCount = 0;

  get size(): number {
    return this.#events.length;
  }

  push(event: WorldEvent): void {
    event.order = this.#nextOrder++;
    this.#events.push(event);
    this.#up(this.#events.length - 1);
  }

  /** The earliest event that is not cancelled; it stays. */
  peek(): WorldEvent | null {
    for (;;) {
      const first = this.#events[0];
      if (first === undefined) return null;
      if (first.fire !== null) return first;
      this.#removeFirst();
      if (this.#cancelledCount > 0) this.#cancelledCount--;
    }
  }

  pop(): WorldEvent | null {
    const first = this.peek();
    if (first !== null) this.#removeFirst();
    return first;
  }

  cancelled(): void {
    this.#cancelledCount++;
    if (this.#cancelledCount < 1024 || this.#cancelledCount * 2 < this.#events.length) return;
    this.#cancelledCount = 0;
    this.#events = this.#events.filter((event) => event.fire !== null);
    for (let index = (this.#events.length >> 1) - 1; index >= 0; index--) this.#down(index);
  }

  #removeFirst(): void {
    const last = this.#events.pop();
    if (last === undefined || this.#events.length === 0) return;
    this.#events[0] = last;
    this.#down(0);
  }

  #up(start: number): void {
    const events = this.#events;
    const event = events[start]!;
    let index = start;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      const above = events[parent]!;
      if (isBefore(above, event)) break;
      events[index] = above;
      index = parent;
    }
    events[index] = event;
  }

  #down(start: number): void {
    const events = this.#events;
    const count = events.length;
    const event = events[start]!;
    let index = start;
    for (;;) {
      let child = index * 2 + 1;
      if (child >= count) break;
      if (child + 1 < count && isBefore(events[child + 1]!, events[child]!)) child++;
      const below = events[child]!;
      if (isBefore(event, below)) break;
      events[index] = below;
      index = child;
    }
    events[index] = event;
  }
}

function isBefore(a: WorldEvent, b: WorldEvent): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);
}
