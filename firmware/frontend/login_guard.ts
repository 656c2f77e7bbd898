/**
 * Failed logins by address: a bucket of attempts that fills again with time.
 *
 * Invariants:
 * - An address may fail `failedLoginsMax` times at once, then once per `failedLoginMs`; a login that succeeds changes nothing.
 * - At most `addressesMax` addresses are remembered; the one that failed longest ago is forgotten first.
 */
import type { Clock } from "../../hal/api/clock.ts";

export interface LoginGuardLimits {
  readonly failedLoginsMax: number;
  readonly failedLoginMs: number;
  readonly addressesMax: number;
}

interface Failures {
  count: number;
  atMs: number;
  reported: boolean;
}

export class LoginGuard {
  private readonly clock: Clock;
  private readonly limits: LoginGuardLimits;
  private readonly failures = new Map<string, Failures>();

  constructor(clock: Clock, limits: LoginGuardLimits) {
    this.clock = clock;
    this.limits = limits;
  }

  /** "refused-first": the first refusal of a row, worth an event. */
  judge(remote: string): "welcome" | "refused" | "refused-first" {
    const failures = this.current(addressOf(remote));
    if (failures === undefined || failures.count < this.limits.failedLoginsMax) return "welcome";
    if (failures.reported) return "refused";
    failures.reported = true;
    return "refused-first";
  }

  failed(remote: string): void {
    const address = addressOf(remote);
    const failures = this.current(address) ?? { count: 0, atMs: 0, reported: false };
    failures.count = Math.min(failures.count + 1, this.limits.failedLoginsMax);
    failures.atMs = this.clock.nowMs();
    // The map keeps the order of insertion: the newest failure last.
    this.failures.delete(address);
    this.failures.set(address, failures);
    if (this.failures.size <= this.limits.addressesMax) return;
    for (const oldest of this.failures.keys()) {
      this.failures.delete(oldest);
      break;
    }
  }

  private current(address: string): Failures | undefined {
    const failures = this.failures.get(address);
    if (failures === undefined) return undefined;
    const nowMs = this.clock.nowMs();
    const healed = Math.floor((nowMs - failures.atMs) / this.limits.failedLoginMs);
    if (healed >= failures.count) {
      this.failures.delete(address);
      return undefined;
    }
    if (healed > 0) {
      failures.count -= healed;
      failures.atMs += healed * this.limits.failedLoginMs;
      failures.reported = false;
    }
    return failures;
  }
}

/** `HOST:PORT`, `[HOST]:PORT` or `HOST`, without the port: a port is new with every connection. */
export function addressOf(remote: string): string {
  const match = /^(?:\[(?<bracketed>[^\]]*)\]|(?<plain>[^:]*))(?::[0-9]*)?$/.exec(remote);
  return match?.groups?.["bracketed"] ?? match?.groups?.["plain"] ?? remote;
}
