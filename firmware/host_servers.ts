/**
 * The front ends of an appliance on its HBA ports: each port serves the protocol that the board profile gives it.
 *
 * All iSCSI ports are portals of one target, which is the array's: its name is the same after every start and on every appliance of
 * the array. Those of one appliance are a target portal group (RFC 7143 4.2.1). A port's relative target port identifier (SPC-5 4.3.4)
 * is its place among the appliance's iSCSI ports, counted from `firstPort`.
 */
import type { StreamHandler } from "../hal/api/byte_stream.ts";
import type { Hal } from "../hal/api/hal.ts";
import type { HbaPort, HostStream } from "../hal/api/hba.ts";
import { whenDone } from "./codec/promised.ts";
import { IscsiServer } from "./frontend/iscsi/server.ts";
import type { Portal } from "./frontend/iscsi/text_exchange.ts";
import type { TlsUse } from "./frontend/nbd/negotiation.ts";
import { NbdServer } from "./frontend/nbd/server.ts";
import type { DeviceServer } from "./frontend/scsi/device_server.ts";
import type { EventSink } from "./manage/events.ts";
import type { ExportTable } from "./volume/block_request.ts";
import type { HostAuthority } from "./volume/host_access.ts";

/** Which of the array's target ports an appliance has. */
export interface PortPlace {
  /** Relative target port identifier of its first iSCSI port. */
  readonly firstPort: number;
  readonly portalGroup: number;
}

export interface HostServersParts {
  readonly hal: Pick<Hal, "clock" | "entropy" | "digests" | "hbaPorts">;
  readonly events: EventSink;
  readonly exports: ExportTable;
  readonly deviceServer: DeviceServer;
  readonly authority: HostAuthority;
  readonly nbdTls: TlsUse;
  readonly targetName: string;
  readonly place: PortPlace;
  /** Where the partner's iSCSI ports are reached, which SendTargets names after the own ones. */
  readonly partnerPortals?: () => readonly Portal[];
}

type Accept = (stream: HostStream) => StreamHandler;

export class HostServers {
  readonly #parts: HostServersParts;
  readonly #nbd = new Map<HbaPort, NbdServer>();
  readonly #iscsi: IscsiServer | null;

  constructor(parts: HostServersParts) {
    this.#parts = parts;
    this.#iscsi = this.#iscsiPorts().length === 0 ? null : this.#target();
  }

  /** Serves a session that has come in at `port`, which is one of the appliance's. */
  accept(port: HbaPort, stream: HostStream): StreamHandler {
    if (port.protocol === "nbd") return this.#nbdServer(port).accept(stream);
    return this.#iscsi!.accept(stream, this.#parts.place.firstPort + this.#iscsiPorts().indexOf(port));
  }

  /** Listens on every port; a sentence names the one that could not. `accept`: who takes what comes in. */
  async listen(
    accept: (port: HbaPort) => Accept = (port) => (stream) => this.accept(port, stream),
  ): Promise<string | null> {
    for (const port of this.#parts.hal.hbaPorts) {
      if (port.protocol !== "nbd" && port.protocol !== "iscsi") continue;
      const failed = await whenDone<string>((done) => port.listen(accept(port), done));
      if (failed !== null) return `${port.name}: ${failed}`;
    }
    return null;
  }

  /** No new sessions, and the open ones end. */
  close(): void {
    for (const port of this.#parts.hal.hbaPorts) port.close();
    for (const server of this.#nbd.values()) server.closeAll();
    this.#iscsi?.closeAll();
  }

  #iscsiPorts(): HbaPort[] {
    return this.#parts.hal.hbaPorts.filter((port) => port.protocol === "iscsi");
  }

  #nbdServer(port: HbaPort): NbdServer {
    const known = this.#nbd.get(port);
    if (known !== undefined) return known;
    const { hal, events, exports, nbdTls } = this.#parts;
    const server = new NbdServer({ clock: hal.clock, exports, events, tls: nbdTls });
    this.#nbd.set(port, server);
    return server;
  }

  #target(): IscsiServer {
    const { hal, events, authority, deviceServer, targetName, partnerPortals, place } = this.#parts;
    const { portalGroup } = place;
    return new IscsiServer({
      clock: hal.clock,
      entropy: hal.entropy,
      digests: hal.digests,
      hashes: hal.digests,
      authority,
      deviceServer,
      events,
      targetName,
      portalGroup,
      portals: () => [
        ...this.#iscsiPorts().map(({ address }) => ({ address, portalGroup })),
        ...(partnerPortals?.() ?? []),
      ],
    });
  }
}
