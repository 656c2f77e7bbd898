/** A host-facing port on TCP. */
import type { ByteStream, StreamHandler } from "../api/byte_stream.ts";
import type { Clock } from "../api/clock.ts";
import type { HbaPort } from "../api/hba.ts";
import { TcpListener } from "./tcp_port.ts";

export class LinuxHbaPort implements HbaPort {
  readonly name: string;
  readonly protocol: string;
  readonly #listener: TcpListener;

  constructor(options: { name: string; listen: string; protocol: string }, clock: Clock) {
    this.name = options.name;
    this.protocol = options.protocol;
    this.#listener = new TcpListener(options.listen, clock);
  }

  get address(): string {
    return this.#listener.address;
  }

  listen(accept: (stream: ByteStream) => StreamHandler, done: (error: string | null) => void): void {
    this.#listener.listen((stream) => {
      stream.handler = accept(stream);
    }, done);
  }

  close(): void {
    this.#listener.close();
  }
}
