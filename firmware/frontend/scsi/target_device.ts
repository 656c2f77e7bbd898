/**
 * The device server of an array: its nexuses and logical units, joined with the volumes that hosts have mapped.
 *
 * Invariants:
 * - One `LogicalUnit` per volume UUID while anybody has it mapped or a task of it runs; what initiators changed of it goes with the
 *   last nexus, but for persistent reservations and registrations, which stay until they are released (in memory) or for good (APTPL),
 *   and all of it when the volume has been served elsewhere (`forgetUnits`): what the shelf has of it then is the truth.
 */
import type { Clock } from "../../../hal/api/clock.ts";
import type { BlockTarget } from "../../volume/block_request.ts";
import type { LunInfo, LunTable, ReservationShelf } from "../../volume/host_access.ts";
import { CommandTable } from "./command_table.ts";
import type { DeviceServer, Nexus, NexusHost, NexusIdentity } from "./device_server.ts";
import { LogicalUnit } from "./logical_unit.ts";
import { type NexusOwner, ScsiNexus } from "./nexus.ts";
import { PartBuffers } from "./part_buffers.ts";
import { isKept, UnitReservations } from "./reservations.ts";
import { Asc } from "./sense.ts";
import { StandingPool } from "./standing.ts";
import { type TargetPortGroup, TargetPortGroups } from "./target_port_groups.ts";
import type { UnitAccess } from "./unit_access.ts";

export interface TargetDeviceParts {
  readonly clock: Clock;
  readonly luns: LunTable;
  readonly reservations: ReservationShelf;
  /** The target's iSCSI name: its SCSI device name. */
  readonly targetName: string;
  /** All target port groups of the array as they are now. Called at the first nexus' first question, and by `portGroupsChanged`. */
  readonly portGroups: () => readonly TargetPortGroup[];
}

export class TargetDevice implements DeviceServer, NexusOwner {
  readonly table = new CommandTable();
  readonly pool = new StandingPool();
  readonly parts = new PartBuffers((task) => this.defer(task));
  readonly portGroups: TargetPortGroups;
  readonly targetName: string;
  readonly #parts: TargetDeviceParts;
  readonly #nexuses = new Set<ScsiNexus>();
  readonly #units = new Map<string, LogicalUnit>();

  constructor(parts: TargetDeviceParts) {
    this.#parts = parts;
    this.targetName = parts.targetName;
    this.portGroups = new TargetPortGroups(parts.portGroups);
    parts.luns.onChanged(() => this.#mappingsChanged());
  }

  attach(identity: NexusIdentity, host: NexusHost): Nexus {
    const nexus = new ScsiNexus(identity, host, this);
    this.#nexuses.add(nexus);
    return nexus;
  }

  /** Whether a host that comes without SCSI meets a reservation on the volume. Asked for each of its requests. */
  forbidsStranger(uuid: string, changes: boolean): boolean {
    const known = this.#units.get(uuid);
    if (known !== undefined) return known.reservations.forbidsStranger(changes);
    // Nobody has it mapped: what there may be is what was kept over the last stop.
    if (!isKept(this.#parts.reservations.load(uuid))) return false;
    return this.#unit(uuid).reservations.forbidsStranger(changes);
  }

  /**
   * The target port groups may have changed: from here on commands are judged by what they are now. Where a state is another, every
   * nexus is told of it at every logical unit (SPC-4 5.16.2.5); where none is, nothing happens.
   */
  portGroupsChanged(): void {
    if (!this.portGroups.refresh()) return;
    for (const unit of this.#units.values()) unit.establish(Asc.asymmetricAccessStateChanged);
  }

  /** Volumes (UUIDs) have gone, or have come: nexuses find new logical units at the next change of mappings. */
  forgetUnits(uuids: readonly string[]): void {
    for (const uuid of uuids) this.#units.delete(uuid);
  }

  // ------------------------------------------------------------------ for the nexuses

  luns(nexus: ScsiNexus): readonly LunInfo[] {
    return this.#parts.luns.luns(nexus.identity.host);
  }

  nexuses(): Iterable<ScsiNexus> {
    return this.#nexuses;
  }

  unitOf(info: LunInfo): LogicalUnit {
    return this.#unit(info.uuid);
  }

  openForItself(nexus: ScsiNexus, info: LunInfo): BlockTarget | "not-ready" | "unknown" {
    return this.#parts.luns.open(info, nexus.identity.host);
  }

  open(nexus: ScsiNexus, access: UnitAccess): "open" | "not-ready" | "unknown" {
    const opened = this.#parts.luns.open(access.info, nexus.identity.host);
    if (typeof opened === "string") return opened;
    access.target = opened;
    access.toldBlocks = opened.blockCount();
    opened.onEnded((reason, isLost) => {
      // The unit goes on elsewhere, and its tasks have ended: the mapping follows.
      if (isLost) access.target = null;
      else nexus.host.nexusEnded(reason);
    });
    return "open";
  }

  defer(task: () => void): void {
    this.#parts.clock.after(0, task);
  }

  after(delayMs: number, task: () => void): void {
    this.#parts.clock.after(delayMs, task);
  }

  closed(nexus: ScsiNexus): void {
    this.#nexuses.delete(nexus);
    this.#forgetUnused();
  }

  unitUnused(unit: LogicalUnit): void {
    const isCurrent = this.#units.get(unit.uuid) === unit;
    if (isCurrent && this.#isForgettable(unit)) this.#units.delete(unit.uuid);
  }

  // ------------------------------------------------------------------

  #unit(uuid: string): LogicalUnit {
    const known = this.#units.get(uuid);
    if (known !== undefined) return known;
    const unit = new LogicalUnit(uuid, new UnitReservations(uuid, this.#parts.reservations));
    this.#units.set(uuid, unit);
    return unit;
  }

  #mappingsChanged(): void {
    for (const nexus of [...this.#nexuses]) nexus.refresh();
    for (const unit of this.#units.values()) this.#noticeSize(unit);
    this.#forgetUnused();
  }

  /** Online growth reaches every initiator (SBC-4 4.5.2), also when one of them has seen it by itself. */
  #noticeSize(unit: LogicalUnit): void {
    for (const access of unit.accesses) {
      const blocks = access.target?.blockCount() ?? access.toldBlocks;
      if (blocks === access.toldBlocks) continue;
      access.toldBlocks = blocks;
      access.establish(Asc.capacityDataHasChanged);
    }
  }

  #forgetUnused(): void {
    for (const [uuid, unit] of this.#units) if (this.#isForgettable(unit)) this.#units.delete(uuid);
  }

  /** Nobody has it mapped, and nothing of it goes on: a task that nobody waits for may still change reservations. */
  #isForgettable(unit: LogicalUnit): boolean {
    const isQuiet = unit.sanitize === null && unit.reservations.persistent.registrants.length === 0;
    return unit.accesses.size === 0 && unit.isIdle && isQuiet;
  }
}
