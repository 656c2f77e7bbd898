/**
 * Ports of an appliance that says nothing while its read lease does not hold: what hosts and peers are to hear stays here until the lease
 * is renewed, or for good. To whoever writes, the stream has no room meanwhile.
 *
 * Why here: everything that a host or a peer can act on goes out through a stream, whatever it is (data, status, sense, a reservation, an
 * acknowledgement to a peer), and is found out before it is written.
 */
import type { ByteStream, StreamHandler } from "../../hal/api/byte_stream.ts";
import type { Clock } from "../../hal/api/clock.ts";
import type { HbaPort, HostStream, TlsOutcome } from "../../hal/api/hba.ts";
import type { Nic } from "../../hal/api/nic.ts";
import type { ServiceAddress } from "../../hal/api/service_address.ts";
import type { ReadLease } from "./read_lease.ts";

class LeasedStream<Stream extends ByteStream> implements ByteStream, StreamHandler {
  readonly remote: string;
  protected readonly stream: Stream;
  readonly #lease: ReadLease;
  #handler: StreamHandler | null = null;
  readonly #hasRoom = (): void => this.#handler?.onDrain();

  constructor(stream: Stream, lease: ReadLease) {
    this.remote = stream.remote;
    this.stream = stream;
    this.#lease = lease;
  }

  /** For the port: who uses this end. */
  usedBy(handler: StreamHandler): StreamHandler {
    this.#handler = handler;
    return this;
  }

  write(bytes: Uint8Array): number {
    if (this.#lease.holds) return this.stream.write(bytes);
    this.#lease.await(this.#hasRoom);
    return 0;
  }

  end(): void {
    this.stream.end();
  }

  abort(): void {
    this.stream.abort();
  }

  pause(): void {
    this.stream.pause();
  }

  resume(): void {
    this.stream.resume();
  }

  giveBack(chunk: Uint8Array): void {
    this.stream.giveBack(chunk);
  }

  onData(chunk: Uint8Array): void {
    this.#handler!.onData(chunk);
  }

  onDrain(): void {
    this.#handler!.onDrain();
  }

  onEnd(): void {
    this.#handler!.onEnd();
  }

  onClose(): void {
    this.#lease.forget(this.#hasRoom);
    this.#handler!.onClose();
  }
}

class LeasedHostStream extends LeasedStream<HostStream> implements HostStream {
  startTls(done: (outcome: TlsOutcome) => void): void {
    this.stream.startTls(done);
  }
}

export function leasedPort(port: HbaPort, lease: ReadLease): HbaPort {
  return {
    name: port.name,
    get address() {
      return port.address;
    },
    protocol: port.protocol,
    movesWithOwner: port.movesWithOwner,
    listen: (accept, done) =>
      port.listen((stream) => {
        const leased = new LeasedHostStream(stream, lease);
        return leased.usedBy(accept(leased));
      }, done),
    close: () => port.close(),
  };
}

export function leasedNic(nic: Nic, lease: ReadLease): Nic {
  const under = (accept: (stream: ByteStream) => StreamHandler) => (stream: ByteStream) => {
    const leased = new LeasedStream(stream, lease);
    return leased.usedBy(accept(leased));
  };
  return {
    name: nic.name,
    get address() {
      return nic.address;
    },
    listen: (accept, done) => nic.listen(under(accept), done),
    connect: (address, connected, failed) => nic.connect(address, under(connected), failed),
    shape: (remote, shaping) => nic.shape(remote, shaping),
    shapings: () => nic.shapings(),
    close: () => nic.close(),
  };
}

/** An address is not held anew while its new owner may have it already. */
export function leasedAddress(service: ServiceAddress, lease: ReadLease, clock: Clock): ServiceAddress {
  return {
    address: service.address,
    hold: (wish, done) => {
      if (lease.holds) return service.hold(wish, done);
      clock.defer(() =>
        done(`${service.address}: not held, because the shelf does not confirm that the array is owned here`),
      );
    },
    release: () => service.release(),
  };
}
