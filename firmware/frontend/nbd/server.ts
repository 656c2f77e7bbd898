/**
 * The NBD server of an appliance: accepts sessions from any number of HBA ports, within its limits.
 *
 * Invariants:
 * - At most `sessionsMax` sessions; one more is closed at once, and the first refusal of a row is reported. The same for an
 *   address whose handshakes keep failing.
 * - Memory that hosts can claim is bounded (`limits.ts`); who keeps shared memory without moving, while others wait, is closed.
 */
import type { StreamHandler } from "../../../hal/api/byte_stream.ts";
import type { Clock } from "../../../hal/api/clock.ts";
import type { HostStream } from "../../../hal/api/hba.ts";
import type { EventSink } from "../../manage/events.ts";
import type { ExportTable } from "../../volume/block_request.ts";
import { BufferPool } from "../buffer_pool.ts";
import { LoginGuard } from "../login_guard.ts";
import { MemoryBudget } from "../memory_budget.ts";
import { StallWatch } from "../stall_watch.ts";
import { checkNbdLimits, defaultNbdLimits, type NbdLimits } from "./limits.ts";
import { RequestPool } from "./nbd_request.ts";
import type { TlsUse } from "./negotiation.ts";
import { NbdSession, type SessionParts } from "./session.ts";

export interface NbdServerParts {
  readonly clock: Clock;
  readonly exports: ExportTable;
  readonly events: EventSink;
  readonly limits?: Partial<NbdLimits>;
  /** Off unless said. */
  readonly tls?: TlsUse;
}

const refusing: StreamHandler = { onData() {}, onDrain() {}, onEnd() {}, onClose() {} };

export class NbdServer {
  private readonly clock: Clock;
  private readonly events: EventSink;
  private readonly limits: NbdLimits;
  private readonly budget: MemoryBudget;
  private readonly guard: LoginGuard;
  private readonly parts: SessionParts;
  private readonly sessions = new Set<NbdSession>();
  /** The limit was reached and reported; said again only after there was room in between. */
  private full = false;
  private closing = false;

  constructor(parts: NbdServerParts) {
    this.limits = { ...defaultNbdLimits, ...parts.limits };
    checkNbdLimits(this.limits);
    this.clock = parts.clock;
    this.events = parts.events;
    const watch = new StallWatch(parts.clock, this.limits.stallMs, this.sessions);
    this.budget = new MemoryBudget(parts.clock, this.limits.sharedBytesMax, () => watch.begin(this.budget));
    this.guard = new LoginGuard(parts.clock, this.limits);
    this.parts = {
      clock: parts.clock,
      exports: parts.exports,
      events: parts.events,
      limits: this.limits,
      tls: parts.tls ?? "off",
      buffers: new BufferPool(this.limits.keptBytesMax),
      requests: new RequestPool(),
      budget: this.budget,
      handshakeFailed: (remote) => this.guard.failed(remote),
      closed: (session) => this.ended(session),
    };
  }

  get sessionCount(): number {
    return this.sessions.size;
  }

  /** Memory that sessions hold beyond their own allowances, together. */
  get sharedBytes(): number {
    return this.budget.takenBytes;
  }

  /** For `HbaPort.listen`. */
  accept(stream: HostStream): StreamHandler {
    const judged = this.guard.judge(stream.remote);
    if (judged === "refused-first") {
      const text = `NBD sessions of ${stream.remote} are refused for a while: too many failed handshakes`;
      this.events.emit("nbd-too-many-failures", text, { host: stream.remote });
    }
    if (judged !== "welcome") {
      this.clock.defer(() => stream.abort());
      return refusing;
    }
    if (this.closing || this.sessions.size >= this.limits.sessionsMax) {
      if (!this.closing && !this.full) {
        this.full = true;
        const sessionsMax = this.limits.sessionsMax;
        this.events.emit(
          "nbd-too-many-sessions",
          `NBD session of ${stream.remote} refused: ${sessionsMax} sessions are open, which is the limit`,
          { host: stream.remote, sessionsMax },
        );
      }
      this.clock.defer(() => stream.abort());
      return refusing;
    }
    const session = new NbdSession(stream, this.parts);
    this.sessions.add(session);
    return session;
  }

  /** Ends all sessions in order and accepts no more. */
  closeAll(): void {
    this.closing = true;
    for (const session of [...this.sessions]) session.finish();
  }

  private ended(session: NbdSession): void {
    this.sessions.delete(session);
    // A tenth of the limit free again counts as room, so that one host in and out does not fill the log.
    if (this.sessions.size <= this.limits.sessionsMax * 0.9) this.full = false;
  }
}
