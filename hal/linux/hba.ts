/** A host-facing port on TCP, with TLS where the board has a certificate. */
import type { StreamHandler } from "../api/byte_stream.ts";
import type { Clock } from "../api/clock.ts";
import type { HbaPort, HostStream } from "../api/hba.ts";
import { TcpListener } from "./tcp_port.ts";
import type { TlsCredentials } from "./tls_files.ts";

export class LinuxHbaPort implements HbaPort {
  readonly name: string;
  readonly protocol: string;
  readonly movesWithOwner: boolean;
  readonly #listener: TcpListener;
  readonly #tls: TlsCredentials | null;

  constructor(
    options: { name: string; listen: string; protocol: string; movesWithOwner?: boolean },
    clock: Clock,
    tls: TlsCredentials | null = null,
  ) {
    this.name = options.name;
    this.protocol = options.protocol;
    this.movesWithOwner = options.movesWithOwner ?? false;
    this.#listener = new TcpListener(options.listen, clock);
    this.#tls = tls;
  }

  get address(): string {
    return this.#listener.address;
  }

  listen(accept: (stream: HostStream) => StreamHandler, done: (error: string | null) => void): void {
    this.#listener.listen((stream) => {
      stream.tls = this.#tls;
      stream.handler = accept(stream);
    }, done);
  }

  close(): void {
    this.#listener.close();
  }
}
