/**
 * The addresses that move with the array, and the host ports that listen on them, at one appliance of a pair.
 *
 *   away ──come()──▶ here ──shut()──▶ leaving ──release()──▶ away
 *                     ▲                  │
 *                     └──────come()──────┘
 *
 * Here the addresses are held, again and again, for a while longer; a process that dies, or hangs for so long, loses them by itself. While
 * it is leaving nothing listens, and hosts that come are refused at once: they try again until the next owner has told them of itself.
 *
 * Invariants:
 * - `come` is called only by whoever may open the array: the partner has promised, has handed it over, or is proven dead.
 * - Neighbours are told for longer than what a dead partner has left behind can answer them.
 */

import type { StreamHandler } from "../../hal/api/byte_stream.ts";
import type { Clock, Timer } from "../../hal/api/clock.ts";
import type { HbaPort, HostStream } from "../../hal/api/hba.ts";
import type { ServiceAddress } from "../../hal/api/service_address.ts";
import { assert } from "../codec/assert.ts";
import type { EventSink } from "../manage/events.ts";
import { pairLimits } from "./limits.ts";

/** A host port that can be opened and stopped again and again. */
export interface MovingPort extends Pick<HbaPort, "name"> {
  open(done: (error: string | null) => void): void;
  stop(): void;
}

export interface ServicePortsParts {
  readonly addresses: readonly ServiceAddress[];
  readonly ports: readonly MovingPort[];
  readonly clock: Clock;
  readonly events: EventSink;
}

export class ServicePorts {
  readonly #parts: ServicePortsParts;
  readonly #open = new Set<MovingPort>();
  readonly #sessions = new Set<HostStream>();
  #state: "away" | "here" | "leaving" = "away";
  /** Neighbours are told until then. */
  #announceUntilMs = 0;
  #next: Timer | null = null;
  #trouble: string | null = null;
  #isTold = false;

  constructor(parts: ServicePortsParts) {
    this.#parts = parts;
  }

  /** Why hosts do not reach the array at every address that moves, although it is here; null: they do. */
  get trouble(): string | null {
    return this.#state === "here" ? this.#trouble : null;
  }

  /** The array comes here. The addresses are asked for before this returns. */
  come(): void {
    const { addresses, clock } = this.#parts;
    if (this.#state === "here" || addresses.length === 0) return;
    this.#state = "here";
    this.#trouble = null;
    this.#isTold = false;
    this.#announceUntilMs = clock.nowMs() + pairLimits.announceForMs;
    this.#hold();
  }

  /** A session that has come in at one of the ports lasts as long as the array is here. */
  keep(stream: HostStream, handler: StreamHandler): StreamHandler {
    this.#sessions.add(stream);
    return {
      onData: (chunk) => handler.onData(chunk),
      onDrain: () => handler.onDrain(),
      onEnd: () => handler.onEnd(),
      onClose: () => {
        this.#sessions.delete(stream);
        handler.onClose();
      },
    };
  }

  /** Sessions end while they can still be told so, and nobody is let in; the addresses stay until they are released, or their time is over. */
  shut(): void {
    if (this.#state !== "here") return;
    this.#state = "leaving";
    this.#next?.cancel();
    this.#next = null;
    for (const port of this.#parts.ports) port.stop();
    this.#open.clear();
    for (const stream of [...this.#sessions]) stream.abort();
  }

  /** The array is elsewhere. */
  release(): void {
    this.shut();
    if (this.#state === "away") return;
    this.#state = "away";
    for (const address of this.#parts.addresses) address.release();
    if (this.#isTold) this.#parts.events.emit("service-address-released", `${this.#names()} left this appliance`);
  }

  #hold(): void {
    const { addresses, clock } = this.#parts;
    const announce = clock.nowMs() < this.#announceUntilMs;
    const troubles: string[] = [];
    let left = addresses.length;
    for (const address of addresses) {
      address.hold({ forMs: pairLimits.holdMs, announce }, (error) => {
        if (error !== null) troubles.push(error);
        if (--left === 0 && this.#state === "here") this.#listen(troubles);
      });
    }
    this.#next = clock.after(pairLimits.holdAgainMs, () => this.#hold());
  }

  /** On what does not listen yet. */
  #listen(troubles: string[]): void {
    const closed = this.#parts.ports.filter((port) => !this.#open.has(port));
    let left = closed.length;
    if (left === 0) this.#judge(troubles);
    for (const port of closed) {
      this.#open.add(port);
      port.open((error) => {
        if (error !== null) {
          this.#open.delete(port);
          troubles.push(`${port.name}: ${error}`);
        }
        if (--left === 0 && this.#state === "here") this.#judge(troubles);
      });
    }
  }

  #judge(troubles: readonly string[]): void {
    const { events, clock } = this.#parts;
    const trouble = troubles.length === 0 ? null : troubles.join("; ");
    if (trouble !== null) {
      // Neighbours have not been told, or of nothing that works.
      this.#announceUntilMs = clock.nowMs() + pairLimits.announceForMs;
      if (trouble !== this.#trouble)
        events.emit("service-address-failed", `${trouble}; it is tried again every second`);
    } else if (this.#trouble !== null || !this.#isTold) {
      this.#isTold = true;
      events.emit("service-address-taken", `hosts reach the array at ${this.#names()} here`);
    }
    this.#trouble = trouble;
  }

  #names(): string {
    return this.#parts.addresses.map(({ address }) => address).join(", ");
  }
}

assert(pairLimits.holdMs % 1000 === 0, "addresses are held for whole seconds");
assert(pairLimits.holdMs >= 3 * pairLimits.holdAgainMs, "a hold outlives two renewals that came late");
assert(pairLimits.announceForMs > pairLimits.holdMs + 2 * pairLimits.holdAgainMs, "the last word is the owner's");
