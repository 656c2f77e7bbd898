/**
 * The host ports of one appliance of a pair. They listen for as long as the appliance runs: a session belongs to the firmware that owns
 * the array here, or is brought to the partner that does, or ends at once.
 */
import type { StreamHandler } from "../../hal/api/byte_stream.ts";
import type { Clock } from "../../hal/api/clock.ts";
import type { HbaPort, HostStream } from "../../hal/api/hba.ts";
import { turnedAway } from "./turned_away.ts";

type Accept = (stream: HostStream) => StreamHandler;

/** A session to the owner: null where nobody can serve it now. `place`: of the port among those of its protocol, from 0. */
export type BringToOwner = (protocol: string, place: number, stream: HostStream) => StreamHandler | null;

export class HostPorts {
  readonly #ports: readonly HostPort[];

  constructor(ports: readonly HbaPort[], clock: Clock, bring: BringToOwner) {
    this.#ports = ports.map((port) => {
      const place = ports.filter(({ protocol }) => protocol === port.protocol).indexOf(port);
      return new HostPort(port, (stream) => bring(port.protocol, place, stream) ?? turnedAway(clock, stream));
    });
  }

  /** For the firmware that is to own the array: they pass its listening on. */
  get ports(): readonly HbaPort[] {
    return this.#ports;
  }

  /** Takes the addresses; `done` with a sentence about the first that could not be taken. */
  open(done: (error: string | null) => void): void {
    let left = this.#ports.length;
    let trouble: string | null = null;
    if (left === 0) done(null);
    for (const port of this.#ports) {
      port.open((error) => {
        trouble ??= error === null ? null : `${port.name}: ${error}`;
        if (--left === 0) done(trouble);
      });
    }
  }

  stop(): void {
    for (const port of this.#ports) port.stop();
  }
}

class HostPort implements HbaPort {
  readonly name: string;
  readonly protocol: string;
  readonly #port: HbaPort;
  readonly #bring: Accept;
  #accept: Accept | null = null;

  constructor(port: HbaPort, bring: Accept) {
    this.#port = port;
    this.name = port.name;
    this.protocol = port.protocol;
    this.#bring = bring;
  }

  get address(): string {
    return this.#port.address;
  }

  open(done: (error: string | null) => void): void {
    this.#port.listen((stream) => (this.#accept ?? this.#bring)(stream), done);
  }

  stop(): void {
    this.#port.close();
  }

  /** The owner's firmware serves here from now on. */
  listen(accept: Accept, done: (error: string | null) => void): void {
    this.#accept = accept;
    done(null);
  }

  close(): void {
    this.#accept = null;
  }
}
