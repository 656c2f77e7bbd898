/**
 * The volumes of an array of two appliances as the front ends of one of them have them, wherever each part of the array is served.
 *
 * A part's seat comes (`take`) and goes (`leave`, then `settle`); what front ends have open of it outlives that, or is broken off, as
 * their protocol wants it: SCSI nexuses go on at the next seat (`front_nexus.ts`), NBD sessions end and the host asks anew.
 */
import type { Clock } from "../../hal/api/clock.ts";
import type { DeviceServer, Nexus, NexusHost, NexusIdentity } from "../frontend/scsi/device_server.ts";
import type { BlockTarget, ExportInfo, ExportTable } from "../volume/block_request.ts";
import type { ChapCredentials, HostAuthority, HostIdentity } from "../volume/host_access.ts";
import { FrontNexus } from "./front_nexus.ts";
import { FrontTarget, type TargetKeeper } from "./front_target.ts";
import type { Seat } from "./seat.ts";

/** What front ends have of one part. */
class Part implements TargetKeeper {
  seat: Seat | null = null;
  /** Open exports. */
  readonly exports = new Set<FrontTarget>();
  /** Targets at which something is under way. */
  readonly #busy = new Set<FrontTarget>();
  /** Volumes that logical units read from. */
  readonly #media = new WeakMap<BlockTarget, FrontTarget>();

  front(inner: BlockTarget): FrontTarget {
    const known = this.#media.get(inner);
    if (known !== undefined) return known;
    const front = new FrontTarget(inner, this);
    this.#media.set(inner, front);
    return front;
  }

  busy(target: FrontTarget): void {
    this.#busy.add(target);
  }

  idle(target: FrontTarget): void {
    this.#busy.delete(target);
  }

  leave(): void {
    this.seat = null;
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
    for (const nexus of this.#nexuses) nexus.leave(part);
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

  // ---------------------------------------------------------------- SCSI

  attach(identity: NexusIdentity, host: NexusHost): Nexus {
    const nexus = new FrontNexus(identity, host, this, this.#clock);
    this.#nexuses.add(nexus);
    return nexus;
  }

  /** Which part has the LUN of the host; of those that nobody has, the first. */
  partOf(host: HostIdentity, lun: number | null): number {
    if (this.#parts.length === 1) return 0;
    const found = this.#parts.findIndex(({ seat }) => seat?.luns(host).some((one) => one.lun === lun) === true);
    return Math.max(0, found);
  }

  front(part: number, target: BlockTarget): FrontTarget {
    return this.#parts[part]!.front(target);
  }

  closed(nexus: FrontNexus): void {
    this.#nexuses.delete(nexus);
  }

  // ---------------------------------------------------------------- hosts

  required(host: HostIdentity): "unknown" | "open" | ChapCredentials {
    const seat = this.#parts.find((part) => part.seat !== null)?.seat ?? null;
    if (seat === null) return "unknown";
    const required = seat.required(host);
    this.#proofs.set(host, seat.proofOf(host));
    return required;
  }

  // ---------------------------------------------------------------- NBD

  list(host: HostIdentity): ExportInfo[] {
    return this.#parts.flatMap(({ seat }) => seat?.list(host) ?? []);
  }

  open(name: string, host: HostIdentity): BlockTarget | "unknown" | "not-ready" {
    let answer: "unknown" | "not-ready" = "unknown";
    for (const part of this.#parts) {
      const opened = part.seat?.open(name, host) ?? "not-ready";
      if (opened === "unknown") continue;
      if (opened !== "not-ready") return exportOf(part, opened);
      answer = opened;
    }
    return answer;
  }
}

function exportOf(part: Part, opened: BlockTarget): BlockTarget {
  const target: FrontTarget = new FrontTarget(opened, part, () => part.exports.delete(target));
  part.exports.add(target);
  return target;
}
