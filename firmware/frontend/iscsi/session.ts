/**
 * One initiator's connection from accept to close; with MaxConnections=1 it is its session too (RFC 7143 4.2.5, 7, 8).
 *
 *   login ──full feature──▶ full ──logout, end of stream, violation, nexus ended──▶ finishing ──▶ closed
 *     └─────rejected, violation, time limit────────────────────────────────────────────┘            ▲
 *   any ──stream closed, replaced by a newer session, no sign of life──────────────────────────────────┘
 *
 * Invariants:
 * - Replies of one event go out together, at the end of the event.
 * - Input that cannot be handled now is held and the stream paused: a host that does not read its replies is not read either.
 * - `finishing` ends: when all is sent, or at the time limit. Nothing of the nexus is alive in it.
 * - A session reports at most one event of its own.
 */
import type { ByteStream, StreamHandler } from "../../../hal/api/byte_stream.ts";
import type { Clock, Timer } from "../../../hal/api/clock.ts";
import type { Entropy } from "../../../hal/api/entropy.ts";
import type { EventSink } from "../../manage/events.ts";
import type { HostAuthority } from "../../volume/host_access.ts";
import type { BufferPool } from "../buffer_pool.ts";
import type { MemoryBudget } from "../memory_budget.ts";
import { OutputQueue } from "../output_queue.ts";
import type { DeviceServer, Nexus, NexusHost } from "../scsi/device_server.ts";
import { CommandWindow } from "./command_window.ts";
import { AsyncEvent, LoginStatus, loginSegmentBytes } from "./constants.ts";
import { FullFeature, type FullFeatureHost, type Pumped } from "./full_feature.ts";
import type { TaskPool } from "./iscsi_task.ts";
import type { IscsiLimits } from "./limits.ts";
import { Login } from "./login.ts";
import { LoginPhase } from "./login_phase.ts";
import { PduParser } from "./pdu_parser.ts";
import { PduWriter } from "./pdu_writer.ts";
import type { ChapHashes, IscsiDigests } from "./ports.ts";
import type { Addressing } from "./text_exchange.ts";

export interface SessionParts {
  readonly clock: Clock;
  readonly entropy: Entropy;
  readonly digests: IscsiDigests;
  readonly hashes: ChapHashes;
  readonly authority: HostAuthority;
  readonly deviceServer: DeviceServer;
  readonly events: EventSink;
  readonly limits: IscsiLimits;
  readonly buffers: BufferPool;
  readonly pool: TaskPool;
  readonly budget: MemoryBudget;
  readonly addressing: Addressing;
  readonly registry: SessionRegistry;
}

/** What sessions of a server know of each other. */
export interface SessionRegistry {
  sessionExists(initiatorName: string, isid: string, tsih: number): boolean;
  /** The session enters full feature: an older one of the same initiator port ends first (6.3.5). Returns its TSIH. */
  admit(session: IscsiSession): number;
  loginFailed(remote: string): void;
  coldReset(): void;
  /** The stream is closed and the session holds nothing any more. */
  closed(session: IscsiSession): void;
}

/** Each handles at most what fits the output backlog, about 1 ms of copying. */
const pumpsInEventMax = 4;
const empty = new Uint8Array(0);

export class IscsiSession implements StreamHandler, FullFeatureHost, NexusHost {
  readonly stream: ByteStream;
  /** From 1; 0 before full feature. */
  tsih = 0;
  private readonly parts: SessionParts;
  private readonly relativePort: number;
  private readonly output: OutputQueue;
  private readonly window = new CommandWindow();
  private readonly parser: PduParser;
  private readonly writer: PduWriter;
  private readonly login: Login;
  private readonly loginPhase: LoginPhase;
  private phase: "login" | "full" | "finishing" | "closed" = "login";
  private full: FullFeature | null = null;
  private nexus: Nexus | null = null;
  /** Chunks that arrived while the input was held. */
  private readonly inputs: Uint8Array[] = [];
  private held = false;
  private flushDue = false;
  private againDue = false;
  private pumpsInEvent = 0;
  private endSent = false;
  private reported = false;
  private timer: Timer | null;
  /** Raised by whatever the host does; the server looks at it when memory is short. */
  private progress = 0;
  private progressSeen = -1;
  /** Bytes have come, or left a full stream, since the last look for life. */
  private heard = true;
  private silentLooks = 0;
  private readonly flushTask = () => this.flush();

  constructor(stream: ByteStream, relativePort: number, parts: SessionParts) {
    this.stream = stream;
    this.relativePort = relativePort;
    this.parts = parts;
    const { limits, digests, addressing, registry } = parts;
    this.output = new OutputQueue(parts.buffers);
    this.parser = new PduParser(digests, loginSegmentBytes);
    this.writer = new PduWriter(this.output, this.window, digests);
    this.login = new Login({
      authority: parts.authority,
      entropy: parts.entropy,
      hashes: parts.hashes,
      limits,
      targetName: addressing.targetName,
      portalGroupTag: addressing.portalGroupTag,
      remote: stream.remote,
      sessionExists: (name, isid, tsih) => registry.sessionExists(name, isid, tsih),
    });
    this.loginPhase = new LoginPhase({
      login: this.login,
      parser: this.parser,
      writer: this.writer,
      window: this.window,
      output: this.output,
      limits,
      host: {
        loggedIn: () => this.enterFullFeature(),
        rejected: (reason, status) => {
          this.loginFails(reason, status);
          this.finish();
        },
        workDone: () => this.workDone(),
      },
    });
    this.timer = parts.clock.after(limits.loginMs, () => {
      this.loginFails(`no login within ${limits.loginMs} ms`, LoginStatus.outOfResources);
      this.abort();
    });
  }

  get initiatorName(): string {
    return this.login.initiatorName;
  }

  get isid(): string {
    return this.login.isid;
  }

  get isDiscovery(): boolean {
    return this.login.negotiation.parameters.discovery;
  }

  /** Accepted, and not yet logged in. */
  get isHalfOpen(): boolean {
    return this.phase === "login";
  }

  // ------------------------------------------------------------------ the stream

  onData(chunk: Uint8Array): void {
    this.heard = true;
    if (this.phase === "finishing" || this.phase === "closed") return;
    this.progress++;
    this.pumpsInEvent = 0;
    this.inputs.push(chunk);
    if (!this.held) this.pump();
    if (this.full !== null) this.workDone();
  }

  onDrain(): void {
    if (this.phase === "closed") return;
    // Who reads is alive, too.
    this.heard = true;
    this.progress++;
    this.pumpsInEvent = 0;
    this.output.drained();
    this.flush();
  }

  onEnd(): void {
    if (this.phase === "finishing" || this.phase === "closed") return;
    if (this.phase === "login") this.loginFails("the stream ended during the login");
    else if (this.parser.midway && this.inputs.length === 0 && !this.held) {
      this.report("iscsi-truncated", "the stream ended in the middle of a PDU");
    }
    this.finish();
  }

  onClose(): void {
    if (this.phase === "closed") return;
    if (this.phase === "login") this.loginFails("the connection closed during the login");
    this.phase = "closed";
    this.timer?.cancel();
    this.timer = null;
    this.inputs.length = 0;
    this.output.clear();
    this.full?.close();
    this.parts.registry.closed(this);
  }

  // ------------------------------------------------------------------ from the server

  /** A newer session of the same initiator port has logged in, or the server wants the place: ends at once. */
  displace(): void {
    if (this.phase === "login")
      this.loginFails("half-open logins are too many, this was the oldest", LoginStatus.outOfResources);
    this.full?.stop();
    this.abort();
  }

  /** An orderly end: the initiator is asked to log out; if it does not in time, its connection is dropped (11.9.1). */
  shutDown(): void {
    if (this.phase !== "full" || this.full === null) {
      this.finish();
      return;
    }
    const seconds = Math.ceil(this.parts.limits.logoutMs / 1000);
    this.tell(AsyncEvent.logoutRequested, { first: 0, second: 0, third: seconds });
    this.timer?.cancel();
    this.timer = this.parts.clock.after(this.parts.limits.logoutMs, () => this.dropSession());
  }

  /** Tells that the session is over, and ends it. */
  dropSession(): void {
    if (this.phase === "full") {
      const { time2WaitSeconds, time2RetainSeconds } = this.login.negotiation.parameters;
      this.tell(AsyncEvent.sessionDropped, { first: 0, second: time2WaitSeconds, third: time2RetainSeconds });
    }
    this.finish();
  }

  abort(): void {
    if (this.phase !== "closed") this.stream.abort();
  }

  /** Whether the host has done anything since the last call. */
  moved(): boolean {
    const moved = this.progress !== this.progressSeen;
    this.progressSeen = this.progress;
    return moved;
  }

  /** Closes a session that keeps shared memory, waits for its host, and has not moved since the last look. */
  closeUnlessMoved(): void {
    const { full } = this;
    if (this.moved() || full === null || full.memory.sharedBytes === 0) return;
    if (!this.output.blocked && !full.receivesPayload) return;
    this.report("iscsi-stalled", "the host neither sends nor reads while others wait for memory");
    full.stop();
    this.abort();
  }

  // ------------------------------------------------------------------ from the nexus

  /** Not at once: this may come from the middle of a call to the nexus. */
  nexusEnded(reason: string): void {
    this.parts.clock.defer(() => {
      if (this.phase !== "full") return;
      this.report("iscsi-session-ended", reason);
      this.dropSession();
    });
  }

  /** 11.9: a SCSI asynchronous event without sense data of its own tells of one thing only, that there is news. */
  attention(): void {
    if (this.phase !== "full") return;
    // SPC-5 4.4.3: UNIT ATTENTION, REPORTED LUNS DATA HAS CHANGED: what makes an initiator look at everything.
    const sense = new Uint8Array([0, 18, 0x70, 0, 0x06, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x3f, 0x0e, 0, 0, 0, 0]);
    this.writer.asyncMessage(AsyncEvent.scsi, { first: 0, second: 0, third: 0 }, sense);
    this.workDone();
  }

  // ------------------------------------------------------------------ from the full feature phase

  workDone(): void {
    if (this.flushDue || this.phase === "closed") return;
    this.flushDue = true;
    this.parts.clock.defer(this.flushTask);
  }

  /** A long reply goes out while its data is still in the processor's cache, not at the end of the event. */
  longReplyReady(): void {
    if (this.phase === "closed" || this.output.blocked) return;
    if (this.output.drainTo(this.stream) > 0) this.progress++;
  }

  violated(code: string, text: string): void {
    this.report(code, text);
    this.finish();
  }

  loggedOut(): void {
    this.finish();
  }

  coldReset(): void {
    this.parts.registry.coldReset();
  }

  // ------------------------------------------------------------------ within

  /** What is queued goes out, then the stream ends. Tasks are given up. */
  private finish(): void {
    if (this.phase === "finishing" || this.phase === "closed") return;
    this.phase = "finishing";
    this.full?.stop();
    this.inputs.length = 0;
    // A paused stream would not notice its end.
    if (this.held) this.stream.resume();
    this.held = false;
    this.timer?.cancel();
    this.timer = this.parts.clock.after(this.parts.limits.closingMs, () => this.abort());
    this.workDone();
  }

  private tell(event: number, parameters: { first: number; second: number; third: number }): void {
    this.writer.asyncMessage(event, parameters, empty);
    this.workDone();
  }

  private pump(): void {
    for (;;) {
      const pumped = this.pumpPhase();
      if (pumped === "stopped") return;
      if (pumped === "held") {
        if (!this.held) this.stream.pause();
        this.held = true;
        return;
      }
      const chunk = this.inputs.shift();
      if (chunk === undefined) break;
      this.parser.push(chunk);
    }
    if (!this.held) return;
    this.held = false;
    this.stream.resume();
  }

  private pumpPhase(): Pumped {
    if (this.phase === "login") {
      const pumped = this.loginPhase.pump();
      if (pumped !== "over") return pumped;
    }
    return this.phase === "full" && this.full !== null ? this.full.pump() : "stopped";
  }

  private loginFails(reason: string, status: number = LoginStatus.initiatorError): void {
    // Who connects and goes without a word (a probe of the port) has not tried to log in.
    if (this.reported || (this.progress === 0 && status === LoginStatus.initiatorError)) return;
    this.parts.registry.loginFailed(this.stream.remote);
    this.report("iscsi-login-rejected", `login rejected: ${reason}`, {
      reason,
      status: `0x${status.toString(16).padStart(4, "0")}`,
    });
  }

  private enterFullFeature(): number {
    const { parts, login } = this;
    const { parameters } = login.negotiation;
    parameters.firstBurstBytes = Math.min(parameters.firstBurstBytes, parameters.maxBurstBytes);
    this.timer?.cancel();
    this.phase = "full";
    this.tsih = parts.registry.admit(this);
    if (!parameters.discovery) {
      this.nexus = parts.deviceServer.attach(
        {
          host: login.host,
          initiatorPort: `${login.initiatorName},i,0x${login.isid}`,
          portalGroup: parts.addressing.portalGroupTag,
          relativePort: this.relativePort,
        },
        this,
      );
    }
    this.full = new FullFeature({
      parser: this.parser,
      writer: this.writer,
      window: this.window,
      output: this.output,
      buffers: parts.buffers,
      pool: parts.pool,
      budget: parts.budget,
      limits: parts.limits,
      parameters,
      cid: login.cid,
      addressing: parts.addressing,
      nexus: this.nexus,
      host: this,
    });
    this.lookForLife();
    return this.tsih;
  }

  /** A session that is silent is pinged; one that stays silent is dead, and its tasks end (4.2.5.3). */
  private lookForLife(): void {
    this.timer = this.parts.clock.after(this.parts.limits.pingMs, () => {
      if (this.phase !== "full" || this.full === null) return;
      // A host whose input waits here for something else than itself cannot be heard.
      const isAlive = this.heard || (this.held && !this.output.blocked);
      this.silentLooks = isAlive ? 0 : this.silentLooks + 1;
      this.heard = false;
      if (this.silentLooks >= 2) {
        this.report("iscsi-dead", "the initiator does not answer");
        this.full.stop();
        this.abort();
        return;
      }
      if (this.silentLooks === 1) this.full.ping();
      this.lookForLife();
    });
  }

  /** At the end of an event: everything gathered goes out, then held input has another try. */
  private flush(): void {
    this.flushDue = false;
    if (this.phase === "closed") return;
    this.drain();
    // The stream may have closed inside the write.
    if ((this.phase as string) === "closed") return;
    this.full?.settle();
    // What waited for room goes out with this event, too.
    this.drain();
    if ((this.phase as string) === "closed") return;
    if (this.phase === "finishing") this.endWhenDone();
    else if (this.held) this.pumpAgain();
  }

  private drain(): void {
    if (!this.output.blocked && this.output.queuedBytes > 0 && this.output.drainTo(this.stream) > 0) this.progress++;
  }

  /** Held input goes on at once a few times, then in an event of its own: one busy host does not keep the others waiting. */
  private pumpAgain(): void {
    if (this.pumpsInEvent < pumpsInEventMax) {
      this.pumpsInEvent++;
      this.pumpHeld();
      return;
    }
    if (this.againDue) return;
    this.againDue = true;
    this.parts.clock.after(0, () => {
      this.againDue = false;
      this.pumpsInEvent = 0;
      if (this.held) this.pumpHeld();
    });
  }

  /** What it moves is settled and sent; what still waits is not tried again before something else happens. */
  private pumpHeld(): void {
    const steps = this.full?.steps;
    this.pump();
    if (this.full?.steps !== steps) this.workDone();
  }

  private endWhenDone(): void {
    if (this.endSent || this.output.queuedBytes > 0) return;
    this.endSent = true;
    this.stream.end();
  }

  private report(code: string, text: string, fields: Record<string, string> = {}): void {
    if (this.reported) return;
    this.reported = true;
    const named: Record<string, string> = { host: this.stream.remote, ...fields };
    if (this.login.initiatorName !== "") named["initiator"] = this.login.initiatorName;
    this.parts.events.emit(code, `iSCSI session of ${this.stream.remote}: ${text}`, named);
  }
}
