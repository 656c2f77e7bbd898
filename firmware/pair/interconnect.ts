/**
 * The partner, as one conversation over all interconnect NICs: messages arrive once and in order whatever becomes of one NIC.
 *
 *   apart ──hellos agree on both sessions, over the first NIC──▶ met ──silent, hung, proven dead, or it has begun anew──▶ apart
 *
 * A session is one stretch of knowing each other: both sides have drawn an id for it, and give it up together with all that was
 * under way. Each NIC has one connection, dialled by the partner whose name comes first. Messages go over one of them; when that
 * breaks, what the partner has not confirmed is sent again over another. Beside it each NIC has heartbeats, sent past the main loop
 * (hal/api/heartbeats.ts), for as long as the session lasts; what the two say together: `nic_pulse.ts`.
 *
 * Invariants:
 * - `onMet` and `onLost` alternate; messages come only between them, each once, in the order of `send`.
 * - Heartbeats are of one session, NIC and direction: their keys are made of the session's two ids, which only the hellos tell.
 * - A message's payload may be memory that changes: what is sent again is what it holds by then, and as long as it was. Memory that goes
 *   elsewhere before the partner has the message is copied first (`keepPayloads`).
 * - Whoever does not belong here is told why, once, and closed.
 */
import type { ByteStream, StreamHandler } from "../../hal/api/byte_stream.ts";
import type { Clock, Timer } from "../../hal/api/clock.ts";
import type { Digests } from "../../hal/api/digests.ts";
import type { Entropy } from "../../hal/api/entropy.ts";
import type { Heard, HeartbeatChannel, Heartbeats } from "../../hal/api/heartbeats.ts";
import type { Nic } from "../../hal/api/nic.ts";
import { toHex } from "../codec/bytes.ts";
import { FrameLink } from "../codec/frame_link.ts";
import type { EventSink } from "../manage/events.ts";
import { type PairFrame, type PairHello, type PairMessage, type Portal, pairVersion, pairVersionMin } from "./frame.ts";
import { pairCodec } from "./frame_codec.ts";
import { type PairTimes, pairLimits } from "./limits.ts";
import { type LongMessage, partsFor } from "./long_text.ts";
import { NicPulse } from "./nic_pulse.ts";

/** What a payload lies in, when that is used again. */
export interface PayloadMemory {
  /** So many bytes in front of the first part, in its buffer, may be overwritten. */
  readonly headroomBytes: number;
  /** The partner has the message: until then it may have to go once more. A session that ends calls nothing. */
  released(): void;
}

export interface InterconnectOwner {
  onMet(theirs: PairHello): void;
  onLost(why: string): void;
  /** `payload`: see `lendsPayload`. */
  onMessage(message: PairMessage, payload: Uint8Array): void;
  /** Whether the partner is proven dead now; asked while no connection is left. */
  partnerIsDead(): boolean;
}

export interface InterconnectOptions {
  readonly clock: Clock;
  readonly entropy: Entropy;
  readonly digests: Digests;
  readonly heartbeats: Heartbeats;
  readonly events: EventSink;
  /** `addresses[i]` is where the partner's NIC answers that `nics[i]` is wired to. */
  readonly nics: readonly Nic[];
  readonly addresses: readonly string[];
  readonly array: string;
  readonly appliance: string;
  readonly partner: string;
  readonly times: PairTimes;
  readonly cacheBytes: number;
  readonly domain: "battery" | "flush";
  portals(): readonly Portal[];
}

type PairLink = FrameLink<PairFrame>;

interface Wire {
  readonly nic: Nic;
  readonly address: string;
  link: PairLink | null;
  /** Both sides know both sessions over it. */
  joined: boolean;
  /** Which of the partner's sessions was named in the last hello that went out here. */
  told: string | null;
  /** Attempts to connect that have neither failed nor succeeded. */
  attempts: number;
  /** Dialled connections on which no hello has been answered yet. */
  introducing: number;
  redial: Timer | null;
  /** While met. */
  beats: { readonly channel: HeartbeatChannel; readonly pulse: NicPulse } | null;
}

export interface NicState {
  readonly name: string;
  /** It reaches the partner. */
  readonly up: boolean;
  /** Why the partner's heartbeats are not heard over it, though it is up; null: they are. */
  readonly beatTrouble: string | null;
}

interface Unconfirmed {
  readonly number: number;
  readonly message: PairMessage;
  readonly payload: readonly Uint8Array[];
  readonly memory: PayloadMemory | null;
}

export class Interconnect {
  readonly #options: InterconnectOptions;
  readonly #owner: InterconnectOwner;
  readonly #wires: readonly Wire[];
  readonly #strangers = new Set<PairLink>();
  readonly #told = new Set<string>();
  #session: string;
  #theirs: string | null = null;
  #hello: PairHello | null = null;
  #met = false;
  #active: Wire | null = null;
  #sent = 0;
  #received = 0;
  #unconfirmed: Unconfirmed[] = [];
  #unconfirmedAt = 0;
  #lastHeardMs = 0;
  #look: Timer | null = null;
  /** While no connection is left: for how long nothing has come, as far as was looked. */
  #apartMs = 0;
  #apartLookMs = 0;
  #turn: Timer | null = null;
  /** For how long the partner's main loop has stood still, once that is longer than the limit; 0: it turns. */
  #lateMs = 0;
  #stopped = false;

  constructor(options: InterconnectOptions, owner: InterconnectOwner) {
    this.#options = options;
    this.#owner = owner;
    this.#wires = options.nics.map((nic, index) => ({
      nic,
      address: options.addresses[index]!,
      link: null,
      joined: false,
      told: null,
      attempts: 0,
      introducing: 0,
      redial: null,
      beats: null,
    }));
    this.#session = this.#newSession();
  }

  get met(): boolean {
    return this.#met;
  }

  /** When a frame of the partner came last, on the monotonic clock; heartbeats count as none. */
  get lastHeardMs(): number {
    return this.#lastHeardMs;
  }

  /** What the partner said of itself; null: apart. */
  get partner(): PairHello | null {
    return this.#met ? this.#hello : null;
  }

  nics(): NicState[] {
    const { limitMs } = this.#options.times;
    return this.#wires.map(({ nic, joined, beats }) => {
      const heard = joined ? beats?.channel.heard() : undefined;
      const silent = heard !== undefined && heard.silentMs >= limitMs ? "none comes" : null;
      return { name: nic.name, up: joined, beatTrouble: heard?.trouble ?? silent };
    });
  }

  /** Listens on every NIC; `done` with the errors, a text per NIC that could not be opened. */
  start(done: (errors: readonly string[]) => void): void {
    this.#turned();
    const errors: string[] = [];
    let open = this.#wires.length;
    for (const wire of this.#wires) {
      wire.nic.listen(
        (stream) => this.#accept(wire, stream),
        (error) => {
          if (error !== null) errors.push(error);
          else this.#dial(wire);
          if (--open === 0) done(errors);
        },
      );
    }
  }

  stop(): void {
    this.#stopped = true;
    this.#look?.cancel();
    this.#turn?.cancel();
    this.#endBeats();
    for (const wire of this.#wires) {
      wire.nic.close();
      wire.link?.close("closed", "the appliance stops");
    }
    for (const stranger of [...this.#strangers]) stranger.abort("aborted", "stopping");
  }

  /** Ends the session, because nothing more of the partner can be understood; both begin anew. */
  giveUp(why: string): void {
    if (this.#met) this.#lost(why, null);
  }

  /** Nothing happens while apart: what it was about is gone with the session. */
  send(message: PairMessage, payload: readonly Uint8Array[] = [], memory: PayloadMemory | null = null): void {
    if (!this.#met) return;
    const unconfirmed = { number: ++this.#sent, message, payload, memory };
    this.#unconfirmed.push(unconfirmed);
    this.#transmit(this.#active, unconfirmed);
  }

  /** Whoever has lent payloads of this kind of message takes their memory back: what the partner has not got yet is copied. */
  keepPayloads(kind: PairMessage["kind"]): void {
    for (let index = this.#unconfirmedAt; index < this.#unconfirmed.length; index++) {
      const entry = this.#unconfirmed[index]!;
      if (entry.message.kind !== kind) continue;
      const payload = entry.payload.map((part) => part.slice());
      const memory = entry.memory === null ? null : { ...entry.memory, headroomBytes: 0 };
      this.#unconfirmed[index] = { ...entry, payload, memory };
    }
  }

  /** See `SendText`. */
  sendText(message: LongMessage, text: Uint8Array, bytesMax: number): boolean {
    const parts = this.#met ? partsFor(this.#hello?.version ?? 0, text, bytesMax) : [];
    for (const { part, more } of parts ?? []) this.send({ ...message, more }, [part]);
    return parts !== null;
  }

  #transmit(wire: Wire | null, { number, message, payload, memory }: Unconfirmed): void {
    const frame: PairFrame = { kind: "message", number, received: this.#received, message };
    wire?.link?.send(frame, payload, memory?.headroomBytes);
  }

  // ---------------------------------------------------------------- connections

  /** The partner whose name comes first dials; the other one answers. An attempt that goes unanswered is not waited for. */
  #dial(wire: Wire): void {
    const { appliance, partner, clock } = this.#options;
    if (this.#stopped || appliance > partner || wire.link !== null || wire.introducing > 0) return;
    if (wire.attempts >= pairLimits.attemptsMax) return this.#dialLater(wire);
    wire.attempts++;
    let isOver = false;
    const over = (): void => {
      if (!isOver) this.#dialLater(wire);
      isOver = true;
    };
    const limit = clock.after(pairLimits.dialMs, over);
    wire.nic.connect(
      wire.address,
      (stream) => {
        wire.attempts--;
        limit.cancel();
        isOver = true;
        return this.#take(wire, stream, true);
      },
      () => {
        wire.attempts--;
        limit.cancel();
        over();
      },
    );
  }

  #dialLater(wire: Wire): void {
    if (this.#stopped || wire.redial !== null) return;
    wire.redial = this.#options.clock.after(pairLimits.dialWaitMs, () => {
      wire.redial = null;
      this.#dial(wire);
    });
  }

  #accept(wire: Wire, stream: ByteStream): StreamHandler {
    if (this.#strangers.size >= pairLimits.strangersMax) {
      const [oldest] = this.#strangers;
      oldest?.abort("aborted", "too many strangers");
    }
    return this.#take(wire, stream, false);
  }

  #take(wire: Wire, stream: ByteStream, dialled: boolean): StreamHandler {
    const { clock, times, appliance, partner } = this.#options;
    // Its bytes come from the partner's main loop, which may be late; the heartbeats tell sooner what has become of it.
    const linkTimes = { heartbeatMs: times.heartbeatMs, peerTimeoutMs: times.hungMs + times.limitMs };
    const link: PairLink = new FrameLink(stream, dialled, clock, linkTimes, pairCodec);
    if (this.#stopped || (!dialled && appliance < partner)) {
      clock.defer(() => link.abort("aborted", "not wanted here"));
      return link.handler;
    }
    this.#strangers.add(link);
    if (dialled) wire.introducing++;
    link.owner = {
      onFrame: (frame) => {
        if (frame.kind !== "hello") return this.#turnAway(link, `a ${frame.kind} came before a hello`);
        const fault = this.#judge(frame);
        if (fault !== null) {
          link.send({ kind: "refuse", text: fault });
          return this.#turnAway(link, fault);
        }
        this.#strangers.delete(link);
        if (dialled) wire.introducing--;
        // The other end dials again only when it has given up the former connection.
        this.#drop(wire, "another connection has come");
        this.#join(wire, link);
        this.#onHello(wire, frame);
      },
      onLost: (_reason, text) => {
        if (!this.#strangers.delete(link)) return;
        if (dialled) wire.introducing--;
        if (dialled) this.#dialLater(wire);
        else if (text.startsWith("the header")) this.#tell(`${stream.remote}: ${text}`);
      },
      onBeat: () => {},
    };
    if (dialled) {
      // The stream may be used once its handler is known to it.
      clock.defer(() => link.send(this.#helloNow()));
    }
    return link.handler;
  }

  #turnAway(link: PairLink, why: string): void {
    this.#tell(`${link.remote}: ${why}`);
    link.close("closed", why);
  }

  #tell(text: string): void {
    if (this.#told.has(text)) return;
    if (this.#told.size >= 100) this.#told.clear();
    this.#told.add(text);
    this.#options.events.emit("pair-stranger", `the interconnect refused ${text}`);
  }

  #judge(theirs: PairHello): string | null {
    const { array, partner } = this.#options;
    if (theirs.versionMin > pairVersion || theirs.version < pairVersionMin) {
      const ours = `${pairVersionMin} to ${pairVersion}`;
      return `${theirs.appliance} speaks versions ${theirs.versionMin} to ${theirs.version} of the pair's language, and this one ${ours}`;
    }
    if (theirs.array !== array)
      return `it is of array ${theirs.array}, and this one of ${array}; correct [pair] addresses`;
    if (theirs.appliance !== partner)
      return `it is ${theirs.appliance}, and the partner here is ${partner}; correct [pair] addresses`;
    return null;
  }

  #join(wire: Wire, link: PairLink): void {
    wire.link = link;
    wire.told = null;
    link.owner = {
      onFrame: (frame, payload) => this.#onFrame(wire, link, frame, payload),
      onLost: (_reason, text) => {
        if (wire.link === link) this.#wireDown(wire, text);
      },
      onBeat: () => link.send({ kind: "beat", received: this.#received }),
    };
  }

  #drop(wire: Wire, why: string): void {
    const { link } = wire;
    if (link === null) return;
    link.abort("aborted", why);
  }

  #wireDown(wire: Wire, why: string): void {
    const was = wire.joined;
    wire.link = null;
    wire.joined = false;
    if (this.#active === wire) this.#active = null;
    this.#dialLater(wire);
    if (!was || !this.#met) return;
    const next = this.#wires.find(({ joined }) => joined);
    this.#options.events.emit(
      "interconnect-nic-down",
      `${wire.nic.name} does not reach ${this.#options.partner}: ${why}`,
      {
        nic: wire.nic.name,
      },
    );
    if (next !== undefined) return this.#activate(next);
    this.#apartLookMs = this.#options.clock.nowMs();
    this.#apartMs = wire.beats?.pulse.quietMs ?? 0;
    this.#watchSilence();
  }

  // ---------------------------------------------------------------- sessions

  #newSession(): string {
    return toHex(this.#options.entropy.fill(new Uint8Array(16)));
  }

  #helloNow(): PairHello {
    const { array, appliance, cacheBytes, domain } = this.#options;
    return {
      kind: "hello",
      version: pairVersion,
      versionMin: pairVersionMin,
      array,
      appliance,
      session: this.#session,
      theirs: this.#theirs,
      portals: this.#options.portals(),
      cacheBytes,
      domain,
    };
  }

  #onFrame(wire: Wire, link: PairLink, frame: PairFrame, payload: Uint8Array): void {
    if (frame.kind === "hello") {
      if (this.#judge(frame) === null) this.#onHello(wire, frame);
      return;
    }
    if (frame.kind === "refuse") {
      this.#tell(`${this.#options.partner}: ${frame.text}`);
      link.abort("aborted", frame.text);
      return;
    }
    if (!wire.joined) return;
    this.#lastHeardMs = this.#options.clock.nowMs();
    this.#confirm(frame.received);
    if (frame.kind !== "message" || frame.number <= this.#received) return;
    if (frame.number !== this.#received + 1) {
      link.abort("malformed", `message ${frame.number} came behind ${this.#received}`);
      return;
    }
    this.#received = frame.number;
    this.#owner.onMessage(frame.message, payload);
  }

  #onHello(wire: Wire, theirs: PairHello): void {
    if (this.#met && theirs.session !== this.#theirs) this.#lost(`${theirs.appliance} has begun anew`, wire);
    this.#theirs = theirs.session;
    this.#hello = theirs;
    if (wire.told !== theirs.session) {
      wire.told = theirs.session;
      wire.link?.send(this.#helloNow());
    }
    if (theirs.theirs !== this.#session || wire.joined) return;
    wire.joined = true;
    this.#lastHeardMs = this.#options.clock.nowMs();
    this.#look?.cancel();
    this.#look = null;
    this.#options.events.emit("interconnect-nic-up", `${wire.nic.name} reaches ${theirs.appliance}`, {
      nic: wire.nic.name,
    });
    if (this.#active === null) this.#activate(wire);
    if (this.#met) return;
    this.#met = true;
    this.#beginBeats(theirs.session);
    this.#owner.onMet(theirs);
  }

  #activate(wire: Wire): void {
    this.#active = wire;
    for (let index = this.#unconfirmedAt; index < this.#unconfirmed.length; index++)
      this.#transmit(wire, this.#unconfirmed[index]!);
  }

  #confirm(received: number): void {
    const entries = this.#unconfirmed;
    while (this.#unconfirmedAt < entries.length && entries[this.#unconfirmedAt]!.number <= received)
      entries[this.#unconfirmedAt++]!.memory?.released();
    if (this.#unconfirmedAt === entries.length) {
      entries.length = 0;
      this.#unconfirmedAt = 0;
    } else if (this.#unconfirmedAt > 1024) {
      entries.splice(0, this.#unconfirmedAt);
      this.#unconfirmedAt = 0;
    }
  }

  // ---------------------------------------------------------------- heartbeats

  #beginBeats(theirs: string): void {
    const { heartbeats, clock, partner, times } = this.#options;
    for (const [index, wire] of this.#wires.entries()) {
      const channel = heartbeats.open({
        nic: wire.nic.name,
        address: wire.address,
        remote: partner,
        intervalMs: times.heartbeatMs,
        sendKey: this.#beatKey(this.#session, theirs, index),
        hearKey: this.#beatKey(theirs, this.#session, index),
      });
      wire.beats = { channel, pulse: new NicPulse(times, clock.nowMs()) };
    }
  }

  #beatKey(from: string, to: string, index: number): Uint8Array {
    return this.#options.digests.sha256(new TextEncoder().encode(`goldcopy heartbeat 1 ${from} ${to} ${index}`));
  }

  #endBeats(): void {
    for (const wire of this.#wires) {
      wire.beats?.channel.close();
      wire.beats = null;
    }
    this.#lateMs = 0;
  }

  /** At every heartbeat: the loop has turned, and each NIC is judged. */
  #turned(): void {
    const { heartbeats, clock, times, partner } = this.#options;
    heartbeats.turned();
    for (const wire of this.#wires) {
      const { beats, joined, link } = wire;
      if (beats === null) continue;
      const lastByteMs = joined && link !== null ? link.lastHeardMs : null;
      const heard = beats.channel.heard();
      this.#noteLateness(heard);
      const verdict = beats.pulse.look(clock.nowMs(), lastByteMs, heard);
      if (verdict.kind === "hung") this.#lost(`${partner} hangs: ${verdict.text}`, null);
      else if (verdict.kind === "silent") link?.abort("timeout", verdict.text);
    }
    if (!this.#stopped) this.#turn = clock.after(times.heartbeatMs, () => this.#turned());
  }

  #noteLateness({ stillMs, silentMs }: Heard): void {
    const { heartbeatMs, limitMs } = this.#options.times;
    if (silentMs >= limitMs) return;
    if (stillMs >= limitMs) this.#lateMs = Math.max(this.#lateMs, stillMs);
    else if (this.#lateMs > 0 && stillMs < 2 * heartbeatMs) {
      const text = `the main loop of ${this.#options.partner} stood still for longer than ${limitMs} ms, and turns again`;
      this.#options.events.emit("partner-late", text, { stillMs: Math.round(this.#lateMs) });
      this.#lateMs = 0;
    }
  }

  /**
   * No connection is left: it comes back in time, or the partner is dead, or it counts as lost. One whose heartbeats come may be late, and
   * answers when its loop has turned.
   */
  #watchSilence(): void {
    const { clock, times, partner } = this.#options;
    if (this.#owner.partnerIsDead()) return this.#lost(`${partner} is dead`, null);
    const nowMs = clock.nowMs();
    this.#apartMs += Math.min(nowMs - this.#apartLookMs, 2 * times.heartbeatMs);
    this.#apartLookMs = nowMs;
    const beats = this.#wires.map((wire) => wire.beats?.channel.heard().silentMs ?? this.#apartMs);
    const silentMs = Math.min(this.#apartMs, ...beats);
    if (silentMs >= times.limitMs || this.#apartMs >= times.hungMs)
      return this.#lost(`nothing was heard of ${partner} for ${Math.round(this.#apartMs)} ms`, null);
    this.#look = clock.after(pairLimits.lookMs, () => this.#watchSilence());
  }

  /** `except`: a connection that is of the next session already. */
  #lost(why: string, except: Wire | null): void {
    this.#met = false;
    this.#look?.cancel();
    this.#look = null;
    this.#session = this.#newSession();
    this.#theirs = null;
    this.#hello = null;
    this.#active = null;
    this.#sent = 0;
    this.#received = 0;
    this.#unconfirmed = [];
    this.#unconfirmedAt = 0;
    this.#endBeats();
    for (const wire of this.#wires) {
      wire.joined = false;
      wire.told = null;
      if (wire !== except) this.#drop(wire, why);
    }
    this.#owner.onLost(why);
  }
}
