/**
 * Who may write to a disk, by persistent reservations (SPC-5 5.14): Write Exclusive - All Registrants, held by all who are registered.
 *
 * Invariants:
 * - What counts is what the device says afterwards, not the status alone. (LIO without a fix of December 2022 answers GOOD to a PREEMPT AND ABORT
 *   with a service action reservation key of zero, which is to take all other registrations away, and takes none. So each is named.)
 * - Whoever is registered with the same initiator port and the same disk is one and the same to it. That they are two processes of one machine
 *   is prevented when the disk is opened (`shelf.ts`).
 */
import type { DiskError, DiskFence } from "../api/shelf.ts";
import {
  decodeCapabilities,
  decodeKeys,
  decodeReservation,
  keyOf,
  preemptAndAbort,
  type RegisteredKeys,
  type ReservationKey,
  type ReserveIn,
  type ReserveOut,
  readKeys,
  readReservation,
  registerAndIgnoreExistingKey,
  reportCapabilities,
  reserve,
  writeExclusiveAllRegistrants,
} from "./reserve_commands.ts";
import { type ScsiCommand, type ScsiOutcome, scsiStatus, senseKey } from "./scsi_generic.ts";

/** Sends one command to one disk. */
export type AskScsi = (command: ScsiCommand) => Promise<ScsiOutcome>;

/** A disk takes milliseconds for one; an array of disks that fails over itself, seconds. */
const commandLimitMs = 5000;
/**
 * A unit attention is about what happened before: the command was not executed, and is asked again. Power on, reservations preempted,
 * registrations preempted, and whatever else has come together.
 */
const attentionsMax = 16;

type Fault = Pick<DiskError, "code" | "text">;
type Answer<T> = { readonly value: T } | { readonly fault: Fault };
type Done = (error: DiskError | null) => void;

const evicted: Fault = { code: "evicted", text: "this appliance is not registered any more" };
const failed = (text: string): Fault => ({ code: "failed", text });

export class ReservationFence implements DiskFence {
  readonly #place: string;
  readonly #ask: AskScsi;
  /** That this boot has registered; null: it has not. */
  #own: ReservationKey | null = null;

  constructor(place: string, ask: AskScsi) {
    this.#place = place;
    this.#ask = ask;
  }

  register(key: Uint8Array, done: Done): void {
    const own = keyOf(key);
    this.#run("register", done, async () => {
      const fault = await this.#register(own);
      if (fault === null) this.#own = own;
      return fault;
    });
  }

  look(done: Done): void {
    this.#run("look", done, () => this.#whyRefused());
  }

  evictOthers(done: Done): void {
    this.#run("evict", done, () => this.#evictOthers());
  }

  #run(operation: string, done: Done, work: () => Promise<Fault | null>): void {
    void work().then((fault) =>
      done(fault === null ? null : { code: fault.code, text: `${this.#place}: ${operation}: ${fault.text}` }),
    );
  }

  async #register(own: ReservationKey): Promise<Fault | null> {
    const registered = await change(this.#ask, registerAndIgnoreExistingKey(own));
    if (registered === "conflict") return failed("another initiator has reserved the disk for itself (SPC-2 RESERVE)");
    if (registered !== null) return registered;
    const notHeld = await this.#hold(own);
    if (notHeld !== null) return notHeld;
    const capabilities = await read(this.#ask, reportCapabilities, decodeCapabilities);
    if ("fault" in capabilities) return capabilities.fault;
    return capabilities.value.persists ? null : failed("it does not keep the registration over a loss of power");
  }

  /** The reservation is of the right kind, and in force. */
  async #hold(own: ReservationKey): Promise<Fault | null> {
    const reserved = await change(this.#ask, reserve(own));
    if (reserved !== null && reserved !== "conflict") return reserved;
    const keys = await this.#keys();
    if ("fault" in keys) return keys.fault;
    if (!keys.value.keys.includes(own)) return whyMissing(keys.value);
    const held = await read(this.#ask, readReservation, decodeReservation);
    if ("fault" in held) return held.fault;
    if (held.value === "none") return failed("it takes no reservation");
    if (held.value.type === writeExclusiveAllRegistrants) return null;
    return failed(`it is reserved in another way (type ${held.value.type}); clear that with sg_persist --out --clear`);
  }

  async #whyRefused(): Promise<Fault | null> {
    const own = this.#own;
    if (own === null) return evicted;
    const keys = await this.#keys();
    if ("fault" in keys) return keys.fault;
    return keys.value.keys.includes(own) ? null : whyMissing(keys.value);
  }

  async #evictOthers(): Promise<Fault | null> {
    const own = this.#own;
    if (own === null) return evicted;
    const before = await this.#keys();
    if ("fault" in before) return before.fault;
    if (!before.value.isAll) return failed("more have registered with it than can be read");
    const victims = new Set(before.value.keys.filter((key) => key !== own));
    const notHeld = await this.#hold(own);
    if (notHeld !== null) return notHeld;
    for (const victim of victims) {
      // A conflict: either of the two keys is not there any more, and the keys will show which.
      const fault = await change(this.#ask, preemptAndAbort(own, victim));
      if (fault !== null && fault !== "conflict") return fault;
    }
    const notHeldNow = await this.#hold(own);
    if (notHeldNow !== null) return notHeldNow;
    const after = await this.#keys();
    if ("fault" in after) return after.fault;
    if (!after.value.keys.includes(own)) return whyMissing(after.value);
    // Who has come since is another boot.
    return after.value.isAll && !after.value.keys.some((key) => victims.has(key))
      ? null
      : failed("it has kept registrations that were to go");
  }

  #keys(): Promise<Answer<RegisteredKeys>> {
    return read(this.#ask, readKeys, decodeKeys);
  }
}

/** What a disk lacks to evict anybody, with what to do; null: nothing. Changes nothing on it. */
export async function whyNoFence(ask: AskScsi): Promise<string | null> {
  const outcome = await askUntilHeard(ask, { ...reportCapabilities, limitMs: commandLimitMs });
  if (outcome.kind === "answered" && outcome.sense?.key === senseKey.illegalRequest)
    return "it has no persistent reservations (SCSI-3)";
  const found = valueIn(outcome, decodeCapabilities);
  if ("fault" in found) return `it cannot be asked for its persistent reservations: ${found.fault.text}`;
  if (!found.value.canPersist) return "its persistent reservations end with a loss of power (no PTPL_C)";
  if (!found.value.hasWriteExclusiveAllRegistrants)
    return 'its persistent reservations have no type "Write Exclusive - All Registrants"';
  return null;
}

function whyMissing({ isAll }: RegisteredKeys): Fault {
  return isAll ? evicted : failed("more have registered with it than can be read");
}

/** PERSISTENT RESERVE OUT; null: done. */
async function change(ask: AskScsi, { cdb, dataOut }: ReserveOut): Promise<Fault | "conflict" | null> {
  const outcome = await askUntilHeard(ask, { cdb, dataOut, limitMs: commandLimitMs });
  if (outcome.kind === "answered" && outcome.status === scsiStatus.reservationConflict) return "conflict";
  return faultIn(outcome);
}

/** PERSISTENT RESERVE IN. */
async function read<T>(
  ask: AskScsi,
  { cdb, dataInBytesMax }: ReserveIn,
  decode: (data: Uint8Array) => T | null,
): Promise<Answer<T>> {
  return valueIn(await askUntilHeard(ask, { cdb, dataInBytesMax, limitMs: commandLimitMs }), decode);
}

function valueIn<T>(outcome: ScsiOutcome, decode: (data: Uint8Array) => T | null): Answer<T> {
  const fault = faultIn(outcome);
  if (fault !== null) return { fault };
  const value = outcome.kind === "answered" ? decode(outcome.data) : null;
  return value === null ? { fault: failed("its answer makes no sense") } : { value };
}

async function askUntilHeard(ask: AskScsi, command: ScsiCommand): Promise<ScsiOutcome> {
  for (let attentions = 0; ; attentions++) {
    const outcome = await ask(command);
    const isAttention = outcome.kind === "answered" && outcome.sense?.key === senseKey.unitAttention;
    if (!isAttention || attentions >= attentionsMax) return outcome;
  }
}

function faultIn(outcome: ScsiOutcome): Fault | null {
  if (outcome.kind !== "answered") return { code: outcome.kind, text: outcome.text };
  const { status, sense } = outcome;
  if (status === scsiStatus.good) return null;
  if (status === scsiStatus.reservationConflict) return failed("another initiator has reserved it for itself");
  const why =
    sense === null ? "" : ` (sense ${hex(sense.key, 1)}h, ${hex(sense.code >> 8, 2)}h/${hex(sense.code & 0xff, 2)}h)`;
  return failed(`it answers status ${hex(status, 2)}h${why}`);
}

const hex = (value: number, digits: number): string => value.toString(16).toUpperCase().padStart(digits, "0");
