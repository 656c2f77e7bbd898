/**
 * Time as a parameter. Cores never read a clock or start a timer by themselves.
 *
 * Invariants:
 * - `nowMs` never goes back; `wallMs` may jump either way and is used for display and for lag estimates only.
 * - A deferred task runs after the event being handled, before the next event, in the order of the calls.
 */
export interface Clock {
  /** Monotonic milliseconds since an arbitrary start; may have a fraction. */
  nowMs(): number;
  /** Milliseconds since the Unix epoch as far as this appliance knows. */
  wallMs(): number;
  /** Calls `fire` once, at least `delayMs` milliseconds from now (0 is allowed). */
  after(delayMs: number, fire: () => void): Timer;
  /** Calls `task` when the present event has been handled and before the next one. */
  defer(task: () => void): void;
}

export interface Timer {
  /** Does nothing when the timer has fired or has been cancelled. */
  cancel(): void;
}
