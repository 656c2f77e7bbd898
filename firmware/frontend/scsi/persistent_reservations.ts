/**
 * Persistent reservations of one logical unit: a pure core (SPC-5 5.14). Requests in, an outcome with its effects out.
 *
 *   no registrations ──register──▶ registered ──reserve──▶ reserved
 *          ▲                          │  ▲                     │
 *          └──────unregister, clear───┘  └──release, preempt───┘
 *
 * Invariants:
 * - The holder of a reservation is registered. An "all registrants" reservation is held by every registrant and ends with the last.
 * - The generation changes with each successful REGISTER, REGISTER AND IGNORE, REGISTER AND MOVE, CLEAR and PREEMPT, and with nothing else.
 * - A request that is refused changes nothing.
 */
import { Asc } from "./sense.ts";

/** SPC-5 table 78: TYPE. */
export const ReservationType = {
  writeExclusive: 1,
  exclusiveAccess: 3,
  writeExclusiveRegistrantsOnly: 5,
  exclusiveAccessRegistrantsOnly: 6,
  writeExclusiveAllRegistrants: 7,
  exclusiveAccessAllRegistrants: 8,
} as const;
export type ReservationType = (typeof ReservationType)[keyof typeof ReservationType];

/** One initiator port through one target port. */
export interface NexusName {
  /** `IQN,i,0xISID`. */
  readonly initiatorPort: string;
  readonly relativePort: number;
}

export interface Registrant extends NexusName {
  /** 16 hex digits, never all zero. */
  key: string;
  /** Registered through every target port (ALL_TG_PT). */
  readonly allPorts: boolean;
}

export interface Reservation {
  readonly type: ReservationType;
  /** null: all registrants. */
  readonly holder: Registrant | null;
}

/** Registrations of one unit: 64 hosts with four paths each. */
export const registrantsMax = 256;

export const noKey = "0".repeat(16);

export type Refusal = "conflict" | "bad-parameter" | "bad-release" | "no-room";

export interface Effects {
  /** Nexuses that are told by a unit attention. */
  readonly attentions: readonly { readonly nexus: Registrant; readonly asc: number }[];
  /** PREEMPT AND ABORT: whose tasks end. */
  readonly preempted: readonly Registrant[];
}

export type Answer = { readonly ok: true; readonly effects: Effects } | { readonly ok: false; readonly why: Refusal };

const quiet: Effects = { attentions: [], preempted: [] };
const done = (effects: Effects = quiet): Answer => ({ ok: true, effects });
const refused = (why: Refusal): Answer => ({ ok: false, why });

export class PersistentReservations {
  generation = 0;
  /** The state is kept over a loss of power (APTPL of the last registration). */
  persistent = false;
  reservation: Reservation | null = null;
  readonly #registrants: Registrant[] = [];

  get registrants(): readonly Registrant[] {
    return this.#registrants;
  }

  find(nexus: NexusName): Registrant | null {
    return this.#registrants.find((one) => matches(one, nexus)) ?? null;
  }

  holds(registrant: Registrant | null): boolean {
    const { reservation } = this;
    return registrant !== null && reservation !== null && (reservation.holder ?? registrant) === registrant;
  }

  /** Whether a command of a nexus that only looks at (or changes) the medium meets a reservation (SPC-5 table 69, SBC-4 table 12). */
  forbids(nexus: NexusName, changes: boolean): boolean {
    const { reservation } = this;
    if (reservation === null) return false;
    const registrant = this.find(nexus);
    if (this.holds(registrant)) return false;
    if (registrant !== null && admitsRegistrants(reservation.type)) return false;
    return changes || !isWriteExclusive(reservation.type);
  }

  /** As `forbids`, for a host without a nexus, which can not be registered. */
  forbidsStranger(changes: boolean): boolean {
    return this.reservation !== null && (changes || !isWriteExclusive(this.reservation.type));
  }

  // ------------------------------------------------------------------ PERSISTENT RESERVE OUT

  /** REGISTER, and REGISTER AND IGNORE EXISTING KEY with `key` null (SPC-5 5.14.7). `others`: SPEC_I_PT's initiator ports. */
  register(
    nexus: NexusName,
    request: {
      readonly key: string | null;
      readonly newKey: string;
      readonly persistent: boolean;
      readonly allPorts: boolean;
      readonly others: readonly string[];
    },
  ): Answer {
    const present = this.find(nexus);
    const { key, newKey } = request;
    if (key !== null && key !== (present?.key ?? noKey)) return refused("conflict");
    if (present !== null && request.others.length > 0) return refused("bad-parameter");
    // It would be registered twice, and could unregister once.
    if (request.others.includes(nexus.initiatorPort)) return refused("bad-parameter");
    if (present === null && newKey === noKey) return done();
    if (present !== null) {
      const effects = newKey === noKey ? this.#unregister(present) : quiet;
      present.key = newKey;
      this.#advance(request.persistent);
      return done(effects);
    }
    const fresh = [nexus.initiatorPort, ...request.others].map((initiatorPort) => ({
      initiatorPort,
      relativePort: nexus.relativePort,
      allPorts: request.allPorts,
      key: newKey,
    }));
    if (request.others.some((port) => this.find({ initiatorPort: port, relativePort: nexus.relativePort }) !== null))
      return refused("bad-parameter");
    if (this.#registrants.length + fresh.length > registrantsMax) return refused("no-room");
    this.#registrants.push(...fresh);
    this.#advance(request.persistent);
    return done();
  }

  /** SPC-5 5.14.9. */
  reserve(nexus: NexusName, request: { readonly key: string; readonly type: ReservationType }): Answer {
    const registrant = this.#registered(nexus, request.key);
    if (registrant === null) return refused("conflict");
    const { reservation } = this;
    if (reservation === null) {
      this.reservation = reservationOf(registrant, request.type);
      return done();
    }
    return this.holds(registrant) && reservation.type === request.type ? done() : refused("conflict");
  }

  /** SPC-5 5.14.11.2. */
  release(nexus: NexusName, request: { readonly key: string; readonly type: ReservationType }): Answer {
    const registrant = this.#registered(nexus, request.key);
    if (registrant === null) return refused("conflict");
    const { reservation } = this;
    if (reservation === null || !this.holds(registrant)) return done();
    if (reservation.type !== request.type) return refused("bad-release");
    return done({ ...quiet, attentions: this.#released(registrant) });
  }

  /** SPC-5 5.14.11.5. */
  clear(nexus: NexusName, request: { readonly key: string }): Answer {
    const registrant = this.#registered(nexus, request.key);
    if (registrant === null) return refused("conflict");
    const others = this.#registrants.filter((one) => one !== registrant);
    this.#registrants.length = 0;
    this.reservation = null;
    this.#advance(this.persistent);
    return done({ ...quiet, attentions: told(others, Asc.reservationsPreempted) });
  }

  /** PREEMPT and PREEMPT AND ABORT (SPC-5 5.14.11.4). */
  preempt(
    nexus: NexusName,
    request: { readonly key: string; readonly victimKey: string; readonly type: ReservationType },
  ): Answer {
    const registrant = this.#registered(nexus, request.key);
    if (registrant === null) return refused("conflict");
    const { reservation } = this;
    const { victimKey } = request;
    const takesOver =
      reservation !== null &&
      (reservation.holder === null ? victimKey === noKey : reservation.holder.key === victimKey);
    if (!takesOver && victimKey === noKey) return refused("bad-parameter");
    const victims = this.#registrants.filter(
      (one) => one !== registrant && (victimKey === noKey || one.key === victimKey),
    );
    const named = takesOver || this.#registrants.some((one) => one.key === victimKey);
    if (!named) return refused("conflict");
    for (const victim of victims) this.#forget(victim);
    const attentions = told(victims, Asc.registrationsPreempted);
    if (takesOver) {
      const changesType = reservation.type !== request.type;
      this.reservation = reservationOf(registrant, request.type);
      if (changesType) {
        const remaining = this.#registrants.filter((one) => one !== registrant);
        attentions.push(...told(remaining, Asc.reservationsReleased));
      }
    }
    this.#advance(this.persistent);
    return done({ attentions, preempted: victims });
  }

  /** REGISTER AND MOVE (SPC-5 5.14.8). */
  move(
    nexus: NexusName,
    request: {
      readonly key: string;
      readonly newKey: string;
      readonly target: NexusName;
      readonly unregister: boolean;
      readonly persistent: boolean;
    },
  ): Answer {
    const registrant = this.#registered(nexus, request.key);
    const { reservation } = this;
    if (registrant === null || reservation === null) return refused("conflict");
    if (reservation.holder !== registrant) return refused("conflict");
    if (request.newKey === noKey || matches(registrant, request.target)) return refused("bad-parameter");
    let target = this.find(request.target);
    if (target === null) {
      if (this.#registrants.length >= registrantsMax) return refused("no-room");
      target = { ...request.target, allPorts: false, key: request.newKey };
      this.#registrants.push(target);
    } else target.key = request.newKey;
    this.reservation = { type: reservation.type, holder: target };
    if (request.unregister) this.#forget(registrant);
    this.#advance(request.persistent);
    return done();
  }

  // ------------------------------------------------------------------

  /** Takes back a change that could not be made durable. */
  restore(before: PersistentReservations): void {
    this.generation = before.generation;
    this.persistent = before.persistent;
    this.reservation = before.reservation;
    this.#registrants.splice(0, this.#registrants.length, ...before.#registrants);
  }

  copy(): PersistentReservations {
    return PersistentReservations.decode(this.encode());
  }

  /** What `decode` reads; for a state that is to be kept. */
  encode(sanitizing: SanitizeNote | null = null): unknown {
    const holder = this.reservation?.holder ?? null;
    return {
      format: 1,
      aptpl: this.persistent,
      generation: this.generation,
      registrants: this.#registrants.map((one) => ({ ...one })),
      type: this.reservation?.type ?? 0,
      holder: holder === null ? -1 : this.#registrants.indexOf(holder),
      ...(sanitizing === null ? {} : { sanitizing }),
    };
  }

  /** The kept state; an empty one when the document is none, or does not hold together. */
  static decode(document: unknown): PersistentReservations {
    const state = new PersistentReservations();
    if (!isDocument(document)) return state;
    state.generation = document.generation;
    state.persistent = outlastsPower(document);
    state.#registrants.push(...document.registrants.map((one) => ({ ...one })));
    const holder = document.holder < 0 ? null : (state.#registrants[document.holder] ?? null);
    if (document.type !== 0) state.reservation = { type: document.type as ReservationType, holder };
    return state;
  }

  #registered(nexus: NexusName, key: string): Registrant | null {
    const registrant = this.find(nexus);
    return registrant !== null && registrant.key === key ? registrant : null;
  }

  #unregister(registrant: Registrant): Effects {
    const { reservation } = this;
    const isHolder = reservation?.holder === registrant;
    const others = this.#registrants.filter((one) => one !== registrant);
    this.#forget(registrant);
    // SPC-5 5.14.11.3: the others are told when a reservation for registrants goes with its holder.
    if (!isHolder || reservation === null || !admitsRegistrants(reservation.type)) return quiet;
    return { ...quiet, attentions: told(others, Asc.reservationsReleased) };
  }

  /** Removes a registration, and the reservation that can not be without it. */
  #forget(registrant: Registrant): void {
    this.#registrants.splice(this.#registrants.indexOf(registrant), 1);
    const { reservation } = this;
    if (reservation === null) return;
    const isLast = reservation.holder === null && this.#registrants.length === 0;
    if (reservation.holder === registrant || isLast) this.reservation = null;
  }

  #released(by: Registrant): { nexus: Registrant; asc: number }[] {
    const { type } = this.reservation!;
    this.reservation = null;
    if (!admitsRegistrants(type)) return [];
    return told(
      this.#registrants.filter((one) => one !== by),
      Asc.reservationsReleased,
    );
  }

  #advance(persistent: boolean): void {
    this.generation = (this.generation + 1) >>> 0;
    this.persistent = persistent;
  }
}

function matches(registrant: Registrant, nexus: NexusName): boolean {
  if (registrant.initiatorPort !== nexus.initiatorPort) return false;
  return registrant.allPorts || registrant.relativePort === nexus.relativePort;
}

function reservationOf(registrant: Registrant, type: ReservationType): Reservation {
  return { type, holder: isAllRegistrants(type) ? null : registrant };
}

function told(nexuses: readonly Registrant[], asc: number): { nexus: Registrant; asc: number }[] {
  return nexuses.map((nexus) => ({ nexus, asc }));
}

export function isReservationType(value: number): value is ReservationType {
  return (Object.values(ReservationType) as number[]).includes(value);
}

export function isAllRegistrants(type: ReservationType): boolean {
  return (
    type === ReservationType.writeExclusiveAllRegistrants || type === ReservationType.exclusiveAccessAllRegistrants
  );
}

function admitsRegistrants(type: ReservationType): boolean {
  return type >= ReservationType.writeExclusiveRegistrantsOnly;
}

function isWriteExclusive(type: ReservationType): boolean {
  return (
    type === ReservationType.writeExclusive ||
    type === ReservationType.writeExclusiveRegistrantsOnly ||
    type === ReservationType.writeExclusiveAllRegistrants
  );
}

/** Whether a kept state's reservations are kept over a loss of power too (APTPL). Documents of the first version held nothing else. */
export function outlastsPower(document: unknown): boolean {
  return (document as { aptpl?: unknown }).aptpl !== false;
}

/** A SANITIZE that has begun (SBC-4 5.30). It is kept with the reservations of its unit: whoever serves that next finds it failed. */
export interface SanitizeNote {
  /** AUSE: EXIT FAILURE MODE may end it. */
  readonly mayExit: boolean;
}

export function sanitizingIn(document: unknown): SanitizeNote | null {
  const note = (document as { sanitizing?: { mayExit?: unknown } } | null | undefined)?.sanitizing;
  return note === undefined || note === null ? null : { mayExit: note.mayExit === true };
}

/** What is left of a kept state after a loss of power; undefined: nothing. */
export function afterPowerLoss(document: unknown): unknown {
  if (outlastsPower(document)) return document;
  const sanitizing = sanitizingIn(document);
  return sanitizing === null ? undefined : new PersistentReservations().encode(sanitizing);
}

interface Document {
  readonly generation: number;
  readonly registrants: readonly Registrant[];
  readonly type: number;
  readonly holder: number;
}

const portCharsMax = 512;

function isDocument(value: unknown): value is Document {
  if (typeof value !== "object" || value === null) return false;
  const { format, generation, registrants, type, holder } = value as Record<string, unknown>;
  if (format !== 1 || !isWhole(generation, 0, 0xffffffff)) return false;
  if (!Array.isArray(registrants) || registrants.length > registrantsMax) return false;
  if (!registrants.every(isRegistrant)) return false;
  if (type === 0) return holder === -1;
  if (typeof type !== "number" || !isReservationType(type) || registrants.length === 0) return false;
  return isAllRegistrants(type) ? holder === -1 : isWhole(holder, 0, registrants.length - 1);
}

function isRegistrant(value: unknown): boolean {
  if (typeof value !== "object" || value === null) return false;
  const { initiatorPort, relativePort, key, allPorts } = value as Record<string, unknown>;
  const isPort = typeof initiatorPort === "string" && initiatorPort.length <= portCharsMax;
  const isKey = typeof key === "string" && /^[0-9a-f]{16}$/.test(key) && key !== noKey;
  return isPort && isKey && isWhole(relativePort, 0, 0xffff) && typeof allPorts === "boolean";
}

function isWhole(value: unknown, least: number, most: number): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= least && value <= most;
}
