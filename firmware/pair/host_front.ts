/**
 * The front ends of one appliance of a pair. They serve for as long as the appliance runs, whoever owns the array: a host's session
 * stays where it came in, and what it asks for goes to the seat that has it (`seated_units.ts`).
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
import type { Seat } from "./seat.ts";
import { SeatedUnits } from "./seated_units.ts";
import { turnedAway } from "./turned_away.ts";
import { WaitingSessions } from "./waiting_sessions.ts";

export interface HostFrontOptions {
  readonly hal: Pick<Hal, "clock" | "entropy" | "digests" | "hbaPorts">;
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

export class HostFront {
  readonly #options: HostFrontOptions;
  readonly #units: SeatedUnits;
  readonly #servers: HostServers;
  readonly #waiting: WaitingSessions;

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
      partnerPortals: () => options.partnerPortals(),
    });
  }

  /** Takes the addresses; a sentence about the first that could not be taken. */
  open(): Promise<string | null> {
    return this.#servers.listen((port) => (stream) => this.#take(port, stream));
  }

  #take(port: HbaPort, stream: HostStream): StreamHandler {
    const { isWorthWaiting, hal } = this.#options;
    const unseated = () => this.#units.parts.filter((part) => !this.#units.isSeated(part));
    const mayCome = () => unseated().some((part) => isWorthWaiting(part));
    const isServed = () => unseated().length < this.#units.parts.length;
    const find = () =>
      unseated().length === 0 || (isServed() && !mayCome()) ? this.#servers.accept(port, stream) : null;
    const served = find();
    if (served !== null) return served;
    // What is served is served also when the rest does not come in time.
    const late = () => (isServed() ? this.#servers.accept(port, stream) : null);
    return (mayCome() ? this.#waiting.add(stream, find, late) : null) ?? turnedAway(hal.clock, stream);
  }

  /** The part is served by `seat` from now on. */
  take(part: number, seat: Seat): void {
    this.#units.take(part, seat);
    this.#waiting.look();
  }

  /** See `seat.ts`. */
  leave(part: number): void {
    this.#units.leave(part);
  }

  settle(part: number): void {
    this.#units.settle(part);
  }

  /** See `SeatedUnits`. */
  hold(uuids: readonly string[]): Promise<void> {
    return this.#units.hold(uuids);
  }

  release(uuids: readonly string[]): void {
    this.#units.release(uuids);
  }

  /** No new sessions, and the open ones end in order. */
  close(): void {
    this.#servers.close();
    this.#waiting.closeAll();
  }
}
