/**
 * The iSCSI target of an appliance: accepts sessions from any number of portals, within its limits (RFC 7143 4.2, 6.3).
 *
 * Invariants:
 * - At most `sessionsMax` connections, `halfOpenMax` of them not logged in: one more login displaces the oldest of those.
 * - An initiator port (InitiatorName and ISID) has one session: a new one ends the old first.
 * - Memory that hosts can claim is bounded (`limits.ts`); who keeps shared memory without moving, while others wait, is closed.
 */
import type { ByteStream, StreamHandler } from "../../../hal/api/byte_stream.ts";
import type { Clock } from "../../../hal/api/clock.ts";
import type { Entropy } from "../../../hal/api/entropy.ts";
import type { EventSink } from "../../manage/events.ts";
import type { HostAuthority } from "../../volume/host_access.ts";
import { BufferPool } from "../buffer_pool.ts";
import { addressOf, LoginGuard } from "../login_guard.ts";
import { MemoryBudget } from "../memory_budget.ts";
import type { DeviceServer } from "../scsi/device_server.ts";
import { StallWatch } from "../stall_watch.ts";
import { TaskPool } from "./iscsi_task.ts";
import { checkIscsiLimits, defaultIscsiLimits, type IscsiLimits } from "./limits.ts";
import type { ChapHashes, IscsiDigests } from "./ports.ts";
import { IscsiSession, type SessionParts, type SessionRegistry } from "./session.ts";
import type { Portal } from "./text_exchange.ts";

export interface IscsiServerParts {
  readonly clock: Clock;
  readonly entropy: Entropy;
  readonly digests: IscsiDigests;
  readonly hashes: ChapHashes;
  readonly authority: HostAuthority;
  readonly deviceServer: DeviceServer;
  readonly events: EventSink;
  /** The target's iSCSI name, one per array, in lower case. */
  readonly targetName: string;
  /** The tag of this appliance's portals (4.2.1); 1 unless given. */
  readonly portalGroup?: number;
  /** Every portal where the target can be reached, for SendTargets. */
  readonly portals: () => readonly Portal[];
  readonly limits?: Partial<IscsiLimits>;
}

const refusing: StreamHandler = { onData() {}, onDrain() {}, onEnd() {}, onClose() {} };

export class IscsiServer implements SessionRegistry {
  private readonly clock: Clock;
  private readonly events: EventSink;
  private readonly limits: IscsiLimits;
  private readonly budget: MemoryBudget;
  private readonly guard: LoginGuard;
  private readonly parts: SessionParts;
  /** In the order of their accept. */
  private readonly sessions = new Set<IscsiSession>();
  private readonly halfOpen = new Set<IscsiSession>();
  /** Full feature sessions by initiator port; discovery sessions are not among them. */
  private readonly byInitiatorPort = new Map<string, IscsiSession>();
  private lastTsih = 0;
  private readonly tsihs = new Set<number>();
  /** The limit was reached and reported; said again only after there was room in between. */
  private isFull = false;
  private closing = false;

  constructor(parts: IscsiServerParts) {
    this.limits = { ...defaultIscsiLimits, ...parts.limits };
    checkIscsiLimits(this.limits);
    this.clock = parts.clock;
    this.events = parts.events;
    const watch = new StallWatch(parts.clock, this.limits.stallMs, this.sessions);
    this.budget = new MemoryBudget(parts.clock, this.limits.sharedBytesMax, () => watch.begin(this.budget));
    this.guard = new LoginGuard(parts.clock, this.limits);
    this.parts = {
      clock: parts.clock,
      entropy: parts.entropy,
      digests: parts.digests,
      hashes: parts.hashes,
      authority: parts.authority,
      deviceServer: parts.deviceServer,
      events: parts.events,
      limits: this.limits,
      buffers: new BufferPool(this.limits.keptBytesMax),
      pool: new TaskPool(),
      budget: this.budget,
      addressing: { targetName: parts.targetName, portalGroupTag: parts.portalGroup ?? 1, portals: parts.portals },
      registry: this,
    };
  }

  get sessionCount(): number {
    return this.sessions.size;
  }

  /** Memory that sessions hold beyond their own allowances, together. */
  get sharedBytes(): number {
    return this.budget.takenBytes;
  }

  /** For `HbaPort.listen`. `relativePort`: the port's relative target port identifier, from 1 (SPC-5 4.3.4). */
  accept(stream: ByteStream, relativePort: number): StreamHandler {
    if (this.closing || this.sessions.size >= this.limits.sessionsMax) return this.refuse(stream);
    const judged = this.guard.judge(stream.remote);
    if (judged !== "welcome") {
      if (judged === "refused-first") {
        const host = addressOf(stream.remote);
        this.events.emit("iscsi-logins-limited", `iSCSI logins of ${host} are refused: too many failed`, { host });
      }
      this.clock.defer(() => stream.abort());
      return refusing;
    }
    if (this.halfOpen.size >= this.limits.halfOpenMax) {
      for (const oldest of this.halfOpen) {
        this.halfOpen.delete(oldest);
        oldest.displace();
        break;
      }
    }
    const session = new IscsiSession(stream, relativePort, this.parts);
    this.sessions.add(session);
    this.halfOpen.add(session);
    return session;
  }

  private refuse(stream: ByteStream): StreamHandler {
    if (!this.closing && !this.isFull) {
      this.isFull = true;
      const sessionsMax = this.limits.sessionsMax;
      this.events.emit(
        "iscsi-too-many-sessions",
        `iSCSI session of ${stream.remote} refused: ${sessionsMax} sessions are open, which is the limit`,
        { host: stream.remote, sessionsMax },
      );
    }
    this.clock.defer(() => stream.abort());
    return refusing;
  }

  /** Ends all sessions in order (initiators are asked to log out first) and accepts no more. */
  closeAll(): void {
    this.closing = true;
    for (const session of [...this.sessions]) session.shutDown();
  }

  // ------------------------------------------------------------------ from the sessions

  sessionExists(initiatorName: string, isid: string, tsih: number): boolean {
    return this.byInitiatorPort.get(portKey(initiatorName, isid))?.tsih === tsih;
  }

  admit(session: IscsiSession): number {
    this.halfOpen.delete(session);
    if (!session.isDiscovery) {
      const key = portKey(session.initiatorName, session.isid);
      const older = this.byInitiatorPort.get(key);
      this.byInitiatorPort.set(key, session);
      older?.displace();
    }
    // Fewer sessions than numbers: one is free.
    do this.lastTsih = (this.lastTsih % 65535) + 1;
    while (this.tsihs.has(this.lastTsih));
    this.tsihs.add(this.lastTsih);
    return this.lastTsih;
  }

  loginFailed(remote: string): void {
    this.guard.failed(remote);
  }

  /** Not at once: this comes from the middle of a device server's work. */
  coldReset(): void {
    this.clock.defer(() => {
      for (const session of [...this.sessions]) if (!session.isHalfOpen) session.dropSession();
    });
  }

  closed(session: IscsiSession): void {
    this.sessions.delete(session);
    this.halfOpen.delete(session);
    this.tsihs.delete(session.tsih);
    const key = portKey(session.initiatorName, session.isid);
    if (this.byInitiatorPort.get(key) === session) this.byInitiatorPort.delete(key);
    // A tenth of the limit free again counts as room, so that one host in and out does not fill the log.
    if (this.sessions.size <= this.limits.sessionsMax * 0.9) this.isFull = false;
  }
}

function portKey(initiatorName: string, isid: string): string {
  return `${initiatorName},${isid}`;
}
