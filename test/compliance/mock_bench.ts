/** The simulated HAL under the compliance suite: one world, virtual time. */
import { World } from "../../hal/mock/world.ts";
import { cacheBytes, diskBytes, type HalBench } from "./bench.ts";

/** Virtual time, far above anything that a test needs. */
const untilMsMax = 600_000;

interface Waiter {
  readonly what: string;
  readonly condition: () => boolean;
  readonly limitMs: number;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

/** Runs the world for any number of waiting tests' parts at once: outside of their promises, so that none blocks another. */
export class Driver {
  readonly #world: World;
  #waiters: Waiter[] = [];
  #isScheduled = false;

  constructor(world: World) {
    this.#world = world;
  }

  until(what: string, condition: () => boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiters.push({ what, condition, limitMs: this.#world.nowMs + untilMsMax, resolve, reject });
      this.#schedule();
    });
  }

  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    setImmediate(() => {
      this.#isScheduled = false;
      this.#drive();
      if (this.#waiters.length > 0) this.#schedule();
    });
  }

  /** Steps until a waiter is served: what follows from that comes first. */
  #drive(): void {
    try {
      this.#world.settle();
      while (!this.#serve()) if (!this.#world.step()) break;
      if (this.#world.nextMs() === null) this.#serve(true);
    } catch (error) {
      for (const waiter of this.#waiters.splice(0)) waiter.reject(error as Error);
    }
  }

  #serve(isLast = false): boolean {
    const before = this.#waiters.length;
    this.#waiters = this.#waiters.filter((waiter) => {
      if (waiter.condition()) waiter.resolve();
      else if (isLast || this.#world.nowMs > waiter.limitMs) {
        waiter.reject(new Error(`waited in vain for ${waiter.what}\n${this.#world.describe()}`));
      } else return true;
      return false;
    });
    return this.#waiters.length < before;
  }
}

export function newMockBench(seed: number): HalBench {
  const world = new World({ seed });
  // As any real network, it holds some tens of kilobytes for a reader that does not read.
  world.network.faults.windowBytes = [65536, 262144];
  const driver = new Driver(world);
  return {
    async open({ appliance, persistence }) {
      const shelf = world.addShelf({ name: "shelf0", slots: [diskBytes, diskBytes, null] });
      const port = (name: string, number: number) => ({ name, address: `${appliance}:${number}` });
      const machine = world.addAppliance({
        name: appliance,
        cache: { sizeBytes: cacheBytes, domain: persistence, storeCheck: "full" },
        shelves: [shelf],
        hbaPorts: [
          { ...port("hba0", 10809), protocol: "nbd" },
          { ...port("hba1", 10810), protocol: "nbd" },
        ],
        nics: [port("nic0", 7400), port("nic1", 7401)],
      });
      let hal = machine.boot();
      return {
        get hal() {
          return hal;
        },
        setBattery(state) {
          if (state === "failed") machine.nvram.failBattery();
          else machine.nvram.repairBattery();
        },
        failCache: () => machine.nvram.failPersists(),
        setDiskFault(place, on) {
          shelf.disk(Number(place.split("/")[1])).isAbsent = on;
        },
        async restart() {
          world.settle();
          machine.crash();
          hal = machine.boot();
        },
      };
    },
    connectHost: (address, connected, failed) => world.connectHost(address, connected, failed),
    until: (what, condition) => driver.until(what, condition),
    async close() {
      world.settle();
    },
  };
}
