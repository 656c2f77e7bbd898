/**
 * The front ends of an appliance on its HBA ports: each port serves the protocol that the board profile gives it.
 *
 * All iSCSI ports are portals of one target, which is the array's: its name is the same after every start and on every appliance of
 * the array. A port's relative target port identifier (SPC-5 4.3.4) is its place among the iSCSI ports, from 1; of the second appliance
 * of a pair, from 17. Sessions that come in at the partner's ports are served here as those of its own.
 */
import type { StreamHandler } from "../hal/api/byte_stream.ts";
import type { Hal } from "../hal/api/hal.ts";
import type { HbaPort, HostStream } from "../hal/api/hba.ts";
import { assert } from "./codec/assert.ts";
import { whenDone } from "./codec/promised.ts";
import { IscsiServer } from "./frontend/iscsi/server.ts";
import type { TlsUse } from "./frontend/nbd/negotiation.ts";
import { NbdServer } from "./frontend/nbd/server.ts";
import { TargetDevice } from "./frontend/scsi/target_device.ts";
import type { TargetPortGroup } from "./frontend/scsi/target_port_groups.ts";
import type { EventSink } from "./manage/events.ts";
import type { ExportTable } from "./volume/block_request.ts";
import type { HostAuthority, LunTable, ReservationShelf } from "./volume/host_access.ts";

export interface HostServersParts {
  readonly hal: Hal;
  readonly events: EventSink;
  readonly exports: ExportTable;
  readonly luns: LunTable;
  readonly authority: HostAuthority;
  readonly reservations: ReservationShelf;
  readonly nbdTls: TlsUse;
  readonly targetName: string;
  /** An appliance of a pair; absent: the array is this one appliance. */
  readonly portGroups?: PairPortGroups;
  /** `HOST:PORT` of the partner's iSCSI ports, which SendTargets names after the own ones. */
  readonly partnerPortals?: () => readonly string[];
}

/** iSCSI ports of one appliance of a pair, so that the relative target port identifiers of both never meet. */
export const pairPortsMax = 16;

export interface PairPortGroups {
  /** Relative target port identifier of this appliance's first iSCSI port: 1, or 17 for the second appliance by name. */
  readonly first: number;
  /** The target port groups of both appliances as they are now; see `HostServers.portGroupsChanged`. */
  groups(): readonly TargetPortGroup[];
}

export class HostServers {
  readonly #parts: HostServersParts;
  readonly #device: TargetDevice;
  readonly #nbd: NbdServer[] = [];
  /** By the place of the partner's port; each has the limits of one of the own. */
  readonly #partnerNbd = new Map<number, NbdServer>();
  readonly #firstPort: number;
  #iscsi: IscsiServer | null = null;
  #isServing = false;

  constructor(parts: HostServersParts) {
    this.#parts = parts;
    const { hal, luns, reservations, targetName, portGroups } = parts;
    this.#firstPort = portGroups?.first ?? 1;
    assert(
      portGroups === undefined || [1, 1 + pairPortsMax].includes(portGroups.first),
      "host servers: the ports of a pair are numbered from 1 and from 17",
    );
    const ports = this.#iscsiPorts().map((_, index) => this.#firstPort + index);
    assert(
      portGroups === undefined || ports.length <= pairPortsMax,
      "host servers: an appliance of a pair has 16 iSCSI ports",
    );
    const alone: readonly TargetPortGroup[] = [{ id: 1, state: "active-optimized", preferred: false, ports }];
    const groups = (): readonly TargetPortGroup[] => portGroups?.groups() ?? alone;
    this.#device = new TargetDevice({ clock: hal.clock, luns, reservations, targetName, portGroups: groups });
  }

  /** Whether a SCSI host's reservation forbids hosts without SCSI to read the volume, or to change it. */
  isReserved(uuid: string, changes: boolean): boolean {
    return this.#device.forbidsStranger(uuid, changes);
  }

  /** What `PairPortGroups.groups` says is another: SCSI hosts are told, and served accordingly (`TargetDevice.portGroupsChanged`). */
  portGroupsChanged(): void {
    this.#device.portGroupsChanged();
  }

  /**
   * A session that came in at the partner's port number `portIndex`, from 0, among those of the protocol. `stream.remote` is the host's
   * address, as at an own port. null: this is no appliance of a pair, it does not serve (not yet, or not any more), or there can be no
   * such port; the stream is the caller's to end.
   */
  acceptForPartner(protocol: "nbd" | "iscsi", portIndex: number, stream: HostStream): StreamHandler | null {
    if (!this.#isServing || this.#parts.portGroups === undefined) return null;
    if (!Number.isInteger(portIndex) || portIndex < 0 || portIndex >= pairPortsMax) return null;
    if (protocol === "nbd") return this.#nbdForPartner(portIndex).accept(stream);
    const first = this.#firstPort === 1 ? 1 + pairPortsMax : 1;
    return this.#iscsi?.accept(stream, first + portIndex) ?? null;
  }

  /** Listens on every port; a sentence names the one that could not. */
  async listen(): Promise<string | null> {
    const { hal, portGroups } = this.#parts;
    const iscsiPorts = this.#iscsiPorts();
    if (iscsiPorts.length > 0 || portGroups !== undefined) this.#iscsi = this.#target();
    this.#isServing = true;
    for (const port of hal.hbaPorts) {
      let failed: string | null = null;
      if (port.protocol === "nbd") {
        const server = this.#nbdServer();
        failed = await whenDone<string>((done) => port.listen((stream) => server.accept(stream), done));
      } else if (this.#iscsi !== null && port.protocol === "iscsi") {
        const server = this.#iscsi;
        const relativePort = this.#firstPort + iscsiPorts.indexOf(port);
        failed = await whenDone<string>((done) => port.listen((stream) => server.accept(stream, relativePort), done));
      }
      if (failed !== null) return `${port.name}: ${failed}`;
    }
    return null;
  }

  /** No new sessions, and the open ones end. */
  close(): void {
    this.#isServing = false;
    for (const port of this.#parts.hal.hbaPorts) port.close();
    for (const server of this.#nbd) server.closeAll();
    this.#iscsi?.closeAll();
  }

  #iscsiPorts(): HbaPort[] {
    return this.#parts.hal.hbaPorts.filter((port) => port.protocol === "iscsi");
  }

  #nbdServer(): NbdServer {
    const { hal, events, exports, nbdTls } = this.#parts;
    const server = new NbdServer({ clock: hal.clock, exports, events, tls: nbdTls });
    this.#nbd.push(server);
    return server;
  }

  #nbdForPartner(portIndex: number): NbdServer {
    const known = this.#partnerNbd.get(portIndex);
    if (known !== undefined) return known;
    const server = this.#nbdServer();
    this.#partnerNbd.set(portIndex, server);
    return server;
  }

  #target(): IscsiServer {
    const { hal, events, authority, targetName, partnerPortals } = this.#parts;
    return new IscsiServer({
      clock: hal.clock,
      entropy: hal.entropy,
      digests: hal.digests,
      hashes: hal.digests,
      authority,
      deviceServer: this.#device,
      events,
      targetName,
      // An address that moves with the array is one portal, though both have it.
      portals: () => [...new Set([...this.#iscsiPorts().map((port) => port.address), ...(partnerPortals?.() ?? [])])],
    });
  }
}
