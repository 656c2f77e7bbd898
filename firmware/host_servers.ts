/**
 * The front ends of an appliance on its HBA ports: each port serves the protocol that the board profile gives it.
 *
 * All iSCSI ports are portals of one target, which is the array's: its name is the same after every start and on every appliance of
 * the array. A port's relative target port identifier is its place among the iSCSI ports, from 1 (SPC-5 4.3.4).
 */
import type { Hal } from "../hal/api/hal.ts";
import type { HbaPort } from "../hal/api/hba.ts";
import { whenDone } from "./codec/promised.ts";
import { IscsiServer } from "./frontend/iscsi/server.ts";
import type { TlsUse } from "./frontend/nbd/negotiation.ts";
import { NbdServer } from "./frontend/nbd/server.ts";
import { TargetDevice } from "./frontend/scsi/target_device.ts";
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
}

export class HostServers {
  readonly #parts: HostServersParts;
  readonly #device: TargetDevice;
  readonly #nbd: NbdServer[] = [];
  #iscsi: IscsiServer | null = null;

  constructor(parts: HostServersParts) {
    this.#parts = parts;
    const { hal, luns, reservations, targetName } = parts;
    const ports = this.#iscsiPorts().map((_, index) => index + 1);
    const alone = { id: 1, state: "active-optimized", preferred: false, ports } as const;
    this.#device = new TargetDevice({ clock: hal.clock, luns, reservations, targetName, portGroups: () => [alone] });
  }

  /** Whether a SCSI host's reservation forbids hosts without SCSI to read the volume, or to change it. */
  isReserved(uuid: string, changes: boolean): boolean {
    return this.#device.forbidsStranger(uuid, changes);
  }

  /** Listens on every port; a sentence names the one that could not. */
  async listen(): Promise<string | null> {
    const { hal, events, exports, nbdTls } = this.#parts;
    const iscsiPorts = this.#iscsiPorts();
    if (iscsiPorts.length > 0) this.#iscsi = this.#target();
    for (const port of hal.hbaPorts) {
      let failed: string | null = null;
      if (port.protocol === "nbd") {
        const server = new NbdServer({ clock: hal.clock, exports, events, tls: nbdTls });
        failed = await whenDone<string>((done) => port.listen((stream) => server.accept(stream), done));
        this.#nbd.push(server);
      } else if (this.#iscsi !== null && port.protocol === "iscsi") {
        const server = this.#iscsi;
        const relativePort = iscsiPorts.indexOf(port) + 1;
        failed = await whenDone<string>((done) => port.listen((stream) => server.accept(stream, relativePort), done));
      }
      if (failed !== null) return `${port.name}: ${failed}`;
    }
    return null;
  }

  /** No new sessions, and the open ones end. */
  close(): void {
    for (const port of this.#parts.hal.hbaPorts) port.close();
    for (const server of this.#nbd) server.closeAll();
    this.#iscsi?.closeAll();
  }

  #iscsiPorts(): HbaPort[] {
    return this.#parts.hal.hbaPorts.filter((port) => port.protocol === "iscsi");
  }

  #target(): IscsiServer {
    const { hal, events, authority, targetName } = this.#parts;
    return new IscsiServer({
      clock: hal.clock,
      entropy: hal.entropy,
      digests: hal.digests,
      hashes: hal.digests,
      authority,
      deviceServer: this.#device,
      events,
      targetName,
      portals: () => this.#iscsiPorts().map((port) => port.address),
    });
  }
}
