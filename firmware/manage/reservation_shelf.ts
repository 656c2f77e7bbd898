/**
 * Persistent reservations in the array's document, by the volume's UUID (SPC-5 5.14): those to be kept over a loss of power (APTPL),
 * and in a pair all others too, which a successor goes on with and any other start gives up.
 */
import { afterPowerLoss } from "../frontend/scsi/persistent_reservations.ts";
import type { ReservationShelf } from "../volume/host_access.ts";
import type { ArrayDocument } from "./array_document.ts";

/** A registrant is a key, an initiator port's name of at most 250 bytes and a few numbers: room for a cluster of 32 with two ports. */
const documentCharsMax = 32 * 1024;
/** All volumes together: the array's document is written whole at every change. */
const totalCharsMax = 2 * documentCharsMax;

/** What a start that is no takeover from the partner, and so follows a loss of power, still knows. */
export function keptOverPowerLoss(reservations: ArrayDocument["reservations"]): ArrayDocument["reservations"] {
  const left = Object.entries(reservations).map(([uuid, document]) => [uuid, afterPowerLoss(document)] as const);
  return Object.fromEntries(left.filter(([, document]) => document !== undefined));
}

export interface ReservationKeeperOptions {
  /** See `ReservationShelf`. */
  readonly keepsAll: boolean;
  document(): ArrayDocument;
  /** Makes changed reservations durable; a sentence says why it could not. */
  save(reservations: ArrayDocument["reservations"], done: (error: string | null) => void): void;
}

export class ReservationKeeper implements ReservationShelf {
  readonly keepsAll: boolean;
  readonly #options: ReservationKeeperOptions;

  constructor(options: ReservationKeeperOptions) {
    this.keepsAll = options.keepsAll;
    this.#options = options;
  }

  load(uuid: string): unknown {
    return this.#options.document().reservations[uuid];
  }

  /** The volume is gone: so is what was reserved of it. */
  forget(uuid: string, done: (error: string | null) => void): void {
    if (this.load(uuid) === undefined) return done(null);
    this.save(uuid, undefined, done);
  }

  save(uuid: string, document: unknown, done: (error: string | null) => void): void {
    const { [uuid]: _, ...others } = this.#options.document().reservations;
    if (document === undefined) return this.#options.save(others, done);
    if (JSON.stringify(document).length > documentCharsMax)
      return done(`the volume has more registrations than an array keeps (${documentCharsMax} characters)`);
    const kept = { ...others, [uuid]: document };
    if (JSON.stringify(kept).length > totalCharsMax)
      return done(`the array's volumes have more registrations than it keeps (${totalCharsMax} characters)`);
    this.#options.save(kept, done);
  }
}
