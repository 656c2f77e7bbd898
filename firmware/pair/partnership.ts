/**
 * One appliance of a pair: who owns the array, and what becomes of it when the partner, the interconnect or both are lost.
 *
 *     free ──the partner owns or leads──▶ standby ──partner lost──▶ free
 *     free ──elected and followed, or the partner proven dead──▶ starting ──pool open──▶ owner ──hand-over──▶ standby
 *     standby ──hand-over──▶ starting          starting ──refused──▶ refused ──the partner leads──▶ standby
 *
 * Invariants:
 * - The pool is opened only while the partner has promised to follow in this session, has handed it over, or is proven dead. Whoever
 *   has promised opens it only after proof that the other one is harmless: by a fence below the firmware (L1, `partner_fence.ts`).
 * - While the partner is heard through the shelf it is not fenced: a cut interconnect moves nothing.
 * - An owner that loses its partner goes on by itself: nobody opens the pool beside it without fencing it first.
 */
import type { Nic } from "../../hal/api/nic.ts";
import { nonceIn } from "../cache/nvram.ts";
import { assert } from "../codec/assert.ts";
import type { Portal as IscsiPortal } from "../frontend/iscsi/text_exchange.ts";
import type { TargetPortGroup } from "../frontend/scsi/target_port_groups.ts";
import type { Api, ApiAnswer } from "../manage/api.ts";
import { done, type FailoverJson, type Result, refused } from "../manage/control.ts";
import type { ApplianceJson, PairStatusJson, WarningJson } from "../manage/status_json.ts";
import { Calls } from "./calls.ts";
import type { CopyKeeper } from "./copy_keeper.ts";
import { CopyTarget } from "./copy_target.ts";
import { elect } from "./election.ts";
import { unreached } from "./empty_slots.ts";
import { judgeFailover, whyNotTakeable } from "./failover_judgement.ts";
import type { SendMessage } from "./forwarder.ts";
import type { PairHello, PairMessage, PairRole, PairState } from "./frame.ts";
import { prepareHandOver } from "./hand_over_preparation.ts";
import { HardwareLease } from "./hardware_lease.ts";
import { HomePolicy } from "./home_policy.ts";
import { HostService } from "./host_service.ts";
import { Inheritance } from "./inheritance.ts";
import { Interconnect } from "./interconnect.ts";
import { checkTimes, type HalfNumber, type PairTimes, pairLimits } from "./limits.ts";
import type { SendText } from "./long_text.ts";
import { MirroredCache } from "./mirrored_cache.ts";
import type { PairPort } from "./pair_port.ts";
import { type PairFacts, pairStatus, pairWarnings, partnerJson, unlikeCaches } from "./pair_report.ts";
import { PartnerCopy } from "./partner_copy.ts";
import { PartnerWatch } from "./partner_watch.ts";
import type { Engine, PartnershipOptions } from "./partnership_options.ts";
import { type LastWord, ShelfHeart } from "./shelf_heart.ts";
import { whenSo } from "./when_so.ts";

export class Partnership implements PairPort {
  readonly partner: string;
  readonly mirror: MirroredCache;
  /** The array's firmware has begun, or has ended, to run here. */
  onEngine: () => void = () => {};
  onRole: () => void = () => {};
  onLost = (): void => {};
  /** The partner owns the half, and it is followed here. */
  onFollowed = (): void => {};
  moreSpace: () => Promise<boolean> = async () => false;
  readonly #options: PartnershipOptions;
  readonly #times: PairTimes;
  readonly #interconnect: Interconnect;
  readonly #heart: ShelfHeart;
  readonly #target: CopyTarget;
  readonly #hosts: HostService;
  readonly #calls: Calls;
  readonly #peerNics: readonly Nic[];
  #role: PairRole = "free";
  /** The half is about to be handed over; hosts go on. */
  #isPreparing = false;
  #refusal = "";
  #theirs: PairState | null = null;
  /** This side has been elected, and waits for the promise. */
  #leading = false;
  #everMet = false;
  readonly #watch: PartnerWatch;
  readonly #home: HomePolicy;
  readonly #inheritance: Inheritance;
  #engine: Engine | null = null;
  /** Has ended to be handed over: what it served counts as served until the partner has it. */
  #given: Engine | null = null;
  #lease: HardwareLease | null = null;
  readonly #copy: PartnerCopy;
  #told = "";
  /** Answers what the partner is asked for and brings here. */
  api: Api | null = null;

  constructor(options: PartnershipOptions) {
    const { hal, pair, events, array, appliance } = options;
    this.#options = options;
    this.partner = pair.partner;
    this.#times = pair;
    checkTimes(this.#times);
    assert(options.fence.target === pair.partner, "the fence is for the partner");
    const { clock, entropy, digests, cache, heartbeats } = hal;
    assert(heartbeats !== null, "the hardware of a pair sends heartbeats");
    const common = { clock, entropy, digests, events, array };
    this.#inheritance = new Inheritance(clock, pair.heartbeatMs);
    this.mirror = new MirroredCache(cache, clock, digests);
    this.#peerNics = hal.nics.filter(({ name }) => !pair.nics.includes(name));
    const send: SendMessage = (...sent) => this.#interconnect.send(...sent);
    const sendText: SendText = (...sent) => this.#interconnect.sendText(...sent);
    const own = { clock, events, partner: pair.partner, send };
    const service = { ...own, front: options.front, part: options.half, appliance, ownPorts: hal.hbaPorts };
    const keepAsked = () => this.#interconnect.keepPayloads("ask");
    this.#hosts = new HostService({ ...service, sendText, keepAsked, partnerOwns: this.#partnerOwns });
    this.#calls = new Calls(clock, send, sendText);
    this.#copy = new PartnerCopy({
      ...own,
      mirror: this.mirror,
      fence: options.fence,
      met: () => this.#interconnect.met,
      role: () => this.#role,
      partnerRole: () => this.#theirs?.role ?? null,
      nonce: () => this.#nonce(),
      changed: () => this.#tellState(),
    });
    this.#interconnect = new Interconnect(
      {
        ...common,
        heartbeats,
        nics: pair.nics.map((name) => hal.nics.find((nic) => nic.name === name)!),
        addresses: pair.addresses,
        appliance,
        partner: pair.partner,
        times: this.#times,
        cacheBytes: cache.sizeBytes,
        domain: cache.domain,
        portals: () => hal.hbaPorts.map(({ protocol, address }) => ({ protocol, address })),
      },
      {
        onMet: (theirs) => this.#met(theirs),
        onLost: (why) => this.#lost(why),
        onMessage: (message, payload) => this.#received(message, payload),
        partnerIsDead: () => options.fence.isHarmless(),
      },
    );
    this.#heart = new ShelfHeart({
      ...common,
      shelves: hal.shelves,
      place: appliance < pair.partner ? 0 : 1,
      half: options.half,
      heartbeatMs: pair.heartbeatMs,
      limitMs: pair.limitMs,
      owns: () => this.#owns,
      serving: () => this.#serving(),
      looked: () => this.#needLease(),
      counted: (sentMs) => options.lease?.renew(options.half, sentMs),
      refused: (disk) => options.refusedBy(disk, false),
    });
    this.#target = new CopyTarget({
      cache,
      digests,
      nonce: () => this.#nonce(),
      send: (message, payload) => this.#interconnect.send(message, payload),
      broken: (text) => {
        events.emit("pair-language", `${pair.partner} has sent what cannot be: ${text}; its copy here is given up`);
        this.#interconnect.send({ kind: "mirrorFailed", text: `its messages were refused: ${text}` });
      },
    });
    this.#home = new HomePolicy(pair.returnAfterMs);
    this.#watch = new PartnerWatch({
      clock,
      fence: options.fence,
      heart: this.#heart,
      events,
      times: this.#times,
      fencesFirst: options.fencesFirst,
      isWatching: () => !this.#interconnect.met && (this.#role === "free" || this.#role === "refused"),
      gone: (how, last) => this.#takeOver(how, last),
    });
  }
  get #name(): string {
    return `the ${this.#options.half === 0 ? "first" : "second"} half of array ${this.#options.array}`;
  }
  get half(): HalfNumber {
    return this.#options.half;
  }
  get role(): PairRole {
    return this.#role;
  }
  get engine(): Engine | null {
    return this.#engine;
  }
  get refusal(): string {
    return this.#refusal;
  }
  get preferredOwner(): string {
    return this.#options.pair.preferred ? this.#options.appliance : this.partner;
  }
  /** Of the partner, as it said last while it serves; null: not known. */
  get theirGroups(): readonly string[] | null {
    return this.#hosts.theirGroups;
  }
  get #owns(): boolean {
    return this.#role === "owner" || this.#role === "starting";
  }
  /** Nobody serves the array now, and somebody is about to. */
  get isWorthWaiting(): boolean {
    return (this.#role !== "free" && this.#role !== "refused") || this.#interconnect.met || this.#watch.isFresh;
  }
  /** Takes the addresses and looks for the partner; a sentence says which address could not be taken. */
  async start(): Promise<string | null> {
    const nics = await new Promise<readonly string[]>((resolve) => this.#interconnect.start(resolve));
    if (nics.length > 0) return nics.join("; ");
    this.#heart.start();
    this.#watch.look();
    this.#tick();
    return null;
  }

  // ---------------------------------------------------------------- meeting and losing

  #met(theirs: PairHello): void {
    const { events, hal } = this.#options;
    this.#everMet = true;
    this.#watch.met();
    this.#hosts.met(theirs.portals);
    this.#copy.met(unlikeCaches(theirs, hal.cache));
    events.emit("partner-met", `${this.partner} answers on the interconnect`);
    this.#tellState();
    hal.clock.defer(() => this.#decide());
  }

  #lost(why: string): void {
    this.#options.events.emit("partner-lost", `${this.partner} is lost: ${why}`, { role: this.#role });
    if (this.#role === "standby") this.#inheritance.ownerIsLost(this.#interconnect.lastHeardMs);
    this.#theirs = null;
    this.#leading = false;
    this.#target.close();
    this.#hosts.lost();
    this.onLost();
    this.#calls.endAll(`${this.partner}, which was asked, is lost; ask again in a moment`);
    this.#copy.lost(`${this.partner} is lost`);
    this.#portsMoved();
    if (this.#role === "standby") this.#become("free");
    this.#heart.findPool();
    this.#watch.lost();
  }

  #received(message: PairMessage, payload: Uint8Array): void {
    switch (message.kind) {
      case "state":
        // It may have made the pool.
        if (message.role === "owner" && this.#theirs?.role !== "owner") this.#heart.findPool(() => {});
        this.#theirs = message;
        if (this.#role === "standby") this.#options.front.partnerIs(this.#options.half, message.role);
        this.mirror.setPartnerBattery(message.batteryGood ? "good" : "failed");
        this.#portsMoved();
        this.#decide();
        if (this.#partnerOwns()) this.onFollowed();
        return this.#hosts.look();
      case "lead":
        return this.#led();
      case "follow":
        if (this.#leading && this.#role === "free") void this.#open(false);
        this.#leading = false;
        return;
      case "handOver":
        if (this.#role !== "standby") return;
        this.#hosts.leavePartner();
        this.#target.close();
        this.#inheritance.handedOver(this.#theirs?.serving ?? []);
        this.mirror.adopt((sent, parts) => this.#interconnect.send(sent, parts));
        this.#options.events.emit("pair-handed-over", `${this.partner} hands ${this.#name} over`);
        void this.#open(true);
        return;
      case "attach":
      case "mirror":
      case "compare":
        if (this.#role === "standby") this.#target.onMessage(message, payload);
        return;
      case "attached":
      case "differs":
      case "mirrored":
      case "mirrorFailed":
        return this.mirror.onMessage(message);
      case "call":
        if (this.api !== null) this.#calls.serve(message, payload, this.api);
        return;
      case "answer":
        return this.#calls.answered(message, payload);
      default: {
        const fault = this.#hosts.onMessage(message, payload);
        if (fault === null) return;
        const text = `${this.partner} has sent what cannot be: ${fault}; the session ends`;
        this.#options.events.emit("pair-language", text);
        this.#interconnect.giveUp(fault);
      }
    }
  }

  /** What the two roles mean for each other. */
  #decide(): void {
    const theirs = this.#theirs;
    if (theirs === null || !this.#interconnect.met) return;
    if (this.#owns) {
      if (theirs.role === "owner" || theirs.role === "starting") this.#twoOwners();
      else if (this.#role === "owner") this.#copy.bring();
      return;
    }
    if (this.#role === "stopping") return;
    if (this.#role === "standby") {
      // It has come to nothing over there.
      if (theirs.role !== "free" && theirs.role !== "refused") return;
      this.#become(this.#refusal === "" ? "free" : "refused");
    }
    const outcome = elect({ ...this.#options, state: this.#state() }, { appliance: this.partner, state: theirs });
    if (outcome === "partner" && (theirs.role === "owner" || theirs.role === "starting")) this.#become("standby");
    else if (outcome === "own" && !this.#leading) {
      this.#leading = true;
      this.#interconnect.send({ kind: "lead" });
    } else if (outcome === "nobody") this.#options.end(this.#refusal, false);
  }

  #led(): void {
    if (this.#role === "free" || this.#role === "refused") {
      this.#leading = false;
      this.#become("standby");
    }
    // From here on the pool is opened only after the partner has been fenced, or has handed it over.
    if (this.#role === "standby") this.#interconnect.send({ kind: "follow" });
    else this.#tellState();
  }

  /** One of the two was evicted, and has not noticed: the disks know which. Where a fence kills, a proof of death was false. */
  #twoOwners(): void {
    if (!this.#options.fence.kills) return this.#options.fence.look();
    this.#options.end(
      `${this.partner} owns a part of array ${this.#options.array} as well; this appliance ends before it writes more`,
      true,
    );
  }

  // ---------------------------------------------------------------- owning

  #takeOver(how: string, last: LastWord): void {
    if (this.#role === "refused") return this.#options.end(this.#refusal, false);
    const { events, appliance } = this.#options;
    this.#inheritance.takenOver(last, this.#heart.aliveMs);
    events.emit("pair-takeover", `${this.partner} ${how}: ${appliance} takes ${this.#name}`);
    void this.#open(true);
  }

  async #open(isHeir: boolean): Promise<void> {
    if (!isHeir) this.#inheritance.opened();
    this.#become("starting");
    if (this.mirror.state === "alone" && this.#theirs?.nonce != null && this.#theirs.nonce === this.#nonce()) {
      await this.#copy.complete();
    }
    const lent = { ...this.#options.hal, cache: this.mirror, hbaPorts: [], nics: this.#peerNics };
    const lease = new HardwareLease(lent, (disk) => this.#options.refusedBy(disk, true));
    this.#lease = lease;
    const outcome = await this.#options.open(lease.hal, this);
    if (!lease.open) return;
    if (!outcome.ok) {
      await lease.end();
      this.#lease = null;
      this.#copy.keptBy(null);
      this.mirror.detach(`${this.#options.appliance} has refused to start`);
      this.#refusal = outcome.text;
      this.#become("refused");
      if (this.#interconnect.met) this.#decide();
      else this.#options.end(outcome.text, false);
      return;
    }
    this.#engine = outcome;
    outcome.groups.onServing = () => this.#engine === outcome && this.#tellState();
    this.#become("owner");
    this.#hosts.letIn(outcome.seat, outcome.groups, () => this.#tellState());
    this.#heart.findPool();
    this.onEngine();
    this.#copy.look();
    this.#decide();
  }

  succeeds(): boolean {
    return this.#options.wasServed();
  }
  inherits(groupId: string): boolean {
    return this.#inheritance.has(groupId);
  }

  /** Tells the partner which groups are served, and what the shelves lack, when that has changed; and an array goes home when it is time. */
  #tick(): void {
    if (this.#role === "stopping") return;
    const { clock, shelves } = this.#options.hal;
    const toTell = [...this.#serving(), ...unreached(shelves, this.#heart.failing)].join();
    if (toTell !== this.#told) {
      this.#told = toTell;
      this.#tellState();
    }
    this.#hosts.tellDirectory();
    const isTheirs = this.#theirs?.preferred === true && !this.#options.pair.preferred;
    const isAway = this.#role === "owner" && this.#whyNotTakeable === null && isTheirs;
    if (this.#home.isDue(isAway, clock.nowMs())) void this.failover(this.partner);
    if (this.#interconnect.met) this.#watch.heard(this.#interconnect.lastHeardMs);
    clock.after(this.#times.heartbeatMs, () => this.#tick());
  }

  #serving(): readonly string[] {
    const entries = (this.#engine ?? this.#given)?.groups.entries() ?? [];
    return entries.filter(({ replication }) => replication.role.is("serving")).map(({ group }) => group.id);
  }

  keptBy(keeper: CopyKeeper): void {
    this.#copy.keptBy(keeper);
  }
  get isCopyWanted(): boolean {
    return this.#copy.isWanted;
  }
  get writesBackAlone(): boolean {
    return this.#options.pair.writesBackAlone;
  }

  portGroups(): readonly TargetPortGroup[] {
    return this.#hosts.portGroups(this.#interconnect.met && this.#theirs?.role === "standby");
  }

  partnerPortals(): readonly IscsiPortal[] {
    return this.#hosts.partnerPortals();
  }

  #portsMoved(): void {
    this.#engine?.seat.portGroupsChanged();
  }

  /** A request about the array, at the partner that owns it; null: it does not own it, as far as is known here. `waitMs`: see `Calls`. */
  askOwner(method: string, path: string, body: string, waitMs?: number): Promise<ApiAnswer> | null {
    return this.#partnerOwns() ? this.#calls.ask(method, path, body, waitMs) : null;
  }

  /** A request to the partner, whoever owns; null: it is not there. */
  askPartner(method: string, path: string, body: string): Promise<ApiAnswer> | null {
    return this.#interconnect.met ? this.#calls.ask(method, path, body) : null;
  }

  // ---------------------------------------------------------------- handing over

  async failover(to: string | null): Promise<Result<FailoverJson>> {
    const answer = this.#judgeFailover(to);
    if (answer !== null) return answer;
    await this.#prepare();
    // Much may have come about meanwhile.
    const changed = this.#judgeFailover(to);
    if (changed !== null) return changed;
    await this.#handOver();
    await this.#whenTaken();
    if (this.#partnerOwns()) return done({ changed: true, owner: this.partner });
    return refused("failed", `${this.partner} did not take the array over; goldcopy log tells why`);
  }

  #judgeFailover(to: string | null): Result<FailoverJson> | null {
    return judgeFailover(to, {
      ...this.#options,
      partner: this.partner,
      isOwner: this.#role === "owner" && this.#lease !== null && !this.#isPreparing,
      whyNot: this.#whyNotTakeable,
    });
  }

  get #whyNotTakeable(): string | null {
    return whyNotTakeable(this.partner, this.mirror, this.#engine?.pool.disks() ?? [], this.#theirs);
  }

  async #prepare(): Promise<void> {
    this.#isPreparing = true;
    await prepareHandOver(this.#options.hal.clock, this.#calls, async () => this.#engine?.groups.bringHome());
    this.#isPreparing = false;
  }

  /** Everything of the array's firmware ends here; what it has stored is at the partner before the hand-over is. */
  async #handOver(): Promise<void> {
    const lease = this.#lease!;
    // The partner keeps in mind what is served until now.
    this.#hosts.letNobodyIn();
    this.#tellState();
    this.#lease = null;
    this.#given = this.#engine;
    this.#engine = null;
    this.#copy.keptBy(null);
    this.#options.events.emit("pair-handing-over", `${this.#name} is handed over to ${this.partner}`);
    const hung = this.#options.hal.clock.after(pairLimits.quietMs, () =>
      this.#options.end(
        "a disk has not answered while the array was handed over; the partner takes it when this process is dead",
        true,
      ),
    );
    await lease.end();
    this.#hosts.ended();
    await new Promise<void>((resolve) => this.mirror.persist(() => resolve()));
    hung.cancel();
    this.#given = null;
    this.onEngine();
    if (!this.#interconnect.met || this.mirror.state !== "mirrored") {
      // It was lost meanwhile: nothing was handed over, and nothing runs here.
      this.#become("free");
      this.#watch.look();
      return;
    }
    this.#interconnect.send({ kind: "handOver" });
    this.#become("standby");
    this.mirror.detach("handed over");
    this.#target.adopt();
  }

  /** Before an orderly end: the partner gets the half where it can. */
  async handOverIfPossible(): Promise<void> {
    if (this.#engine === null || this.#whyNotTakeable !== null) return;
    await this.#prepare();
    if (this.#engine === null || this.#whyNotTakeable !== null) return;
    await this.#handOver();
    await this.#whenTaken();
  }

  /** An orderly end; what the partner does not have goes home. Hosts have gone. */
  async stop(): Promise<void> {
    await this.#engine?.control.stop();
    this.#become("stopping");
    this.#watch.stop();
    await this.#lease?.end();
    await this.#heart.stop();
    this.#interconnect.stop();
  }

  status(): PairStatusJson {
    return pairStatus(this.#facts());
  }

  partnerJson(): ApplianceJson {
    return partnerJson(this.#facts());
  }

  warnings(): WarningJson[] {
    return pairWarnings(this.#facts(), this.#options.front.serviceTrouble);
  }

  #facts(): PairFacts {
    return {
      ...this.#options,
      partner: this.partner,
      preferredOwner: this.preferredOwner,
      role: this.#role,
      theirs: this.#theirs,
      met: this.#interconnect.met,
      everMet: this.#everMet,
      partnerCacheBytes: this.#interconnect.partner?.cacheBytes ?? 0,
      nics: this.#interconnect.nics(),
      mirror: this.mirror,
      copyRefused: this.#copy.whyNone,
      copyTrouble: this.#copy.trouble,
      disks: this.#engine?.pool.disks() ?? [],
      watch: this.#watch,
      heart: this.#heart,
    };
  }

  #become(role: PairRole): void {
    if (this.#role === role) return;
    this.#role = role;
    if (role === "owner") this.#refusal = "";
    this.#needLease();
    this.#options.front.roleIs(this.#options.half, role);
    this.#tellState();
    this.onRole();
  }

  /** Without a pool there is nothing to take over, nor to count on. Where the firmware runs there is one, found already or not. */
  #needLease(): void {
    const isThere = this.#heart.knowsPool || this.#engine !== null;
    this.#options.lease?.need(this.#options.half, this.#owns && isThere);
  }

  #state(): PairState {
    return {
      kind: "state",
      role: this.#role === "owner" && !this.#hosts.letsHostsIn ? "starting" : this.#role,
      nonce: this.#nonce(),
      batteryGood: this.mirror.localBattery() === "good",
      text: this.#refusal,
      preferred: this.#options.pair.preferred,
      serving: this.#serving().slice(0, pairLimits.groupsMax),
      emptySlots: unreached(this.#options.hal.shelves, this.#heart.failing),
      copy: this.mirror.state === "mirrored" ? "whole" : this.mirror.state === "alone" ? "none" : "unfinished",
    };
  }

  #tellState = (): void => {
    this.#heart.tell();
    this.#interconnect.send(this.#state());
  };

  #nonce = (): string | null => nonceIn(this.#options.hal);

  /** Followed here: one that has been evicted and has not noticed owns nothing. */
  #partnerOwns = (): boolean => this.#role === "standby" && this.#theirs?.role === "owner";

  /** After a hand-over: the partner has the array, or it has come to nothing. */
  #whenTaken(): Promise<void> {
    return whenSo(this.#options.hal.clock, pairLimits.lookMs, () => this.#partnerOwns() || this.#role !== "standby");
  }
}
