/**
 * The reservations of a logical unit as its nexuses meet them: persistent ones (SPC-5 5.14), kept on the shelf when an initiator asked
 * for that or when the device server may move (a pair), and those of RESERVE and RELEASE (SPC-2 5.5.1), which end with their nexus.
 */
import type { ReservationShelf } from "../../volume/host_access.ts";
import type { AccessClass } from "./command.ts";
import type { ScsiNexus } from "./nexus.ts";
import { type NexusName, PersistentReservations, type SanitizeNote, sanitizingIn } from "./persistent_reservations.ts";

export class UnitReservations {
  readonly persistent: PersistentReservations;
  readonly #uuid: string;
  readonly #shelf: ReservationShelf;
  /** RESERVE(6) or RESERVE(10). */
  #reservedBy: ScsiNexus | null = null;
  #sanitizing: SanitizeNote | null;
  #isKept: boolean;
  #keeping = false;

  constructor(uuid: string, shelf: ReservationShelf) {
    this.#uuid = uuid;
    this.#shelf = shelf;
    const document = shelf.load(uuid);
    this.#isKept = isKept(document);
    this.#sanitizing = sanitizingIn(document);
    this.persistent = PersistentReservations.decode(document);
  }

  conflicts(nexus: ScsiNexus, access: AccessClass): boolean {
    if (access === "free") return false;
    const { persistent } = this;
    if (this.#reservedBy !== null && this.#reservedBy !== nexus) return true;
    return persistent.reservation !== null && persistent.forbids(nameOf(nexus), access === "change");
  }

  /** For hosts that come without SCSI. */
  forbidsStranger(changes: boolean): boolean {
    return this.#reservedBy !== null || this.persistent.forbidsStranger(changes);
  }

  /** RESERVE: false when another nexus, or a persistent reservation, is in the way (SPC-5 5.14.3). */
  reserve(nexus: ScsiNexus): boolean {
    if (this.#reservedBy !== null && this.#reservedBy !== nexus) return false;
    if (this.persistent.registrants.length > 0) return false;
    this.#reservedBy = nexus;
    return true;
  }

  /** RELEASE: does nothing for one who has not reserved. */
  release(nexus: ScsiNexus): void {
    if (this.#reservedBy === nexus) this.#reservedBy = null;
  }

  /** Whether RESERVE has reserved it for another nexus: persistent requests conflict with that. */
  isReservedFor(nexus: ScsiNexus): boolean {
    return this.#reservedBy !== null && this.#reservedBy !== nexus;
  }

  unitReset(): void {
    this.#reservedBy = null;
  }

  nexusLost(nexus: ScsiNexus): void {
    this.release(nexus);
  }

  /** A change is on its way to the shelf: another one waits until it is known whether this one stands. */
  get keeping(): boolean {
    return this.#keeping;
  }

  /** Makes the present state durable where that is wanted; `done(null)` when it is. Otherwise it is again as `before`. */
  keep(before: PersistentReservations, done: (error: string | null) => void): void {
    this.#save((error) => {
      if (error !== null) this.persistent.restore(before);
      done(error);
    });
  }

  /** A SANITIZE that has begun, and of which nobody has been told yet that it is over. */
  get sanitizing(): SanitizeNote | null {
    return this.#sanitizing;
  }

  /** Makes it durable that one begins, or with null that it is over. Not while `keeping`. */
  noteSanitize(note: SanitizeNote | null, done: (error: string | null) => void): void {
    const before = this.#sanitizing;
    this.#sanitizing = note;
    this.#save((error) => {
      if (error !== null) this.#sanitizing = before;
      done(error);
    });
  }

  #save(done: (error: string | null) => void): void {
    const isForMove = this.#shelf.keepsAll && this.persistent.registrants.length > 0;
    const note = this.#sanitizing;
    const wanted = this.persistent.persistent || isForMove || note !== null;
    if (!wanted && !this.#isKept) return done(null);
    this.#keeping = true;
    this.#shelf.save(this.#uuid, wanted ? this.persistent.encode(note) : undefined, (error) => {
      this.#keeping = false;
      if (error === null) this.#isKept = wanted;
      done(error);
    });
  }
}

/** Whether the shelf has something under a volume's UUID. */
export function isKept(document: unknown): boolean {
  return document !== undefined && document !== null;
}

export function nameOf(nexus: ScsiNexus): NexusName {
  const { initiatorPort, relativePort } = nexus.identity;
  return { initiatorPort, relativePort };
}
