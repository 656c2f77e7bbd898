/**
 * What happened, for people and for programs: events with a stable code each.
 *
 * Invariants:
 * - Codes are lower case words joined by `-`; once published a code keeps its meaning.
 * - `emit` never fails and never waits: it is called from the middle of cores.
 * - The ring holds the newest `ringEventsMax` events; numbers run without gaps, so a reader sees what it missed.
 */
import type { Clock } from "../../hal/api/clock.ts";

export type EventFields = Readonly<Record<string, string | number | boolean | null>>;

export interface EventSink {
  /** `code` for programs, `text` a sentence for people, `fields` the values in it. */
  emit(code: string, text: string, fields?: EventFields): void;
}

export interface EventJson {
  /** From 1 at every start of the appliance. */
  readonly number: number;
  /** Wall clock, ISO 8601, UTC. */
  readonly at: string;
  readonly code: string;
  readonly text: string;
  readonly fields: EventFields;
}

/** 2,000 events of about 300 bytes: 0.6 MB. */
export const ringEventsMax = 2000;
/** A text or a field that quotes a host's or a peer's input must not fill the log. */
const textCharsMax = 2000;

/** Keeps the newest events and hands each one on, for example to a file. */
export class EventLog implements EventSink {
  readonly #clock: Clock;
  readonly #appended: (event: EventJson) => void;
  readonly #ring: EventJson[] = [];
  readonly #waiters = new Set<() => void>();
  #count = 0;

  /** `appended` gets each event once, in order. */
  constructor(clock: Clock, appended: (event: EventJson) => void) {
    this.#clock = clock;
    this.#appended = appended;
  }

  emit(code: string, text: string, fields: EventFields = {}): void {
    this.#count++;
    const event: EventJson = {
      number: this.#count,
      at: isoTime(this.#clock.wallMs()),
      code,
      text: clip(text),
      fields: Object.fromEntries(
        Object.entries(fields).map(([name, value]) => [name, typeof value === "string" ? clip(value) : value]),
      ),
    };
    this.#ring.push(event);
    if (this.#ring.length > ringEventsMax) this.#ring.shift();
    this.#appended(event);
    const waiting = [...this.#waiters];
    this.#waiters.clear();
    for (const wake of waiting) wake();
  }

  /** Events with a number above `afterNumber` that are still in the ring, oldest first, at most `limit` of the newest. */
  since(afterNumber: number, limit: number = ringEventsMax): EventJson[] {
    const found = this.#ring.filter((event) => event.number > afterNumber);
    return found.length > limit ? found.slice(found.length - limit) : found;
  }

  /** Calls `wake` once, at the next event. Returns the way to give up. */
  whenAppended(wake: () => void): () => void {
    this.#waiters.add(wake);
    return () => this.#waiters.delete(wake);
  }
}

/** One line of the structured log. */
export function encodeEventLine(event: EventJson): string {
  return `${JSON.stringify(event)}\n`;
}

function clip(text: string): string {
  return text.length <= textCharsMax ? text : `${text.slice(0, textCharsMax)}…`;
}

/** The ban on `Date` in cores covers its formatting too, so the few lines are here; a clock out of range must not throw. */
function isoTime(wallMs: number): string {
  const ms = Number.isFinite(wallMs) ? Math.min(Math.max(wallMs, 0), 8.64e15) : 0;
  const days = Math.floor(ms / 86_400_000);
  const { year, month, day } = civilFromDays(days);
  const rest = Math.floor(ms - days * 86_400_000);
  const pad = (value: number, width: number) => String(value).padStart(width, "0");
  const hours = Math.floor(rest / 3_600_000);
  const minutes = Math.floor(rest / 60_000) % 60;
  const seconds = Math.floor(rest / 1000) % 60;
  return `${pad(year, 4)}-${pad(month, 2)}-${pad(day, 2)}T${pad(hours, 2)}:${pad(minutes, 2)}:${pad(seconds, 2)}.${pad(rest % 1000, 3)}Z`;
}

/** Days since 1970-01-01 to the Gregorian calendar (Hinnant, "chrono-compatible low-level date algorithms"). */
function civilFromDays(days: number): { year: number; month: number; day: number } {
  const shifted = days + 719_468;
  const era = Math.floor(shifted / 146_097);
  const dayOfEra = shifted - era * 146_097;
  const yearOfEra = Math.floor(
    (dayOfEra - Math.floor(dayOfEra / 1460) + Math.floor(dayOfEra / 36_524) - Math.floor(dayOfEra / 146_096)) / 365,
  );
  const dayOfYear = dayOfEra - (365 * yearOfEra + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100));
  const monthIndex = Math.floor((5 * dayOfYear + 2) / 153);
  const day = dayOfYear - Math.floor((153 * monthIndex + 2) / 5) + 1;
  const month = monthIndex < 10 ? monthIndex + 3 : monthIndex - 9;
  return { year: yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, day };
}
