/**
 * The host ports of one appliance of a pair. They listen for as long as the appliance runs: a session belongs to the firmware that owns
 * the array here, or is brought to the partner that does, or waits until one of them does, or ends at once where that is not to be
 * expected. Those on an address that moves listen where the array is (`service_ports.ts`).
 */
import type { StreamHandler } from "../../hal/api/byte_stream.ts";
import type { Clock, Timer } from "../../hal/api/clock.ts";
import type { Hal } from "../../hal/api/hal.ts";
import type { HbaPort, HostStream } from "../../hal/api/hba.ts";
import type { EventSink } from "../manage/events.ts";
import type { PairRole } from "./frame.ts";
import { pairLimits } from "./limits.ts";
import { ServicePorts } from "./service_ports.ts";
import { turnedAway } from "./turned_away.ts";
import { WaitingSessions } from "./waiting_sessions.ts";

type Accept = (stream: HostStream) => StreamHandler;

/** A session to the owner: null where nobody can serve it now. `place`: of the port among those of its protocol, from 0. */
export type BringToOwner = (protocol: string, place: number, stream: HostStream) => StreamHandler | null;

/** What the owner's firmware knows of its groups. */
export interface GroupRoles {
  entries(): readonly { readonly replication: { readonly settled: boolean } }[];
}

export interface HostPortsParts {
  readonly hal: Pick<Hal, "hbaPorts" | "serviceAddresses" | "clock">;
  readonly events: EventSink;
  readonly bring: BringToOwner;
  /** Nobody serves now, and somebody is about to. */
  readonly isWorthWaiting: () => boolean;
}

export class HostPorts {
  readonly #parts: HostPortsParts;
  readonly #clock: Clock;
  readonly #ports: readonly HostPort[];
  readonly #service: ServicePorts;
  readonly #waiting: WaitingSessions;
  #opening: Timer | null = null;
  #letsHostsIn = false;

  constructor(parts: HostPortsParts) {
    const { hbaPorts, serviceAddresses, clock } = parts.hal;
    this.#parts = parts;
    this.#clock = clock;
    this.#waiting = new WaitingSessions(clock);
    this.#ports = hbaPorts.map((port) => {
      const place = hbaPorts.filter(({ protocol }) => protocol === port.protocol).indexOf(port);
      return new HostPort(port, (taker, stream) => this.#take(taker, place, stream));
    });
    const ports = this.#ports.filter(({ movesWithOwner }) => movesWithOwner);
    this.#service = new ServicePorts({ addresses: serviceAddresses, ports, clock, events: parts.events });
  }

  #take(port: HostPort, place: number, stream: HostStream): StreamHandler {
    const { bring, isWorthWaiting } = this.#parts;
    const find = () => {
      if (port.accept === null) return bring(port.protocol, place, stream);
      return this.#letsHostsIn ? port.accept(stream) : null;
    };
    const served = find();
    if (served !== null) return served;
    const waits = isWorthWaiting() ? this.#waiting.add(stream, find, port.movesWithOwner) : null;
    return waits ?? turnedAway(this.#clock, stream);
  }

  /** The owner's firmware here serves those who come in. */
  get letsHostsIn(): boolean {
    return this.#letsHostsIn;
  }

  /** The owner's firmware runs here. Before its groups know their roles it would only end the sessions of hosts again. */
  letIn(groups: GroupRoles, done: () => void): void {
    const clock = this.#clock;
    const knowsRoles = () => groups.entries().every(({ replication }) => replication.settled);
    const latestMs = clock.nowMs() + pairLimits.rolesMs;
    const look = (): void => {
      if (!knowsRoles() && clock.nowMs() < latestMs) {
        this.#opening = clock.after(pairLimits.lookMs, look);
        return;
      }
      this.#opening = null;
      this.#letsHostsIn = true;
      done();
      this.#waiting.look();
    };
    look();
  }

  letNobodyIn(): void {
    this.#opening?.cancel();
    this.#opening = null;
    this.#letsHostsIn = false;
    this.#service.shut();
    this.#waiting.closeMoving();
  }

  /** Addresses that move come where the array is opened, and stay until the partner has them: hosts find somebody all the time. */
  roleIs(role: PairRole): void {
    if (role === "starting" || role === "owner") this.#service.come();
    else if (role !== "standby") this.#service.release();
  }

  /** As the partner of a standby. */
  partnerIs(role: PairRole): void {
    if (role === "starting" || role === "owner") this.#service.release();
  }

  /** Why hosts do not reach the array at an address that moves; null: they do, or it is not here. */
  get serviceTrouble(): string | null {
    return this.#service.trouble;
  }

  partnerServes(): void {
    this.#waiting.look();
  }

  /** For the firmware that is to own the array: they pass its listening on. */
  get ports(): readonly HbaPort[] {
    return this.#ports;
  }

  /** Takes the addresses that stay; `done` with a sentence about the first that could not be taken. */
  open(done: (error: string | null) => void): void {
    const ports = this.#ports.filter(({ movesWithOwner }) => !movesWithOwner);
    let left = ports.length;
    let trouble: string | null = null;
    if (left === 0) done(null);
    for (const port of ports) {
      port.open((error) => {
        trouble ??= error === null ? null : `${port.name}: ${error}`;
        if (--left === 0) done(trouble);
      });
    }
  }

  stop(): void {
    this.letNobodyIn();
    this.#service.release();
    for (const port of this.#ports) port.stop();
    this.#waiting.closeAll();
  }
}

class HostPort implements HbaPort {
  readonly name: string;
  readonly protocol: string;
  readonly movesWithOwner: boolean;
  /** Of the owner's firmware while it listens here. */
  accept: Accept | null = null;
  readonly #port: HbaPort;
  readonly #take: (port: HostPort, stream: HostStream) => StreamHandler;

  constructor(port: HbaPort, take: (port: HostPort, stream: HostStream) => StreamHandler) {
    this.#port = port;
    this.name = port.name;
    this.protocol = port.protocol;
    this.movesWithOwner = port.movesWithOwner;
    this.#take = take;
  }

  get address(): string {
    return this.#port.address;
  }

  open(done: (error: string | null) => void): void {
    this.#port.listen((stream) => this.#take(this, stream), done);
  }

  stop(): void {
    this.#port.close();
  }

  /** The owner's firmware serves here from now on. */
  listen(accept: Accept, done: (error: string | null) => void): void {
    this.accept = accept;
    done(null);
  }

  close(): void {
    this.accept = null;
  }
}
