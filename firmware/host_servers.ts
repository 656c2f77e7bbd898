/**
 * The front ends of an appliance on its HBA ports: each port serves the protocol that the board profile gives it.
 *
 * All iSCSI ports are portals of one target, which is the array's: its name is the same after every start and on every appliance of
 * the array. Those of one appliance are a target portal group (RFC 7143 4.2.1), and those at addresses that move with the array are one of
 * their own, the same at both appliances. A port's relative target port identifier (SPC-5 4.3.4) is its place among the iSCSI ports of its
 * group, counted from `firstPort`.
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

/** Which of the array's target ports an appliance has, or are at addresses that move. */
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
  /** Of the ports that move; an appliance without a partner has none. */
  readonly movingPlace?: PortPlace;
  /** Where the partner's iSCSI ports are reached, which SendTargets names after the own ones. */
  readonly partnerPortals?: () => readonly Portal[];
}

type Accept = (stream: HostStream) => StreamHandler;

export class HostServers {
  readonly #parts: HostServersParts;
  readonly #nbd = new Map<HbaPort, NbdServer>();
  /** Each portal group has its own sessions: an initiator may have one with each. */
  readonly #iscsi: IscsiServer | null;
  readonly #movingIscsi: IscsiServer | null;

  constructor(parts: HostServersParts) {
    this.#parts = parts;
    const { place, movingPlace } = parts;
    const target = (movesWithOwner: boolean, group: PortPlace | undefined): IscsiServer | null =>
      group === undefined || this.#iscsiPorts(movesWithOwner).length === 0 ? null : this.#target(group.portalGroup);
    this.#iscsi = target(false, place);
    this.#movingIscsi = target(true, movingPlace);
  }

  /** Serves a session that has come in at `port`, which is one of the appliance's. */
  accept(port: HbaPort, stream: HostStream): StreamHandler {
    if (port.protocol === "nbd") return this.#nbdServer(port).accept(stream);
    const { movesWithOwner } = port;
    const { place, movingPlace } = this.#parts;
    const index = this.#iscsiPorts(movesWithOwner).indexOf(port);
    if (movesWithOwner) return this.#movingIscsi!.accept(stream, movingPlace!.firstPort + index);
    return this.#iscsi!.accept(stream, place.firstPort + index);
  }

  /** Listens on every port that stays; a sentence names the one that could not. `accept`: who takes what comes in. */
  async listen(
    accept: (port: HbaPort) => Accept = (port) => (stream) => this.accept(port, stream),
  ): Promise<string | null> {
    for (const port of this.#parts.hal.hbaPorts) {
      if ((port.protocol !== "nbd" && port.protocol !== "iscsi") || port.movesWithOwner) continue;
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
    this.#movingIscsi?.closeAll();
  }

  #iscsiPorts(movesWithOwner: boolean): HbaPort[] {
    const { hbaPorts } = this.#parts.hal;
    return hbaPorts.filter((port) => port.protocol === "iscsi" && port.movesWithOwner === movesWithOwner);
  }

  #nbdServer(port: HbaPort): NbdServer {
    const known = this.#nbd.get(port);
    if (known !== undefined) return known;
    const { hal, events, exports, nbdTls } = this.#parts;
    const server = new NbdServer({ clock: hal.clock, exports, events, tls: nbdTls });
    this.#nbd.set(port, server);
    return server;
  }

  #target(portalGroup: number): IscsiServer {
    const { hal, events, authority, deviceServer, targetName, partnerPortals, place, movingPlace } = this.#parts;
    const portals = (movesWithOwner: boolean, group: PortPlace): Portal[] =>
      this.#iscsiPorts(movesWithOwner).map(({ address }) => ({ address, portalGroup: group.portalGroup }));
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
        ...portals(false, place),
        ...(movingPlace === undefined ? [] : portals(true, movingPlace)),
        ...(partnerPortals?.() ?? []),
      ],
    });
  }
}
