/**
 * The volumes of an array of two appliances as the front ends of one of them have them, wherever each part of the array is served.
 *
 * A part's seat comes (`take`) and goes (`leave`, then `settle`); what front ends have open of it outlives that, or is broken off, as
 * their protocol wants it: SCSI nexuses go on at the next seat (`front_nexus.ts`), NBD sessions end and the host asks anew.
 */
import type { Clock } from "../../hal/api/clock.ts";
import type { DeviceServer, Nexus, NexusHost, NexusIdentity } from "../frontend/scsi/device_server.ts";
import type { BlockTarget, ExportInfo, ExportTable } from "../volume/block_request.ts";
import type { ChapCredentials, HostAuthority, HostIdentity, LunInfo } from "../volume/host_access.ts";
import { FrontNexus } from "./front_nexus.ts";
import { FrontTarget, type Stay, type TargetKeeper } from "./front_target.ts";
import { pairLimits } from "./limits.ts";
import type { Seat } from "./seat.ts";
import { whenSo } from "./when_so.ts";

/** What front ends have of one part. */
class Part implements TargetKeeper {
  seat: Seat | null = null;
  stay: Stay = { isOver: false };
  /** Open exports. */
  readonly exports = new Set<FrontTarget>();
  /** Targets at which something is under way. */
  readonly #busy = new Set<FrontTarget>();
  /** Volumes that logical units read from. */
  readonly #media = new WeakMap<BlockTarget, FrontTarget>();

  front(inner: BlockTarget): FrontTarget {
    const known = this.#media.get(inner);
    if (known !== undefined) return known;
    const front = new FrontTarget(inner, this, "");
    this.#media.set(inner, front);
    return front;
  }

  busy(target: FrontTarget): void {
    this.#busy.add(target);
  }

  idle(target: FrontTarget): void {
    this.#busy.delete(target);
  }

  isBusyWith(uuids: readonly string[]): boolean {
    return [...this.#busy].some(({ uuid }) => uuids.includes(uuid));
  }

  leave(): void {
    this.seat = null;
    this.stay.isOver = true;
    this.stay = { isOver: false };
    for (const target of new Set([...this.exports, ...this.#busy])) target.leave();
  }

  settle(): void {
    for (const target of [...this.#busy]) target.settle();
    this.#busy.clear();
  }
}

export class SeatedUnits implements DeviceServer, ExportTable, HostAuthority {
  readonly own: ChapCredentials | null;
  readonly parts: readonly number[];
  readonly #clock: Clock;
  readonly #parts: readonly Part[];
  readonly #nexuses = new Set<FrontNexus>();
  /** By UUID of a volume that is on its way: the parts that it leaves. One that comes back leaves another before the first has let go. */
  readonly #held = new Map<string, Set<number>>();
  /** By LUN: in which part it was when a seat of that was left last. */
  readonly #lastParts = new WeakMap<HostIdentity, Map<number, number>>();
  /** What each host was asked to prove when it logged in. */
  readonly #proofs = new WeakMap<HostIdentity, string>();

  /** `own`: what the target proves of itself (mutual CHAP). */
  constructor(clock: Clock, partCount: number, own: ChapCredentials | null) {
    this.#clock = clock;
    this.#parts = Array.from({ length: partCount }, () => new Part());
    this.parts = this.#parts.map((_, index) => index);
    this.own = own;
  }

  // ---------------------------------------------------------------- seats

  isSeated(part: number): boolean {
    return this.#parts[part]!.seat !== null;
  }

  take(part: number, seat: Seat): void {
    this.#parts[part]!.seat = seat;
    for (const nexus of [...this.#nexuses]) nexus.seat(part);
  }

  /** At once: nothing is asked of the seat from here on. `settle` follows when it touches nothing any more. */
  leave(part: number): void {
    const { seat } = this.#parts[part]!;
    for (const nexus of this.#nexuses) {
      nexus.leave(part);
      const { host } = nexus.identity;
      const known = this.#lastParts.get(host) ?? new Map<number, number>();
      for (const [lun, last] of known) if (last === part) known.delete(lun);
      for (const { lun } of seat?.luns(host) ?? []) known.set(lun, part);
      this.#lastParts.set(host, known);
    }
    this.#parts[part]!.leave();
  }

  settle(part: number): void {
    this.#parts[part]!.settle();
    for (const nexus of [...this.#nexuses]) nexus.settle(part);
  }

  /** The nexus of a host that has logged in here, perhaps at an earlier seat. */
  attachTo(part: number, identity: NexusIdentity, host: NexusHost): Nexus | null {
    const { seat } = this.#parts[part]!;
    if (seat === null) return null;
    seat.proved(identity.host, this.#proofs.get(identity.host) ?? "");
    return seat.device.attach(identity, host);
  }

  // ---------------------------------------------------------------- volumes that move from part to part

  /**
   * Commands to these volumes (UUIDs), which leave the part `from`, wait until `release`; resolves when nothing of theirs is under way at
   * a seat any more, or they have been released. NBD sessions of theirs break off, and their hosts ask anew; those that come meanwhile
   * are to wait (`holdsVolumes`).
   */
  async hold(uuids: readonly string[], from: number): Promise<void> {
    for (const uuid of uuids) this.#held.set(uuid, (this.#held.get(uuid) ?? new Set<number>()).add(from));
    for (const nexus of this.#nexuses) nexus.hold();
    for (const part of this.#parts)
      for (const target of [...part.exports]) if (uuids.includes(target.uuid)) target.breakOff();
    const isQuiet = () =>
      [...this.#nexuses].every((nexus) => !nexus.isBusyWithHeld) &&
      this.#parts.every((part) => !part.isBusyWith(uuids));
    const isReleased = () => !uuids.some((uuid) => this.#held.get(uuid)?.has(from) === true);
    await whenSo(this.#clock, pairLimits.holdLookMs, () => isReleased() || isQuiet());
  }

  get holdsVolumes(): boolean {
    return this.#held.size > 0;
  }

  /** Of what was held for leaving the part `from`. */
  release(uuids: readonly string[], from: number): void {
    // Nothing is released: what no part lists at this moment goes on waiting, whichever half loses the partner first.
    if (uuids.length === 0) return;
    for (const uuid of uuids) {
      const leaves = this.#held.get(uuid);
      leaves?.delete(from);
      if (leaves?.size === 0) this.#held.delete(uuid);
    }
    for (const nexus of [...this.#nexuses]) nexus.release();
  }

  /** Whether a part has the LUN of the host. */
  isListed(host: HostIdentity, lun: number): boolean {
    return this.luns(host).includes(lun);
  }

  /** Every part is served. */
  get isComplete(): boolean {
    return this.#parts.every(({ seat }) => seat !== null);
  }

  /** LUNs of the host whose volumes are held, as far as a part lists them. */
  heldLuns(host: HostIdentity): number[] {
    if (this.#held.size === 0) return [];
    const luns = this.#parts.flatMap(({ seat }) => seat?.luns(host) ?? []);
    return luns.filter(({ uuid }) => this.#held.has(uuid)).map(({ lun }) => lun);
  }

  // ---------------------------------------------------------------- SCSI

  attach(identity: NexusIdentity, host: NexusHost): Nexus {
    const nexus = new FrontNexus(identity, host, this, this.#clock);
    this.#nexuses.add(nexus);
    return nexus;
  }

  /** Which part has the LUN of the host; null: none that is known. */
  partOf(host: HostIdentity, lun: number | null): number | null {
    if (this.#parts.length === 1) return 0;
    const found = this.#parts.findIndex(({ seat }) => seat?.luns(host).some((one) => one.lun === lun) === true);
    if (found >= 0) return found;
    // The LUNs of a part that is just moving are as they were.
    const remembered = this.#lastParts.get(host)?.get(lun ?? -1);
    return remembered !== undefined && this.#parts[remembered]!.seat === null ? remembered : null;
  }

  /** Who answers for a LUN that no part has. */
  get somePart(): number {
    return Math.max(
      0,
      this.#parts.findIndex(({ seat }) => seat !== null),
    );
  }

  /** All LUNs of a host, in whichever part that is served. */
  luns(host: HostIdentity): number[] {
    return this.#parts.flatMap(({ seat }) => seat?.luns(host).map(({ lun }) => lun) ?? []);
  }

  /** What a part has for a host now. */
  lunsIn(part: number, host: HostIdentity): readonly LunInfo[] {
    return this.#parts[part]!.seat?.luns(host) ?? [];
  }

  /** LUNs of the host in parts that nobody serves now, as they were last: they are as little gone as their part. */
  awayLuns(host: HostIdentity): number[] {
    const remembered = [...(this.#lastParts.get(host) ?? [])];
    return remembered.filter(([, part]) => this.#parts[part]!.seat === null).map(([lun]) => lun);
  }

  front(part: number, target: BlockTarget): FrontTarget {
    return this.#parts[part]!.front(target);
  }

  closed(nexus: FrontNexus): void {
    this.#nexuses.delete(nexus);
  }

  // ---------------------------------------------------------------- hosts

  required(host: HostIdentity): "unknown" | "open" | ChapCredentials {
    for (const { seat } of this.#parts) {
      const required = seat?.required(host) ?? "unknown";
      if (required === "unknown") continue;
      this.#proofs.set(host, seat!.proofOf(host));
      return required;
    }
    return "unknown";
  }

  // ---------------------------------------------------------------- NBD

  list(host: HostIdentity): ExportInfo[] {
    return this.#parts.flatMap(({ seat }) => seat?.list(host) ?? []);
  }

  open(name: string, host: HostIdentity): BlockTarget | "unknown" | "not-ready" {
    if (this.#parts.some(({ seat }) => this.#held.has(seat?.uuidOf(name) ?? ""))) return "not-ready";
    let answer: "unknown" | "not-ready" = "unknown";
    for (const part of this.#parts) {
      const opened = part.seat?.open(name, host) ?? "not-ready";
      if (opened === "unknown") continue;
      if (opened !== "not-ready") return exportOf(part, opened, part.seat?.uuidOf(name) ?? "");
      answer = opened;
    }
    return answer;
  }
}

function exportOf(part: Part, opened: BlockTarget, uuid: string): BlockTarget {
  const target: FrontTarget = new FrontTarget(opened, part, uuid, () => part.exports.delete(target));
  part.exports.add(target);
  return target;
}
