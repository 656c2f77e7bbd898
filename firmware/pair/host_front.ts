/**
 * The front ends of one appliance of a pair. They serve for as long as the appliance runs, whoever owns the array: a host's session
 * stays where it came in, and what it asks for goes to the seat that has it (`seated_units.ts`).
 *
 * Sessions at addresses that move (`service_ports.ts`) end when those do, and begin anew at the next owner.
 *
 * A session that comes in while nobody serves waits (`waiting_sessions.ts`), or ends at once where waiting is not worth while.
 */
import type { StreamHandler } from "../../hal/api/byte_stream.ts";
import type { Hal } from "../../hal/api/hal.ts";
import type { HbaPort, HostStream } from "../../hal/api/hba.ts";
import type { Portal } from "../frontend/iscsi/text_exchange.ts";
import type { TlsUse } from "../frontend/nbd/negotiation.ts";
import { HostServers, type PortPlace } from "../host_servers.ts";
import type { EventSink } from "../manage/events.ts";
import type { ChapCredentials } from "../volume/host_access.ts";
import type { PairRole } from "./frame.ts";
import { movingPlace } from "./port_groups.ts";
import type { Seat } from "./seat.ts";
import { SeatedUnits } from "./seated_units.ts";
import { type MovingPort, ServicePorts } from "./service_ports.ts";
import { turnedAway } from "./turned_away.ts";
import { WaitingSessions } from "./waiting_sessions.ts";

export interface HostFrontOptions {
  readonly hal: Pick<Hal, "clock" | "entropy" | "digests" | "hbaPorts" | "serviceAddresses">;
  readonly events: EventSink;
  readonly nbdTls: TlsUse;
  readonly targetName: string;
  /** What the target proves of itself; null: it cannot. */
  readonly own: ChapCredentials | null;
  readonly place: PortPlace;
  /** Into how many parts the array is divided, each served by one appliance. */
  readonly partCount: number;
  partnerPortals(): readonly Portal[];
  /** Nobody serves the part now, and somebody is about to. */
  isWorthWaiting(part: number): boolean;
}

/** Addresses that move are where this part of the array is; hosts reach the other parts there too. */
const servicePart = 0;

export class HostFront {
  readonly #options: HostFrontOptions;
  readonly #units: SeatedUnits;
  readonly #servers: HostServers;
  readonly #waiting: WaitingSessions;
  readonly #service: ServicePorts;

  constructor(options: HostFrontOptions) {
    this.#options = options;
    const { hal, events, nbdTls, targetName, own, place } = options;
    this.#units = new SeatedUnits(hal.clock, options.partCount, own);
    this.#waiting = new WaitingSessions(hal.clock);
    this.#servers = new HostServers({
      hal,
      events,
      exports: this.#units,
      deviceServer: this.#units,
      authority: this.#units,
      nbdTls,
      targetName,
      place,
      movingPlace,
      partnerPortals: () => options.partnerPortals(),
    });
    const ports = hal.hbaPorts
      .filter(({ movesWithOwner }) => movesWithOwner)
      .map((port): MovingPort => {
        const accept = (stream: HostStream) => this.#service.keep(stream, this.#take(port, stream));
        return { name: port.name, open: (done) => port.listen(accept, done), stop: () => port.close() };
      });
    this.#service = new ServicePorts({ addresses: hal.serviceAddresses, ports, clock: hal.clock, events });
  }

  /** Takes the addresses that stay; a sentence about the first that could not be taken. */
  open(): Promise<string | null> {
    return this.#servers.listen((port) => (stream) => this.#take(port, stream));
  }

  #take(port: HbaPort, stream: HostStream): StreamHandler {
    const { isWorthWaiting, hal } = this.#options;
    const unseated = () => this.#units.parts.filter((part) => !this.#units.isSeated(part));
    const mayCome = () => unseated().some((part) => isWorthWaiting(part));
    const isServed = () => unseated().length < this.#units.parts.length;
    // An NBD session opens one volume, once: not while it may be on its way to the other part.
    const mayMove = () => port.protocol === "nbd" && this.#units.holdsVolumes;
    const isFound = () => !mayMove() && (unseated().length === 0 || (isServed() && !mayCome()));
    const find = () => (isFound() ? this.#servers.accept(port, stream) : null);
    const served = find();
    if (served !== null) return served;
    // What is served is served also when the rest does not come in time.
    const late = () => (isServed() ? this.#servers.accept(port, stream) : null);
    return (mayCome() || mayMove() ? this.#waiting.add(stream, find, late) : null) ?? turnedAway(hal.clock, stream);
  }

  /** The part is served by `seat` from now on. */
  take(part: number, seat: Seat): void {
    this.#units.take(part, seat);
    this.#waiting.look();
  }

  /** See `seat.ts`. Whoever has come in at an address that moves is sent to the next owner. */
  leave(part: number): void {
    this.#units.leave(part);
    if (part === servicePart) this.#service.shut();
  }

  settle(part: number): void {
    this.#units.settle(part);
  }

  /** See `SeatedUnits`. */
  hold(uuids: readonly string[], from: number): Promise<void> {
    return this.#units.hold(uuids, from);
  }

  release(uuids: readonly string[], from: number): void {
    this.#units.release(uuids, from);
    this.#waiting.look();
  }

  /** Addresses that move come where their part is opened, and stay until the partner has them: hosts find somebody all the time. */
  roleIs(part: number, role: PairRole): void {
    if (part !== servicePart) return;
    if (role === "starting" || role === "owner") this.#service.come();
    else if (role !== "standby") this.#service.release();
  }

  /** As the partner of a standby. */
  partnerIs(part: number, role: PairRole): void {
    if (part !== servicePart) return;
    if (role === "starting" || role === "owner") this.#service.release();
  }

  /** Why hosts do not reach the array at an address that moves; null: they do, or it is not here. */
  get serviceTrouble(): string | null {
    return this.#service.trouble;
  }

  /** No new sessions, and the open ones end in order. */
  close(): void {
    this.#servers.close();
    this.#service.release();
    this.#waiting.closeAll();
  }
}
