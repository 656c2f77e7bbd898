/** Tells that the pool refuses writes: at once, then only after ten quiet minutes, so that a host that goes on does not fill the log. */
import type { Clock } from "../../hal/api/clock.ts";
import type { EventSink } from "../manage/events.ts";

const tellAgainMs = 600_000;

export class PoolFull {
  /** When a write was last refused for want of space, on the monotonic clock. */
  refusedMs = Number.NEGATIVE_INFINITY;
  readonly #clock: Clock;
  readonly #events: EventSink;

  constructor(clock: Clock, events: EventSink) {
    this.#clock = clock;
    this.#events = events;
  }

  refused(group: string): void {
    this.#tell(
      group,
      `group ${group}: the pool is full, writes that need new space get ENOSPC; delete volumes, or trim on the hosts`,
    );
  }

  /** A golden copy cannot take what its primary sends. */
  refusedCopy(group: string): void {
    this.#tell(
      group,
      `group ${group}: the pool is full, and the copy falls behind: what its primary sends waits; delete other groups' volumes, or ` +
        "give up salvage sets and copies that are not needed",
    );
  }

  #tell(group: string, text: string): void {
    const nowMs = this.#clock.nowMs();
    const isTold = nowMs - this.refusedMs < tellAgainMs;
    this.refusedMs = nowMs;
    if (isTold) return;
    this.#events.emit("pool-full", text, { group });
  }
}
