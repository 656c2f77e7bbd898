/**
 * The heartbeats of one boot, sent beside its main loop: they go on while that is busy (`MockAppliance.block`), and end when the process
 * is stopped or dead.
 *
 * Fault model: `link.ts` (delays, cuts, a filter that lets no heartbeats through); unlike a stream's bytes, what is under way when the link is cut is lost, and late beats may
 * overtake each other.
 */
import type { Heard, HeartbeatChannel, HeartbeatPath, Heartbeats } from "../api/heartbeats.ts";
import { eventKind } from "./event_heap.ts";
import type { Kernel } from "./kernel.ts";
import type { Lifetime } from "./lifetime.ts";
import type { Network } from "./network.ts";
import { sameBytes } from "./runtime.ts";

const beatBytes = 40;

interface Beat {
  readonly key: Uint8Array;
  readonly number: number;
  readonly turns: number;
  readonly stillMs: number;
}

/** Who hears at which address; of the whole world. */
export class HeartbeatEars {
  readonly #ears = new Map<string, Set<MockChannel>>();

  add(address: string, channel: MockChannel): void {
    const ears = this.#ears.get(address) ?? new Set<MockChannel>();
    ears.add(channel);
    this.#ears.set(address, ears);
  }

  remove(address: string, channel: MockChannel): void {
    this.#ears.get(address)?.delete(channel);
  }

  at(address: string): MockChannel[] {
    return [...(this.#ears.get(address) ?? [])];
  }
}

export interface HeartbeatMachine {
  readonly kernel: Kernel;
  readonly network: Network;
  readonly lifetime: Lifetime;
  readonly name: string;
  /** Of a NIC here, by its name. */
  addressOf(nic: string): string;
  turns(): number;
}

export class MockHeartbeats implements Heartbeats {
  readonly #machine: HeartbeatMachine;
  #turns = 0;

  constructor(machine: Omit<HeartbeatMachine, "turns">) {
    this.#machine = { ...machine, turns: () => this.#turns };
  }

  turned(): void {
    this.#turns++;
  }

  open(path: HeartbeatPath): HeartbeatChannel {
    const channel = new MockChannel(this.#machine, path);
    if (this.#machine.lifetime.effect()) channel.begin();
    return channel;
  }
}

class MockChannel implements HeartbeatChannel {
  readonly #machine: HeartbeatMachine;
  readonly #path: HeartbeatPath;
  #isOpen = false;
  #sent = 0;
  #heard = 0;
  #tickMs: number;
  #turns = -1;
  #stillMs = 0;
  #silentMs = 0;
  #theirs: Pick<Heard, "stillMs" | "turns"> = { stillMs: 0, turns: 0 };

  constructor(machine: HeartbeatMachine, path: HeartbeatPath) {
    this.#machine = machine;
    this.#path = path;
    this.#tickMs = machine.kernel.nowMs;
  }

  begin(): void {
    this.#isOpen = true;
    this.#ears.add(this.#ownAddress, this);
    this.#tick();
  }

  heard(): Heard {
    return { ...this.#theirs, silentMs: this.#silentMs, trouble: null };
  }

  close(): void {
    if (!this.#isOpen || !this.#machine.lifetime.effect()) return;
    this.#end();
  }

  get #ears(): HeartbeatEars {
    return this.#machine.network.heartbeatEars;
  }

  get #ownAddress(): string {
    return this.#machine.addressOf(this.#path.nic);
  }

  #end(): void {
    this.#isOpen = false;
    this.#ears.remove(this.#ownAddress, this);
  }

  /** The world's own event, and not the firmware's: a busy main loop does not hold it. */
  #tick(): void {
    const { kernel, lifetime } = this.#machine;
    if (!lifetime.alive) return this.#end();
    if (!this.#isOpen) return;
    if (!lifetime.paused) this.#beat();
    kernel.schedule(this.#path.intervalMs, eventKind.heartbeat, null, () => this.#tick());
  }

  #beat(): void {
    const { kernel, network, name, turns } = this.#machine;
    const { intervalMs, nic, address, sendKey } = this.#path;
    const sinceMs = Math.min(kernel.nowMs - this.#tickMs, 2 * intervalMs);
    this.#tickMs = kernel.nowMs;
    this.#stillMs = turns() === this.#turns ? this.#stillMs + sinceMs : 0;
    this.#turns = turns();
    this.#silentMs += sinceMs;
    const beat = { key: sendKey, number: ++this.#sent, turns: this.#turns, stillMs: this.#stillMs };
    const place = network.placeOf(address);
    if (place === null || place === "nobody") return;
    const link = network.link(name, nic, place.machine);
    if (link.isCut) return;
    const atMs = link.arrivalMs(beatBytes);
    kernel.scheduleAt(atMs, eventKind.heartbeat, null, () => {
      if (!link.passed(atMs) || !network.faults.heartbeatsPass) return;
      for (const ear of this.#ears.at(address)) ear.#received(beat);
    });
  }

  #received({ key, number, turns, stillMs }: Beat): void {
    // A stopped process finds it in its socket when it goes on. No silence counts meanwhile, so that it is heard now comes to the same.
    if (!sameBytes(key, this.#path.hearKey) || number <= this.#heard || !this.#machine.lifetime.alive) return;
    this.#heard = number;
    this.#silentMs = 0;
    this.#theirs = { stillMs, turns };
  }
}
