/** Listening for and opening TCP streams: what HBA ports and NICs share. */
import type { Clock } from "../api/clock.ts";
import { causeOf, formatAddress, parseAddress } from "./address.ts";
import { socketCallbacks, type TcpStream } from "./tcp_stream.ts";

export class TcpListener {
  /** As given until listening; then with the real port. */
  address: string;
  readonly #clock: Clock;
  #listener: Bun.TCPSocketListener<TcpStream | null> | null = null;

  constructor(address: string, clock: Clock) {
    this.address = address;
    this.#clock = clock;
  }

  /** `opened` sets the stream's handler. `done` comes after this call has returned; null: listening. */
  listen(opened: (stream: TcpStream) => void, done: (error: string | null) => void): void {
    const error = this.#listen(opened);
    this.#clock.defer(() => done(error));
  }

  #listen(opened: (stream: TcpStream) => void): string | null {
    if (this.#listener !== null) return `already listening on ${this.address}`;
    const address = parseAddress(this.address);
    if (address === null) return `cannot listen on "${this.address}": not HOST:PORT`;
    try {
      this.#listener = Bun.listen<TcpStream | null>({
        hostname: address.host,
        port: address.port,
        allowHalfOpen: true,
        data: null,
        socket: socketCallbacks(this.#clock, opened),
      });
    } catch (error) {
      return `cannot listen on ${this.address}: ${causeOf(error)}`;
    }
    this.address = formatAddress(address.host, this.#listener.port);
    return null;
  }

  close(): void {
    this.#listener?.stop();
    this.#listener = null;
  }
}

/** Opens a stream to `address`; exactly one of `opened` and `failed` is called, after this call has returned. */
export function dialTcp(
  clock: Clock,
  address: string,
  opened: (stream: TcpStream) => void,
  failed: (reason: string) => void,
): void {
  const target = parseAddress(address);
  if (target === null) {
    clock.defer(() => failed(`cannot connect to "${address}": not HOST:PORT`));
    return;
  }
  let isOpen = false;
  Bun.connect<TcpStream | null>({
    hostname: target.host,
    port: target.port,
    allowHalfOpen: true,
    data: null,
    socket: socketCallbacks(clock, (stream) => {
      isOpen = true;
      opened(stream);
    }),
  }).then(
    () => {},
    (error) => {
      if (!isOpen) failed(`cannot connect to ${address}: ${causeOf(error)}`);
    },
  );
}
