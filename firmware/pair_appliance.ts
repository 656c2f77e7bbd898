/**
 * One appliance of a pair: its front ends, and a partnership for each half of the array, with the firmware of the half whenever it owns it.
 *
 * The halves share hardware, and nothing else: each has a half of the write cache, its own metadata in the pool, its own conversation on
 * the interconnect. Usually each appliance owns one half; after a failure one of them owns both.
 *
 * Invariant: the operator's words (`acceptCacheLoss`, `acceptStaleDisk`) hold for one start of each half, and for none once the partner has
 * served it: they were about what there was when the process began, and it may run for months and start a half many times.
 */
import type { Hal } from "../hal/api/hal.ts";
import type { Nic } from "../hal/api/nic.ts";
import { type ApplianceConfig, type StartOptions, type StartOutcome, startAppliance } from "./appliance.ts";
import { cacheHalves } from "./cache/cache_halves.ts";
import { assert } from "./codec/assert.ts";
import type { ApiAnswer } from "./manage/api.ts";
import type { PairConfig } from "./manage/board_profile.ts";
import type { Result } from "./manage/control.ts";
import type { EventSink } from "./manage/events.ts";
import { iscsiTargetName } from "./manage/iscsi_name.ts";
import { Tenure } from "./manage/tenure.ts";
import { GroupMover, settleEveryMs } from "./pair/group_mover.ts";
import { HalfCalls, halfCallPrefix } from "./pair/half_calls.ts";
import { HostFront } from "./pair/host_front.ts";
import { leasedAddress, leasedNic, leasedPort } from "./pair/leased_ports.ts";
import { type HalfNumber, halfNumbers } from "./pair/limits.ts";
import { claimsOfOther } from "./pair/other_claims.ts";
import { fenceByPower, type PartnerFence } from "./pair/partner_fence.ts";
import { Partnership } from "./pair/partnership.ts";
import { type KnownGroups, lanesByGroup } from "./pair/peer_lanes.ts";
import { portPlaceOf } from "./pair/port_groups.ts";
import { ReadLease } from "./pair/read_lease.ts";
import { Readiness } from "./pair/readiness.ts";
import { lanesByMark, SharedNic } from "./pair/shared_nic.ts";
import { ShelfEviction } from "./pair/shelf_eviction.ts";
import { SpaceBalance } from "./pair/space_balance.ts";
import { whenPoolIsThere } from "./pair/when_pool_is_there.ts";

export interface PairApplianceOptions {
  readonly hal: Hal;
  readonly config: ApplianceConfig;
  readonly pair: PairConfig;
  readonly events: EventSink;
  readonly version: string;
  readonly diskProblems?: readonly string[];
  /** Starts the firmware of a half; `startAppliance` unless given (a simulation looks on). */
  readonly start?: (options: StartOptions) => Promise<StartOutcome>;
  /** What makes the first start of a half as quick as later ones (`rehearsal.ts`); nothing unless given. */
  readonly rehearse?: () => Promise<unknown>;
  /** The process is to end; the text says why, in one line. */
  end(text: string): void;
}

const noWords = { acceptCacheLoss: false, acceptStaleDisk: false };

interface HalfTraffic {
  readonly mover: GroupMover;
  readonly calls: HalfCalls;
  readonly balance: SpaceBalance;
}

export class PairAppliance {
  readonly halves: readonly Partnership[];
  /** The firmware of a half has begun, or has ended, to run here. */
  onEngine: (half: HalfNumber) => void = () => {};
  readonly #options: PairApplianceOptions;
  readonly #fence: PartnerFence;
  /** Where the shelf fences the partner. */
  readonly #eviction: ShelfEviction | null;
  readonly #lease: ReadLease | null;
  readonly #front: HostFront;
  readonly #nics: readonly SharedNic[];
  readonly #refused = new Map<HalfNumber, string>();
  /** Halves that have been served since the process began, here or by the partner. */
  readonly #served = new Set<HalfNumber>();
  readonly #readiness: Readiness;
  readonly #traffic: readonly HalfTraffic[];
  /** Of the halves' firmware here. */
  readonly tenures: readonly Tenure[] = halfNumbers.map(() => new Tenure());
  #isEnding = false;
  #isStopped = false;

  /** Not started yet. */
  constructor(options: PairApplianceOptions) {
    const { hal, pair, config, events } = options;
    const { name, appliance } = config.array;
    this.#options = options;
    const isAtomic = hal.shelves.every(({ fencing }) => fencing === "atomic");
    assert(isAtomic || hal.power !== null, "a partner can be fenced");
    this.#lease = isAtomic ? new ReadLease(hal.clock, pair.limitMs, halfNumbers.length) : null;
    this.#eviction = isAtomic ? this.#newEviction() : null;
    this.#fence = this.#eviction ?? fenceByPower(hal.power!);
    const isOfPair = (nic: Nic) => pair.nics.includes(nic.name);
    const outward = this.#lease === null ? hal : underLease(hal, this.#lease, isOfPair);
    this.#front = new HostFront({
      hal: outward,
      events,
      nbdTls: config.tls?.nbd ?? "off",
      targetName: config.iscsi?.targetName ?? iscsiTargetName(name),
      own: config.iscsi?.own ?? null,
      place: portPlaceOf(appliance, pair.partner),
      partCount: halfNumbers.length,
      partnerPortals: () => this.halves[0]!.partnerPortals(),
      isWorthWaiting: (part) => this.halves[part]!.isWorthWaiting,
    });
    const rules = { pair: lanesByMark, peers: lanesByGroup(() => this.#knownGroups()) };
    this.#nics = outward.nics.map(
      (nic) => new SharedNic(nic, halfNumbers.length, hal.clock, isOfPair(nic) ? rules.pair : rules.peers),
    );
    this.#readiness = new Readiness(hal.clock, () => this.#rehearse());
    const caches = cacheHalves(hal.cache);
    this.halves = halfNumbers.map((half) => {
      const halfHal = { ...hal, cache: caches[half], nics: this.#nics.map(({ lanes }) => lanes[half]!) };
      return this.#half(half, halfHal);
    });
    this.#traffic = halfNumbers.map((half) => this.#trafficOf(half));
  }

  /** A defect that ends it leaves a first start that takes longer, and nothing else. */
  async #rehearse(): Promise<void> {
    const { rehearse, events } = this.#options;
    await rehearse?.().catch((error) => events.emit("rehearsal-failed", String(error)));
  }

  #newEviction(): ShelfEviction {
    const { hal, pair } = this.#options;
    return new ShelfEviction({
      ...hal,
      partner: pair.partner,
      limitMs: pair.limitMs,
      evicted: (text) => {
        this.#lease?.revoke();
        this.#endNow(text);
      },
    });
  }

  /** What goes between a half and the other one. */
  #trafficOf(half: HalfNumber): HalfTraffic {
    const { hal, events } = this.#options;
    const own = this.halves[half]!;
    const other = this.halves[1 - half]!;
    const engine = () => own.engine;
    const tenure = this.tenures[half]!;
    const askOther = (path: string, body: object): Promise<ApiAnswer> | null => {
      const text = JSON.stringify(body);
      if (other.engine !== null) return this.#traffic[1 - half]!.calls.answer(path, text);
      return other.askOwner("POST", path, text);
    };
    const hold = async (uuids: readonly string[], isHeld: boolean): Promise<void> => {
      if (!isHeld) this.#front.release(uuids, half);
      const there = own.askPartner("POST", "/half/hold", JSON.stringify({ uuids, isHeld }));
      await Promise.all([isHeld ? this.#front.hold(uuids, half) : null, there]);
    };
    const mover = new GroupMover({ clock: hal.clock, events, half, engine, tenure, askOther, hold });
    const calls = new HalfCalls({
      half,
      engine,
      isAsking: () => balance.isAsking,
      hasCeded: () => balance.searchAgain(),
      tenure,
      front: this.#front,
      move: (group, timeoutMs) => mover.move(group, timeoutMs),
      ready: () => this.#readiness.whenReady(),
    });
    const balance = new SpaceBalance({ half, events, engine, tenure, askOther });
    own.onLost = () => {
      calls.partnerLost();
      this.#searchAgain();
    };
    own.moreSpace = () => balance.more();
    return { mover, calls, balance };
  }

  /** What was on its way between the halves may be nobody's. */
  #searchAgain(): void {
    for (const { balance } of this.#traffic) balance.searchAgain();
  }

  /** Requests of the partner about a half; null: of another kind. */
  answerPartner(half: HalfNumber, path: string, body: string): Promise<ApiAnswer> | null {
    return path.startsWith(halfCallPrefix) ? this.#traffic[half]!.calls.answer(path, body) : null;
  }

  /** Moves a group of a half that is owned here to the other half. */
  moveGroup(half: HalfNumber, group: string, timeoutMs: number): Promise<Result<null>> {
    return this.#traffic[half]!.mover.move(group, timeoutMs);
  }

  #tick(): void {
    if (this.#isStopped) return;
    for (const { mover, balance } of this.#traffic) {
      if (!mover.isMoving) void mover.settle();
      void balance.look();
    }
    this.#options.hal.clock.after(settleEveryMs, () => this.#tick());
  }

  #half(half: HalfNumber, hal: Hal): Partnership {
    const { config, pair, events, version, diskProblems, start = startAppliance } = this.#options;
    const { name, appliance } = config.array;
    const partnership: Partnership = new Partnership({
      hal,
      array: name,
      appliance,
      half,
      // Each appliance is preferred for one half.
      pair: { ...pair, preferred: pair.preferred === (half === 0) },
      fencesFirst: pair.preferred,
      fence: this.#fence,
      lease: this.#lease,
      refusedBy: (disk, isNeeded) => this.#eviction?.refusedBy(disk, isNeeded),
      events: this.#onceForBoth(half),
      front: this.#front,
      wasServed: () => this.#served.has(half),
      open: async (lent, port) => {
        if (half !== 0) await whenPoolIsThere(lent, name);
        const given = diskProblems === undefined ? {} : { diskProblems };
        const words = this.#served.has(half) ? noWords : {};
        const otherClaims = () => claimsOfOther(this.halves[1 - half]!, name, lent);
        const own = { hal: lent, config: { ...config, ...words }, pair: port, half, otherClaims };
        const outcome = await start({ ...own, events, version, ...given });
        if (outcome.ok) {
          this.#served.add(half);
          await this.#traffic[half]!.mover.settle(outcome);
        }
        return outcome;
      },
      end: (text, isFatal) => this.#end(half, text, isFatal),
    });
    partnership.onFollowed = () => this.#served.add(half);
    partnership.onRole = () => {
      if (partnership.role === "standby") this.#readiness.follows();
      this.#judgeRefusals();
    };
    partnership.onEngine = () => {
      this.#searchAgain();
      if (partnership.engine === null) {
        this.#traffic[half]!.mover.engineEnded();
        this.#traffic[half]!.calls.engineEnded();
        this.tenures[half]!.end();
      }
      this.onEngine(half);
    };
    return partnership;
  }

  /** Both halves hear the same of the partner: it is told once. */
  readonly #lastTold = new Map<string, { readonly half: HalfNumber; readonly ms: number }>();
  #onceForBoth(half: HalfNumber): EventSink {
    const { events, hal, pair } = this.#options;
    return {
      emit: (code, text, fields) => {
        const key = `${code} ${text}`;
        const nowMs = hal.clock.nowMs();
        const last = this.#lastTold.get(key);
        if (last !== undefined && last.half !== half && nowMs - last.ms < 2 * pair.limitMs) {
          this.#lastTold.delete(key);
          return;
        }
        if (this.#lastTold.size > 100) this.#lastTold.clear();
        this.#lastTold.set(key, { half, ms: nowMs });
        events.emit(code, text, fields);
      },
    };
  }

  #end(half: HalfNumber, text: string, isFatal: boolean): void {
    if (isFatal) return this.#endNow(text);
    this.#options.events.emit("half-refused", `a part of the array is not served: ${text}`);
    this.#refused.set(half, text);
    this.#judgeRefusals();
  }

  /** A half that cannot be served ends the process only where no other one is served, or has anything to serve. */
  #judgeRefusals(): void {
    for (const half of [...this.#refused.keys()]) if (this.halves[half]!.role !== "refused") this.#refused.delete(half);
    const [text] = this.#refused.values();
    if (text === undefined) return;
    const isNothing = ({ role, engine }: Partnership): boolean =>
      role === "refused" || (role === "owner" && engine?.groups.all().length === 0);
    if (this.halves.every(isNothing)) this.#endNow(text);
  }

  #endNow(text: string): void {
    if (this.#isEnding) return;
    this.#isEnding = true;
    this.#options.end(text);
  }

  /** Takes the addresses and looks for the partner; a sentence says which address could not be taken. */
  async start(): Promise<string | null> {
    await this.#eviction?.start();
    const ports = await this.#front.open();
    if (ports !== null) return ports;
    for (const half of this.halves) {
      const trouble = await half.start();
      if (trouble !== null) return trouble;
    }
    this.#tick();
    return null;
  }

  /** An orderly end: the partner gets what it can take, and everything else goes home. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    // One after the other, as whoever takes them is ready.
    for (const half of this.halves) await half.handOverIfPossible();
    this.#front.close();
    await Promise.all(this.halves.map((half) => half.stop()));
    for (const nic of this.#nics) nic.stop();
    this.#eviction?.stop();
  }

  /** What is known here of groups, for callers of peer arrays. */
  #knownGroups(): KnownGroups {
    return this.halves.map(({ half, engine, theirGroups }) => {
      const has = (id: string) => (engine === null ? theirGroups?.includes(id) === true : engine.groups.knows(id));
      return { half, isHere: engine !== null, isKnown: engine !== null || theirGroups !== null, has };
    });
  }
}

/** The ports through which an appliance is heard by others than its partner. */
function underLease(hal: Hal, lease: ReadLease, isOfPair: (nic: Nic) => boolean): Hal {
  return {
    ...hal,
    hbaPorts: hal.hbaPorts.map((port) => leasedPort(port, lease)),
    nics: hal.nics.map((nic) => (isOfPair(nic) ? nic : leasedNic(nic, lease))),
    serviceAddresses: hal.serviceAddresses.map((service) => leasedAddress(service, lease, hal.clock)),
  };
}
